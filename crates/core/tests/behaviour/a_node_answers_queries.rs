use crate::lab::{Lab, text};
use villein_core::command::{Command, CommandError, QueryParams, Reply};
use villein_core::member::{Event, QueryKey};
use villein_core::time::Duration;

fn params(name: &str) -> QueryParams {
    QueryParams {
        name: name.into(),
        payload: Some(b"uptime".as_slice().into()),
        ack: true,
        ..QueryParams::default()
    }
}

/// Answers the queries that have arrived at `index` with its name.
fn answer(lab: &mut Lab, index: usize) -> usize {
    let mut count = 0;
    for event in lab.take_events(index) {
        if let Event::Query { key, payload, .. } = event {
            assert_eq!(payload.as_deref(), Some(b"uptime".as_slice()));
            let payload = format!("answer of node{index}").into_bytes().into();
            assert_eq!(lab.command(index, Command::Respond { key, payload }), Reply::Done);
            count += 1;
        }
    }
    count
}

/// What the asking node was told: who acked, and who answered what, both sorted; how often the time was over.
type Outcome = (Vec<String>, Vec<(String, Vec<u8>)>, usize);

fn outcome(lab: &mut Lab, index: usize, key: QueryKey) -> Outcome {
    let (mut acks, mut answers, mut done) = (Vec::new(), Vec::new(), 0);
    for event in lab.take_events(index) {
        match event {
            Event::QueryAck { key: this, from } if this == key => acks.push(from.to_string()),
            Event::QueryResponse { key: this, from, payload } if this == key => {
                answers.push((from.to_string(), payload.unwrap_or_default().to_vec()));
            }
            Event::QueryDone { key: this } if this == key => done += 1,
            _ => {}
        }
    }
    acks.sort();
    answers.sort();
    (acks, answers, done)
}

#[test]
fn every_node_acks_and_answers_once() {
    for relay_factor in [0, 2] {
        let mut lab = Lab::cluster(4);
        lab.clear_records();
        let key = lab.query(0, QueryParams { relay_factor, ..params("load") });
        lab.run_for(Duration::from_secs(1));
        for index in 1..4 {
            assert_eq!(answer(&mut lab, index), 1, "node{index} gets the query once");
        }
        lab.run_for(Duration::from_secs(10));
        let (acks, answers, done) = outcome(&mut lab, 0, key);
        assert_eq!(acks, ["node0", "node1", "node2", "node3"]);
        let expected: Vec<_> =
            (1..4).map(|n| (format!("node{n}"), format!("answer of node{n}").into_bytes())).collect();
        assert_eq!((answers, done), (expected, 1));
    }
}

#[test]
fn filters_choose_who_acts() {
    let mut lab = Lab::cluster_with(4, |index, config| {
        config.tags.insert("role".into(), if index % 2 == 0 { "web" } else { "db" }.into());
    });
    lab.clear_records();
    let by_tag = lab.query(0, QueryParams { tags: vec![(text("role"), text("^d"))], ..params("load") });
    let by_name = lab.query(0, QueryParams { nodes: vec![text("node2"), text("node3")], ..params("load") });
    let both = QueryParams {
        nodes: vec![text("node2"), text("node3")],
        tags: vec![(text("role"), text("w.b"))],
        ..params("load")
    };
    let both = lab.query(0, both);
    let without_tag = lab.query(0, QueryParams { tags: vec![(text("dc"), text("^$"))], ..params("load") });
    let nobody = lab.query(0, QueryParams { tags: vec![(text("role"), text("["))], ..params("load") });
    lab.run_for(Duration::from_secs(10));
    let events = lab.take_events(0);
    let acks = |key| {
        let mut acks: Vec<String> = events
            .iter()
            .filter_map(|event| match event {
                Event::QueryAck { key: this, from } if *this == key => Some(from.to_string()),
                _ => None,
            })
            .collect();
        acks.sort();
        acks
    };
    assert_eq!(acks(by_tag), ["node1", "node3"]);
    assert_eq!(acks(by_name), ["node2", "node3"]);
    assert_eq!(acks(both), ["node2"]);
    assert_eq!(acks(without_tag), ["node0", "node1", "node2", "node3"]);
    assert_eq!(acks(nobody), Vec::<String>::new());
}

#[test]
fn a_node_answers_a_query_once_and_in_time() {
    let mut lab = Lab::cluster(2);
    lab.clear_records();
    lab.query(0, QueryParams { timeout: Some(Duration::from_secs(2)), ..params("load") });
    lab.run_for(Duration::from_millis(800));
    let events = lab.take_events(1);
    let Some(Event::Query { key, .. }) =
        events.into_iter().find(|event| matches!(event, Event::Query { .. }))
    else {
        panic!("node1 gets the query");
    };
    let respond = |payload: &[u8]| Command::Respond { key, payload: payload.into() };
    let long = vec![b'x'; 1024];
    let refused = lab.command(1, respond(&long));
    assert!(
        matches!(refused, Reply::Failed(CommandError::ResponseTooLong { limit: 1024, .. })),
        "{refused:?}"
    );
    assert_eq!(lab.command(1, respond(b"a")), Reply::Done);
    assert_eq!(lab.command(1, respond(b"b")), Reply::Failed(CommandError::AlreadyResponded));
    let unknown = Command::Respond { key: QueryKey { ltime: 999, id: 1 }, payload: b"c".as_slice().into() };
    assert_eq!(lab.command(1, unknown), Reply::Failed(CommandError::UnknownQuery));

    lab.query(0, QueryParams { timeout: Some(Duration::from_secs(2)), ..params("late") });
    lab.run_for(Duration::from_secs(3));
    let late = lab.take_events(1).into_iter().find_map(|event| match event {
        Event::Query { key, .. } => Some(key),
        _ => None,
    });
    let key = late.expect("node1 gets the second query");
    let respond = Command::Respond { key, payload: b"d".as_slice().into() };
    assert_eq!(lab.command(1, respond), Reply::Failed(CommandError::PastDeadline));
}

#[test]
fn a_refused_query_leaves_nothing_behind() {
    let mut lab = Lab::cluster(2);
    let time = lab.node(0).stats().query_time;
    let long = QueryParams { payload: Some(vec![0; 1024].into()), ..params("load") };
    let refused = lab.command(0, Command::Query(long));
    assert!(matches!(refused, Reply::Failed(CommandError::QueryTooLong { limit: 1024, .. })), "{refused:?}");
    let reserved = Command::Query(params("_serf_list-keys"));
    assert_eq!(lab.command(0, reserved), Reply::Failed(CommandError::ReservedQueryName));
    assert_eq!(lab.node(0).stats().query_time, time);
}
