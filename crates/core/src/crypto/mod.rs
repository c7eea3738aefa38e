//! Encryption of gossip: AES-GCM blocks and the ring of keys that open them (gossip.md 6).
//!
//! This decides what a sealed block looks like and which key seals and opens it. It does not decide when
//! blocks are used nor what is authenticated beside them; that is the packet layer's business
//! ([`wire::serf`](crate::wire::serf)).
//!
//! Invariant: a [`Keyring`] is never empty and has no key twice; its first key is the one that seals.

mod key;
mod keyring;

pub use key::{Key, KeyError, decode_base64};
pub use keyring::{Keyring, KeyringError, OpenError, Version};
