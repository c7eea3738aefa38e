use crate::lab::{Lab, config};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::time::Duration;

fn keeper(index: usize, rejoin_after_leave: bool) -> Config {
    Config { snapshot: true, rejoin_after_leave, ..config(&format!("node{index}"), index) }
}

/// Two nodes, the second of which has left and ended.
fn left(rejoin_after_leave: bool) -> Lab {
    let mut lab = Lab::new();
    lab.add(config("node0", 0));
    lab.add(keeper(1, rejoin_after_leave));
    lab.join(1, &[0]);
    lab.event(0, "e1", b"");
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.command(1, Command::Leave), Reply::Done);
    assert_eq!(lab.command(1, Command::Stop), Reply::Done);
    lab.kill(1);
    lab.run_for(Duration::from_secs(5));
    assert_eq!(lab.status(0, "node1"), Status::Left);
    lab
}

#[test]
fn its_file_is_that_of_the_reference() {
    let lab = left(false);
    let file =
        "alive: node1 10.0.0.2:7946\nalive: node0 10.0.0.1:7946\nclock: 1\nevent-clock: 1\nleave\nclock: 2\n";
    assert_eq!(lab.disk(1).text(), file);
    assert_eq!(lab.disk(1).synced, file.len());
}

#[test]
fn it_stays_away_after_a_restart() {
    let mut lab = left(false);
    let again = lab.restart(1, keeper(1, false));
    lab.run_for(Duration::from_mins(2));
    assert_eq!(lab.statuses(again).len(), 1);
    assert_eq!(lab.status(0, "node1"), Status::Left);
    assert!(lab.notes(again).all(|note| !matches!(note, Note::Rejoining { .. } | Note::RejoinFailed)));
    // What it knows after the leave is what comes after it.
    lab.join(again, &[0]);
    lab.run_for(Duration::from_secs(1));
    let third = lab.restart(again, keeper(1, false));
    lab.run_until("it is back", Duration::from_secs(1), |lab| lab.status(third, "node0") == Status::Alive);
}

#[test]
fn it_comes_back_if_it_is_to() {
    let mut lab = left(true);
    let again = lab.restart(1, keeper(1, true));
    lab.run_until("they see each other", Duration::from_secs(5), |lab| {
        lab.status(again, "node0") == Status::Alive && lab.status(0, "node1") == Status::Alive
    });
    let mut notes = lab.notes(again).map(Note::to_string);
    assert_eq!(notes.next().as_deref(), Some("Ignoring previous leave in snapshot"));
    assert_eq!(notes.next().as_deref(), Some("EventMemberJoin: node1 10.0.0.2"));
    assert_eq!(
        notes.next().as_deref(),
        Some("Attempting re-join to previously known node: node0: 10.0.0.1:7946")
    );
}

/// It may be told to come back only when it starts again.
#[test]
fn the_file_knows_both() {
    let mut lab = left(false);
    let again = lab.restart(1, keeper(1, true));
    lab.run_until("it is back", Duration::from_secs(5), |lab| lab.status(again, "node0") == Status::Alive);
}

#[test]
fn a_leave_is_on_the_disk_before_anybody_hears_of_it() {
    let mut lab = Lab::cluster_with(3, |index, config| config.snapshot = index == 2);
    lab.event(2, "e1", b"");
    let sent = lab.sent(2);
    lab.start(2, Command::Leave);
    assert_eq!(lab.sent(2), sent);
    let disk = lab.disk(2).clone();
    assert!(disk.text().ends_with("event-clock: 1\nleave\n"), "{}", disk.text());
    assert_eq!(disk.synced, disk.bytes.len());
}

#[test]
fn after_a_leave_nothing_but_the_member_clock_is_written() {
    let mut lab = Lab::cluster_with(3, |index, config| config.snapshot = index == 2);
    lab.command(2, Command::Leave);
    let seeds = vec!["elsewhere".into()];
    assert_eq!(lab.command(2, Command::RememberSeeds(seeds)), Reply::Done);
    lab.event(0, "e1", b"");
    lab.kill(1);
    lab.run_for(Duration::from_mins(1));
    let text = lab.disk(2).text().to_owned();
    let (_, after) = text.split_once("leave\n").expect("the leave is in the file");
    assert!(!after.is_empty() && after.lines().all(|line| line.starts_with("clock: ")), "{after}");
}
