//! Gossip as bytes, also such as no agent would write: every map and value is put together by hand, and wrapped by
//! the product's own layers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use villein_core::crypto::{Key, Keyring, Version};
use villein_core::rng::Rng;
use villein_core::wire::serf::{Batch, Codec, Settings};

use crate::support::PATIENCE;

/// Nil, for any value.
pub(super) const NIL: &[u8] = b"\xc0";
/// What every agent of today says of its versions.
pub(super) const VERSIONS: &[u8] = &[1, 5, 2, 2, 5, 5];
/// A list that claims to have 2^32 - 1 items, of which none is there.
pub(super) const ENDLESS_LIST: &[u8] = b"\xdd\xff\xff\xff\xff";

pub(super) fn number(number: u64) -> Vec<u8> {
    [&[0xcf][..], &number.to_be_bytes()].concat()
}

pub(super) fn signed(number: i64) -> Vec<u8> {
    [&[0xd3][..], &number.to_be_bytes()].concat()
}

/// In the old raw family.
pub(super) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    match u8::try_from(bytes.len()) {
        Ok(length @ 0..32) => [&[0xa0 | length], bytes].concat(),
        _ => [&[0xda], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat(),
    }
}

pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [&[0x90 | items.len() as u8][..], &items.concat()].concat()
}

pub(super) fn map(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0x80 | pairs.len() as u8];
    for (key, value) in pairs {
        bytes.extend(text(key));
        bytes.extend_from_slice(value);
    }
    bytes
}

/// A gossiped "this node is here"; without `vsn` the key is missing.
pub(super) fn alive(node: &str, addr: &[u8], vsn: Option<&[u8]>) -> Vec<u8> {
    let (addr, node) = (text(addr), text(node));
    let (incarnation, port, vsn) = (number(1), number(7946), vsn.map(text));
    let mut pairs = vec![
        ("Addr", &addr[..]),
        ("Incarnation", &incarnation),
        ("Meta", b"\xa2\xff\x80"),
        ("Node", &node),
        ("Port", &port),
    ];
    pairs.extend(vsn.as_deref().map(|vsn| ("Vsn", vsn)));
    [&[4][..], &map(&pairs)].concat()
}

/// One node of a push/pull.
pub(super) fn node(name: &str, addr: &[u8], state: i64, vsn: &[u8]) -> Vec<u8> {
    map(&[
        ("Addr", &text(addr)),
        ("Incarnation", &number(1)),
        ("Meta", b"\xa2\xff\x80"),
        ("Name", &text(name)),
        ("Port", &number(7946)),
        ("State", &signed(state)),
        ("Vsn", &text(vsn)),
    ])
}

/// A push/pull whose header says `nodes` and `user_state`, whatever follows.
pub(super) fn push_pull(nodes: i64, user_state: i64, body: &[u8]) -> Vec<u8> {
    let header = map(&[("Join", b"\xc3"), ("Nodes", &signed(nodes)), ("UserStateLen", &signed(user_state))]);
    [&[6][..], &header, body].concat()
}

/// A query in a user message; filters and payload are encoded values. Answers go to nobody.
pub(super) fn query(ltime: u64, name: &str, filters: &[u8], payload: &[u8]) -> Vec<u8> {
    let pairs = map(&[
        ("Addr", &text([127, 64, 0, 99])),
        ("Filters", filters),
        ("Flags", &number(0)),
        ("ID", &number(7)),
        ("LTime", &number(ltime)),
        ("Name", &text(name)),
        ("Payload", payload),
        ("Port", &number(9)),
        ("RelayFactor", &number(0)),
        ("SourceNode", &text("nobody")),
        ("Timeout", &signed(1_000_000_000)),
    ]);
    [&[8, 4][..], &pairs].concat()
}

/// A user event in a user message.
pub(super) fn event(ltime: u64, name: &str) -> Vec<u8> {
    let pairs = map(&[("CC", b"\xc2"), ("LTime", &number(ltime)), ("Name", &text(name)), ("Payload", NIL)]);
    [&[8, 3][..], &pairs].concat()
}

/// A join (1) or leave (0) intent in a user message.
pub(super) fn intent(kind: u8, ltime: u64, node: &str) -> Vec<u8> {
    [&[8, kind][..], &map(&[("LTime", &number(ltime)), ("Node", &text(node))])].concat()
}

