//! What every runtime must be able to do, tried with real agents, sockets and children.
//!
//! A runtime's tests call [`all`] with its run function. The checks know nothing of the runtime but that
//! function, and of the agent only what an operator sees: its output, its RPC port, its exit status. They
//! wait for events with generous limits and measure no speed; everything listens on free ports of the
//! loopback address.

use crate::bind;
use crate::boot::{Boot, Kept, Sockets};
use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::machine;
use crate::snapshot::Snapshot;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs, process};
use villein_agent::config::Config;
use villein_agent::handler::Handler;
use villein_agent::io::Signal;
use villein_core::config::Config as NodeConfig;
use villein_core::config::Profile;
use villein_core::member::WireAddr;
use villein_core::note::Level;
use villein_core::text::Text;

/// The run function of a runtime.
pub type Run = fn(Boot) -> io::Result<u8>;

/// A name for people, and what panics if the runtime lacks it.
type Check = (&'static str, fn(Run));

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Every check, in turn; panics at the first that fails.
pub fn all(run: Run) {
    let checks: [Check; 15] = [
        ("a signal ends the agent, and its last words are read", a_signal_ends_the_agent),
        ("a graceful leave ends with 0", a_graceful_leave),
        ("requests come in pieces and in piles", requests_in_pieces_and_piles),
        ("a client that asks much and reads everything gets all answers", a_long_pipeline),
        ("clients with large requests leave datagrams their room", large_requests_and_datagrams),
        ("a client that has said everything gets its answer", a_half_closed_client),
        ("a client that does not read holds up nobody", a_client_that_does_not_read),
        ("garbage ends its own connection only", garbage_from_a_client),
        ("the answer to a leave is delivered before the end", a_leave_over_rpc),
        ("agents find each other by name, over both transports", two_agents),
        ("a refused join ends the start", a_refused_join),
        ("a flood of datagrams is survived", a_flood),
        ("children run, and an idle agent sleeps", children_and_sleep),
        ("a script out of time is ended with its descendants", a_script_out_of_time),
        ("what is to be kept is on the disk at the end", what_is_kept),
    ];
    for (name, check) in checks {
        eprintln!("conformance: {name}");
        check(run);
    }
}

/// What an agent has printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screen(Arc<(Mutex<String>, Condvar)>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (text, changed) = &*self.0;
        text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(bytes));
        changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    pub(crate) fn wait_for(&self, wanted: &str) {
        let (text, changed) = &*self.0;
        let text = text.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, outcome) = changed
            .wait_timeout_while(text, PATIENCE, |text| !text.contains(wanted))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!outcome.timed_out(), "{wanted:?} does not appear in:\n{}", *text);
    }

    fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An agent on a thread of its own.
#[derive(Debug)]
struct Running {
    screen: Screen,
    inbox: Sender,
    turns: Arc<AtomicU64>,
    gossip: SocketAddr,
    rpc: SocketAddr,
    thread: JoinHandle<io::Result<u8>>,
}

impl Running {
    fn start(run: Run, name: &str, change: impl FnOnce(&mut Config)) -> Running {
        Running::start_with(run, name, Kept::default(), change)
    }

    fn start_with(run: Run, name: &str, kept: Kept, change: impl FnOnce(&mut Config)) -> Running {
        let gossip = bind::gossip(LOOPBACK, 0).expect("there are free ports");
        let rpc = bind::rpc("127.0.0.1:0").expect("there are free ports");
        let rpc_addr = rpc.listener.local_addr().expect("it is bound");
        let gossip_addr = SocketAddr::new(LOOPBACK, gossip.port);
        let mut config = config(name, gossip_addr, &rpc.shown);
        change(&mut config);
        let screen = Screen::default();
        let sockets = Sockets::new(gossip, rpc.listener, Vec::new());
        let boot =
            Boot::new(config, sockets, kept, screen.clone()).expect("the machine has a thread and a seed");
        let (inbox, turns) = (boot.inbox.clone(), boot.driver.turns());
        let thread = thread::spawn(move || run(boot));
        Running { screen, inbox, turns, gossip: gossip_addr, rpc: rpc_addr, thread }
    }

