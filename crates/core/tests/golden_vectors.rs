//! What the golden bytes mean, and that our own encoders make the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use villein_core::coordinate::Coordinate;
use villein_core::crypto::{Key, Keyring, Version};
use villein_core::note::Note;
use villein_core::rng::Rng;
use villein_core::snapshot::Restored;
use villein_core::text::Text;
use villein_core::wire::message::*;
use villein_core::wire::serf::*;

const K1: &[u8] = b"0123456789abcdef0123456789abcdef";
const K2: &[u8] = b"fedcba9876543210";
const K3: &[u8] = b"0123456789abcdef";
const LABEL: &[u8] = b"prod-east";

/// Version vectors: of an agent, of the bare library, and of the bare library at protocol 1.
const SERF: &[u8] = &[1, 5, 2, 2, 5, 5];
const BARE: &[u8] = &[1, 5, 2, 0, 0, 0];
const BARE_1: &[u8] = &[1, 5, 1, 0, 0, 0];

const NO_TAGS: &[u8] = b"\xff\x80";
const WEB: &[u8] = b"\xff\x81\xa4role\xa3web";
const WEB_EAST: &[u8] = b"\xff\x82\xa4role\xa3web\xa2dc\xa4east";
const DB: &[u8] = b"\xff\x81\xa4role\xa2db";

/// The layers of a packet.
#[derive(Clone, Copy, Default)]
struct Layers {
    crc: bool,
    compressed: bool,
    key: Option<(Version, &'static [u8])>,
    label: &'static [u8],
}

const BARE_PACKET: Layers = Layers { crc: false, compressed: false, key: None, label: b"" };
const CRC: Layers = Layers { crc: true, ..BARE_PACKET };

impl Layers {
    const fn compressed(self) -> Layers {
        Layers { compressed: true, ..self }
    }

    const fn sealed(self, key: &'static [u8]) -> Layers {
        Layers { key: Some((Version::Plain, key)), ..self }
    }

    const fn padded(self) -> Layers {
        Layers { key: Some((Version::Padded, K3)), ..self }
    }

    const fn labelled(self) -> Layers {
        Layers { label: LABEL, ..self }
    }

    fn codec(self) -> Codec {
        Codec::new(Settings {
            label: self.label.to_vec(),
            skip_inbound_label_check: false,
            keyring: self.key.map(|(_, key)| ring(key)),
            verify_incoming: true,
            verify_outgoing: true,
            compression: self.compressed,
        })
    }

