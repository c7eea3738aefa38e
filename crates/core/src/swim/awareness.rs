//! How far this node may trust its own probes: the local health score (gossip.md 8.6).
//!
//! A node that hears too little is more likely slow itself than surrounded by failures, so it gives its
//! probes more time. The invariant: the score stays below the configured multiplier.

use crate::time::Duration;

/// 0 is healthy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awareness {
    score: u32,
    /// One more than the largest score.
    bound: u32,
}

impl Awareness {
    pub(super) fn new(bound: u32) -> Awareness {
        Awareness { score: 0, bound }
    }

    pub(super) fn score(self) -> u32 {
        self.score
    }

    /// Moves the score within its bounds; the new one if it changed.
    pub(super) fn adjust(&mut self, delta: i32) -> Option<u32> {
        let before = self.score;
        self.score = before.saturating_add_signed(delta).min(self.bound.saturating_sub(1));
        (self.score != before).then_some(self.score)
    }

    /// The probe interval at this score.
    pub(super) fn stretch(self, interval: Duration) -> Duration {
        interval.saturating_mul(self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_in_its_bounds_and_stretches_the_interval() {
        let mut awareness = Awareness::new(8);
        assert_eq!(awareness.adjust(-1), None);
        assert_eq!(awareness.adjust(3), Some(3));
        assert_eq!(awareness.stretch(Duration::from_secs(1)), Duration::from_secs(4));
        assert_eq!(awareness.adjust(100), Some(7));
        assert_eq!(awareness.adjust(1), None);
        assert_eq!(awareness.adjust(-1), Some(6));
        assert_eq!(Awareness::new(0).adjust(1), None);
    }
}
