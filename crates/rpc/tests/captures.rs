//! Bytes that a Serf agent and its clients exchanged, read and written again by this crate.

use std::collections::BTreeMap;
use villein_rpc::request::Request;
use villein_rpc::response::{
    FromReply, Joined, KeyReport, Located, Member, Record, Reply, ResponseHeader, Stats,
};
use villein_rpc::{Decoder, RequestHeader};

struct Capture {
    name: &'static str,
    standard: bool,
    client: Vec<Vec<u8>>,
    agent: Vec<Vec<u8>>,
}

fn captures() -> Vec<Capture> {
    let mut all: Vec<Capture> = Vec::new();
    for line in include_str!("golden/captures.txt").lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some(name), Some(kind)) => all.push(Capture {
                name,
                standard: kind == "standard",
                client: Vec::new(),
                agent: Vec::new(),
            }),
            (Some("C"), Some(hex), None) => all.last_mut().expect("a capture began").client.push(unhex(hex)),
            (Some("A"), Some(hex), None) => all.last_mut().expect("a capture began").agent.push(unhex(hex)),
            _ => panic!("no line of a capture: {line}"),
        }
    }
    all
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// All requests of a byte sequence, and how it ends.
fn requests(bytes: &[u8]) -> (Vec<(RequestHeader, Request)>, Result<(), String>) {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let mut requests = Vec::new();
    loop {
        match decoder.next_request() {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return (requests, decoder.finish().map_err(|error| error.to_string())),
            Err(error) => return (requests, Err(error.to_string())),
        }
    }
}

#[test]
fn requests_of_the_standard_client_are_written_as_they_were_read() {
    let mut seen = 0;
    for capture in captures().iter().filter(|capture| capture.standard) {
        let bytes = capture.client.concat();
        let (requests, end) = requests(&bytes);
        assert_eq!(end, Ok(()), "{}", capture.name);
        let mut written = Vec::new();
        for (header, request) in &requests {
            assert!(!matches!(request, Request::Unknown(_)), "{}: {request:?}", capture.name);
            assert_eq!(header.command.as_bytes(), request.command());
            request.encode(header.seq, &mut written);
        }
        if capture.name == "reachability" {
            // The ping of this one command has nil where all other queries have an empty map.
            let ours: &[u8] = b"\xaaFilterTags\x80";
            let theirs: &[u8] = b"\xaaFilterTags\xc0";
            let at = written.windows(ours.len()).position(|window| window == ours).expect("the ping");
            written[at..at + ours.len()].copy_from_slice(theirs);
        }
        assert_eq!(written, bytes, "{}", capture.name);
        seen += requests.len();
    }
    assert!(seen > 60, "only {seen} requests");
}

#[test]
fn hand_written_requests_are_understood_or_refused() {
    let refused = BTreeMap::from([
        ("raw-body-array-type", (1, "Failed to evaluate request: decode failed: ")),
        ("raw-body-wrong-type", (1, "Failed to evaluate request: decode failed: ")),
        ("raw-garbage-c1", (0, "failed to decode request header: ")),
        ("raw-garbage-http", (0, "failed to decode request header: ")),
        ("raw-handshake-version-string", (0, "Failed to evaluate request: decode failed: ")),
        ("raw-header-int", (1, "failed to decode request header: ")),
        ("raw-header-seq-float", (1, "failed to decode request header: ")),
        ("raw-header-seq-types", (2, "failed to decode request header: ")),
        ("raw-header-string", (1, "failed to decode request header: ")),
        ("raw-truncated", (0, "failed to decode request header: unexpected EOF")),
    ]);
    let mut met = 0;
    for capture in captures().iter().filter(|capture| !capture.standard) {
        let (requests, end) = requests(&capture.client.concat());
        match refused.get(capture.name) {
            None => assert_eq!(end, Ok(()), "{}", capture.name),
            Some(&(count, text)) => {
                met += 1;
                assert_eq!(requests.len(), count, "{}", capture.name);
                let error = end.expect_err(capture.name);
                assert!(error.starts_with(text), "{}: {error}", capture.name);
            }
        }
        for (header, request) in requests {
            let mut written = Vec::new();
            request.encode(header.seq, &mut written);
            let again = self::requests(&written).0;
            assert_eq!(again, [(header, request)], "{}", capture.name);
        }
    }
    assert_eq!(met, refused.len());
}

