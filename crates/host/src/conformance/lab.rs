//! What the checks are made of: agents on threads of their own, clients, peers, and what the process holds.
//!
//! Nothing here waits for ever: what must happen is waited for with [`PATIENCE`], and what nobody announces is
//! looked at again and again.

use super::Run;
use crate::bind;
use crate::boot::{Boot, Kept, Sockets};
use crate::inbox::{Arrival, Sender};
use crate::machine;
use crate::multicast::Pair;
use nix::unistd::{Pid, gettid};
use socket2::{Domain, SockRef, Socket as Raw, Type};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use villein_agent::config::Config;
use villein_agent::io::Signal;
use villein_core::config::Config as NodeConfig;
use villein_core::config::Profile;
use villein_core::member::WireAddr;
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::wire::message::{Ack, Message, Ping, StreamMessage};
use villein_core::wire::serf::{self, Codec, Parts, Settings, Side, StreamReader};
use villein_rpc::Client;

/// How long something that must happen may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at what nobody announces.
const GLANCE: Duration = Duration::from_millis(2);
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
        self.wait_for_times(wanted, 1);
    }

    /// Waits until it has been printed so often.
    pub(crate) fn wait_for_times(&self, wanted: &str, times: usize) {
        let (text, changed) = &*self.0;
        let text = text.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, outcome) = changed
            .wait_timeout_while(text, PATIENCE, |text| text.matches(wanted).count() < times)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!outcome.timed_out(), "{wanted:?} does not appear {times} times in:\n{}", *text);
    }

    pub(super) fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What an agent may be given besides its configuration.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) kept: Kept,
    pub(super) multicast: Vec<Pair>,
    /// Whether the signals of the process are its own.
    pub(super) signals: bool,
}

/// An agent on a thread of its own.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) screen: Screen,
    pub(super) turns: Arc<AtomicU64>,
    pub(super) gossip: SocketAddr,
    pub(super) rpc: SocketAddr,
    /// The system's number of its thread.
    pub(super) tid: Pid,
    inbox: Sender,
    thread: JoinHandle<io::Result<u8>>,
}

impl Running {
    pub(super) fn start(run: Run, name: &str, change: impl FnOnce(&mut Config)) -> Running {
        Running::start_with(run, name, Extras::default(), change)
    }

    pub(super) fn start_with(
        run: Run,
        name: &str,
        extras: Extras,
        change: impl FnOnce(&mut Config),
    ) -> Running {
        let gossip = bind::gossip(LOOPBACK, 0).expect("there are free ports");
        let rpc = bind::rpc("127.0.0.1:0").expect("there are free ports");
        let rpc_addr = rpc.listener.local_addr().expect("it is bound");
        let gossip_addr = SocketAddr::new(LOOPBACK, gossip.port);
        let mut config = config(name, gossip_addr, &rpc.shown);
        change(&mut config);
        let screen = Screen::default();
        let sockets = Sockets::new(gossip, rpc.listener, extras.multicast);
        let boot = Boot::new(config, sockets, extras.kept, screen.clone())
            .expect("the machine has a thread and a seed");
        if extras.signals {
            boot.watch_signals().expect("signals can be watched");
        }
        let (inbox, turns) = (boot.inbox.clone(), boot.driver.turns());
        let (begins, begun) = channel();
        let thread = thread::spawn(move || {
            begins.send(gettid()).expect("somebody waits for it");
            run(boot)
        });
        let tid = begun.recv().expect("the thread begins");
        Running { screen, turns, gossip: gossip_addr, rpc: rpc_addr, tid, inbox, thread }
    }

    /// One that has nothing more to do for its start.
    pub(super) fn ready(run: Run, name: &str) -> Running {
        Running::ready_with(run, name, |_| {})
    }

    pub(super) fn ready_with(run: Run, name: &str, change: impl FnOnce(&mut Config)) -> Running {
        let agent = Running::start(run, name, change);
        agent.screen.wait_for("==> Log data will now stream in");
        agent
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.inbox.put_blocking(Arrival::Signal(signal)).expect("the agent runs");
    }

    /// Its status and what it has printed, once it has ended.
    pub(super) fn end(self) -> (u8, String) {
        let Running { screen, thread, .. } = self;
        assert!(eventually(|| thread.is_finished()), "the agent does not end:\n{}", screen.text());
        let status = thread.join().expect("a runtime does not panic").expect("its sockets can be waited for");
        (status, screen.text())
    }

