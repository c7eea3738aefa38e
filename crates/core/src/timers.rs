//! Deadlines by key: at most one per key, fired in the order of time, then of setting.
//!
//! A heap holds the order and forgets lazily: a deadline that was moved or cancelled stays in it until its
//! time, or until most of the heap is of that kind. Both lists keep their memory, so that a timer that comes
//! and goes with each packet allocates nothing. The invariant: the top of the heap is in force.

use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Deadlines that are not in force are swept out when there are more of them than of the others, but not
/// as long as they are fewer than this.
const SWEEP: usize = 64;

/// A set of deadlines. `K` names what is due; setting a key again moves its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    /// The next one on top: when, the number of the setting, and what.
    order: BinaryHeap<Reverse<(Instant, u64, K)>>,
    /// The numbers of the settings in force, by key in ascending order.
    in_force: Vec<(K, u64)>,
    set_count: u64,
}

impl<K: Copy + Ord> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers { order: BinaryHeap::new(), in_force: Vec::new(), set_count: 0 }
    }

    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.set_count += 1;
        match self.find(key) {
            Ok(place) => self.in_force[place].1 = self.set_count,
            Err(place) => self.in_force.insert(place, (key, self.set_count)),
        }
        self.order.push(Reverse((at, self.set_count, key)));
        self.tidy();
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Ok(place) = self.find(key) {
            self.in_force.remove(place);
            self.tidy();
        }
    }

    /// Whether `key` has a deadline.
    pub(crate) fn contains(&self, key: K) -> bool {
        self.find(key).is_ok()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the first one that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &Reverse((_, _, key)) = self.order.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.cancel(key);
        Some(key)
    }

    fn find(&self, key: K) -> Result<usize, usize> {
        self.in_force.binary_search_by_key(&key, |(known, _)| *known)
    }

    /// Drops what is not in force from the top, and everywhere if it is too much.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.in_force.len() + SWEEP {
            let in_force = &self.in_force;
            self.order.retain(|Reverse((_, number, key))| is_in_force(in_force, *key, *number));
        }
        while let Some(&Reverse((_, number, key))) = self.order.peek()
            && !is_in_force(&self.in_force, key, number)
        {
            self.order.pop();
        }
    }
}

fn is_in_force<K: Copy + Ord>(in_force: &[(K, u64)], key: K, number: u64) -> bool {
    in_force.binary_search(&(key, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_behave_like_a_sorted_list(steps in prop::collection::vec((0u8..6, 0u64..50, any::<bool>()), 0..80)) {
            let mut timers = Timers::new();
            let mut list: Vec<(u64, usize, u8)> = Vec::new();
            for (step, (key, at, set)) in steps.into_iter().enumerate() {
                list.retain(|(_, _, k)| *k != key);
                if set {
                    timers.set(key, Instant::from_nanos(at));
                    list.push((at, step, key));
                } else {
                    timers.cancel(key);
                }
            }
            list.sort_unstable();
            prop_assert!((0..6).all(|key| timers.contains(key) == list.iter().any(|(_, _, k)| *k == key)));
            prop_assert_eq!(timers.next(), list.first().map(|(at, ..)| Instant::from_nanos(*at)));
            let mut fired = Vec::new();
            while let Some(key) = timers.pop_due(Instant::from_nanos(30)) {
                fired.push(key);
            }
            let due: Vec<u8> = list.iter().filter(|(at, ..)| *at <= 30).map(|(.., key)| *key).collect();
            prop_assert_eq!(fired, due);
        }
    }

    #[test]
    fn what_is_cancelled_does_not_pile_up() {
        let mut timers = Timers::new();
        timers.set(0, Instant::from_nanos(1));
        for step in 0..10_000 {
            timers.set(1, Instant::from_nanos(1_000_000 + step));
            timers.set(2, Instant::from_nanos(2_000_000 - step));
            timers.cancel(2);
            assert!(timers.order.len() <= 2 * timers.in_force.len() + SWEEP);
        }
        assert_eq!(timers.pop_due(Instant::NEVER), Some(0));
        assert_eq!(timers.pop_due(Instant::NEVER), Some(1));
        assert_eq!((timers.pop_due(Instant::NEVER), timers.next()), (None, None));
    }
}
