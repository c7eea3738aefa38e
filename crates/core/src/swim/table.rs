//! The nodes that are known, and the random order in which they are visited (gossip.md 8.1, 8.2, 8.8, 10.4).
//!
//! A node is named by its [`MemberIdx`] inside and by its name outside. An index stays good until the
//! list reset drops the node, which happens only to other nodes that went longer ago than a given time,
//! never to one that changed just now. The invariant: `slots`, `by_name` and `order` hold the same nodes.

use super::rules::State;
use super::suspicion::Suspicion;
use crate::member::{Versions, WireAddr};
use crate::rng::Rng;
use crate::text::Text;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Names a node of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberIdx(u32);

/// What is known of a node.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Unique.
    pub(crate) name: Text,
    /// As its owner announced it.
    pub(crate) addr: WireAddr,
    /// Gossip port.
    pub(crate) port: u16,
    /// As its owner announced it.
    pub(crate) meta: Box<[u8]>,
    /// As its owner announced them.
    pub(crate) versions: Versions,
    /// Of the newest accepted claim.
    pub(crate) incarnation: u32,
    /// What it is held for.
    pub(crate) state: State,
    /// When that changed last.
    pub(crate) changed: Instant,
    /// When it was told last that it is held for gone.
    pub(super) reminded: Instant,
    /// Present while, and only while, it is suspected.
    pub(super) suspicion: Option<Suspicion>,
}

impl Entry {
    /// Where it gossips.
    pub(crate) fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.port)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Entry>>,
    free: Vec<MemberIdx>,
    by_name: BTreeMap<Text, MemberIdx>,
    order: Vec<MemberIdx>,
    /// Place in `order` of the node that is probed next.
    next: usize,
}

impl Table {
    /// How many there are, in any state.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The node with this index.
    pub(crate) fn get(&self, idx: MemberIdx) -> &Entry {
        self.slots[idx.0 as usize].as_ref().expect("an index outlives its node only across a list reset")
    }

    pub(super) fn get_mut(&mut self, idx: MemberIdx) -> &mut Entry {
        self.slots[idx.0 as usize].as_mut().expect("an index outlives its node only across a list reset")
    }

    /// The node with this name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<MemberIdx> {
        self.by_name.get(name).copied()
    }

    /// All, in the order of visits.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (MemberIdx, &Entry)> {
        self.order.iter().map(|idx| (*idx, self.get(*idx)))
    }

    /// Adds a node whose name is not known yet, at a random place of the order.
    pub(super) fn insert(&mut self, entry: Entry, rng: &mut Rng) -> MemberIdx {
        let idx = self.free.pop().unwrap_or(MemberIdx(self.slots.len() as u32));
        if idx.0 as usize == self.slots.len() {
            self.slots.push(None);
        }
        let known = self.by_name.insert(entry.name.clone(), idx);
        assert!(known.is_none(), "a name is inserted once");
        self.slots[idx.0 as usize] = Some(entry);
        let others = self.order.len();
        self.order.push(idx);
        if others > 0 {
            self.order.swap(others, rng.below(others));
        }
        idx
    }

    /// The next live node to probe, other than `me`. A list reset happens on the way when the end of the
    /// order is reached; it counts as a visit, so that the search ends.
    pub(super) fn next_target(
        &mut self,
        me: &Text,
        (now, keep): (Instant, Duration),
        rng: &mut Rng,
    ) -> Option<MemberIdx> {
        let mut visited = 0;
        while visited < self.order.len() {
            let Some(&idx) = self.order.get(self.next) else {
                self.reset(me, (now, keep), rng);
                visited += 1;
                continue;
            };
            self.next += 1;
            let entry = self.get(idx);
            if entry.state.is_live() && entry.name != *me {
                return Some(idx);
            }
            visited += 1;
        }
        None
    }

    /// Forgets the nodes that went more than `keep` ago, and shuffles the rest. This node stays, also after
    /// it has left: as long as it exchanges states at all, they must say so, or it would come back to life.
    fn reset(&mut self, me: &Text, (now, keep): (Instant, Duration), rng: &mut Rng) {
        let Table { slots, free, by_name, order, next } = self;
        order.retain(|idx| {
            let slot = &mut slots[idx.0 as usize];
            let is_over = |entry: &Entry| {
                !entry.state.is_live() && now.since(entry.changed) > keep && entry.name != *me
            };
            let Some(gone) = slot.take_if(|entry| is_over(entry)) else {
                return true;
            };
            by_name.remove(&gone.name);
            free.push(*idx);
            false
        });
        rng.shuffle(order);
        *next = 0;
    }

    /// Whether the index names a node.
    fn holds(&self, idx: MemberIdx) -> bool {
        self.slots[idx.0 as usize].is_some()
    }

    /// Puts up to `count` different nodes that `accept` into `chosen`, at random.
    pub(super) fn choose(
        &self,
        count: usize,
        rng: &mut Rng,
        chosen: &mut Vec<MemberIdx>,
        accept: impl Fn(&Entry) -> bool,
    ) {
        chosen.clear();
        // In a small table random draws would miss nodes, and so all are tried.
        if self.order.len() < count.saturating_mul(3) {
            chosen.extend_from_slice(&self.order);
            rng.shuffle(chosen);
            chosen.retain(|idx| accept(self.get(*idx)));
            chosen.truncate(count);
            return;
        }
        for _ in 0..3 * self.order.len() {
            if chosen.len() >= count {
                return;
            }
            let idx = self.order[rng.below(self.order.len())];
            if !chosen.contains(&idx) && accept(self.get(idx)) {
                chosen.push(idx);
            }
        }
    }
}

