//! Lamport clocks: a number that is later than everything seen (gossip.md 13.4).
//!
//! The invariant: a clock never goes back, and no message is taken whose time is more than
//! [`limits::CLOCK_JUMP`] ahead, so that one hostile or damaged message cannot use the range up. A state holds
//! many times; the exchange sees to it that none of them is beyond the clock that comes with them.

use crate::limits;
use crate::note::Note;

/// One of a node's three clocks.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    name: &'static str,
    time: u64,
}

impl Clock {
    /// `name` is for the notes.
    pub(super) fn new(name: &'static str) -> Clock {
        Clock { name, time: 1 }
    }

    /// What the next message of this node carries.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// The time for a message of this node; the clock moves on.
    pub(super) fn tick(&mut self) -> u64 {
        let time = self.time;
        self.time = time.saturating_add(1);
        time
    }

    /// Whether a message of this time may be taken. The note says why it must be dropped instead.
    pub(super) fn accepts(&self, ltime: u64) -> Result<(), Note> {
        if ltime.saturating_sub(self.time) > limits::CLOCK_JUMP {
            return Err(Note::ClockJump { clock: self.name, ltime, ours: self.time });
        }
        Ok(())
    }

    /// Moves past the time of a message, if that is acceptable.
    pub(super) fn witness(&mut self, ltime: u64) -> Result<(), Note> {
        self.accepts(ltime)?;
        self.time = self.time.max(ltime.saturating_add(1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_moves_past_what_it_sees_and_no_further() {
        let mut clock = Clock::new("event");
        for (seen, time) in [(0, 1), (1, 2), (1, 2), (7, 8), (3, 8)] {
            assert_eq!(clock.witness(seen), Ok(()));
            assert_eq!(clock.time(), time, "after {seen}");
        }
        assert_eq!((clock.tick(), clock.time()), (8, 9));
    }

    #[test]
    fn a_jump_is_refused_and_changes_nothing() {
        let mut clock = Clock::new("query");
        let ltime = 2 + limits::CLOCK_JUMP;
        assert_eq!(clock.witness(ltime), Err(Note::ClockJump { clock: "query", ltime, ours: 1 }));
        assert!(clock.witness(u64::MAX).is_err());
        assert_eq!(clock.time(), 1);
        assert_eq!(clock.witness(ltime - 1), Ok(()));
        assert_eq!(clock.time(), ltime);
    }

    proptest! {
        #[test]
        fn it_never_goes_back(seen in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut clock = Clock::new("member");
            for ltime in seen {
                let before = clock.time();
                if clock.witness(ltime).is_ok() {
                    prop_assert!(clock.time() > ltime && clock.time() >= before);
                } else {
                    prop_assert_eq!(clock.time(), before);
                }
            }
        }
    }
}
