//! Messages on streams: finding their end, and their layers (gossip.md 5).
//!
//! A plain stream carries no length; where its message ends is known only by reading it. [`StreamReader`] takes
//! bytes as they come and looks at each of them once, so that a large state in small pieces costs no more than
//! in one. It does not decide what is answered, nor how long to wait.
//!
//! Invariant: the reader never holds more than [`limits::STREAM_EXPANDED`] bytes of the stream, nor as many again
//! of what they unfold to.

use super::lzw::LzwError;
use super::messages::{decode_stream, kind, push_pull_header, user_header};
use super::msgpack::{DecodeError, Fault, Reader, Span};
use super::packet::{Codec, decompress, put_compressed, put_label, strip_label};
use super::refusal::StreamRefusal;
use crate::crypto::Version;
use crate::limits;
use crate::rng::Rng;
use crate::wire::message::StreamMessage;

/// Encryption wrapper: type byte and length.
const ENCRYPT_HEADER: usize = 5;

/// Who opened the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer did; what it sends begins with the label header.
    Accepted,
    /// We did; a response has no label header (gossip.md 5.2).
    Dialed,
}

/// Reads the one message that a peer sends on a stream.
#[derive(Debug)]
pub struct StreamReader {
    bytes: Vec<u8>,
    /// Where the message begins in `bytes`: behind the label.
    start: usize,
    /// With fewer bytes than these there is nothing to do.
    needed: usize,
    stage: Stage,
    /// The message without its layers, if it had any.
    unfolded: Option<Vec<u8>>,
}

/// What is to be read next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Label,
    Type,
    /// The encrypted block, up to this offset.
    Encrypted(usize),
    /// The map of the compression wrapper.
    Compressed(Span),
    /// The map that every message begins with.
    Header(u8, Span),
    /// The nodes of a push/pull, before so many bytes of user state.
    Nodes(Span, usize),
    /// Raw bytes; once they are there, so is the message.
    Tail,
    Whole,
}

impl StreamReader {
    /// A reader for a stream of which nothing was read yet.
    pub fn new(side: Side) -> StreamReader {
        let stage = match side {
            Side::Accepted => Stage::Label,
            Side::Dialed => Stage::Type,
        };
        StreamReader { bytes: Vec::new(), start: 0, needed: 1, stage, unfolded: None }
    }

    /// Takes bytes that arrived; those behind the message are ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StreamRefusal> {
        if matches!(self.stage, Stage::Whole) {
            return Ok(());
        }
        if self.bytes.len() + bytes.len() > limits::STREAM_EXPANDED {
            return Err(StreamRefusal::Flood);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes that arrived and wait for the rest of the message.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the whole message is there, decrypted and decompressed. After an error the stream is of no use.
    ///
    /// A message that was encrypted or compressed may still turn out to be cut off in [`message`](Self::message).
    pub fn poll(&mut self, codec: &mut Codec) -> Result<bool, StreamRefusal> {
        while !matches!(self.stage, Stage::Whole) {
            if self.bytes.len() < self.needed {
                return Ok(false);
            }
            self.stage = self.step(codec)?;
        }
        Ok(true)
    }

    /// The message, once [`poll`](Self::poll) returned true.
    pub fn message(&self) -> Result<StreamMessage<'_>, DecodeError> {
        decode_stream(match &self.unfolded {
            Some(plain) => plain,
            None => &self.bytes[self.start..],
        })
    }

    /// Does what can be done with the bytes at hand; what cannot be done yet raises `needed`.
    fn step(&mut self, codec: &mut Codec) -> Result<Stage, StreamRefusal> {
        match self.stage {
            Stage::Label => self.step_label(codec),
            Stage::Type => self.step_type(codec),
            Stage::Encrypted(end) => {
                let plain = self.decrypt(codec, end)?;
                self.unfold(codec, plain)
            }
            Stage::Compressed(mut span) => {
                if let Some(needed) = self.advance(&mut span)? {
                    return self.wait(needed, Stage::Compressed(span));
                }
                let wrapper = self.bytes[self.start..span.at()].to_vec();
                self.unfold(codec, wrapper)
            }
            Stage::Header(number, mut span) => match self.advance(&mut span)? {
                Some(needed) => self.wait(needed, Stage::Header(number, span)),
                None => self.step_header(number, span.at()),
            },
            Stage::Nodes(mut span, user_state) => match self.advance(&mut span)? {
                Some(needed) => self.wait(needed, Stage::Nodes(span, user_state)),
                None => self.wait(span.at() + user_state, Stage::Tail),
            },
            Stage::Tail | Stage::Whole => Ok(Stage::Whole),
        }
    }

    fn step_label(&mut self, codec: &Codec) -> Result<Stage, StreamRefusal> {
        if self.bytes[0] == kind::LABEL {
            let length = self.bytes.get(1).copied().map_or(0, usize::from);
            if self.bytes.len() < 2 + length {
                return self.wait(2 + length, Stage::Label);
            }
        }
        self.start = strip_label(&self.bytes, codec.inbound_label()).map_err(|_| StreamRefusal::Label)?;
        self.wait(self.start + 1, Stage::Type)
    }

