//! A steady node allocates nothing for a packet.
//!
//! One node among peers that all its memory has been warmed up for: the test seals the packets of the peers
//! and counts what the node allocates while it handles them, and while its own time passes. What is new to a
//! node (an event, a member) must be remembered and may cost a bounded number of allocations; an exchange over a
//! stream is no packet. A binary of its own, because the counting allocator serves the whole program.

use allocation_counter::measure;
use std::net::SocketAddr;
use villein_core::Node;
use villein_core::config::{Config, Profile};
use villein_core::coordinate::Coordinate;
use villein_core::crypto::{Key, Keyring};
use villein_core::io::{Action, Input, Outbox};
use villein_core::member::{Tags, Versions, WireAddr};
use villein_core::rng::Rng;
use villein_core::time::{Duration, Instant};
use villein_core::wire::message::{
    Ack, Alive, Filter, IndirectPing, JoinIntent, LeaveIntent, Message, Nack, Ping, Query, SerfMessage,
    Source, UserEvent,
};
use villein_core::wire::serf::{
    Batch, Codec, Parts, Settings, decode, encode_coordinate, encode_filter, encode_meta, encode_serf,
};

const PEERS: u8 = 4;
/// Last byte of an address where nobody answers.
const NOBODY: u8 = 200;
const ROUND_TRIP: Duration = Duration::from_millis(1);

fn addr(peer: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, peer], 7946))
}

fn name(peer: u8) -> Vec<u8> {
    format!("peer{peer}").into_bytes()
}

/// A node, and all that its peers need to speak with it.
struct Lab {
    node: Node,
    out: Outbox,
    now: Instant,
    codec: Codec,
    rng: Rng,
    /// Pings that the node sent, to be answered: to whom, and the sequence number.
    pings: Vec<(SocketAddr, u32)>,
    /// Datagrams that the node sent.
    sent: usize,
    /// Measured values that it logged.
    values: usize,
}

impl Lab {
    /// A node that has known its peers for two minutes, and logs each measured value if that is wanted.
    fn new(config: Config, logs: bool) -> Lab {
        let codec = Codec::new(Settings {
            label: config.label.to_vec(),
            skip_inbound_label_check: false,
            keyring: config.keyring.clone(),
            verify_incoming: config.verify_incoming,
            verify_outgoing: config.verify_outgoing,
            compression: config.compression,
        });
        let now = Instant::from_nanos(1_000_000_000);
        let mut lab = Lab {
            node: Node::new(config, [1; 32], villein_core::snapshot::Restored::default(), now),
            out: Outbox::new(),
            now,
            codec,
            rng: Rng::new([2; 32]),
            pings: Vec::new(),
            sent: 0,
            values: 0,
        };
        lab.node.log_values(logs);
        lab.input(Input::Tick);
        for peer in 1..=PEERS {
            let alive = lab.alive(peer);
            lab.give(peer, &alive);
        }
        // Buffers are as large as the longest packet was.
        let payload = [7; 400];
        let event = UserEvent { ltime: 1, name: b"long", payload: Some(&payload), coalesce: false };
        let bytes = lab.serf(&SerfMessage::UserEvent(event));
        lab.give(1, &bytes);
        lab.run_for(Duration::from_mins(2));
        assert_eq!(lab.node.live_nodes(), usize::from(PEERS) + 1);
        lab
    }

