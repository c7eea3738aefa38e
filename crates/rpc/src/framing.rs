//! Where one msgpack object ends and the next begins.
//!
//! The protocol has no length prefix (rpc.md 1), so the end of an object is found by walking over its
//! markers. `Scanner` does this over whatever bytes are there and resumes where it stopped; it bounds
//! size, nesting and list lengths before anything is decoded or reserved (rpc.md 8). [`Decoder`] makes
//! requests of the objects for an agent, [`Objects`] hands them to a client as they are.
//!
//! The invariant: every byte is looked at once, and a declared length never reserves memory.

use crate::decode;
use crate::request::{Request, RequestHeader};
use rmp::Marker;
use std::fmt;
use std::ops::Range;

/// What one object may cost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole object.
    pub object_bytes_max: u64,
    /// Lists and maps around a value, the value's own included.
    pub depth_max: usize,
    /// Elements of one list, or keys and values of one map.
    pub list_len_max: u64,
}

impl Limits {
    /// For requests: the largest honest one is a user event or a list of addresses, some kilobytes.
    pub const REQUEST: Limits = Limits { object_bytes_max: 1 << 20, depth_max: 32, list_len_max: 1 << 16 };

    /// For responses: a member record takes about 200 bytes, and the largest clusters have some ten thousand
    /// members with up to 512 bytes of tags each.
    pub const RESPONSE: Limits = Limits { object_bytes_max: 256 << 20, depth_max: 32, list_len_max: 1 << 20 };
}

/// A stream that is not, or no longer, a sequence of requests. The connection is closed without an answer
/// (rpc.md 2.3); the decoder stays in this state. Its `Display` is the line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    part: Part,
    cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Body,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Header => write!(f, "failed to decode request header: {}", self.cause),
            Part::Body => write!(f, "Failed to evaluate request: decode failed: {}", self.cause),
        }
    }
}

impl std::error::Error for FrameError {}

/// The agent's end of a connection: bytes in, requests out.
#[derive(Debug)]
pub struct Decoder {
    objects: Objects,
    /// The header whose body has not arrived.
    header: Option<RequestHeader>,
    failed: Option<FrameError>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new() -> Decoder {
        Decoder { objects: Objects::new(Limits::REQUEST), header: None, failed: None }
    }

    /// Takes bytes as they arrive. They are kept until they are asked for: a caller that does not read
    /// requests as fast as they come watches [`Decoder::buffered`].
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.objects.push(bytes);
        }
    }

    /// How many bytes wait: whole requests that were not asked for, and the beginning of the next one.
    pub fn buffered(&self) -> usize {
        self.objects.buffered()
    }

    /// The next whole request, or `None` when more bytes are needed.
    ///
    /// Commands without a body are delivered on the header alone; so is an unknown command, as
    /// [`Request::Unknown`]. Bodies are always read, also of requests that will be refused (rpc.md 4.2).
    pub fn next_request(&mut self) -> Result<Option<(RequestHeader, Request)>, FrameError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.advance().inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Says at the end of the stream whether it ended between two requests (rpc.md 2.3).
    pub fn finish(&self) -> Result<(), FrameError> {
        let cause = "unexpected EOF".to_owned();
        match (&self.header, &self.failed) {
            (_, Some(failed)) => Err(failed.clone()),
            (Some(_), None) => Err(FrameError { part: Part::Body, cause }),
            (None, None) if self.objects.buffered() > 0 => Err(FrameError { part: Part::Header, cause }),
            (None, None) => Ok(()),
        }
    }

    fn advance(&mut self) -> Result<Option<(RequestHeader, Request)>, FrameError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => match self.objects.next_object() {
                Err(violation) => return Err(failure(Part::Header, violation)),
                Ok(None) => return Ok(None),
                Ok(Some(object)) => {
                    let header: RequestHeader =
                        decode::record(object).map_err(|error| failure(Part::Header, error))?;
                    if let Some(request) = Request::without_body(&header.command) {
                        return Ok(Some((header, request)));
                    }
                    header
                }
            },
        };
        match self.objects.next_object() {
            Err(violation) => Err(failure(Part::Body, violation)),
            Ok(None) => {
                self.header = Some(header);
                Ok(None)
            }
            Ok(Some(object)) => {
                let request = Request::with_body(&header.command, object)
                    .map_err(|error| failure(Part::Body, error))?;
                Ok(Some((header, request)))
            }
        }
    }
}

/// How much of a cause goes to the log: it can quote a value of the sender, which may be the whole object.
const CAUSE_CHARS_MAX: usize = 200;

fn failure(part: Part, cause: impl fmt::Display) -> FrameError {
    FrameError { part, cause: cause.to_string().chars().take(CAUSE_CHARS_MAX).collect() }
}

/// A buffer that gives whole objects.
#[derive(Debug)]
pub struct Objects {
    buffer: Vec<u8>,
    /// Where the object begins that is being scanned; everything before was given out.
    start: usize,
    scanner: Scanner,
}

/// What the buffer keeps reserved after a large object was given out: more than an ordinary request or reply.
const BUFFER_KEPT_BYTES: usize = 64 << 10;

impl Objects {
    /// An empty buffer.
    pub fn new(limits: Limits) -> Objects {
        Objects { buffer: Vec::new(), start: 0, scanner: Scanner::new(limits) }
    }

    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reclaim();
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes were not given out.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole object, or `None` when more bytes are needed. An error is final.
    pub fn next_object(&mut self) -> Result<Option<&[u8]>, Violation> {
        Ok(self.next_range()?.map(|range| &self.buffer[range]))
    }

