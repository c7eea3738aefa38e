//! The clocks of the machine, in the words of the agent.
//!
//! Measured time counts from the moment the clock was made and never steps back. Time for people is
//! UTC with the offset of the local zone, which is looked up again when the second changes. The zone itself
//! is asked for again when the minute changes; the system's setting is read for it every few minutes (the
//! time zone library keeps it as long), so an agent need not be started again when a machine moves.

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
    /// How the zone is asked for.
    current_zone: fn() -> TimeZone,
    /// The offset of the local zone, in seconds, and the second for which it was looked up.
    offset: (i64, i32),
}

impl Clock {
    /// Its origin is now; the zone is that of the machine, or UTC if it has none.
    pub fn new() -> Clock {
        Clock::with(TimeZone::system)
    }

    fn with(current_zone: fn() -> TimeZone) -> Clock {
        Clock { origin: Instant::now(), zone: current_zone(), current_zone, offset: (i64::MIN, 0) }
    }

    /// What the clocks show.
    pub fn read(&mut self) -> Reading {
        self.read_at(Timestamp::now())
    }

    fn read_at(&mut self, wall: Timestamp) -> Reading {
        let unix_seconds = wall.as_second();
        if self.offset.0.div_euclid(60) != unix_seconds.div_euclid(60) {
            self.zone = (self.current_zone)();
        }
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
        let mut clock = Clock::with(|| TimeZone::fixed(jiff::tz::offset(-5)));
        let reading = clock.read();
        assert_eq!(reading.offset_seconds, -5 * 3600);
        assert!(reading.unix_seconds > 1_700_000_000);
    }

    #[test]
    fn a_machine_that_moves_is_noticed_with_the_next_minute() {
        let mut clock = Clock::with(|| TimeZone::fixed(jiff::tz::offset(-5)));
        let mut hours = |seconds: i64| {
            let wall = Timestamp::from_second(seconds).expect("a point in time");
            let reading = clock.read_at(wall);
            clock.current_zone = || TimeZone::fixed(jiff::tz::offset(3));
            reading.offset_seconds / 3600
        };
        assert_eq!([hours(1_795_378_080), hours(1_795_378_139), hours(1_795_378_140)], [-5, -5, 3]);
    }
}
