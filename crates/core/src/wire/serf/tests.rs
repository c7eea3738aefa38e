//! What decoders accept, and properties of the whole dialect. The golden bytes are in `tests/golden_vectors.rs`.

use super::msgpack::{Reader, Writer};
use super::*;
use crate::coordinate::Coordinate;
use crate::crypto::{Key, Keyring};
use crate::limits;
use crate::rng::Rng;
use crate::text::Text;
use crate::wire::message::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEY: &[u8] = b"0123456789abcdef";

fn codec(label: &[u8], key: Option<&[u8]>, compression: bool) -> Codec {
    Codec::new(Settings {
        label: label.to_vec(),
        skip_inbound_label_check: false,
        keyring: key.map(|key| Keyring::new(Key::from_bytes(key).unwrap(), []).unwrap()),
        verify_incoming: true,
        verify_outgoing: true,
        compression,
    })
}

fn made(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn batch(messages: &[&[u8]]) -> Batch {
    let mut batch = Batch::default();
    for message in messages {
        batch.push(message);
    }
    batch
}

fn seal(codec: &mut Codec, messages: &[&[u8]], crc: bool) -> Vec<u8> {
    made(|out| codec.seal(&batch(messages), crc, &mut Rng::new([1; 32]), out))
}

fn open(codec: &mut Codec, datagram: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut parts = Parts::default();
    codec.open(datagram, &mut parts)?;
    assert_eq!(parts.len(), parts.iter().len());
    assert_eq!(parts.is_empty(), parts.iter().next().is_none());
    Ok(parts.iter().map(<[u8]>::to_vec).collect())
}

/// Every variant of gossip.md 2.2 that one of the generations emits, and what nobody does.
#[test]
fn decoders_accept_both_generations() {
    let ltime = |value: &[u8]| [b"\x01\x82\xa5LTime", value, b"\xa4Node\xa1n"].concat();
    let join = |ltime| Ok(SerfMessage::Join(JoinIntent { ltime, node: b"n" }));
    for (value, expected) in [
        (&b"\x05"[..], 5),
        (b"\xcc\x05", 5),
        (b"\xcd\x00\x05", 5),
        (b"\xce\x00\x00\x00\x05", 5),
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 5),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
        (b"\xd0\x05", 5),
        (b"\xd1\x01\x00", 256),
        (b"\xd2\x00\x00\x00\x05", 5),
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 5),
        (b"\xc0", 0),
        (b"\x05\xa5LTime\x06", 6),
    ] {
        let mut bytes = ltime(value);
        bytes[1] += u8::from(value.len() == 8);
        assert_eq!(decode_serf(&bytes), join(expected), "{value:x?}");
    }
    for (value, fault) in [
        (&b"\xff"[..], Fault::Range),
        (b"\xd0\xff", Fault::Range),
        (b"\xcb\x40\x14\x00\x00\x00\x00\x00\x00", Fault::Type),
        (b"\xa1\x05", Fault::Type),
        (b"\xc3", Fault::Type),
        (b"\xc1", Fault::Type),
    ] {
        assert_eq!(decode_serf(&ltime(value)), Err(DecodeError { field: "LTime", fault }), "{value:x?}");
    }
}

#[test]
fn decoders_accept_every_form_of_a_string_and_of_a_map() {
    let join = |ltime, node| Ok(SerfMessage::Join(JoinIntent { ltime, node }));
    for (bytes, expected) in [
        (&b"\x01\x82\xa5LTime\x05\xa4Node\xa1n"[..], join(5, &b"n"[..])),
        (b"\x01\xde\x00\x02\xa5LTime\x05\xa4Node\xd9\x01n", join(5, b"n")),
        (b"\x01\xdf\x00\x00\x00\x02\xd9\x05LTime\x05\xda\x00\x04Node\xda\x00\x01n", join(5, b"n")),
        (b"\x01\x82\xdb\x00\x00\x00\x05LTime\x05\xa4Node\xdb\x00\x00\x00\x01n", join(5, b"n")),
        (b"\x01\x82\xc4\x05LTime\x05\xc5\x00\x04Node\xc6\x00\x00\x00\x01n", join(5, b"n")),
        (b"\x01\x82\xa4Node\xa1n\xa5LTime\x05", join(5, b"n")),
        (b"\x01\x81\xa5LTime\x05", join(5, b"")),
        (b"\x01\x81\xa4Node\xc0", join(0, b"")),
        (b"\x01\xc0", join(0, b"")),
        (b"\x01\x81\xa5ltime\x05", join(0, b"")),
        (b"\x01\x81\xa5LTime\x05behind it", join(5, b"")),
        (b"\x01\x82\xa1?\x92\x81\x01\xc7\x01\x00!\xd5\x01ab\xa5LTime\x05", join(5, b"")),
    ] {
        assert_eq!(decode_serf(bytes), expected, "{bytes:x?}");
    }
    for (bytes, field, fault) in [
        (&b"\x01\x92\x05\xa1n"[..], "join intent", Fault::Type),
        (b"\x01\x05", "join intent", Fault::Type),
        (b"\x01\x81\x05\x05", "join intent", Fault::Type),
        (b"\x01", "join intent", Fault::Truncated),
        (b"\x01\x81\xa5LTi", "join intent", Fault::Truncated),
        (b"\x01\x81\xa4Node\xa5n", "Node", Fault::Truncated),
        (b"\x01\x81\xa1?\x92\xc0", "unknown key", Fault::Truncated),
        (b"\x01\x81\xa1?\xc1", "unknown key", Fault::Type),
        (b"\x63\x80", "Serf message", Fault::Kind(0x63)),
        (b"", "Serf message", Fault::Empty),
    ] {
        assert_eq!(decode_serf(bytes), Err(DecodeError { field, fault }), "{bytes:x?}");
    }
}