    /// Ends it without any ceremony.
    pub(super) fn stop(self) {
        self.signal(Signal::Terminate);
        assert_eq!(self.end().0, 1);
    }

    /// A connection of a client that has said nothing yet.
    pub(super) fn client(&self) -> TcpStream {
        connect(self.rpc)
    }

    /// A client that has shaken hands.
    pub(super) fn greeted(&self) -> TcpStream {
        let mut client = self.client();
        client.write_all(&handshake()).expect("the agent listens");
        assert_eq!(read(&mut client, HELLO.len()), HELLO);
        client
    }

    /// A client that knows the words.
    pub(super) fn rpc_client(&self) -> Client {
        let mut client = Client::connect(&self.rpc.to_string(), None).expect("the RPC port listens");
        client.set_reply_timeout(Some(PATIENCE));
        client
    }

    /// A connection to its gossip port.
    pub(super) fn peer(&self) -> TcpStream {
        connect(self.gossip)
    }

    /// Sees it work on all its sockets, which also takes it through several turns.
    pub(super) fn goes_on(&self) {
        let source = udp();
        source.send_to(&ping(7), self.gossip).expect("the loopback takes it");
        assert_eq!(Acks::new().of(&source), [7]);
        self.greeted();
        assert_eq!(ask(self.peer(), &stream_ping(9)), stream_ack(9));
    }
}

pub(crate) fn config(name: &str, gossip: SocketAddr, rpc_text: &str) -> Config {
    let mut node = NodeConfig::new(Text::from(name), WireAddr::from_ip(gossip.ip()), gossip.port());
    node.profile = Profile::LOCAL;
    // What is said can be compared with what was meant.
    node.compression = false;
    Config {
        profile_name: "local".to_owned(),
        rpc_text: rpc_text.to_owned(),
        log_level: Level::Debug,
        ..Config::new(node, machine::machine())
    }
}

/// Streams may take their time: nothing in a check with this is about a time limit.
pub(super) fn patient(config: &mut Config) {
    config.node.profile.tcp_timeout = Duration::from_mins(2);
}

/// The header of an answer without an error, up to its sequence number (rpc.md 3).
pub(super) const OK: &[u8] = b"\x82\xa5Error\xa0\xa3Seq";
/// The whole answer to [`handshake`].
pub(super) const HELLO: &[u8] = b"\x82\xa5Error\xa0\xa3Seq\x01";

pub(super) fn handshake() -> Vec<u8> {
    [&b"\x82\xa7Command\xa9handshake\xa3Seq\x01"[..], b"\x81\xa7Version\x01"].concat()
}

pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    stream.set_nodelay(true).expect("a socket takes the option");
    stream
}

pub(super) fn listen() -> TcpListener {
    TcpListener::bind((LOOPBACK, 0)).expect("a free port")
}

/// A connection that takes little while nobody reads from it: the smaller its buffer, the sooner the other side
/// notices.
pub(super) fn deaf(to: SocketAddr) -> TcpStream {
    let socket = Raw::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket takes the option");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    socket.connect(&to.into()).expect("somebody listens");
    socket.into()
}

/// Writes one piece again and again, for as long as the other side takes it; how often it was taken whole, and what
/// is left of the last piece. The connection does not wait from now on.
pub(super) fn write_until_full(stream: &mut TcpStream, piece: &[u8]) -> (usize, Vec<u8>) {
    /// Bytes: more than the buffers of usual systems hold, and far more than an agent keeps.
    const MOST: usize = 64 << 20;
    stream.set_nonblocking(true).expect("a socket takes the option");
    let (mut whole, mut rest, mut refused_since) = (0, piece, None);
    loop {
        match stream.write(rest) {
            Ok(length) => {
                refused_since = None;
                rest = &rest[length..];
                if rest.is_empty() {
                    (whole, rest) = (whole + 1, piece);
                    assert!(whole * piece.len() < MOST, "it takes everything, and no answer was read");
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The system moves bytes from one buffer to the other for a moment after the last was read.
                if refused_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(200) {
                    break;
                }
                thread::sleep(GLANCE);
            }
            Err(error) => panic!("the connection breaks after {whole} pieces: {error}"),
        }
    }
    (whole, rest.to_vec())
}

pub(super) fn udp() -> UdpSocket {
    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    socket
}

pub(super) fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("the agent answers");
    bytes
}

/// Asks, and reads until the other side has no more to say.
pub(super) fn ask(mut stream: TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("the agent listens");
    read_to_end(&mut stream)
}

pub(super) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}

