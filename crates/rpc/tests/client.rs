//! The client against a scripted agent on a real socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use villein_rpc::request::{Auth, Handshake, Join, MemberFilter, Query, Request, Stream};
use villein_rpc::response::{
    Joined, KeyReport, Member, QueryAnswer, QueryRecord, Record, Reply, ResponseHeader, UserEvent, refusal,
};
use villein_rpc::{Client, ConnectError, Decoder, RpcError, Text};

/// The agent's end of one connection.
struct Agent {
    socket: TcpStream,
    decoder: Decoder,
}

impl Agent {
    fn next(&mut self) -> Option<(u64, Request)> {
        let mut chunk = [0; 512];
        loop {
            match self.decoder.next_request().expect("the client speaks the protocol") {
                Some((header, request)) => return Some((header.seq, request)),
                None => match self.socket.read(&mut chunk) {
                    Ok(len) if len > 0 => self.decoder.push(&chunk[..len]),
                    _ => return None,
                },
            }
        }
    }

    /// Takes the next request, which is to have this number and command.
    fn expect(&mut self, seq: u64, command: &str) -> Request {
        let (of, request) = self.next().expect("a request");
        assert_eq!((of, request.command()), (seq, command.as_bytes()));
        request
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the client is there");
    }

    fn header(&mut self, seq: u64, error: &str) {
        let mut bytes = Vec::new();
        ResponseHeader { seq, error: error.into() }.encode(&mut bytes);
        self.send(&bytes);
    }

    fn reply(&mut self, seq: u64, error: &str, body: &Reply) {
        self.header(seq, error);
        let mut bytes = Vec::new();
        body.encode(&mut bytes);
        self.send(&bytes);
    }

    fn record(&mut self, seq: u64, record: &Record) {
        self.header(seq, "");
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.send(&bytes);
    }

    fn handshake(&mut self) {
        let handshake = self.expect(1, "handshake");
        assert_eq!(handshake, Request::Handshake(Handshake { version: 1 }));
        self.header(1, "");
    }
}

/// Runs `script` for one connection; gives its address.
fn agent(script: impl FnOnce(Agent) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("it is bound").to_string();
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the client connects");
        script(Agent { socket, decoder: Decoder::new() });
    });
    (addr, thread)
}

fn member(name: &str) -> Member {
    Member {
        name: name.into(),
        addr: vec![127, 0, 0, 1],
        port: 7946,
        status: "alive".into(),
        ..Member::default()
    }
}

fn user_event(name: &str) -> Record {
    Record::User(UserEvent { ltime: 1, name: name.into(), payload: None, coalesce: false })
}

#[test]
fn a_session_begins_with_handshake_and_token() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        let auth = agent.expect(2, "auth");
        assert_eq!(auth, Request::Auth(Auth { auth_key: "sekret".into() }));
        assert!(!format!("{auth:?}").contains("sekret"));
        agent.header(2, "");
        agent.expect(3, "members");
        agent.reply(3, "", &Reply::Members(vec![member("alpha"), member("beta")]));
        assert_eq!(agent.next(), None);
    });
    let mut client = Client::connect(&addr, Some(b"sekret")).expect("a session");
    assert_eq!(client.members().expect("members"), [member("alpha"), member("beta")]);
    drop(client);
    thread.join().expect("the script ran");
}

#[test]
fn connecting_fails_in_the_words_that_scripts_know() {
    let words =
        |addr: &str, token: Option<&[u8]>| Client::connect(addr, token).expect_err("no session").to_string();

    let (addr, thread) = agent(|mut agent| {
        agent.expect(1, "handshake");
        agent.header(1, refusal::UNSUPPORTED_VERSION);
    });
    assert_eq!(words(&addr, None), "Unsupported IPC version");
    thread.join().expect("the script ran");

    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        agent.expect(2, "auth");
        agent.header(2, refusal::INVALID_TOKEN);
    });
    assert_eq!(words(&addr, Some(b"wrong")), "Invalid authentication token");
    thread.join().expect("the script ran");

    let (addr, thread) = agent(drop);
    assert_eq!(words(&addr, None), "client closed");
    thread.join().expect("the script ran");

    let (addr, thread) = agent(|mut agent| {
        agent.expect(1, "handshake");
        agent.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(agent.next(), None);
    });
    assert_eq!(words(&addr, None), "client closed");
    thread.join().expect("the script ran");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    assert_eq!(words(&addr, None), format!("dial tcp {addr}: connect: connection refused"));
    assert_eq!(words("", None), "dial tcp: missing address");
    assert!(matches!(Client::connect("127.0.0.1", None), Err(ConnectError::Address(_))));
}

#[test]
fn a_silent_agent_is_given_up_by_name() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        agent.expect(2, "stats");
        assert_eq!(agent.next(), None);
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    client.set_reply_timeout(Some(Duration::from_millis(20)));
    let error = client.stats().expect_err("no answer");
    assert_eq!(error.to_string(), format!("no answer from {addr} within 20ms"));
    assert!(matches!(client.members(), Err(RpcError::Closed)), "the connection is given up");
    thread.join().expect("the script ran");
}

