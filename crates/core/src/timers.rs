//! Deadlines by key: at most one per key, fired in the order of time, then of setting.

use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// A set of deadlines. `K` names what is due; setting a key again moves its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    order: BTreeSet<(Instant, u64, K)>,
    by_key: BTreeMap<K, (Instant, u64)>,
    set_count: u64,
}

impl<K: Copy + Ord> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers { order: BTreeSet::new(), by_key: BTreeMap::new(), set_count: 0 }
    }

    pub(crate) fn set(&mut self, key: K, at: Instant) {
        self.cancel(key);
        self.set_count += 1;
        self.by_key.insert(key, (at, self.set_count));
        self.order.insert((at, self.set_count, key));
    }

    pub(crate) fn cancel(&mut self, key: K) {
        if let Some((at, number)) = self.by_key.remove(&key) {
            self.order.remove(&(at, number, key));
        }
    }

    /// Whether `key` has a deadline.
    pub(crate) fn contains(&self, key: K) -> bool {
        self.by_key.contains_key(&key)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, ..)| *at)
    }

    /// Takes the first one that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (_, _, key) = *self.order.first().filter(|(at, ..)| *at <= now)?;
        self.cancel(key);
        Some(key)
    }
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
}
