//! The keys of a cluster and the blocks that they seal (gossip.md 6.2, 6.4).
//!
//! The primary seals; every key opens, so that a key can be replaced while packets under the old one are
//! still on their way.

use super::key::{Key, KeyError, NONCE, TAG};
use crate::limits;
use std::fmt;

/// Length unit of the padding of version 0.
const BLOCK: usize = 16;

/// How the plaintext of a sealed block is treated: the block's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 0: padded to a multiple of 16 bytes. Only nodes that speak memberlist protocol 1 write it.
    Padded,
    /// Version 1: as it is.
    Plain,
}

impl Version {
    /// Bytes that a block has besides its plaintext, at most.
    pub const fn overhead(self) -> usize {
        match self {
            Version::Padded => 1 + NONCE + TAG + BLOCK,
            Version::Plain => 1 + NONCE + TAG,
        }
    }
}

/// An ordered set of keys, never empty; the first one is the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of `primary` and those of `others` that are not there yet, in order.
    pub fn new(primary: Key, others: impl IntoIterator<Item = Key>) -> Result<Keyring, KeyringError> {
        let mut ring = Keyring { keys: vec![primary] };
        for key in others {
            ring.insert(key)?;
        }
        Ok(ring)
    }

    /// The key that seals.
    pub fn primary(&self) -> &Key {
        &self.keys[0]
    }

    /// All keys, primary first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key at the end; one that is there already stays where it is.
    pub fn install(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        self.insert(Key::from_bytes(bytes).map_err(KeyringError::Key)?)
    }

    /// Makes an installed key the primary; the others keep their order.
    pub fn make_primary(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        let at = self.position(bytes).ok_or(KeyringError::Unknown)?;
        self.keys[..=at].rotate_right(1);
        Ok(())
    }

    /// Removes a key; one that is not there counts as removed.
    pub fn remove(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        match self.position(bytes) {
            Some(0) => Err(KeyringError::RemovesPrimary),
            Some(at) => {
                self.keys.remove(at);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Replaces everything in `out` after its first `from` bytes by a block that holds it, sealed by the primary
    /// together with `aad`.
    ///
    /// A nonce must never be used twice with one key.
    pub fn seal(&self, version: Version, nonce: &[u8; NONCE], aad: &[u8], out: &mut Vec<u8>, from: usize) {
        if version == Version::Padded {
            let padding = BLOCK - (out.len() - from) % BLOCK;
            out.resize(out.len() + padding, padding as u8);
        }
        let plain = out.len() - from;
        out.resize(from + 1 + NONCE + plain, 0);
        out.copy_within(from..from + plain, from + 1 + NONCE);
        out[from] = version as u8;
        out[from + 1..][..NONCE].copy_from_slice(nonce);
        let tag = self.primary().seal(nonce, aad, &mut out[from + 1 + NONCE..]);
        out.extend_from_slice(&tag);
    }

    /// Appends the plaintext of `block` to `out`, if one of the keys authenticates it together with `aad`.
    pub fn open(&self, block: &[u8], aad: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let version = match block.first() {
            Some(0) => Version::Padded,
            Some(1) => Version::Plain,
            _ => return Err(OpenError::NotABlock),
        };
        if block.len() < version.overhead() {
            return Err(OpenError::NotABlock);
        }
        let (nonce, rest) = block[1..].split_first_chunk::<NONCE>().ok_or(OpenError::NotABlock)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(OpenError::NotABlock)?;
        let from = out.len();
        out.resize(from + sealed.len(), 0);
        if !self.keys.iter().any(|key| key.open(nonce, aad, sealed, tag, &mut out[from..])) {
            out.truncate(from);
            return Err(OpenError::NoKey);
        }
        if version == Version::Padded {
            let padding = usize::from(out.last().copied().unwrap_or(0));
            if padding > sealed.len() {
                out.truncate(from);
                return Err(OpenError::Padding);
            }
            out.truncate(out.len() - padding);
        }
        Ok(())
    }

    fn insert(&mut self, key: Key) -> Result<(), KeyringError> {
        if self.keys.contains(&key) {
            return Ok(());
        }
        if self.keys.len() >= limits::KEYS {
            return Err(KeyringError::Full);
        }
        self.keys.push(key);
        Ok(())
    }

    fn position(&self, bytes: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| key.as_bytes() == bytes)
    }
}

/// Why the ring stays as it is. The texts travel to operators in key responses (gossip.md 6.4, 13.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyringError {
    /// What was to be added is no key.
    Key(KeyError),
    /// The key to be made primary is not installed.
    Unknown,
    /// The primary key cannot be removed.
    RemovesPrimary,
    /// There is no room for another key.
    Full,
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyringError::Key(error) => error.fmt(f),
            KeyringError::Unknown => f.write_str("Requested key is not in the keyring"),
            KeyringError::RemovesPrimary => f.write_str("Removing the primary key is not allowed"),
            KeyringError::Full => write!(f, "Keyring is full: {} keys are installed", limits::KEYS),
        }
    }
}

impl std::error::Error for KeyringError {}

