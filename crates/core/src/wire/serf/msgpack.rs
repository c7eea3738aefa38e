//! `MessagePack` as the gossip protocol uses it (gossip.md 2): one bounded, borrowing [`Reader`], one [`Writer`],
//! and the [`records`] table that ties a map's keys to the fields of a message.
//!
//! The writer emits the old raw family and the unsigned integer formats only; the reader accepts every format
//! of both generations that can stand for the wanted value. Nil stands for the zero value everywhere.
//!
//! Invariant: a read costs no more time than the bytes it consumes and reserves no more memory than they
//! justify, whatever the lengths in them say. Nesting is counted, not recursed into.

use crate::limits;
use std::fmt;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The key whose value is wrong, or the name of the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

impl DecodeError {
    pub(super) fn new(field: &'static str, fault: Fault) -> DecodeError {
        DecodeError { field, fault }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.fault)
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end within it.
    Truncated,
    /// It has another type, or no type that exists.
    Type,
    /// The number does not fit, or the list or name is longer than allowed.
    Range,
    /// It must not be empty.
    Empty,
    /// The message or payload has this unknown type number.
    Kind(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Truncated => f.write_str("truncated"),
            Fault::Type => f.write_str("of the wrong type"),
            Fault::Range => f.write_str("out of range"),
            Fault::Empty => f.write_str("empty"),
            Fault::Kind(kind) => write!(f, "of the unknown kind {kind}"),
        }
    }
}

/// What a value begins with: everything but the bytes of raw values and the children of lists and maps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Raw(usize),
    Ext(usize),
    List(u32),
    Map(u32),
}

