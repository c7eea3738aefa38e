//! The layers of a packet and their order, in both directions (gossip.md 4.1, 4.2).
//!
//! Outward: compound, compression, CRC, encryption, label. Inward the same from the other end, where compound
//! and compression may be nested and everything else is understood on the outside only. This decides neither
//! what is sent to whom nor whether a peer is known to understand a CRC.
//!
//! Invariant: what [`Codec::seal`] makes, [`Codec::open`] takes apart into the same messages; and a datagram
//! that is refused as a whole leaves nothing behind.

use super::lzw::{Lzw, LzwError};
use super::messages::{self, kind};
use super::msgpack::{DecodeError, Reader, Record, Writer, records};
use super::refusal::Refusal;
use crate::crypto::{Keyring, OpenError, Version};
use crate::limits;
use crate::rng::Rng;
use crate::wire::message::Message;
use std::fmt;
use std::ops::Range;

/// CRC wrapper: type byte and checksum.
const CRC_HEADER: usize = 5;
/// The only algorithm of the compression wrapper.
const LZW: u8 = 0;

/// How packets are wrapped; equal on all nodes of a cluster, except while it is being changed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At most 255 bytes; empty for none. Only newer members understand labels (gossip.md 4.3).
    pub label: Vec<u8>,
    /// Whether whoever receives for this node has checked and removed the label. What comes in has no label header
    /// then, and is authenticated under the label all the same (gossip.md 4.3).
    pub skip_inbound_label_check: bool,
    /// Encryption is on if there is a ring.
    pub keyring: Option<Keyring>,
    /// Whether plain packets and streams are refused when encryption is on (gossip.md 6.5).
    pub verify_incoming: bool,
    /// Whether what is sent is encrypted when encryption is on (gossip.md 6.5).
    pub verify_outgoing: bool,
    /// Whether what is sent is compressed; compressed packets are always understood.
    pub compression: bool,
}

/// Wraps and unwraps packets, and holds what that needs from one packet to the next.
pub struct Codec {
    pub(super) settings: Settings,
    pub(super) lzw: Lzw,
    /// The datagram being sealed, and behind it its compressed form.
    plain: Vec<u8>,
    /// What is being compressed or decompressed.
    pub(super) packed: Vec<u8>,
}

impl Codec {
    /// # Panics
    ///
    /// If the label is longer than its length byte can say.
    pub fn new(settings: Settings) -> Codec {
        assert!(settings.label.len() <= limits::LABEL, "a label has at most 255 bytes");
        Codec { settings, lzw: Lzw::new(), plain: Vec::new(), packed: Vec::new() }
    }