    /// A codec that leaves out what needs the vector's nonce, and the label in front of it.
    fn inner_codec(self) -> Codec {
        Layers { key: None, label: b"", ..self }.codec()
    }
}

/// Every key is on the ring, behind the one that seals.
fn ring(primary: &[u8]) -> Keyring {
    let key = |bytes| Key::from_bytes(bytes).unwrap();
    Keyring::new(key(primary), [K1, K2, K3].map(key)).unwrap()
}

/// What one part of a datagram says.
#[derive(Debug, PartialEq)]
enum Said {
    Member(Message<'static>),
    Serf(SerfMessage<'static>),
}

impl Said {
    fn of(part: &'static [u8]) -> Said {
        match decode(part).unwrap() {
            Message::User(content) => Said::Serf(decode_serf(content).unwrap()),
            message => Said::Member(message),
        }
    }

    fn push_to(&self, batch: &mut Batch) {
        match self {
            Said::Member(message) => batch.push_message(message),
            Said::Serf(message) => batch.push_user(&made(|out| encode_serf(message, out))),
        }
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_added_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Expected values borrow what encoders make; tests may keep it for ever.
fn keep(bytes: Vec<u8>) -> &'static [u8] {
    bytes.leak()
}

fn made(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn loopback(last: u8) -> &'static [u8] {
    keep(vec![127, 0, 0, last])
}

fn source(last: u8, node: &'static [u8]) -> Source<'static> {
    Source { addr: loopback(last), port: 7946, node }
}

fn ping(seq: u32, node: &'static [u8], from: u8, name: &'static [u8]) -> Said {
    Said::Member(Message::Ping(Ping { seq, node, source: source(from, name) }))
}

fn indirect(
    seq: u32,
    target: u8,
    node: &'static [u8],
    from: u8,
    name: &'static [u8],
) -> IndirectPing<'static> {
    IndirectPing { seq, target: loopback(target), port: 7946, node, nack: true, source: source(from, name) }
}

fn ack(seq: u32, coordinate: Option<Coordinate>) -> Said {
    let payload = coordinate.map(|coordinate| keep(made(|out| encode_coordinate(&coordinate, out))));
    Said::Member(Message::Ack(Ack { seq, payload }))
}

fn alive_at(
    incarnation: u32,
    addr: &'static [u8],
    node: &'static [u8],
    meta: &'static [u8],
    vsn: &'static [u8],
) -> Said {
    Said::Member(Message::Alive(Alive { incarnation, node, addr, port: 7946, meta, vsn }))
}

fn alive(incarnation: u32, last: u8, node: &'static [u8], meta: &'static [u8]) -> Said {
    alive_at(incarnation, loopback(last), node, meta, SERF)
}

fn bare(last: u8, node: &'static [u8], vsn: &'static [u8]) -> Said {
    alive_at(1, loopback(last), node, b"", vsn)
}

fn accusation(node: &'static [u8], from: &'static [u8]) -> Accusation<'static> {
    Accusation { incarnation: 1, node, from }
}

fn event(ltime: u64, name: &'static [u8], payload: Option<&'static [u8]>, coalesce: bool) -> Said {
    Said::Serf(SerfMessage::UserEvent(UserEvent { ltime, name, payload, coalesce }))
}

/// A query of the node "a" with the timeout of a small cluster.
fn query(ltime: u64, id: u32, name: &'static [u8], payload: Option<&'static [u8]>) -> Query<'static> {
    Query {
        ltime,
        id,
        addr: loopback(1),
        port: 7946,
        source_node: b"a",
        timeout_ns: 3_200_000_000,
        name,
        payload,
        ..Query::default()
    }
}

fn asks(query: Query<'static>) -> Said {
    Said::Serf(SerfMessage::Query(query))
}

fn key_query(ltime: u64, id: u32, name: &'static [u8], key: &[u8]) -> Said {
    asks(query(ltime, id, name, Some(keep(made(|out| encode_key_request(key, out))))))
}

fn response(
    ltime: u64,
    id: u32,
    from: &'static [u8],
    flags: u32,
    payload: Option<&'static [u8]>,
) -> SerfMessage<'static> {
    SerfMessage::Response(Response { ltime, id, from, flags, payload })
}

fn key_response(ltime: u64, id: u32, response_body: &KeyResponse<'_>) -> Said {
    Said::Serf(response(ltime, id, b"a", 0, Some(keep(made(|out| encode_key_response(response_body, out))))))
}

fn relay(inner: &SerfMessage<'_>) -> Said {
    let inner = keep(made(|out| encode_serf(inner, out)));
    Said::Serf(SerfMessage::Relay(Relay { addr: loopback(1), port: 7946, name: b"a", inner }))
}

fn filters() -> Vec<&'static [u8]> {
    let nodes = Filter::Nodes(vec![b"a", b"b"]);
    let tag = Filter::Tag { tag: b"role", expr: b"^(web|db)$" };
    [nodes, tag].map(|filter| keep(made(|out| encode_filter(&filter, out)))).to_vec()
}

fn record(
    name: &'static [u8],
    addr: &'static [u8],
    vsn: [u8; 6],
    role: &'static [u8],
) -> ConflictRecord<'static> {
    ConflictRecord { addr, port: 7946, name, status: 1, vsn, tags: vec![(b"role", role)] }
}

fn membership_datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    let moved = Coordinate {
        vec: [
            -3.835_584_969_503_056_4e-5,
            2.750_635_226_896_659_8e-5,
            2.673_991_882_700_270_2e-5,
            3.195_510_826_327_234_5e-5,
            1.545_379_948_589_471_6e-5,
            -3.491_794_116_903_847e-5,
            -7.009_691_460_771_647e-6,
            -9.489_510_112_706_355e-7,
        ],
        error: 1.433_413_603_776_484,
        adjustment: 1.294_531_875_000_000_1e-5,
        height: 1.0e-5,
    };
    let relayed = Message::IndirectPing(indirect(23, 5, b"e", 2, b"b"));
    let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x63\0\x01";
    vec![
        ("udp-ping", BARE_PACKET, vec![ping(1, b"a", 2, b"b")]),
        ("udp-ack-coord-initial", BARE_PACKET, vec![ack(1, Some(Coordinate::ORIGIN))]),
        ("udp-ack-coord", BARE_PACKET, vec![ack(1, Some(moved))]),
        ("udp-ack-forwarded", BARE_PACKET, vec![ack(78, None)]),
        ("udp-nack", BARE_PACKET, vec![Said::Member(Message::Nack(Nack { seq: 77 }))]),
        ("udp-indirect-ping", BARE_PACKET, vec![Said::Member(relayed)]),
        ("udp-crc-suspect", CRC, vec![Said::Member(Message::Suspect(accusation(b"e", b"b")))]),
        ("udp-crc-dead-failed", CRC, vec![Said::Member(Message::Dead(accusation(b"e", b"a")))]),
        ("udp-crc-dead-left", CRC, vec![Said::Member(Message::Dead(accusation(b"c", b"c")))]),
        (
            "udp-crc-compound-ping-suspect",
            CRC,
            vec![ping(26, b"e", 1, b"a"), Said::Member(Message::Suspect(accusation(b"e", b"a")))],
        ),
        ("udp-crc-alive-tags", CRC, vec![alive(2, 1, b"a", b"\xff\x81\xa4role\xa4web2")]),
        ("udp-crc-alive-no-tags", CRC, vec![alive(1, 3, b"c", NO_TAGS)]),
        ("udp-crc-alive-refutation", CRC, vec![alive(10, 1, b"a", WEB)]),
        (
            "udp-crc-alive-16byte-addr",
            CRC,
            vec![
                alive_at(1, mapped, b"a", NO_TAGS, SERF),
                alive_at(1, b"\x0a\x63\0\x02", b"b", NO_TAGS, SERF),
            ],
        ),
        ("udp-crc-compound-2alive", CRC, vec![alive(1, 1, b"a", WEB_EAST), alive(1, 2, b"b", DB)]),
        ("udp-enc1-ping", BARE_PACKET.sealed(K1), vec![ping(1, b"a", 2, b"b")]),
        ("udp-enc1-crc-compound", CRC.sealed(K1), vec![alive(1, 1, b"a", WEB), alive(1, 2, b"b", DB)]),
        ("udp-enc0-crc-compound", CRC.padded(), vec![bare(11, b"la", BARE_1), bare(12, b"lb", BARE_1)]),
        ("udp-enc0-ack", BARE_PACKET.padded(), vec![ack(1, None)]),
        ("udp-label", CRC.labelled(), vec![bare(12, b"lb", BARE), bare(11, b"la", BARE)]),
        ("udp-label-enc1", CRC.sealed(K3).labelled(), vec![bare(11, b"la", BARE), bare(12, b"lb", BARE)]),
        (
            "udp-label-enc0-crc-compress",
            CRC.compressed().padded().labelled(),
            vec![bare(11, b"la", BARE_1), bare(12, b"lb", BARE_1)],
        ),
    ]
}

