//! `keygen`: a new encryption key, from the operating system's randomness.

use std::fs::File;
use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Outcome;

/// The longest of the three key sizes: AES-256.
const KEY_BYTES: usize = 32;

pub(crate) fn run(out: &mut impl Write) -> Outcome {
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    writeln!(out, "{}", STANDARD.encode(key))?;
    Ok(())
}
