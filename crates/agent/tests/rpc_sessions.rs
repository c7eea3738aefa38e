//! Clients that are slow, rude, many, or gone.

mod lab;

use lab::cluster::{Cluster, config_of};
use lab::{Lab, config, contains, handlers};
use proptest::prelude::*;
use villein_agent::config::Config;
use villein_agent::io::{Conn, ConnEvent, Input, Signal, StreamId};
use villein_agent::limits::{
    BURST_LINES, JOIN_LOOKUPS, JOINS, LOG_LINES, RPC_BACKLOG_BYTES, RPC_BACKLOG_RECORDS, RPC_BACKLOG_TOTAL,
    RPC_CONNECTIONS, RPC_INPUT_BYTES, RPC_QUERIES, RPC_QUERY_TIMEOUT, RPC_STREAMS, RPC_WINDOW_BYTES,
};
use villein_core::time::Duration;
use villein_rpc::framing::Limits;
use villein_rpc::request::{
    CoordinateOf, ForceLeave, Handshake, Join, Key, MemberFilter, Monitor, Query, Respond, Stop, Stream,
    TagChange, UserEvent,
};
use villein_rpc::response::{FromReply, KeyReport, Located, QueryRecord, ResponseHeader, Stats};
use villein_rpc::{Objects, Record, Request};

const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
const OTHER_KEY: &str = "T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s=";

/// The objects in what the agent wrote.
fn objects(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut objects = Objects::new(Limits::RESPONSE);
    objects.push(bytes);
    std::iter::from_fn(|| objects.next_object().expect("the agent writes MessagePack").map(<[u8]>::to_vec))
        .collect()
}

fn header(object: &[u8]) -> (u64, String) {
    let header = ResponseHeader::decode(object).expect("this is a header");
    (header.seq, header.error.to_string())
}

/// The records of all subscriptions, with their `Seq`.
fn records(bytes: &[u8]) -> Vec<(u64, Record)> {
    objects(bytes)
        .chunks_exact(2)
        .map(|pair| (header(&pair[0]).0, Record::decode(&pair[1]).expect("this is a record")))
        .collect()
}

fn event(name: &str) -> Request {
    Request::Event(UserEvent { name: name.into(), payload: Some(vec![b'x'; 400]), coalesce: false })
}

fn stream(filter: &str) -> Request {
    Request::Stream(Stream { filter: filter.into() })
}

fn monitor(level: &str) -> Request {
    Request::Monitor(Monitor { log_level: level.into() })
}

fn stats(lab: &mut Lab, conn: u64) -> Stats {
    lab.take(conn);
    lab.request(conn, 99, &Request::Stats);
    let objects = objects(&lab.take(conn));
    assert_eq!(header(&objects[0]), (99, String::new()));
    Stats::from_reply(&objects[1]).expect("this is the body of stats")
}

/// The names of the user events in these records.
fn names(records: &[(u64, Record)]) -> Vec<String> {
    let name = |record: &Record| match record {
        Record::User(event) => Some(event.name.to_string()),
        _ => None,
    };
    records.iter().filter_map(|(_, record)| name(record)).collect()
}

#[test]
fn garbage_ends_its_own_connection_and_is_counted() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    let mark = lab.printed.len();
    lab.client_sends(2, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(lab.closed, [2]);
    assert!(lab.log_since(mark).starts_with("[ERR] agent.ipc: failed to decode request header: "));
    let stats = stats(&mut lab, 1);
    assert_eq!(stats[&b"dropped"[..]][&b"rpc"[..]], "1");
    assert_eq!(stats[&b"dropped"[..]][&b"packets"[..]], "0");
}

#[test]
fn refused_packets_are_counted_by_kind() {
    let mut lab = Lab::new(config());
    lab.client(1);
    let from = std::net::SocketAddr::from(([127, 0, 0, 9], 7946));
    for _ in 0..3 {
        let socket = villein_agent::io::Socket::Gossip;
        lab.give(Input::Datagram { socket, from, bytes: b"\xff\xfe garbage" });
    }
    lab.give(Input::Overflow { datagrams: 5 });
    let stats = stats(&mut lab, 1);
    let dropped = &stats[&b"dropped"[..]];
    let number = |key: &str| dropped.get(key.as_bytes()).map_or(0, |text| text.to_string().parse().unwrap());
    assert_eq!(number("packets") + number("messages"), 8, "{dropped:?}");
    assert_eq!(number("Overflow"), 5);
}

#[test]
fn stats_name_everything_that_scripts_read() {
    let mut config = config();
    config.handlers = handlers(&["query:load=x", "member-join,user=y", "user=z"]);
    let mut lab = Lab::new(config);
    lab.client(1);
    let stats = stats(&mut lab, 1);
    let keys = |section: &str| {
        stats[section.as_bytes()].keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys("agent"), "name");
    assert_eq!(keys("runtime"), "arch cpu_count event_loop goroutines max_procs os version");
    assert_eq!(stats[&b"runtime"[..]][&b"event_loop"[..]], "none");
    assert_eq!(
        keys("serf"),
        "coordinate_resets encrypted event_queue event_time failed health_score intent_queue left member_time \
         members query_queue query_time"
    );
    let handlers = &stats[&b"event_handlers"[..]];
    assert_eq!(handlers[&b"query:load"[..]], "x");
    assert_eq!(handlers[&b"member-join:"[..]], "y");
    assert_eq!(handlers[&b"user:"[..]], "y, z");
    assert_eq!(stats[&b"tags"[..]][&b"role"[..]], "web");
}

#[test]
fn an_event_reaches_each_stream_once() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 5, &stream("user,user:a,*"));
    lab.request(1, 6, &stream("query"));
    lab.take(1);
    lab.request(2, 1, &event("a"));
    let got = records(&lab.take(1));
    assert_eq!(got.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [5]);
    assert_eq!(names(&got), ["a"]);
}

