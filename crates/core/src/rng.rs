//! The only source of chance: a generator with a published algorithm, seeded by the driver.
//!
//! `ChaCha` keeps its output for ever, so that a seed names one run; the mapping to ranges is written
//! here for the same reason. The stream that makes AES-GCM nonces is separate from the one that
//! makes decisions, so that traffic cannot be used to guess nonces nor the reverse.

use crate::time::Duration;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng as _, SeedableRng as _};

/// Two independent `ChaCha` streams of one 32-byte seed.
#[derive(Clone)]
pub struct Rng {
    choices: ChaCha8Rng,
    nonces: ChaCha20Rng,
}

impl Rng {
    /// Equal seeds make equal generators.
    pub fn new(seed: [u8; 32]) -> Rng {
        let choices = ChaCha8Rng::from_seed(seed);
        let mut nonces = ChaCha20Rng::from_seed(seed);
        nonces.set_stream(1);
        Rng { choices, nonces }
    }

    /// A uniform 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.choices.next_u64()
    }

    /// A uniform number below `bound`; 0 if `bound` is 0. (Lemire's multiplication; the bias of at most
    /// `bound`/2⁶⁴ is far below what any choice made here could show.)
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.u64()) * bound as u128) >> 64) as usize
    }

    /// A uniform number in [0, 1) with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A uniform duration below `limit`.
    pub fn duration_below(&mut self, limit: Duration) -> Duration {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(self.u64()) * u128::from(nanoseconds)) >> 64) as u64)
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A fresh AES-GCM nonce.
    pub fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        self.nonces.fill_bytes(&mut nonce);
        nonce
    }
}

/// The state would reveal nonces to come.
impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_sequence() {
        let draw = |seed| {
            let mut rng = Rng::new([seed; 32]);
            (rng.u64(), rng.below(10), rng.nonce())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = Rng::new([1; 32]);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.below(5)] = true;
            assert!((0.0..1.0).contains(&rng.unit()));
            assert!(rng.duration_below(Duration::from_millis(3)) < Duration::from_millis(3));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }
}
