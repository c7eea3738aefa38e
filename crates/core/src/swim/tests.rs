//! The membership layers of a few nodes on a network without a Serf layer, driven by their deadlines.

use super::rules::State;
use super::{Notice, Purpose, Swim, packet_room, send_user};
use crate::broadcast::{Broadcasts, Token};
use crate::config::{Config, Profile};
use crate::coordinate::Coordinates;
use crate::crypto::{Key, Keyring};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::io::{Action, Outbox, StreamEvent, StreamId, StreamOp};
use crate::limits;
use crate::member::WireAddr;
use crate::metric::Metrics;
use crate::note::Note;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::message::{
    Accusation, Ack, Alive, IndirectPing, Message, Nack, Ping, PushNode, Source, StreamMessage,
};
use crate::wire::serf::{
    Batch, Codec, Parts, Settings, Side, StreamReader, decode, encode_coordinate, encode_push_pull,
    encode_stream_ping,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const LATENCY: Duration = Duration::from_millis(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// From here on tests put nodes that speak old protocols, which know no CRC.
const OLD: usize = 200;

fn addr(peer: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, peer as u8], 7946))
}

fn codec() -> Codec {
    Codec::new(Settings {
        label: Vec::new(),
        skip_inbound_label_check: false,
        keyring: None,
        verify_incoming: true,
        verify_outgoing: true,
        compression: false,
    })
}

/// A node, with what it is lent.
struct Peer {
    swim: Swim,
    rng: Rng,
    out: Outbox,
    codec: Codec,
    batch: Batch,
    broadcasts: Broadcasts,
    coordinates: Coordinates,
    metrics: Metrics,
    notices: Vec<Notice>,
    /// What it said, save requests for state.
    told: Vec<String>,
    notes: Vec<(Instant, Note)>,
    up: bool,
}

impl Peer {
    fn new(name: &str, number: usize, seed: u8, change: impl FnOnce(&mut Config)) -> Peer {
        let mut config = Config::new(name.into(), WireAddr::from_ip(addr(number).ip()), 7946);
        change(&mut config);
        Peer {
            broadcasts: Broadcasts::new(config.profile.retransmit_mult),
            swim: Swim::new(config),
            rng: Rng::new([seed; 32]),
            out: Outbox::new(),
            codec: codec(),
            batch: Batch::default(),
            coordinates: Coordinates::new(),
            metrics: Metrics::new(),
            notices: Vec::new(),
            told: Vec::new(),
            notes: Vec::new(),
            up: true,
        }
    }

    fn act<T>(&mut self, now: Instant, act: impl FnOnce(&mut Swim, &mut Vec<Notice>, &mut Cx<'_>) -> T) -> T {
        let mut cx = Cx {
            now,
            rng: &mut self.rng,
            out: &mut self.out,
            codec: &mut self.codec,
            batch: &mut self.batch,
            broadcasts: &mut self.broadcasts,
            coordinates: &mut self.coordinates,
            metrics: &mut self.metrics,
        };
        let result = act(&mut self.swim, &mut self.notices, &mut cx);
        while !self.notices.is_empty() {
            for notice in std::mem::take(&mut self.notices) {
                match notice {
                    Notice::StateWanted { stream } => {
                        self.swim.send_state(stream, b"state", &mut self.notices, &mut cx);
                    }
                    told => self.told.push(describe_notice(&self.swim, &told)),
                }
            }
        }
        self.swim.on_tick(&mut self.notices, &mut cx);
        for told in self.notices.drain(..) {
            self.told.push(describe_notice(&self.swim, &told));
        }
        assert!(self.batch.is_empty(), "a packet is sent before the next begins");
        self.out.end_input();
        result
    }

    fn state(&self, name: &str) -> Option<(State, u32)> {
        let idx = self.swim.table().find(name.as_bytes())?;
        let entry = self.swim.table().get(idx);
        Some((entry.state, entry.incarnation))
    }

    fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn noted(&self, name: &str) -> usize {
        let counts = self.notes.iter().map(|(_, note)| match note {
            Note::MoreAlike { name: alike, count } if *alike == name => *count,
            note => usize::from(note.name() == name),
        });
        counts.sum()
    }
}

#[derive(Debug)]
enum Delivery {
    Datagram { from: usize, bytes: Vec<u8> },
    Accepted { id: StreamId, from: SocketAddr },
    Connected { id: StreamId },
    Data { id: StreamId, bytes: Vec<u8> },
    End { id: StreamId },
    Refused { id: StreamId },
}

/// What travelled: when, from, to, the messages of the packet.
type Sent = (Instant, usize, usize, Vec<String>);

type Filter = Box<dyn Fn(usize, usize) -> bool>;

struct Lab {
    now: Instant,
    peers: Vec<Peer>,
    /// By time and order of sending: to whom, what.
    under_way: BTreeMap<(Instant, u64), (usize, Delivery)>,
    /// Which end of a stream is connected to which.
    streams: BTreeMap<(usize, StreamId), (usize, StreamId)>,
    count: u64,
    sent: Vec<Sent>,
    datagram_passes: Filter,
}

impl Lab {
    /// Nodes called `a`, `b`, ...; not started with any knowledge of each other.
    fn new(count: usize, profile: Profile) -> Lab {
        let name = |i: usize| char::from(b'a' + i as u8).to_string();
        let peers = (0..count)
            .map(|i| Peer::new(&name(i), i, i as u8 + 1, |config| config.profile = profile))
            .collect();
        let mut lab = Lab {
            now: Instant::ORIGIN,
            peers,
            under_way: BTreeMap::new(),
            streams: BTreeMap::new(),
            count: 0,
            sent: Vec::new(),
            datagram_passes: Box::new(|_, _| true),
        };
        for i in 0..count {
            lab.act(i, Swim::start);
        }
        lab
    }

    /// The same, all joined and settled.
    fn joined(count: usize, profile: Profile) -> Lab {
        let mut lab = Lab::new(count, profile);
        for i in 1..count {
            lab.act(i, |swim, notices, cx| swim.exchange(addr(0), Purpose::Join(1), notices, cx));
        }
        lab.run(secs(10));
        for peer in &mut lab.peers {
            assert_eq!(peer.swim.live_nodes(), count);
            peer.told.clear();
        }
        lab.sent.clear();
        lab
    }