    fn step_type(&mut self, codec: &Codec) -> Result<Stage, StreamRefusal> {
        let body = self.start + 1;
        let insists = codec.settings.keyring.is_some() && codec.settings.verify_incoming;
        match self.bytes[self.start] {
            kind::ENCRYPT if codec.settings.keyring.is_none() => Err(StreamRefusal::Encrypted),
            kind::ENCRYPT => {
                let header = self.start + ENCRYPT_HEADER;
                let Some(length) = self.bytes[body..].first_chunk() else {
                    return self.wait(header, Stage::Type);
                };
                let length = u32::from_be_bytes(*length) as usize;
                if length > limits::STREAM_MESSAGE {
                    return Err(StreamRefusal::EncryptedTooLong);
                }
                self.wait(header + length, Stage::Encrypted(header + length))
            }
            _ if insists => Err(StreamRefusal::NotEncrypted),
            kind::COMPRESS => self.wait(body, Stage::Compressed(Span::new(body, 1))),
            number if is_message(number) => self.wait(body, Stage::Header(number, Span::new(body, 1))),
            other => Err(StreamRefusal::UnknownType(other)),
        }
    }

    /// Goes on after the first map of a plain message, which ends at `end`.
    fn step_header(&mut self, number: u8, end: usize) -> Result<Stage, StreamRefusal> {
        let mut reader = Reader::new(&self.bytes[self.start + 1..end]);
        match number {
            kind::PUSH_PULL => {
                let (_, nodes, user_state) = push_pull_header(&mut reader).map_err(StreamRefusal::Message)?;
                Ok(Stage::Nodes(Span::new(end, nodes as u64), user_state))
            }
            kind::USER => {
                let length = user_header(&mut reader).map_err(StreamRefusal::Message)?;
                self.wait(end + length, Stage::Tail)
            }
            _ => Ok(Stage::Whole),
        }
    }

    /// Takes the compression off what was encrypted or compressed, if it is there; the wrapped bytes are let go.
    fn unfold(&mut self, codec: &mut Codec, mut plain: Vec<u8>) -> Result<Stage, StreamRefusal> {
        self.bytes = Vec::new();
        if let [kind::COMPRESS, wrapper @ ..] = &plain[..] {
            let mut out = Vec::new();
            let result = decompress(&mut codec.lzw, wrapper, limits::STREAM_EXPANDED, &mut out);
            result.map_err(|error| match error {
                LzwError::TooLong => StreamRefusal::TooLong,
                LzwError::Broken => StreamRefusal::Compression,
            })?;
            plain = out;
        }
        let number = *plain.first().ok_or(StreamRefusal::Empty)?;
        if !is_message(number) {
            return Err(StreamRefusal::UnknownType(number));
        }
        self.unfolded = Some(plain);
        Ok(Stage::Whole)
    }

    fn decrypt(&self, codec: &Codec, end: usize) -> Result<Vec<u8>, StreamRefusal> {
        let keys = codec.settings.keyring.as_ref().ok_or(StreamRefusal::Encrypted)?;
        let (header, block) = self.bytes[self.start..end].split_at(ENCRYPT_HEADER);
        let mut plain = Vec::new();
        keys.open(block, &stream_aad(header, &codec.settings.label), &mut plain)
            .map_err(|_| StreamRefusal::Undecryptable)?;
        Ok(plain)
    }

    fn advance(&self, span: &mut Span) -> Result<Option<usize>, StreamRefusal> {
        span.advance(&self.bytes).map_err(message_error)
    }

    /// Sleeps until there are `needed` bytes, unless so many never will be.
    fn wait(&mut self, needed: usize, stage: Stage) -> Result<Stage, StreamRefusal> {
        if needed > limits::STREAM_EXPANDED {
            return Err(StreamRefusal::Flood);
        }
        self.needed = needed;
        Ok(stage)
    }
}

impl Codec {
    /// Wraps a stream message, appended to `out`: compressed if compression is on, even if that makes it longer;
    /// encrypted; and behind a label header if the stream is `dialed` by us (gossip.md 5.2).
    pub fn seal_stream(&mut self, plain: &[u8], dialed: bool, rng: &mut Rng, out: &mut Vec<u8>) {
        if dialed {
            put_label(&self.settings.label, out);
        }
        let header = out.len();
        let encrypts = self.sealing_keys().is_some();
        if encrypts {
            out.extend([kind::ENCRYPT, 0, 0, 0, 0]);
        }
        let from = out.len();
        if self.settings.compression {
            self.packed.clear();
            self.lzw.compress(plain, &mut self.packed);
            put_compressed(&self.packed, out);
        } else {
            out.extend_from_slice(plain);
        }
        if let Some(keys) = self.sealing_keys() {
            let length = out.len() - from + Version::Plain.overhead();
            let length = u32::try_from(length).expect("stream messages are far shorter than 4 GiB");
            out[header + 1..from].copy_from_slice(&length.to_be_bytes());
            let aad = stream_aad(&out[header..from], &self.settings.label);
            keys.seal(Version::Plain, &rng.nonce(), &aad, out, from);
        }
    }
}

/// What an encrypted stream message authenticates besides itself: its header and the label, whether or not the
/// label stands before it (gossip.md 6.3).
fn stream_aad(header: &[u8], label: &[u8]) -> Vec<u8> {
    [header, label].concat()
}

fn is_message(number: u8) -> bool {
    matches!(number, kind::PUSH_PULL | kind::USER | kind::PING | kind::ACK | kind::ERR)
}

fn message_error(fault: Fault) -> StreamRefusal {
    StreamRefusal::Message(DecodeError::new("message", fault))
}
