//! What waits to be gossiped.
//!
//! Four queues with one algorithm: the membership layer's, and the Serf layer's intents, queries and
//! events. A message rides in a limited number of packets; those that rode least go first, of these the
//! longest, of these the newest (gossip.md 10.1). The invariant: a queue never holds more than its bound.

use crate::limits;
use crate::scale::retransmit_limit;
use crate::text::Text;
use crate::wire::serf::Batch;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Told back when a broadcast has been sent often enough, or was displaced by a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// Ascending in the order of sending.
type Rank = (u32, Reverse<usize>, Reverse<u64>);

#[derive(Debug)]
struct Item {
    bytes: Box<[u8]>,
    subject: Option<Text>,
    token: Option<Token>,
}

/// One transmit-limited queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: BTreeMap<Rank, Item>,
    by_subject: BTreeMap<Text, Rank>,
    pushed: u64,
    /// What goes into the packet that is put together; empty between calls.
    taken: Vec<(Rank, Item)>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Adds a message. One about the same `subject` is displaced, its token finished.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        subject: Option<Text>,
        token: Option<Token>,
        finished: &mut Vec<Token>,
    ) {
        if let Some(rank) = subject.as_ref().and_then(|subject| self.by_subject.remove(subject)) {
            let displaced = self.items.remove(&rank).expect("each indexed rank is in the queue");
            finished.extend(displaced.token);
        }
        self.pushed += 1;
        let rank = (0, Reverse(bytes.len()), Reverse(self.pushed));
        if let Some(subject) = &subject {
            self.by_subject.insert(subject.clone(), rank);
        }
        self.items.insert(rank, Item { bytes: bytes.into(), subject, token });
    }

    /// Drops the last in order until at most `bound` are left; returns how many.
    fn prune(&mut self, bound: usize, finished: &mut Vec<Token>) -> usize {
        let excess = self.items.len().saturating_sub(bound);
        for _ in 0..excess {
            let (_, item) = self.items.pop_last().expect("the excess is at most the length");
            self.forget(item, finished);
        }
        excess
    }

    fn forget(&mut self, item: Item, finished: &mut Vec<Token>) {
        if let Some(subject) = item.subject {
            self.by_subject.remove(&subject);
        }
        finished.extend(item.token);
    }

    /// Hands messages to `take` that together, each with `overhead`, fit into `room` bytes, and counts the
    /// transmission (gossip.md 10.2). At most `most` messages.
    fn extract(
        &mut self,
        (overhead, room, most): (usize, usize, usize),
        limit: u32,
        finished: &mut Vec<Token>,
        mut take: impl FnMut(&[u8]),
    ) -> usize {
        let mut used = 0;
        let mut taken = std::mem::take(&mut self.taken);
        let mut from: Rank = (0, Reverse(usize::MAX), Reverse(u64::MAX));
        while taken.len() < most && room > used + overhead {
            // Within one tier the longest comes first: jumping to "at most `free` long" skips what is too long.
            let free = room - used - overhead;
            let start = (from.0, from.1.max(Reverse(free)), from.2);
            let start = if start.1 == from.1 { start } else { (start.0, start.1, Reverse(u64::MAX)) };
            let Some((&rank, _)) = self.items.range(start..).next() else { break };
            if rank.1.0 > free {
                from = (rank.0, Reverse(free), Reverse(u64::MAX));
                continue;
            }
            let item = self.items.remove(&rank).expect("the rank was just found");
            take(&item.bytes);
            used += overhead + item.bytes.len();
            from = rank;
            taken.push((rank, item));
        }
        for ((transmits, length, id), item) in taken.drain(..) {
            if transmits + 1 >= limit {
                self.forget(item, finished);
                continue;
            }
            let rank = (transmits + 1, length, id);
            if let Some(subject) = &item.subject {
                *self.by_subject.get_mut(subject).expect("what is about a subject is indexed by it") = rank;
            }
            self.items.insert(rank, item);
        }
        self.taken = taken;
        used
    }
}

/// The four queues of a node.
#[derive(Debug)]
pub(crate) struct Broadcasts {
    members: Queue,
    serf: [Queue; 3],
    /// How many messages each of these dropped, until somebody asks.
    dropped: [usize; 3],
    finished: Vec<Token>,
    next_token: u64,
    retransmit_mult: u32,
    /// Number of entries in the node table, for the limit of the membership queue.
    pub(crate) nodes: usize,
    /// Number of Serf members in any state, for the limits of the Serf queues.
    pub(crate) serf_members: usize,
}

/// A queue of the Serf layer; in the order in which they get room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SerfQueue {
    Intents = 0,
    Queries = 1,
    Events = 2,
}

