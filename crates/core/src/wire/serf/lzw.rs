//! LZW as the compression wrapper uses it: least significant bit first, 8-bit literals, codes of 9 to 12 bits,
//! no early change (gossip.md 7).
//!
//! The writer is ours, because the resets of the reference's are to be met bit for bit; reading is left to
//! `weezl`. Both keep their tables between messages.

use weezl::{BitOrder, LzwStatus, decode::Decoder};

const CLEAR: u16 = 256;
const END: u16 = 257;
const WIDTH_MIN: u32 = 9;
/// The code at which the table starts anew.
const LAST: u16 = 4095;
/// Places of the table; at most 3,837 are taken.
const PLACES: usize = 8192;
/// Bytes by which the output grows while it is not known how long it will be.
const STEP: usize = 4096;

/// Both directions, with the tables that they reuse.
pub(super) struct Lzw {
    /// A known sequence (20 bits: code of all but its last byte, last byte) above its code (12 bits); 0 is free.
    table: Vec<u32>,
    decoder: Decoder,
}

impl Lzw {
    pub(super) fn new() -> Lzw {
        Lzw { table: vec![0; PLACES], decoder: Decoder::new(BitOrder::Lsb, 8) }
    }

    /// Appends the compressed form of `plain`.
    pub(super) fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let mut bits = Bits { out, held: 0, count: 0, width: WIDTH_MIN, last: END };
        self.table.fill(0);
        bits.put(CLEAR);
        if let Some((&first, rest)) = plain.split_first() {
            let mut current = u16::from(first);
            for &byte in rest {
                let key = u32::from(current) << 8 | u32::from(byte);
                match self.find(key) {
                    Ok(code) => current = code,
                    Err(place) => {
                        bits.put(current);
                        current = u16::from(byte);
                        if bits.grow() {
                            self.table[place] = key << 12 | u32::from(bits.last);
                        } else {
                            self.table.fill(0);
                        }
                    }
                }
            }
            bits.put(current);
            bits.grow();
        }
        bits.put(END);
        bits.flush();
    }

    /// Appends what `packed` stands for, unless that is more than `limit` bytes.
    pub(super) fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), LzwError> {
        let start = out.len();
        let result = self.decompress_into(packed, start.saturating_add(limit), out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn decompress_into(&mut self, mut packed: &[u8], end: usize, out: &mut Vec<u8>) -> Result<(), LzwError> {
        self.decoder.reset();
        let mut at = out.len();
        loop {
            // One byte more than allowed shows that there is more.
            out.resize((at + STEP).min(end.saturating_add(1)), 0);
            let step = self.decoder.decode_bytes(packed, &mut out[at..]);
            packed = &packed[step.consumed_in..];
            at += step.consumed_out;
            if at > end {
                return Err(LzwError::TooLong);
            }
            match step.status {
                Ok(LzwStatus::Done) => {
                    out.truncate(at);
                    return Ok(());
                }
                Ok(LzwStatus::Ok) if step.consumed_in > 0 || step.consumed_out > 0 => {}
                Ok(LzwStatus::Ok | LzwStatus::NoProgress) | Err(_) => return Err(LzwError::Broken),
            }
        }
    }

    /// The code of a sequence, or the place where it belongs.
    fn find(&self, key: u32) -> Result<u16, usize> {
        let mut place = (key.wrapping_mul(0x9e37_79b1) >> 19) as usize;
        loop {
            match self.table[place] {
                0 => return Err(place),
                entry if entry >> 12 == key => return Ok((entry & 0xfff) as u16),
                _ => place = (place + 1) % PLACES,
            }
        }
    }
}

/// Why something does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LzwError {
    /// An impossible code, or no end code.
    Broken,
    /// More than the limit.
    TooLong,
}

/// Packs codes of growing width into bytes.
struct Bits<'o> {
    out: &'o mut Vec<u8>,
    held: u32,
    count: u32,
    width: u32,
    /// The newest code of the table.
    last: u16,
}

impl Bits<'_> {
    fn put(&mut self, code: u16) {
        self.held |= u32::from(code) << self.count;
        self.count += self.width;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Makes a new code. At the last one it starts anew instead, and the table is to be emptied: `false`.
    fn grow(&mut self) -> bool {
        self.last += 1;
        if u32::from(self.last) == 1 << self.width {
            self.width += 1;
        }
        if self.last < LAST {
            return true;
        }
        self.put(CLEAR);
        self.width = WIDTH_MIN;
        self.last = END;
        false
    }

    fn flush(&mut self) {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Lzw::new().compress(plain, &mut out);
        out
    }

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, LzwError> {
        let mut out = b"before".to_vec();
        let result = Lzw::new().decompress(packed, limit, &mut out);
        assert_eq!(&out[..6], b"before");
        assert!(result.is_ok() || out.len() == 6, "nothing is left of a failure");
        result.map(|()| out.split_off(6))
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn bytes_are_those_of_the_reference() {
        let ramp: Vec<u8> = (0..9000u32).map(|i| ((i * i + i / 7) % 251) as u8).collect();
        let vectors: [(&[u8], &str); 5] = [
            (b"", include_str!("../../../tests/golden/lzw-empty.hex")),
            (b"\0", include_str!("../../../tests/golden/lzw-one-zero.hex")),
            (b"ab", include_str!("../../../tests/golden/lzw-ab.hex")),
            (&[b'a'; 50], include_str!("../../../tests/golden/lzw-50a.hex")),
            (&ramp, include_str!("../../../tests/golden/lzw-9000.hex")),
        ];
        for (plain, hex) in vectors {
            assert_eq!(packed(plain), unhex(hex));
            assert_eq!(unpacked(&unhex(hex), plain.len()).unwrap(), plain);
        }
    }

    #[test]
    fn the_end_code_is_required_and_the_rest_ignored() {
        let mut bytes = packed(b"ab");
        assert_eq!(unpacked(&bytes[..3], 100), Err(LzwError::Broken));
        assert_eq!(unpacked(&[], 100), Err(LzwError::Broken));
        bytes.extend([0xff; 9]);
        assert_eq!(unpacked(&bytes, 100).unwrap(), b"ab");
    }

    #[test]
    fn the_limit_is_exact() {
        let bytes = packed(&vec![0; 100_000]);
        assert_eq!(unpacked(&bytes, 100_000).unwrap(), vec![0; 100_000]);
        assert_eq!(unpacked(&bytes, 99_999), Err(LzwError::TooLong));
        assert_eq!(unpacked(&bytes, 0), Err(LzwError::TooLong));
        assert_eq!(unpacked(&packed(b""), 0).unwrap(), b"");
    }

    #[test]
    fn a_leading_clear_is_optional() {
        // 'a' and END at 9 bits each.
        let bits = u32::from(b'a') | u32::from(END) << 9;
        assert_eq!(unpacked(&bits.to_le_bytes()[..3], 100).unwrap(), b"a");
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(
            plain in prop::collection::vec(0..8u8, 0..6000),
            second in prop::collection::vec(any::<u8>(), 0..6000),
        ) {
            let mut lzw = Lzw::new();
            for plain in [plain, second] {
                let (mut packed, mut out) = (Vec::new(), Vec::new());
                lzw.compress(&plain, &mut packed);
                prop_assert_eq!(lzw.decompress(&packed, plain.len(), &mut out), Ok(()));
                prop_assert_eq!(out, plain);
            }
        }

        #[test]
        fn arbitrary_bytes_unpack_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..3000), limit in 0..9000usize) {
            if let Ok(plain) = unpacked(&bytes, limit) {
                prop_assert!(plain.len() <= limit);
            }
        }
    }
}
