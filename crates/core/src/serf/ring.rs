//! What was heard at the last Lamport times, so that nothing is taken twice (gossip.md 13.9, 13.10).
//!
//! One slot per Lamport time modulo [`limits::EVENT_BUFFER`]; what is older than the ring reaches is
//! refused, because it cannot be told from what was heard before. A slot holds a bounded number of items, and
//! all of them a bounded number of bytes: when there are more, the ring reaches less far back.

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
    bytes: usize,
}

impl<T> Slot<T> {
    /// Empties the slot; returns how many bytes it held.
    fn clear(&mut self) -> usize {
        self.items.clear();
        std::mem::take(&mut self.bytes)
    }
}

/// The last Lamport times.
#[derive(Clone, Debug)]
pub(super) struct Ring<T> {
    slots: Vec<Slot<T>>,
    /// Of all slots.
    bytes: usize,
    /// What is older has been forgotten to make room.
    floor: u64,
}

impl<T> Ring<T> {
    pub(super) fn new() -> Ring<T> {
        let slots = (0..limits::EVENT_BUFFER).map(|_| Slot { ltime: 0, items: Vec::new(), bytes: 0 });
        Ring { slots: slots.collect(), bytes: 0, floor: 0 }
    }

    /// Remembers an item of `ltime` that takes `bytes`, unless one that `is_same` is there. `now` is the clock,
    /// already past `ltime`.
    pub(super) fn hear(
        &mut self,
        ltime: u64,
        now: u64,
        bytes: usize,
        is_same: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Heard {
        let size = limits::EVENT_BUFFER as u64;
        if ltime < now.saturating_sub(size).max(self.floor) {
            return Heard::TooOld;
        }
        let slot = &mut self.slots[(ltime % size) as usize];
        if slot.ltime != ltime {
            slot.ltime = ltime;
            self.bytes -= slot.clear();
        }
        if slot.items.iter().any(is_same) {
            return Heard::Known;
        }
        if slot.items.len() >= limits::EVENTS_PER_SLOT {
            return Heard::Full;
        }
        slot.items.push(make());
        slot.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > limits::EVENT_BYTES {
            self.forget_oldest();
        }
        Heard::New
    }

    fn forget_oldest(&mut self) {
        let held = self.slots.iter_mut().filter(|slot| !slot.items.is_empty());
        let oldest = held.min_by_key(|slot| slot.ltime).expect("what holds bytes holds items");
        self.bytes -= oldest.clear();
        self.floor = oldest.ltime.saturating_add(1);
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
        ring.hear(ltime, now, 0, |known| *known == item, || item)
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
    fn bytes_are_bounded_and_nothing_is_heard_twice() {
        let mut ring = Ring::new();
        let third = limits::EVENT_BYTES / 3;
        let mut hear = |ltime, item| ring.hear(ltime, 100, third, |known| *known == item, || item);
        for ltime in [7, 5, 9] {
            assert_eq!(hear(ltime, 1), Heard::New);
        }
        // The first to go is the oldest, even if it is the one that has just come.
        assert_eq!((hear(3, 1), hear(3, 1), hear(4, 1)), (Heard::New, Heard::TooOld, Heard::New));
        assert_eq!((hear(5, 1), hear(6, 1)), (Heard::Known, Heard::New));
        assert_eq!((hear(5, 1), hear(5, 2), hear(6, 1)), (Heard::TooOld, Heard::TooOld, Heard::Known));
        // A slot that is taken over gives its bytes back.
        assert_eq!(hear(7 + limits::EVENT_BUFFER as u64, 1), Heard::New);
        assert_eq!(hear(6, 1), Heard::Known);
        let held: Vec<_> = ring.slots().map(|slot| slot.ltime).collect();
        assert_eq!(held, [6, 519, 9]);
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