#[test]
fn messages_of_the_agent_are_written_as_they_were_read() {
    let (mut exact, mut reordered) = (0, 0);
    for capture in captures() {
        for object in &capture.agent {
            let written = rewrite(object);
            if written == *object {
                exact += 1;
                continue;
            }
            // Maps with free keys come in random order: the same bytes, elsewhere.
            let sorted = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                bytes.sort_unstable();
                bytes
            };
            assert_eq!(sorted(&written), sorted(object), "{}", capture.name);
            let free =
                [&b"Tags\x82"[..], b"Tags\x83", b"tags", b"Messages\x82", b"Messages\x83", b"Keys\x82"];
            assert!(
                free.iter().any(|map| object.windows(map.len()).any(|window| window == *map)),
                "{}: only free maps have no order",
                capture.name
            );
            assert_eq!(rewrite(&written), written, "{}", capture.name);
            reordered += 1;
        }
    }
    assert!(exact > 400, "only {exact} objects are identical");
    assert!(reordered < 60, "{reordered} objects are not identical");
}

/// Decodes one object that an agent sent, by the key it begins with, and encodes it again.
fn rewrite(object: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    let first_key = &object[2..2 + usize::from(object[1] & 0x1f)];
    match first_key {
        b"Error" => ResponseHeader::decode(object).expect("a header").encode(&mut written),
        b"Members" => Reply::Members(reply::<Vec<Member>>(object)).encode(&mut written),
        b"Num" => Reply::Joined(reply::<Joined>(object)).encode(&mut written),
        b"Keys" => Reply::Keys(reply::<KeyReport>(object)).encode(&mut written),
        b"Coord" => Reply::Coordinate(reply::<Located>(object)).encode(&mut written),
        b"Event" | b"Log" | b"From" | b"Coalesce" => {
            Record::decode(object).expect("a record").encode(&mut written);
        }
        _ => Reply::Stats(reply::<Stats>(object)).encode(&mut written),
    }
    written
}

fn reply<T: FromReply>(object: &[u8]) -> T {
    T::from_reply(object).expect("a reply")
}

#[test]
fn the_forms_that_other_clients_send_mean_the_same() {
    let by_name: BTreeMap<&str, Vec<u8>> =
        captures().into_iter().map(|capture| (capture.name, capture.client.concat())).collect();
    let all = |name: &str| -> Vec<Request> {
        requests(&by_name[name]).0.into_iter().map(|(_, request)| request).collect()
    };
    let Request::Handshake(handshake) = &all("raw-header-array")[0] else { panic!("a handshake") };
    assert_eq!(handshake.version, 1);
    assert_eq!(requests(&by_name["raw-header-array"]).0[0].0.seq, 6);

    let Request::Handshake(handshake) = &all("raw-header-binkeys")[0] else { panic!("a handshake") };
    assert_eq!(handshake.version, 1);

    let payloads: Vec<_> = all("raw-event-str-payload")
        .into_iter()
        .filter_map(|request| if let Request::Event(event) = request { event.payload } else { None })
        .collect();
    assert_eq!(payloads, [b"txt".to_vec(), vec![1, 2, 3]]);

    let events = all("raw-event-invalid-utf8");
    let Some(Request::Event(event)) = events.get(1) else { panic!("an event") };
    assert_eq!(event.name.as_bytes(), b"\xff\xfe");
    assert_eq!(event.payload.as_deref(), Some(&b"\xff\x00"[..]));

    assert_eq!(all("raw-header-nil")[1], Request::Unknown("".into()));
    assert_eq!(all("raw-unknown-command")[1], Request::Unknown("bogus".into()));
    assert_eq!(requests(&by_name["raw-header-seq-types"]).0[1].0.seq, u64::MAX);
}