    /// One that has nothing more to do for its start.
    fn ready(run: Run, name: &str) -> Running {
        let agent = Running::start(run, name, |_| {});
        agent.screen.wait_for("==> Log data will now stream in");
        agent
    }

    fn signal(&self, signal: Signal) {
        self.inbox.put_blocking(Arrival::Signal(signal)).expect("the agent runs");
    }

    fn end(self) -> (u8, String) {
        let status =
            self.thread.join().expect("a runtime does not panic").expect("its sockets can be waited for");
        (status, self.screen.text())
    }

    /// Ends it without any ceremony.
    fn stop(self) {
        self.signal(Signal::Terminate);
        assert_eq!(self.end().0, 1);
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.rpc).expect("the RPC port listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        client
    }

    /// A client that has shaken hands.
    fn greeted(&self) -> TcpStream {
        let mut client = self.client();
        client.write_all(&handshake()).expect("the agent listens");
        assert_eq!(read(&mut client, HELLO.len()), HELLO);
        client
    }
}

pub(crate) fn config(name: &str, gossip: SocketAddr, rpc_text: &str) -> Config {
    let mut node = NodeConfig::new(Text::from(name), WireAddr::from_ip(gossip.ip()), gossip.port());
    node.profile = Profile::LOCAL;
    Config {
        profile_name: "local".to_owned(),
        rpc_text: rpc_text.to_owned(),
        log_level: Level::Debug,
        ..Config::new(node, machine::machine())
    }
}

/// The header of an answer without an error, up to its sequence number (rpc.md 3).
const OK: &[u8] = b"\x82\xa5Error\xa0\xa3Seq";
/// The whole answer to [`handshake`].
const HELLO: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x01";

fn handshake() -> Vec<u8> {
    [&b"\x82\xa7Command\xa9handshake\xa3Seq\x01"[..], b"\x81\xa7Version\x01"].concat()
}

fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).expect("the agent answers");
    bytes
}

/// Reads until so many answers have begun with `mark`.
fn read_answers(client: &mut TcpStream, mark: &[u8], count: usize) {
    let (mut seen, mut answers) = (Vec::new(), 0);
    while answers < count {
        let mut chunk = [0; 4096];
        let length = client.read(&mut chunk).expect("the agent answers");
        assert_ne!(length, 0, "the connection ended after {answers} answers");
        seen.extend_from_slice(&chunk[..length]);
        while let Some(at) = seen.windows(mark.len()).position(|window| window == mark) {
            seen.drain(..at + mark.len());
            answers += 1;
        }
    }
}

fn a_signal_ends_the_agent(run: Run) {
    let agent = Running::ready(run, "alpha");
    agent.signal(Signal::Terminate);
    let (status, text) = agent.end();
    assert_eq!(status, 1);
    assert!(text.contains("==> Caught signal: terminated\n"), "{text}");
    assert!(text.trim_end().ends_with("agent: shutdown complete"), "{text}");
}

fn a_graceful_leave(run: Run) {
    let agent = Running::ready(run, "alpha");
    agent.signal(Signal::Interrupt);
    assert_eq!(agent.end().0, 0);
}

fn requests_in_pieces_and_piles(run: Run) {
    const PILE: usize = 5000;
    let agent = Running::ready(run, "alpha");
    let mut client = agent.client();
    client.set_nodelay(true).expect("a socket takes the option");
    for byte in handshake() {
        client.write_all(&[byte]).expect("the agent listens");
    }
    assert_eq!(read(&mut client, HELLO.len()), HELLO);
    let mut pile = client.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || {
        let request: &[u8] = b"\x82\xa7Command\xa7members\xa3Seq\x02";
        pile.write_all(&request.repeat(PILE)).expect("the agent takes all requests");
    });
    read_answers(&mut client, OK, PILE);
    writer.join().expect("it only writes");
    agent.stop();
}