#[test]
fn decoders_check_widths_and_truth_values() {
    let ping = |value: &[u8]| decode(&[b"\x00\x81", value].concat()).map_err(|error| error.fault).map(|_| ());
    assert_eq!(ping(b"\xa5SeqNo\xce\xff\xff\xff\xff"), Ok(()));
    assert_eq!(ping(b"\xa5SeqNo\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), Err(Fault::Range));
    assert_eq!(ping(b"\xaaSourcePort\xcd\xff\xff"), Ok(()));
    assert_eq!(ping(b"\xaaSourcePort\xce\x00\x01\x00\x00"), Err(Fault::Range));
    for (value, prune) in
        [(b'\xc2', Ok(false)), (b'\xc3', Ok(true)), (0, Ok(false)), (1, Ok(true)), (2, Err(()))]
    {
        let bytes = [b"\x00\x81\xa5Prune", &[value][..]].concat();
        let intent = decode_serf(&bytes).map_err(|_| ());
        let expected = prune.map(|prune| SerfMessage::Leave(LeaveIntent { prune, ..LeaveIntent::default() }));
        assert_eq!(intent, expected, "{value:x}");
    }
}

/// A list of a billion items in six bytes costs nothing.
#[test]
fn announced_lengths_are_not_believed() {
    for bytes in
        [&b"\x02\x81\xa6Events\xdd\x40\x00\x00\x00"[..], b"\x02\x81\xacStatusLTimes\xdf\x40\x00\x00\x00"]
    {
        assert_eq!(decode_serf(bytes).unwrap_err().fault, Fault::Range);
    }
    let bytes = b"\x02\x81\xabLeftMembers\xdd\x00\x0f\xff\xff";
    assert_eq!(decode_serf(bytes).unwrap_err().fault, Fault::Truncated);
    let nested = [b"\x01\x81\xa1?".to_vec(), vec![0x91; 1 << 20], vec![0xc0]].concat();
    assert_eq!(decode_serf(&nested), Ok(SerfMessage::Join(JoinIntent::default())));
    assert!(decode_stream(b"\x06\x82\xa5Nodes\xff\xacUserStateLen\x00").is_err());
    assert!(decode_stream(b"\x06\x81\xa5Nodes\xce\x00\x10\x00\x01").is_err());
}

#[test]
fn names_are_no_longer_than_those_of_nodes() {
    let (fits, long) = (vec![b'n'; limits::NAME], vec![b'n'; limits::NAME + 1]);
    let source = |node| Source { node, ..Source::default() };
    let messages = |name| {
        [
            ("Node", Message::Ping(Ping { node: name, ..Ping::default() })),
            ("SourceNode", Message::Ping(Ping { source: source(name), ..Ping::default() })),
            ("Node", Message::IndirectPing(IndirectPing { node: name, ..IndirectPing::default() })),
            (
                "SourceNode",
                Message::IndirectPing(IndirectPing { source: source(name), ..IndirectPing::default() }),
            ),
            ("Node", Message::Suspect(Accusation { node: name, ..Accusation::default() })),
            ("From", Message::Suspect(Accusation { from: name, ..Accusation::default() })),
            ("Node", Message::Dead(Accusation { node: name, ..Accusation::default() })),
            ("Node", Message::Alive(Alive { node: name, ..Alive::default() })),
        ]
    };
    let serf_messages = |name| {
        [
            ("Node", SerfMessage::Leave(LeaveIntent { node: name, ..LeaveIntent::default() })),
            ("Node", SerfMessage::Join(JoinIntent { node: name, ..JoinIntent::default() })),
            ("SourceNode", SerfMessage::Query(Query { source_node: name, ..Query::default() })),
            ("From", SerfMessage::Response(Response { from: name, ..Response::default() })),
            ("DestName", SerfMessage::Relay(Relay { name, ..Relay::default() })),
        ]
    };
    let refused = |field| DecodeError { field, fault: Fault::Range };
    for ((_, good), (field, bad)) in messages(&fits).into_iter().zip(messages(&long)) {
        assert_eq!(decode(&made(|out| encode(&good, out))), Ok(good));
        assert_eq!(decode(&made(|out| encode(&bad, out))), Err(refused(field)), "{field}");
    }
    for ((_, good), (field, bad)) in serf_messages(&fits).into_iter().zip(serf_messages(&long)) {
        assert_eq!(decode_serf(&made(|out| encode_serf(&good, out))), Ok(good));
        assert_eq!(decode_serf(&made(|out| encode_serf(&bad, out))), Err(refused(field)), "{field}");
    }
    // A push/pull is worth more than one node; the table refuses that one, and its note is short.
    let longer = vec![b'n'; 1 << 20];
    let node = PushNode { name: &longer, ..PushNode::default() };
    let bytes = made(|out| encode_push_pull(false, [node].into_iter(), &[], out));
    let Ok(StreamMessage::PushPull(state)) = decode_stream(&bytes) else { panic!("it is a push/pull") };
    assert_eq!(state.nodes[0].name, long);
}

#[test]
fn the_shortest_format_is_written() {
    let text = |length| made(|out| Writer::new(out).text(&vec![b'x'; length]));
    assert_eq!(text(31)[..2], [0xbf, b'x']);
    assert_eq!(text(32)[..3], [0xda, 0, 32]);
    assert_eq!(text(255)[..3], [0xda, 0, 255]);
    assert_eq!(text(65_535)[..3], [0xda, 0xff, 0xff]);
    assert_eq!(text(65_536)[..5], [0xdb, 0, 1, 0, 0]);
    for (value, bytes) in [
        (127, &b"\x7f"[..]),
        (128, b"\xcc\x80"),
        (256, b"\xcd\x01\x00"),
        (65_536, b"\xce\x00\x01\x00\x00"),
        (1 << 32, b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        (-1, b"\xff"),
        (-32, b"\xe0"),
        (-33, b"\xd0\xdf"),
        (-129, b"\xd1\xff\x7f"),
        (-32_769, b"\xd2\xff\xff\x7f\xff"),
        (i64::MIN, b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
    ] {
        assert_eq!(made(|out| Writer::new(out).int(&value)), bytes);
        assert_eq!(Reader::new(bytes).int("value"), Ok(value));
    }
}

#[test]
fn what_can_be_read_of_broken_tags_counts() {
    let tags = decode_meta(b"\xff\x83\xa1a\xa1b\xa1c\x05");
    assert_eq!(tags, BTreeMap::from([(Text::from("a"), Text::from("b"))]));
    assert_eq!(decode_meta(b"\xff\xc1"), BTreeMap::new());
    assert_eq!(decode_meta(b""), BTreeMap::from([(Text::from("role"), Text::from(""))]));
}

#[test]
fn a_coordinate_has_eight_dimensions() {
    let bytes = made(|out| encode_coordinate(&Coordinate::ORIGIN, out));
    assert_eq!(bytes.len(), 130);
    let at = bytes.iter().position(|byte| *byte == 0x98).unwrap();
    let seven = [&bytes[..at], b"\x97", &bytes[at + 10..]].concat();
    assert_eq!(decode_coordinate(&seven), Err(DecodeError { field: "Vec", fault: Fault::Range }));
    assert_eq!(decode_coordinate(b"\x01\x80"), Err(DecodeError { field: "Vec", fault: Fault::Empty }));
    assert_eq!(decode_coordinate(b"\x02\x80").unwrap_err().fault, Fault::Kind(2));
    assert_eq!(decode_coordinate(b"").unwrap_err().fault, Fault::Empty);
    let integers =
        b"\x01\x84\xaaAdjustment\x00\xa5Error\xca\x3f\x80\x00\x00\xa6Height\xff\xa3Vec\x98\0\0\0\0\0\0\0\x02";
    let coordinate = decode_coordinate(integers).unwrap();
    assert_eq!((coordinate.error, coordinate.height, coordinate.vec[7]), (1.0, -1.0, 2.0));
}

#[test]
fn labels_must_be_equal() {
    let (mut plain, mut east, mut west) =
        (codec(b"", None, false), codec(b"east", None, false), codec(b"west", None, false));
    let (unlabelled, labelled) = (seal(&mut plain, &[b"\x08x"], false), seal(&mut east, &[b"\x08x"], false));
    assert_eq!(labelled, b"\xf4\x04east\x08x");
    assert_eq!(open(&mut east, &labelled), Ok(vec![b"\x08x".to_vec()]));
    assert_eq!(open(&mut plain, &unlabelled), Ok(vec![b"\x08x".to_vec()]));
    for (codec, datagram) in [(&mut west, &labelled), (&mut plain, &labelled), (&mut east, &unlabelled)] {
        assert_eq!(open(codec, datagram), Err(Refusal::Label));
    }
    assert_eq!(open(&mut east, b"\xf4\x04ea"), Err(Refusal::Label));
    assert_eq!(open(&mut east, b"\xf4\x04east"), Err(Refusal::Empty));
    assert_eq!(open(&mut plain, b""), Err(Refusal::Empty));
}

/// A proxy in front of the node has checked the label and taken it off, on datagrams and on streams.
#[test]
fn who_skips_the_label_check_wants_no_header_and_still_authenticates_the_label() {
    for key in [None, Some(KEY)] {
        let mut sender = codec(b"east", key, false);
        let mut skipping = Codec::new(Settings { skip_inbound_label_check: true, ..sender.settings.clone() });
        let mut rng = Rng::new([1; 32]);
        let datagram = seal(&mut sender, &[b"\x08x"], false);
        let request = made(|out| sender.seal_stream(b"\x00\x80", true, &mut rng, out));
        let header = b"\xf4\x04east".len();
        assert_eq!(open(&mut skipping, &datagram), Err(Refusal::Label), "a double label");
        assert_eq!(read(Side::Accepted, &mut skipping, &request), Err(StreamRefusal::Label));
        assert_eq!(open(&mut skipping, &datagram[header..]), Ok(vec![b"\x08x".to_vec()]));
        assert_eq!(read(Side::Accepted, &mut skipping, &request[header..]), Ok(true));
        // What it sends is labelled as ever, and responses are not.
        let datagram = seal(&mut skipping, &[b"\x08x"], false);
        assert_eq!(open(&mut sender, &datagram), Ok(vec![b"\x08x".to_vec()]));
        let request = made(|out| skipping.seal_stream(b"\x00\x80", true, &mut rng, out));
        assert_eq!(read(Side::Accepted, &mut sender, &request), Ok(true));
        let response = made(|out| skipping.seal_stream(b"\x02\x80", false, &mut rng, out));
        assert_eq!(read(Side::Dialed, &mut sender, &response), Ok(true));
        // Another cluster's packets, of which the label was taken off without a look, open with keys only if they
        // were sealed under this label.
        let mut west = Codec::new(Settings { label: b"west".to_vec(), ..sender.settings.clone() });
        let foreign = seal(&mut west, &[b"\x08x"], false);
        let opened = open(&mut skipping, &foreign[header..]);
        assert_eq!(opened.is_ok(), key.is_none(), "{opened:?}");
        // Without a label of its own, a header is one too many all the same.
        let mut bare = Codec::new(Settings { label: Vec::new(), ..skipping.settings.clone() });
        assert_eq!(open(&mut bare, &seal(&mut sender, &[b"\x08x"], false)), Err(Refusal::Label));
    }
}

#[test]
fn encryption_is_demanded_unless_it_is_being_introduced() {
    let mut other = codec(b"", Some(b"fedcba9876543210"), false);
    let foreign = seal(&mut other, &[b"\x08x"], false);
    let mut strict = codec(b"", Some(KEY), false);
    assert_eq!(open(&mut strict, &foreign), Err(Refusal::Undecryptable));
    assert_eq!(open(&mut strict, b"\x08x"), Err(Refusal::NotEncrypted));
    strict.keyring_mut().unwrap().install(b"fedcba9876543210").unwrap();
    assert_eq!(open(&mut strict, &foreign), Ok(vec![b"\x08x".to_vec()]));

    let mut settings = codec(b"", Some(KEY), false).settings;
    settings.verify_incoming = false;
    settings.verify_outgoing = false;
    let mut lax = Codec::new(settings);
    assert_eq!(lax.overhead(), 0);
    assert_eq!(seal(&mut lax, &[b"\x08x"], false), b"\x08x");
    assert_eq!(open(&mut lax, b"\x08x"), Ok(vec![b"\x08x".to_vec()]));
    assert_eq!(open(&mut lax, &seal(&mut strict, &[b"\x08x"], false)), Ok(vec![b"\x08x".to_vec()]));
}

#[test]
fn nesting_and_expansion_end() {
    let mut codec = codec(b"", None, true);
    let wrap = |inner: Vec<u8>| [&[7, 1, 0, inner.len() as u8][..], &inner].concat();
    let nested = |layers| (0..layers).fold(b"\x08x".to_vec(), |inner, _| wrap(inner));
    assert_eq!(open(&mut codec, &nested(limits::PACKET_LAYERS)), Ok(vec![b"\x08x".to_vec()]));
    let mut parts = Parts::default();
    assert_eq!(codec.open(&nested(limits::PACKET_LAYERS + 1), &mut parts), Ok(()));
    assert_eq!((parts.len(), parts.refused()), (0, &[Refusal::TooDeep][..]));

    let large = vec![8; limits::DATAGRAM_EXPANDED];
    let mut bomb = Vec::new();
    codec.lzw.compress(&large, &mut bomb);
    let bomb = made(|out| packet::put_compressed(&bomb, out));
    assert!(bomb.len() < 65_536);
    assert_eq!(open(&mut codec, &bomb), Err(Refusal::TooLong));
}

/// A part that is refused leaves the others alone, up to a bound.
#[test]
fn a_packet_may_be_as_long_as_a_datagram() {
    let mut codec = codec(b"", None, false);
    let message = [8; 500];
    let datagram = seal(&mut codec, &[&message[..]; limits::COMPOUND_PARTS], true);
    assert!(datagram.len() > 60_000);
    assert_eq!(open(&mut codec, &datagram), Ok(vec![message.to_vec(); limits::COMPOUND_PARTS]));
}

#[test]
#[should_panic(expected = "a message fits a part of a compound")]
fn an_empty_message_is_never_sent() {
    batch(&[b"\x08x", b""]);
}

#[test]
#[should_panic(expected = "a datagram carries at least one message")]
fn an_empty_packet_is_never_sent() {
    seal(&mut codec(b"", None, true), &[], true);
}

#[test]
fn refused_parts_are_counted_to_a_bound() {
    let mut codec = codec(b"", None, false);
    let empties = [&[7, 255][..], &[0; 510]].concat();
    let mut parts = Parts::default();
    assert_eq!(codec.open(&empties, &mut parts), Ok(()));
    assert_eq!(parts.refused().len(), limits::REFUSED_PARTS);
    let length = (empties.len() as u16).to_be_bytes();
    let twice = [&[7, 2][..], &length, &length, &empties, &empties].concat();
    assert_eq!(codec.open(&twice, &mut parts), Err(Refusal::TooManyParts));
    assert!(parts.is_empty() && parts.refused().is_empty());
    assert_eq!(codec.open(b"\x07", &mut parts), Err(Refusal::Compound));
    assert_eq!(codec.open(b"\x07\x02\x00\x01\x00", &mut parts), Err(Refusal::Compound));
}

#[test]
fn compression_is_used_on_datagrams_only_if_it_helps() {
    let mut codec = codec(b"", None, true);
    assert_eq!(seal(&mut codec, &[b"\x08x"], false), b"\x08x");
    let long = [&[8][..], &[b'x'; 500]].concat();
    let sealed = seal(&mut codec, &[&long], false);
    assert!(sealed[0] == 9 && sealed.len() < long.len());
    let stream = made(|out| codec.seal_stream(b"\x00\x80", true, &mut Rng::new([1; 32]), out));
    assert!(stream[0] == 9 && stream.len() > 2, "streams are compressed even if that makes them longer");
}

#[test]
#[should_panic(expected = "a batch has at most 127 messages")]
fn a_batch_has_a_bound() {
    let mut batch = Batch::default();
    for _ in 0..127 {
        assert!(!batch.is_full());
        batch.push(b"\x08x");
    }
    assert!(batch.is_full());
    assert_eq!((batch.len(), batch.bytes_len()), (127, 254));
    batch.push(b"\x08x");
}

fn read(side: Side, codec: &mut Codec, bytes: &[u8]) -> Result<bool, StreamRefusal> {
    let mut reader = StreamReader::new(side);
    reader.push(bytes)?;
    reader.poll(codec)
}

#[test]
fn streams_are_refused_with_the_texts_of_the_reference() {
    let sealed =
        made(|out| codec(b"", Some(KEY), false).seal_stream(b"\x00\x80", true, &mut Rng::new([1; 32]), out));
    let (mut plain, mut keyed) = (codec(b"", None, false), codec(b"", Some(b"fedcba9876543210"), false));
    let refused = |codec: &mut Codec, bytes: &[u8]| {
        let refusal = read(Side::Accepted, codec, bytes).unwrap_err();
        (refusal.to_string(), refusal.is_answered())
    };
    let answered = |text: &str| (text.to_string(), true);
    let encrypted = "Remote state is encrypted and encryption is not configured";
    assert_eq!(refused(&mut plain, &sealed), answered(encrypted));
    assert_eq!(refused(&mut keyed, &sealed), answered("No installed keys could decrypt the message"));
    let not_encrypted = "Encryption is configured but remote state is not encrypted";
    assert_eq!(refused(&mut keyed, b"\x00\x80"), answered(not_encrypted));
    assert_eq!(
        read(Side::Accepted, &mut keyed, b"\x0a\x01\x40\x00\x01"),
        Err(StreamRefusal::EncryptedTooLong)
    );
    assert_eq!(read(Side::Accepted, &mut keyed, b"\x0a\x01\x40\x00\x00"), Ok(false));
    for (bytes, refusal, is_answered) in [
        (&b"\xf4\x00\x00\x80"[..], StreamRefusal::Label, false),
        (b"\xf4\x01x\x00\x80", StreamRefusal::Label, false),
        (b"\x09\x81\xa4Algo\x01", StreamRefusal::Compression, true),
        (b"\x09\x82\xa4Algo\x00\xa3Buf\xa3\x00\x03\x02", StreamRefusal::Empty, true),
        (b"\x63", StreamRefusal::UnknownType(0x63), false),
        (b"\x07", StreamRefusal::UnknownType(7), false),
        (b"\x00\xdb\xff\xff\xff\xff", StreamRefusal::Flood, false),
        (b"\x00\xc1", StreamRefusal::Message(DecodeError { field: "message", fault: Fault::Type }), false),
        (
            b"\x08\x81\xaaUserMsgLen\xff",
            StreamRefusal::Message(DecodeError { field: "UserMsgLen", fault: Fault::Range }),
            false,
        ),
    ] {
        assert_eq!(read(Side::Accepted, &mut plain, bytes), Err(refusal), "{bytes:x?}");
        assert_eq!(refusal.is_answered(), is_answered, "{refusal}");
    }
}

#[test]
fn a_response_has_no_label_header() {
    let (mut east, mut rng) = (codec(b"east", Some(KEY), false), Rng::new([1; 32]));
    let request = made(|out| east.seal_stream(b"\x00\x80", true, &mut rng, out));
    let response = made(|out| east.seal_stream(b"\x02\x80", false, &mut rng, out));
    assert_eq!((&request[..6], request[6], response[0]), (&b"\xf4\x04east"[..], 10, 10));
    assert_eq!(read(Side::Accepted, &mut east, &request), Ok(true));
    assert_eq!(read(Side::Dialed, &mut east, &response), Ok(true));
    assert_eq!(read(Side::Accepted, &mut east, &response), Err(StreamRefusal::Label));
    assert_eq!(read(Side::Dialed, &mut east, &request), Err(StreamRefusal::NotEncrypted));
    // Without the label among what is authenticated, the response is another one's.
    assert_eq!(
        read(Side::Dialed, &mut codec(b"", Some(KEY), false), &response),
        Err(StreamRefusal::Undecryptable)
    );
}

/// A reader that begins anew with every byte would take hours for this.
#[test]
fn a_large_state_may_come_byte_by_byte() {
    let mut bytes =
        b"\x06\x82\xa5Nodes\x01\xacUserStateLen\xce\x00\x10\x00\x00\x81\xa1?\xdd\x00\x10\x00\x00".to_vec();
    bytes.extend(vec![0xc0; 1 << 20]);
    bytes.extend(vec![7; 1 << 20]);
    let (mut reader, mut codec) = (StreamReader::new(Side::Accepted), codec(b"", None, false));
    for byte in &bytes {
        assert_eq!(reader.poll(&mut codec), Ok(false));
        reader.push(&[*byte]).unwrap();
    }
    assert_eq!(reader.poll(&mut codec), Ok(true));
    let Ok(StreamMessage::PushPull(state)) = reader.message() else { panic!("it is a push/pull") };
    assert_eq!((state.nodes, state.user_state.len()), (vec![PushNode::default()], 1 << 20));
}

#[test]
fn a_stream_is_bounded() {
    let mut reader = StreamReader::new(Side::Accepted);
    assert_eq!(reader.push(&vec![0; limits::STREAM_EXPANDED]), Ok(()));
    assert_eq!(reader.push(&[0]), Err(StreamRefusal::Flood));
}

/// Values from which messages are built.
#[derive(Clone, Debug)]
struct Seeds {
    texts: Vec<Vec<u8>>,
    numbers: [u64; 3],
    signed: i64,
    flag: bool,
}

impl Seeds {
    fn any() -> impl Strategy<Value = Seeds> {
        let text = prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..40),
            1 => prop::collection::vec(any::<u8>(), 250..300),
        ];
        let number = || prop_oneof![0..300u64, any::<u64>()];
        (prop::collection::vec(text, 5..9), [number(), number(), number()], any::<i64>(), any::<bool>())
            .prop_map(|(texts, numbers, signed, flag)| Seeds { texts, numbers, signed, flag })
    }

    fn text(&self, at: usize) -> &[u8] {
        &self.texts[at]
    }

    fn u32(&self) -> u32 {
        self.numbers[0] as u32
    }

    fn payload(&self) -> Option<&[u8]> {
        self.flag.then(|| self.text(4))
    }

    fn source(&self) -> Source<'_> {
        Source { addr: self.text(2), port: self.numbers[1] as u16, node: self.text(3) }
    }

    fn messages(&self) -> Vec<Message<'_>> {
        let (seq, node, port) = (self.u32(), self.text(0), self.numbers[2] as u16);
        let accusation = Accusation { incarnation: seq, node, from: self.text(1) };
        vec![
            Message::Ping(Ping { seq, node, source: self.source() }),
            Message::IndirectPing(IndirectPing {
                seq,
                target: self.text(1),
                port,
                node,
                nack: self.flag,
                source: self.source(),
            }),
            Message::Ack(Ack { seq, payload: self.payload() }),
            Message::Nack(Nack { seq }),
            Message::Suspect(accusation.clone()),
            Message::Dead(accusation),
            Message::Alive(Alive {
                incarnation: seq,
                node,
                addr: self.text(1),
                port,
                meta: self.text(2),
                vsn: self.text(3),
            }),
            Message::User(node),
        ]
    }

    fn push_node(&self) -> PushNode<'_> {
        PushNode {
            incarnation: self.u32(),
            name: self.text(0),
            addr: self.text(1),
            port: self.numbers[1] as u16,
            meta: self.text(2),
            state: self.signed,
            vsn: self.text(3),
        }
    }

    fn serf_messages(&self) -> Vec<SerfMessage<'_>> {
        let [ltime, event_ltime, query_ltime] = self.numbers;
        let (id, name, payload, port) = (self.u32(), self.text(0), self.payload(), ltime as u16);
        let texts = || self.texts.iter().map(Vec::as_slice);
        let slot = |event: (u64, &[u8])| EventSlot { ltime: event.0, events: vec![] };
        let mut events: Vec<EventSlot<'_>> = texts().map(|text| slot((ltime, text))).collect();
        events[0].events = vec![(name, payload), (self.text(1), None)];
        vec![
            SerfMessage::Leave(LeaveIntent { ltime, node: name, prune: self.flag }),
            SerfMessage::Join(JoinIntent { ltime, node: name }),
            SerfMessage::PushPull(SerfState {
                ltime,
                event_ltime,
                query_ltime,
                status_ltimes: texts().map(|text| (text, event_ltime)).collect(),
                left_members: texts().collect(),
                events,
            }),
            SerfMessage::UserEvent(UserEvent { ltime, name, payload, coalesce: self.flag }),
            SerfMessage::Query(Query {
                ltime,
                id,
                addr: self.text(1),
                port,
                source_node: self.text(2),
                filters: texts().filter(|text| !text.is_empty()).collect(),
                flags: query_ltime as u32,
                relay_factor: event_ltime as u8,
                timeout_ns: self.signed,
                name,
                payload,
            }),
            SerfMessage::Response(Response { ltime, id, from: name, flags: event_ltime as u32, payload }),
            SerfMessage::Relay(Relay { addr: self.text(1), port, name, inner: self.text(2) }),
        ]
    }

    fn stream_messages(&self) -> Vec<(StreamMessage<'_>, Vec<u8>)> {
        let (seq, text) = (self.u32(), self.text(0));
        let ping = Ping { seq, node: text, source: self.source() };
        let ack = Ack { seq, payload: self.payload() };
        let nodes = vec![self.push_node(); 3];
        let state = PushPull { join: self.flag, nodes: nodes.clone(), user_state: text };
        vec![
            (
                StreamMessage::PushPull(state),
                made(|out| encode_push_pull(self.flag, nodes.into_iter(), text, out)),
            ),
            (StreamMessage::User(text), stream_user(text)),
            (StreamMessage::Ping(ping.clone()), made(|out| encode_stream_ping(&ping, out))),
            (StreamMessage::Ack(ack.clone()), made(|out| encode_stream_ack(&ack, out))),
            (StreamMessage::Err(text), made(|out| encode_stream_err(text, out))),
        ]
    }
}

