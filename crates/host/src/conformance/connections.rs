//! Connections: how many there may be, what they may cost, and that nothing of them stays behind.

use super::lab::{
    Acks, HELLO, Held, LOOPBACK, OK, PATIENCE, Running, ask, deaf, handshake, listen, patient, ping, read,
    read_answers, read_to_end, reset, see_the_end, stream_ack, stream_ping, udp, write_until_full,
};
use super::streams::{STATS, long_request, state_of};
use super::{Check, Run};
use crate::limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket as Raw, Type};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use villein_agent::io::Signal;
use villein_agent::limits::RPC_CONNECTIONS;
use villein_core::limits::ACCEPTED_STREAMS;
use villein_rpc::request::Join;

pub(super) const CHECKS: &[Check] = &[
    ("a client that does not read is not read from, and holds up nobody", a_client_that_does_not_read),
    ("clients with large requests leave datagrams their room", large_requests_and_datagrams),
    ("garbage ends its own connection only", garbage_from_a_client),
    ("a refused join ends the start", a_refused_join),
    ("connects that hang, and connections without an answer, come to an end", connects_that_hang),
    ("so many peers are served and no more, and their places come back", places_of_peers),
    ("so many clients are served, and a new one takes the place of an idle one", places_of_clients),
    ("a thousand connections leave nothing behind", a_thousand_connections),
    ("without free descriptors nothing is accepted, and everything else goes on", without_descriptors),
];

fn a_client_that_does_not_read(run: Run) {
    /// Requests in one piece.
    const PILE: usize = 20;
    let agent = Running::ready(run, "alpha");
    let mut client = deaf(agent.rpc);
    client.write_all(&handshake()).expect("the agent listens");
    // As many as the agent takes without being heard: they fill what it keeps of them, and the system's buffers.
    let pile = long_request().repeat(PILE);
    let (piles, rest) = write_until_full(&mut client, &pile);
    agent.goes_on();
    // Now it is heard, takes the last request, and answers all of them.
    client.set_nonblocking(false).expect("a socket takes the option");
    let mut writer = client.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || writer.write_all(&rest).expect("the agent takes what is left"));
    read_answers(&mut client, OK, 1 + (piles + 1) * PILE);
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

fn garbage_from_a_client(run: Run) {
    let agent = Running::ready(run, "alpha");
    let mut other = agent.greeted();
    for garbage in [&b"\xc1\xc1\xc1\xc1"[..], b"GET / HTTP/1.0\r\n\r\n", &[0x93; 4096]] {
        let mut client = agent.client();
        client.write_all(garbage).expect("the agent listens");
        // It need not read what it does not understand.
        see_the_end(&mut client);
    }
    other.write_all(b"\x82\xa7Command\xa7members\xa3Seq\x07").expect("this connection lives");
    assert_eq!(read(&mut other, OK.len() + 1), [OK, b"\x07"].concat());
    agent.stop();
}

fn a_refused_join(run: Run) {
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let nobody = UdpSocket::bind((LOOPBACK, 0)).and_then(|socket| socket.local_addr()).expect("a free port");
    let agent = Running::start(run, "alpha", |config| config.start_join = vec![nobody.to_string()]);
    let (status, text) = agent.end();
    assert_eq!(status, 1);
    assert!(text.contains(&format!("dial tcp {nobody}: connect: connection refused")), "{text}");
}

/// Where connections are neither made nor refused, because so many wait to be accepted.
#[derive(Debug)]
pub(super) struct BlackHole {
    pub(super) addr: SocketAddr,
    _listener: Raw,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    pub(super) fn new() -> BlackHole {
        let listener = Raw::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::new(LOOPBACK, 0).into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let addr = listener.local_addr().expect("it is bound").as_socket().expect("of IPv4");
        // On this machine a connection is made at once or not at all.
        let connect = || TcpStream::connect_timeout(&addr, Duration::from_millis(500)).ok();
        let waiting = std::iter::from_fn(connect).collect();
        BlackHole { addr, _listener: listener, _waiting: waiting }
    }
}