/// Reads until so many answers have begun with `mark`.
pub(super) fn read_answers(client: &mut TcpStream, mark: &[u8], count: usize) {
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

/// Waits until the other side has closed the connection, in whatever way, having said nothing.
pub(super) fn see_the_end(stream: &mut TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("nothing was to be said"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Ends a connection with a reset.
pub(super) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket takes the option");
    drop(stream);
}

/// A codec without any layers; it understands compression.
pub(super) fn codec() -> Codec {
    Codec::new(Settings {
        label: Vec::new(),
        skip_inbound_label_check: false,
        keyring: None,
        verify_incoming: false,
        verify_outgoing: false,
        compression: false,
    })
}

/// A ping that is answered to where it came from.
pub(super) fn ping(seq: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    serf::encode(&Message::Ping(Ping { seq, ..Ping::default() }), &mut bytes);
    bytes
}

pub(super) fn stream_ping(seq: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    serf::encode_stream_ping(&Ping { seq, ..Ping::default() }, &mut bytes);
    bytes
}

/// The answer to a [`stream_ping`] of an agent that does not compress.
pub(super) fn stream_ack(seq: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    serf::encode_stream_ack(&Ack { seq, payload: None }, &mut bytes);
    bytes
}

/// Reads the answers to pings out of datagrams, where other messages may ride with them.
#[derive(Debug)]
pub(super) struct Acks {
    codec: Codec,
    parts: Parts,
    buffer: Vec<u8>,
}

impl Acks {
    pub(super) fn new() -> Acks {
        Acks { codec: codec(), parts: Parts::default(), buffer: vec![0; 65_536] }
    }

    /// The numbers of the pings that the next datagram answers.
    pub(super) fn of(&mut self, source: &UdpSocket) -> Vec<u32> {
        let length = source.recv(&mut self.buffer).expect("pings are answered");
        self.codec.open(&self.buffer[..length], &mut self.parts).expect("it is understood");
        let numbers = self.parts.iter().filter_map(|part| match serf::decode(part) {
            Ok(Message::Ack(ack)) => Some(ack.seq),
            _ => None,
        });
        numbers.collect()
    }
}

/// Reads the one message that a dialling agent sends; all its bytes.
pub(super) fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let (mut reader, mut codec, mut bytes) = (StreamReader::new(Side::Accepted), codec(), Vec::new());
    loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).expect("the agent asks");
        assert_ne!(length, 0, "the connection ended within a request");
        bytes.extend_from_slice(&chunk[..length]);
        reader.push(&chunk[..length]).expect("it is not too much");
        if reader.poll(&mut codec).expect("it is understood") {
            assert!(matches!(reader.message(), Ok(StreamMessage::PushPull(_))));
            return bytes;
        }
    }
}

/// What this process holds of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

impl Held {
    pub(super) fn now() -> Held {
        Held { descriptors: descriptors().len(), threads: threads().len() }
    }

    /// What is held once nothing has changed for a while: an agent that has just begun does not hold all yet that it
    /// waits with, and one that has just answered still holds what it answered on.
    pub(super) fn at_rest() -> Held {
        const WHILE: Duration = Duration::from_millis(50);
        let (mut last, mut since) = (Held::now(), Instant::now());
        let is_at_rest = eventually(|| {
            let now = Held::now();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= WHILE
        });
        assert!(is_at_rest, "something comes and goes all the time: {last:?}");
        last
    }

    /// What is held when there are no more threads than that; what they had is given back.
    pub(super) fn threads_come_back(self) -> Held {
        Held { descriptors: usize::MAX, ..self }.comes_back();
        Held::now()
    }

    /// Waits until no more is held than that.
    pub(super) fn comes_back(self) {
        let mut last = Held::now();
        let is_back = eventually(|| {
            last = Held::now();
            last.descriptors <= self.descriptors && last.threads <= self.threads
        });
        let (descriptors, threads) = (descriptors(), threads());
        assert!(is_back, "{last:?} stay, and there were {self:?}: {descriptors:?} {threads:?}");
    }
}

/// What the descriptors of this process lead to.
fn descriptors() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").expect("Linux says what it has given");
    // One that is closed meanwhile leads nowhere.
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// The names of the threads of this process.
fn threads() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux says what it has given");
    let names = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok());
    // The kernel's own, which do the work of io_uring, come and go as it likes.
    names.filter(|name| !name.starts_with("iou-")).collect()
}

/// Whether this comes true in time.
pub(super) fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(GLANCE);
    }
    true
}