#[test]
fn bodies_are_read_after_errors_where_the_agent_sends_them() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        agent.expect(2, "members-filtered");
        agent.reply(2, "Failed to compile regex: [", &Reply::Members(Vec::new()));
        agent.expect(3, "join");
        agent.reply(3, "1 error occurred", &Reply::Joined(Joined { num: 0 }));
        agent.expect(4, "list-keys");
        agent.reply(
            4,
            "1/1 nodes reported failure",
            &Reply::Keys(KeyReport { num_err: 1, ..KeyReport::default() }),
        );
        agent.expect(5, "event");
        agent.header(5, "user event exceeds configured limit of 512 bytes before encoding");
        agent.expect(6, "join");
        agent.reply(6, "", &Reply::Joined(Joined { num: 2 }));
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    let filter = MemberFilter { name: "[".into(), ..MemberFilter::default() };
    let error = client.members_filtered(filter).expect_err("a bad expression");
    assert_eq!(error.to_string(), "Failed to compile regex: [");
    assert!(
        matches!(client.join(Join::default()), Err(RpcError::Refused(text)) if text == "1 error occurred")
    );
    let answer = client.list_keys().expect("an answer");
    assert_eq!(answer.error, Some("1/1 nodes reported failure".into()));
    assert_eq!(answer.report.num_err, 1);
    assert!(matches!(client.event(villein_rpc::request::UserEvent::default()), Err(RpcError::Refused(_))));
    assert_eq!(client.join(Join::default()).expect("joined"), 2);
    thread.join().expect("the script ran");
}

#[test]
fn a_missing_token_is_said_without_a_body_and_perhaps_twice() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        for seq in [2, 3] {
            agent.next().expect("a request");
            agent.header(seq, refusal::AUTHENTICATION_REQUIRED);
            agent.header(seq, refusal::AUTHENTICATION_REQUIRED);
        }
        agent.expect(4, "stats");
        agent.header(4, refusal::AUTHENTICATION_REQUIRED);
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    let required = |error: RpcError| assert_eq!(error.to_string(), "Authentication required");
    required(client.join(Join::default()).expect_err("refused"));
    required(client.members_filtered(MemberFilter::default()).expect_err("refused"));
    required(client.stats().expect_err("refused"));
    thread.join().expect("the script ran");
}

#[test]
fn answers_to_a_query_end_with_done_or_with_an_error() {
    let answer = QueryAnswer::Response { from: Text::from(&b"b\xffta"[..]), payload: Some(b"42".to_vec()) };
    let sent = answer.clone();
    let (addr, thread) = agent(move |mut agent| {
        agent.handshake();
        agent.expect(2, "query");
        agent.header(2, "");
        agent.record(2, &Record::Answer(QueryRecord::Answer(QueryAnswer::Ack { from: "alpha".into() })));
        agent.record(2, &Record::Answer(QueryRecord::Answer(sent)));
        for _ in 0..3000 {
            agent.record(2, &Record::Answer(QueryRecord::Answer(QueryAnswer::Ack { from: "".into() })));
        }
        agent.record(2, &Record::Answer(QueryRecord::Done));
        agent.expect(3, "query");
        agent.header(3, "");
        agent.record(3, &Record::Answer(QueryRecord::Answer(QueryAnswer::Ack { from: "alpha".into() })));
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    let answers: Vec<_> =
        client.query(Query::default()).expect("it started").map(|item| item.expect("an answer")).collect();
    assert_eq!(answers, [QueryAnswer::Ack { from: "alpha".into() }, answer]);

    let mut answers = client.query(Query::default()).expect("it started");
    assert!(matches!(answers.next(), Some(Ok(QueryAnswer::Ack { .. }))));
    assert!(matches!(answers.next(), Some(Err(RpcError::Closed))));
    assert!(answers.next().is_none());
    thread.join().expect("the script ran");
}

#[test]
fn records_of_several_subscriptions_arrive_between_answers() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        let stream = agent.expect(2, "stream");
        assert_eq!(stream, Request::Stream(Stream { filter: "*".into() }));
        agent.header(2, "");
        agent.record(2, &user_event("before"));
        agent.expect(3, "monitor");
        agent.record(2, &user_event("between"));
        agent.header(3, "");
        agent.record(3, &Record::Log("a line".into()));
        agent.expect(4, "stop");
        agent.record(2, &user_event("too late"));
        agent.header(4, "");
        agent.record(2, &user_event("too late"));
        agent.record(3, &Record::Log("last line".into()));
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    let stream = client.stream("*").expect("a stream");
    let monitor = client.monitor("INFO").expect("a monitor");
    assert_eq!(client.next_record().expect("a record"), (stream, user_event("before")));
    assert_eq!(client.next_record().expect("a record"), (stream, user_event("between")));
    assert_eq!(client.next_record().expect("a record"), (monitor, Record::Log("a line".into())));
    client.stop(stream).expect("it always succeeds");
    assert_eq!(client.next_record().expect("a record"), (monitor, Record::Log("last line".into())));
    assert!(matches!(client.next_record(), Err(RpcError::Closed)));
    thread.join().expect("the script ran");
}

#[test]
fn a_query_that_is_left_early_does_not_disturb_what_follows() {
    let (addr, thread) = agent(|mut agent| {
        agent.handshake();
        agent.expect(2, "stream");
        agent.header(2, "");
        agent.expect(3, "query");
        agent.header(3, "");
        agent.record(2, &user_event("during the query"));
        for _ in 0..2 {
            agent.record(3, &Record::Answer(QueryRecord::Answer(QueryAnswer::Ack { from: "alpha".into() })));
        }
        agent.record(3, &Record::Answer(QueryRecord::Done));
        agent.expect(4, "members");
        agent.reply(4, "", &Reply::Members(Vec::new()));
    });
    let mut client = Client::connect(&addr, None).expect("a session");
    let stream = client.stream("*").expect("a stream");
    let mut answers = client.query(Query::default()).expect("it started");
    assert!(matches!(answers.next(), Some(Ok(QueryAnswer::Ack { .. }))));
    drop(answers);
    assert_eq!(client.members().expect("members"), []);
    assert_eq!(client.next_record().expect("a record"), (stream, user_event("during the query")));
    thread.join().expect("the script ran");
}
