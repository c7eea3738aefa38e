use crate::lab::Lab;
use villein_core::command::{Command, Reply};
use villein_core::limits;
use villein_core::note::Note;
use villein_core::time::Duration;

fn fire(lab: &mut Lab, count: usize) {
    for number in 0..count {
        let name = format!("event{number}").into();
        let event = Command::UserEvent { name, payload: None, coalesce: false };
        assert_eq!(lab.command(0, event), Reply::Done);
    }
}

/// What was said of the queue of events since the last call: how many messages it dropped, and how long it was.
fn said(lab: &mut Lab) -> (Vec<usize>, usize) {
    let dropped = lab.notes(0).filter_map(|note| match note {
        Note::QueueFull { queue: "Event", dropped } => Some(*dropped),
        _ => None,
    });
    let (dropped, long) =
        (dropped.collect(), lab.notes(0).filter(|note| note.name() == "QueueDepth").count());
    lab.clear_records();
    (dropped, long)
}

#[test]
fn however_many_messages_a_full_queue_drops() {
    let mut lab = Lab::cluster(1);
    fire(&mut lab, limits::SERF_QUEUE + 300);
    assert_eq!(said(&mut lab), (vec![], 0), "the next look is yet to come");
    lab.run_for(Duration::from_secs(30));
    assert_eq!(said(&mut lab), (vec![300], 1));
    lab.run_for(Duration::from_secs(30));
    assert_eq!(said(&mut lab), (vec![], 1));
    fire(&mut lab, 1);
    lab.run_for(Duration::from_secs(30));
    assert_eq!(said(&mut lab), (vec![1], 1));
    // Once somebody is there to be told, the queue empties, and nobody looks any more.
    let other = lab.add(crate::lab::config("other", 1));
    lab.join(other, &[0]);
    lab.run_for(Duration::from_mins(5));
    assert_eq!(lab.node(0).stats().event_queue, 0);
    lab.clear_records();
    lab.run_for(Duration::from_mins(2));
    assert_eq!(said(&mut lab), (vec![], 0));
}
