use crate::lab::{Disk, Lab, config};
use villein_core::Node;
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::io::{Action, Input, Outbox};
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};

fn keeper() -> Config {
    Config { snapshot: true, ..config("node0", 0) }
}

/// Two nodes, the first of which keeps a snapshot.
fn lab() -> Lab {
    Lab::cluster_with(2, |index, config| config.snapshot = index == 0)
}

#[test]
fn the_file_is_that_of_the_reference() {
    let mut lab = lab();
    let members = "alive: node0 10.0.0.1:7946\nalive: node1 10.0.0.2:7946\nclock: 1\n";
    assert_eq!(lab.disk(0).text(), members);
    lab.event(0, "e1", b"");
    lab.run_for(Duration::from_secs(1));
    lab.query(0, villein_core::command::QueryParams { name: "q1".into(), ..Default::default() });
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.disk(0).text(), format!("{members}event-clock: 1\nquery-clock: 1\n"));
}

#[test]
fn without_a_file_nothing_is_written() {
    let mut lab = lab();
    lab.event(0, "e1", b"");
    assert_eq!(lab.command(1, Command::RememberSeeds(vec!["a".into()])), Reply::Done);
    assert_eq!(lab.command(1, Command::Stop), Reply::Done);
    lab.run_for(Duration::from_secs(10));
    let disk = lab.disk(1);
    assert_eq!((disk.bytes.len(), disk.syncs), (0, 0));
}

#[test]
fn an_idle_node_neither_writes_nor_wakes() {
    let wakes = |snapshot| {
        let mut now = Instant::from_nanos(1);
        let config = Config { snapshot, ..keeper() };
        let mut node = Node::new(config, [9; 32], Restored::default(), now);
        let mut out = Outbox::new();
        let mut run_until = |end: Instant| {
            let (mut wakes, mut stores) = (0, 0);
            while let Some(at) = node.deadline().filter(|at| *at <= end) {
                now = now.max(at);
                node.handle(now, Input::Tick, &mut out);
                stores += out.actions().filter(|action| matches!(action, Action::Store(_))).count();
                out.clear();
                wakes += 1;
            }
            (wakes, stores)
        };
        let (_, stores) = run_until(Instant::from_nanos(1) + Duration::from_mins(1));
        assert_eq!(stores, if snapshot { 2 } else { 0 }, "its own line, and a sync");
        run_until(Instant::from_nanos(1) + Duration::from_mins(10))
    };
    assert_eq!(wakes(true), wakes(false));
}

#[test]
fn many_changes_are_few_writes() {
    let mut lab = lab();
    let before = lab.disk(0).clone();
    for _ in 0..200 {
        lab.event(0, "deploy", b"");
        lab.run_for(Duration::from_millis(100));
    }
    let disk = lab.disk(0).clone();
    assert!((30..=41).contains(&(disk.appends - before.appends)), "{} writes in 20 s", disk.appends);
    assert!((3..=5).contains(&(disk.syncs - before.syncs)), "{} syncs in 20 s", disk.syncs);
    assert_eq!(disk.replaces, 0);
    lab.run_for(Duration::from_secs(6));
    assert_eq!(lab.disk(0).synced, lab.disk(0).bytes.len(), "what is written is synced in the end");
    let settled = lab.disk(0).clone();
    lab.run_for(Duration::from_mins(5));
    assert_eq!((lab.disk(0).appends, lab.disk(0).syncs), (settled.appends, settled.syncs));
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let mut lab = lab();
    lab.event(0, "e1", b"");
    assert_eq!(lab.command(0, Command::Stop), Reply::Done);
    let disk = lab.disk(0).clone();
    assert!(disk.text().ends_with("event-clock: 1\n"));
    assert_eq!(disk.synced, disk.bytes.len());
    assert_eq!(lab.command(0, Command::Stop), Reply::Done);
    assert_eq!(lab.disk(0).syncs, disk.syncs, "there is nothing left to do");
}

#[test]
fn a_long_file_is_written_anew() {
    let mut disk =
        Disk::with(&b"alive: gone 10.0.9.9:7946\nnot-alive: gone\nalive: here 10.0.8.8:7946\n".repeat(1800));
    assert!((120_000..131_072).contains(&disk.bytes.len()));
    let mut lab = Lab::new();
    lab.add_with_disk(keeper(), disk.clone());
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.disk(0).replaces, 0, "it is not too long yet");
    disk = Disk::default();
    for number in 1..2000 {
        lab.event(0, "deploy", b"");
        lab.run_for(Duration::from_millis(500));
        disk = lab.disk(0).clone();
        assert!(disk.bytes.len() <= 131_072);
        if disk.replaces > 0 {
            let expected =
                format!("alive: here 10.0.8.8:7946\nalive: node0 10.0.0.1:7946\nevent-clock: {number}\n");
            assert_eq!(disk.text(), expected);
            break;
        }
    }
    assert_eq!(disk.replaces, 1);
}

#[test]
fn a_file_that_is_too_long_is_written_anew_at_the_start() {
    let lines = b"alive: here 10.0.8.8:7946\n".repeat(5042);
    assert!(lines.len() > 131_072);
    let mut lab = Lab::new();
    lab.add_with_disk(keeper(), Disk::with(&[&lines[..], b"clock: 7\n"].concat()));
    let expected = "alive: here 10.0.8.8:7946\nalive: node0 10.0.0.1:7946\nclock: 7\n";
    assert_eq!((lab.disk(0).text(), lab.disk(0).replaces), (expected, 1));
    assert_eq!(lab.disk(0).synced, expected.len());
}

/// It would be written anew with each line.
#[test]
fn a_file_that_has_much_to_say_is_left_alone() {
    let line = |number| format!("# failed: somebody{number} 10.0.8.8:7946\n");
    let lines = (0..4000).map(line).collect::<Vec<_>>().concat();
    let mut lab = Lab::new();
    lab.add_with_disk(keeper(), Disk::with(lines.as_bytes()));
    assert_eq!(lab.disk(0).replaces, 1);
    for _ in 0..10 {
        lab.event(0, "deploy", b"");
        lab.run_for(Duration::from_secs(1));
    }
    assert_eq!((lab.disk(0).replaces, lab.disk(0).appends), (1, 10));
    assert!(lab.disk(0).bytes.len() > 131_072);
}

#[test]
fn a_flood_is_written_at_once() {
    let mut lab = lab();
    let seeds: Vec<_> = (0..3000).map(|number| format!("{number:0500}").into()).collect();
    lab.start(0, Command::RememberSeeds(seeds));
    assert_eq!(Restored::parse(&lab.disk(0).bytes, false).seeds.len(), 64);
}

#[test]
fn a_loss_of_power_costs_five_seconds_at_most() {
    let mut lab = lab();
    for number in 1..=100u64 {
        lab.event(0, "deploy", b"");
        lab.run_for(Duration::from_millis(250));
        let disk = lab.disk(0);
        let safe = Restored::parse(&disk.bytes[..disk.synced], false).event_clock;
        // Half a second until it is written, and five until that is synced.
        assert!(number - safe <= 22, "after event {number} the file is safe up to {safe}");
    }
}
