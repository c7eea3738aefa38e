//! Datagrams: none is lost or overtaken on the way through a runtime, and a flood does not stop it.

use super::lab::{Acks, Running, codec, config, eventually, ping, udp};
use super::{Check, Run};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;
use villein_agent::io::Signal;
use villein_core::rng::Rng;
use villein_core::wire::message::{Alive, Message};
use villein_core::wire::serf::{self, Batch, Codec};

pub(super) const CHECKS: &[Check] = &[
    ("datagrams come in order, and none is lost while timers fire", in_order_and_none_lost),
    ("a flood of datagrams is survived", a_flood),
];

/// In all.
const PINGS: u32 = 20_000;
/// Unanswered ones. Far fewer than the inbox, or the smallest buffer of a system, holds.
const WINDOW: usize = 64;
/// One datagram in so many is of the largest size.
const LARGE_EVERY: u32 = 97;
/// Bytes of the largest UDP payload over IPv4.
const LARGEST: usize = 65_507;
/// What members say about the protocols that they speak (gossip.md 3.6).
const VERSIONS: &[u8] = &[1, 5, 2, 2, 5, 5];
/// Between two probes, and between two rounds of gossip, of an agent whose timers fire often.
const OFTEN: Duration = Duration::from_millis(2);

/// Whoever sends pings and sees them answered in their order.
struct Prober {
    socket: UdpSocket,
    to: SocketAddr,
    acks: Acks,
    codec: Codec,
    rng: Rng,
    sent: u32,
    awaited: VecDeque<u32>,
}

impl Prober {
    fn new(to: SocketAddr) -> Prober {
        let (acks, awaited) = (Acks::new(), VecDeque::new());
        Prober { socket: udp(), to, acks, codec: codec(), rng: Rng::new([1; 32]), sent: 0, awaited }
    }

    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        self.awaited.push_back(self.sent);
        ping(self.sent)
    }

    /// The next pings, in a datagram of a length of its own: what stands behind a message is ignored.
    fn send(&mut self) {
        let mut bytes = self.next();
        if self.sent.is_multiple_of(LARGE_EVERY) {
            // The last ping stands at the very end, and is there only if all of it is.
            let last = self.next();
            // Three bytes of the compound, and two for the length of each part.
            bytes.resize(LARGEST - last.len() - 2 - 2 * 2, 0);
            let (mut batch, mut datagram) = (Batch::default(), Vec::new());
            batch.push(&bytes);
            batch.push(&last);
            self.codec.seal(&batch, false, &mut self.rng, &mut datagram);
            assert_eq!(datagram.len(), LARGEST);
            bytes = datagram;
        } else {
            bytes.resize(bytes.len() + self.rng.below(1400), 0);
        }
        self.socket.send_to(&bytes, self.to).expect("the loopback takes it");
    }

    /// Takes answers until no more than so many are awaited.
    fn hear(&mut self, left: usize) {
        while self.awaited.len() > left {
            for ack in self.acks.of(&self.socket) {
                assert_eq!(self.awaited.pop_front(), Some(ack), "of {} pings sent", self.sent);
            }
        }
    }
}

fn in_order_and_none_lost(run: Run) {
    let agent = Running::ready_with(run, "alpha", |config| {
        let profile = &mut config.node.profile;
        (profile.probe_interval, profile.probe_timeout, profile.gossip_interval) = (OFTEN, OFTEN / 2, OFTEN);
        // Whoever does not answer stays suspect, and is probed all the time.
        (profile.suspicion_mult, profile.awareness_max_multiplier) = (1 << 20, 1);
    });
    let mut prober = Prober::new(agent.gossip);
    let ghost = udp();
    announce("ghost", &ghost, &prober);
    agent.screen.wait_for("EventMemberJoin: ghost");

    // As fast as the answers come, while probes and gossip are due every other millisecond.
    while prober.sent < PINGS / 2 {
        prober.send();
        prober.hear(WINDOW);
    }
    prober.hear(0);
    // And in bursts that find the agent waiting for its next probe: right after the last one, or just before.
    while prober.sent < PINGS {
        wait_for_a_probe(&ghost);
        let pause = prober.rng.below(4000).saturating_sub(2000);
        thread::sleep(Duration::from_micros(pause as u64));
        for _ in 0..=prober.rng.below(WINDOW) {
            prober.send();
        }
        prober.hear(0);
    }
    agent.signal(Signal::Terminate);
    let (_, text) = agent.end();
    assert!(!text.contains("faster than they are handled"), "{text}");
}

/// Tells the agent of a member that has this socket.
fn announce(name: &str, socket: &UdpSocket, prober: &Prober) {
    let addr = socket.local_addr().expect("it is bound");
    let as_others_are = config(name, addr, "").node;
    let mut meta = Vec::new();
    serf::encode_meta(&as_others_are.tags, as_others_are.protocol, &mut meta);
    let alive = Alive {
        incarnation: 1,
        node: &as_others_are.name,
        addr: as_others_are.addr.as_bytes(),
        port: addr.port(),
        meta: &meta,
        vsn: VERSIONS,
    };
    let mut bytes = Vec::new();
    serf::encode(&Message::Alive(alive), &mut bytes);
    prober.socket.send_to(&bytes, prober.to).expect("the loopback takes it");
}

/// Waits for the next that the agent sends to a member when a timer fires.
fn wait_for_a_probe(ghost: &UdpSocket) {
    let mut packet = [0; 1500];
    ghost.set_nonblocking(true).expect("a socket takes the option");
    loop {
        match ghost.recv(&mut packet) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("a bound socket can be read: {error}"),
        }
    }
    ghost.set_nonblocking(false).expect("a socket takes the option");
    ghost.recv(&mut packet).expect("members are probed");
}

fn a_flood(run: Run) {
    let agent = Running::ready(run, "alpha");
    let source = udp();
    for number in 0..20_000_u32 {
        // What the system drops does not matter here.
        let _ = source.send_to(&number.to_be_bytes().repeat(25), agent.gossip);
    }
    // One that finds room again, behind those that are still to be refused.
    source.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes a time limit");
    let is_answered = eventually(|| {
        source.send_to(&ping(1), agent.gossip).expect("the loopback takes it");
        source.recv(&mut [0; 100]).is_ok()
    });
    assert!(is_answered, "{}", agent.screen.text());
    agent.goes_on();
    agent.stop();
}
