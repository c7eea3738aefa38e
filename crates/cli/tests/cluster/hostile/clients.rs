//! Clients that end agents of the reference, or keep them from everybody else: an agent of ours lives on, answers
//! others and stays small (agent.md 20.1, rpc.md 5.6 and 8).

use super::wire::{list, map, number, say, text};
use crate::support::{Agent, Folder, PATIENCE, Runtime, count, on_every_runtime, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use villein_rpc::request::{Auth, Handshake, Monitor, Query, Stop, Stream, UserEvent};
use villein_rpc::{Client, Record, Request};

/// What an agent may grow by under attack, in KiB: its queues are full then, and a few buffers.
const GROWTH: u64 = 32 << 10;

on_every_runtime! {
    subscriptions_may_end_in_the_middle_of_events,
    requests_that_claim_too_much_cost_their_connection_only,
    a_client_that_does_not_read_holds_up_nobody,
    clients_that_hold_streams_keep_nobody_out,
    clients_that_say_half_are_answered_or_waited_for,
}

fn start(runtime: Runtime, address: &str, arguments: &[&str]) -> Agent {
    Agent::on_loopback(runtime, &runtime.here(address), "target", arguments)
}

fn connect(agent: &Agent) -> Client {
    Client::connect(&agent.rpc, None).expect("the agent takes clients")
}

fn dial(agent: &Agent) -> TcpStream {
    let stream = TcpStream::connect(&agent.rpc).expect("the agent takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// Requests in one piece, numbered from 0.
fn bytes(requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, request) in (0..).zip(requests) {
        request.encode(seq, &mut bytes);
    }
    bytes
}

fn hello() -> Request {
    Request::Handshake(Handshake { version: 1 })
}

fn stream(filter: &str) -> Request {
    Request::Stream(Stream { filter: filter.into() })
}

fn event(name: &str, size: usize) -> UserEvent {
    UserEvent { name: name.into(), payload: Some(vec![b'x'; size]), coalesce: false }
}

/// A client that comes now is answered, and hears of an event that is fired now.
fn serves(agent: &Agent) {
    let mut listener = connect(agent);
    listener.set_record_timeout(Some(PATIENCE));
    let seq = listener.stream("user:served").expect("a stream can be had");
    let mut speaker = connect(agent);
    speaker.event(event("served", 0)).expect("events are taken");
    let (from, record) = listener.next_record().expect("the event comes");
    assert!(from == seq && matches!(record, Record::User(_)), "{record:?}");
    assert_eq!(speaker.members().expect("members are listed").len(), 1);
}

fn refused(agent: &Agent, token: Option<&[u8]>) -> u64 {
    let mut client = Client::connect(&agent.rpc, token).expect("the agent takes clients");
    client.stats().expect("it answers")[&b"dropped"[..]][&b"rpc"[..]]
        .to_string()
        .parse()
        .expect("it is a number")
}

fn subscriptions_may_end_in_the_middle_of_events(runtime: Runtime) {
    let agent = start(runtime, "127.64.3.1", &[]);
    serves(&agent);
    let before = agent.open_files();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = connect(&agent);
            while !over.load(Ordering::Relaxed) {
                client.event(event("storm", 100)).expect("events are taken");
            }
        });
        let clients: [fn(&Agent); 3] = [start_and_stop, say_a_part_and_go, hear_a_part_and_go];
        let agent = &agent;
        let clients = clients.map(|client| scope.spawn(move || client(agent)));
        let ended = clients.map(std::thread::ScopedJoinHandle::join);
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    });
    serves(&agent);
    wait_until("all connections are closed", || agent.open_files() <= before, || agent.output());
}

fn start_and_stop(agent: &Agent) {
    let mut client = connect(agent);
    for _ in 0..2000 {
        let events = client.stream("*").expect("a stream can be had");
        let lines = client.monitor("err").expect("a monitor can be had");
        client.stop(events).expect("it can be stopped");
        client.stop(lines).expect("it can be stopped");
    }
}

fn conversation() -> Vec<u8> {
    let monitor = Request::Monitor(Monitor { log_level: "debug".into() });
    let stop = |seq| Request::Stop(Stop { stop: seq });
    bytes(&[hello(), stream("user"), monitor, stop(1), stop(2), stream("*"), Request::Members])
}

