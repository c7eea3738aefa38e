//! The client against a real Serf agent, when one is installed.
//!
//! Without the `serf` program these tests say so and pass; with `VILLEIN_REQUIRE_INTEROP` in the environment
//! they fail instead.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use villein_rpc::request::{ForceLeave, Join, MemberFilter, Query, Respond, TagChange, UserEvent};
use villein_rpc::response::{QueryAnswer, Record};
use villein_rpc::{Client, RpcError, Text};

/// No answer of a loopback agent takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent; ends with the value.
struct Serf {
    child: Child,
    /// Kept open: the agent dies when it cannot print.
    _output: BufReader<ChildStdout>,
    ip: IpAddr,
}

impl Drop for Serf {
    fn drop(&mut self) {
        // It may have left by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serf {
    /// Starts an agent on a loopback address of its own; `None` when Serf is not installed.
    fn start(number: u8, more: &[&str]) -> Option<Serf> {
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = IpAddr::from([127, 64 + number, high, low]);
        let spawned = Command::new("serf")
            .args(["agent", "-node=alpha", "-tag=role=web"])
            .arg(format!("-bind={ip}:7946"))
            .arg(format!("-rpc-addr={ip}:7373"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("SKIPPED: the program `serf` does not start: {error}");
                assert!(std::env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(), "{reason}");
                // Past the test runner, which shows nothing of a test that passes.
                let _ = writeln!(std::io::stderr(), "{reason}");
                return None;
            }
        };
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("Serf agent running!") {
            line.clear();
            let len = output.read_line(&mut line).expect("the agent prints text");
            assert!(len > 0, "the agent ended before it ran");
        }
        Some(Serf { child, _output: output, ip })
    }

    fn client(&self, token: Option<&[u8]>) -> Client {
        let mut client = Client::connect(&format!("{}:7373", self.ip), token).expect("a session");
        client.set_record_timeout(Some(PATIENCE));
        client
    }
}

#[test]
fn commands_of_a_lone_agent() {
    let Some(serf) = Serf::start(1, &[]) else { return };
    let mut client = serf.client(None);

    let stats = client.stats().expect("stats");
    assert_eq!(stats[&b"agent"[..]][&b"name"[..]], "alpha");
    assert_eq!(stats[&b"serf"[..]][&b"members"[..]], "1");

    let members = client.members().expect("members");
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].ip(), Some(serf.ip));
    assert_eq!((members[0].port, &members[0].status), (7946, &"alive".into()));
    assert_eq!(members[0].tags[&b"role"[..]], "web");

    let filter = MemberFilter { status: "left".into(), ..MemberFilter::default() };
    assert_eq!(client.members_filtered(filter).expect("members"), []);

    let located = client.get_coordinate("alpha").expect("a coordinate");
    assert!(located.ok);
    assert_eq!(located.coord.vec.len(), 8);
    assert!(!client.get_coordinate("nobody").expect("an answer").ok);

    let set = TagChange { tags: [("a".into(), "1".into())].into(), ..TagChange::default() };
    client.tags(set).expect("tags");
    assert_eq!(client.members().expect("members")[0].tags.len(), 2);

    let nowhere = format!("{}:1", serf.ip);
    let error = client
        .join(Join { existing: vec![nowhere.clone().into()], replay: false })
        .expect_err("nobody there");
    assert!(matches!(&error, RpcError::Refused(_)));
    assert!(error.to_string().contains(&nowhere), "{error}");
    client.force_leave(ForceLeave { node: "nobody".into(), prune: false }).expect("it succeeds");

    let large = UserEvent { payload: Some(vec![0; 1000]), ..UserEvent::default() };
    let error = client.event(large).expect_err("too large");
    assert_eq!(error.to_string(), "user event exceeds configured limit of 512 bytes before encoding");

    let answer = client.list_keys().expect("an answer");
    assert_eq!(answer.error, Some("1/1 nodes reported failure".into()));
    assert_eq!(answer.report.messages[&b"alpha"[..]], "Keyring is empty (encryption not enabled)");
    let answer = client.install_key("***").expect("an answer");
    assert!(answer.error.is_some_and(|text| text.starts_with(b"illegal base64 data")));

    let bad = MemberFilter { name: "[".into(), ..MemberFilter::default() };
    assert!(matches!(client.members_filtered(bad), Err(RpcError::Closed)));

    serf.client(None).leave().expect("it leaves");
}

#[test]
fn events_queries_and_logs() {
    let Some(serf) = Serf::start(2, &[]) else { return };
    let mut listener = serf.client(None);
    let stream = listener.stream("user,query").expect("a stream");
    // Serf answers `stream` before it subscribes; the next answer on this connection comes after both.
    listener.stats().expect("stats");

    let mut client = serf.client(None);
    let event = UserEvent {
        name: Text::from(&b"\xff\x00"[..]),
        payload: Some(b"\x00\xfe".to_vec()),
        coalesce: false,
    };
    client.event(event.clone()).expect("an event");
    let (of, record) = listener.next_record().expect("a record");
    let Record::User(seen) = record else { panic!("a user event: {record:?}") };
    assert_eq!((of, seen.name, seen.payload), (stream, event.name, event.payload));

    let query = Query { name: "load".into(), request_ack: true, timeout: 2_000_000_000, ..Query::default() };
    let answers = client.query(query).expect("a query");
    let (_, record) = listener.next_record().expect("a record");
    let Record::Query(asked) = record else { panic!("a query: {record:?}") };
    listener.respond(Respond { id: asked.id, payload: Some(b"0.5".to_vec()) }).expect("an answer is taken");
    let twice = listener.respond(Respond { id: asked.id, payload: None }).expect_err("once only");
    assert_eq!(twice.to_string(), "failed to respond to key query: response already sent");
    let answers: Vec<_> = answers.map(|item| item.expect("the connection is not lost")).collect();
    let from = Text::from("alpha");
    let response = QueryAnswer::Response { from: from.clone(), payload: Some(b"0.5".to_vec()) };
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.contains(&QueryAnswer::Ack { from }) && answers.contains(&response), "{answers:?}");

    let monitor = client.monitor("debug").expect("a monitor");
    let (of, record) = client.next_record().expect("a line");
    assert_eq!(of, monitor);
    assert!(matches!(&record, Record::Log(line) if line.contains(&b'[')), "{record:?}");
    let again = client.monitor("debug").expect_err("one is enough");
    assert_eq!(again.to_string(), "Monitor already exists");
    client.stop(monitor).expect("it stops");
    assert_eq!(client.members().expect("members").len(), 1);
}

#[test]
fn an_agent_with_a_token() {
    let dir = std::env::temp_dir().join(format!("villein-rpc-{}.json", std::process::id()));
    std::fs::write(&dir, r#"{"rpc_auth": "sekret"}"#).expect("a configuration file");
    let serf = Serf::start(3, &[&format!("-config-file={}", dir.display())]);
    std::fs::remove_file(&dir).expect("it is there");
    let Some(serf) = serf else { return };

    assert_eq!(serf.client(Some(b"sekret")).members().expect("members").len(), 1);
    let addr = format!("{}:7373", serf.ip);
    let error = Client::connect(&addr, Some(b"wrong")).expect_err("a wrong token");
    assert_eq!(error.to_string(), "Invalid authentication token");
    let mut client = serf.client(None);
    for _ in 0..2 {
        let error = client.members_filtered(MemberFilter::default()).expect_err("a token is needed");
        assert_eq!(error.to_string(), "Authentication required");
    }
}
