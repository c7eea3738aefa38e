use crate::lab::{Disk, Lab, addr, config};
use villein_core::Node;
use villein_core::config::Config;
use villein_core::io::{Input, Outbox};
use villein_core::member::Status;
use villein_core::note::{Level, Note};
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};

/// The configuration of a node that keeps a snapshot.
fn keeper(index: usize) -> Config {
    Config { snapshot: true, ..config(&format!("node{index}"), index) }
}

fn cluster(count: usize) -> Lab {
    Lab::cluster_with(count, |_, config| config.snapshot = true)
}

/// A file that knows these nodes.
fn file(indices: &[usize]) -> Disk {
    let lines = indices.iter().map(|index| format!("alive: node{index} {}\n", addr(*index)));
    Disk::with(lines.collect::<String>().as_bytes())
}

/// What was said about finding the cluster again, without its debug lines.
fn said(lab: &Lab, index: usize) -> Vec<String> {
    let about = |note: &&Note| {
        let text = note.to_string();
        note.level() > Level::Debug && (text.contains("re-join") || text.contains("Re-join"))
    };
    lab.notes(index).filter(about).map(Note::to_string).collect()
}

fn alive(lab: &Lab, index: usize) -> usize {
    lab.statuses(index).values().filter(|status| **status == Status::Alive).count()
}

#[test]
fn it_is_back_before_anybody_has_missed_it() {
    let mut lab = cluster(3);
    let again = lab.restart(2, keeper(2));
    lab.run_until("it knows everybody", Duration::from_secs(1), |lab| alive(lab, again) == 3);
    let name = if said(&lab, again)[0].contains("node0") { "node0: 10.0.0.1" } else { "node1: 10.0.0.2" };
    let attempt = format!("Attempting re-join to previously known node: {name}:7946");
    let success = format!("Re-joined to previously known node: {name}:7946");
    assert_eq!(said(&lab, again), [attempt, success]);
    lab.run_for(Duration::from_mins(2));
    assert_eq!(said(&lab, again).len(), 2);
    assert!((0..2).all(|index| alive(&lab, index) == 3));
}

#[test]
fn one_that_was_given_up_comes_back_too() {
    let mut lab = cluster(4);
    lab.kill(3);
    lab.run_until("the others call it failed", Duration::from_secs(40), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Failed)
    });
    let again = lab.restart(3, keeper(3));
    lab.run_until("everybody sees everybody", Duration::from_secs(20), |lab| {
        [0, 1, 2, again].into_iter().all(|index| alive(lab, index) == 4)
    });
}

#[test]
fn nodes_are_tried_until_one_answers() {
    let mut lab = Lab::cluster(1);
    let again = lab.add_with_disk(keeper(7), file(&[0, 3, 4, 5, 6, 7]));
    lab.run_until("it has found the one that is there", Duration::from_secs(1), |lab| alive(lab, again) == 2);
    let said = said(&lab, again);
    let last = "Re-joined to previously known node: node0: 10.0.0.1:7946";
    assert_eq!(said.last().map(String::as_str), Some(last));
    let attempts = &said[..said.len() - 1];
    assert!(attempts.iter().all(|line| line.starts_with("Attempting re-join to previously known node: ")));
    let mut each = attempts.to_vec();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), attempts.len(), "nobody is tried twice");
    assert!(attempts.iter().all(|line| !line.contains("node7")), "nor the node itself");
}

/// All hosts lost their power; this one was up again first.
#[test]
fn when_nobody_answers_it_goes_on_trying() {
    let mut lab = Lab::new();
    let first = lab.add_with_disk(keeper(0), file(&[0, 1]));
    lab.run_for(Duration::from_secs(1));
    let attempt = "Attempting re-join to previously known node: node1: 10.0.0.2:7946";
    let once = [attempt, "Failed to re-join any previously known node"];
    assert_eq!(said(&lab, first), once);
    lab.run_for(Duration::from_secs(100));
    let again = "Attempting re-join to 1 previously known nodes again";
    assert_eq!(said(&lab, first)[2..], [again; 3]);
    lab.add(config("node1", 1));
    lab.run_until("it has found the other", Duration::from_secs(31), |lab| alive(lab, first) == 2);
    lab.run_for(Duration::from_mins(5));
    let success = "Re-joined to previously known node: node1: 10.0.0.2:7946";
    assert_eq!(said(&lab, first)[5..], [again, success]);
}

