//! What was heard at the last Lamport times, so that nothing is taken twice (gossip.md 13.9, 13.10).
//!
//! One slot per Lamport time modulo [`limits::EVENT_BUFFER`]; what is older than the ring reaches is
//! refused, because it cannot be told from what was heard before. A slot holds a bounded number of items.

use crate::limits;

/// What a ring says to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// For the first time: it is remembered.
    New,
    /// It is remembered from before.
    Known,
    /// It is older than the ring reaches.
    TooOld,
    /// Its slot is full.
    Full,
}

/// Everything of one Lamport time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot<T> {
    pub(super) ltime: u64,
    pub(super) items: Vec<T>,
}

/// The last Lamport times.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    slots: Vec<Slot<T>>,
}

impl<T> Ring<T> {
    pub(super) fn new() -> Ring<T> {
        let slots = (0..limits::EVENT_BUFFER).map(|_| Slot { ltime: 0, items: Vec::new() });
        Ring { slots: slots.collect() }
    }

    /// Remembers an item of `ltime`, unless one that `is_same` is there. `now` is the clock, already past
    /// `ltime`.
    pub(super) fn hear(
        &mut self,
        ltime: u64,
        now: u64,
        is_same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Heard {
        let size = limits::EVENT_BUFFER as u64;
        if now > size && ltime < now - size {
            return Heard::TooOld;
        }
        let slot = &mut self.slots[(ltime % size) as usize];
        if slot.ltime != ltime {
            slot.ltime = ltime;
            slot.items.clear();
        }
        if slot.items.iter().any(is_same) {
            return Heard::Known;
        }
        if slot.items.len() >= limits::EVENTS_PER_SLOT {
            return Heard::Full;
        }
        slot.items.push(make());
        Heard::New
    }

    /// The slots that hold something, in the order of the ring.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot<T>> {
        self.slots.iter().filter(|slot| !slot.items.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(ring: &mut Ring<u32>, ltime: u64, now: u64, item: u32) -> Heard {
        ring.hear(ltime, now, |known| *known == item, || item)
    }

    #[test]
    fn it_reaches_back_exactly_its_size() {
        let mut ring = Ring::new();
        assert_eq!(hear(&mut ring, 4488, 5001, 1), Heard::TooOld);
        assert_eq!(hear(&mut ring, 4489, 5001, 1), Heard::New);
        assert_eq!(hear(&mut ring, 4489, 5001, 1), Heard::Known);
        // A young ring takes everything.
        assert_eq!(hear(&mut ring, 0, 512, 1), Heard::New);
        assert_eq!(hear(&mut ring, 0, 513, 2), Heard::TooOld);
    }

    #[test]
    fn a_newer_time_takes_the_slot() {
        let mut ring = Ring::new();
        assert_eq!(hear(&mut ring, 5, 6, 1), Heard::New);
        assert_eq!(hear(&mut ring, 5, 6, 2), Heard::New);
        assert_eq!(hear(&mut ring, 517, 518, 1), Heard::New);
        let held: Vec<_> = ring.slots().map(|slot| (slot.ltime, slot.items.clone())).collect();
        assert_eq!(held, [(517, vec![1])]);
    }

    #[test]
    fn a_slot_is_bounded() {
        let mut ring = Ring::new();
        for item in 0..limits::EVENTS_PER_SLOT as u32 {
            assert_eq!(hear(&mut ring, 9, 10, item), Heard::New);
        }
        assert_eq!(hear(&mut ring, 9, 10, u32::MAX), Heard::Full);
        assert_eq!(hear(&mut ring, 9, 10, 0), Heard::Known);
    }
}