#[test]
fn streams_can_be_stopped_and_started_in_any_order_with_events() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    for round in 0..50 {
        lab.request(1, 5, &stream("user"));
        lab.request(2, 1, &event(&format!("in{round}")));
        lab.request(1, 6, &Request::Stop(Stop { stop: 5 }));
        lab.request(2, 1, &event(&format!("out{round}")));
        let bytes = lab.take(1);
        assert!(contains(&bytes, format!("in{round}").as_bytes()));
        assert!(!contains(&bytes, b"out"), "nothing comes after the answer to stop");
    }
    lab.request(1, 5, &stream("user"));
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Failed("connection reset by peer") });
    lab.take(1);
    lab.request(2, 1, &event("gone"));
    assert!(lab.take(1).is_empty(), "nothing is written to a connection that broke");
}

#[test]
fn a_client_that_does_not_read_loses_the_latest_events_and_gets_the_rest_later() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 5, &stream("user"));
    lab.take(1);
    lab.drains = false;
    let total = 2 * RPC_BACKLOG_RECORDS;
    for number in 0..total {
        lab.request(2, 1, &event(&format!("e{number}")));
        lab.give(Input::Conn { conn: Conn::Rpc(2), event: ConnEvent::Drained });
    }
    let line = "[WARN] agent.ipc: Dropping event to ipc.client: 127.0.0.1:40001 (1 so far)\n";
    assert_eq!(lab.printed.matches(line).count(), 1);
    let mut bytes = lab.take(1);
    let written = bytes.len();
    assert!((RPC_WINDOW_BYTES..RPC_WINDOW_BYTES + 1000).contains(&written), "{written}");
    let at_once = names(&records(&bytes)).len();
    lab.drains = true;
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Drained });
    bytes.extend(lab.take(1));
    let got = names(&records(&bytes));
    let wanted: Vec<String> = (0..at_once + RPC_BACKLOG_RECORDS).map(|number| format!("e{number}")).collect();
    assert_eq!(got, wanted);
    lab.request(2, 1, &event("later"));
    assert_eq!(names(&records(&lab.take(1))), ["later"]);
}

#[test]
fn a_monitor_that_is_not_read_does_not_feed_itself() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 5, &monitor("trace"));
    lab.take(1);
    lab.drains = false;
    for number in 0..3000 {
        lab.request(2, 1, &event(&format!("e{number}")));
        lab.give(Input::Conn { conn: Conn::Rpc(2), event: ConnEvent::Drained });
    }
    let dropping = "[WARN] agent.ipc: Dropping logs to ipc.client: 127.0.0.1:40001 (";
    assert_eq!(lab.printed.matches(dropping).count(), 1, "one line in a second");
    let stuck = lab.take(1).len();
    assert!(stuck < RPC_WINDOW_BYTES + 1000, "{stuck}");
    lab.drains = true;
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Drained });
    let later = records(&lab.take(1));
    assert!(later.len() <= LOG_LINES && later.len() > LOG_LINES / 2, "{}", later.len());
    assert!(
        later
            .iter()
            .all(|(_, record)| matches!(record, Record::Log(line) if !contains(line, b"Dropping logs")))
    );
    lab.request(2, 1, &event("later"));
    assert!(contains(&lab.take(1), b"agent: Received event: user-event: later"));
}

#[test]
fn a_monitor_sees_its_own_level_of_what_was_and_what_comes() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.request(1, 1, &Request::Event(UserEvent { payload: Some(vec![0; 600]), ..UserEvent::default() }));
    lab.take(1);
    lab.request(1, 2, &monitor("Warn"));
    let bytes = lab.take(1);
    let objects = objects(&bytes);
    assert_eq!(header(&objects[0]), (2, String::new()));
    let refused =
        "user event exceeds configured limit of 512 bytes before encoding (name 0 + payload 600 = 600 bytes)";
    let line = format!("2026/11/22 20:08:16 [WARN] agent: failed to send user event: {refused}");
    assert_eq!(Record::decode(&objects[2]).unwrap(), Record::Log(line.as_str().into()));
    assert_eq!(objects.len(), 3);
    lab.request(1, 3, &event("quiet"));
    let objects = self::objects(&lab.take(1));
    assert_eq!(objects.len(), 1, "a response, and no line below the level");
    assert_eq!(header(&objects[0]), (3, String::new()));
}

#[test]
fn the_lines_that_lead_to_an_event_come_before_it() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 1, &stream("user"));
    lab.request(1, 2, &monitor("debug"));
    lab.take(1);
    lab.request(2, 1, &event("deploy"));
    let got: Vec<String> = records(&lab.take(1))
        .into_iter()
        .map(|(_, record)| match record {
            Record::Log(line) => line.to_string().split(": ").take(2).collect::<Vec<_>>().join(": "),
            Record::User(event) => event.name.to_string(),
            other => panic!("nothing else is subscribed: {other:?}"),
        })
        .collect();
    assert_eq!(
        got,
        [
            "2026/11/22 20:08:16 [DEBUG] agent: Requesting user event send",
            "2026/11/22 20:08:16 [INFO] agent: Received event",
            "deploy",
        ]
    );
}

#[test]
fn a_slow_request_holds_only_its_own_connection() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 1, &Request::Join(Join { existing: vec!["slow.example".into()], replay: false }));
    lab.request(1, 2, &Request::Members);
    lab.request(2, 3, &Request::Members);
    assert!(lab.take(1).is_empty());
    assert_eq!(header(&objects(&lab.take(2))[0]), (3, String::new()));
    let (id, ..) = lab.resolving.pop().expect("the name is looked up");
    lab.give(Input::Resolved { id, result: Err("lookup slow.example: no such host") });
    let objects = objects(&lab.take(1));
    let error =
        "1 error occurred:\n\t* Failed to resolve slow.example: lookup slow.example: no such host\n\n";
    assert_eq!(header(&objects[0]), (1, error.to_owned()));
    assert_eq!(objects[1], b"\x81\xa3Num\x00");
    assert_eq!(header(&objects[2]), (2, String::new()));
}