    /// Seals messages into one datagram.
    fn datagram(&mut self, messages: &[Message<'_>]) -> Vec<u8> {
        let mut batch = Batch::default();
        for message in messages {
            batch.push_message(message);
        }
        let mut bytes = Vec::new();
        self.codec.seal(&batch, true, &mut self.rng, &mut bytes);
        bytes
    }

    fn alive(&mut self, peer: u8) -> Vec<u8> {
        let mut meta = Vec::new();
        encode_meta(&Tags::from([("role".into(), "web".into())]), 5, &mut meta);
        self.datagram(&[Message::Alive(Alive {
            incarnation: 1,
            node: &name(peer),
            addr: &[10, 0, 0, peer],
            port: 7946,
            meta: &meta,
            vsn: &Versions::ours(5).0,
        })])
    }

    fn serf(&mut self, message: &SerfMessage<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        encode_serf(message, &mut body);
        self.datagram(&[Message::User(&body)])
    }

    fn ack(&mut self, seq: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_coordinate(&Coordinate { vec: [0.01; 8], ..Coordinate::ORIGIN }, &mut payload);
        self.datagram(&[Message::Ack(Ack { seq, payload: Some(&payload) })])
    }

    /// Gives the node a datagram; returns how often it allocated.
    fn give(&mut self, peer: u8, bytes: &[u8]) -> u64 {
        self.input(Input::Datagram { from: addr(peer), bytes })
    }

    fn input(&mut self, input: Input<'_>) -> u64 {
        let Lab { node, out, now, codec, pings, sent, values, .. } = self;
        let count = measure(|| {
            node.handle(*now, input, out);
            *values += node.drain_values().count();
        })
        .count_total;
        let mut parts = Parts::default();
        for action in out.actions() {
            match action {
                Action::Send { to, bytes } => {
                    *sent += 1;
                    codec.open(bytes, &mut parts).expect("the peers understand the node");
                    pings.extend(parts.iter().filter_map(|part| match decode(part) {
                        Ok(Message::Ping(ping)) => Some((to, ping.seq)),
                        _ => None,
                    }));
                }
                Action::Stream { .. } => panic!("there are no streams here"),
                Action::Store(_) | Action::Reply { .. } | Action::Event(_) | Action::Note(_) => {}
            }
        }
        out.clear();
        count
    }

    /// Lets time pass, in which each ping is answered. Returns how often ticks and acks made the node allocate.
    fn run_for(&mut self, duration: Duration) -> Steady {
        let end = self.now + duration;
        let mut steady = Steady::default();
        while let Some(at) = self.node.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            steady.ticks.add(self.input(Input::Tick));
            for (to, seq) in std::mem::take(&mut self.pings) {
                self.now = self.now + ROUND_TRIP;
                if let Some(peer) = (1..=PEERS).find(|peer| addr(*peer) == to) {
                    let ack = self.ack(seq);
                    steady.acks.add(self.give(peer, &ack));
                }
            }
        }
        self.now = end;
        steady
    }
}

/// How often something happened, and the allocations on the way.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    times: u64,
    allocations: u64,
}

impl Count {
    fn add(&mut self, allocations: u64) {
        self.times += 1;
        self.allocations += allocations;
    }
}

#[derive(Debug, Default)]
struct Steady {
    ticks: Count,
    acks: Count,
}

/// With every way of wrapping packets: its name and the configuration.
fn configs() -> Vec<(&'static str, Config)> {
    let plain = || Config {
        compression: false,
        // A push/pull is a conversation over a stream, not a packet.
        profile: Profile { push_pull_interval: Duration::ZERO, ..Profile::LAN },
        ..Config::new("me".into(), WireAddr::from_ip(addr(100).ip()), 7946)
    };
    let keys = || {
        let key = |byte| Key::from_bytes(&[byte; 32]).expect("keys have 32 bytes");
        Some(Keyring::new(key(1), [key(2)]).expect("there is room for two keys"))
    };
    vec![
        ("plain", plain()),
        ("plain, with a snapshot", Config { snapshot: true, ..plain() }),
        ("compressed", Config { compression: true, ..plain() }),
        ("encrypted", Config { keyring: keys(), ..plain() }),
        ("all layers", Config { compression: true, keyring: keys(), label: "production".into(), ..plain() }),
    ]
}

/// A node for each of them, with and without a log of measured values.
fn labs() -> impl Iterator<Item = (String, Lab)> {
    configs().into_iter().flat_map(|(wrapping, config)| {
        [("", false), (", logged", true)]
            .map(|(log, logs)| (format!("{wrapping}{log}"), Lab::new(config.clone(), logs)))
    })
}

/// Packets that a node gets all day, each by its name. None says anything that is new at the second time.
fn ordinary(lab: &mut Lab) -> Vec<(&'static str, Vec<u8>)> {
    let peer = name(1);
    let source = Source { addr: &[10, 0, 0, 1], port: 7946, node: &peer };
    let mut filter = Vec::new();
    encode_filter(&Filter::Nodes(vec![b"somebody"]), &mut filter);
    let query = Query {
        ltime: 8,
        id: 1,
        addr: &[10, 0, 0, 1],
        port: 7946,
        source_node: &peer,
        name: b"uptime",
        timeout_ns: 1_000_000_000,
        ..Query::default()
    };
    let filtered = Query { id: 2, filters: vec![&filter], ..query.clone() };
    let event = UserEvent { ltime: 9, name: b"deploy", payload: Some(b"1.2.3"), coalesce: true };
    let mut body = Vec::new();
    encode_serf(&SerfMessage::UserEvent(event.clone()), &mut body);
    let ping = Message::Ping(Ping { seq: 5, node: b"me", source });
    let indirect = |target: &'static [u8]| {
        Message::IndirectPing(IndirectPing { seq: 6, target, port: 7946, nack: true, source, node: b"peer" })
    };
    vec![
        ("ping", lab.datagram(std::slice::from_ref(&ping))),
        ("late ack", lab.ack(u32::MAX)),
        ("late nack", lab.datagram(&[Message::Nack(Nack { seq: u32::MAX })])),
        ("known alive", lab.alive(1)),
        ("known event", lab.serf(&SerfMessage::UserEvent(event))),
        ("known query", lab.serf(&SerfMessage::Query(query))),
        ("known query with a filter", lab.serf(&SerfMessage::Query(filtered))),
        ("known join", lab.serf(&SerfMessage::Join(JoinIntent { ltime: 3, node: &peer }))),
        ("known leave", lab.serf(&SerfMessage::Leave(LeaveIntent { ltime: 3, node: &peer, prune: false }))),
        ("indirect ping to a peer", lab.datagram(&[indirect(&[10, 0, 0, 2])])),
        ("indirect ping to nobody", lab.datagram(&[indirect(&[10, 0, 0, NOBODY])])),
        ("ping with gossip", lab.datagram(&[ping, Message::User(&body)])),
    ]
}