/// A user message for a stream, which nodes understand and never send (gossip.md 5.5).
fn stream_user(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[8, 0x81, 0xaa], &b"UserMsgLen"[..], &[0xcd], &length, text].concat()
}

/// Whatever any decoder makes of these bytes, it does not panic.
fn decode_all(bytes: &[u8]) {
    if let Ok(Message::User(content)) = decode(bytes) {
        let _ = decode_serf(content);
    }
    let _ = (decode_serf(bytes), decode_stream(bytes), decode_meta(bytes), decode_filter(bytes));
    let _ = (
        decode_conflict(bytes),
        decode_key_request(bytes),
        decode_key_response(bytes),
        decode_coordinate(bytes),
    );
}

fn read_all(side: Side, codec: &mut Codec, bytes: &[u8], chunk: usize) -> Result<bool, StreamRefusal> {
    let mut reader = StreamReader::new(side);
    for chunk in bytes.chunks(chunk) {
        reader.push(chunk)?;
        if reader.poll(codec)? {
            let _ = reader.message();
            return Ok(true);
        }
    }
    Ok(false)
}

proptest! {
    #[test]
    fn messages_survive_encoding(seeds in Seeds::any()) {
        for message in seeds.messages() {
            let bytes = made(|out| encode(&message, out));
            prop_assert_eq!(decode(&bytes), Ok(message));
        }
        for message in seeds.serf_messages() {
            let bytes = made(|out| encode_serf(&message, out));
            prop_assert_eq!(decode_serf(&bytes), Ok(message));
        }
        for (message, bytes) in seeds.stream_messages() {
            prop_assert_eq!(decode_stream(&bytes), Ok(message));
        }
    }

    #[test]
    fn payloads_survive_encoding(seeds in Seeds::any(), numbers in any::<[f64; 11]>()) {
        let texts: Vec<&[u8]> = seeds.texts.iter().map(Vec::as_slice).collect();
        for filter in [Filter::Nodes(texts.clone()), Filter::Tag { tag: seeds.text(0), expr: seeds.text(1) }] {
            let bytes = made(|out| encode_filter(&filter, out));
            prop_assert_eq!(decode_filter(&bytes), Ok(filter));
        }
        let record = ConflictRecord {
            addr: seeds.text(0),
            port: seeds.numbers[0] as u16,
            name: seeds.text(1),
            status: seeds.signed,
            vsn: seeds.numbers[1].to_be_bytes()[..6].try_into().unwrap(),
            tags: texts.iter().map(|text| (*text, seeds.text(2))).collect(),
        };
        let bytes = made(|out| encode_conflict(Some(&record), out));
        prop_assert_eq!(decode_conflict(&bytes), Ok(Some(record)));
        let response = KeyResponse {
            result: seeds.flag,
            message: seeds.text(0),
            keys: seeds.flag.then(|| texts.clone()),
            primary_key: seeds.text(1),
        };
        let bytes = made(|out| encode_key_response(&response, out));
        prop_assert_eq!(decode_key_response(&bytes), Ok(response));
        let bytes = made(|out| encode_key_request(seeds.text(0), out));
        prop_assert_eq!(decode_key_request(&bytes), Ok(seeds.text(0)));
        let tags = texts.iter().map(|text| (Text::from(*text), Text::from(seeds.text(2)))).collect();
        let bytes = made(|out| encode_meta(&tags, 5, out));
        prop_assert_eq!(decode_meta(&bytes), tags);
        let [vec @ .., error, adjustment, height] = numbers;
        let coordinate = Coordinate { vec, error, adjustment, height };
        let bytes = made(|out| encode_coordinate(&coordinate, out));
        let bits = |coordinate: &Coordinate| {
            let Coordinate { vec, error, adjustment, height } = coordinate;
            (vec.map(f64::to_bits), error.to_bits(), adjustment.to_bits(), height.to_bits())
        };
        prop_assert_eq!(bits(&decode_coordinate(&bytes).unwrap()), bits(&coordinate));
    }

    #[test]
    fn what_is_sealed_opens(
        messages in prop::collection::vec((0..9u8, prop::collection::vec(0..4u8, 0..60)), 1..20),
        label in prop::option::of(prop::collection::vec(any::<u8>(), 1..256)),
        encrypted: bool, compressed: bool, crc: bool,
    ) {
        // Types that are layers themselves are left out.
        let messages: Vec<Vec<u8>> = messages
            .into_iter()
            .map(|(number, body)| [vec![if number == 6 || number == 7 { 11 } else { number }], body].concat())
            .collect();
        let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut codec = codec(&label.unwrap_or_default(), encrypted.then_some(KEY), compressed);
        let sealed = seal(&mut codec, &borrowed, crc);
        let batch = batch(&borrowed);
        let compound = if messages.len() > 1 { 2 + 2 * messages.len() } else { 0 };
        let wrapping = codec.overhead() + compound + if crc { 5 } else { 0 };
        prop_assert!(sealed.len() <= batch.bytes_len() + wrapping);
        prop_assert_eq!(open(&mut codec, &sealed), Ok(messages));
    }

    #[test]
    fn streams_open_in_pieces_of_any_size(
        seeds in Seeds::any(),
        label in prop::option::of(prop::collection::vec(any::<u8>(), 1..256)),
        encrypted: bool, compressed: bool, dialed: bool, chunk in 1..400usize,
    ) {
        let mut codec = codec(&label.unwrap_or_default(), encrypted.then_some(KEY), compressed);
        let side = if dialed { Side::Accepted } else { Side::Dialed };
        for (message, plain) in seeds.stream_messages() {
            let mut sealed = made(|out| codec.seal_stream(&plain, dialed, &mut Rng::new([1; 32]), out));
            sealed.extend(b"behind");
            let mut reader = StreamReader::new(side);
            for chunk in sealed.chunks(chunk) {
                reader.push(chunk).unwrap();
                reader.poll(&mut codec).unwrap();
            }
            prop_assert_eq!(reader.poll(&mut codec), Ok(true));
            prop_assert_eq!(reader.message(), Ok(message));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk in 1..50usize) {
        decode_all(&bytes);
        for number in 0..=13 {
            decode_all(&[&[number], &bytes[..]].concat());
        }
        for mut codec in [codec(b"", None, false), codec(b"east", None, false), codec(b"", Some(KEY), true)] {
            let _ = open(&mut codec, &bytes);
            let whole = read_all(Side::Accepted, &mut codec, &bytes, 1000);
            prop_assert_eq!(read_all(Side::Accepted, &mut codec, &bytes, chunk), whole);
        }
    }

    #[test]
    fn damaged_messages_do_no_harm(
        seeds in Seeds::any(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        compressed: bool,
    ) {
        let harm = |mut bytes: Vec<u8>| {
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            bytes
        };
        let mut codec = codec(b"", None, compressed);
        for message in seeds.serf_messages() {
            decode_all(&harm(made(|out| encode_serf(&message, out))));
        }
        for message in seeds.messages() {
            let bytes = harm(made(|out| encode(&message, out)));
            decode_all(&bytes);
            let sealed = harm(seal(&mut codec, &[&bytes, b"\x08second"], false));
            let _ = open(&mut codec, &sealed);
        }
        for (_, plain) in seeds.stream_messages() {
            let bytes = harm(made(|out| codec.seal_stream(&plain, true, &mut Rng::new([1; 32]), out)));
            let whole = read_all(Side::Accepted, &mut codec, &bytes, bytes.len());
            prop_assert_eq!(read_all(Side::Accepted, &mut codec, &bytes, 7), whole);
        }
    }
}