/// Nodes in a random order that is dealt to its end before anybody's turn comes again.
///
/// A message is sent only so many times. Drawn anew for each tick, some of these go to one node twice while
/// another gets none; dealt, they go to as many nodes as there are.
#[derive(Debug, Default)]
pub(super) struct Deck {
    cards: Vec<MemberIdx>,
}

impl Deck {
    /// Puts the next up to `count` different nodes that `accept` into `chosen`.
    pub(super) fn deal(
        &mut self,
        table: &Table,
        count: usize,
        rng: &mut Rng,
        chosen: &mut Vec<MemberIdx>,
        accept: impl Fn(&Entry) -> bool,
    ) {
        chosen.clear();
        // The rest of this deck, then as much as is needed of the next one.
        for is_fresh in [false, true] {
            if is_fresh {
                self.cards.clone_from(&table.order);
                rng.shuffle(&mut self.cards);
            }
            while chosen.len() < count {
                let Some(idx) = self.cards.pop() else { break };
                if table.holds(idx) && !chosen.contains(&idx) && accept(table.get(idx)) {
                    chosen.push(idx);
                }
            }
            if chosen.len() == count {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn entry(name: &str, state: State, changed: u64) -> Entry {
        Entry {
            name: name.into(),
            addr: WireAddr::from_bytes(&[127, 0, 0, 1]).unwrap(),
            port: 7946,
            meta: Box::default(),
            versions: Versions::ours(5),
            incarnation: 1,
            state,
            changed: Instant::from_nanos(changed),
            reminded: Instant::ORIGIN,
            suspicion: None,
        }
    }

    fn names(table: &Table, chosen: &[MemberIdx]) -> BTreeSet<String> {
        chosen.iter().map(|idx| table.get(*idx).name.to_string()).collect()
    }

    #[test]
    fn a_round_of_probes_visits_each_live_node_once() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Table::default();
        for name in ["me", "a", "b", "c", "d"] {
            table.insert(entry(name, State::Alive, 0), &mut rng);
        }
        table.insert(entry("gone", State::Dead, 0), &mut rng);
        let when = (Instant::ORIGIN, Duration::from_secs(1));
        for _ in 0..10 {
            let round: Vec<_> =
                (0..4).map(|_| table.next_target(&"me".into(), when, &mut rng).unwrap()).collect();
            assert_eq!(names(&table, &round).len(), 4);
            assert!(!names(&table, &round).contains("me") && !names(&table, &round).contains("gone"));
        }
    }

    #[test]
    fn nobody_to_probe_ends_the_search() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Table::default();
        let when = (Instant::ORIGIN, Duration::from_secs(1));
        assert_eq!(table.next_target(&"me".into(), when, &mut rng), None);
        table.insert(entry("me", State::Alive, 0), &mut rng);
        table.insert(entry("gone", State::Left, 0), &mut rng);
        for _ in 0..5 {
            assert_eq!(table.next_target(&"me".into(), when, &mut rng), None);
        }
    }

    #[test]
    fn the_reset_forgets_dead_and_left_after_their_time_and_reuses_their_place() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Table::default();
        table.insert(entry("me", State::Alive, 0), &mut rng);
        let dead = table.insert(entry("dead", State::Dead, 0), &mut rng);
        table.insert(entry("left", State::Left, 0), &mut rng);
        table.insert(entry("late", State::Dead, 1), &mut rng);
        table.insert(entry("suspect", State::Suspect, 0), &mut rng);
        let me = "me".into();
        table.reset(&me, (Instant::from_nanos(10), Duration::from_nanos(10)), &mut rng);
        assert_eq!(table.len(), 5, "ten nanoseconds are not more than ten");
        table.reset(&me, (Instant::from_nanos(11), Duration::from_nanos(10)), &mut rng);
        let left: BTreeSet<_> = table.iter().map(|(_, entry)| entry.name.to_string()).collect();
        assert_eq!(left, ["late", "me", "suspect"].map(String::from).into());
        assert_eq!(table.find(b"dead"), None);
        let again = table.insert(entry("left", State::Alive, 0), &mut rng);
        assert!(again <= MemberIdx(4) && table.find(b"left") == Some(again));
        assert!(dead <= MemberIdx(4));
    }