fn mixed_datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    let piggyback = Coordinate {
        vec: [
            -5.210_873_894_885_094_4e-5,
            -3.074_639_039_188_035_6e-5,
            7.173_669_462_176_124e-5,
            3.604_522_289_393_313e-5,
            -3.967_869_616_426_509e-5,
            -1.839_387_934_995_378_6e-5,
            4.553_332_471_971_642e-6,
            5.717_020_547_773_268_5e-5,
        ],
        error: 1.358_633_758_155_153_7,
        adjustment: 9.710_604_835_172_942e-6,
        height: 2.526_535_781_958_176e-5,
    };
    let encrypted = Coordinate {
        vec: [
            -2.924_524_742_357_231e-5,
            5.748_025_731_194_983e-6,
            3.813_738_849_528_887e-5,
            -5.025_448_825_549_642e-6,
            2.014_248_024_079_983_6e-5,
            -8.510_416_790_327_511e-6,
            -2.352_206_927_957_312_3e-6,
            -2.377_627_830_600_046_2e-5,
        ],
        error: 1.432_373_298_704_175,
        adjustment: 1.022_969_062_5e-5,
        height: 1.0e-5,
    };
    let (east_web, v1x40): (_, &[u8]) = (b"\xff\x82\xa2dc\xa4east\xa4role\xa3web", keep(b"v1".repeat(40)));
    let echo = Query {
        timeout_ns: 1_000_000_000,
        ..query(1, 1_350_782_691, b"echo", Some(b"hello hello hello hello"))
    };
    let conflict = Query {
        addr: loopback(6),
        source_node: b"b",
        ..query(2, 1_470_176_214, b"_serf_conflict", Some(b"b"))
    };
    let join = Said::Serf(SerfMessage::Join(JoinIntent { ltime: 2, node: b"b" }));
    vec![
        (
            "udp-compound-ack-piggyback",
            BARE_PACKET,
            vec![ack(3, Some(piggyback)), event(1, b"deploy", Some(b"v1"), true)],
        ),
        ("udp-enc1-ack", BARE_PACKET.sealed(K1), vec![ack(1, Some(encrypted))]),
        (
            "udp-compress-compound",
            BARE_PACKET.compressed(),
            vec![ping(1, b"b", 1, b"a"), alive(1, 1, b"a", east_web), alive(1, 2, b"b", DB)],
        ),
        (
            "udp-crc-compress-compound",
            CRC.compressed(),
            vec![asks(echo), event(1, b"deploy", Some(v1x40), true)],
        ),
        (
            "udp-serf-query-conflict",
            CRC.compressed(),
            vec![alive(1, 1, b"a", east_web), alive(1, 6, b"b", NO_TAGS), join, asks(conflict)],
        ),
    ]
}

