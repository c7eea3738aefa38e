//! The scanner and the decoder over arbitrary bytes, whole and in pieces.

use proptest::prelude::*;
use villein_rpc::framing::Violation;
use villein_rpc::request::{Join, Query, Request, Respond, TagChange, UserEvent};
use villein_rpc::{Decoder, Limits, Objects, RequestHeader, Text};

type Outcome = (Vec<(RequestHeader, Request)>, Option<String>, bool);

/// Feeds the pieces and asks after each, as an agent does.
fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new();
    let mut requests = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_request() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error.to_string()), true),
            }
        }
    }
    (requests, None, decoder.finish().is_err())
}

fn objects(bytes: &[u8], limits: Limits) -> (Vec<Vec<u8>>, Option<Violation>) {
    let mut objects = Objects::new(limits);
    objects.push(bytes);
    let mut found = Vec::new();
    loop {
        match objects.next_object() {
            Ok(Some(object)) => found.push(object.to_vec()),
            Ok(None) => return (found, None),
            Err(violation) => return (found, Some(violation)),
        }
    }
}

fn text() -> impl Strategy<Value = Text> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Text::from)
}

fn payload() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..400))
}

fn map() -> impl Strategy<Value = std::collections::BTreeMap<Text, Text>> {
    prop::collection::btree_map(text(), text(), 0..20)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Members),
        Just(Request::Stats),
        (text(), payload(), any::<bool>()).prop_map(|(name, payload, coalesce)| Request::Event(UserEvent {
            name,
            payload,
            coalesce
        })),
        (prop::collection::vec(text(), 0..20), any::<bool>())
            .prop_map(|(existing, replay)| Request::Join(Join { existing, replay })),
        (map(), prop::collection::vec(text(), 0..20))
            .prop_map(|(tags, delete_tags)| Request::Tags(TagChange { tags, delete_tags })),
        (any::<u64>(), payload()).prop_map(|(id, payload)| Request::Respond(Respond { id, payload })),
        (map(), any::<bool>(), any::<u8>(), any::<i64>(), text(), payload()).prop_map(
            |(filter_tags, request_ack, relay_factor, timeout, name, payload)| {
                Request::Query(Query {
                    filter_nodes: vec![name.clone()],
                    filter_tags,
                    request_ack,
                    relay_factor,
                    timeout,
                    name,
                    payload,
                })
            }
        ),
    ]
}

/// Bytes that are often msgpack: markers and short lengths are likelier than in noise.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => any::<u8>(),
        2 => 0x80..=0x84u8,
        2 => 0x90..=0x94u8,
        2 => 0xa0..=0xa8u8,
        2 => 0xc0..=0xdfu8,
        4 => 0x00..=0x08u8,
    ];
    prop::collection::vec(byte, 0..300)
}

