//! One AES key of 16, 24 or 32 bytes, ready for use.
//!
//! Its bytes leave only through [`Key::as_bytes`] and [`Key::to_base64`]; debug output shows the length.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes192;
use aes_gcm::{AeadInOut as _, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit as _};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use std::fmt;

/// As lenient as operators know it: bits behind the last byte need not be zero.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;
/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;

/// An AES key with its schedule (gossip.md 6.1).
#[derive(Clone)]
pub struct Key {
    bytes: Box<[u8]>,
    cipher: Cipher,
}

impl Key {
    /// The key of these 16, 24 or 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Key, KeyError> {
        Ok(Key { cipher: Cipher::new(bytes).ok_or(KeyError::Size)?, bytes: bytes.into() })
    }

    /// The key written as `text` in padded standard base64, as in flags and files.
    pub fn from_base64(text: &str) -> Result<Key, KeyError> {
        Key::from_bytes(&decode_base64(text.as_bytes())?)
    }

    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The secret itself, as text.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// Encrypts `buffer` in place and returns the tag.
    pub(super) fn seal(&self, nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG] {
        let (nonce, buffer) = (nonce.into(), InOutBuf::from(buffer));
        let tag = match &self.cipher {
            Cipher::Aes128(cipher) => cipher.encrypt_inout_detached(nonce, aad, buffer),
            Cipher::Aes192(cipher) => cipher.encrypt_inout_detached(nonce, aad, buffer),
            Cipher::Aes256(cipher) => cipher.encrypt_inout_detached(nonce, aad, buffer),
        };
        tag.expect("messages are far shorter than the 64 GiB that AES-GCM can seal").into()
    }

    /// Decrypts into `plain`, which is as long as `sealed`; leaves it alone if the tag does not fit.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG],
        plain: &mut [u8],
    ) -> bool {
        let buffer = InOutBuf::new(sealed, plain).expect("the caller made room for exactly the plaintext");
        let (nonce, tag) = (nonce.into(), tag.into());
        match &self.cipher {
            Cipher::Aes128(cipher) => cipher.decrypt_inout_detached(nonce, aad, buffer, tag),
            Cipher::Aes192(cipher) => cipher.decrypt_inout_detached(nonce, aad, buffer, tag),
            Cipher::Aes256(cipher) => cipher.decrypt_inout_detached(nonce, aad, buffer, tag),
        }
        .is_ok()
    }
}

/// The bytes of padded standard base64, which may be too few or too many for a key. Line breaks are skipped.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, KeyError> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    LENIENT.decode(&text).map_err(|error| KeyError::Base64 { at: offset(&error, &text) })
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

/// The secret stays out of logs and panics.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.bytes.len())
    }
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It has neither 16 nor 24 nor 32 bytes.
    Size,
    /// It is not base64; `at` is the offset of the first wrong byte.
    Base64 {
        /// Bytes from the start of the text.
        at: usize,
    },
}

/// The reference's texts: scripts and people know them (agent.md 14).
impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Size => f.write_str("key size must be 16, 24 or 32 bytes"),
            KeyError::Base64 { at } => write!(f, "illegal base64 data at input byte {at}"),
        }
    }
}

impl std::error::Error for KeyError {}

#[derive(Clone)]
enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<Aes256Gcm>),
}

impl Cipher {
    fn new(bytes: &[u8]) -> Option<Cipher> {
        match bytes.len() {
            16 => Aes128Gcm::new_from_slice(bytes).ok().map(|cipher| Cipher::Aes128(Box::new(cipher))),
            24 => AesGcm::new_from_slice(bytes).ok().map(|cipher| Cipher::Aes192(Box::new(cipher))),
            32 => Aes256Gcm::new_from_slice(bytes).ok().map(|cipher| Cipher::Aes256(Box::new(cipher))),
            _ => None,
        }
    }
}

/// Where the first wrong byte is; of a group that is cut short, where it begins.
fn offset(error: &base64::DecodeError, text: &[u8]) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _)
        | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => *at,
        _ if text.ends_with(b"=") => text.len(),
        _ => text.len() / 4 * 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_16_or_24_or_32_bytes() {
        for length in 0..=64 {
            let key = Key::from_bytes(&vec![7; length]);
            assert_eq!(key.is_ok(), [16, 24, 32].contains(&length), "{length}");
        }
        assert_eq!(Key::from_bytes(&[]).unwrap_err().to_string(), "key size must be 16, 24 or 32 bytes");
    }

    #[test]
    fn base64_is_standard_and_padded() {
        let text = "ZmVkY2JhOTg3NjU0MzIxMA==";
        let key = Key::from_base64(text).unwrap();
        assert_eq!(key.as_bytes(), b"fedcba9876543210");
        assert_eq!(key.to_base64(), text);
        assert!(Key::from_base64("ZmVkY2JhOTg3NjU0MzIxMA").is_err());
        assert_eq!(
            Key::from_base64("*mVkY2JhOTg3NjU0MzIxMA==").unwrap_err().to_string(),
            "illegal base64 data at input byte 0"
        );
        assert_eq!(Key::from_base64("YWJj"), Err(KeyError::Size));
    }

    /// The reference names the same bytes.
    #[test]
    fn what_is_no_base64_is_wrong_from_some_byte_on() {
        for (text, at) in [
            ("***", 0),
            ("A", 0),
            ("not base64!", 3),
            ("T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s", 40),
            ("AAA", 0),
            ("AA=", 3),
            ("A===", 1),
            ("AAAAA===", 5),
            ("=", 0),
            ("AAAA*", 4),
        ] {
            assert_eq!(decode_base64(text.as_bytes()), Err(KeyError::Base64 { at }), "{text}");
        }
        assert_eq!(decode_base64(b""), Ok(Vec::new()));
        assert_eq!(decode_base64(b"AB==\n"), Ok(vec![0]));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let key = Key::from_bytes(b"fedcba9876543210").unwrap();
        assert_eq!(format!("{key:?}"), "Key(16 bytes)");
    }
}
