use crate::lab::Lab;
use villein_core::time::Duration;

fn history() -> Vec<String> {
    let mut lab = Lab::cluster(5);
    lab.event(1, "deploy", b"1");
    lab.kill(4);
    lab.run_for(Duration::from_mins(1));
    (0..5)
        .flat_map(|index| lab.notes(index).map(|note| format!("{index} {note}")).collect::<Vec<_>>())
        .collect()
}

#[test]
fn two_runs_are_the_same_to_the_note() {
    let first = history();
    assert!(first.len() > 20, "something happened: {} notes", first.len());
    assert_eq!(first, history());
}
