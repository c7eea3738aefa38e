use crate::lab::{Lab, addr, config, golden, text};
use villein_core::Node;
use villein_core::command::{Command, CommandError, KeyRequest, QueryParams, Reply};
use villein_core::config::{Coalesce, Config, Profile};
use villein_core::crypto::{Key, Keyring};
use villein_core::io::{Action, Input, Outbox, StreamEvent, StreamId};
use villein_core::limits;
use villein_core::member::{Event, Status};
use villein_core::note::Note;
use villein_core::time::{Duration, Instant};
use villein_core::wire::message::PushNode;
use villein_core::wire::serf::encode_push_pull;

#[test]
fn a_clock_at_the_end_of_time_stands_still() {
    for start in [Instant::ORIGIN, Instant::NEVER] {
        let mut node = Node::new(config("a", 0), [1; 32], villein_core::snapshot::Restored::default(), start);
        let mut out = Outbox::new();
        for _ in 0..3 {
            node.handle(Instant::NEVER, Input::Tick, &mut out);
        }
        assert_eq!(node.members().count(), 1);
        assert!(node.deadline().is_some_and(|at| at < Instant::NEVER));
    }
}

#[test]
fn failed_members_are_not_tried_without_a_pause() {
    let mut lab = Lab::cluster_with(2, |_, config| config.reconnect_interval = Duration::ZERO);
    lab.kill(1);
    lab.run_until("it has failed", Duration::from_mins(1), |lab| lab.status(0, "node1") == Status::Failed);
    lab.clear_records();
    lab.run_for(Duration::from_secs(60));
    let tried = lab.notes(0).filter(|note| matches!(note, Note::Reconnecting { .. })).count();
    assert_eq!(tried, 60);
}

#[test]
fn an_answer_that_fits_no_datagram_is_refused() {
    let label = [b'l'; 200];
    let key = || Key::from_bytes(&[7; 16]).expect("a key of 16 bytes");
    let mut lab = Lab::cluster_with(2, |_, config| {
        config.query_response_size_limit = usize::MAX;
        config.compression = false;
        config.label = label.as_slice().into();
        config.keyring = Some(Keyring::new(key(), []).expect("one key is a ring"));
    });
    lab.take_events(1);
    let params = QueryParams { name: text("long"), ..QueryParams::default() };
    let asked = lab.query(0, params);
    lab.run_for(Duration::from_secs(1));
    assert!(lab.take_events(1).iter().any(|event| matches!(event, Event::Query { .. })));
    let respond = |length| Command::Respond { key: asked, payload: vec![b'x'; length].into() };
    let Reply::Failed(CommandError::ResponseTooLong { limit, .. }) =
        lab.command(1, respond(limits::DATAGRAM))
    else {
        panic!("it was not refused");
    };
    // Label, its header, encryption and the kind of the message.
    assert_eq!(limit, limits::DATAGRAM - 202 - 29 - 1);
    // What is too long by one byte is refused, and the longest that is not arrives.
    let frame = (0..200).find(|frame| lab.command(1, respond(limit - frame)) == Reply::Done);
    assert!(frame.is_some_and(|frame| frame > 0), "{frame:?}");
    lab.run_for(Duration::from_secs(1));
    assert!(lab.take_events(0).iter().any(|event| matches!(event, Event::QueryResponse { .. })));
    assert!(!lab.notes(1).any(|note| matches!(note, Note::DatagramTooLong { .. })));
}