    #[test]
    fn the_reset_keeps_this_node_also_when_it_has_left() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Table::default();
        let me = table.insert(entry("me", State::Left, 0), &mut rng);
        table.insert(entry("left", State::Left, 0), &mut rng);
        table.reset(&"me".into(), (Instant::from_nanos(11), Duration::from_nanos(10)), &mut rng);
        assert_eq!((table.find(b"me"), table.len()), (Some(me), 1));
    }

    #[test]
    fn everybody_is_dealt_once_before_anybody_is_dealt_twice() {
        let mut rng = Rng::new([3; 32]);
        let mut table = Table::default();
        for name in ["me", "a", "b", "c", "d", "gone"] {
            let state = if name == "gone" { State::Left } else { State::Alive };
            table.insert(entry(name, state, 0), &mut rng);
        }
        let (mut deck, mut hand, mut dealt) = (Deck::default(), Vec::new(), Vec::new());
        let mut deal = |table: &Table, rng: &mut Rng, count| {
            deck.deal(table, count, rng, &mut hand, |entry| entry.state.is_live() && *entry.name != *b"me");
            assert_eq!(names(table, &hand).len(), hand.len(), "a hand has no pairs");
            hand.clone()
        };
        for _ in 0..8 {
            dealt.extend(deal(&table, &mut rng, 2));
        }
        for round in dealt.chunks(4) {
            assert_eq!(names(&table, round).len(), 4);
        }
        assert_eq!(deal(&table, &mut rng, 3).len(), 3);
        assert_eq!(deal(&table, &mut rng, 3).len(), 3, "the next deck fills up the hand");
        assert_eq!(deal(&table, &mut rng, 9).len(), 4, "there are no more");
        table.reset(&"me".into(), (Instant::from_nanos(9), Duration::ZERO), &mut rng);
        assert_eq!(deal(&table, &mut rng, 9).len(), 4, "who is forgotten is not dealt");
    }

    proptest! {
        #[test]
        fn a_choice_is_distinct_acceptable_and_complete_in_small_tables(
            states in prop::collection::vec(any::<bool>(), 0..40), count in 0usize..6, seed: u8,
        ) {
            let mut rng = Rng::new([seed; 32]);
            let mut table = Table::default();
            for (i, alive) in states.iter().enumerate() {
                let state = if *alive { State::Alive } else { State::Dead };
                table.insert(entry(&i.to_string(), state, 0), &mut rng);
            }
            let mut chosen = vec![MemberIdx(9)];
            table.choose(count, &mut rng, &mut chosen, |entry| entry.state == State::Alive);
            let acceptable = states.iter().filter(|alive| **alive).count();
            prop_assert_eq!(names(&table, &chosen).len(), chosen.len());
            prop_assert!(chosen.iter().all(|idx| table.get(*idx).state == State::Alive));
            prop_assert!(chosen.len() <= count.min(acceptable));
            if states.len() < 3 * count {
                prop_assert_eq!(chosen.len(), count.min(acceptable));
            }
        }
    }
}