/// Who is faster than the agent would make it turn others out.
fn wait_now_and_then(number: usize, agent: &Agent) {
    if number.is_multiple_of(50) {
        drop(connect(agent));
    }
}

fn say_a_part_and_go(agent: &Agent) {
    let said = conversation();
    for number in 0..1000 {
        wait_now_and_then(number, agent);
        // It may have gone before all is said.
        let _ = dial(agent).write_all(&said[..number % said.len()]);
    }
}

/// What was not read when a connection is closed resets it.
fn hear_a_part_and_go(agent: &Agent) {
    let said = conversation();
    for number in 0..1000 {
        wait_now_and_then(number, agent);
        let mut stream = dial(agent);
        stream.write_all(&said).expect("the agent listens");
        let mut part = vec![0; 1 + number % 40];
        stream.read_exact(&mut part).expect("the agent answers");
    }
}

/// A request with a body.
fn request(command: &str, body: &[u8]) -> Vec<u8> {
    [&map(&[("Command", &text(command)), ("Seq", &number(1))]), body].concat()
}

/// Bytes that claim, or are, more than any request.
fn claims() -> Vec<(&'static str, Vec<u8>)> {
    let header = |key: &str, value: &[u8]| map(&[("Seq", &number(1)), (key, value)]);
    let endless = |kind: u8| vec![kind, 0xff, 0xff, 0xff, 0xff];
    let nested = vec![0x91; 8_000_000];
    let tags: Vec<Vec<u8>> = (0..100_000).map(|tag| [text(tag.to_string()), text("x")].concat()).collect();
    let tags = [&[0xdf, 0, 1, 0x86, 0xa0][..], &tags.concat()].concat();
    let payload = [&[0xc6, 0, 0x98, 0x96, 0x80][..], &vec![0; 10_000_000]].concat();
    vec![
        ("a command of 4 GiB", header("Command", &endless(0xdb))),
        ("an unknown list of 4 G", header("X", &endless(0xdd))),
        ("an unknown map of 4 G", header("X", &endless(0xdf))),
        ("an unknown binary of 4 GiB", header("X", &endless(0xc6))),
        ("an unknown extension of 4 GiB", header("X", &[&endless(0xc9)[..], &[1]].concat())),
        ("an unknown field that is deep", header("X", &nested)),
        ("a header that is deep", nested.clone()),
        ("a payload of 4 GiB", request("event", &map(&[("Payload", &endless(0xc6))]))),
        ("a payload of 10 MB", request("event", &map(&[("Payload", &payload)]))),
        ("addresses without end", request("join", &map(&[("Existing", &endless(0xdd))]))),
        ("268 million addresses", request("join", &map(&[("Existing", b"\xdd\x10\x00\x00\x00")]))),
        ("addresses of lists", request("join", &map(&[("Existing", &list(std::slice::from_ref(&nested)))]))),
        ("tags without end", request("tags", &map(&[("Tags", &endless(0xdf))]))),
        ("100,000 tags", request("tags", &map(&[("Tags", &tags)]))),
        ("filters without end", request("query", &map(&[("FilterNodes", &endless(0xdd))]))),
        ("a body that is deep", request("stream", &nested)),
        ("a key of 4 GiB", request("install-key", &map(&[("Key", &endless(0xdb))]))),
        ("a token of 4 GiB", request("auth", &map(&[("AuthKey", &endless(0xdb))]))),
    ]
}

