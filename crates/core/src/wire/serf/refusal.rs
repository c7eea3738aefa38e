//! Why a packet or a stream is not understood: the peer's fault, told to operators and counted.

use super::msgpack::DecodeError;
use crate::limits;
use std::fmt;

/// Why a datagram, or one part of it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is there, or nothing was in a layer.
    Empty,
    /// The label is broken or not ours.
    Label,
    /// We encrypt, and this is no encrypted packet.
    NotEncrypted,
    /// None of our keys opens it.
    Undecryptable,
    /// The checksum does not fit.
    Crc,
    /// The table of a compound is cut off.
    Compound,
    /// A part of a compound ends after the packet; it and those behind it are lost.
    CompoundTruncated,
    /// The compressed form is broken, or of an unknown algorithm.
    Compression,
    /// It unfolds to more than [`limits::DATAGRAM_EXPANDED`] bytes.
    TooLong,
    /// It has more than [`limits::PACKET_LAYERS`] layers.
    TooDeep,
    /// More than [`limits::REFUSED_PARTS`] of its parts were refused.
    TooManyParts,
    /// No datagram begins with this type number.
    UnknownType(u8),
}

impl Refusal {
    /// One word for counters; it stays the same from release to release.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Empty => "empty",
            Refusal::Label => "label",
            Refusal::NotEncrypted => "not_encrypted",
            Refusal::Undecryptable => "undecryptable",
            Refusal::Crc => "crc",
            Refusal::Compound => "compound",
            Refusal::CompoundTruncated => "compound_truncated",
            Refusal::Compression => "compression",
            Refusal::TooLong => "too_long",
            Refusal::TooDeep => "too_deep",
            Refusal::TooManyParts => "too_many_parts",
            Refusal::UnknownType(_) => "unknown_type",
        }
    }

    /// What a person is told.
    pub const fn text(self) -> &'static str {
        match self {
            Refusal::Empty => "empty message",
            Refusal::Label => "label missing, broken or not ours",
            Refusal::NotEncrypted => "Encryption is configured but the packet is not encrypted",
            Refusal::Undecryptable => "No installed keys could decrypt the message",
            Refusal::Crc => "checksum mismatch",
            Refusal::Compound => "compound header cut off",
            Refusal::CompoundTruncated => "compound cut off, some parts are lost",
            Refusal::Compression => "compressed data is broken",
            Refusal::TooLong => "unfolds to more bytes than allowed",
            Refusal::TooDeep => "too many nested layers",
            Refusal::TooManyParts => "too many unreadable parts",
            Refusal::UnknownType(_) => "unknown message type",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownType(number) => write!(f, "{} {number}", self.text()),
            _ => f.write_str(self.text()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a stream is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// The label is broken or not ours.
    Label,
    /// It is encrypted, and we have no keys.
    Encrypted,
    /// We encrypt, and it is not encrypted.
    NotEncrypted,
    /// None of our keys opens it.
    Undecryptable,
    /// An encrypted message announces more than [`limits::STREAM_MESSAGE`] bytes.
    EncryptedTooLong,
    /// The compressed form is broken, or of an unknown algorithm.
    Compression,
    /// It unfolds to more than [`limits::STREAM_EXPANDED`] bytes.
    TooLong,
    /// Nothing is in a layer.
    Empty,
    /// No stream begins with this type number.
    UnknownType(u8),
    /// The message proper is broken.
    Message(DecodeError),
    /// The peer sent more bytes than any message has.
    Flood,
}

impl StreamRefusal {
    /// Whether the peer is to be told in an err message before the stream is closed: if the failure lies before the
    /// message proper (gossip.md 5.3). The text is what [`Display`](fmt::Display) shows.
    pub const fn is_answered(self) -> bool {
        match self {
            StreamRefusal::Encrypted
            | StreamRefusal::NotEncrypted
            | StreamRefusal::Undecryptable
            | StreamRefusal::EncryptedTooLong
            | StreamRefusal::Compression
            | StreamRefusal::TooLong
            | StreamRefusal::Empty => true,
            StreamRefusal::Label
            | StreamRefusal::UnknownType(_)
            | StreamRefusal::Message(_)
            | StreamRefusal::Flood => false,
        }
    }

    /// One word for counters; it stays the same from release to release.
    pub const fn name(self) -> &'static str {
        match self {
            StreamRefusal::Label => "label",
            StreamRefusal::Encrypted => "encrypted",
            StreamRefusal::NotEncrypted => "not_encrypted",
            StreamRefusal::Undecryptable => "undecryptable",
            StreamRefusal::EncryptedTooLong => "encrypted_too_long",
            StreamRefusal::Compression => "compression",
            StreamRefusal::TooLong => "too_long",
            StreamRefusal::Empty => "empty",
            StreamRefusal::UnknownType(_) => "unknown_type",
            StreamRefusal::Message(_) => "message",
            StreamRefusal::Flood => "flood",
        }
    }
}

/// The texts of the encryption mismatch are the reference's (agent.md 5.3).
impl fmt::Display for StreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamRefusal::Label => f.write_str("label missing, broken or not ours"),
            StreamRefusal::Encrypted => {
                f.write_str("Remote state is encrypted and encryption is not configured")
            }
            StreamRefusal::NotEncrypted => {
                f.write_str("Encryption is configured but remote state is not encrypted")
            }
            StreamRefusal::Undecryptable => f.write_str("No installed keys could decrypt the message"),
            StreamRefusal::EncryptedTooLong => {
                write!(f, "Remote node state is larger than limit ({} bytes)", limits::STREAM_MESSAGE)
            }
            StreamRefusal::Compression => f.write_str("Compressed data is broken"),
            StreamRefusal::TooLong => {
                write!(f, "Message unfolds to more than {} bytes", limits::STREAM_EXPANDED)
            }
            StreamRefusal::Empty => f.write_str("Message is empty"),
            StreamRefusal::UnknownType(number) => write!(f, "Unknown message type {number}"),
            StreamRefusal::Message(error) => write!(f, "Malformed message: {error}"),
            StreamRefusal::Flood => f.write_str("More bytes than any message has"),
        }
    }
}

impl std::error::Error for StreamRefusal {}