fn connects_that_hang(run: Run) {
    let agent = Running::ready_with(run, "alpha", |config| {
        config.node.profile.tcp_timeout = Duration::from_millis(300);
    });
    let (hole, mute) = (BlackHole::new(), listen());
    let mute_addr = mute.local_addr().expect("it is bound");
    let mut client = agent.rpc_client();
    let held = Held::at_rest();
    for _ in 0..2 {
        // More than are dialled at once: the last ones wait for a place of those that hang.
        let hanging = std::iter::repeat_n(hole.addr, 40).chain([mute_addr]);
        let existing = hanging.map(|addr| addr.to_string().as_str().into()).collect();
        let why = client.join(Join { existing, replay: false }).expect_err("nobody answers").to_string();
        let expected =
            [format!("dial tcp {}: i/o timeout", hole.addr), format!("read tcp {mute_addr}: i/o timeout")];
        assert_eq!(why.matches(&expected[0]).count(), 40, "{why}");
        assert_eq!(why.matches(&expected[1]).count(), 1, "{why}");
        // The system made this connection, and has it until somebody accepts it.
        let (mut made, _) = mute.accept().expect("it was made");
        let _ = std::io::Read::read_to_end(&mut made, &mut Vec::new());
    }
    held.comes_back();
    agent.goes_on();
    agent.stop();
}

/// Makes more connections than may be, all of which are there before anybody says a word.
fn crowd(agent: &Running) -> Vec<TcpStream> {
    (0..ACCEPTED_STREAMS + 200).map(|_| agent.peer()).collect()
}

/// The first of a crowd are served, and the others see that they are not.
fn are_served(crowd: &mut [TcpStream]) {
    let (served, refused) = crowd.split_at_mut(ACCEPTED_STREAMS);
    for peer in refused {
        see_the_end(peer);
    }
    for (peer, number) in served.iter_mut().zip(0..) {
        peer.write_all(&stream_ping(number)).expect("the agent listens");
        assert_eq!(read_to_end(peer), stream_ack(number));
    }
}

fn places_of_peers(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    let held = Held::at_rest();
    let mut first = crowd(&agent);
    are_served(&mut first);
    // Those that were answered do not hang up, and yet others find a place.
    let mut second = crowd(&agent);
    are_served(&mut second);
    let ours = first.len() + second.len();
    let most = held.descriptors + ours + limits::GOSSIP_CONNECTIONS;
    let now = Held::now().descriptors;
    assert!(now <= most, "{now} descriptors, of which {ours} are not the agent's");
    // Nor does anybody see them who is busy elsewhere.
    agent.greeted();
    drop((first, second));
    held.comes_back();
    are_served(&mut crowd(&agent));
    held.comes_back();
    agent.stop();
}

fn places_of_clients(run: Run) {
    const CLIENTS: usize = RPC_CONNECTIONS + 2 * (limits::RPC_CONNECTIONS - RPC_CONNECTIONS);
    let agent = Running::ready(run, "alpha");
    let held = Held::at_rest();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| agent.greeted()).collect();
    let (gone, served) = clients.split_at_mut(CLIENTS - RPC_CONNECTIONS);
    for client in gone {
        assert_eq!(read_to_end(client), b"");
    }
    for client in served {
        client.write_all(STATS).expect("the agent listens");
        read_answers(client, OK, 1);
    }
    let most = held.descriptors + CLIENTS + limits::RPC_CONNECTIONS;
    let now = Held::now().descriptors;
    assert!(now <= most, "{now} descriptors, of which {CLIENTS} are not the agent's");
    assert_eq!(ask(agent.peer(), &stream_ping(3)), stream_ack(3));
    drop(clients);
    held.comes_back();
    agent.goes_on();
    agent.stop();
}

/// What one of the thousand does.
type Deed = fn(&Running, &[u8]);

