//! Bytes of records: exactly the forms of rpc.md 2.1.
//!
//! A record is a map with text keys in byte order and all its fields; integers take their shortest form,
//! text the str family, byte strings the bin family, a missing byte string `nil`. Maps with free keys
//! go out in the order of their keys, so equal messages are equal bytes.

use crate::text::Text;
use rmp::encode as msgpack;
use std::collections::BTreeMap;

/// Something that can be a field of a record.
pub(crate) trait Put {
    /// Appends one msgpack object.
    fn put(&self, out: &mut Vec<u8>);
}

/// Appends a record: `record!(out, { "Name" => self.name, ... })`, the keys in byte order.
macro_rules! record {
    ($out:expr, { $($key:literal => $value:expr),+ $(,)? }) => {{
        const KEYS: &[&str] = &[$($key),+];
        debug_assert!(KEYS.is_sorted(), "the keys of a record are written in byte order");
        let out: &mut Vec<u8> = $out;
        $crate::encode::map_len(out, KEYS.len());
        $(
            $crate::encode::text(out, $key.as_bytes());
            $crate::encode::Put::put(&$value, out);
        )+
    }};
}
pub(crate) use record;

pub(crate) fn map_len(out: &mut Vec<u8>, len: usize) {
    written(msgpack::write_map_len(out, length(len)));
}

pub(crate) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    written(msgpack::write_str_len(out, length(bytes.len())));
    out.extend_from_slice(bytes);
}

pub(crate) fn nil(out: &mut Vec<u8>) {
    written(msgpack::write_nil(out));
}

/// A list that is present, even when it is empty.
pub(crate) fn list<T: Put>(out: &mut Vec<u8>, items: &[T]) {
    written(msgpack::write_array_len(out, length(items.len())));
    for item in items {
        item.put(out);
    }
}

/// A length of a message that fits the memory of a sane sender fits 32 bits.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a message is shorter than 4 GiB")
}

/// The writers of `rmp` are generic over fallible outputs.
fn written<T, E: std::fmt::Debug>(result: Result<T, E>) {
    result.expect("appending to a Vec never fails");
}

impl Put for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        written(msgpack::write_uint(out, *self));
    }
}

impl Put for u16 {
    fn put(&self, out: &mut Vec<u8>) {
        u64::from(*self).put(out);
    }
}

impl Put for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        u64::from(*self).put(out);
    }
}

impl Put for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        written(msgpack::write_sint(out, *self));
    }
}

impl Put for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        i64::from(*self).put(out);
    }
}

impl Put for f64 {
    fn put(&self, out: &mut Vec<u8>) {
        written(msgpack::write_f64(out, *self));
    }
}

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        written(msgpack::write_bool(out, *self).map_err(|error| error.to_string()));
    }
}

impl Put for str {
    fn put(&self, out: &mut Vec<u8>) {
        text(out, self.as_bytes());
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl Put for Text {
    fn put(&self, out: &mut Vec<u8>) {
        text(out, self);
    }
}

/// A byte string that is present.
impl Put for [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        written(msgpack::write_bin(out, self));
    }
}

/// A byte string that may be missing.
impl Put for Option<Vec<u8>> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(bytes) => bytes[..].put(out),
            None => nil(out),
        }
    }
}

/// An empty list of text is a missing one, as the standard client sends it.
impl Put for Vec<Text> {
    fn put(&self, out: &mut Vec<u8>) {
        if self.is_empty() { nil(out) } else { list(out, self) }
    }
}

/// An empty list of floats is a missing one: the vector of an unknown coordinate.
impl Put for Vec<f64> {
    fn put(&self, out: &mut Vec<u8>) {
        if self.is_empty() { nil(out) } else { list(out, self) }
    }
}

/// A map that is present, even when it is empty.
impl<V: Put> Put for BTreeMap<Text, V> {
    fn put(&self, out: &mut Vec<u8>) {
        map_len(out, self.len());
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }
}

/// A map that may be missing.
impl<V: Put> Put for Option<BTreeMap<Text, V>> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(map) => map.put(out),
            None => nil(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &(impl Put + ?Sized)) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn integers_take_their_shortest_form() {
        let unsigned: [(u64, &[u8]); 8] = [
            (0, b"\x00"),
            (127, b"\x7f"),
            (128, b"\xcc\x80"),
            (255, b"\xcc\xff"),
            (7946, b"\xcd\x1f\x0a"),
            (65_536, b"\xce\x00\x01\x00\x00"),
            (1 << 32, b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
            (u64::MAX, b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ];
        for (value, expected) in unsigned {
            assert_eq!(bytes(&value), expected, "{value}");
        }
        let signed: [(i64, &[u8]); 8] = [
            (127, b"\x7f"),
            (200, b"\xcc\xc8"),
            (-1, b"\xff"),
            (-32, b"\xe0"),
            (-33, b"\xd0\xdf"),
            (-129, b"\xd1\xff\x7f"),
            (-32_769, b"\xd2\xff\xff\x7f\xff"),
            (i64::MIN, b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
        ];
        for (value, expected) in signed {
            assert_eq!(bytes(&value), expected, "{value}");
        }
    }

    #[test]
    fn text_and_byte_strings_have_families_of_their_own() {
        let heads: [(usize, &[u8], &[u8]); 5] = [
            (0, b"\xa0", b"\xc4\x00"),
            (31, b"\xbf", b"\xc4\x1f"),
            (32, b"\xd9\x20", b"\xc4\x20"),
            (256, b"\xda\x01\x00", b"\xc5\x01\x00"),
            (65_536, b"\xdb\x00\x01\x00\x00", b"\xc6\x00\x01\x00\x00"),
        ];
        for (len, text_head, bytes_head) in heads {
            let body = vec![0xff; len];
            assert_eq!(bytes(&Text::from(&body[..])), [text_head, &body].concat());
            assert_eq!(bytes(&body[..]), [bytes_head, &body].concat());
        }
    }

    #[test]
    fn missing_and_empty_differ() {
        assert_eq!(bytes(&None::<Vec<u8>>), b"\xc0");
        assert_eq!(bytes(&Some(Vec::new())), b"\xc4\x00");
        assert_eq!(bytes(&None::<BTreeMap<Text, u64>>), b"\xc0");
        assert_eq!(bytes(&Some(BTreeMap::<Text, u64>::new())), b"\x80");
        assert_eq!(bytes(&Vec::<Text>::new()), b"\xc0");
        assert_eq!(bytes(&vec![Text::from("a")]), b"\x91\xa1a");
    }
}