#[test]
fn a_hundred_that_are_gone_are_got_through_in_minutes() {
    let mut lab = Lab::new();
    let first = lab.add_with_disk(keeper(0), file(&(1..101).collect::<Vec<_>>()));
    lab.run_for(Duration::from_secs(1));
    assert_eq!(said(&lab, first).len(), 101);
    lab.add(config("node77", 77));
    lab.run_until("it is found", Duration::from_secs(13 * 30), |lab| alive(lab, first) == 2);
}

#[test]
fn a_join_by_hand_ends_it() {
    let mut lab = Lab::cluster(1);
    let again = lab.add_with_disk(keeper(2), file(&[5]));
    lab.run_for(Duration::from_secs(1));
    lab.join(again, &[0]);
    lab.run_for(Duration::from_mins(5));
    let attempt = "Attempting re-join to previously known node: node5: 10.0.0.6:7946";
    assert_eq!(said(&lab, again), [attempt, "Failed to re-join any previously known node"]);
}

#[test]
fn a_file_that_knows_only_the_node_itself_says_nothing() {
    for name in ["node0", "node0 as it was called before"] {
        let mut lab = Lab::new();
        let disk = Disk::with(format!("alive: {name} {}\n", addr(0)).as_bytes());
        let alone = lab.add_with_disk(keeper(0), disk);
        lab.run_for(Duration::from_mins(2));
        assert_eq!(said(&lab, alone), [""; 0], "{name}");
    }
}

#[test]
fn odd_names_are_found_again() {
    for name in ["a/b", "two words", "tab\tand|bar", "line\nbreak", "back\\slash\nboth", " "] {
        let mut lab = Lab::new();
        lab.add(config(name, 0));
        lab.add(keeper(1));
        lab.join(1, &[0]);
        lab.run_for(Duration::from_secs(1));
        let again = lab.restart(1, keeper(1));
        lab.run_until(name, Duration::from_secs(1), |lab| alive(lab, again) == 2);
        assert_eq!(said(&lab, again).len(), 2, "{name:?}");
    }
}

/// Silent addresses cost a time-out, but no wake-ups of their own.
#[test]
fn who_waits_for_others_does_not_wake_for_each() {
    let wakes = |restored| {
        let mut now = Instant::from_nanos(1);
        let mut node = Node::new(keeper(0), [9; 32], restored, now);
        let mut out = Outbox::new();
        let mut run_until = |end: Instant| {
            let mut wakes = 0;
            while let Some(at) = node.deadline().filter(|at| *at <= end) {
                now = now.max(at);
                node.handle(now, Input::Tick, &mut out);
                out.clear();
                wakes += 1;
            }
            wakes
        };
        run_until(Instant::from_nanos(1) + Duration::from_mins(10));
        run_until(Instant::from_nanos(1) + Duration::from_mins(20))
    };
    let lone = wakes(Restored::default());
    let waiting = wakes(Restored::parse(&file(&(0..20).collect::<Vec<_>>()).bytes, false));
    // In ten minutes there are fifteen rounds of half a minute and a time-out of ten seconds.
    assert!(waiting > lone && waiting <= lone + 32, "{waiting} instead of {lone}");
}

#[test]
fn a_leave_ends_it() {
    let mut lab = Lab::new();
    let first = lab.add_with_disk(keeper(0), file(&[0, 1]));
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.command(first, villein_core::command::Command::Leave), villein_core::command::Reply::Done);
    lab.add(config("node1", 1));
    lab.run_for(Duration::from_mins(2));
    assert_eq!(said(&lab, first).len(), 2);
}