    fn act<T>(&mut self, i: usize, act: impl FnOnce(&mut Swim, &mut Vec<Notice>, &mut Cx<'_>) -> T) -> T {
        let result = self.peers[i].act(self.now, act);
        self.carry_out(i);
        result
    }

    fn message(&mut self, i: usize, message: &Message<'_>) {
        self.act(i, |swim, notices, cx| swim.on_message(addr(99), message, notices, cx));
    }

    fn post(&mut self, to: usize, delivery: Delivery) {
        self.count += 1;
        self.under_way.insert((self.now + LATENCY, self.count), (to, delivery));
    }

    fn carry_out(&mut self, i: usize) {
        let out = std::mem::take(&mut self.peers[i].out);
        for action in out.actions() {
            match action {
                Action::Send { to, bytes } => self.carry_datagram(i, to, bytes),
                Action::Stream { id, op } => self.carry_stream(i, id, op),
                Action::Note(note) => self.peers[i].notes.push((self.now, note.clone())),
                Action::Store(_) | Action::Reply { .. } | Action::Event(_) => {
                    unreachable!("this layer knows none of them")
                }
            }
        }
    }

    fn carry_datagram(&mut self, i: usize, to: SocketAddr, bytes: &[u8]) {
        let Some(to) = (0..256).find(|peer| addr(*peer) == to) else { return };
        let mut parts = Parts::default();
        codec().open(bytes, &mut parts).expect("what is sent can be opened");
        assert!(parts.refused().is_empty() && bytes.len() <= 1405);
        let messages: Vec<String> =
            parts.iter().map(|part| describe(&decode(part).expect("what is sent can be decoded"))).collect();
        let crc = bytes[0] == 12;
        let buddy = messages.len() == 2 && messages[1].starts_with("suspect");
        match messages[0].split_once(' ').map_or(messages[0].as_str(), |(kind, _)| kind) {
            "ack" | "nack" | "indirect" => assert!(!crc, "{messages:?}"),
            "ping" => assert!(!crc || buddy, "{messages:?}"),
            _ => assert_eq!(crc, to < OLD, "{messages:?}"),
        }
        self.sent.push((self.now, i, to, messages));
        if to < self.peers.len() && (self.datagram_passes)(i, to) {
            self.post(to, Delivery::Datagram { from: i, bytes: bytes.to_vec() });
        }
    }

    fn carry_stream(&mut self, i: usize, id: StreamId, op: StreamOp<'_>) {
        match op {
            StreamOp::Connect { to } => {
                let to = (0..self.peers.len()).find(|peer| addr(*peer) == to && self.peers[*peer].up);
                let Some(to) = to else { return self.post(i, Delivery::Refused { id }) };
                self.count += 1;
                let theirs = StreamId::accepted(self.count);
                self.streams.insert((i, id), (to, theirs));
                self.streams.insert((to, theirs), (i, id));
                self.post(to, Delivery::Accepted { id: theirs, from: addr(i) });
                self.post(i, Delivery::Connected { id });
            }
            StreamOp::Write(bytes) => {
                if let Some(&(to, theirs)) = self.streams.get(&(i, id)) {
                    self.post(to, Delivery::Data { id: theirs, bytes: bytes.to_vec() });
                }
            }
            StreamOp::Close | StreamOp::Abort => {
                if let Some((to, theirs)) = self.streams.remove(&(i, id)) {
                    self.post(to, Delivery::End { id: theirs });
                }
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadlines =
                self.peers.iter().enumerate().filter(|(_, peer)| peer.up).filter_map(|(i, peer)| {
                    Some((peer.swim.deadline(self.now, !peer.broadcasts.is_empty())?, i))
                });
            let tick = deadlines.min().filter(|(at, _)| *at <= end);
            let arrival = self.under_way.first_key_value().map(|(key, _)| key.0).filter(|at| *at <= end);
            match (tick, arrival) {
                (None, None) => break,
                (Some((at, i)), arrival) if arrival.is_none_or(|arrival| at < arrival) => {
                    self.now = self.now.max(at);
                    self.act(i, |_, _, _| ());
                }
                _ => {
                    let ((at, _), (to, delivery)) =
                        self.under_way.pop_first().expect("something is under way");
                    self.now = self.now.max(at);
                    if self.peers[to].up {
                        self.deliver(to, &delivery);
                    }
                }
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, to: usize, delivery: &Delivery) {
        let (id, event) = match delivery {
            Delivery::Datagram { from, bytes } => {
                let mut parts = Parts::default();
                codec().open(bytes, &mut parts).expect("what is sent can be opened");
                for part in parts.iter() {
                    let message = decode(part).expect("what is sent can be decoded");
                    self.act(to, |swim, notices, cx| swim.on_message(addr(*from), &message, notices, cx));
                }
                return;
            }
            Delivery::Accepted { id, from } => (*id, StreamEvent::Accepted { from: *from }),
            Delivery::Connected { id } => (*id, StreamEvent::Connected),
            Delivery::Data { id, bytes } => (*id, StreamEvent::Data(bytes)),
            Delivery::End { id } => (*id, StreamEvent::End),
            Delivery::Refused { id } => (*id, StreamEvent::Failed("connection refused")),
        };
        self.act(to, |swim, notices, cx| swim.on_stream(id, event, notices, cx));
    }

    fn state(&self, i: usize, name: &str) -> Option<(State, u32)> {
        self.peers[i].state(name)
    }

    /// The first packet since `from` that carries a message of this description.
    fn first(&self, from: Instant, message: &str) -> &Sent {
        self.sent
            .iter()
            .find(|(at, .., messages)| *at >= from && messages.iter().any(|sent| sent == message))
            .unwrap_or_else(|| panic!("nobody sent {message:?}: {:?}", self.sent))
    }
}

fn describe_notice(swim: &Swim, told: &Notice) -> String {
    let name = |idx| &swim.table().get(idx).name;
    match told {
        Notice::Joined(idx) => format!("joined {}", name(*idx)),
        Notice::Gone(idx) => format!("gone {}", name(*idx)),
        Notice::Updated(idx) => format!("updated {}", name(*idx)),
        Notice::Conflict { node, addr, port, .. } => format!("conflict {node} {}:{port}", addr.ip()),
        Notice::RemoteState { state, join } => format!("state {} {join}", state.escape_ascii()),
        Notice::User(body) => format!("user {}", body.escape_ascii()),
        Notice::ExchangeDone { purpose, result, .. } => format!("{purpose:?} {result:?}"),
        Notice::StateWanted { .. } => unreachable!("answered at once"),
    }
}

fn describe(message: &Message<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match message {
        Message::Ping(ping) => format!("ping {}", text(ping.node)),
        Message::IndirectPing(ping) => {
            format!("indirect {}{}", text(ping.node), if ping.nack { " nack" } else { "" })
        }
        Message::Ack(ack) => format!("ack{}", if ack.payload.is_some() { " located" } else { "" }),
        Message::Nack(_) => "nack".into(),
        Message::Suspect(c) => format!("suspect {} {} {}", text(c.node), c.incarnation, text(c.from)),
        Message::Alive(c) => format!("alive {} {}", text(c.node), c.incarnation),
        Message::Dead(c) => format!("dead {} {} {}", text(c.node), c.incarnation, text(c.from)),
        Message::User(_) => "user".into(),
    }
}

#[test]
fn a_lone_node_wakes_for_its_probe_and_nothing_else() {
    let mut lab = Lab::new(1, Profile { push_pull_interval: Duration::ZERO, ..Profile::LAN });
    assert_eq!(lab.peers[0].take_told(), ["joined a"]);
    assert_eq!(lab.state(0, "a"), Some((State::Alive, 1)));
    assert!(!lab.peers[0].broadcasts.is_empty(), "its announcement waits for somebody");
    let first = lab.peers[0].swim.deadline(lab.now, true).unwrap();
    assert!((secs(1)..secs(2)).contains(&first.since(lab.now)));
    lab.run(first.since(lab.now));
    let second = lab.peers[0].swim.deadline(lab.now, true).unwrap();
    assert_eq!(second, first + secs(1));
    assert!(lab.sent.is_empty() && !lab.peers[0].swim.others_live());
}

/// Appendix A.1 as far as this layer goes.
#[test]
fn a_join_makes_both_sides_known_and_gossips_each_four_times() {
    let mut lab = Lab::new(2, Profile::LAN);
    lab.peers.iter_mut().for_each(|peer| peer.told.clear());
    lab.act(1, |swim, notices, cx| swim.exchange(addr(0), Purpose::Join(7), notices, cx));
    lab.run(ms(20));
    assert_eq!(lab.peers[0].take_told(), ["joined b", "state state true"]);
    assert_eq!(lab.peers[1].take_told(), ["joined a", "state state true", "Join(7) Ok(())"]);
    lab.run(secs(10));
    for (from, to) in [(0, 1), (1, 0)] {
        let count = |message: &str| {
            let packets = lab.sent.iter().filter(|sent| (sent.1, sent.2) == (from, to));
            packets.filter(|sent| sent.3.iter().any(|m| m == message)).count()
        };
        assert_eq!((count("alive a 1"), count("alive b 1")), (4, 4));
    }
    let packets = lab
        .sent
        .iter()
        .filter(|sent| sent.3 == ["alive a 1", "alive b 1"] || sent.3 == ["alive b 1", "alive a 1"]);
    assert!(packets.count() >= 6, "gossip goes as a compound: {:?}", lab.sent);
    assert!(
        lab.sent.iter().any(|sent| sent.3[0] == "ping a")
            && lab.sent.iter().any(|sent| sent.3[0] == "ack located")
    );
    assert!(lab.peers[0].coordinates.get(b"b").is_some());
    assert_eq!(lab.peers[0].swim.health_score(), 0);
    // Quiet now: nothing but probes.
    assert!(lab.peers.iter().all(|peer| peer.broadcasts.is_empty()));
}

/// Appendix A.2: four nodes in the table, one of which left before.
#[test]
fn a_dead_node_is_probed_suspected_confirmed_declared_and_forgotten() {
    let mut lab = Lab::joined(4, Profile::LAN);
    let token = lab.peers[2].broadcasts.token();
    lab.act(2, |swim, notices, cx| swim.leave(token, notices, cx));
    lab.run(secs(3));
    lab.peers[2].up = false;
    for i in [0, 1, 3] {
        assert_eq!(lab.peers[i].take_told(), ["gone c"]);
    }
    lab.peers[3].up = false;
    let killed = lab.now;
    lab.run(secs(45));

    let &(ping, prober, ..) = lab.first(killed, "ping d");
    let other = 1 - prober;
    let indirect = lab.first(killed, "indirect d nack");
    assert_eq!((indirect.0, indirect.1, indirect.2), (ping + ms(500), prober, other));
    let suspect = format!("suspect d 1 {}", ["a", "b"][prober]);
    let suspected = ping + secs(1);
    assert!((ms(0)..=ms(200)).contains(&lab.first(killed, &suspect).0.since(suspected)));
    // The nack comes at 80 % of the relay's timeout, in time to keep the prober healthy.
    assert_eq!(lab.first(killed, "nack").0, ping + ms(500) + LATENCY + ms(400));
    assert_eq!(lab.peers[prober].swim.health_score(), 0);
    assert!(lab.sent.iter().any(|sent| sent.3 == ["ping d".to_string(), suspect.clone()]), "buddy packet");

    let timeout = |i: usize| {
        let mut notes = lab.peers[i].notes.iter();
        let found = notes.find(|(_, note)| matches!(note, Note::SuspicionTimeout { .. }));
        found.map(|(at, note)| (*at, note.clone()))
    };
    let first = [timeout(0), timeout(1)].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap();
    assert_eq!(first.1, Note::SuspicionTimeout { node: "d".into(), confirmations: 1 });
    // One confirmation, counted by the prober from its own suspicion.
    assert!(
        first.0.since(suspected) >= ms(11_381) && first.0.since(suspected) < ms(11_900),
        "{first:?} {suspected:?}"
    );
    for i in [0, 1] {
        let told = lab.peers[i].take_told();
        assert_eq!(told.iter().filter(|told| *told == "gone d").count(), 1, "{told:?}");
        assert_eq!(lab.peers[i].noted("RefutedSuspect") + lab.peers[i].noted("RefutedDead"), 0);
        assert_eq!(lab.state(i, "c"), None, "left nodes are forgotten like dead ones");
    }
    lab.run(secs(15));
    assert!((0..2).all(|i| lab.state(i, "d").is_none()));
    assert!(lab.sent.iter().all(|sent| sent.2 != 3 || sent.0 <= first.0 + secs(31)));
    assert_eq!(lab.peers[0].broadcasts.nodes, 2);
}

#[test]
fn a_relay_keeps_a_node_alive_that_cannot_be_reached_directly() {
    let mut lab = Lab::joined(3, Profile::LAN);
    lab.datagram_passes = Box::new(|from, to| !matches!((from, to), (0, 1) | (1, 0)));
    lab.run(secs(30));
    assert!(lab.sent.iter().any(|sent| sent.3[0] == "indirect b nack"));
    assert!(lab.sent.iter().any(|sent| sent.3[0] == "ack"), "forwarded acks carry no coordinate");
    for peer in &lab.peers {
        assert_eq!((peer.noted("ProbeFailed"), peer.swim.live_nodes(), peer.swim.health_score()), (0, 3, 0));
    }
}

#[test]
fn tcp_alone_keeps_a_node_alive_with_a_warning() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.datagram_passes = Box::new(|_, to| to != 1);
    lab.run(secs(6));
    assert!(lab.peers[0].noted("ProbeOnlyTcp") >= 2);
    assert_eq!((lab.peers[0].noted("ProbeFailed"), lab.peers[0].noted("ProbeTcpFailed")), (0, 0));
    assert_eq!(lab.state(0, "b"), Some((State::Alive, 1)));
    assert_eq!(lab.peers[0].swim.health_score(), 0);
}

#[test]
fn failing_alone_costs_health_and_slows_probes() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.peers[1].up = false;
    lab.run(secs(2));
    let peer = &lab.peers[0];
    assert!(peer.noted("ProbeTcpUnreachable") >= 1 && peer.noted("ProbeFailed") >= 1);
    assert_eq!(peer.noted("ProbeTcpFailed"), 0, "that nobody listens is no error of its own");
    assert!(peer.swim.health_score() >= 1);
    assert_eq!(lab.state(0, "b"), Some((State::Suspect, 1)));
    lab.run(secs(4));
    assert_eq!(lab.state(0, "b"), Some((State::Dead, 1)), "two nodes do not wait for confirmations");
}

#[test]
fn a_probe_that_was_due_meanwhile_starts_at_once() {
    let mut lab = Lab::joined(3, Profile::LAN);
    lab.peers[1].up = false;
    lab.peers[2].up = false;
    let start = lab.now;
    lab.run(secs(8));
    let pings = lab.sent.iter().filter(|sent| sent.0 > start && sent.1 == 0 && sent.3[0].starts_with("ping"));
    let times: Vec<Instant> = pings.map(|sent| sent.0).collect();
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    // Each lost probe costs a point of health, and so the next one takes a second longer.
    assert_eq!(gaps[..3], [secs(1), secs(2), secs(3)]);
}

#[test]
fn old_peers_get_only_what_they_understand() {
    let mut lab = Lab::new(1, Profile { suspicion_mult: 60, ..Profile::LAN });
    let alive = |node: &'static [u8], addr: &'static [u8], vsn: &'static [u8]| Alive {
        incarnation: 1,
        node,
        addr,
        port: 7946,
        meta: b"",
        vsn,
    };
    lab.message(0, &Message::Alive(alive(b"old", &[10, 0, 0, 200], &[1, 2, 2, 2, 5, 5])));
    lab.message(0, &Message::Alive(alive(b"newer", &[10, 0, 0, 201], &[1, 3, 2, 2, 5, 5])));
    lab.run(secs(30));
    let to_old: Vec<&str> =
        lab.sent.iter().filter(|sent| sent.2 == OLD).flat_map(|sent| &sent.3).map(String::as_str).collect();
    assert!(
        to_old.contains(&"ping old") && to_old.contains(&"alive a 1") && to_old.contains(&"suspect old 1 a")
    );
    let asked = lab.sent.iter().flat_map(|sent| &sent.3).filter(|message| message.starts_with("indirect"));
    assert_eq!(
        asked.collect::<std::collections::BTreeSet<_>>().len(),
        1,
        "the first to fail is no relay later"
    );
    assert!(lab.sent.iter().all(|sent| !sent.3[0].ends_with(" nack")));
    let by_tcp = lab.peers[0].notes.iter().filter_map(|(_, note)| match note {
        Note::ProbeTcpUnreachable { node, .. } => Some(node.to_string()),
        _ => None,
    });
    assert_eq!(by_tcp.collect::<std::collections::BTreeSet<_>>(), ["newer".to_string()].into());
}

#[test]
fn a_suspected_node_refutes_with_a_greater_incarnation() {
    let mut lab = Lab::joined(3, Profile::LAN);
    lab.message(0, &Message::Suspect(Accusation { incarnation: 1, node: b"b", from: b"x" }));
    assert_eq!(lab.state(0, "b"), Some((State::Suspect, 1)));
    lab.message(2, &Message::Dead(Accusation { incarnation: 9, node: b"b", from: b"x" }));
    assert_eq!(lab.peers[2].take_told(), ["gone b"]);
    lab.run(secs(3));
    for i in 0..3 {
        assert_eq!(lab.state(i, "b"), Some((State::Alive, 10)), "at {i}");
    }
    assert_eq!(lab.peers[2].take_told(), ["joined b"]);
    assert_eq!(lab.peers[1].take_told(), [""; 0]);
    assert!(lab.peers[1].noted("RefutedDead") >= 1);
}

#[test]
fn a_restarted_node_catches_up_with_its_past() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.message(1, &Message::Suspect(Accusation { incarnation: 4, node: b"b", from: b"x" }));
    lab.run(secs(2));
    assert_eq!(lab.state(0, "b"), Some((State::Alive, 5)));
    // It comes back at once, with incarnation 1, and says so.
    lab.peers[1] = Peer::new("b", 1, 77, |_| {});
    lab.act(1, Swim::start);
    lab.act(1, |swim, notices, cx| swim.exchange(addr(0), Purpose::Join(1), notices, cx));
    lab.run(secs(2));
    assert_eq!((lab.state(0, "b"), lab.state(1, "b")), (Some((State::Alive, 6)), Some((State::Alive, 6))));
    assert_eq!(lab.peers[0].take_told(), ["state state true"], "the others notice nothing");
    assert_eq!(lab.peers[1].noted("RefutedAlive"), 1);

