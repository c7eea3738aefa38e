//! Messages of the membership layer as bytes: a type number and a map (gossip.md 3, 5.4–5.6).
//!
//! Datagram messages go through [`decode`] and [`encode`], stream messages through [`decode_stream`] and one
//! function for each. Lengths on a stream are checked here, so that nothing is reserved for a lie.

use super::msgpack::{DecodeError, Fault, Reader, Record, Writer, records};
use crate::limits;
use crate::wire::message::{
    Accusation, Ack, Alive, IndirectPing, Message, Nack, Ping, PushNode, PushPull, StreamMessage,
};

/// Type numbers (gossip.md 3.1).
pub(super) mod kind {
    pub(in super::super) const PING: u8 = 0;
    pub(in super::super) const INDIRECT_PING: u8 = 1;
    pub(in super::super) const ACK: u8 = 2;
    pub(in super::super) const SUSPECT: u8 = 3;
    pub(in super::super) const ALIVE: u8 = 4;
    pub(in super::super) const DEAD: u8 = 5;
    pub(in super::super) const PUSH_PULL: u8 = 6;
    pub(in super::super) const COMPOUND: u8 = 7;
    pub(in super::super) const USER: u8 = 8;
    pub(in super::super) const COMPRESS: u8 = 9;
    pub(in super::super) const ENCRYPT: u8 = 10;
    pub(in super::super) const NACK: u8 = 11;
    pub(in super::super) const CRC: u8 = 12;
    pub(in super::super) const ERR: u8 = 13;
    pub(in super::super) const LABEL: u8 = 244;
}

records! {
    Ping<'a> {
        "Node": name => node,
        "SeqNo": uint => seq,
        "SourceAddr": bytes omit_empty => source.addr,
        "SourceNode": name omit_empty => source.node,
        "SourcePort": uint omit_empty => source.port,
    }
    IndirectPing<'a> {
        "Nack": flag => nack,
        "Node": name => node,
        "Port": uint => port,
        "SeqNo": uint => seq,
        "SourceAddr": bytes omit_empty => source.addr,
        "SourceNode": name omit_empty => source.node,
        "SourcePort": uint omit_empty => source.port,
        "Target": bytes => target,
    }
    Ack<'a> {
        "Payload": payload => payload,
        "SeqNo": uint => seq,
    }
    Nack {
        "SeqNo": uint => seq,
    }
    Accusation<'a> {
        "From": name => from,
        "Incarnation": uint => incarnation,
        "Node": name => node,
    }
    Alive<'a> {
        "Addr": bytes => addr,
        "Incarnation": uint => incarnation,
        "Meta": bytes => meta,
        "Node": name => node,
        "Port": uint => port,
        "Vsn": bytes => vsn,
    }
    PushNode<'a> {
        "Addr": bytes => addr,
        "Incarnation": uint => incarnation,
        "Meta": bytes => meta,
        "Name": name_head => name,
        "Port": uint => port,
        "State": int => state,
        "Vsn": bytes => vsn,
    }
    PushPullHeader {
        "Join": flag => join,
        "Nodes": int => nodes,
        "UserStateLen": int => user_state_len,
    }
    UserHeader {
        "UserMsgLen": int => length,
    }
    ErrorText<'a> {
        "Error": text => text,
    }
}

/// The message that a datagram, or one part of it, consists of. Bytes after it are ignored (gossip.md 2.2).
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let (&number, body) = bytes.split_first().ok_or(DecodeError::new("message", Fault::Empty))?;
    let mut reader = Reader::new(body);
    Ok(match number {
        kind::PING => Message::Ping(reader.record("ping")?),
        kind::INDIRECT_PING => Message::IndirectPing(reader.record("indirect ping")?),
        kind::ACK => Message::Ack(reader.record("ack")?),
        kind::NACK => Message::Nack(reader.record("nack")?),
        kind::SUSPECT => Message::Suspect(reader.record("suspect")?),
        kind::ALIVE => Message::Alive(reader.record("alive")?),
        kind::DEAD => Message::Dead(reader.record("dead")?),
        kind::USER => Message::User(body),
        other => return Err(DecodeError::new("message", Fault::Kind(other))),
    })
}

/// Appends a datagram message.
pub fn encode(message: &Message<'_>, out: &mut Vec<u8>) {
    match message {
        Message::Ping(ping) => put(kind::PING, ping, out),
        Message::IndirectPing(ping) => put(kind::INDIRECT_PING, ping, out),
        Message::Ack(ack) => put(kind::ACK, ack, out),
        Message::Nack(nack) => put(kind::NACK, nack, out),
        Message::Suspect(suspect) => put(kind::SUSPECT, suspect, out),
        Message::Alive(alive) => put(kind::ALIVE, alive, out),
        Message::Dead(dead) => put(kind::DEAD, dead, out),
        Message::User(bytes) => {
            out.push(kind::USER);
            out.extend_from_slice(bytes);
        }
    }
}