#[test]
fn a_client_that_asks_without_reading_waits_and_is_bounded() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.drains = false;
    let mut ask = Vec::new();
    Request::Stats.encode(1, &mut ask);
    for _ in 0..2000 {
        lab.client_sends(1, &ask);
    }
    let written = lab.take(1).len();
    assert!((RPC_WINDOW_BYTES..RPC_WINDOW_BYTES + 2000).contains(&written), "{written}");
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Drained });
    assert!(lab.take(1).len() >= RPC_WINDOW_BYTES, "the next requests are answered once there is room");
    let many = ask.repeat(RPC_INPUT_BYTES / ask.len());
    lab.client_sends(1, &many);
    assert_eq!(lab.closed, [1], "requests without end are not kept");
}

#[test]
fn a_client_that_asks_much_and_reads_everything_is_read_as_it_reads() {
    const PIECE: usize = 16;
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.drains = false;
    let mut ask = Vec::new();
    let large = UserEvent { name: "large".into(), payload: Some(vec![b'x'; 1000]), coalesce: false };
    Request::Event(large).encode(1, &mut ask);
    let wanted = 3 * RPC_INPUT_BYTES / ask.len() / PIECE * PIECE;
    let (mut asked, mut answered, mut pauses) = (0, 0, 0);
    while answered < wanted {
        if asked < wanted && lab.paused.is_empty() {
            lab.client_sends(1, &ask.repeat(PIECE));
            asked += PIECE;
            pauses += lab.paused.len();
        } else {
            lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Drained });
        }
        assert!(lab.closed.is_empty(), "{asked} asked, {answered} answered");
        answered += objects(&lab.take(1)).len();
    }
    assert_eq!((asked, answered), (wanted, wanted));
    assert!(pauses > 1 && lab.paused.is_empty());
}

#[test]
fn a_connection_must_shake_hands_in_time() {
    let mut lab = Lab::new(config());
    lab.connect(1);
    lab.client(2);
    lab.pass(Duration::from_secs(29));
    lab.connect(3);
    assert!(lab.closed.is_empty());
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.closed, [1]);
    lab.pass(Duration::from_secs(30));
    assert_eq!(lab.closed, [1, 3]);
}

#[test]
fn a_token_must_come_in_time() {
    let mut lab = Lab::new(Config { rpc_auth: "sekret".into(), ..config() });
    for conn in [1, 2] {
        lab.client(conn);
    }
    lab.request(1, 1, &Request::Auth(villein_rpc::request::Auth { auth_key: "sekret".into() }));
    lab.request(2, 1, &Request::Auth(villein_rpc::request::Auth { auth_key: "wrong".into() }));
    lab.pass(Duration::from_secs(31));
    assert_eq!(lab.closed, [2]);
}

#[test]
fn a_new_client_takes_the_place_of_the_idlest() {
    let mut lab = Lab::new(config());
    let last = RPC_CONNECTIONS as u64 - 1;
    for conn in 0..=last {
        lab.client(conn);
    }
    // All but two subscribe or wait; of these the first one was heard later.
    lab.request(0, 1, &stream("*"));
    lab.request(1, 1, &monitor("ERR"));
    lab.request(2, 1, &Request::Join(Join { existing: vec!["slow.example".into()], replay: false }));
    lab.request(3, 1, &Request::Query(Query { name: "q".into(), timeout: i64::MAX, ..Query::default() }));
    for conn in 4..=last {
        if ![7, 8].contains(&conn) {
            lab.request(conn, 1, &stream("user"));
        }
    }
    lab.pass(Duration::from_secs(1));
    lab.request(7, 1, &Request::Members);
    lab.client(1000);
    assert_eq!(lab.closed, [8]);
    let line =
        "[ERR] agent.ipc: Closed the idle connection of 127.0.0.1:40008: a new client takes its place\n";
    assert!(lab.printed.contains(line), "{}", lab.printed);
    lab.pass(Duration::from_secs(1));
    lab.request(1000, 1, &stream("user"));
    lab.client(1001);
    assert_eq!(lab.closed, [8, 7]);
}

#[test]
fn whoever_has_not_said_who_it_is_makes_room_first() {
    let mut lab = Lab::new(Config { rpc_auth: "sekret".into(), ..config() });
    for conn in 0..RPC_CONNECTIONS as u64 {
        lab.client(conn);
        if conn != 9 {
            lab.request(conn, 1, &Request::Auth(villein_rpc::request::Auth { auth_key: "sekret".into() }));
        }
        lab.pass(Duration::from_millis(1));
    }
    // Idle for longer than the one without a token.
    lab.client(1000);
    assert_eq!(lab.closed, [9]);
    assert!(lab.printed.contains("Closed the silent connection of 127.0.0.1:40009: a new client"));
}

#[test]
fn clients_that_hold_streams_do_not_lock_others_out() {
    let mut lab = Lab::new(config());
    let accept = |lab: &mut Lab, conn: u64, host: u8| {
        let from = std::net::SocketAddr::from(([127, 0, 0, host], 40_000));
        lab.give(Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Accepted { from } });
        lab.request(conn, 0, &Request::Handshake(Handshake { version: 1 }));
        lab.request(conn, 1, &stream("user"));
    };
    // One address has most of the places, from the beginning on; the other one has some of them.
    let all = RPC_CONNECTIONS as u64;
    for conn in 0..all {
        accept(&mut lab, conn, if conn < all - 10 { 3 } else { 2 });
    }
    for conn in 1000..1003 {
        accept(&mut lab, conn, 4);
        lab.request(conn, 2, &Request::Members);
        assert!(contains(&lab.take(conn), b"alpha"));
    }
    assert_eq!(lab.closed, [123, 122, 124], "the middle ones of the address that has the most");
    assert!(
        lab.printed.contains("Closed the busy connection of 127.0.0.3:40000: a new client takes its place")
    );
    // Those who left many open leave more of them: who has come since stays for long.
    let newcomers = 2000..2000 + all / 4;
    accept(&mut lab, 1999, 3);
    for conn in newcomers {
        accept(&mut lab, conn, 3);
    }
    assert!(!lab.closed.contains(&1999));
}