fn serf_datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    let leave = |ltime, node, prune| Said::Serf(SerfMessage::Leave(LeaveIntent { ltime, node, prune }));
    let join = Said::Serf(SerfMessage::Join(JoinIntent { ltime: 1, node: b"b" }));
    let uptime = Query {
        filters: filters(),
        flags: flags::ACK,
        timeout_ns: 2_000_000_000,
        ..query(1, 989_131_876, b"uptime", Some(b"hello"))
    };
    let load = Query {
        filters: vec![keep(made(|out| encode_filter(&Filter::Nodes(vec![b"b"]), out)))],
        flags: flags::ACK,
        relay_factor: 1,
        timeout_ns: 2_000_000_000,
        ..query(2, 381_292_849, b"load", None)
    };
    let serf_ping = Query { flags: flags::ACK, ..query(3, 883_085_834, b"_serf_ping", None) };
    let known = record(b"b", loopback(2), [1, 5, 2, 2, 5, 5], b"db");
    let known = Some(keep(made(|out| encode_conflict(Some(&known), out))));
    let up = Some(&b"up 3 days\n"[..]);
    vec![
        ("udp-crc-serf-join", CRC, vec![join]),
        ("udp-crc-serf-leave", CRC, vec![leave(3, b"c", false)]),
        ("udp-crc-serf-leave-prune", CRC, vec![leave(6, b"e", true)]),
        ("udp-crc-serf-user-event", CRC, vec![event(2, b"nopayload", None, false)]),
        (
            "udp-crc-compound-2-user-events",
            CRC,
            vec![event(2, b"nopayload", None, false), event(1, b"deploy", Some(b"v1"), true)],
        ),
        ("udp-crc-serf-query-filters", CRC, vec![asks(uptime)]),
        ("udp-crc-serf-query-relay", CRC, vec![asks(load)]),
        (
            "udp-serf-query-ack",
            BARE_PACKET,
            vec![Said::Serf(response(1, 989_131_876, b"a", flags::ACK, None))],
        ),
        ("udp-serf-query-response", BARE_PACKET, vec![Said::Serf(response(1, 1_002_298_663, b"b", 0, up))]),
        ("udp-serf-relay", BARE_PACKET, vec![relay(&response(2, 381_292_849, b"b", flags::ACK, None))]),
        ("udp-serf-relayed", BARE_PACKET, vec![Said::Serf(response(2, 381_292_849, b"b", flags::ACK, None))]),
        ("udp-serf-relay-response", BARE_PACKET, vec![relay(&response(2, 1_547_540_992, b"b", 0, up))]),
        ("udp-serf-query-ping", CRC, vec![asks(serf_ping)]),
        (
            "udp-serf-conflict-response",
            BARE_PACKET,
            vec![Said::Serf(response(2, 1_470_176_214, b"a", 0, known))],
        ),
    ]
}

fn key_datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    let list = || key_query(2, 387_956_457, b"_serf_list-keys", b"");
    let install = || key_query(3, 1_784_888_932, b"_serf_install-key", K2);
    let make_primary = || key_query(4, 402_944_339, b"_serf_use-key", K2);
    let remove = key_query(5, 440_066_680, b"_serf_remove-key", K1);
    let k1 = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let all = KeyResponse { result: true, keys: Some(vec![k1]), primary_key: k1, message: b"" };
    let done = KeyResponse { result: true, ..KeyResponse::default() };
    let refused =
        KeyResponse { message: b"Removing the primary key is not allowed", ..KeyResponse::default() };
    let answer = BARE_PACKET.sealed(K1);
    vec![
        ("udp-enc1-key-list", CRC.sealed(K1), vec![list()]),
        ("udp-enc1-key-install", CRC.sealed(K1), vec![install(), list()]),
        ("udp-enc1-key-use", CRC.sealed(K2), vec![make_primary(), install(), list()]),
        ("udp-enc1-key-remove", CRC.sealed(K2), vec![remove, make_primary(), install(), list()]),
        ("udp-enc1-key-response-list", answer, vec![key_response(2, 387_956_457, &all)]),
        ("udp-enc1-key-response-ok", answer, vec![key_response(3, 1_784_888_932, &done)]),
        ("udp-enc1-key-response-fail", BARE_PACKET.sealed(K2), vec![key_response(7, 336_933_033, &refused)]),
    ]
}

/// Datagrams that our own encoders make byte for byte.
fn datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    [membership_datagrams(), mixed_datagrams(), serf_datagrams(), key_datagrams()]
        .into_iter()
        .flatten()
        .collect()
}

/// Datagrams of the newer generation: the same meaning in other bytes.
fn foreign_datagrams() -> Vec<(&'static str, Layers, Vec<Said>)> {
    let uptime = Query {
        filters: filters(),
        flags: flags::ACK,
        timeout_ns: 1_000_000_000,
        ..query(3, 442_897_829, b"uptime", Some(b"hello"))
    };
    vec![
        ("udp-master-serf-query", CRC, vec![asks(uptime)]),
        (
            "udp-master-serf-relay",
            BARE_PACKET,
            vec![relay(&response(2, 706_489_769, b"b", 0, Some(b"up 3 days\n")))],
        ),
    ]
}