    // Declared dead meanwhile.
    lab.peers[1].up = false;
    lab.message(0, &Message::Dead(Accusation { incarnation: 6, node: b"b", from: b"x" }));
    lab.peers[1] = Peer::new("b", 1, 78, |_| {});
    lab.act(1, Swim::start);
    lab.act(1, |swim, notices, cx| swim.exchange(addr(0), Purpose::Reconnect, notices, cx));
    lab.run(secs(2));
    assert_eq!(lab.state(0, "b"), Some((State::Alive, 7)));
    assert_eq!(lab.peers[0].take_told(), ["gone b", "state state true", "joined b"]);
    assert!(lab.peers[1].take_told().contains(&"Reconnect Ok(())".to_string()));
}

#[test]
fn an_older_life_does_not_bring_back_who_was_accused_at_a_later_one() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.datagram_passes = Box::new(|_, _| false);
    let alive = |incarnation| Alive {
        incarnation,
        node: b"b",
        addr: &[10, 0, 0, 1],
        port: 7946,
        meta: b"\xff\x80",
        vsn: &[1, 5, 2, 2, 5, 5],
    };
    let accuse = |incarnation| Accusation { incarnation, node: b"b", from: b"x" };
    // A suspect whose accuser is known already, and who says it of a later life.
    lab.message(0, &Message::Suspect(accuse(1)));
    lab.message(0, &Message::Suspect(accuse(4)));
    lab.message(0, &Message::Alive(alive(4)));
    assert_eq!(lab.state(0, "b"), Some((State::Suspect, 4)));
    lab.message(0, &Message::Dead(accuse(4)));
    assert_eq!(lab.peers[0].take_told(), ["gone b"]);
    let changed = |lab: &Lab| {
        let table = lab.peers[0].swim.table();
        table.get(table.find(b"b").unwrap()).changed
    };
    let died = changed(&lab);
    lab.run(secs(3));
    assert!(lab.peers[0].broadcasts.is_empty());
    for (claim, incarnation) in [
        (Message::Dead(accuse(7)), 7),
        (Message::Alive(alive(7)), 7),
        (Message::Suspect(accuse(9)), 9),
        (Message::Alive(alive(8)), 9),
        (Message::Dead(Accusation { from: b"b", ..accuse(10) }), 10),
        (Message::Dead(accuse(3)), 10),
        (Message::Alive(alive(10)), 10),
    ] {
        lab.message(0, &claim);
        assert_eq!(lab.state(0, "b"), Some((State::Dead, incarnation)), "{claim:?}");
    }
    // It is nothing new to anybody: no notice, no gossip, and it is forgotten when it would have been.
    assert_eq!((lab.peers[0].take_told(), changed(&lab)), (vec![], died));
    assert!(lab.peers[0].broadcasts.is_empty());
    lab.message(0, &Message::Alive(alive(11)));
    assert_eq!(lab.state(0, "b"), Some((State::Alive, 11)));
    assert_eq!(lab.peers[0].take_told(), ["joined b"]);
}

