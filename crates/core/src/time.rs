//! Time as the core sees it: a number that the driver hands in.
//!
//! An [`Instant`] is nanoseconds since an origin that the driver chose. It never wraps: arithmetic
//! saturates, and a driver whose clock steps back is treated as one whose clock stands still.

use std::ops::Add;
pub use std::time::Duration;

/// A point in time: nanoseconds since the driver's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's origin.
    pub const ORIGIN: Instant = Instant(0);
    /// Later than everything that happens.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The point `nanoseconds` after the origin.
    pub const fn from_nanos(nanoseconds: u64) -> Instant {
        Instant(nanoseconds)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ORIGIN + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::from_nanos(5).since(Instant::from_nanos(9)), Duration::ZERO);
        assert_eq!(Instant::from_nanos(9).since(Instant::from_nanos(5)), Duration::from_nanos(4));
    }
}
