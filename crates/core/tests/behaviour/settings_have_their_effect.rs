//! Settings that no other behaviour depends on.

use crate::lab::{Lab, addr, config};
use villein_core::command::{Command, CommandError, QueryParams, Reply};
use villein_core::member::{Event, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

#[test]
fn who_left_is_remembered_for_the_tombstone_timeout() {
    for minutes in [2, 10] {
        let timeout = Duration::from_mins(minutes);
        let mut lab = Lab::cluster_with(2, |_, config| config.tombstone_timeout = timeout);
        lab.command(1, Command::Leave);
        lab.kill(1);
        assert_eq!(lab.status(0, "node1"), Status::Left);
        // The leave itself takes a few seconds, and whoever forgets looks every 15.
        lab.run_for(timeout.saturating_sub(Duration::from_secs(10)));
        assert_eq!(lab.status(0, "node1"), Status::Left, "{timeout:?}");
        lab.run_for(Duration::from_secs(30));
        assert_eq!(lab.status(0, "node1"), Status::None, "{timeout:?}");
    }
}

#[test]
fn failed_members_are_tried_at_the_reconnect_interval() {
    for seconds in [5, 50] {
        let interval = Duration::from_secs(seconds);
        let mut lab = Lab::cluster_with(2, |_, config| config.reconnect_interval = interval);
        lab.kill(1);
        lab.run_until("it has failed", Duration::from_mins(1), |lab| {
            lab.status(0, "node1") == Status::Failed
        });
        lab.clear_records();
        lab.run_for(interval * 10);
        // One failed member for one that lives: each time it is tried.
        let tried = lab.notes(0).filter(|note| matches!(note, Note::Reconnecting { .. })).count();
        assert!((9..=10).contains(&tried), "{tried} times in ten intervals of {interval:?}");
    }
}

#[test]
fn answers_are_as_long_as_the_configured_limit() {
    for limit in [100, 3000] {
        let mut lab = Lab::cluster_with(2, |_, config| config.query_response_size_limit = limit);
        lab.clear_records();
        lab.query(0, QueryParams { name: "load".into(), ..QueryParams::default() });
        lab.run_for(Duration::from_millis(800));
        let key = lab.take_events(1).into_iter().find_map(|event| match event {
            Event::Query { key, .. } => Some(key),
            _ => None,
        });
        let key = key.expect("node1 gets the query");
        // What is around the payload has less than 80 bytes.
        let respond = |length| Command::Respond { key, payload: vec![b'x'; length].into() };
        let refused = lab.command(1, respond(limit));
        let is_told = matches!(
            refused,
            Reply::Failed(CommandError::ResponseTooLong { limit: told, .. }) if told == limit
        );
        assert!(is_told, "{refused:?}");
        assert_eq!(lab.command(1, respond(limit - 80)), Reply::Done);
    }
}

#[test]
fn without_resolution_nobody_votes_about_a_name() {
    let mut lab = Lab::cluster_with(4, |_, config| config.name_conflict_resolution = false);
    lab.clear_records();
    let mut twin = config("node1", 7);
    twin.name_conflict_resolution = false;
    let twin = lab.add(twin);
    lab.start(twin, Command::Join { addrs: vec![addr(0)], ignore_old: true });
    lab.run_for(Duration::from_mins(2));
    for index in [1, twin] {
        let events = lab.take_events(index);
        assert!(!events.iter().any(|event| matches!(event, Event::NameLost { .. })), "node{index} stays");
    }
    let told = [1, twin].into_iter().flat_map(|index| lab.notes(index));
    let told: Vec<bool> = told
        .filter_map(|note| match note {
            Note::OwnNameConflict { resolution, .. } => Some(*resolution),
            _ => None,
        })
        .collect();
    assert!(!told.is_empty() && !told.contains(&true), "the conflict is told: {told:?}");
}