/// Node b starts again and joins c, which has forgotten it, while a has not.
#[test]
fn who_is_held_for_gone_is_told_when_others_say_that_it_is_there() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.peers[1].up = false;
    lab.message(0, &Message::Dead(Accusation { incarnation: 5, node: b"b", from: b"x" }));
    lab.peers[0].take_told();
    lab.run(secs(1));
    let alive = |node: &'static [u8], incarnation| {
        let alive = Alive {
            incarnation,
            node,
            addr: &[10, 0, 0, 1],
            port: 7946,
            meta: b"\xff\x80",
            vsn: &[1, 5, 2, 2, 5, 5],
        };
        Message::Alive(alive)
    };
    let told = |lab: &Lab| lab.sent.iter().filter(|sent| sent.2 == 1 && sent.3 == ["suspect b 5 a"]).count();
    lab.sent.clear();
    lab.message(0, &alive(b"b", 1));
    lab.message(0, &alive(b"b", 2));
    assert_eq!(told(&lab), 1, "once in the time of a probe");
    lab.run(secs(2));
    lab.peers[1] = Peer::new("b", 1, 77, |_| {});
    lab.act(1, Swim::start);
    lab.message(0, &alive(b"b", 1));
    assert_eq!(told(&lab), 2);
    lab.run(ms(5));
    assert_eq!(lab.state(1, "b"), Some((State::Alive, 6)));
    assert_eq!(lab.peers[1].noted("RefutedSuspect"), 1);
    // Of those that are there, and of this node itself, old news is just that.
    let packets = lab.sent.len();
    for node in [b"a", b"b"] {
        lab.message(1, &alive(node, 1));
    }
    assert_eq!(lab.sent.len(), packets);
}

#[test]
fn who_has_joined_asks_another_one_soon() {
    let mut lab = Lab::new(4, Profile::LAN);
    for i in 1..4 {
        lab.act(i, |swim, notices, cx| swim.exchange(addr(0), Purpose::Join(1), notices, cx));
    }
    // Nobody hears the gossip, and so b knows only a.
    lab.datagram_passes = Box::new(|_, _| false);
    lab.run(ms(100));
    assert_eq!(lab.peers[1].swim.table().len(), 2);
    lab.run(secs(30));
    let known: Vec<_> = lab.peers.iter().map(|peer| peer.swim.table().len()).collect();
    assert_eq!(known, [4; 4], "the first regular exchange comes after thirty seconds");
}

#[test]
fn odd_names_are_refused_where_names_are_validated() {
    let mut lab = Lab::new(1, Profile::LAN);
    let vsn = [1, 5, 2, 2, 5, 5];
    let alive = |node, addr| {
        Message::Alive(Alive { incarnation: 3, node, addr, port: 7946, meta: b"\xff\x80", vsn: &vsn })
    };
    for validate in [false, true] {
        // Its own odd name is not its business, but still its own.
        lab.peers[0] = Peer::new("a b", 0, 1, |config| config.validate_node_names = validate);
        lab.act(0, Swim::start);
        lab.message(0, &alive(b"x y", &[10, 9, 9, 9]));
        lab.message(0, &alive(b"x-y", &[10, 9, 9, 9]));
        lab.message(0, &alive(b"a b", &[10, 9, 9, 9]));
        lab.message(0, &alive(b"a b", &[10, 0, 0, 0]));
        let refused = usize::from(validate);
        assert_eq!(lab.peers[0].noted("AliveRefused"), refused);
        assert_eq!(lab.peers[0].swim.table().len(), 3 - refused);
        assert_eq!((lab.peers[0].noted("AddressConflict"), lab.peers[0].noted("RefutedAlive")), (1, 1));
        let node = PushNode {
            incarnation: 1,
            name: b"$(x)",
            addr: &[10, 0, 0, 5],
            port: 1,
            meta: b"",
            state: 0,
            vsn: &vsn,
        };
        let mut state = Vec::new();
        encode_push_pull(true, [node].into_iter(), b"", &mut state);
        Caller::call(&mut lab, 1).say(&mut lab, StreamEvent::Data(&state));
        assert_eq!(lab.state(0, "$(x)").is_none(), validate, "nor do they come with a state");
    }
}

