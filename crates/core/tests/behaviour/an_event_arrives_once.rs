use crate::lab::{Lab, config, user_events};
use villein_core::command::{Command, CommandError, Reply, Size};
use villein_core::time::Duration;

#[test]
fn every_event_reaches_every_node_once_with_its_payload() {
    let mut lab = Lab::cluster(5);
    lab.clear_records();
    let mut expected = Vec::new();
    for number in 0..20u8 {
        let payload = vec![number; usize::from(number) * 20];
        lab.event(usize::from(number) % 5, &format!("event{number}"), &payload);
        expected.push((format!("event{number}"), payload));
        lab.run_for(Duration::from_millis(50));
    }
    lab.run_for(Duration::from_mins(1));
    expected.sort();
    for index in 0..5 {
        let mut events = user_events(&lab.take_events(index));
        events.sort();
        assert_eq!(events, expected, "node{index}");
    }
}

#[test]
fn events_of_one_name_are_merged_when_they_may_be() {
    let mut lab = Lab::cluster(2);
    lab.clear_records();
    for payload in [b"1", b"2", b"3"] {
        let name = "burst".into();
        let command = Command::UserEvent { name, payload: Some(payload.as_slice().into()), coalesce: true };
        assert_eq!(lab.command(0, command), Reply::Done);
    }
    lab.run_for(Duration::from_secs(10));
    for index in 0..2 {
        assert_eq!(user_events(&lab.take_events(index)), [("burst".to_owned(), b"3".to_vec())]);
    }
}

#[test]
fn a_newcomer_gets_old_events_only_when_it_wants_them() {
    let mut lab = Lab::cluster(2);
    lab.event(0, "early", b"");
    lab.run_for(Duration::from_secs(10));
    for (index, ignore_old, expected) in [(2, true, 0), (3, false, 1)] {
        let newcomer = lab.add(config(&format!("node{index}"), index));
        let reply = lab.command(newcomer, Command::Join { addrs: vec![crate::lab::addr(0)], ignore_old });
        assert_eq!(reply, Reply::Joined { contacted: 1, failures: vec![] });
        lab.run_for(Duration::from_secs(45));
        assert_eq!(user_events(&lab.take_events(newcomer)).len(), expected, "ignore_old = {ignore_old}");
    }
}

#[test]
fn an_event_over_the_limit_is_refused() {
    let mut lab = Lab::cluster(1);
    let mut fire = |length: usize| {
        let command =
            Command::UserEvent { name: "n".into(), payload: Some(vec![b'x'; length].into()), coalesce: true };
        lab.command(0, command)
    };
    assert_eq!(fire(481), Reply::Done);
    let size = |payload, total| Size::new([("name", 1), ("payload", payload)], total);
    let encoded =
        |payload, total| CommandError::EncodedEventTooLong { limit: 512, size: size(payload, total) };
    assert_eq!(fire(482), Reply::Failed(encoded(482, 513)));
    assert_eq!(fire(511), Reply::Failed(encoded(511, 542)));
    assert_eq!(fire(512), Reply::Failed(CommandError::EventTooLong { limit: 512, size: size(512, 513) }));
}