#[test]
fn a_flood_of_connections_does_not_end_the_work_of_others() {
    let mut lab = Lab::new(config());
    lab.client(0);
    lab.request(0, 1, &monitor("INFO"));
    for conn in 1..5 * RPC_CONNECTIONS as u64 {
        lab.client(conn);
        lab.request(conn, 1, &stream("*"));
    }
    assert_eq!(lab.closed.len(), 4 * RPC_CONNECTIONS);
    assert!(!lab.closed.contains(&0));
    lab.pass(Duration::from_secs(2));
    lab.take(0);
    lab.request(5 * RPC_CONNECTIONS as u64 - 1, 9, &event("deploy"));
    assert!(contains(&lab.take(0), b"Received event: user-event: deploy"), "it still monitors");
}

#[test]
fn queries_without_end_leave_room_for_others() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    let endless = Request::Query(Query { name: "q".into(), timeout: i64::MAX, ..Query::default() });
    let done = |bytes: &[u8]| {
        let is_done =
            |object: &Vec<u8>| matches!(Record::decode(object), Ok(Record::Answer(QueryRecord::Done)));
        objects(bytes).iter().filter(|object| is_done(object)).count()
    };
    for seq in 0..2 * RPC_QUERIES as u64 {
        lab.request(1, seq, &endless);
    }
    let bytes = lab.take(1);
    assert_eq!(done(&bytes), RPC_QUERIES, "each one beyond ends one of the same client");
    assert!(!contains(&bytes, b"too many"));
    lab.request(2, 7, &endless);
    assert_eq!((header(&objects(&lab.take(2))[0]), done(&lab.take(1))), ((7, String::new()), 1));
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::Failed("connection reset by peer") });
    for seq in 8..RPC_QUERIES as u64 {
        lab.request(2, seq, &endless);
    }
    assert_eq!(done(&lab.take(2)), 0, "those of a client that has gone are the first to end");
    lab.pass(RPC_QUERY_TIMEOUT);
    assert_eq!(done(&lab.take(2)), RPC_QUERIES - 7, "no query lasts for ever");
}

#[test]
fn records_that_nobody_reads_are_bounded_for_a_client_and_for_all() {
    const READERS: u64 = 2 + (RPC_BACKLOG_TOTAL / RPC_BACKLOG_BYTES) as u64;
    let mut lab = Lab::new(config());
    lab.client(0);
    for conn in 1..=READERS {
        lab.client(conn);
        for seq in 0..RPC_STREAMS as u64 {
            lab.request(conn, seq, &stream("user"));
        }
        lab.take(conn);
    }
    lab.drains = false;
    for _ in 0..RPC_BACKLOG_BYTES / (RPC_STREAMS * 400) + 10 {
        lab.request(0, 1, &event("e"));
        lab.give(Input::Conn { conn: Conn::Rpc(0), event: ConnEvent::Drained });
    }
    let mut all = 0;
    lab.drains = true;
    for conn in 1..=READERS {
        lab.take(conn);
        lab.give(Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Drained });
        let waited = lab.take(conn).len();
        assert!(waited <= RPC_BACKLOG_BYTES, "{waited}");
        all += waited;
    }
    assert!(all <= RPC_BACKLOG_TOTAL && all > RPC_BACKLOG_TOTAL - 1000, "{all}");
}

#[test]
fn what_strangers_do_without_end_is_counted_after_some_lines() {
    let mut lab = Lab::new(config());
    let shown = u64::from(BURST_LINES);
    for conn in 0..shown + 5 {
        lab.connect(conn);
        lab.client_sends(conn, b"GET / HTTP/1.1\r\n\r\n");
        let from = "127.0.0.9:5000".parse().expect("the address is valid");
        for event in [ConnEvent::Accepted { from }, ConnEvent::Data(b"GET / HTTP/1.1\r\n\r\n")] {
            lab.give(Input::Conn { conn: Conn::Gossip(StreamId::accepted(conn)), event });
        }
    }
    let count = |lab: &Lab, text: &str| lab.printed.matches(text).count() as u64;
    assert_eq!(count(&lab, "Accepted client: "), shown);
    assert_eq!(count(&lab, "[ERR] agent.ipc: failed to decode"), shown);
    assert_eq!(count(&lab, "[ERR] memberlist: failed to receive"), shown);
    lab.pass(Duration::from_secs(1));
    for line in [
        "[INFO] agent.ipc: ... and 5 more like these (accepted clients)\n",
        "[ERR] agent.ipc: ... and 5 more like these (refused clients)\n",
        "[ERR] memberlist: ... and 5 more like these (StreamRefused)\n",
    ] {
        assert_eq!(count(&lab, line), 1, "{}", lab.printed);
    }
    lab.client(1000);
    assert!(lab.printed.ends_with("Accepted client: 127.0.0.1:41000\n"), "{}", lab.printed);
    assert_eq!(count(&lab, "more like these"), 3);
}

#[test]
fn a_long_join_looks_up_a_few_names_at_once_and_leaves_places() {
    let mut config = config();
    config.retry_join = vec!["retried.example".to_owned()];
    let mut lab = Lab::new(config);
    assert_eq!(lab.resolving.pop().map(|(_, host, ..)| host).as_deref(), Some("retried.example"));
    lab.client(1);
    let names = (0..3 * JOIN_LOOKUPS).map(|number| format!("n{number}").as_str().into()).collect();
    lab.request(1, 1, &Request::Join(Join { existing: names, replay: false }));
    let mut most = 0;
    let mut looked_up = 0;
    while let Some((id, ..)) = lab.resolving.pop() {
        most = most.max(lab.resolving.len() + 1);
        looked_up += 1;
        lab.give(Input::Resolved { id, result: Err("no such host") });
    }
    assert_eq!((most, looked_up), (JOIN_LOOKUPS, 3 * JOIN_LOOKUPS));
    assert!(header(&objects(&lab.take(1))[0]).1.starts_with("24 errors occurred:"));
}

#[test]
fn joins_of_clients_leave_the_retry_join_its_place() {
    let mut config = config();
    config.retry_join = vec!["127.0.0.2".to_owned()];
    let mut lab = Lab::new(config);
    let join = Request::Join(Join { existing: vec!["slow.example".into()], replay: false });
    for conn in 0..=JOINS as u64 {
        lab.client(conn);
        lab.request(conn, 1, &join);
    }
    assert_eq!(header(&objects(&lab.take(JOINS as u64))[0]).1, "too many joins are under way");
    let mark = lab.printed.len();
    lab.pass(Duration::from_secs(31));
    let log = lab.log_since(mark);
    assert!(log.contains("Failed to join 127.0.0.2") && !log.contains("too many"), "{log}");
}