/// Wants `inner`, a user message, to be passed on to a node.
pub(super) fn relay(name: &str, addr: &[u8], inner: &[u8]) -> Vec<u8> {
    let place = map(&[("IP", &text(addr)), ("Port", &number(7946)), ("Zone", &text(""))]);
    let header = map(&[("DestAddr", &place), ("DestName", &text(name))]);
    [&[8, 9][..], &header, &inner[1..]].concat()
}

/// A user message as a stream carries it.
pub(super) fn on_stream(message: &[u8]) -> Vec<u8> {
    let content = &message[1..];
    [&[8][..], &map(&[("UserMsgLen", &number(content.len() as u64))]), content].concat()
}

/// The layers of a cluster, with or without a key.
pub(super) struct Wrapper {
    key: Option<Keyring>,
    rng: Rng,
}

impl Wrapper {
    pub(super) fn new(key: Option<&str>) -> Wrapper {
        let ring =
            |key| Keyring::new(Key::from_base64(key).expect("it is a key"), []).expect("it is one key");
        Wrapper { key: key.map(ring), rng: Rng::new([7; 32]) }
    }

    fn codec(&self, compression: bool) -> Codec {
        Codec::new(Settings {
            label: Vec::new(),
            skip_inbound_label_check: false,
            keyring: self.key.clone(),
            verify_incoming: true,
            verify_outgoing: true,
            compression,
        })
    }

    fn datagram(&mut self, messages: &[&[u8]], crc: bool, compression: bool) -> Vec<u8> {
        let mut batch = Batch::default();
        for message in messages {
            batch.push(message);
        }
        let mut bytes = Vec::new();
        self.codec(compression).seal(&batch, crc, &mut self.rng, &mut bytes);
        bytes
    }

    /// A message in every form that a datagram can give it.
    pub(super) fn datagrams(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        // What stands behind a message is ignored, and so many equal bytes make compression worth while.
        let padded = &[message, &[0; 400]].concat()[..];
        // It answers nothing and is no news.
        let nack: &[u8] = b"\x0b\x81\xa5SeqNo\x01";
        let mut forms = Vec::new();
        for crc in [false, true] {
            forms.push(self.datagram(&[message], crc, false));
            forms.push(self.datagram(&[padded], crc, true));
            forms.push(self.datagram(&[nack, message, nack], crc, false));
            forms.push(self.datagram(&[nack, padded], crc, true));
        }
        forms
    }

    /// Bytes that are no message in a datagram, encrypted if the cluster is.
    pub(super) fn bare_datagram(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sealed = bytes.to_vec();
        if let Some(keys) = &self.key {
            keys.seal(Version::Plain, &self.rng.nonce(), b"", &mut sealed, 0);
        }
        sealed
    }

    /// A message on a stream, plain and compressed.
    pub(super) fn streams(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let mut seal = |compression| {
            let mut bytes = Vec::new();
            self.codec(compression).seal_stream(message, true, &mut self.rng, &mut bytes);
            bytes
        };
        vec![seal(false), seal(true)]
    }

    /// Any bytes on a stream, encrypted if the cluster is.
    pub(super) fn bare_stream(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(keys) = &self.key else { return bytes.to_vec() };
        let length = (bytes.len() + Version::Plain.overhead()) as u32;
        let header = [&[10][..], &length.to_be_bytes()].concat();
        let mut sealed = [&header, bytes].concat();
        keys.seal(Version::Plain, &self.rng.nonce(), &header, &mut sealed, header.len());
        sealed
    }
}

/// Sends a datagram.
pub(super) fn send(to: SocketAddr, bytes: &[u8]) {
    let socket = UdpSocket::bind("127.64.0.98:0").expect("loopback has room");
    socket.send_to(bytes, to).expect("loopback takes it");
}

/// Says all this on a connection and hears the other side out until it closes.
pub(super) fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let mut answer = Vec::new();
    // It may close in the middle, with or without a last word.
    let said = stream.write_all(bytes).and_then(|()| stream.read_to_end(&mut answer));
    if let Err(error) = said {
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    }
    answer
}