/// What is longer than a packet would stay in the queue for ever. The default packet has room for the longest
/// claims that are passed on, behind the longest label and encryption.
#[test]
fn the_longest_claims_fit_into_a_packet_of_the_default_size() {
    let (name, accuser) = ([b'n'; limits::NAME], [b'f'; limits::NAME]);
    let alive = Alive {
        incarnation: u32::MAX,
        node: &name,
        addr: &[0xfd; 16],
        port: u16::MAX,
        meta: &[0xff; limits::META],
        vsn: &[1, 5, 2, 2, 5, 5],
    };
    let accusation = Accusation { incarnation: u32::MAX, node: &name, from: &accuser };
    let claims = [Message::Alive(alive), Message::Suspect(accusation.clone()), Message::Dead(accusation)];
    let mut lab = Lab::new(1, Profile::LAN);
    let peer = &mut lab.peers[0];
    let key = Key::from_bytes(&[1; 32]).unwrap();
    peer.codec = Codec::new(Settings {
        label: vec![b'l'; 255],
        skip_inbound_label_check: false,
        keyring: Some(Keyring::new(key, []).unwrap()),
        verify_incoming: true,
        verify_outgoing: true,
        compression: false,
    });
    let room = packet_room(peer.swim.udp_buffer_size, &peer.codec);
    peer.broadcasts = Broadcasts::new(1);
    for claim in &claims {
        lab.message(0, claim);
        let peer = &mut lab.peers[0];
        assert_eq!(peer.noted("TooLongToGossip"), 0);
        peer.broadcasts.fill(room, &mut peer.batch, |_| {});
        assert_eq!((peer.batch.len(), peer.broadcasts.is_empty()), (1, true), "{claim:?}");
        peer.batch.clear();
    }
    // In a smaller packet there may be no room; that is said, and nothing waits for ever.
    let mut small = Peer::new("a", 0, 1, |config| config.udp_buffer_size = 1100);
    small.act(Instant::ORIGIN, Swim::start);
    small.broadcasts = Broadcasts::new(1);
    small.act(Instant::ORIGIN, |swim, notices, cx| swim.on_message(addr(1), &claims[0], notices, cx));
    assert!(small.broadcasts.is_empty() && small.swim.table().find(&name).is_some());
    let said = |action: &Action<'_>| matches!(action, Action::Note(Note::TooLongToGossip { .. }));
    assert_eq!(small.out.actions().filter(|action| said(action)).count(), 1);
}

#[test]
fn leaving_is_told_gossiped_and_final() {
    let mut lab = Lab::joined(3, Profile::LAN);
    let token = lab.peers[1].broadcasts.token();
    lab.act(1, |swim, notices, cx| swim.leave(token, notices, cx));
    assert_eq!(lab.peers[1].take_told(), ["gone b"]);
    assert_eq!(lab.peers[1].broadcasts.pop_finished(), None);
    lab.run(secs(2));
    assert_eq!(lab.peers[1].broadcasts.pop_finished(), Some(token));
    for i in 0..3 {
        assert_eq!(lab.state(i, "b"), Some((State::Left, 1)));
        assert_eq!(lab.peers[i].swim.live_nodes(), 2);
    }
    // Nobody gossips with it any more; left nodes need not refute.
    lab.sent.clear();
    let token = lab.peers[0].broadcasts.token();
    lab.act(0, |swim, notices, cx| swim.update_meta(b"\xff\x80", token, notices, cx));
    lab.run(secs(2));
    assert!(lab.sent.iter().any(|sent| sent.3 == ["alive a 2"]));
    assert!(lab.sent.iter().all(|sent| sent.2 != 1 || !sent.3[0].starts_with("alive")));
    // It still answers, and does not take itself for alive again.
    let alive = Alive {
        incarnation: 9,
        node: b"b",
        addr: &[10, 0, 0, 1],
        port: 7946,
        meta: &[0xff, 0x80],
        vsn: &[1, 5, 2, 2, 5, 5],
    };
    lab.message(1, &Message::Alive(alive));
    assert_eq!(lab.state(1, "b"), Some((State::Left, 1)));
    lab.sent.clear();
    let source = Source { addr: &[10, 0, 0, 2], port: 7946, node: b"c" };
    lab.message(1, &Message::Ping(Ping { seq: 5, node: b"b", source }));
    assert_eq!((lab.sent[0].2, lab.sent[0].3[0].as_str()), (2, "ack located"), "to the source fields");
    lab.message(1, &Message::Ping(Ping { seq: 5, node: b"x", source }));
    assert_eq!((lab.sent.len(), lab.peers[1].noted("PingMisdirected")), (1, 1));
}

#[test]
fn a_node_that_has_left_says_so_as_long_as_it_answers() {
    let mut lab = Lab::joined(2, Profile::LAN);
    let token = lab.peers[0].broadcasts.token();
    lab.act(0, |swim, notices, cx| swim.leave(token, notices, cx));
    lab.run(secs(120));
    assert_eq!(lab.state(1, "a"), None, "the others have forgotten it");
    let bytes = push_pull_bytes(3, &[1, 5, 2, 2, 5, 5]);
    let (answer, _) = Caller::call(&mut lab, 1).say(&mut lab, StreamEvent::Data(&bytes));
    let mut reader = StreamReader::new(Side::Dialed);
    reader.push(&answer).unwrap();
    assert!(reader.poll(&mut codec()).unwrap());
    let Ok(StreamMessage::PushPull(ours)) = reader.message() else { panic!("{answer:?}") };
    let said: Vec<_> = ours.nodes.iter().filter(|node| node.name == b"a").map(|node| node.state).collect();
    assert_eq!(said, [State::Left as i64]);
}

#[test]
fn new_metadata_reaches_everybody_under_a_new_incarnation() {
    let mut lab = Lab::joined(3, Profile::LAN);
    let token = lab.peers[0].broadcasts.token();
    lab.act(0, |swim, notices, cx| swim.update_meta(b"\xff\x81\xa1a\xa1b", token, notices, cx));
    lab.run(secs(2));
    assert_eq!(lab.peers[0].broadcasts.pop_finished(), Some(token));
    for i in 0..3 {
        assert_eq!(lab.peers[i].take_told(), ["updated a"]);
        assert_eq!(lab.state(i, "a"), Some((State::Alive, 2)));
    }
}

#[test]
fn claims_of_a_taken_name_conflict_and_odd_ones_are_refused() {
    let mut lab = Lab::joined(2, Profile::LAN);
    let vsn = [1, 5, 2, 2, 5, 5];
    let alive =
        Alive { incarnation: 3, node: b"b", addr: &[10, 9, 9, 9], port: 0, meta: b"\xff\x80", vsn: &vsn };
    lab.message(0, &Message::Alive(alive.clone()));
    lab.message(1, &Message::Alive(alive.clone()));
    assert_eq!(lab.peers[0].take_told(), ["conflict b 10.9.9.9:7946"]);
    assert_eq!(lab.peers[1].take_told(), ["conflict b 10.9.9.9:7946"]);
    assert_eq!(lab.peers[0].noted("AddressConflict"), 1);
    // The mapped form is another address on the wire.
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    lab.message(0, &Message::Alive(Alive { addr: &mapped, ..alive.clone() }));
    assert_eq!(lab.peers[0].take_told(), ["conflict b 10.0.0.1:7946"]);

    lab.message(0, &Message::Alive(Alive { node: b"z", vsn: &vsn[..3], ..alive.clone() }));
    lab.message(0, &Message::Alive(Alive { node: b"z", vsn: &[], ..alive.clone() }));
    lab.message(0, &Message::Alive(Alive { node: b"z", addr: &[1, 2, 3], ..alive.clone() }));
    assert_eq!((lab.peers[0].noted("AliveRefused"), lab.state(0, "z")), (3, None));

    // A new node keeps the form of its address; port 0 stands for ours. Changed versions alone are an update.
    let other = Alive { node: b"z", addr: &mapped, ..alive };
    lab.message(0, &Message::Alive(other.clone()));
    let idx = lab.peers[0].swim.table().find(b"z").unwrap();
    let entry = lab.peers[0].swim.table().get(idx);
    assert_eq!((entry.addr.as_bytes(), entry.port), (&mapped[..], 7946));
    lab.message(0, &Message::Alive(Alive { incarnation: 4, vsn: &[1, 5, 2, 2, 5, 4], ..other }));
    assert_eq!(lab.peers[0].take_told(), ["joined z", "updated z"]);
}