/// More requests in bytes than the agent keeps, and more answers than it writes unread.
fn a_long_pipeline(run: Run) {
    const PILE: usize = 5000;
    let agent = Running::ready(run, "alpha");
    let mut client = agent.greeted();
    let mut pile = client.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || {
        // Keys that nobody knows are skipped.
        let request =
            [b"\x83\xa7Command\xa5stats\xa3Seq\x02\xa4Skip\xda\x04\x00", &[b'x'; 1024][..]].concat();
        pile.write_all(&request.repeat(PILE)).expect("the agent takes all requests");
    });
    read_answers(&mut client, OK, PILE);
    writer.join().expect("it only writes");
    agent.stop();
}

fn large_requests_and_datagrams(run: Run) {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 16;
    const PAYLOAD: usize = 900 << 10;
    let agent = Running::ready(run, "alpha");
    let source = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
    let head = [
        &b"\x82\xa7Command\xa5event\xa3Seq\x02"[..],
        b"\x83\xa4Name\xa5large\xa8Coalesce\xc2\xa7Payload\xc6",
        &u32::try_from(PAYLOAD).expect("it is small").to_be_bytes(),
    ];
    let request = Arc::new([&head.concat()[..], &vec![0; PAYLOAD]].concat());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, request) = (agent.greeted(), request.clone());
            let (to, source) = (agent.gossip, source.try_clone().expect("a socket can be shared"));
            thread::spawn(move || {
                for _ in 0..REQUESTS {
                    client.write_all(&request).expect("the agent takes all requests");
                    // Of all clients together fewer than the inbox holds: each has its room whenever it comes.
                    for _ in 0..limits::INBOX_DATAGRAMS / (CLIENTS * REQUESTS) {
                        source.send_to(b"?", to).expect("the loopback takes it");
                    }
                }
                // The answer is an error, because no event may be that large.
                read_answers(&mut client, b"\xa3Seq\x02", REQUESTS);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is answered");
    }
    agent.signal(Signal::Terminate);
    let (_, text) = agent.end();
    assert!(!text.contains("faster than they are handled"), "{text}");
}

fn a_half_closed_client(run: Run) {
    let agent = Running::ready(run, "alpha");
    let mut client = agent.client();
    client.write_all(&handshake()).expect("the agent listens");
    client.shutdown(Shutdown::Write).expect("the connection is there");
    assert_eq!(read(&mut client, HELLO.len()), HELLO);
    assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    agent.stop();
}

fn a_client_that_does_not_read(run: Run) {
    let agent = Running::ready(run, "alpha");
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // The smaller its buffer, the sooner the agent notices.
    deaf.set_recv_buffer_size(4096).expect("a socket takes the option");
    deaf.connect(&agent.rpc.into()).expect("the RPC port listens");
    let mut deaf = TcpStream::from(deaf);
    deaf.write_all(&handshake()).expect("the agent listens");
    deaf.set_nonblocking(true).expect("a socket takes the option");
    let requests = b"\x82\xa7Command\xa5stats\xa3Seq\x02".repeat(1000);
    // As many as the agent takes without being heard.
    while deaf.write(&requests).is_ok_and(|length| length == requests.len()) {
        agent.greeted();
    }
    agent.greeted();
    agent.stop();
}

fn garbage_from_a_client(run: Run) {
    let agent = Running::ready(run, "alpha");
    let mut other = agent.greeted();
    for garbage in [&b"\xc1\xc1\xc1\xc1"[..], b"GET / HTTP/1.0\r\n\r\n", &[0x93; 4096]] {
        let mut client = agent.client();
        client.write_all(garbage).expect("the agent listens");
        // A reset is an end too: the agent need not read what it does not understand.
        let _ = client.read_to_end(&mut Vec::new());
    }
    other.write_all(b"\x82\xa7Command\xa7members\xa3Seq\x07").expect("this connection lives");
    assert_eq!(read(&mut other, OK.len() + 1), [OK, b"\x07"].concat());
    agent.stop();
}