    /// The keys, if encryption is on.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.settings.keyring.as_ref()
    }

    /// The keys, to be changed; a change counts from the next packet on.
    pub fn keyring_mut(&mut self) -> Option<&mut Keyring> {
        self.settings.keyring.as_mut()
    }

    /// Bytes that label and encryption add to a datagram (L + E of gossip.md 4.8).
    pub fn overhead(&self) -> usize {
        let label = if self.settings.label.is_empty() { 0 } else { 2 + self.settings.label.len() };
        label + self.sealing_keys().map_or(0, |_| Version::Plain.overhead())
    }

    /// Unwraps a datagram into its messages, which replace what `parts` held.
    ///
    /// On error `parts` is empty and the datagram has no effect. Parts of a compound that are refused do not
    /// keep the others from being understood; see [`Parts::refused`].
    pub fn open(&mut self, datagram: &[u8], parts: &mut Parts) -> Result<(), Refusal> {
        parts.clear();
        let result = self.open_outer(datagram, &mut parts.bytes).and_then(|()| {
            let from = if check_crc(&parts.bytes)? { CRC_HEADER } else { 0 };
            self.unfold(from..parts.bytes.len(), 0, parts)
        });
        if result.is_err() {
            parts.clear();
        }
        result
    }

    /// Wraps the messages of `batch` into one datagram, appended to `out`.
    ///
    /// `crc` says that the receiver is known to understand a CRC (gossip.md 4.5).
    ///
    /// # Panics
    ///
    /// If the batch is empty.
    pub fn seal(&mut self, batch: &Batch, crc: bool, rng: &mut Rng, out: &mut Vec<u8>) {
        assert!(!batch.is_empty(), "a datagram carries at least one message");
        self.plain.clear();
        batch.join(&mut self.plain);
        let plain = self.plain.len();
        if self.settings.compression {
            self.packed.clear();
            self.lzw.compress(&self.plain, &mut self.packed);
            put_compressed(&self.packed, &mut self.plain);
        }
        // Only a shorter form is worth the receiver's work (gossip.md 7).
        let packed = self.plain.len() - plain;
        let body = if 0 < packed && packed < plain { &self.plain[plain..] } else { &self.plain[..plain] };
        put_label(&self.settings.label, out);
        let from = out.len();
        if crc {
            out.push(kind::CRC);
            out.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
        }
        out.extend_from_slice(body);
        if let Some(keys) = self.sealing_keys() {
            keys.seal(Version::Plain, &rng.nonce(), &self.settings.label, out, from);
        }
    }

    /// The keys, if what is sent is to be encrypted.
    pub(super) fn sealing_keys(&self) -> Option<&Keyring> {
        self.settings.keyring.as_ref().filter(|_| self.settings.verify_outgoing)
    }

    /// The label that what comes in must begin with.
    pub(super) fn inbound_label(&self) -> &[u8] {
        if self.settings.skip_inbound_label_check { &[] } else { &self.settings.label }
    }

    /// Takes off label and encryption.
    fn open_outer(&self, datagram: &[u8], plain: &mut Vec<u8>) -> Result<(), Refusal> {
        if datagram.is_empty() {
            return Err(Refusal::Empty);
        }
        let body = &datagram[strip_label(datagram, self.inbound_label())?..];
        if let Some(keys) = &self.settings.keyring {
            match keys.open(body, &self.settings.label, plain) {
                Ok(()) => return Ok(()),
                Err(_) if !self.settings.verify_incoming => {}
                Err(OpenError::NotABlock) => return Err(Refusal::NotEncrypted),
                Err(OpenError::NoKey | OpenError::Padding) => return Err(Refusal::Undecryptable),
            }
        }
        plain.extend_from_slice(body);
        Ok(())
    }

    /// Takes apart what lies at `range` of the parts' bytes, below `layers` layers.
    fn unfold(&mut self, range: Range<usize>, layers: usize, parts: &mut Parts) -> Result<(), Refusal> {
        let number = *parts.bytes[range.clone()].first().ok_or(Refusal::Empty)?;
        match number {
            kind::COMPOUND | kind::COMPRESS if layers == limits::PACKET_LAYERS => Err(Refusal::TooDeep),
            kind::COMPOUND => self.unfold_compound(range, layers + 1, parts),
            kind::COMPRESS => {
                let room = limits::DATAGRAM_EXPANDED.saturating_sub(parts.bytes.len());
                self.packed.clear();
                decompress(&mut self.lzw, &parts.bytes[range.start + 1..range.end], room, &mut self.packed)
                    .map_err(|error| match error {
                    LzwError::TooLong => Refusal::TooLong,
                    LzwError::Broken => Refusal::Compression,
                })?;
                let from = parts.bytes.len();
                parts.bytes.extend_from_slice(&self.packed);
                self.unfold(from..parts.bytes.len(), layers + 1, parts)
            }
            kind::PING..=kind::DEAD | kind::USER | kind::NACK => {
                parts.found.push(range);
                Ok(())
            }
            other => Err(Refusal::UnknownType(other)),
        }
    }

    fn unfold_compound(
        &mut self,
        range: Range<usize>,
        layers: usize,
        parts: &mut Parts,
    ) -> Result<(), Refusal> {
        let lengths = range.start + 2;
        let count = usize::from(*parts.bytes[range.clone()].get(1).ok_or(Refusal::Compound)?);
        let mut at = lengths + 2 * count;
        if at > range.end {
            return Err(Refusal::Compound);
        }
        for entry in (lengths..at).step_by(2) {
            let length = usize::from(u16::from_be_bytes([parts.bytes[entry], parts.bytes[entry + 1]]));
            if at + length > range.end {
                return parts.refuse(Refusal::CompoundTruncated);
            }
            if let Err(refusal) = self.unfold(at..at + length, layers, parts) {
                parts.refuse(refusal)?;
            }
            at += length;
        }
        Ok(())
    }
}

/// Keys are hidden by their own debug output.
impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The messages of one datagram; reused for the next one.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The plain datagram, and behind it what was decompressed.
    bytes: Vec<u8>,
    found: Vec<Range<usize>>,
    refused: Vec<Refusal>,
}