#[test]
fn time_that_passes_allocates_nothing() {
    for (wrapping, mut lab) in labs() {
        let sent = lab.sent;
        let steady = lab.run_for(Duration::from_mins(5));
        assert_eq!((steady.acks.times, lab.sent - sent), (300, 300), "{wrapping}: one probe a second");
        assert!(steady.ticks.times >= 300, "{wrapping}: {steady:?}");
        assert_eq!(steady.ticks.allocations, 0, "{wrapping}: {steady:?}");
        assert_eq!(steady.acks.allocations, 0, "{wrapping}: {steady:?}");
        assert_eq!((0..100).map(|_| lab.input(Input::Tick)).sum::<u64>(), 0, "{wrapping}: nothing is due");
    }
}

#[test]
fn values_are_logged_where_that_is_wanted() {
    for (wrapping, lab) in labs() {
        assert_eq!(lab.values > 0, wrapping.ends_with("logged"), "{wrapping}");
        assert_eq!(lab.node.metrics().dropped(), 0, "{wrapping}");
    }
}

#[test]
fn packets_without_news_allocate_nothing() {
    let mut counts = Vec::new();
    for (wrapping, mut lab) in labs() {
        for (kind, bytes) in ordinary(&mut lab) {
            // The first ones may be news, and let buffers grow; what they say has been gossiped then.
            for _ in 0..3 {
                lab.give(1, &bytes);
                lab.run_for(Duration::from_secs(20));
            }
            let mut count = Count::default();
            for _ in 0..100 {
                count.add(lab.give(1, &bytes));
                // What the packet has started ends before the next one.
                let after = lab.run_for(Duration::from_secs(1));
                count.allocations += after.ticks.allocations + after.acks.allocations;
            }
            counts.push((wrapping.clone(), kind, count.allocations));
        }
    }
    // A list is decoded into a list, even if that shows that the query is known.
    let lists = |kind: &str| if kind == "known query with a filter" { 100 } else { 0 };
    counts.retain(|(_, kind, allocations)| *allocations != lists(kind));
    assert_eq!(counts, []);
}

/// Much at once, with a timer each.
#[test]
fn a_burst_of_relayed_probes_allocates_nothing_at_the_second_time() {
    for (wrapping, mut lab) in labs() {
        let kinds = ordinary(&mut lab).into_iter().filter(|(kind, _)| kind.starts_with("indirect ping"));
        let packets: Vec<Vec<u8>> = kinds.map(|(_, bytes)| bytes).collect();
        assert_eq!(packets.len(), 2);
        let mut burst = || {
            let sent = lab.sent;
            let mut allocations = 0;
            for bytes in packets.iter().cycle().take(200) {
                allocations += lab.give(1, bytes);
            }
            let after = lab.run_for(Duration::from_secs(2));
            assert!(lab.sent - sent >= 400, "{wrapping}: a ping each, and an ack or a nack or both");
            allocations + after.ticks.allocations + after.acks.allocations
        };
        assert!(burst() > 0, "{wrapping}: the lists grow");
        assert_eq!(burst(), 0, "{wrapping}");
    }
}

#[test]
fn news_allocates_a_bounded_number_of_times() {
    for (wrapping, mut lab) in labs() {
        let sent = lab.sent;
        let (mut heard, mut spread) = (0, 0);
        for ltime in 10..110 {
            let event = UserEvent { ltime, name: b"deploy", payload: Some(b"1.2.3"), coalesce: false };
            let bytes = lab.serf(&SerfMessage::UserEvent(event));
            heard += lab.give(1, &bytes);
            spread += lab.run_for(Duration::from_secs(5)).ticks.allocations;
        }
        assert!(lab.sent - sent > 100 * 5, "{wrapping}: each event is gossiped");
        // Name and payload for the buffer of recent events and for the application, a place in that buffer, the
        // message in its queue. What is queued rides in packets without a copy.
        assert!(heard <= 100 * 6, "{wrapping}: {heard} allocations for 100 events");
        assert_eq!(spread, 0, "{wrapping}");
    }
}