/// The message that a stream consists of, free of its layers.
pub fn decode_stream(bytes: &[u8]) -> Result<StreamMessage<'_>, DecodeError> {
    let (&number, body) = bytes.split_first().ok_or(DecodeError::new("message", Fault::Empty))?;
    let mut reader = Reader::new(body);
    Ok(match number {
        kind::PUSH_PULL => {
            let (join, count, length) = push_pull_header(&mut reader)?;
            let mut nodes = Vec::with_capacity(count.min(body.len() / 8));
            for _ in 0..count {
                nodes.push(reader.record("node")?);
            }
            let user_state =
                reader.rest().get(..length).ok_or(DecodeError::new("user state", Fault::Truncated))?;
            StreamMessage::PushPull(PushPull { join, nodes, user_state })
        }
        kind::USER => {
            let length = user_header(&mut reader)?;
            let bytes = reader.rest().get(..length);
            StreamMessage::User(bytes.ok_or(DecodeError::new("user message", Fault::Truncated))?)
        }
        kind::PING => StreamMessage::Ping(reader.record("ping")?),
        kind::ACK => StreamMessage::Ack(reader.record("ack")?),
        kind::ERR => StreamMessage::Err(reader.record::<ErrorText<'_>>("err")?.text),
        other => return Err(DecodeError::new("message", Fault::Kind(other))),
    })
}

/// Reads the header of a push/pull: join flag, number of nodes, length of the user state.
pub(super) fn push_pull_header(reader: &mut Reader<'_>) -> Result<(bool, usize, usize), DecodeError> {
    let header: PushPullHeader = reader.record("push/pull header")?;
    let nodes = within(header.nodes, limits::LIST, "Nodes")?;
    let length = within(header.user_state_len, limits::STREAM_MESSAGE, "UserStateLen")?;
    Ok((header.join, nodes, length))
}

/// Reads the header of a user message on a stream: its length.
pub(super) fn user_header(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let header: UserHeader = reader.record("user message header")?;
    within(header.length, limits::STREAM_MESSAGE, "UserMsgLen")
}

/// Appends a push/pull of these nodes (gossip.md 5.4).
pub fn encode_push_pull<'n>(
    join: bool,
    nodes: impl ExactSizeIterator<Item = PushNode<'n>>,
    user_state: &[u8],
    out: &mut Vec<u8>,
) {
    let header = PushPullHeader { join, nodes: nodes.len() as i64, user_state_len: user_state.len() as i64 };
    put(kind::PUSH_PULL, &header, out);
    for node in nodes {
        Writer::new(out).record(&node);
    }
    out.extend_from_slice(user_state);
}

/// Appends a ping for a stream (gossip.md 5.6).
pub fn encode_stream_ping(ping: &Ping<'_>, out: &mut Vec<u8>) {
    put(kind::PING, ping, out);
}

/// Appends the answer to a ping on a stream (gossip.md 5.6).
pub fn encode_stream_ack(ack: &Ack<'_>, out: &mut Vec<u8>) {
    put(kind::ACK, ack, out);
}

/// Appends the complaint that a stream could not be read (gossip.md 5.3).
pub fn encode_stream_err(text: &[u8], out: &mut Vec<u8>) {
    put(kind::ERR, &ErrorText { text }, out);
}

/// The fixed part of a push/pull. The numbers are signed on the wire (gossip.md 2.1).
#[derive(Default)]
struct PushPullHeader {
    join: bool,
    nodes: i64,
    user_state_len: i64,
}

#[derive(Default)]
struct UserHeader {
    length: i64,
}

#[derive(Default)]
struct ErrorText<'a> {
    text: &'a [u8],
}

fn put<'a>(number: u8, record: &impl Record<'a>, out: &mut Vec<u8>) {
    out.push(number);
    Writer::new(out).record(record);
}

fn within(value: i64, limit: usize, field: &'static str) -> Result<usize, DecodeError> {
    usize::try_from(value).ok().filter(|value| *value <= limit).ok_or(DecodeError::new(field, Fault::Range))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors msg-pushpull-header-0.9.4 and -master: the same numbers in unsigned and in signed formats.
    #[test]
    fn both_generations_of_headers_are_read_and_the_old_one_is_written() {
        let old = b"\x83\xa4Join\xc2\xa5Nodes\xcd\x9c\x40\xacUserStateLen\xce\xb2\xd0\x5e\x00";
        let new =
            b"\x83\xa4Join\xc2\xa5Nodes\xd2\x00\x00\x9c\x40\xacUserStateLen\xd3\x00\x00\x00\x00\xb2\xd0\x5e\x00";
        for bytes in [&old[..], new] {
            let header: PushPullHeader = Reader::new(bytes).record("push/pull header").unwrap();
            assert_eq!((header.join, header.nodes, header.user_state_len), (false, 40_000, 3_000_000_000));
            let mut out = Vec::new();
            Writer::new(&mut out).record(&header);
            assert_eq!(out, old);
        }
    }
}