#[test]
fn the_settings_show_no_token() {
    let shown = format!("{:?}", Config { rpc_auth: "sekret".into(), ..config() });
    assert!(shown.contains("rpc_auth: hidden") && !shown.contains("sekret"), "{shown}");
}

#[test]
fn tokens_are_wanted_once_per_request() {
    let mut lab = Lab::new(Config { rpc_auth: "sekret".into(), ..config() });
    lab.client(1);
    lab.request(1, 1, &Request::MembersFiltered(MemberFilter::default()));
    lab.request(1, 2, &Request::Auth(villein_rpc::request::Auth { auth_key: "wrong".into() }));
    lab.request(1, 3, &Request::Auth(villein_rpc::request::Auth { auth_key: "sekret".into() }));
    lab.request(1, 4, &Request::Leave);
    let answers: Vec<_> = objects(&lab.take(1)).iter().map(|object| header(object)).collect();
    let error = |seq, text: &str| (seq, text.to_owned());
    assert_eq!(
        answers,
        [error(1, "Authentication required"), error(2, "Invalid authentication token"), error(3, "")]
    );
    assert!(lab.printed.contains("[WARN] agent.ipc: Client sending commands before auth\n"));
}

#[test]
fn all_clients_that_ask_for_a_leave_are_answered_before_the_end() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 7, &Request::Leave);
    lab.pass(Duration::from_millis(100));
    lab.request(2, 8, &Request::Leave);
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.exit, Some(0));
    assert_eq!(header(&objects(&lab.take(1))[0]), (7, String::new()));
    assert_eq!(header(&objects(&lab.take(2))[0]), (8, String::new()));
    assert_eq!(lab.closed, [1, 2]);
    assert!(lab.printed.contains("[INFO] agent.ipc: Graceful leave triggered\n"));
}

#[test]
fn a_second_signal_fails_the_leave_of_a_client() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.request(1, 7, &Request::Leave);
    lab.signal(Signal::Interrupt);
    assert_eq!((lab.exit, &lab.closed[..]), (Some(1), &[1][..]));
}

#[test]
fn a_monitor_gets_the_last_line() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.request(1, 1, &monitor("INFO"));
    lab.take(1);
    lab.signal(Signal::Terminate);
    assert!(contains(&lab.take(1), b"[INFO] agent: shutdown complete"));
    assert_eq!(lab.closed, [1]);
}

#[test]
fn queries_are_answered_through_a_stream() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 5, &stream("query"));
    lab.take(1);
    let query = Query { name: "load".into(), request_ack: true, timeout: 700_000_000, ..Query::default() };
    lab.request(2, 3, &Request::Query(query));
    let Some((5, Record::Query(asked))) = records(&lab.take(1)).pop() else {
        panic!("the query is streamed")
    };
    assert_eq!((asked.id, asked.name.to_string()), (1, "load".to_owned()));
    let respond = |id| Request::Respond(Respond { id, payload: Some(b"0.15".to_vec()) });
    for seq in 6..8 {
        lab.request(1, seq, &respond(asked.id));
    }
    lab.request(1, 8, &respond(77));
    lab.pass(Duration::from_secs(1));
    lab.request(1, 9, &respond(asked.id));
    let answers: Vec<_> = objects(&lab.take(1)).iter().map(|object| header(object)).collect();
    let error = |seq, text: &str| (seq, text.to_owned());
    assert_eq!(
        answers,
        [
            error(6, ""),
            error(7, "failed to respond to key query: response already sent"),
            error(8, "No pending queries matching ID"),
            error(9, "No pending queries matching ID"),
        ]
    );
    let got = lab.take(2);
    assert!(contains(&got, b"\xc4\x040.15"), "{}", got.escape_ascii());
    assert_eq!(got.windows(4).filter(|window| window == b"done").count(), 1);
    assert!(lab.printed.contains("[INFO] agent: Received event: query: load\n"));
}

#[test]
fn a_bad_member_filter_is_an_error_with_an_empty_list() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.request(
        1,
        1,
        &Request::MembersFiltered(MemberFilter { name: "[".into(), ..MemberFilter::default() }),
    );
    let objects = objects(&lab.take(1));
    assert!(header(&objects[0]).1.starts_with("Failed to compile regex: "));
    assert_eq!(objects[1], b"\x81\xa7Members\x90");
    lab.request(1, 2, &Request::Members);
    assert!(contains(&lab.take(1), b"alpha"), "the connection is still good");
}

#[test]
fn tags_change_for_handlers_and_members() {
    let mut config = config();
    config.handlers = handlers(&["user=x"]);
    let mut lab = Lab::new(config);
    lab.client(1);
    let change = TagChange {
        tags: [("x".into(), "1".into()), ("role".into(), "db".into())].into(),
        delete_tags: vec!["role".into()],
    };
    lab.request(1, 1, &Request::Tags(change));
    lab.pass(Duration::from_secs(1));
    assert_eq!(header(&objects(&lab.take(1))[0]), (1, String::new()));
    lab.request(1, 2, &event("e"));
    let (_, spawn) = lab.spawned.pop().expect("the handler runs");
    let value = |name: &[u8]| spawn.env.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..]);
    assert_eq!(value(b"SERF_TAG_X"), Some(&b"1"[..]));
    assert_eq!(value(b"SERF_SELF_ROLE"), Some(&b"db"[..]), "what is set wins over what is deleted");
}