/// What a stream says.
struct Stream {
    name: &'static str,
    layers: Layers,
    side: Side,
    said: StreamMessage<'static>,
    /// The user state is compared by its meaning: the reference sends all 512 slots of its ring.
    state: Option<SerfState<'static>>,
    /// Whether our encoders make the same bytes around that user state.
    ours: bool,
}

fn node(last: u8, name: &'static [u8], meta: &'static [u8], vsn: &'static [u8]) -> PushNode<'static> {
    PushNode { incarnation: 1, name, addr: loopback(last), port: 7946, meta, state: 0, vsn }
}

fn state(times: &[(&'static [u8], u64)]) -> SerfState<'static> {
    SerfState {
        ltime: 1,
        event_ltime: 1,
        query_ltime: 1,
        status_ltimes: times.to_vec(),
        ..SerfState::default()
    }
}

fn push_pull(
    name: &'static str,
    side: Side,
    nodes: Vec<PushNode<'static>>,
    state: SerfState<'static>,
) -> Stream {
    let said = StreamMessage::PushPull(PushPull { join: true, nodes, user_state: b"" });
    Stream { name, layers: BARE_PACKET, side, said, state: Some(state), ours: true }
}

fn plain(name: &'static str, layers: Layers, side: Side, said: StreamMessage<'static>) -> Stream {
    Stream { name, layers, side, said, state: None, ours: true }
}

/// From a library without a layer above: no user state.
fn bare_push_pull(name: &'static str, layers: Layers, side: Side, node: PushNode<'static>) -> Stream {
    plain(
        name,
        layers,
        side,
        StreamMessage::PushPull(PushPull { join: true, nodes: vec![node], user_state: b"" }),
    )
}

fn push_pulls() -> Vec<Stream> {
    let b = || node(2, b"b", DB, SERF);
    let b_state = || state(&[(b"b", 0)]);
    let with_events = SerfState {
        ltime: 2,
        event_ltime: 3,
        query_ltime: 4,
        status_ltimes: vec![(b"b", 1), (b"a", 0)],
        left_members: vec![],
        events: vec![
            EventSlot { ltime: 1, events: vec![(b"deploy", Some(b"v1"))] },
            EventSlot { ltime: 2, events: vec![(b"nopayload", None)] },
        ],
    };
    let with_left =
        SerfState { ltime: 3, left_members: vec![b"c"], ..state(&[(b"a", 0), (b"c", 2), (b"b", 1)]) };
    let left = [node(1, b"a", NO_TAGS, SERF), node(2, b"b", NO_TAGS, SERF), node(3, b"c", NO_TAGS, SERF)];
    let left = left.into_iter().map(|node| PushNode { state: if node.name == b"c" { 3 } else { 0 }, ..node });
    let left = StreamMessage::PushPull(PushPull { join: false, nodes: left.collect(), user_state: b"" });
    let sealed = Layers { key: Some((Version::Plain, K1)), ..BARE_PACKET };
    let d = node(4, b"d", NO_TAGS, SERF);
    vec![
        push_pull("tcp-pushpull-join-request", Side::Accepted, vec![b()], b_state()),
        push_pull(
            "tcp-pushpull-join-response",
            Side::Dialed,
            vec![node(1, b"a", WEB_EAST, SERF)],
            state(&[(b"a", 0)]),
        ),
        push_pull("tcp-pushpull-events", Side::Dialed, vec![node(1, b"a", WEB, SERF), b()], with_events),
        Stream {
            ours: false,
            said: left,
            ..push_pull("tcp-pushpull-left", Side::Accepted, vec![], with_left)
        },
        Stream { ours: false, ..push_pull("tcp-master-pushpull-join", Side::Accepted, vec![b()], b_state()) },
        Stream {
            layers: BARE_PACKET.compressed(),
            ..push_pull("tcp-pushpull-compressed", Side::Accepted, vec![b()], b_state())
        },
        Stream { layers: sealed, ..push_pull("tcp-enc1-pushpull", Side::Accepted, vec![b()], b_state()) },
        Stream {
            layers: sealed.compressed(),
            ..push_pull("tcp-enc1-compressed-pushpull", Side::Accepted, vec![d], state(&[(b"d", 0)]))
        },
    ]
}

fn streams() -> Vec<Stream> {
    let (lb, la) = (|| node(12, b"lb", b"", BARE), || node(11, b"la", b"", BARE));
    let (labelled, sealed) = (BARE_PACKET.labelled(), BARE_PACKET.sealed(K3).labelled());
    let lb_1 = PushNode { vsn: BARE_1, ..lb() };
    let err = StreamMessage::Err(b"Remote state is encrypted and encryption is not configured");
    let Said::Serf(x) = event(1, b"x", None, false) else { unreachable!("an event is of the Serf layer") };
    let x = StreamMessage::User(keep(made(|out| encode_serf(&x, out))));
    let tcp_ping = Ping { seq: 1, node: b"tcponly", source: source(1, b"a") };
    let mut streams = push_pulls();
    streams.extend([
        bare_push_pull("tcp-enc0-pushpull", BARE_PACKET.padded(), Side::Accepted, lb_1),
        bare_push_pull("tcp-label-pushpull-request", labelled, Side::Accepted, lb()),
        bare_push_pull("tcp-label-pushpull-response", labelled, Side::Dialed, la()),
        bare_push_pull("tcp-label-enc1-pushpull-request", sealed, Side::Accepted, lb()),
        bare_push_pull("tcp-label-enc1-pushpull-response", sealed, Side::Dialed, la()),
        plain("tcp-label-user-message", labelled, Side::Accepted, x),
        plain("tcp-err", BARE_PACKET, Side::Dialed, err.clone()),
        plain("tcp-err-compressed", BARE_PACKET.compressed(), Side::Dialed, err),
        plain("tcp-ping", BARE_PACKET, Side::Accepted, StreamMessage::Ping(tcp_ping)),
        plain("tcp-ping-ack", BARE_PACKET, Side::Dialed, StreamMessage::Ack(Ack { seq: 5, payload: None })),
    ]);
    streams
}

/// A file, what is heard of it or why nothing is, and why parts of it are not.
type Mishap = (&'static str, Result<Vec<Said>, Refusal>, &'static [Refusal]);

/// What becomes of a packet that nobody should send, at a node without label and keys.
fn refusals() -> Vec<Mishap> {
    let to = |node, seq| Said::Member(Message::Ping(Ping { seq, node, source: Source::default() }));
    vec![
        ("neg-crc-mismatch", Err(Refusal::Crc), &[]),
        ("neg-crc-empty", Err(Refusal::Empty), &[]),
        ("neg-crc-short", Err(Refusal::UnknownType(12)), &[]),
        ("neg-compound-empty-part", Ok(vec![]), &[Refusal::Empty]),
        ("neg-compound-truncated", Ok(vec![to(b"a", 7)]), &[Refusal::CompoundTruncated]),
        ("neg-compound-trailing", Ok(vec![to(b"a", 7)]), &[]),
        ("neg-compound-inner-crc", Ok(vec![]), &[Refusal::UnknownType(12)]),
        ("neg-compress-empty", Err(Refusal::Empty), &[]),
        ("neg-compress-no-eof", Err(Refusal::Compression), &[]),
        ("neg-label-on-unlabelled", Err(Refusal::Label), &[]),
        ("neg-label-zero-length", Err(Refusal::Label), &[]),
        // Whom a ping is for is the prober's business, not the codec's.
        ("neg-ping-wrong-node", Ok(vec![to(b"zzz", 8)]), &[]),
    ]
}

/// Files that stand for themselves in a test of their own.
const SINGLES: &[&str] = &[
    "msg-alive-nil-fields",
    "msg-ack-empty-payload",
    "msg-indirect-ping-seq32",
    "msg-pushpull-header-0.9.4",
    "msg-pushpull-header-master",
    "serf-pushpull-small-buffer",
    "serf-conflict-response-16byte",
    "serf-conflict-response-unknown",
    "serf-key-response-no-keyring",
    "meta-tags-one",
    "meta-tags-none",
    "meta-tags-nil",
    "meta-role-v2",
    "neg-query-empty-filter",
];

/// Covered by the unit tests of the LZW code, which is not public.
const LZW: &[&str] = &["lzw-empty", "lzw-one-zero", "lzw-ab", "lzw-50a", "lzw-9000"];

#[test]
fn every_golden_file_is_in_a_table() {
    let mut covered: Vec<&str> = [SINGLES, LZW].concat();
    covered.extend(datagrams().iter().chain(&foreign_datagrams()).map(|row| row.0));
    covered.extend(streams().iter().map(|stream| stream.name));
    covered.extend(refusals().iter().map(|row| row.0));
    let unique: BTreeSet<String> = covered.iter().map(ToString::to_string).collect();
    assert_eq!(unique.len(), covered.len(), "no file is in two tables");
    let there: BTreeSet<String> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().into_string().unwrap().strip_suffix(".hex").map(String::from)
            })
            .filter(|name| !name.starts_with("mdns-"))
            .collect();
    assert_eq!(there, unique);
}

/// A file that an agent wrote: two runs, a leave, and a third run.
#[test]
fn a_snapshot_means_what_the_reference_wrote() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/snapshot-example.txt");
    let bytes = std::fs::read(path).unwrap();
    let place = |name: &str, last| (Text::from(name), SocketAddr::from(([127, 0, 0, last], 7946)));
    let length = bytes.len() as u64;
    let left = Restored { alive: vec![place("b", 2)], clock: 2, length, ..Restored::default() };
    assert_eq!(Restored::parse(&bytes, false), left);
    let stayed = Restored {
        alive: vec![place("a", 1), place("b", 2)],
        event_clock: 3,
        oddities: vec![Note::SnapshotLeaveIgnored],
        ..left
    };
    assert_eq!(Restored::parse(&bytes, true), stayed);
}

#[test]
fn datagrams_mean_what_the_table_says() {
    for (name, layers, said) in datagrams().into_iter().chain(foreign_datagrams()) {
        let mut parts = Parts::default();
        layers.codec().open(&golden(name), &mut parts).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(parts.refused(), [], "{name}");
        let heard: Vec<Said> = parts.iter().map(|part| Said::of(keep(part.to_vec()))).collect();
        assert_eq!(heard, said, "{name}");
    }
}

#[test]
fn datagrams_of_ours_are_the_same_bytes() {
    for (name, layers, said) in datagrams() {
        assert_eq!(seal(layers, &said, &golden(name)), golden(name), "{name}");
    }
}

/// The newer generation writes positive signed numbers in signed formats, which take more room.
#[test]
fn datagrams_of_the_newer_generation_are_other_bytes() {
    for (name, layers, said) in foreign_datagrams() {
        assert_ne!(seal(layers, &said, &golden(name)), golden(name), "{name}");
    }
}

/// Seals like the codec, with the nonce of `golden`.
fn seal(layers: Layers, said: &[Said], golden: &[u8]) -> Vec<u8> {
    let mut batch = Batch::default();
    for said in said {
        said.push_to(&mut batch);
    }
    let label = label_header(layers);
    let mut inner = Vec::new();
    layers.inner_codec().seal(&batch, layers.crc, &mut Rng::new([1; 32]), &mut inner);
    if let Some((version, key)) = layers.key {
        let nonce = golden[label.len() + 1..].first_chunk().unwrap();
        ring(key).seal(version, nonce, layers.label, &mut inner, 0);
    }
    [label, inner].concat()
}

fn label_header(layers: Layers) -> Vec<u8> {
    if layers.label.is_empty() { vec![] } else { [&[0xf4, layers.label.len() as u8], layers.label].concat() }
}

#[test]
fn streams_mean_what_the_table_says() {
    for Stream { name, layers, side, said, state, .. } in streams() {
        let mut reader = StreamReader::new(side);
        reader.push(&golden(name)).unwrap();
        let whole = reader.poll(&mut layers.codec());
        assert_eq!(whole, Ok(true), "{name}");
        let mut heard = reader.message().unwrap();
        if let (Some(state), StreamMessage::PushPull(heard)) = (state, &mut heard) {
            assert_eq!(decode_serf(heard.user_state), Ok(SerfMessage::PushPull(state)), "{name}");
            heard.user_state = b"";
        }
        assert_eq!(heard, said, "{name}");
    }
}

#[test]
fn streams_are_whole_with_their_last_byte_only() {
    for Stream { name, layers, side, .. } in streams() {
        let (mut reader, mut codec) = (StreamReader::new(side), layers.codec());
        let bytes = golden(name);
        let (last, front) = bytes.split_last().unwrap();
        for byte in front {
            reader.push(&[*byte]).unwrap();
            assert_eq!(reader.poll(&mut codec), Ok(false), "{name}");
        }
        reader.push(&[*last]).unwrap();
        assert_eq!(reader.poll(&mut codec), Ok(true), "{name}");
        assert!(reader.message().is_ok(), "{name}");
    }
}

#[test]
fn streams_of_ours_are_the_same_bytes() {
    for Stream { name, layers, side, ours, .. } in streams() {
        let bytes = golden(name);
        let mut reader = StreamReader::new(side);
        reader.push(&bytes).unwrap();
        assert_eq!(reader.poll(&mut layers.codec()), Ok(true));
        let plain = made(|out| match reader.message().unwrap() {
            StreamMessage::PushPull(state) => {
                encode_push_pull(state.join, state.nodes.into_iter(), state.user_state, out);
            }
            // Nodes understand these and never send them; all of them are short.
            StreamMessage::User(content) => {
                out.extend_from_slice(b"\x08\x81\xaaUserMsgLen");
                out.extend([u8::try_from(content.len()).unwrap()]);
                out.extend_from_slice(content);
            }
            StreamMessage::Ping(ping) => encode_stream_ping(&ping, out),
            StreamMessage::Ack(ack) => encode_stream_ack(&ack, out),
            StreamMessage::Err(text) => encode_stream_err(text, out),
        });
        let mut sealed = if side == Side::Accepted { label_header(layers) } else { vec![] };
        let header = sealed.len();
        let body = made(|out| layers.inner_codec().seal_stream(&plain, false, &mut Rng::new([1; 32]), out));
        if let Some((version, key)) = layers.key {
            sealed.extend_from_slice(&bytes[header..header + 5]);
            let aad = [&bytes[header..header + 5], layers.label].concat();
            let (from, nonce) = (sealed.len(), bytes[header + 6..].first_chunk().unwrap());
            sealed.extend(body);
            ring(key).seal(version, nonce, &aad, &mut sealed, from);
            let length = (sealed.len() - from) as u32;
            assert_eq!(bytes[header + 1..header + 5], length.to_be_bytes(), "{name}");
        } else {
            sealed.extend(body);
        }
        assert_eq!(sealed == bytes, ours, "{name}");
    }
}

#[test]
fn packets_that_nobody_should_send_do_no_harm() {
    for (name, result, refused) in refusals() {
        let mut parts = Parts::default();
        let opened = BARE_PACKET.codec().open(&golden(name), &mut parts);
        let heard: Vec<Said> = parts.iter().map(|part| Said::of(keep(part.to_vec()))).collect();
        match result {
            Ok(said) => assert_eq!((opened, heard), (Ok(()), said), "{name}"),
            Err(refusal) => assert_eq!((opened, heard), (Err(refusal), vec![]), "{name}"),
        }
        assert_eq!(parts.refused(), refused, "{name}");
    }
}

#[test]
fn a_query_with_an_empty_filter_is_refused_as_a_whole() {
    let bytes = golden("neg-query-empty-filter");
    let Ok(Message::User(content)) = decode(&bytes) else { panic!("the vector is a user message") };
    assert_eq!(decode_serf(content), Err(DecodeError { field: "Filters", fault: Fault::Empty }));
}

#[test]
fn single_messages_mean_what_the_reference_put_in() {
    let nil = Alive { incarnation: 3, node: b"b", ..Alive::default() };
    for (name, message) in [
        ("msg-alive-nil-fields", Message::Alive(nil)),
        ("msg-ack-empty-payload", Message::Ack(Ack { seq: 200, payload: Some(b"") })),
        ("msg-indirect-ping-seq32", Message::IndirectPing(indirect(70_000, 2, b"b", 1, b"a"))),
    ] {
        let bytes = golden(name);
        assert_eq!(decode(&bytes).as_ref(), Ok(&message), "{name}");
        assert_eq!(made(|out| encode(&message, out)), bytes, "{name}");
    }
    // Both announce more user state than is allowed, in the formats of the two generations.
    for name in ["msg-pushpull-header-0.9.4", "msg-pushpull-header-master"] {
        let error = DecodeError { field: "UserStateLen", fault: Fault::Range };
        assert_eq!(decode_stream(&golden(name)), Err(error), "{name}");
    }
}

#[test]
fn serf_payloads_mean_what_the_reference_put_in() {
    let small = SerfState {
        ltime: 3,
        event_ltime: 4,
        query_ltime: 1,
        status_ltimes: vec![(b"n", 2)],
        left_members: vec![b"x"],
        events: vec![EventSlot { ltime: 1, events: vec![(b"deploy", Some(b"v1")), (b"e2", None)] }],
    };
    let small = SerfMessage::PushPull(small);
    let mut bytes = golden("serf-pushpull-small-buffer");
    assert_eq!(decode_serf(&bytes).as_ref(), Ok(&small));
    // The first of its two slots is nil; ours leaves it out.
    assert_eq!(bytes[0x15..0x17], [0x92, 0xc0]);
    bytes.splice(0x15..0x17, [0x91]);
    assert_eq!(made(|out| encode_serf(&small, out)), bytes);

    let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01";
    let known = record(b"n", mapped, [1, 5, 2, 2, 5, 4], b"web");
    for (name, record) in
        [("serf-conflict-response-16byte", Some(known)), ("serf-conflict-response-unknown", None)]
    {
        let bytes = golden(name);
        assert_eq!(decode_conflict(&bytes).as_ref(), Ok(&record), "{name}");
        assert_eq!(made(|out| encode_conflict(record.as_ref(), out)), bytes, "{name}");
    }

    let off =
        KeyResponse { message: b"No keyring to modify (encryption not enabled)", ..KeyResponse::default() };
    let bytes = golden("serf-key-response-no-keyring");
    assert_eq!(decode_key_response(&bytes).as_ref(), Ok(&off));
    assert_eq!(made(|out| encode_key_response(&off, out)), bytes);
}

#[test]
fn metadata_means_what_the_reference_put_in() {
    let tags = |tags: &[(&str, &str)]| -> BTreeMap<Text, Text> {
        tags.iter().map(|(name, value)| (Text::from(*name), Text::from(*value))).collect()
    };
    for (name, tags, ours) in [
        ("meta-tags-one", tags(&[("role", "web")]), Some(5)),
        ("meta-tags-none", tags(&[]), Some(3)),
        ("meta-tags-nil", tags(&[]), None),
        ("meta-role-v2", tags(&[("role", "web")]), Some(2)),
    ] {
        let bytes = golden(name);
        assert_eq!(decode_meta(&bytes), tags, "{name}");
        if let Some(protocol) = ours {
            assert_eq!(made(|out| encode_meta(&tags, protocol, out)), bytes, "{name}");
        }
    }
}