/// A message that travels as a map. Implemented by [`records`].
pub(super) trait Record<'a>: Default {
    /// Reads the value of `key` into its field, or skips it if there is no such field.
    fn read_field(&mut self, key: &[u8], reader: &mut Reader<'a>) -> Result<(), DecodeError>;
    /// Writes the whole map.
    fn write(&self, writer: &mut Writer<'_>);
}

/// Reads values from the front of a byte string and borrows from it.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// A map with known keys; unknown ones are skipped, and of equal ones the last counts.
    pub(super) fn record<T: Record<'a>>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        let mut value = T::default();
        match self.head(field)? {
            Head::Nil => {}
            Head::Map(pairs) => {
                for _ in 0..pairs {
                    let Head::Raw(length) = self.head(field)? else {
                        return Err(DecodeError::new(field, Fault::Type));
                    };
                    let key = self.take(length, field)?;
                    value.read_field(key, self)?;
                }
            }
            _ => return Err(DecodeError::new(field, Fault::Type)),
        }
        Ok(value)
    }

    /// A list of anything; nil is the empty list.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = self.list_length(field)?.unwrap_or(0);
        // Every item takes at least one byte, and a list that lies about its length is cut off by the end.
        let mut items = Vec::with_capacity(length.min(self.bytes.len() / 8));
        for _ in 0..length {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// How many items follow; `None` if the list is nil.
    pub(super) fn list_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        match self.head(field)? {
            Head::Nil => Ok(None),
            Head::List(length) => bounded(length, field).map(Some),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// A map with free keys, in the order in which it is written; nil is the empty map.
    pub(super) fn pairs<T>(
        &mut self,
        field: &'static str,
        mut value: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<(&'a [u8], T)>, DecodeError> {
        let mut pairs = Vec::new();
        self.each_pair(field, |key, reader| {
            pairs.push((key, value(reader)?));
            Ok(())
        })?;
        Ok(pairs)
    }

    /// Calls `each` for every key of a map with free keys until one of them fails.
    pub(super) fn each_pair(
        &mut self,
        field: &'static str,
        mut each: impl FnMut(&'a [u8], &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let length = match self.head(field)? {
            Head::Nil => 0,
            Head::Map(length) => bounded(length, field)?,
            _ => return Err(DecodeError::new(field, Fault::Type)),
        };
        for _ in 0..length {
            let key = self.text(field)?;
            each(key, self)?;
        }
        Ok(())
    }

    /// A string.
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        Ok(self.payload(field)?.unwrap_or_default())
    }

    /// A node's name; one that is longer than any node's is refused.
    pub(super) fn name(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let name = self.text(field)?;
        if name.len() > limits::NAME { Err(DecodeError::new(field, Fault::Range)) } else { Ok(name) }
    }

    /// A node's name in a list that is not worthless because of it; of one that is longer than any node's, as
    /// much as tells that.
    pub(super) fn name_head(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let name = self.text(field)?;
        Ok(&name[..name.len().min(limits::NAME + 1)])
    }

    /// A byte string; the same as a string to readers.
    pub(super) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        self.text(field)
    }

    /// A byte string that may be nil.
    pub(super) fn payload(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.head(field)? {
            Head::Nil => Ok(None),
            Head::Raw(length) => self.take(length, field).map(Some),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// An unsigned integer of the width of the field.
    pub(super) fn uint<T: TryFrom<u64> + Default>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        match self.head(field)? {
            Head::Nil => Ok(T::default()),
            Head::Unsigned(value) => T::try_from(value).map_err(|_| DecodeError::new(field, Fault::Range)),
            Head::Negative(_) => Err(DecodeError::new(field, Fault::Range)),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// A signed integer.
    pub(super) fn int(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        match self.head(field)? {
            Head::Nil => Ok(0),
            Head::Unsigned(value) => i64::try_from(value).map_err(|_| DecodeError::new(field, Fault::Range)),
            Head::Negative(value) => Ok(value),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// A truth value; 0 and 1 stand for it too.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.head(field)? {
            Head::Nil | Head::Unsigned(0) => Ok(false),
            Head::Unsigned(1) => Ok(true),
            Head::Bool(value) => Ok(value),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// A floating-point number; integers stand for it too.
    pub(super) fn float(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        match self.head(field)? {
            Head::Nil => Ok(0.0),
            Head::Float(value) => Ok(value),
            Head::Unsigned(value) => Ok(value as f64),
            Head::Negative(value) => Ok(value as f64),
            _ => Err(DecodeError::new(field, Fault::Type)),
        }
    }

    /// Consumes a nil, if one is next.
    pub(super) fn nil(&mut self) -> bool {
        let found = self.bytes.first() == Some(&0xc0);
        if found {
            self.bytes = &self.bytes[1..];
        }
        found
    }

    /// Consumes one value of any type, with everything in it.
    pub(super) fn skip(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let mut span = Span::new(0, 1);
        match span.advance(self.bytes) {
            Ok(None) => {
                self.bytes = &self.bytes[span.at()..];
                Ok(())
            }
            Ok(Some(_)) => Err(DecodeError::new(field, Fault::Truncated)),
            Err(fault) => Err(DecodeError::new(field, fault)),
        }
    }

    fn head(&mut self, field: &'static str) -> Result<Head, DecodeError> {
        let (head, length) = head(self.bytes).map_err(|fault| DecodeError::new(field, fault))?;
        self.bytes = &self.bytes[length..];
        Ok(head)
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or(DecodeError::new(field, Fault::Truncated))?;
        self.bytes = rest;
        Ok(taken)
    }
}

/// Finds the end of a run of values in bytes that arrive little by little, looking at each byte once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    at: usize,
    /// Values, at any depth, whose beginning is still to come.
    pending: u64,
}

impl Span {
    /// A run of `values` values that begins at the offset `at`.
    pub(super) fn new(at: usize, values: u64) -> Span {
        Span { at, pending: values }
    }

    /// Where the run ends, once [`advance`](Self::advance) returned `None`.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on as far as `bytes` allow; they begin like those of the call before. Returns the number of bytes
    /// without which another call is of no use, or `None` if the run is complete.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        while self.pending > 0 {
            let (head, length) = match head(&bytes[self.at..]) {
                Ok(head) => head,
                Err(Fault::Truncated) => return Ok(Some(bytes.len() + 1)),
                Err(fault) => return Err(fault),
            };
            let (content, children) = match head {
                Head::Raw(content) | Head::Ext(content) => (content, 0),
                Head::List(children) => (0, u64::from(children)),
                Head::Map(pairs) => (0, 2 * u64::from(pairs)),
                _ => (0, 0),
            };
            let end = self.at.saturating_add(length).saturating_add(content);
            if end > bytes.len() {
                return Ok(Some(end));
            }
            self.at = end;
            self.pending = (self.pending - 1).saturating_add(children);
        }
        Ok(None)
    }
}

/// Appends values to a byte string.
#[derive(Debug)]
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Writer<'o> {
        Writer { out }
    }

    pub(super) fn record<'a>(&mut self, value: &impl Record<'a>) {
        value.write(self);
    }

    pub(super) fn map(&mut self, pairs: usize) {
        self.length(pairs, 0x80, 16, [0xde, 0xdf]);
    }

    pub(super) fn list(&mut self, items: usize) {
        self.length(items, 0x90, 16, [0xdc, 0xdd]);
    }

    pub(super) fn nil(&mut self) {
        self.out.push(0xc0);
    }

    /// A string: `a0` if empty.
    pub(super) fn text(&mut self, value: &[u8]) {
        self.length(value.len(), 0xa0, 32, [0xda, 0xdb]);
        self.out.extend_from_slice(value);
    }

    /// A node's name.
    pub(super) fn name(&mut self, value: &[u8]) {
        self.text(value);
    }

    pub(super) fn name_head(&mut self, value: &[u8]) {
        self.text(value);
    }

    /// A byte string: nil if empty.
    pub(super) fn bytes(&mut self, value: &[u8]) {
        if value.is_empty() { self.nil() } else { self.text(value) }
    }

    /// A byte string of which absence and emptiness are told apart.
    #[expect(clippy::ref_option_ref, reason = "every kind has the same shape, so that one macro serves all")]
    pub(super) fn payload(&mut self, value: &Option<&[u8]>) {
        match value {
            Some(value) => self.text(value),
            None => self.nil(),
        }
    }

    pub(super) fn uint<T: Copy + Into<u64>>(&mut self, value: &T) {
        let value: u64 = (*value).into();
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.out.extend([0xcc, value as u8]),
            0x100..=0xffff => self.tagged(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &(value as u32).to_be_bytes()),
            _ => self.tagged(0xcf, &value.to_be_bytes()),
        }
    }

    /// A signed integer, in the unsigned formats if it is positive.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "every kind has the same shape, for the macro")]
    pub(super) fn int(&mut self, value: &i64) {
        match *value {
            0.. => self.uint(&value.unsigned_abs()),
            -32..0 => self.out.push(*value as u8),
            -0x80..-32 => self.out.extend([0xd0, *value as u8]),
            -0x8000..-0x80 => self.tagged(0xd1, &(*value as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.tagged(0xd2, &(*value as i32).to_be_bytes()),
            _ => self.tagged(0xd3, &value.to_be_bytes()),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "every kind has the same shape, for the macro")]
    pub(super) fn flag(&mut self, value: &bool) {
        self.out.push(if *value { 0xc3 } else { 0xc2 });
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "every kind has the same shape, for the macro")]
    pub(super) fn float(&mut self, value: &f64) {
        self.tagged(0xcb, &value.to_be_bytes());
    }

    fn length(&mut self, length: usize, fix: u8, fix_end: usize, [long, longest]: [u8; 2]) {
        if length < fix_end {
            self.out.push(fix | length as u8);
        } else if let Ok(length) = u16::try_from(length) {
            self.tagged(long, &length.to_be_bytes());
        } else {
            let length = u32::try_from(length).expect("messages are far shorter than 4 GiB");
            self.tagged(longest, &length.to_be_bytes());
        }
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(bytes);
    }
}

