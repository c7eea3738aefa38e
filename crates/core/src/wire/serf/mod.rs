//! The dialect of Serf: what its agents say to each other since release 0.8 (gossip.md 2–7, 13.2, 13.3).
//!
//! This decides which bytes stand for which meaning, in both directions, and nothing else. Emitted bytes are
//! those of the old generation, which both generations read; accepted are those of both. The quirks:
//!
//! - The raw family of old `MessagePack`: no `str8`, no `bin`, keys in byte order (2.1, [`msgpack`]).
//! - Integers that were declared signed leave in unsigned formats; both families are read (2.1).
//! - An empty string leaves as `a0`, an empty byte string as nil (2.1, [`messages`], [`serf_messages`]).
//! - Map-coded structs only; array-coded ones, which nobody emits, are refused (2.2).
//! - LZW without early change, ended by a code that is required (7, [`lzw`]).
//! - A CRC is understood on the outside only; zero-length parts and empty results are refused (4.2, 4.7, [`packet`]).
//! - A response on a stream has no label header and yet authenticates the label (5.2, [`stream`]).
//! - A query with an empty filter element is refused as a whole (13.10, [`serf_messages`]).
//!
//! Invariant: nothing that a peer sends makes a decoder panic, and what it allocates is bounded by the bytes
//! that are there and by [`limits`](crate::limits).

mod lzw;
mod messages;
mod msgpack;
mod packet;
mod payloads;
mod refusal;
mod serf_messages;
mod stream;

pub use messages::{
    decode, decode_stream, encode, encode_push_pull, encode_stream_ack, encode_stream_err, encode_stream_ping,
};
pub use msgpack::{DecodeError, Fault};
pub use packet::{Batch, Codec, Parts, Settings};
pub use payloads::{
    check_filter, decode_conflict, decode_coordinate, decode_filter, decode_key_request, decode_key_response,
    decode_meta, encode_conflict, encode_coordinate, encode_filter, encode_key_request, encode_key_response,
    encode_meta,
};
pub use refusal::{Refusal, StreamRefusal};
pub use serf_messages::{decode_serf, encode_serf};
pub use stream::{Side, StreamReader};

#[cfg(test)]
mod tests;