impl SerfQueue {
    pub(crate) const ALL: [SerfQueue; 3] = [SerfQueue::Intents, SerfQueue::Queries, SerfQueue::Events];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            SerfQueue::Intents => "Intent",
            SerfQueue::Queries => "Query",
            SerfQueue::Events => "Event",
        }
    }
}

impl Broadcasts {
    pub(crate) fn new(retransmit_mult: u32) -> Broadcasts {
        Broadcasts {
            members: Queue::default(),
            serf: Default::default(),
            dropped: [0; 3],
            finished: Vec::new(),
            next_token: 0,
            retransmit_mult,
            nodes: 0,
            serf_members: 0,
        }
    }

    /// A token that was never given before.
    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Queues an encoded membership message about `subject`.
    pub(crate) fn push_member(&mut self, subject: &Text, bytes: &[u8], token: Option<Token>) {
        self.members.push(bytes, Some(subject.clone()), token, &mut self.finished);
    }

    /// Queues an encoded Serf message; a full queue drops its last one for it.
    pub(crate) fn push_serf(&mut self, queue: SerfQueue, bytes: &[u8], token: Option<Token>) {
        let chosen = &mut self.serf[queue as usize];
        chosen.push(bytes, None, token, &mut self.finished);
        self.dropped[queue as usize] += chosen.prune(limits::SERF_QUEUE, &mut self.finished);
    }

    /// How many messages the queue has dropped since the last call because it was full.
    pub(crate) fn take_dropped(&mut self, queue: SerfQueue) -> usize {
        std::mem::take(&mut self.dropped[queue as usize])
    }

    pub(crate) fn depth(&self, queue: SerfQueue) -> usize {
        self.serf[queue as usize].len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.len() == 0 && self.serf.iter().all(|queue| queue.len() == 0)
    }

    /// Has a broadcast count as sent, because nobody is left to hear it.
    pub(crate) fn finish(&mut self, token: Token) {
        self.finished.push(token);
    }

    /// The tokens that finished since the last call.
    pub(crate) fn pop_finished(&mut self) -> Option<Token> {
        if self.finished.is_empty() { None } else { Some(self.finished.remove(0)) }
    }