/// Whether a field that is omitted when empty is to be omitted.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Ties messages to maps: `"Key": kind => field`, in ascending order of the keys. The kind names a method of
/// [`Reader`] and of [`Writer`]; `omit_empty` after it leaves the key out when the field has its zero value.
macro_rules! records {
    ($($message:ty { $($key:literal: $kind:ident $($omit:ident)? => $field:tt $(.$inner:ident)? $([$at:literal])?),+ $(,)? })+) => {$(
        impl<'a> Record<'a> for $message {
            fn read_field(&mut self, key: &[u8], reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                $(if key == $key.as_bytes() {
                    self.$field $(.$inner)? $([$at])? = reader.$kind($key)?;
                } else)+ {
                    reader.skip("unknown key")?;
                }
                Ok(())
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.map(0 $(+ usize::from(records!(@is_written self.$field $(.$inner)? $([$at])?, $($omit)?)))+);
                $(if records!(@is_written self.$field $(.$inner)? $([$at])?, $($omit)?) {
                    writer.text($key.as_bytes());
                    writer.$kind(&self.$field $(.$inner)? $([$at])?);
                })+
            }
        }
    )+};
    (@is_written $value:expr, omit_empty) => { !$crate::wire::serf::msgpack::is_zero(&$value) };
    (@is_written $value:expr,) => { true };
}
pub(super) use records;