    /// Where the next whole object lies, for a caller that reads on while there is none.
    pub(crate) fn next_range(&mut self) -> Result<Option<Range<usize>>, Violation> {
        let Some(len) = self.scanner.scan(&self.buffer[self.start..])? else { return Ok(None) };
        let range = self.start..self.start + len;
        self.start = range.end;
        Ok(Some(range))
    }

    /// The object of a range that was just given out; the next push makes the range void.
    pub(crate) fn object(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Forgets what was given out. Bytes move only when at least as many are dropped, so each byte moves
    /// a bounded number of times on average.
    fn reclaim(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_KEPT_BYTES);
            self.start = 0;
        } else if self.start >= self.buffered() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Why a byte sequence is no acceptable object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The byte c1, which msgpack never uses.
    Reserved,
    /// Longer than [`Limits::object_bytes_max`], or declared so.
    TooLarge,
    /// Deeper than [`Limits::depth_max`].
    TooDeep,
    /// A list or map longer than [`Limits::list_len_max`].
    TooMany,
    /// Any later object of a stream in which one was refused.
    Poisoned,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::Reserved => "the byte c1 begins no MessagePack object",
            Violation::TooLarge => "the object is too large",
            Violation::TooDeep => "the object is nested too deeply",
            Violation::TooMany => "a list or map has too many elements",
            Violation::Poisoned => "an earlier object was refused",
        })
    }
}

impl std::error::Error for Violation {}

/// Finds the end of one object, a few bytes at a time.
#[derive(Debug)]
struct Scanner {
    limits: Limits,
    /// How far the object was walked; may lie beyond the bytes that are there, inside a byte string.
    walked: u64,
    /// Elements missing in each open list or map, the innermost last, none of them zero.
    missing: Vec<u64>,
    poisoned: bool,
}

/// What a marker and its length bytes say.
struct Head {
    /// Length of the marker, its length bytes and the plain bytes that follow.
    bytes: u64,
    /// Elements that follow after them.
    elements: u64,
    /// Whether this is a list or a map.
    opens: bool,
}

impl Scanner {
    fn new(limits: Limits) -> Scanner {
        Scanner { limits, walked: 0, missing: Vec::new(), poisoned: false }
    }

    /// `bytes` begins where the object begins and holds at least what it held at the last call.
    /// Gives the length of the object once all of it is there, and is then ready for the next one.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        if self.poisoned {
            return Err(Violation::Poisoned);
        }
        self.walk(bytes).inspect_err(|_| self.poisoned = true)
    }

    fn walk(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        loop {
            if self.walked > 0 && self.missing.is_empty() {
                let whole = usize::try_from(self.walked).ok().filter(|&len| len <= bytes.len());
                if whole.is_some() {
                    self.walked = 0;
                }
                return Ok(whole);
            }
            let Some(rest) = usize::try_from(self.walked).ok().and_then(|walked| bytes.get(walked..)) else {
                return Ok(None);
            };
            let Some(head) = read_head(rest)? else { return Ok(None) };
            self.step(&head)?;
        }
    }

    fn step(&mut self, head: &Head) -> Result<(), Violation> {
        self.walked += head.bytes;
        if self.walked > self.limits.object_bytes_max {
            return Err(Violation::TooLarge);
        }
        if let Some(last) = self.missing.last_mut() {
            *last -= 1;
        }
        if head.elements > self.limits.list_len_max {
            return Err(Violation::TooMany);
        }
        if head.opens {
            if self.missing.len() >= self.limits.depth_max {
                return Err(Violation::TooDeep);
            }
            self.missing.push(head.elements);
        }
        while self.missing.last() == Some(&0) {
            self.missing.pop();
        }
        Ok(())
    }
}

/// Reads a marker and its length bytes; `None` when not all of them are there.
fn read_head(bytes: &[u8]) -> Result<Option<Head>, Violation> {
    let Some((&first, tail)) = bytes.split_first() else { return Ok(None) };
    let length =
        |width: usize| tail.get(..width).map(|be| be.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    let plain = |bytes: u64| Some(Head { bytes, elements: 0, opens: false });
    let list = |bytes: u64, len: u64| Some(Head { bytes, elements: len, opens: true });
    Ok(match Marker::from_u8(first) {
        Marker::Reserved => return Err(Violation::Reserved),
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => plain(1),
        Marker::U8 | Marker::I8 => plain(2),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => plain(3),
        Marker::FixExt2 => plain(4),
        Marker::U32 | Marker::I32 | Marker::F32 => plain(5),
        Marker::FixExt4 => plain(6),
        Marker::U64 | Marker::I64 | Marker::F64 => plain(9),
        Marker::FixExt8 => plain(10),
        Marker::FixExt16 => plain(18),
        Marker::FixStr(len) => plain(1 + u64::from(len)),
        Marker::Str8 | Marker::Bin8 => length(1).and_then(|len| plain(2 + len)),
        Marker::Str16 | Marker::Bin16 => length(2).and_then(|len| plain(3 + len)),
        Marker::Str32 | Marker::Bin32 => length(4).and_then(|len| plain(5 + len)),
        Marker::Ext8 => length(1).and_then(|len| plain(3 + len)),
        Marker::Ext16 => length(2).and_then(|len| plain(4 + len)),
        Marker::Ext32 => length(4).and_then(|len| plain(6 + len)),
        Marker::FixArray(len) => list(1, u64::from(len)),
        Marker::Array16 => length(2).and_then(|len| list(3, len)),
        Marker::Array32 => length(4).and_then(|len| list(5, len)),
        Marker::FixMap(len) => list(1, 2 * u64::from(len)),
        Marker::Map16 => length(2).and_then(|len| list(3, 2 * len)),
        Marker::Map32 => length(4).and_then(|len| list(5, 2 * len)),
    })
}
