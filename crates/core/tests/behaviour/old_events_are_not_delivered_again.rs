use crate::lab::{Disk, Lab, config, golden, user_events};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::io::{Action, Input, Outbox};
use villein_core::member::Event;
use villein_core::note::Note;
use villein_core::snapshot::Restored;
use villein_core::time::Duration;

fn keeper() -> Config {
    Config { snapshot: true, ..config("node2", 2) }
}

fn event_names(lab: &mut Lab, index: usize) -> Vec<String> {
    user_events(&lab.take_events(index)).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn only_what_happened_meanwhile_is_delivered() {
    for keeps in [true, false] {
        let mut lab = Lab::cluster_with(3, |index, config| config.snapshot = keeps && index == 2);
        lab.event(0, "e1", b"");
        lab.event(1, "e2", b"");
        lab.run_for(Duration::from_secs(2));
        assert_eq!(event_names(&mut lab, 2), ["e1", "e2"]);
        lab.kill(2);
        lab.event(0, "e3", b"");
        lab.run_for(Duration::from_secs(2));
        let again = lab.restart(2, keeper());
        if !keeps {
            let addrs = vec![crate::lab::addr(0)];
            let reply = lab.command(again, Command::Join { addrs, ignore_old: false });
            assert_eq!(reply, Reply::Joined { contacted: 1, failures: vec![] });
        }
        lab.run_for(Duration::from_mins(2));
        let expected: &[&str] = if keeps { &["e3"] } else { &["e1", "e2", "e3"] };
        assert_eq!(event_names(&mut lab, again), expected);
        // Its own next event is later than all that it has delivered.
        lab.event(again, "e4", b"");
        lab.run_for(Duration::from_secs(5));
        assert_eq!(event_names(&mut lab, 0).last().map(String::as_str), Some("e4"));
    }
}

#[test]
fn what_was_delivered_half_a_second_ago_is_known_after_a_crash() {
    let mut lab = Lab::cluster_with(3, |index, config| config.snapshot = index == 2);
    lab.event(2, "e1", b"");
    let before = lab.disk(2).clone();
    lab.run_for(Duration::from_millis(499));
    assert_eq!(lab.disk(2).bytes, before.bytes);
    lab.run_for(Duration::from_millis(1));
    assert!(lab.disk(2).text().ends_with("event-clock: 1\n"));
    let again = lab.restart(2, keeper());
    lab.run_for(Duration::from_mins(1));
    assert_eq!(event_names(&mut lab, again), [""; 0]);
}

/// What a node that has `disk` does with a datagram that the reference sent: the events for its application, how
/// many datagrams it sends at once, and its disk a second later.
fn hear(name: &str, disk: Disk) -> (Vec<Event>, usize, Disk) {
    let mut lab = Lab::new();
    let mut config = keeper();
    config.name = "b".into();
    config.tags = [("role".into(), "web".into())].into();
    lab.add_with_disk(config, disk);
    lab.run_for(Duration::from_secs(1));
    let before = lab.sent(0);
    lab.inject(0, &golden(name));
    let sent = lab.sent(0) - before;
    lab.run_for(Duration::from_secs(1));
    let mut events = lab.take_events(0);
    events.retain(|event| !matches!(event, Event::Members { .. }));
    (events, sent, lab.disk(0).clone())
}

#[test]
fn a_query_is_delivered_and_acknowledged_once() {
    let (events, sent, disk) = hear("udp-master-serf-query", Disk::default());
    assert_eq!((events.len(), sent), (1, 1));
    assert!(disk.text().ends_with("query-clock: 3\n"), "{}", disk.text());
    let (events, sent, _) = hear("udp-master-serf-query", disk);
    assert_eq!((events, sent), (vec![], 0));
}

#[test]
fn internal_queries_count_and_those_for_others_do_not() {
    let (_, sent, disk) = hear("udp-serf-query-ping", Disk::default());
    assert!(sent == 1 && disk.text().ends_with("query-clock: 3\n"), "{}", disk.text());
    let (_, sent, _) = hear("udp-serf-query-ping", disk);
    assert_eq!(sent, 0);
    let mut lab = Lab::new();
    lab.add(Config { name: "somebody else".into(), ..keeper() });
    lab.inject(0, &golden("udp-crc-serf-query-relay"));
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.node(0).stats().query_time, 3);
    assert!(!lab.disk(0).text().contains("query-clock"));
}

#[test]
fn clocks_stand_where_they_stood_before_any_packet() {
    let restored = Restored::parse(b"clock: 10\nevent-clock: 20\nquery-clock: 30\n", false);
    let now = villein_core::time::Instant::from_nanos(1);
    let node = villein_core::Node::new(keeper(), [1; 32], restored, now);
    let stats = node.stats();
    assert_eq!((stats.member_time, stats.event_time, stats.query_time), (11, 21, 31));
}

/// A clock that no cluster can have reached would lock the node out of its own.
#[test]
fn an_absurd_clock_is_ignored_and_said() {
    let file = format!("clock: {}\nevent-clock: {}\nquery-clock: 7\n", u64::MAX, 1u64 << 63);
    let restored = Restored::parse(file.as_bytes(), false);
    let now = villein_core::time::Instant::from_nanos(1);
    let by_hand = Restored { clock: u64::MAX, oddities: Vec::new(), ..restored.clone() };
    for restored in [restored, by_hand] {
        let mut node = villein_core::Node::new(keeper(), [1; 32], restored, now);
        let stats = node.stats();
        assert_eq!((stats.member_time, stats.event_time, stats.query_time), (1, 1, 8));
        let mut out = Outbox::new();
        node.handle(now, Input::Tick, &mut out);
        let is_said = |action| match action {
            Action::Note(note) => {
                matches!(
                    note,
                    Note::SnapshotTimeAbsurd { clock: "member", .. }
                        | Note::ClockJump { clock: "member", .. }
                )
            }
            _ => false,
        };
        assert!(out.actions().any(is_said));
    }
}