#[test]
fn a_state_that_is_odd_in_each_entry_is_not_noted_for_each() {
    let mut node =
        Node::new(config("a", 0), [1; 32], villein_core::snapshot::Restored::default(), Instant::ORIGIN);
    let mut out = Outbox::new();
    let (id, from) = (StreamId::accepted(1), addr(5));
    let vsn = [1, 5, 2, 2, 5, 5];
    let odd = PushNode {
        incarnation: 1,
        name: b"z",
        addr: &[10, 0, 0, 5],
        port: 1,
        meta: b"",
        state: 9,
        vsn: &vsn,
    };
    let count = 5000;
    let mut bytes = Vec::new();
    encode_push_pull(true, std::iter::repeat_n(odd, count), b"", &mut bytes);
    node.handle(Instant::ORIGIN, Input::Stream { id, event: StreamEvent::Accepted { from } }, &mut out);
    out.clear();
    node.handle(Instant::ORIGIN, Input::Stream { id, event: StreamEvent::Data(&bytes) }, &mut out);
    let notes: Vec<&Note> = out
        .actions()
        .filter_map(|action| if let Action::Note(note) = action { Some(note) } else { None })
        .collect();
    let refused = notes.iter().filter(|note| note.name() == "AliveRefused").count();
    assert_eq!(refused, limits::WARNINGS_ALIKE);
    let more = Note::MoreAlike { name: "AliveRefused", count: count - refused };
    assert_eq!(notes.last(), Some(&&more));
    // The next input has notes of its own.
    out.clear();
    let id = StreamId::accepted(2);
    node.handle(Instant::ORIGIN, Input::Stream { id, event: StreamEvent::Accepted { from } }, &mut out);
    node.handle(Instant::ORIGIN, Input::Stream { id, event: StreamEvent::Data(&bytes) }, &mut out);
    assert!(out.actions().any(|action| action == Action::Note(&more)));
}

/// What gossip puts together is no longer than what can be sent; the lab sees to that.
#[test]
fn packets_as_large_as_can_be_are_sent() {
    let mut lab = Lab::cluster_with(2, |_, config| {
        config.udp_buffer_size = usize::MAX;
        config.user_event_size_limit = limits::USER_EVENT;
        config.compression = false;
    });
    for number in 0..100u8 {
        let payload = vec![number; limits::USER_EVENT - 100];
        lab.event(0, "large", &payload);
    }
    lab.run_for(Duration::from_secs(20));
    assert_eq!(crate::lab::user_events(&lab.take_events(1)).len(), 100);
}

/// Nodes whose times and numbers are all as small or as large as can be do everything once, and serve as they may.
#[test]
fn any_durations_and_sizes_are_lived_through() {
    for (all, number) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_secs(u64::MAX / 16), u32::MAX / 2),
        (Duration::MAX, u32::MAX),
    ] {
        let size = if number == u32::MAX { usize::MAX } else { number as usize };
        let mut lab = Lab::new();
        for index in 0..4 {
            let mut config = config(&format!("node{index}"), index);
            config.profile = Profile {
                tcp_timeout: if index == 3 { all } else { config.profile.tcp_timeout },
                push_pull_interval: if all.is_zero() { all } else { all.max(Duration::from_secs(1)) },
                probe_timeout: all,
                probe_interval: all.max(Duration::from_secs(1)),
                gossip_interval: all.max(Duration::from_millis(100)),
                gossip_to_the_dead_time: all,
                indirect_checks: size,
                gossip_nodes: size,
                retransmit_mult: number,
                suspicion_mult: number,
                suspicion_max_timeout_mult: number,
                awareness_max_multiplier: number,
            };
            if index % 2 == 0 {
                config.udp_buffer_size = size;
                config.user_event_size_limit = size;
                config.query_size_limit = size;
                config.query_response_size_limit = size;
            }
            config.coalesce = Some(Coalesce { period: all, quiescent: all });
            config.broadcast_timeout = all;
            config.leave_propagate_delay = all;
            config.reconnect_interval = all;
            config.reconnect_timeout = all;
            config.tombstone_timeout = all;
            config.reclaim_time = all;
            config.snapshot = true;
            lab.add(config);
        }
        for index in 1..4 {
            lab.start(index, Command::Join { addrs: vec![addr(0)], ignore_old: true });
        }
        lab.run_for(Duration::from_secs(3));
        let twin = lab.add(Config { name: "node1".into(), ..config("twin", 9) });
        lab.start(twin, Command::Join { addrs: vec![addr(1)], ignore_old: true });
        lab.start(0, Command::Query(QueryParams { name: text("q"), ..QueryParams::default() }));
        lab.start(0, Command::Query(QueryParams { timeout: Some(all), ..QueryParams::default() }));
        lab.start(0, Command::Keys(KeyRequest::List));
        lab.start(0, Command::UserEvent { name: text("e"), payload: None, coalesce: true });
        lab.inject(2, &golden("udp-indirect-ping"));
        lab.kill(3);
        lab.run_for(Duration::from_secs(10));
        lab.start(0, Command::ForceLeave { name: "node3".into(), prune: true });
        lab.start(2, Command::Leave);
        lab.run_for(Duration::from_secs(10));
        assert!(lab.node(0).stats().members > 0);
    }
}