proptest! {
    #[test]
    fn pieces_give_what_the_whole_gives(bytes in likely_bytes(), size in 1usize..20) {
        prop_assert_eq!(outcome(bytes.chunks(size)), outcome(std::iter::once(&bytes[..])));
    }

    #[test]
    fn objects_are_the_stream_cut_in_order(bytes in likely_bytes()) {
        let (found, _) = objects(&bytes, Limits::RESPONSE);
        let joined = found.concat();
        prop_assert_eq!(&bytes[..joined.len()], &joined[..]);
        for object in found {
            prop_assert_eq!(objects(&object[..object.len() - 1], Limits::RESPONSE).0.len(), 0);
        }
    }

    #[test]
    fn requests_survive(
        requests in prop::collection::vec((any::<u64>(), request()), 1..8),
        size in 1usize..100,
    ) {
        let mut bytes = Vec::new();
        for (seq, request) in &requests {
            request.encode(*seq, &mut bytes);
        }
        let (decoded, error, _) = outcome(bytes.chunks(size));
        prop_assert_eq!(error, None);
        let decoded: Vec<_> = decoded.into_iter().map(|(header, request)| (header.seq, request)).collect();
        prop_assert_eq!(decoded, requests);
    }

    #[test]
    fn a_damaged_request_never_panics(request in request(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let whole = outcome(std::iter::once(&bytes[..]));
        prop_assert_eq!(outcome(bytes.chunks(1)), whole);
    }
}

#[test]
fn declared_lengths_are_refused_before_the_bytes_come() {
    let table: [(&[u8], Violation); 6] = [
        (b"\xdb\xff\xff\xff\xff", Violation::TooLarge),
        (b"\xc6\x00\x10\x00\x00", Violation::TooLarge),
        (b"\xdd\xff\xff\xff\xff", Violation::TooMany),
        (b"\xdf\x00\x00\x80\x01", Violation::TooMany),
        (&[0x91; 33], Violation::TooDeep),
        (b"\x91\xc1", Violation::Reserved),
    ];
    for (bytes, violation) in table {
        assert_eq!(objects(bytes, Limits::REQUEST), (Vec::new(), Some(violation)), "{bytes:x?}");
    }
}

#[test]
fn what_fits_the_limits_exactly_is_accepted() {
    let mut deep = vec![0x91; 31];
    deep.push(0x90);
    assert_eq!(objects(&deep, Limits::REQUEST).0.len(), 1);

    let mut long = b"\xdc\xff\xff".to_vec();
    long.resize(3 + 0xffff, 0xc0);
    assert_eq!(objects(&long, Limits::REQUEST).0.len(), 1);

    let len = (1u32 << 20) - 5;
    let mut large = vec![0xc6];
    large.extend_from_slice(&len.to_be_bytes());
    large.resize(1 << 20, 7);
    assert_eq!(objects(&large, Limits::REQUEST).0.len(), 1);
}

#[test]
fn every_marker_has_its_length() {
    let table: [&[u8]; 20] = [
        b"\x7f",
        b"\xe0",
        b"\xc0",
        b"\xc2",
        b"\xcc\x01",
        b"\xcd\x01\x02",
        b"\xce\x01\x02\x03\x04",
        b"\xcf\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\xd3\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\xca\x01\x02\x03\x04",
        b"\xcb\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\xa2ab",
        b"\xd9\x02ab",
        b"\xc5\x00\x02ab",
        b"\xd4\x01a",
        b"\xd8\x01aaaaaaaaaaaaaaaa",
        b"\xc7\x02\x01ab",
        b"\xc9\x00\x00\x00\x02\x01ab",
        b"\x82\x01\x93\x01\x02\x03\x02\x80",
        b"\xde\x00\x01\x01\xdd\x00\x00\x00\x01\x00",
    ];
    for object in table {
        let mut followed = object.to_vec();
        followed.push(0x2a);
        let expected = vec![object.to_vec(), vec![0x2a]];
        assert_eq!(objects(&followed, Limits::REQUEST), (expected, None), "{object:x?}");
    }
}

#[test]
fn a_refused_connection_stays_refused_and_takes_no_more_bytes() {
    let mut decoder = Decoder::new();
    decoder.push(b"GET / HTTP/1.1\r\n");
    let error = decoder.next_request().expect_err("no request");
    let held = decoder.buffered();
    decoder.push(&[0x80; 1000]);
    assert_eq!(decoder.buffered(), held);
    assert_eq!(decoder.next_request(), Err(error));
}

#[test]
fn a_stream_may_end_between_requests_only() {
    let mut bytes = Vec::new();
    Request::Stats.encode(1, &mut bytes);
    let header = bytes.len();
    Request::Event(UserEvent::default()).encode(2, &mut bytes);
    for end in 0..=bytes.len() {
        let (requests, error, unfinished) = outcome(std::iter::once(&bytes[..end]));
        assert_eq!(error, None);
        let whole = end == 0 || end == header || end == bytes.len();
        assert_eq!(unfinished, !whole, "at {end}");
        assert_eq!(requests.len(), usize::from(end >= header) + usize::from(end == bytes.len()));
    }
}

/// Would take hours if each byte made the decoder look at all the bytes before it.
#[test]
fn the_largest_request_may_come_byte_by_byte() {
    let mut bytes = Vec::new();
    let payload = Some(vec![7; (1 << 20) - 100]);
    Request::Event(UserEvent { payload: payload.clone(), ..UserEvent::default() }).encode(1, &mut bytes);
    let nested = [&b"\x81\xa1x\xdc\xff\xff"[..], &vec![0x90; 0xffff]].concat();
    Request::Stats.encode(2, &mut bytes);
    bytes.extend_from_slice(&nested);
    let (requests, error, unfinished) = outcome(bytes.chunks(1));
    assert_eq!((requests.len(), error, unfinished), (3, None, false));
    assert!(matches!(&requests[0].1, Request::Event(event) if event.payload == payload));
}

#[test]
fn many_requests_in_one_piece_are_taken_one_by_one() {
    let mut one = Vec::new();
    Request::Stats.encode(1, &mut one);
    let mut decoder = Decoder::new();
    decoder.push(&one.repeat(10_000));
    for left in (0..10_000).rev() {
        decoder.next_request().expect("a request").expect("a whole one");
        assert_eq!(decoder.buffered(), left * one.len());
        decoder.push(b"");
    }
    assert_eq!(decoder.next_request(), Ok(None));
}

#[test]
fn an_error_quotes_little_of_what_was_sent() {
    let mut bytes = b"\xdb\x00\x01\x00\x00".to_vec();
    bytes.resize(5 + 0x1_0000, b'x');
    let (requests, error, _) = outcome(std::iter::once(&bytes[..]));
    let error = error.expect("a header is no text");
    assert_eq!(requests, []);
    assert!(error.contains("xxx") && error.len() < 300, "{error}");
}
