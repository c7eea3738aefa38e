//! Writes DNS messages as the reference does, byte for byte.
//!
//! A library reads messages; it cannot write these, because the reference writes the target of a service
//! record in full (RFC 2782) and still lets later names point to it. Invariant: a name points only to
//! where the same labels, in the same case, have been written before.

use simple_dns::{CLASS, Label, Name, TYPE};

/// Offsets from here on cannot be pointed to.
const POINTER_END: usize = 0x4000;
const POINTER_MARK: u16 = 0xc000;

/// One message in the making.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    bytes: Vec<u8>,
    /// Names, and ends of names, with where they were written first.
    written: Vec<(&'a [Label<'a>], u16)>,
}

impl<'a> Writer<'a> {
    /// Starts with the header; there are no records but answers.
    pub(super) fn new(id: u16, flags: u16, questions: u16, answers: u16) -> Writer<'a> {
        let mut writer = Writer { bytes: Vec::with_capacity(512), written: Vec::new() };
        for number in [id, flags, questions, answers, 0, 0] {
            writer.u16(number);
        }
        writer
    }

    pub(super) fn question(&mut self, name: &'a Name<'a>, kind: TYPE) {
        self.name(name);
        self.u16(kind.into());
        self.u16(CLASS::IN.into());
    }

    /// One record, whose data `write` writes.
    pub(super) fn record(&mut self, name: &'a Name<'a>, kind: TYPE, ttl: u32, write: impl FnOnce(&mut Self)) {
        self.question(name, kind);
        self.put(&ttl.to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        write(self);
        let len = (self.bytes.len() - at - 2) as u16;
        self.bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// A name, as short as can be.
    pub(super) fn name(&mut self, name: &'a Name<'a>) {
        self.labels(name.get_labels(), true);
    }

    /// A name in full, which later ones may point to.
    pub(super) fn full_name(&mut self, name: &'a Name<'a>) {
        self.labels(name.get_labels(), false);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.put(&number.to_be_bytes());
    }

    /// One string of a text record; at most 255 bytes.
    pub(super) fn string(&mut self, string: &[u8]) {
        self.bytes.push(string.len() as u8);
        self.put(string);
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn labels(&mut self, mut rest: &'a [Label<'a>], may_point: bool) {
        while let [label, after @ ..] = rest {
            let before = self.written.iter().find(|(labels, _)| is_same(labels, rest));
            match before {
                Some((_, offset)) if may_point => return self.u16(POINTER_MARK | offset),
                None if self.bytes.len() < POINTER_END => self.written.push((rest, self.bytes.len() as u16)),
                _ => {}
            }
            self.string(label.as_ref());
            rest = after;
        }
        self.bytes.push(0);
    }
}

/// Unlike the library's comparison, this one tells upper from lower case.
pub(super) fn is_same(a: &[Label<'_>], b: &[Label<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.as_ref() == b.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_point_to_equal_ends_of_earlier_names() {
        let names = ["a.x.local", "x.local", "X.local", "b.x.local"].map(Name::new_unchecked);
        let mut writer = Writer::new(1, 2, 3, 4);
        for name in &names {
            writer.name(name);
        }
        let expected: &[u8] =
            b"\0\x01\0\x02\0\x03\0\x04\0\0\0\0\x01a\x01x\x05local\0\xc0\x0e\x01X\xc0\x10\x01b\xc0\x0e";
        assert_eq!(writer.finish(), expected);
    }

    #[test]
    fn a_full_name_does_not_point_but_is_pointed_to() {
        let names = ["vm.local", "a.local", "a.local"].map(Name::new_unchecked);
        let mut writer = Writer::new(0, 0, 0, 0);
        writer.name(&names[0]);
        writer.full_name(&names[1]);
        writer.name(&names[2]);
        assert_eq!(&writer.finish()[12..], b"\x02vm\x05local\0\x01a\x05local\0\xc0\x16");
    }

    #[test]
    fn nothing_points_beyond_what_a_pointer_can_hold() {
        let name = Name::new_unchecked("a");
        let mut writer = Writer::new(0, 0, 0, 0);
        writer.put(&[0; POINTER_END]);
        writer.name(&name);
        writer.name(&name);
        assert!(writer.finish().ends_with(b"\x01a\0\x01a\0"));
    }
}
