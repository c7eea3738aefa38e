//! What the golden bytes mean, and that our own encoders make the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use villein_core::coordinate::Coordinate;
use villein_core::crypto::{Key, Keyring, Version};
use villein_core::rng::Rng;
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_added_extension("hex");
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

fn indirect(seq: u32, target: u8, node: &'static [u8], from: u8, name: &'static [u8]) -> IndirectPing<'static> {
    IndirectPing { seq, target: loopback(target), port: 7946, node, nack: true, source: source(from, name) }
}

fn ack(seq: u32, coordinate: Option<Coordinate>) -> Said {
    let payload = coordinate.map(|coordinate| keep(made(|out| encode_coordinate(&coordinate, out))));
    Said::Member(Message::Ack(Ack { seq, payload }))
}

fn alive_at(incarnation: u32, addr: &'static [u8], node: &'static [u8], meta: &'static [u8], vsn: &'static [u8]) -> Said {
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

fn response(ltime: u64, id: u32, from: &'static [u8], flags: u32, payload: Option<&'static [u8]>) -> SerfMessage<'static> {
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

fn record(name: &'static [u8], addr: &'static [u8], vsn: [u8; 6], role: &'static [u8]) -> ConflictRecord<'static> {
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
            vec![alive_at(1, mapped, b"a", NO_TAGS, SERF), alive_at(1, b"\x0a\x63\0\x02", b"b", NO_TAGS, SERF)],
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