#[test]
fn odd_claims_about_oneself_are_refuted_too() {
    let mut lab = Lab::joined(2, Profile::LAN);
    let alive = |incarnation, meta: &'static [u8], vsn: &'static [u8]| Alive {
        incarnation,
        node: b"b",
        addr: &[10, 0, 0, 1],
        port: 7946,
        meta,
        vsn,
    };
    let good: &[u8] = &[1, 5, 2, 2, 5, 5];
    let rows = [
        (alive(100, b"", &[1, 5, 2, 2, 5, 9]), 101),
        (alive(200, &[0; 600], good), 201),
        (alive(300, b"", &[]), 301),
        // Old news is none.
        (alive(300, b"", &[]), 301),
        // At our incarnation, with another vector.
        (alive(301, b"", &[1, 5, 2]), 302),
    ];
    for (claim, incarnation) in rows {
        lab.message(1, &Message::Alive(claim));
        assert_eq!(lab.state(1, "b"), Some((State::Alive, incarnation)));
    }
    assert_eq!((lab.peers[1].noted("RefutedAlive"), lab.peers[1].noted("AliveRefused")), (4, 0));
    lab.run(secs(2));
    assert_eq!(lab.state(0, "b"), Some((State::Alive, 302)), "the others are told");
    // About anybody else they are refused, and so they are about oneself at another address.
    lab.message(0, &Message::Alive(alive(400, &[0; 600], good)));
    lab.message(1, &Message::Alive(Alive { addr: &[10, 9, 9, 9], ..alive(400, &[0; 600], good) }));
    assert_eq!((lab.peers[0].noted("AliveRefused"), lab.peers[1].noted("AliveRefused")), (1, 1));
}

#[test]
fn what_cannot_be_refuted_costs_no_health() {
    let mut lab = Lab::joined(2, Profile::LAN);
    for _ in 0..5 {
        lab.message(1, &Message::Suspect(Accusation { incarnation: u32::MAX, node: b"b", from: b"x" }));
        lab.message(1, &Message::Dead(Accusation { incarnation: u32::MAX, node: b"b", from: b"x" }));
    }
    let peer = &lab.peers[1];
    assert_eq!((peer.noted("Irrefutable"), peer.swim.health_score()), (10, 0));
    assert_eq!((lab.state(1, "b"), peer.broadcasts.is_empty()), (Some((State::Alive, 1)), true));
    // The incarnation before the last can.
    lab.message(1, &Message::Suspect(Accusation { incarnation: u32::MAX - 1, node: b"b", from: b"x" }));
    assert_eq!((lab.state(1, "b"), lab.peers[1].swim.health_score()), (Some((State::Alive, u32::MAX)), 1));
}

#[test]
fn an_ack_of_a_node_that_is_gone_teaches_nothing() {
    for is_gone in [false, true] {
        let mut lab = Lab::joined(2, Profile::LAN);
        lab.datagram_passes = Box::new(|_, _| false);
        while lab.peers[0].swim.probe.is_none() {
            lab.run(ms(1));
        }
        if is_gone {
            lab.message(0, &Message::Dead(Accusation { incarnation: 1, node: b"b", from: b"x" }));
        }
        // The layer above forgets a node that is pruned.
        lab.peers[0].coordinates.forget(b"b");
        let seq = lab.peers[0].swim.sequence;
        let mut coordinate = Vec::new();
        encode_coordinate(Coordinates::new().own(), &mut coordinate);
        lab.message(0, &Message::Ack(Ack { seq, payload: Some(&coordinate) }));
        assert!(lab.peers[0].swim.probe.is_none(), "it is the answer to the probe");
        assert_eq!(lab.peers[0].coordinates.get(b"b").is_none(), is_gone);
    }
}

#[test]
fn what_fits_no_datagram_is_not_sent() {
    let mut peer = Peer::new("a", 0, 1, |_| {});
    peer.codec = Codec::new(Settings {
        label: vec![b'l'; 100],
        skip_inbound_label_check: false,
        keyring: Some(Keyring::new(Key::from_bytes(&[1; 32]).unwrap(), []).unwrap()),
        verify_incoming: true,
        verify_outgoing: true,
        compression: false,
    });
    let mut send = |length| {
        peer.out.clear();
        peer.act(Instant::ORIGIN, |_, _, cx| send_user(addr(1), &vec![1; length], cx));
        let mut actions = peer.out.actions();
        match (actions.next(), actions.next()) {
            (Some(Action::Send { bytes, .. }), None) => bytes.len(),
            (Some(Action::Note(Note::DatagramTooLong { .. })), None) => 0,
            other => panic!("{other:?}"),
        }
    };
    let most = limits::DATAGRAM - 102 - 29 - 1;
    assert_eq!((send(most), send(most + 1)), (limits::DATAGRAM, 0));
}

/// The stream of a peer that this test plays itself.
struct Caller {
    id: StreamId,
}

impl Caller {
    fn call(lab: &mut Lab, number: u64) -> Caller {
        let id = StreamId::accepted(number);
        let event = StreamEvent::Accepted { from: addr(99) };
        lab.peers[0].act(lab.now, |swim, notices, cx| swim.on_stream(id, event, notices, cx));
        Caller { id }
    }

    /// Sends these bytes; what was written in return, and whether the stream was closed.
    fn say(&self, lab: &mut Lab, event: StreamEvent<'_>) -> (Vec<u8>, bool) {
        lab.peers[0].out.clear();
        lab.peers[0].act(lab.now, |swim, notices, cx| swim.on_stream(self.id, event, notices, cx));
        let (mut written, mut closed) = (Vec::new(), false);
        for action in lab.peers[0].out.actions() {
            match action {
                Action::Stream { op: StreamOp::Write(bytes), .. } => written.extend_from_slice(bytes),
                Action::Stream { op: StreamOp::Close | StreamOp::Abort, .. } => closed = true,
                _ => {}
            }
        }
        lab.carry_out(0);
        (written, closed)
    }
}

fn ping_bytes(node: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_stream_ping(&Ping { seq: 9, node, source: Source::default() }, &mut bytes);
    bytes
}

/// A join that brings a node `z` at 10.0.0.5, in this state and with this version vector.
fn push_pull_bytes(state: i64, vsn: &[u8]) -> Vec<u8> {
    let node =
        PushNode { incarnation: 1, name: b"z", addr: &[10, 0, 0, 5], port: 1, meta: b"\xff\x80", state, vsn };
    let mut bytes = Vec::new();
    encode_push_pull(true, [node].into_iter(), b"theirs", &mut bytes);
    bytes
}

#[test]
fn the_asked_side_answers_before_it_learns() {
    let mut lab = Lab::new(1, Profile::LAN);
    lab.peers[0].told.clear();
    let bytes = push_pull_bytes(0, &[1, 5, 2, 2, 5, 5]);
    let caller = Caller::call(&mut lab, 1);
    assert_eq!(caller.say(&mut lab, StreamEvent::Data(&bytes[..20])), (Vec::new(), false));
    let (answer, closed) = caller.say(&mut lab, StreamEvent::Data(&bytes[20..]));
    assert!(closed);
    let mut reader = StreamReader::new(Side::Dialed);
    reader.push(&answer).unwrap();
    assert!(reader.poll(&mut codec()).unwrap());
    let Ok(StreamMessage::PushPull(ours)) = reader.message() else { panic!("{answer:?}") };
    assert_eq!((ours.join, ours.user_state, ours.nodes.len()), (true, &b"state"[..], 1));
    assert_eq!((ours.nodes[0].name, ours.nodes[0].incarnation), (&b"a"[..], 1));
    assert_eq!(lab.peers[0].take_told(), ["joined z", "state theirs true"]);

    // Ours goes out even when theirs cannot be merged.
    let (answer, closed) =
        Caller::call(&mut lab, 2).say(&mut lab, StreamEvent::Data(&push_pull_bytes(0, &[])));
    assert!(closed && answer[0] == 6);
    assert_eq!((lab.peers[0].take_told(), lab.peers[0].noted("StreamRefused")), (vec![], 1));
}