/// Why a block stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It has an unknown version or is too short: probably plain text.
    NotABlock,
    /// No key of the ring authenticates it.
    NoKey,
    /// It is authentic, but says that it has more padding than bytes.
    Padding,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const K1: &[u8] = b"0123456789abcdef0123456789abcdef";
    const K2: &[u8] = b"fedcba9876543210";
    const K3: &[u8] = b"0123456789abcdef";
    const K4: &[u8] = b"abcdefghijklmnopqrstuvwx";

    fn ring(keys: &[&[u8]]) -> Keyring {
        let mut keys = keys.iter().map(|bytes| Key::from_bytes(bytes).unwrap());
        Keyring::new(keys.next().unwrap(), keys).unwrap()
    }

    #[test]
    fn a_ring_is_an_ordered_set() {
        assert_eq!(ring(&[K1, K2, K1, K3, K2]), ring(&[K1, K2, K3]));
        let mut keys = ring(&[K1]);
        assert_eq!(keys.install(K2), Ok(()));
        assert_eq!(keys.install(K1), Ok(()));
        assert_eq!(keys, ring(&[K1, K2]));
        assert_eq!(keys.install(b"short").unwrap_err().to_string(), "key size must be 16, 24 or 32 bytes");
        assert_eq!(keys, ring(&[K1, K2]));
    }

    #[test]
    fn make_primary_keeps_the_order_of_the_others() {
        let mut keys = ring(&[K1, K2, K3]);
        keys.make_primary(K3).unwrap();
        assert_eq!(keys, ring(&[K3, K1, K2]));
        keys.make_primary(K3).unwrap();
        assert_eq!(keys, ring(&[K3, K1, K2]));
        let error = keys.make_primary(K4).unwrap_err();
        assert_eq!(error.to_string(), "Requested key is not in the keyring");
    }

    #[test]
    fn the_primary_stays() {
        let mut keys = ring(&[K1, K2]);
        let error = keys.remove(K1).unwrap_err();
        assert_eq!(error.to_string(), "Removing the primary key is not allowed");
        assert_eq!(keys.remove(K3), Ok(()));
        assert_eq!(keys.remove(K2), Ok(()));
        assert_eq!(keys, ring(&[K1]));
    }

    #[test]
    fn a_ring_has_room_for_so_many_keys() {
        let mut keys = ring(&[K1]);
        for i in 1..limits::KEYS {
            keys.install(&[i as u8; 16]).unwrap();
        }
        assert_eq!(keys.install(K2), Err(KeyringError::Full));
        assert_eq!(keys.install(K1), Ok(()));
        assert_eq!(keys.keys().len(), limits::KEYS);
    }

    #[test]
    fn every_key_opens_and_the_primary_seals() {
        let mut block = b"hello".to_vec();
        ring(&[K2, K1]).seal(Version::Plain, &[1; 12], b"aad", &mut block, 0);
        let mut plain = Vec::new();
        assert_eq!(ring(&[K1, K3]).open(&block, b"aad", &mut plain), Err(OpenError::NoKey));
        assert_eq!(ring(&[K1, K2]).open(&block, b"other", &mut plain), Err(OpenError::NoKey));
        assert_eq!(plain, b"");
        assert_eq!(ring(&[K1, K2]).open(&block, b"aad", &mut plain), Ok(()));
        assert_eq!(plain, b"hello");
    }

    /// A member with the key can claim any padding; the reference does not check it (gossip.md 6.2).
    #[test]
    fn more_padding_than_bytes_is_refused() {
        let keys = ring(&[K1]);
        let mut block = vec![17; 16];
        keys.seal(Version::Plain, &[1; 12], b"", &mut block, 0);
        // The version byte is not authenticated, and a block of version 0 holds at least one unit.
        block[0] = 0;
        assert_eq!(keys.open(&block, b"", &mut Vec::new()), Err(OpenError::Padding));
    }

    #[test]
    fn debug_output_hides_the_secrets() {
        let text = format!("{:?}", ring(&[K1, K2]));
        assert_eq!(text, "Keyring { keys: [Key(32 bytes), Key(16 bytes)] }");
    }

    proptest! {
        #[test]
        fn blocks_open_to_what_was_sealed(
            head in prop::collection::vec(any::<u8>(), 0..20),
            plain in prop::collection::vec(any::<u8>(), 0..100),
            aad in prop::collection::vec(any::<u8>(), 0..20),
            nonce: [u8; 12],
            padded: bool,
            size in 0..3usize,
        ) {
            let version = if padded { Version::Padded } else { Version::Plain };
            let keys = ring(&[[K3, K4, K1][size]]);
            let mut out = [&head[..], &plain].concat();
            keys.seal(version, &nonce, &aad, &mut out, head.len());
            prop_assert_eq!(&out[..head.len()], &head);
            let block = &out[head.len()..];
            prop_assert!(block.len() <= plain.len() + version.overhead());
            let mut opened = head.clone();
            prop_assert_eq!(keys.open(block, &aad, &mut opened), Ok(()));
            prop_assert_eq!(&opened[head.len()..], &plain);
        }

        #[test]
        fn a_changed_block_stays_closed(at in 1..60usize, bit in 0..8u32) {
            let keys = ring(&[K1, K2]);
            let mut block = vec![5; 32];
            keys.seal(Version::Plain, &[9; 12], b"", &mut block, 0);
            block[at] ^= 1 << bit;
            prop_assert_eq!(keys.open(&block, b"", &mut Vec::new()), Err(OpenError::NoKey));
        }

        #[test]
        fn arbitrary_blocks_stay_closed(block in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(ring(&[K1, K2]).open(&block, b"", &mut Vec::new()).is_err());
        }
    }
}