#[test]
fn key_commands_have_a_body_with_their_error() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.request(1, 1, &Request::RemoveKey(Key { key: "not base64!".into() }));
    lab.request(1, 2, &Request::ListKeys);
    lab.request(1, 3, &Request::Members);
    let objects = objects(&lab.take(1));
    assert_eq!(header(&objects[0]), (1, "illegal base64 data at input byte 3".to_owned()));
    assert_eq!(KeyReport::from_reply(&objects[1]).expect("the body of keys"), KeyReport::default());
    assert_eq!(header(&objects[2]), (2, "1/1 nodes reported failure".to_owned()));
    let report = KeyReport::from_reply(&objects[3]).expect("the body of keys");
    assert_eq!(report.keys, Some([].into()));
    assert_eq!(header(&objects[4]).0, 3);
    for line in ["[INFO] agent: Initiating key removal\n", "[INFO] agent: Initiating key listing\n"] {
        assert!(lab.printed.contains(line), "{}", lab.printed);
    }
}

#[test]
fn old_protocols_have_no_key_commands() {
    let mut config = config();
    config.node.protocol = 3;
    let mut lab = Lab::new(config);
    lab.client(1);
    lab.request(1, 1, &Request::UseKey(Key { key: KEY.into() }));
    let objects = objects(&lab.take(1));
    assert_eq!(header(&objects[0]), (1, "Feature not supported".to_owned()));
    assert_eq!(KeyReport::from_reply(&objects[1]).expect("the body of keys"), KeyReport::default());
}

/// What a client gets for a key command, once every member had the time to answer.
fn key_command(cluster: &mut Cluster, request: &Request) -> (String, KeyReport) {
    cluster.client(0, 1);
    cluster.request(0, 1, 5, request);
    cluster.pass(Duration::from_secs(10));
    let objects = objects(&cluster.take(0, 1));
    (header(&objects[0]).1, KeyReport::from_reply(&objects[1]).expect("the body of keys"))
}

#[test]
fn keys_change_everywhere_and_who_does_not_answer_is_named() {
    let config = |name, number| {
        let mut config = config_of(name, number);
        let key = villein_core::crypto::Key::from_base64(KEY).expect("it is a key");
        config.node.keyring = Some(villein_core::crypto::Keyring::new(key, []).expect("one key is a ring"));
        config.node.keyring_file = true;
        config.keyring_file = Some("ring.json".into());
        config
    };
    let mut cluster = Cluster::new([config("alpha", 1), config("beta", 2)]);
    cluster.join(1, 0);
    let install = Request::InstallKey(Key { key: OTHER_KEY.into() });
    let (error, report) = key_command(&mut cluster, &install);
    assert_eq!((error.as_str(), report.num_nodes, report.num_resp), ("", 2, 2));
    for node in &cluster.nodes {
        let wanted = format!("[\n  \"{KEY}\",\n  \"{OTHER_KEY}\"\n]");
        assert_eq!(node.saved, [("ring.json".to_owned(), wanted)]);
    }
    cluster.nodes[1].disk = Err("open ring.json: is a directory");
    let (error, report) = key_command(&mut cluster, &Request::UseKey(Key { key: OTHER_KEY.into() }));
    assert_eq!(error, "1/2 nodes reported failure");
    let why = report.messages[&b"beta"[..]].to_string();
    assert!(why.starts_with("Failed to write keyring file: open ring.json: is a directory"), "{why}");

    // Nobody has noticed yet that beta is gone.
    cluster.nodes[1].side = 1;
    let (error, report) = key_command(&mut cluster, &Request::ListKeys);
    assert_eq!(error, "1/2 nodes reported success");
    assert_eq!(report.messages, [("beta".into(), "no answer in time".into())].into());
    assert_eq!(report.keys, Some([(KEY.into(), 1), (OTHER_KEY.into(), 1)].into()));
}

fn change(set: &[(&str, &str)], delete: &[&str]) -> Request {
    Request::Tags(TagChange {
        tags: set.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        delete_tags: delete.iter().map(|&name| name.into()).collect(),
    })
}

/// The tags of the node, as `members` shows them.
fn tags(lab: &Lab) -> String {
    let tags = lab.agent.node().local_member().tags;
    let shown: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    shown.join(" ")
}

fn with_tags_file() -> Lab {
    Lab::new(Config { tags_file: Some("tags.json".into()), ..config() })
}

#[test]
fn tags_change_once_they_are_in_their_file() {
    let mut lab = with_tags_file();
    lab.client(1);
    lab.request(1, 1, &change(&[("v", "<1>")], &["role"]));
    assert_eq!((tags(&lab).as_str(), lab.take(1)), ("role=web", Vec::new()));
    let (id, path, bytes) = lab.saving.pop().expect("the file is saved");
    assert_eq!(path, std::path::Path::new("tags.json"));
    assert_eq!(String::from_utf8_lossy(&bytes), "{\n  \"v\": \"\\u003c1\\u003e\"\n}");
    lab.give(Input::Saved { id, result: Ok(()) });
    assert_eq!(tags(&lab), "v=<1>");
    assert_eq!(header(&objects(&lab.take(1))[0]), (1, String::new()));
}

#[test]
fn tags_that_cannot_be_kept_do_not_change() {
    let mut lab = with_tags_file();
    lab.client(1);
    lab.request(1, 1, &change(&[("v", "1")], &[]));
    let (id, ..) = lab.saving.pop().expect("the file is saved");
    let mark = lab.printed.len();
    lab.give(Input::Saved { id, result: Err("open tags.json: permission denied") });
    let error = "Failed to write tags file: open tags.json: permission denied";
    assert_eq!(header(&objects(&lab.take(1))[0]), (1, error.to_owned()));
    assert_eq!(tags(&lab), "role=web");
    assert_eq!(lab.log_since(mark), format!("[ERR] agent: {error}"));
}