#[test]
fn a_merged_death_is_only_a_suspicion_and_a_farewell_counts() {
    let mut lab = Lab::new(1, Profile::LAN);
    let mut tell = |state| {
        let bytes = push_pull_bytes(state, &[1, 5, 2, 2, 5, 5]);
        Caller::call(&mut lab, 1).say(&mut lab, StreamEvent::Data(&bytes));
        lab.state(0, "z").map(|(state, _)| state)
    };
    assert_eq!([tell(3), tell(2), tell(1)], [None; 3], "the unknown departed stay unknown");
    assert_eq!(tell(0), Some(State::Alive));
    assert_eq!(tell(7), Some(State::Alive));
    assert_eq!(tell(2), Some(State::Suspect));
    assert_eq!(tell(3), Some(State::Left));
    assert_eq!(tell(0), Some(State::Left), "the incarnation is the same");
}

#[test]
fn streams_answer_what_they_can_and_explain_what_they_cannot() {
    let mut lab = Lab::new(1, Profile::LAN);
    let (answer, closed) = Caller::call(&mut lab, 1).say(&mut lab, StreamEvent::Data(&ping_bytes(b"a")));
    assert!(closed);
    let mut reader = StreamReader::new(Side::Dialed);
    reader.push(&answer).unwrap();
    assert!(reader.poll(&mut codec()).unwrap());
    assert!(matches!(reader.message(), Ok(StreamMessage::Ack(ack)) if ack.seq == 9 && ack.payload.is_none()));

    let refused = Caller::call(&mut lab, 2).say(&mut lab, StreamEvent::Data(&ping_bytes(b"other")));
    assert_eq!(refused, (Vec::new(), true));
    // An unknown type is no message, and closes without a word; a broken layer is explained.
    assert_eq!(Caller::call(&mut lab, 3).say(&mut lab, StreamEvent::Data(b"GET /")), (Vec::new(), true));
    let (answer, closed) = Caller::call(&mut lab, 4).say(&mut lab, StreamEvent::Data(&[10, 0, 0, 0, 0]));
    assert!(closed && answer[0] == 13, "{answer:?}");
    // Nothing at all is nobody's fault.
    assert_eq!(lab.peers[0].noted("StreamRefused"), 2);
    assert_eq!(Caller::call(&mut lab, 5).say(&mut lab, StreamEvent::End), (Vec::new(), true));
    assert_eq!(lab.peers[0].noted("StreamRefused"), 2);
    let halfway = Caller::call(&mut lab, 7);
    assert_eq!(halfway.say(&mut lab, StreamEvent::Data(&[0, 0x82])), (Vec::new(), false));
    assert_eq!(halfway.say(&mut lab, StreamEvent::End), (Vec::new(), true));
    assert_eq!(lab.peers[0].noted("StreamRefused"), 3);
    let user = [&[8, 0x81, 0xaa], &b"UserMsgLen"[..], &[2, b'h', b'i']].concat();
    assert_eq!(Caller::call(&mut lab, 6).say(&mut lab, StreamEvent::Data(&user)), (Vec::new(), true));
    assert_eq!(lab.peers[0].take_told(), ["joined a", "user hi"]);
}

#[test]
fn streams_are_bounded_in_number_and_time() {
    let mut lab = Lab::new(1, Profile::LAN);
    let silent: Vec<Caller> =
        (0..limits::ACCEPTED_STREAMS as u64).map(|n| Caller::call(&mut lab, n)).collect();
    lab.carry_out(0);
    assert_eq!(lab.peers[0].noted("StreamLimit"), 0);
    Caller::call(&mut lab, 1000);
    lab.carry_out(0);
    assert_eq!(lab.peers[0].noted("StreamLimit"), 1);
    lab.run(secs(9));
    assert_eq!(lab.peers[0].noted("StreamRefused"), 0);
    lab.run(secs(2));
    assert_eq!(lab.peers[0].noted("StreamRefused"), limits::ACCEPTED_STREAMS);
    assert_eq!(silent[0].say(&mut lab, StreamEvent::Data(&ping_bytes(b"a"))), (Vec::new(), false));
    let (_, closed) = Caller::call(&mut lab, 1001).say(&mut lab, StreamEvent::Data(&ping_bytes(b"a")));
    assert!(closed, "there is room again");
    lab.carry_out(0);
    assert_eq!(lab.peers[0].noted("StreamLimit"), 1);
}

/// A join with the longest user state that there may be.
fn longest_push_pull_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_push_pull(true, [].into_iter(), &vec![0; limits::STREAM_MESSAGE], &mut bytes);
    bytes
}

#[test]
fn streams_are_bounded_in_bytes() {
    let mut lab = Lab::new(1, Profile::LAN);
    let bytes = longest_push_pull_bytes();
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let fit = limits::STREAMS_HELD / most.len();
    assert_eq!(fit, 3);
    let hogs: Vec<Caller> = (0..=fit as u64).map(|n| Caller::call(&mut lab, n)).collect();
    for hog in &hogs[..fit] {
        assert_eq!(hog.say(&mut lab, StreamEvent::Data(most)), (Vec::new(), false));
    }
    // The next one is cut off in the middle; small ones still find room.
    let (_, closed) = hogs[fit].say(&mut lab, StreamEvent::Data(&most[..1 << 20]));
    assert!(!closed);
    let (_, closed) = hogs[fit].say(&mut lab, StreamEvent::Data(&most[1 << 20..]));
    assert!(closed);
    let why = |note: &Note| matches!(note, Note::StreamRefused { why, .. } if *why == ExchangeError::NoRoom.to_string());
    assert_eq!(lab.peers[0].notes.iter().filter(|(_, note)| why(note)).count(), 1);
    let (answer, closed) = Caller::call(&mut lab, 99).say(&mut lab, StreamEvent::Data(&ping_bytes(b"a")));
    assert!(closed && !answer.is_empty());
    // What is complete is let go, and makes room for as much again.
    for hog in &hogs[..fit] {
        let (answer, closed) = hog.say(&mut lab, StreamEvent::Data(last));
        assert!(closed && !answer.is_empty());
    }
    let (answer, closed) = Caller::call(&mut lab, 100).say(&mut lab, StreamEvent::Data(&bytes));
    assert!(closed && !answer.is_empty());
    assert_eq!(lab.peers[0].noted("StreamRefused"), 1);
}

#[test]
fn callers_that_fill_the_memory_do_not_keep_a_node_from_joining() {
    let mut lab = Lab::new(2, Profile::LAN);
    let bytes = longest_push_pull_bytes();
    for n in 0..3 {
        Caller::call(&mut lab, 1000 + n).say(&mut lab, StreamEvent::Data(&bytes[..bytes.len() - 1]));
    }
    let rest = limits::STREAMS_HELD - 3 * (bytes.len() - 1);
    Caller::call(&mut lab, 1003).say(&mut lab, StreamEvent::Data(&bytes[..rest]));
    lab.peers[0].told.clear();
    lab.act(0, |swim, notices, cx| swim.exchange(addr(1), Purpose::Join(1), notices, cx));
    lab.run(secs(1));
    assert_eq!(lab.peers[0].take_told(), ["joined b", "state state true", "Join(1) Ok(())"]);
}

