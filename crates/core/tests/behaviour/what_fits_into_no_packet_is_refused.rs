use crate::lab::{Lab, text, user_events};
use villein_core::command::{Command, CommandError, QueryParams, Reply};
use villein_core::config::Config;
use villein_core::crypto::{Key, Keyring};
use villein_core::limits;
use villein_core::member::Event;
use villein_core::note::Note;
use villein_core::time::Duration;

/// With raised limits, as an operator would.
fn raised(_: usize, config: &mut Config) {
    config.user_event_size_limit = limits::USER_EVENT;
    config.query_size_limit = limits::USER_EVENT;
}

fn event(length: usize) -> Command {
    Command::UserEvent { name: text("deploy"), payload: Some(vec![b'x'; length].into()), coalesce: false }
}

fn query(length: usize) -> Command {
    let payload = Some(vec![b'x'; length].into());
    Command::Query(QueryParams { name: text("load"), payload, ..QueryParams::default() })
}

/// The longest payload that is not refused.
fn longest(lab: &mut Lab, command: fn(usize) -> Command) -> usize {
    let (mut fits, mut does_not) = (0, limits::USER_EVENT);
    while does_not - fits > 1 {
        let length = usize::midpoint(fits, does_not);
        if matches!(lab.command(0, command(length)), Reply::Failed(_)) {
            does_not = length;
        } else {
            fits = length;
        }
        lab.run_for(Duration::from_secs(5));
    }
    fits
}

#[test]
fn the_refusal_says_what_it_costs_and_what_there_is() {
    let mut lab = Lab::cluster_with(2, raised);
    let time = lab.node(0).stats();
    let Reply::Failed(error) = lab.command(0, event(2000)) else { panic!("it was not refused") };
    // 1400 bytes, less the frame of a compound and the entry in it.
    let expected = "user event fits into no gossip packet (name 6 + payload 2000 + encoding 30 = 2036 bytes, room for \
                    1395): shorten it by 641 bytes, or send the place where to fetch the rest";
    assert_eq!(error.to_string(), expected);
    let Reply::Failed(error) = lab.command(0, query(2000)) else { panic!("it was not refused") };
    assert!(
        error.to_string().starts_with("query fits into no gossip packet (name 4 + payload 2000 + "),
        "{error}"
    );
    let after = lab.node(0).stats();
    assert_eq!((after.event_time, after.query_time), (time.event_time, time.query_time));
    lab.run_for(Duration::from_secs(60));
    assert!(user_events(&lab.take_events(1)).is_empty(), "it does not arrive in another way");
}

#[test]
fn what_is_not_refused_arrives_by_gossip() {
    let key = || Key::from_bytes(&[7; 32]).expect("a key of 32 bytes");
    let encrypted = |index: usize, config: &mut Config| {
        raised(index, config);
        config.label = text("production");
        config.keyring = Some(Keyring::new(key(), []).expect("one key is a ring"));
    };
    for (kind, mut lab, room) in [
        ("plain", Lab::cluster_with(2, raised), 1395),
        ("encrypted", Lab::cluster_with(2, encrypted), 1395 - 12 - 29),
    ] {
        let (longest_event, longest_query) = (longest(&mut lab, event), longest(&mut lab, query));
        lab.clear_records();
        for command in [event(longest_event), query(longest_query)] {
            assert!(!matches!(lab.command(0, command), Reply::Failed(_)));
        }
        lab.run_for(Duration::from_secs(2));
        let heard = lab.take_events(1);
        assert_eq!(user_events(&heard).len(), 1, "{kind}");
        assert!(heard.iter().any(|event| matches!(event, Event::Query { .. })), "{kind}");
        assert!(!lab.notes(0).any(|note| matches!(note, Note::TooLongToGossip { .. })), "{kind}");
        let refused = |lab: &mut Lab, command| match lab.command(0, command) {
            Reply::Failed(CommandError::FitsNoPacket { size, room, .. }) => (size.total, room),
            other => panic!("{kind}: {other:?}"),
        };
        assert_eq!(refused(&mut lab, event(longest_event + 1)), (room + 1, room), "{kind}");
        assert_eq!(refused(&mut lab, query(longest_query + 1)), (room + 1, room), "{kind}");
    }
}