fn a_leave_over_rpc(run: Run) {
    let agent = Running::ready(run, "alpha");
    let mut client = agent.greeted();
    client.write_all(b"\x82\xa7Command\xa5leave\xa3Seq\x09").expect("the agent listens");
    assert_eq!(read(&mut client, OK.len() + 1), [OK, b"\x09"].concat());
    assert_eq!(agent.end().0, 0);
}

fn two_agents(run: Run) {
    let alpha = Running::ready(run, "alpha");
    let port = alpha.gossip.port();
    let beta = Running::start(run, "beta", |config| config.start_join = vec![format!("localhost:{port}")]);
    beta.screen.wait_for("Join completed. Synced with 1 initial agents");
    beta.screen.wait_for("EventMemberJoin: alpha 127.0.0.1");
    alpha.screen.wait_for("EventMemberJoin: beta 127.0.0.1");
    alpha.signal(Signal::Interrupt);
    beta.screen.wait_for("EventMemberLeave: alpha 127.0.0.1");
    assert_eq!(alpha.end().0, 0);
    beta.stop();
}

fn a_refused_join(run: Run) {
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let nobody = UdpSocket::bind((LOOPBACK, 0)).and_then(|socket| socket.local_addr()).expect("a free port");
    let agent = Running::start(run, "alpha", |config| config.start_join = vec![nobody.to_string()]);
    let (status, text) = agent.end();
    assert_eq!(status, 1);
    assert!(text.contains(&format!("dial tcp {nobody}: connect: connection refused")), "{text}");
}

fn a_flood(run: Run) {
    let agent = Running::ready(run, "alpha");
    let source = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
    for number in 0..20_000_u32 {
        // What the system drops does not matter here.
        let _ = source.send_to(&number.to_be_bytes().repeat(25), agent.gossip);
    }
    agent.greeted();
    agent.stop();
}

fn children_and_sleep(run: Run) {
    const SLEEP: Duration = Duration::from_secs(3);
    /// Turns in that time. The node wakes a few times a second at most; a loop that spins makes thousands.
    const TURNS: u64 = 30;
    let handler =
        Handler::parse(b"member-join=echo \"$SERF_EVENT heard by $SERF_SELF_NAME\"; cat").expect("a handler");
    let agent = Running::start(run, "alpha", |config| config.handlers = vec![handler]);
    agent.screen.wait_for("member-join heard by alpha");
    let before = agent.turns.load(Ordering::Relaxed);
    thread::sleep(SLEEP);
    let turns = agent.turns.load(Ordering::Relaxed) - before;
    assert!(turns <= TURNS, "{turns} turns of an idle agent in {SLEEP:?}");
    agent.stop();
}

fn a_script_out_of_time(run: Run) {
    // Whoever is not ended holds the output open, and the script is given up, which has other words.
    let command = b"{timeout=100ms}member-join=echo started; sleep 1000 & sleep 1000";
    let handler = Handler::parse(command).expect("a handler");
    let agent = Running::start(run, "alpha", |config| config.handlers = vec![handler]);
    agent.screen.wait_for("timed out after 100ms: started");
    agent.stop();
}

fn what_is_kept(run: Run) {
    let path = env::temp_dir().join(format!("villein-conformance-{}.snapshot", process::id()));
    let (snapshot, _) = Snapshot::open(&path).expect("the directory can be written");
    let kept = Kept { snapshot: Some(snapshot), ..Kept::default() };
    let agent = Running::start_with(run, "alpha", kept, |config| config.node.snapshot = true);
    agent.screen.wait_for("EventMemberJoin: alpha");
    let line = format!("alive: alpha {}\n", agent.gossip);
    agent.stop();
    let text = fs::read_to_string(&path).expect("it is text");
    let removed = fs::remove_file(&path);
    assert!(text.contains(&line), "{text}");
    removed.expect("it was there");
}
