use crate::lab::{Lab, config};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::member::Status;
use villein_core::note::{Level, Note};
use villein_core::snapshot::Restored;
use villein_core::text::Text;
use villein_core::time::Duration;

fn keeper() -> Config {
    Config { snapshot: true, ..config("node2", 2) }
}

/// Three nodes, of which the third has a full disk.
fn lab() -> Lab {
    let mut lab = Lab::cluster_with(3, |index, config| config.snapshot = index == 2);
    lab.clear_records();
    lab.set_disk_full(2, true);
    lab
}

fn complaints(lab: &Lab) -> Vec<String> {
    lab.notes(2).filter(|note| note.level() == Level::Err).map(Note::to_string).collect()
}

/// What a restart would know: who is alive, and the event clock.
fn known(lab: &Lab) -> (Vec<Text>, u64) {
    let Restored { alive, event_clock, torn, oddities, .. } = Restored::parse(&lab.disk(2).bytes, false);
    assert!(!torn && oddities.is_empty(), "{oddities:?}");
    (alive.into_iter().map(|(name, _)| name).collect(), event_clock)
}

#[test]
fn it_is_said_once_in_half_a_minute_and_life_goes_on() {
    let mut lab = lab();
    for _ in 0..100 {
        lab.event(0, "deploy", b"");
        lab.run_for(Duration::from_secs(1));
    }
    let line = "Failed to update snapshot: write snap: no space left on device";
    assert_eq!(complaints(&lab), [line; 4]);
    assert_eq!(lab.status(0, "node2"), Status::Alive);
    assert_eq!(crate::lab::user_events(&lab.take_events(2)).len(), 100);
    // Nothing is appended to half a line, and a new file is tried now and then.
    assert_eq!((lab.disk(2).appends, lab.disk(2).replaces), (2, 4));
}

#[test]
fn when_there_is_room_the_file_says_everything() {
    let mut lab = lab();
    lab.event(0, "e1", b"");
    lab.run_for(Duration::from_secs(10));
    lab.add(config("node3", 3));
    lab.join(3, &[0]);
    lab.run_for(Duration::from_secs(5));
    lab.set_disk_full(2, false);
    lab.run_for(Duration::from_secs(20));
    assert_eq!(known(&lab), (["node0", "node1", "node2", "node3"].map(Text::from).to_vec(), 1));
    lab.event(0, "e2", b"");
    lab.run_for(Duration::from_secs(1));
    assert_eq!(known(&lab).1, 2, "what comes next is appended");
    assert_eq!(lab.disk(2).replaces, 2);
}

#[test]
fn a_leave_counts_if_there_is_room_at_the_end() {
    let mut lab = lab();
    lab.event(0, "e1", b"");
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.command(2, Command::Leave), Reply::Done);
    lab.set_disk_full(2, false);
    assert_eq!(lab.command(2, Command::Stop), Reply::Done);
    assert_eq!(known(&lab), (vec![], 0));
}

#[test]
fn a_leave_counts_if_there_is_room_for_just_that() {
    let mut lab = lab();
    lab.event(0, "e1", b"");
    lab.run_for(Duration::from_secs(5));
    assert!(Restored::parse(&lab.disk(2).bytes, false).torn);
    lab.set_disk_full(2, false);
    lab.start(2, Command::Leave);
    lab.kill(2);
    let again = lab.restart(2, keeper());
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.statuses(again).len(), 1);
}

/// The host may say so at any time.
#[test]
fn a_node_without_a_file_lives_through_it_too() {
    let mut node = villein_core::Node::new(
        config("a", 0),
        [1; 32],
        Restored::default(),
        villein_core::time::Instant::from_nanos(1),
    );
    let mut out = villein_core::io::Outbox::new();
    let now = villein_core::time::Instant::from_nanos(2);
    node.handle(now, villein_core::io::Input::StoreFailed { why: "no such device" }, &mut out);
    let store = |action| matches!(action, villein_core::io::Action::Store(_));
    assert!(!out.actions().any(store));
}