#[test]
fn changes_of_tags_are_made_in_their_order_and_none_is_lost() {
    let mut lab = with_tags_file();
    for conn in 1..=4 {
        lab.client(conn);
    }
    lab.request(1, 1, &change(&[("a", "1")], &[]));
    lab.request(2, 1, &change(&[("b", "2")], &["a"]));
    let too_long = "x".repeat(600);
    lab.request(3, 1, &change(&[("c", &too_long)], &[]));
    lab.request(4, 1, &change(&[("d", "4")], &["role"]));
    let mut written = Vec::new();
    while let Some((id, _, bytes)) = lab.saving.pop() {
        assert!(lab.saving.is_empty(), "one at a time");
        written.push(String::from_utf8_lossy(&bytes).replace(['\n', ' '], ""));
        // The second change is not kept: those behind it do not have it.
        let result = if written.len() == 2 { Err("open tags.json: no space left") } else { Ok(()) };
        lab.give(Input::Saved { id, result });
    }
    assert_eq!(
        written,
        [r#"{"a":"1","role":"web"}"#, r#"{"b":"2","role":"web"}"#, r#"{"a":"1","d":"4"}"#],
        "what is too long is not written"
    );
    assert_eq!(tags(&lab), "a=1 d=4");
    let mut errors = Vec::new();
    for conn in 1..=4 {
        errors.push(header(&objects(&lab.take(conn))[0]).1);
    }
    assert_eq!(errors[0], "");
    assert_eq!(errors[1], "Failed to write tags file: open tags.json: no space left");
    assert!(errors[2].starts_with("Encoded length of tags exceeds limit of 512 bytes"), "{}", errors[2]);
    assert_eq!(errors[3], "");
}

#[test]
fn changes_of_tags_without_a_file_are_not_lost_either() {
    // Two clients wait for broadcasts that end together, and both have a change ready.
    let mut cluster = Cluster::new([config_of("alpha", 1), config_of("beta", 2)]);
    cluster.join(1, 0);
    cluster.pass(Duration::from_secs(5));
    cluster.client(0, 1);
    cluster.client(0, 2);
    let nobody = Request::ForceLeave(ForceLeave { node: "nobody".into(), prune: false });
    cluster.request(0, 1, 1, &change(&[("a", "")], &[]));
    cluster.request(0, 1, 2, &change(&[("b", "")], &[]));
    cluster.request(0, 2, 1, &nobody);
    cluster.request(0, 2, 2, &change(&[("c", "")], &[]));
    cluster.pass(Duration::from_secs(10));
    let tags = cluster.nodes[0].agent.node().local_member().tags;
    let names: Vec<_> = tags.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_client_that_closes_its_side_gets_its_answers() {
    let mut lab = Lab::new(config());
    lab.connect(1);
    let mut bytes = Vec::new();
    let query = Query { name: "q".into(), request_ack: true, timeout: 500_000_000, ..Query::default() };
    let requests = [Request::Handshake(Handshake { version: 1 }), Request::Members, Request::Query(query)];
    for (seq, request) in (0..).zip(&requests) {
        request.encode(seq, &mut bytes);
    }
    // All but the last byte, so that the answers to the first two do not wait for the third.
    lab.client_sends(1, &bytes[..bytes.len() - 1]);
    assert_eq!(objects(&lab.take(1)).len(), 3);
    lab.client_sends(1, &bytes[bytes.len() - 1..]);
    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::End });
    assert_eq!(header(&objects(&lab.take(1))[0]), (2, String::new()));
    assert_eq!(lab.closed, [1], "nobody waits for the end of the query");
    lab.pass(Duration::from_secs(1));
}

#[test]
fn sizes_that_are_not_sent_cost_nothing() {
    let join = |existing: &[u8]| {
        let header = b"\x82\xa7Command\xa4join\xa3Seq\x01\x81\xa8Existing";
        [header, existing].concat()
    };
    for (what, bytes, closed) in [
        ("a text", b"\x82\xa7Command\xdb\xff\xff\xff\xff".to_vec(), true),
        ("a list", join(b"\xdd\xff\xff\xff\xff\xa1x"), true),
        ("a smaller list", join(b"\xdd\x10\x00\x00\x00\xa1x"), true),
        ("nested lists", join(&[0x91; 1000]), true),
        (
            "a payload",
            [
                b"\x82\xa7Command\xa5event\xa3Seq\x01\x81\xa7Payload\xc6\x00\x98\x96\x80",
                &vec![0; 100_000][..],
            ]
            .concat(),
            true,
        ),
        ("a text that is still to come", b"\x82\xa7Command\xd9\xff".to_vec(), false),
    ] {
        let mut lab = Lab::new(config());
        lab.client(1);
        lab.client(2);
        lab.client_sends(1, &bytes);
        assert_eq!(lab.closed.contains(&1), closed, "{what}");
        lab.request(2, 1, &Request::Members);
        assert!(contains(&lab.take(2), b"alpha"), "{what}");
    }
}

#[test]
fn a_monitor_that_comes_late_gets_the_last_lines() {
    let mut lab = Lab::new(config());
    lab.client(1);
    for number in 0..LOG_LINES {
        lab.request(1, 1, &event(&format!("e{number}")));
    }
    lab.client(2);
    lab.take(1);
    lab.request(2, 1, &monitor("trace"));
    let bytes = lab.take(2);
    let lines = (objects(&bytes).len() - 1) / 2;
    assert_eq!(lines, LOG_LINES, "those of levels that are not printed count, too");
}

#[test]
fn a_header_stands_for_itself() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client_sends(1, b"\x82\xa7Command\xa7members\xa3Seq\x09\x81\xa7Command\xa7members");
    let bytes = lab.take(1);
    let headers: Vec<_> = objects(&bytes).iter().step_by(2).map(|object| header(object)).collect();
    assert_eq!(headers, [(9, String::new()), (0, String::new())]);
    lab.client_sends(1, b"\x81\xa3Seq\x05");
    assert_eq!(header(&objects(&lab.take(1))[0]), (5, "Unsupported command".to_owned()));
    assert_eq!(lab.closed, [1]);
}

#[test]
fn keys_and_texts_may_be_bytes() {
    let mut lab = Lab::new(config());
    lab.connect(1);
    lab.client_sends(1, b"\x82\xc4\x07Command\xc4\x09handshake\xc4\x03Seq\x06\x81\xc4\x07Version\x01");
    assert_eq!(header(&objects(&lab.take(1))[0]), (6, String::new()));
}

#[test]
fn an_address_of_ipv4_has_four_bytes() {
    let mut config = config();
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 77, 0, 1];
    config.node.addr = villein_core::member::WireAddr::from_bytes(&mapped).expect("16 bytes are an address");
    let mut lab = Lab::new(config);
    lab.client(1);
    lab.request(1, 1, &Request::Members);
    assert!(contains(&lab.take(1), b"\xa4Addr\xc4\x04\x0a\x4d\x00\x01"));
}