    /// Adds to `batch` what fits into `room` bytes of one packet (gossip.md 10.3). `told` hears the length of each
    /// message of the Serf layer.
    pub(crate) fn fill(&mut self, room: usize, batch: &mut Batch, mut told: impl FnMut(usize)) {
        let limit = retransmit_limit(self.retransmit_mult, self.nodes);
        let most = limits::COMPOUND_PARTS.saturating_sub(batch.len());
        let used =
            self.members.extract((2, room, most), limit, &mut self.finished, |bytes| batch.push(bytes));
        let mut room = room - used;
        let limit = retransmit_limit(self.retransmit_mult, self.serf_members);
        for queue in &mut self.serf {
            let most = limits::COMPOUND_PARTS.saturating_sub(batch.len());
            if room <= 3 {
                break;
            }
            room -= queue.extract((3, room, most), limit, &mut self.finished, |bytes| {
                told(bytes.len());
                batch.push_user(bytes);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extract(queue: &mut Queue, overhead: usize, room: usize, limit: u32) -> (Vec<usize>, Vec<Token>) {
        let (mut lengths, mut finished) = (Vec::new(), Vec::new());
        queue.extract((overhead, room, 1000), limit, &mut finished, |bytes| lengths.push(bytes.len()));
        (lengths, finished)
    }

    #[test]
    fn the_recorded_trace_is_followed() {
        let trace: serde_json::Value =
            serde_json::from_str(include_str!("../tests/golden/queue-trace.json")).unwrap();
        let mut queue = Queue::default();
        let steps = trace["steps"].as_array().unwrap();
        assert!(steps.len() > 10);
        for step in steps {
            let number = |key: &str| usize::try_from(step[key].as_u64().unwrap()).unwrap();
            let token = |name: &str| Token(u64::from(name.as_bytes()[0]));
            let names = step["finished"].as_array().cloned().unwrap_or_default();
            let expected: Vec<Token> = names.iter().map(|name| token(name.as_str().unwrap())).collect();
            let mut finished = Vec::new();
            if step["op"] == "queue" {
                let name = step["name"].as_str().unwrap();
                let bytes = vec![0; number("len")];
                queue.push(&bytes, Some(name.into()), Some(token(name)), &mut finished);
            } else {
                let (lengths, done) = extract(&mut queue, number("overhead"), number("limit"), 4);
                let wanted: Vec<usize> =
                    step["lens"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
                assert_eq!(lengths, wanted, "{step}");
                assert_eq!(queue.len(), number("left"), "{step}");
                finished = done;
            }
            assert_eq!(finished, expected, "{step}");
        }
    }

    /// The words of gossip.md 10.2, without an index.
    fn naive(items: &mut Vec<(u32, usize, u64)>, overhead: usize, room: usize, limit: u32) -> Vec<usize> {
        let mut used = 0;
        let mut taken = Vec::new();
        let mut tiers: Vec<u32> = items.iter().map(|item| item.0).collect();
        tiers.sort_unstable();
        tiers.dedup();
        for tier in tiers {
            loop {
                let free = room as i64 - used as i64 - overhead as i64;
                let best = items
                    .iter()
                    .copied()
                    .filter(|item| item.0 == tier && item.1 as i64 <= free)
                    .max_by_key(|item| (item.1, item.2));
                let Some(best) = best.filter(|_| free > 0) else { break };
                items.retain(|item| *item != best);
                used += overhead + best.1;
                taken.push(best);
            }
        }
        items.extend(taken.iter().filter(|item| item.0 + 1 < limit).map(|item| (item.0 + 1, item.1, item.2)));
        taken.iter().map(|item| item.1).collect()
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_naive_queue(steps in prop::collection::vec((any::<bool>(), 1usize..60, 0usize..150), 1..60)) {
            let (mut queue, mut model, mut id) = (Queue::default(), Vec::new(), 0);
            for (push, length, room) in steps {
                if push {
                    id += 1;
                    queue.push(&vec![0; length], None, None, &mut Vec::new());
                    model.push((0, length, id));
                } else {
                    prop_assert_eq!(extract(&mut queue, 2, room, 4).0, naive(&mut model, 2, room, 4));
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    /// Old members misread a longer table of lengths (gossip.md 20.1).
    #[test]
    fn a_packet_has_no_more_messages_than_old_members_can_count() {
        let mut broadcasts = Broadcasts::new(1);
        for number in 0..100u8 {
            broadcasts.push_member(&Text::from(&[number][..]), &[4], None);
            broadcasts.push_serf(SerfQueue::Intents, &[1], None);
            broadcasts.push_serf(SerfQueue::Events, &[3], None);
        }
        let mut packets = Vec::new();
        while !broadcasts.is_empty() {
            let mut batch = Batch::default();
            broadcasts.fill(1 << 16, &mut batch, |_| {});
            packets.push(batch.len());
        }
        assert_eq!(packets, [127, 127, 46]);
    }

    #[test]
    fn what_was_sent_most_is_dropped_first() {
        let mut broadcasts = Broadcasts::new(4);
        broadcasts.serf_members = 5;
        // The first message rides in two packets, those after it in one, the others in none.
        let sent = limits::COMPOUND_PARTS;
        let tokens: Vec<Token> = (0..limits::SERF_QUEUE).map(|_| broadcasts.token()).collect();
        for (number, token) in tokens.iter().enumerate() {
            broadcasts.push_serf(SerfQueue::Events, &vec![3; 1 + number], Some(*token));
            if number + 1 == sent || number == 0 {
                broadcasts.fill(1 << 20, &mut Batch::default(), |_| {});
            }
        }
        assert_eq!(broadcasts.depth(SerfQueue::Events), limits::SERF_QUEUE);
        // What was sent twice goes first, then of what was sent once the shortest; what was never sent stays,
        // though it is shorter.
        for dropped in &tokens[..sent] {
            broadcasts.push_serf(SerfQueue::Events, &[3], None);
            assert_eq!(broadcasts.pop_finished(), Some(*dropped));
        }
        assert_eq!(broadcasts.depth(SerfQueue::Events), limits::SERF_QUEUE);
    }

    #[test]
    fn a_full_queue_drops_its_last_and_counts_it() {
        let mut broadcasts = Broadcasts::new(4);
        let token = broadcasts.token();
        broadcasts.push_serf(SerfQueue::Events, &[3, 1], Some(token));
        for _ in 1..limits::SERF_QUEUE {
            broadcasts.push_serf(SerfQueue::Events, &[3, 1, 2], None);
        }
        assert_eq!(broadcasts.take_dropped(SerfQueue::Events), 0);
        broadcasts.push_serf(SerfQueue::Events, &[3, 1, 2], None);
        broadcasts.push_serf(SerfQueue::Events, &[3, 1, 2], None);
        assert_eq!(SerfQueue::ALL.map(|queue| broadcasts.take_dropped(queue)), [0, 0, 2]);
        assert_eq!(broadcasts.take_dropped(SerfQueue::Events), 0);
        assert_eq!(broadcasts.depth(SerfQueue::Events), limits::SERF_QUEUE);
        assert_eq!((broadcasts.pop_finished(), broadcasts.pop_finished()), (Some(token), None));
    }
}
