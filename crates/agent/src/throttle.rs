//! Counts losses and says when it is time for a line about them.
//!
//! Invariant: at most one line per [`LOSS_INTERVAL`], so that a loss that repeats
//! cannot flood the log that reports it.

use crate::limits::LOSS_INTERVAL;
use villein_core::time::Instant;

/// The losses of one kind.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    total: u64,
    said_at: Option<Instant>,
}

impl Throttle {
    /// Adds `count` losses; gives the number of all losses so far when a line is due.
    pub(crate) fn add(&mut self, now: Instant, count: u64) -> Option<u64> {
        self.total = self.total.saturating_add(count);
        if self.said_at.is_some_and(|said_at| now < said_at + LOSS_INTERVAL) {
            return None;
        }
        self.said_at = Some(now);
        Some(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_tells_the_total() {
        let mut throttle = Throttle::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(throttle.add(at(0), 1), Some(1));
        assert_eq!(throttle.add(at(1), 4), None);
        assert_eq!(throttle.add(at(999), 1), None);
        assert_eq!(throttle.add(at(1000), 1), Some(7));
    }
}