impl Parts {
    /// The messages in the order of the datagram, each with its type byte; not decoded yet.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.found.iter().map(|range| &self.bytes[range.clone()])
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Why other parts of the datagram were dropped.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.found.clear();
        self.refused.clear();
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if self.refused.len() == limits::REFUSED_PARTS {
            return Err(Refusal::TooManyParts);
        }
        self.refused.push(refusal);
        Ok(())
    }
}

/// The messages of a datagram to be sent; reused for the next one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Forgets the messages and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether no further message may be added: there are [`limits::COMPOUND_PARTS`].
    pub fn is_full(&self) -> bool {
        self.ends.len() == limits::COMPOUND_PARTS
    }

    /// Bytes of all messages together, without what a compound adds.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a message with its type byte.
    ///
    /// # Panics
    ///
    /// If the batch is full, or the message is empty or longer than the 65,535 bytes of a compound's part.
    pub fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.finish();
    }

    /// Adds a message of the layer above. Panics like [`push`](Self::push).
    pub fn push_user(&mut self, content: &[u8]) {
        self.push_message(&Message::User(content));
    }

    /// Adds a message. Panics like [`push`](Self::push).
    pub fn push_message(&mut self, message: &Message<'_>) {
        messages::encode(message, &mut self.bytes);
        self.finish();
    }

    fn finish(&mut self) {
        let length = self.bytes.len() - self.ends.last().copied().unwrap_or(0);
        assert!(!self.is_full(), "a batch has at most 127 messages");
        assert!(length > 0 && u16::try_from(length).is_ok(), "a message fits a part of a compound");
        self.ends.push(self.bytes.len());
    }

    /// Appends the message, or the compound of the messages.
    fn join(&self, out: &mut Vec<u8>) {
        if self.ends.len() > 1 {
            out.extend([kind::COMPOUND, self.ends.len() as u8]);
            let mut start = 0;
            for end in &self.ends {
                out.extend_from_slice(&((end - start) as u16).to_be_bytes());
                start = *end;
            }
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Compares the label header with the one that is due and returns its length (gossip.md 4.3). An unlabelled packet
/// passes if none is due; a labelled one does not.
pub(super) fn strip_label(bytes: &[u8], due: &[u8]) -> Result<usize, Refusal> {
    let (label, header) = match bytes {
        [kind::LABEL, 0, ..] | [kind::LABEL] => return Err(Refusal::Label),
        [kind::LABEL, length, rest @ ..] => {
            let length = usize::from(*length);
            (rest.get(..length).ok_or(Refusal::Label)?, 2 + length)
        }
        _ => (&[][..], 0),
    };
    if label == due { Ok(header) } else { Err(Refusal::Label) }
}

/// Appends the label header, if there is a label.
pub(super) fn put_label(label: &[u8], out: &mut Vec<u8>) {
    if !label.is_empty() {
        out.extend([kind::LABEL, label.len() as u8]);
        out.extend_from_slice(label);
    }
}

/// Whether there is a CRC, which must then be right. Shorter packets that begin alike have none (gossip.md 4.2).
fn check_crc(packet: &[u8]) -> Result<bool, Refusal> {
    match packet {
        [kind::CRC, a, b, c, d, rest @ ..] => {
            let sum = u32::from_be_bytes([*a, *b, *c, *d]);
            if crc32fast::hash(rest) == sum { Ok(true) } else { Err(Refusal::Crc) }
        }
        _ => Ok(false),
    }
}

/// The compression wrapper, behind its type byte.
#[derive(Default)]
struct Compressed<'a> {
    algorithm: u8,
    data: &'a [u8],
}

records! {
    Compressed<'a> {
        "Algo": uint => algorithm,
        "Buf": bytes => data,
    }
}

/// Appends the compression wrapper of data that is compressed already.
pub(super) fn put_compressed(data: &[u8], out: &mut Vec<u8>) {
    out.push(kind::COMPRESS);
    Writer::new(out).record(&Compressed { algorithm: LZW, data });
}

/// Appends what the compression wrapper behind its type byte holds.
pub(super) fn decompress(
    lzw: &mut Lzw,
    wrapper: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), LzwError> {
    let wrapper: Compressed<'_> = Reader::new(wrapper).record("compress").map_err(|_| LzwError::Broken)?;
    if wrapper.algorithm != LZW {
        return Err(LzwError::Broken);
    }
    lzw.decompress(wrapper.data, limit, out)
}
