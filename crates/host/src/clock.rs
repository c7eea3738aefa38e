//! The clocks of the machine, in the words of the agent.
//!
//! Measured time counts from the moment the clock was made and never steps back. Time for people is
//! UTC with the offset of the local zone, which is looked up again when the second changes.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::{Duration, Instant};
use villein_agent::io::Clock as Reading;
use villein_core::time::Instant as Virtual;

/// Reads both clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    zone: TimeZone,
    /// The offset of the local zone, in seconds, and the second for which it was looked up.
    offset: (i64, i32),
}

impl Clock {
    /// Its origin is now; the zone is that of the machine, or UTC if it has none.
    pub fn new() -> Clock {
        Clock { origin: Instant::now(), zone: TimeZone::system(), offset: (i64::MIN, 0) }
    }

    /// What the clocks show.
    pub fn read(&mut self) -> Reading {
        let wall = Timestamp::now();
        let unix_seconds = wall.as_second();
        if self.offset.0 != unix_seconds {
            self.offset = (unix_seconds, self.zone.to_offset(wall).seconds());
        }
        Reading { now: self.now(), unix_seconds, offset_seconds: self.offset.1 }
    }

    /// Measured time.
    pub fn now(&self) -> Virtual {
        Virtual::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The system's name for a point in time; `None` for one that never comes.
    pub fn system(&self, at: Virtual) -> Option<Instant> {
        if at == Virtual::NEVER {
            return None;
        }
        self.origin.checked_add(Duration::from_nanos(at.as_nanos()))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_time_has_a_name_in_both_worlds() {
        let clock = Clock::new();
        let before = clock.now();
        let system = clock.system(before).expect("it is not far away");
        assert!(system <= Instant::now());
        assert!(clock.now() >= before);
        assert_eq!(clock.system(Virtual::NEVER), None);
    }

    #[test]
    fn the_offset_is_that_of_the_zone() {
        let mut clock = Clock { zone: TimeZone::fixed(jiff::tz::offset(-5)), ..Clock::new() };
        let reading = clock.read();
        assert_eq!(reading.offset_seconds, -5 * 3600);
        assert!(reading.unix_seconds > 1_700_000_000);
    }
}