fn requests_that_claim_too_much_cost_their_connection_only(runtime: Runtime) {
    let folder = Folder::new("claims");
    let config = folder.path("config.json");
    std::fs::write(&config, r#"{"rpc_auth": "secret"}"#).expect("the file can be written");
    let agent = start(runtime, "127.64.4.1", &[&format!("-config-file={}", config.display())]);
    let address = agent.rpc.parse().expect("it is an address");
    let before = (agent.status("VmRSS"), refused(&agent, Some(b"secret")));
    let token = Request::Auth(Auth { auth_key: "secret".into() });
    let introductions = [bytes(&[]), bytes(&[hello()]), bytes(&[hello(), token])];
    for introduction in &introductions {
        for (what, claim) in claims() {
            let refused_before = refused(&agent, Some(b"secret"));
            // The agent closes the connection, whatever is still to come.
            say(address, &[&introduction[..], &claim].concat());
            assert_eq!(refused(&agent, Some(b"secret")), refused_before + 1, "{what}");
        }
    }
    assert_eq!(refused(&agent, Some(b"secret")), before.1 + 3 * claims().len() as u64);
    let grown = agent.status("VmHWM") - before.0;
    assert!(grown < GROWTH, "grown by {grown} KiB");
}

fn a_client_that_does_not_read_holds_up_nobody(runtime: Runtime) {
    let agent = start(runtime, "127.64.5.1", &["-log-level=debug"]);
    serves(&agent);
    let (before, since) = (agent.status("VmRSS"), Instant::now());
    let mut deaf = connect(&agent);
    let seq = deaf.stream("user").expect("a stream can be had");
    deaf.monitor("trace").expect("a monitor can be had");
    let mut busy = connect(&agent);
    const EVENTS: usize = 12_000;
    for _ in 0..EVENTS {
        busy.event(event("noise", 400)).expect("events are taken");
    }
    serves(&agent);
    agent.wait_for("Dropping event to ipc.client");
    let (grown, seconds) = (agent.status("VmHWM") - before, since.elapsed().as_secs() as usize);
    assert!(grown < GROWTH, "grown by {grown} KiB");
    // Each event is logged when it is asked for and when it comes; what is lost is told once in a second.
    let said = agent.output();
    let told = count(&said, "Dropping");
    assert!(told <= 2 * (seconds + 2), "{told} lines in {seconds} s");
    assert!(said.lines().count() < 3 * EVENTS, "{} lines", said.lines().count());
    // The connection is as good as before, and gets what comes when it is read again.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                busy.event(event("marker", 0)).expect("events are taken");
                std::thread::yield_now();
            }
        });
        deaf.set_record_timeout(Some(PATIENCE));
        let is_marker = |(from, record): &(u64, Record)| match record {
            Record::User(event) => *from == seq && event.name == "marker",
            _ => false,
        };
        while !is_marker(&deaf.next_record().expect("records come")) {}
        over.store(true, Ordering::Relaxed);
    });
}

fn clients_that_hold_streams_keep_nobody_out(runtime: Runtime) {
    let agent = start(runtime, "127.64.6.1", &[]);
    let before = agent.status("VmRSS");
    let greeting = bytes(&[hello(), stream("user"), stream("*"), stream("member-join")]);
    let mut held: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut connection = dial(&agent);
            connection.write_all(&greeting).expect("the agent listens");
            connection.read_exact(&mut [0]).expect("the agent answers");
            connection
        })
        .collect();
    serves(&agent);
    let mut speaker = connect(&agent);
    for _ in 0..100 {
        speaker.event(event("noise", 400)).expect("events are taken");
    }
    let newest = held.last_mut().expect("there are some");
    let mut heard = Vec::new();
    while !heard.windows(5).any(|window| window == b"noise") {
        let mut part = [0; 4096];
        let length = newest.read(&mut part).expect("it is still connected");
        assert!(length > 0, "the newest client is not turned out");
        heard.extend_from_slice(&part[..length]);
    }
    // The oldest stays as well: those in the middle had to give way.
    let mut rest = Vec::new();
    let closed = held[140].read_to_end(&mut rest);
    assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    let grown = agent.status("VmHWM") - before;
    assert!(grown < GROWTH, "grown by {grown} KiB");
    assert!(agent.open_files() < 400, "{} files", agent.open_files());
}

fn clients_that_say_half_are_answered_or_waited_for(runtime: Runtime) {
    let agent = start(runtime, "127.64.7.1", &[]);
    let silent: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut connection = dial(&agent);
            let greeting = bytes(&[hello(), Request::Members]);
            connection.write_all(&greeting[..number % greeting.len()]).expect("the agent listens");
            connection
        })
        .collect();
    serves(&agent);
    // What was asked before a client has closed its side is answered, and then the agent closes too.
    let query = Query { name: "q".into(), timeout: 100_000_000, ..Query::default() };
    let mut connection = dial(&agent);
    connection.write_all(&bytes(&[hello(), Request::Members, Request::Query(query)])).expect("it listens");
    connection.shutdown(Shutdown::Write).expect("a side can be closed");
    let mut answers = Vec::new();
    connection.read_to_end(&mut answers).expect("the agent closes its side");
    let headers = answers.windows(4).filter(|window| window == b"\xa3Seq").count();
    assert_eq!(headers, 3, "{}", String::from_utf8_lossy(&answers));
    drop(silent);
    serves(&agent);
}
