//! What travels inside the byte strings of other messages: filters, conflict records, key requests and
//! responses, tags, coordinates (gossip.md 13.2, 13.3, 13.10, 13.11, 14.6).
//!
//! Each begins with a byte that names its kind; an unknown one is an error, except in a key request, whose
//! first byte nobody checks.

use super::msgpack::{DecodeError, Fault, Reader, Record, Writer, records};
use super::serf_messages::kind;
use crate::coordinate::Coordinate;
use crate::text::Text;
use crate::wire::message::{ConflictRecord, Filter, KeyResponse};
use std::collections::BTreeMap;

/// Kinds of filters (gossip.md 13.10).
const FILTER_NODES: u8 = 0;
const FILTER_TAG: u8 = 1;

/// First byte of encoded tags (gossip.md 13.3).
const TAGS: u8 = 0xff;
/// The first Serf protocol with tags; before it there was a role only.
const TAGS_PROTOCOL: u8 = 3;

/// Version of the payload of an ack (gossip.md 14.6).
const COORDINATE: u8 = 1;

records! {
    TagFilter<'a> {
        "Expr": text => expr,
        "Tag": text => tag,
    }
    ConflictRecord<'a> {
        "Addr": bytes => addr,
        "DelegateCur": uint => vsn[5],
        "DelegateMax": uint => vsn[4],
        "DelegateMin": uint => vsn[3],
        "Name": text => name,
        "Port": uint => port,
        "ProtocolCur": uint => vsn[2],
        "ProtocolMax": uint => vsn[1],
        "ProtocolMin": uint => vsn[0],
        "Status": int => status,
        "Tags": tags => tags,
    }
    KeyRequest<'a> {
        "Key": text => key,
    }
    KeyResponse<'a> {
        "Keys": keys => keys,
        "Message": text => message,
        "PrimaryKey": text => primary_key,
        "Result": flag => result,
    }
    Position {
        "Adjustment": float => adjustment,
        "Error": float => error,
        "Height": float => height,
        "Vec": vector => vec,
    }
}

/// One element of a query's filters.
pub fn decode_filter(bytes: &[u8]) -> Result<Filter<'_>, DecodeError> {
    let (number, mut reader) = open(bytes, "filter")?;
    match number {
        FILTER_NODES => Ok(Filter::Nodes(reader.texts("filter")?)),
        FILTER_TAG => {
            let TagFilter { tag, expr } = reader.record("filter")?;
            Ok(Filter::Tag { tag, expr })
        }
        other => Err(DecodeError::new("filter", Fault::Kind(other))),
    }
}

/// Whether [`decode_filter`] understands these bytes, at no cost in memory.
pub fn check_filter(bytes: &[u8]) -> Result<(), DecodeError> {
    let (FILTER_NODES, mut reader) = open(bytes, "filter")? else { return decode_filter(bytes).map(drop) };
    for _ in 0..reader.list_length("filter")?.unwrap_or(0) {
        reader.text("filter")?;
    }
    Ok(())
}

/// Appends one element of a query's filters.
pub fn encode_filter(filter: &Filter<'_>, out: &mut Vec<u8>) {
    match filter {
        Filter::Nodes(names) => {
            out.push(FILTER_NODES);
            Writer::new(out).texts(names);
        }
        Filter::Tag { tag, expr } => put(FILTER_TAG, &TagFilter { tag, expr }, out),
    }
}

/// The answer to a conflict query; `None` if the responder does not know the name.
pub fn decode_conflict(bytes: &[u8]) -> Result<Option<ConflictRecord<'_>>, DecodeError> {
    let mut reader = open_as(kind::CONFLICT, bytes, "conflict response")?;
    if reader.nil() { Ok(None) } else { reader.record("conflict response").map(Some) }
}

/// Appends the answer to a conflict query.
pub fn encode_conflict(record: Option<&ConflictRecord<'_>>, out: &mut Vec<u8>) {
    match record {
        Some(record) => put(kind::CONFLICT, record, out),
        None => out.extend([kind::CONFLICT, 0xc0]),
    }
}

/// The key in the payload of a key query; empty in a list query. The first byte is not checked, as in the
/// reference, but must be there (gossip.md 13.11).
pub fn decode_key_request(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let (_, mut reader) = open(bytes, "key request")?;
    Ok(reader.record::<KeyRequest<'_>>("key request")?.key)
}

/// Appends the payload of a key query.
pub fn encode_key_request(key: &[u8], out: &mut Vec<u8>) {
    put(kind::KEY_REQUEST, &KeyRequest { key }, out);
}

/// The answer to a key query.
pub fn decode_key_response(bytes: &[u8]) -> Result<KeyResponse<'_>, DecodeError> {
    open_as(kind::KEY_RESPONSE, bytes, "key response")?.record("key response")
}

/// Appends the answer to a key query.
pub fn encode_key_response(response: &KeyResponse<'_>, out: &mut Vec<u8>) {
    put(kind::KEY_RESPONSE, response, out);
}