#[test]
fn a_monitor_is_one_and_can_be_stopped() {
    let mut lab = Lab::new(config());
    lab.client(1);
    let mut ask = |seq, request: &Request| {
        lab.request(1, seq, request);
        let objects = objects(&lab.take(1));
        (header(&objects[0]).1, objects.len())
    };
    assert_eq!(ask(1, &monitor("bogus")), ("Unknown log level: BOGUS".to_owned(), 1));
    assert_eq!(ask(2, &monitor("")), ("Unknown log level: ".to_owned(), 1));
    assert_eq!(ask(3, &monitor("err")), (String::new(), 1));
    assert_eq!(ask(4, &monitor("ERR")), ("Monitor already exists".to_owned(), 1));
    assert_eq!(ask(5, &Request::Stop(Stop { stop: 3 })), (String::new(), 1));
    assert_eq!(ask(6, &event("quiet")), (String::new(), 1), "nothing comes after the answer to stop");
    let (error, count) = ask(3, &monitor("Debug"));
    assert_eq!(error, "");
    assert!(count > 1, "what was meanwhile is told again");
}

#[test]
fn a_number_may_be_used_again() {
    let mut lab = Lab::new(config());
    lab.client(1);
    for request in [Request::Members, Request::Stats] {
        lab.request(1, 1, &request);
        let objects = objects(&lab.take(1));
        assert_eq!((header(&objects[0]), objects.len()), ((1, String::new()), 2));
    }
}

#[test]
fn coordinates_are_told_or_not() {
    for told in [true, false] {
        let mut config = config();
        config.node.coordinates = told;
        let mut lab = Lab::new(config);
        lab.client(1);
        lab.request(1, 1, &Request::GetCoordinate(CoordinateOf { node: "alpha".into() }));
        let located = Located::from_reply(&objects(&lab.take(1))[1]).expect("the body of a coordinate");
        assert_eq!(located.ok, told);
        let expected = if told { (1.5, 1e-5, 8) } else { (0.0, 0.0, 0) };
        assert_eq!((located.coord.error, located.coord.height, located.coord.vec.len()), expected);
        let resets = stats(&mut lab, 1)[&b"serf"[..]].contains_key(&b"coordinate_resets"[..]);
        assert_eq!(resets, told);
    }
}

#[test]
fn an_empty_payload_is_none() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.client(2);
    lab.request(1, 1, &stream("*"));
    lab.take(1);
    let (name, payload) = (|| "e".into(), || Some(Vec::new()));
    lab.request(2, 1, &Request::Event(UserEvent { name: name(), payload: payload(), coalesce: false }));
    lab.request(2, 2, &Request::Query(Query { name: name(), payload: payload(), ..Query::default() }));
    let payloads: Vec<_> = records(&lab.take(1))
        .into_iter()
        .map(|(_, record)| match record {
            Record::User(event) => event.payload,
            Record::Query(query) => query.payload,
            other => panic!("nothing else happened: {other:?}"),
        })
        .collect();
    assert_eq!(payloads, [None, None]);
}

/// Requests, and bytes that are none.
fn noise() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let request = prop_oneof![
        Just(Request::Handshake(Handshake { version: 1 })),
        Just(Request::Members),
        Just(Request::Stats),
        Just(monitor("trace")),
        Just(event("e")),
        "[a-z,:*]{0,12}".prop_map(|filter| stream(&filter)),
        any::<u64>().prop_map(|stop| Request::Stop(Stop { stop })),
        (any::<i64>(), "[a-z_]{0,8}").prop_map(|(timeout, name)| {
            Request::Query(Query { name: name.as_str().into(), timeout, ..Query::default() })
        }),
        "[a-z/:\\[\\]0-9.]{0,12}"
            .prop_map(|text| { Request::Join(Join { existing: vec![text.as_str().into()], replay: true }) }),
    ];
    let encoded = (any::<u64>(), request).prop_map(|(seq, request)| {
        let mut bytes = Vec::new();
        request.encode(seq, &mut bytes);
        bytes
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    prop::collection::vec(prop_oneof![4 => encoded, 1 => bytes], 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_harm_the_agent_or_another_client(noise in noise(), cut in 1_usize..40, greeted: bool) {
        let mut lab = Lab::new(config());
        lab.client(1);
        if greeted { lab.client(2) } else { lab.connect(2) }
        for chunk in noise.concat().chunks(cut) {
            if !lab.closed.contains(&2) {
                lab.client_sends(2, chunk);
            }
        }
        lab.pass(Duration::from_secs(2));
        lab.request(1, 3, &Request::Members);
        prop_assert!(contains(&lab.take(1), b"alpha"));
        prop_assert_eq!(lab.exit, None);
        prop_assert!(!lab.closed.contains(&1));
    }
}

#[test]
fn strangers_fill_no_memory() {
    // An event with a payload of 512 KiB that comes in pieces and never ends.
    let head = b"\x82\xa7Command\xa5event\xa3Seq\x02\x83\xa4Name\xa1x\xa8Coalesce\xc2\xa7Payload\xc6\x00\x08\x00\x00";
    let pieces = |lab: &mut Lab| {
        lab.client_sends(2, head);
        for _ in 0..500 {
            if !lab.closed.contains(&2) {
                lab.client_sends(2, &[0; 1000]);
            }
        }
    };
    for rpc_auth in ["", "sekret"] {
        let mut lab = Lab::new(Config { rpc_auth: rpc_auth.into(), ..config() });
        lab.connect(2);
        if !rpc_auth.is_empty() {
            lab.request(2, 1, &Request::Handshake(Handshake { version: 1 }));
        }
        pieces(&mut lab);
        assert!(lab.closed.contains(&2), "{rpc_auth}");
        assert!(lab.printed.contains("a long request before it introduced itself"), "{}", lab.printed);
    }
    let mut lab = Lab::new(config());
    lab.client(2);
    pieces(&mut lab);
    assert!(!lab.closed.contains(&2), "who has introduced himself may send as much as an event holds");
}