fn bounded(length: u32, field: &'static str) -> Result<usize, DecodeError> {
    let length = length as usize;
    if length > limits::LIST { Err(DecodeError::new(field, Fault::Range)) } else { Ok(length) }
}

/// The head at the front of `bytes`, and how many bytes it takes.
fn head(bytes: &[u8]) -> Result<(Head, usize), Fault> {
    let (&tag, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
    let unsigned = |width: usize| {
        let bytes = rest.get(..width).ok_or(Fault::Truncated)?;
        Ok((bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), 1 + width))
    };
    let signed = |width: usize| {
        let (value, length) = unsigned(width)?;
        let unused = 64 - 8 * width as u32;
        let value = (value << unused) as i64 >> unused;
        Ok((u64::try_from(value).map_or(Head::Negative(value), Head::Unsigned), length))
    };
    let sized =
        |width: usize, head: fn(u64) -> Head| unsigned(width).map(|(value, length)| (head(value), length));
    let raw = |length: u64| Head::Raw(length as usize);
    let ext = |length: u64| Head::Ext(length as usize + 1);
    Ok(match tag {
        0x00..=0x7f => (Head::Unsigned(u64::from(tag)), 1),
        0x80..=0x8f => (Head::Map(u32::from(tag & 0x0f)), 1),
        0x90..=0x9f => (Head::List(u32::from(tag & 0x0f)), 1),
        0xa0..=0xbf => (Head::Raw(usize::from(tag & 0x1f)), 1),
        0xc0 => (Head::Nil, 1),
        0xc1 => return Err(Fault::Type),
        0xc2 | 0xc3 => (Head::Bool(tag == 0xc3), 1),
        0xc4 | 0xd9 => sized(1, raw)?,
        0xc5 | 0xda => sized(2, raw)?,
        0xc6 | 0xdb => sized(4, raw)?,
        0xc7 => sized(1, ext)?,
        0xc8 => sized(2, ext)?,
        0xc9 => sized(4, ext)?,
        0xca => sized(4, |bits| Head::Float(f64::from(f32::from_bits(bits as u32))))?,
        0xcb => sized(8, |bits| Head::Float(f64::from_bits(bits)))?,
        0xcc => sized(1, Head::Unsigned)?,
        0xcd => sized(2, Head::Unsigned)?,
        0xce => sized(4, Head::Unsigned)?,
        0xcf => sized(8, Head::Unsigned)?,
        0xd0 => signed(1)?,
        0xd1 => signed(2)?,
        0xd2 => signed(4)?,
        0xd3 => signed(8)?,
        0xd4..=0xd8 => (ext(1 << (tag - 0xd4)), 1),
        0xdc => sized(2, |length| Head::List(length as u32))?,
        0xdd => sized(4, |length| Head::List(length as u32))?,
        0xde => sized(2, |length| Head::Map(length as u32))?,
        0xdf => sized(4, |length| Head::Map(length as u32))?,
        0xe0..=0xff => (Head::Negative(i64::from(tag as i8)), 1),
    })
}