/// The tags in a node's metadata. Total: what is no encoded map is the value of the tag `role`, and of a
/// broken map the readable front counts (gossip.md 13.3).
pub fn decode_meta(bytes: &[u8]) -> BTreeMap<Text, Text> {
    let mut tags = BTreeMap::new();
    match bytes.split_first() {
        Some((&TAGS, body)) => {
            // The error has no reader: whatever could be read before it is what counts.
            let _: Result<(), DecodeError> = Reader::new(body).each_pair("tags", |key, reader| {
                tags.insert(Text::from(key), Text::from(reader.text("tags")?));
                Ok(())
            });
        }
        _ => {
            tags.insert(Text::from("role"), Text::from(bytes));
        }
    }
    tags
}

/// Appends metadata for a node that speaks Serf `protocol`: at 2, the bare role.
pub fn encode_meta(tags: &BTreeMap<Text, Text>, protocol: u8, out: &mut Vec<u8>) {
    if protocol < TAGS_PROTOCOL {
        out.extend_from_slice(tags.get(&b"role"[..]).map(Text::as_bytes).unwrap_or_default());
        return;
    }
    out.push(TAGS);
    let mut writer = Writer::new(out);
    writer.map(tags.len());
    for (name, value) in tags {
        writer.text(name);
        writer.text(value);
    }
}

/// The coordinate in the payload of an ack. It may hold numbers that are not finite.
pub fn decode_coordinate(bytes: &[u8]) -> Result<Coordinate, DecodeError> {
    let Position { vec, error, adjustment, height } =
        open_as(COORDINATE, bytes, "coordinate")?.record("coordinate")?;
    let vec = vec.ok_or(DecodeError::new("Vec", Fault::Empty))?;
    Ok(Coordinate { vec, error, adjustment, height })
}

/// Appends the payload of an ack: 130 bytes.
pub fn encode_coordinate(coordinate: &Coordinate, out: &mut Vec<u8>) {
    let &Coordinate { vec, error, adjustment, height } = coordinate;
    put(COORDINATE, &Position { vec: Some(vec), error, adjustment, height }, out);
}

/// Name and value.
type Tag<'a> = (&'a [u8], &'a [u8]);

#[derive(Default)]
struct TagFilter<'a> {
    tag: &'a [u8],
    expr: &'a [u8],
}

/// An empty key, as in a list query, leaves as `a0` and not as nil.
#[derive(Default)]
struct KeyRequest<'a> {
    key: &'a [u8],
}

/// A coordinate as it travels; one without a vector is none.
#[derive(Default)]
struct Position {
    vec: Option<[f64; 8]>,
    error: f64,
    adjustment: f64,
    height: f64,
}

impl<'a> Reader<'a> {
    fn tags(&mut self, field: &'static str) -> Result<Vec<Tag<'a>>, DecodeError> {
        self.pairs(field, |reader| reader.text(field))
    }

    fn keys(&mut self, field: &'static str) -> Result<Option<Vec<&'a [u8]>>, DecodeError> {
        if self.nil() { Ok(None) } else { self.texts(field).map(Some) }
    }

    fn vector(&mut self, field: &'static str) -> Result<Option<[f64; 8]>, DecodeError> {
        let mut vector = [0.0; 8];
        match self.list_length(field)? {
            None => return Ok(None),
            Some(8) => {}
            Some(_) => return Err(DecodeError::new(field, Fault::Range)),
        }
        for number in &mut vector {
            *number = self.float(field)?;
        }
        Ok(Some(vector))
    }
}

impl Writer<'_> {
    fn tags(&mut self, tags: &[Tag<'_>]) {
        self.map(tags.len());
        for (name, value) in tags {
            self.text(name);
            self.text(value);
        }
    }

    #[expect(clippy::ref_option, reason = "every kind has the same shape, so that one macro serves all")]
    fn keys(&mut self, keys: &Option<Vec<&[u8]>>) {
        match keys {
            Some(keys) => self.texts(keys),
            None => self.nil(),
        }
    }

    #[expect(clippy::ref_option, reason = "every kind has the same shape, so that one macro serves all")]
    fn vector(&mut self, vector: &Option<[f64; 8]>) {
        let vector = vector.as_ref().map_or(&[][..], |vector| &vector[..]);
        self.list(vector.len());
        for number in vector {
            self.float(number);
        }
    }
}

fn open<'a>(bytes: &'a [u8], name: &'static str) -> Result<(u8, Reader<'a>), DecodeError> {
    let (&number, body) = bytes.split_first().ok_or(DecodeError::new(name, Fault::Empty))?;
    Ok((number, Reader::new(body)))
}

fn open_as<'a>(expected: u8, bytes: &'a [u8], name: &'static str) -> Result<Reader<'a>, DecodeError> {
    let (number, reader) = open(bytes, name)?;
    if number == expected { Ok(reader) } else { Err(DecodeError::new(name, Fault::Kind(number))) }
}

fn put<'a>(number: u8, record: &impl Record<'a>, out: &mut Vec<u8>) {
    out.push(number);
    Writer::new(out).record(record);
}