#[test]
fn each_exchange_that_is_asked_for_ends_in_one_report() {
    let mut lab = Lab::new(2, Profile::LAN);
    lab.peers[0].told.clear();
    lab.peers[1].up = false;
    let asked = limits::DIALED_STREAMS as u64 + 20;
    for n in 0..asked {
        lab.act(0, |swim, notices, cx| swim.exchange(addr(1), Purpose::Join(n), notices, cx));
    }
    assert!(lab.peers[0].told.is_empty());
    lab.run(secs(1));
    let refused = ExchangeError::Connect("connection refused".into());
    let expected: Vec<String> =
        (0..asked).map(|n| format!("Join({n}) {:?}", Err::<(), _>(&refused))).collect();
    assert_eq!(lab.peers[0].take_told(), expected);
}

#[test]
fn a_silent_peer_times_out_and_a_broken_version_fails_the_join() {
    let mut lab = Lab::new(1, Profile::LAN);
    lab.peers[0].told.clear();
    lab.peers[0].act(lab.now, |swim, notices, cx| swim.exchange(addr(5), Purpose::Join(0), notices, cx));
    lab.peers[0].out.clear();
    lab.run(secs(11));
    assert_eq!(lab.peers[0].take_told(), ["Join(0) Err(ConnectTimedOut)"]);

    lab.peers[0].act(lab.now, |swim, notices, cx| swim.exchange(addr(5), Purpose::Join(1), notices, cx));
    lab.peers[0].out.clear();
    let id = StreamId::dialed(2);
    lab.act(0, |swim, notices, cx| swim.on_stream(id, StreamEvent::Connected, notices, cx));
    lab.run(secs(11));
    assert_eq!(lab.peers[0].take_told(), ["Join(1) Err(TimedOut)"]);

    lab.peers[0].act(lab.now, |swim, notices, cx| swim.exchange(addr(5), Purpose::Join(2), notices, cx));
    lab.peers[0].out.clear();
    let state = push_pull_bytes(0, &[]);
    let id = StreamId::dialed(3);
    lab.act(0, |swim, notices, cx| swim.on_stream(id, StreamEvent::Connected, notices, cx));
    lab.act(0, |swim, notices, cx| swim.on_stream(id, StreamEvent::Data(&state), notices, cx));
    let told = lab.peers[0].take_told();
    assert!(told.len() == 1 && told[0].contains("protocol version (0) is incompatible: [1, 5]"), "{told:?}");
    assert_eq!(lab.state(0, "z"), None, "nothing was merged");
}

#[test]
fn periodic_exchanges_heal_what_gossip_missed() {
    let mut lab = Lab::joined(2, Profile::LAN);
    lab.datagram_passes = Box::new(|_, _| false);
    let before = lab.peers[1].noted("StreamAccepted") + lab.peers[0].noted("StreamAccepted");
    let token = Token(1);
    lab.act(0, |swim, notices, cx| swim.update_meta(b"\xff\x81\xa1a\xa1c", token, notices, cx));
    lab.run(secs(62));
    assert!(lab.peers[1].take_told().contains(&"updated a".to_string()));
    assert!(lab.peers[0].take_told().contains(&"state state false".to_string()));
    assert!(lab.peers[1].noted("StreamAccepted") + lab.peers[0].noted("StreamAccepted") > before);
}

/// A message of anybody about anybody, nodes and nonsense alike.
#[derive(Clone, Debug)]
enum Said {
    Alive { node: u8, incarnation: u32, addr: Vec<u8>, port: u16, vsn: Vec<u8> },
    Suspect { node: u8, incarnation: u32, from: u8 },
    Dead { node: u8, incarnation: u32, from: u8 },
    Ack(u32),
    Nack(u32),
    Indirect { seq: u32, nack: bool },
    Wait(u64),
}

fn said() -> impl Strategy<Value = Said> {
    let incarnation = || prop_oneof![0u32..6, prop::sample::select(vec![u32::MAX - 1, u32::MAX])];
    let good_vsn =
        prop::sample::select(vec![vec![1, 5, 2, 2, 5, 5], vec![1, 5, 2, 2, 5, 4], vec![1, 5], vec![]]);
    let addr = prop::sample::select(vec![vec![10, 0, 0, 9], vec![10, 0, 0, 8], vec![0; 16], vec![1]]);
    prop_oneof![
        6 => (0u8..5, incarnation(), addr, 0u16..2, good_vsn)
            .prop_map(|(node, incarnation, addr, port, vsn)| Said::Alive { node, incarnation, addr, port, vsn }),
        4 => (0u8..5, incarnation(), 0u8..5)
            .prop_map(|(node, incarnation, from)| Said::Suspect { node, incarnation, from }),
        2 => (0u8..5, incarnation(), 0u8..5)
            .prop_map(|(node, incarnation, from)| Said::Dead { node, incarnation, from }),
        1 => (0u32..20).prop_map(Said::Ack),
        1 => (0u32..20).prop_map(Said::Nack),
        1 => (any::<u32>(), any::<bool>()).prop_map(|(seq, nack)| Said::Indirect { seq, nack }),
        4 => (0u64..5000).prop_map(Said::Wait),
    ]
}

fn hear(lab: &mut Lab, said: &Said) {
    let name = |node: u8| [b'a' + node];
    match said {
        Said::Alive { node, incarnation, addr, port, vsn } => {
            let alive = Alive {
                incarnation: *incarnation,
                node: &name(*node),
                addr,
                port: *port,
                meta: &[0xff, *port as u8],
                vsn,
            };
            lab.message(0, &Message::Alive(alive));
        }
        Said::Suspect { node, incarnation, from } => lab.message(
            0,
            &Message::Suspect(Accusation {
                incarnation: *incarnation,
                node: &name(*node),
                from: &name(*from),
            }),
        ),
        Said::Dead { node, incarnation, from } => lab.message(
            0,
            &Message::Dead(Accusation { incarnation: *incarnation, node: &name(*node), from: &name(*from) }),
        ),
        Said::Ack(seq) => lab.message(0, &Message::Ack(Ack { seq: *seq, payload: Some(b"x") })),
        Said::Nack(seq) => lab.message(0, &Message::Nack(Nack { seq: *seq })),
        Said::Indirect { seq, nack } => {
            let source = Source { addr: &[10, 0, 0, 9], port: 1, node: b"x" };
            let ping =
                IndirectPing { seq: *seq, target: &[10, 0, 0, 8], port: 0, node: b"y", nack: *nack, source };
            lab.message(0, &Message::IndirectPing(ping));
        }
        Said::Wait(milliseconds) => lab.run(ms(*milliseconds)),
    }
}

proptest! {
    #[test]
    fn whatever_is_said_the_node_stays_sane(script in prop::collection::vec(said(), 1..60), seed: u8) {
        let mut lab = Lab::new(1, Profile::LAN);
        lab.peers[0].rng = Rng::new([seed; 32]);
        let mut told = BTreeMap::from([("a".to_string(), true)]);
        for step in &script {
            hear(&mut lab, step);
            let peer = &mut lab.peers[0];
            // Joins and departures of a name alternate, as the layer above relies on.
            for line in peer.take_told() {
                let (what, name) = line.split_once(' ').unwrap();
                match what {
                    "joined" if name != "a" => prop_assert!(told.insert(name.into(), true) != Some(true)),
                    "gone" => prop_assert_eq!(told.insert(name.into(), false), Some(true)),
                    _ => {}
                }
            }
            let swim = &peer.swim;
            for (_, entry) in swim.table().iter() {
                prop_assert_eq!(entry.suspicion.is_some(), entry.state == State::Suspect);
                prop_assert_eq!(entry.state.is_live(), told[&entry.name.to_string()]);
                prop_assert_eq!(entry.versions.memberlist_max(), 5);
            }
            let me = swim.table().get(swim.table().find(b"a").unwrap());
            prop_assert_eq!((me.state, me.incarnation), (State::Alive, swim.incarnation));
            prop_assert!(swim.health_score() < 8);
            prop_assert_eq!(peer.broadcasts.nodes, swim.table().len());
        }
        // All relays end, and so does every suspicion.
        lab.run(secs(120));
        let swim = &lab.peers[0].swim;
        prop_assert!(swim.relays.is_empty());
        prop_assert_eq!(swim.live_nodes(), 1);
        prop_assert_eq!(swim.table().len(), 1, "whoever never answers is forgotten in the end");
    }
}