/// Everything that a peer or a client may do with a connection and then drop it.
const DEEDS: &[Deed] = &[
    |agent, _| drop(agent.peer()),
    |agent, _| drop(agent.client()),
    |agent, _| reset(agent.peer()),
    |agent, _| reset(agent.client()),
    |agent, state| drop(said(agent.peer(), &state[..state.len() / 2])),
    |agent, state| reset(said(agent.peer(), &state[..state.len() / 2])),
    |agent, _| drop(said(agent.client(), &handshake()[..9])),
    |agent, _| reset(said(agent.client(), &handshake()[..9])),
    |agent, state| drop(said(agent.peer(), state)),
    |agent, state| reset(said(agent.peer(), state)),
    |agent, state| assert_eq!(ask(agent.peer(), state), state),
    |agent, state| {
        let mut peer = said(agent.peer(), state);
        peer.shutdown(Shutdown::Write).expect("the connection is there");
        assert_eq!(read_to_end(&mut peer), state);
    },
    |agent, state| {
        let mut peer = said(agent.peer(), state);
        read(&mut peer, 1);
        reset(peer);
    },
    |agent, _| drop(said(agent.greeted(), &STATS.repeat(50))),
    |agent, _| reset(said(agent.greeted(), &STATS.repeat(50))),
    |agent, _| {
        let mut client = said(agent.greeted(), &STATS.repeat(50));
        read(&mut client, HELLO.len());
        reset(client);
    },
    |agent, _| {
        let mut client = said(agent.client(), &handshake());
        client.shutdown(Shutdown::Write).expect("the connection is there");
        assert_eq!(read_to_end(&mut client), HELLO);
    },
    |agent, _| see_the_end(&mut said(agent.client(), b"\xc1\xc1\xc1\xc1")),
    |agent, _| see_the_end(&mut said(agent.peer(), b"\xc1\xc1\xc1\xc1")),
];

fn said(mut stream: TcpStream, words: &[u8]) -> TcpStream {
    stream.write_all(words).expect("the agent listens");
    stream
}

fn a_thousand_connections(run: Run) {
    const CONNECTIONS: usize = 1000;
    /// At the same time.
    const HANDS: usize = 4;
    let agent = Running::ready_with(run, "alpha", patient);
    let state = state_of(&agent);
    let mut witness = agent.greeted();
    let held = Held::at_rest();
    thread::scope(|scope| {
        for hand in 0..HANDS {
            let (agent, state) = (&agent, &state);
            scope.spawn(move || {
                for number in (hand..CONNECTIONS).step_by(HANDS) {
                    DEEDS[number % DEEDS.len()](agent, state);
                }
            });
        }
    });
    held.comes_back();
    // Neither descriptors are missing nor places.
    are_served(&mut crowd(&agent));
    witness.write_all(STATS).expect("the agent listens");
    read_answers(&mut witness, OK, 1);
    held.comes_back();
    agent.stop();
}

/// For as long as it exists, this process opens nothing.
struct Exhausted {
    soft: u64,
    hard: u64,
}

impl Exhausted {
    fn new() -> Exhausted {
        /// Numbers that are taken: standard input, output and error.
        const TAKEN: u64 = 3;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        setrlimit(Resource::RLIMIT_NOFILE, TAKEN, hard).expect("it is below the hard one");
        Exhausted { soft, hard }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard).expect("it was the limit before");
    }
}

fn without_descriptors(run: Run) {
    const PINGS: u32 = 20;
    let agent = Running::ready_with(run, "alpha", patient);
    let (source, mut acks) = (udp(), Acks::new());
    let mut other = agent.greeted();
    let held = Held::at_rest();
    let socket = || Raw::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let clients = [(agent.rpc, socket()), (agent.gossip, socket())];
    let exhausted = Exhausted::new();
    for (addr, client) in &clients {
        client.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        client.connect(&(*addr).into()).expect("the system makes connections by itself");
    }
    // Each of these wakes the agent, which has all the while somebody to accept.
    for number in 0..PINGS {
        source.send_to(&ping(number), agent.gossip).expect("the loopback takes it");
        assert_eq!(acks.of(&source), [number]);
    }
    other.write_all(STATS).expect("the agent listens");
    read_answers(&mut other, OK, 1);
    drop(exhausted);
    let [client, peer] = clients.map(|(_, socket)| TcpStream::from(socket));
    assert_eq!(read(&mut said(client, &handshake()), HELLO.len()), HELLO);
    assert_eq!(ask(peer, &stream_ping(4)), stream_ack(4));
    held.comes_back();
    agent.stop();
}
