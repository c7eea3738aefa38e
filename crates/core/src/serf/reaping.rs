//! Forgetting members: after a long time, or on demand (gossip.md 13.5, 13.17).
//!
//! The reference looks every 15 s; a node here wakes at the same moments, but only when there is
//! something to forget. A prune of a member that is still leaving is postponed and looked at again.

use super::{Due, Serf};
use crate::cx::Cx;
use crate::limits;
use crate::member::{Member, MemberEventKind, Status};
use crate::note::Note;
use crate::text::Text;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Between two looks of the reference (gossip.md 17.2).
const REAP_INTERVAL: Duration = Duration::from_secs(15);

/// The prunes that wait for a leave to end, the first one first: all wait equally long.
#[derive(Clone, Debug)]
pub(super) struct Pruning {
    postponed: VecDeque<(Instant, Text)>,
}

impl Pruning {
    pub(super) fn new() -> Pruning {
        Pruning { postponed: VecDeque::new() }
    }

    /// `false` if there is no room.
    fn postpone(&mut self, name: &[u8], until: Instant) -> bool {
        if self.postponed.iter().any(|(_, known)| **known == *name) {
            return true;
        }
        if self.postponed.len() >= limits::POSTPONED_PRUNES {
            return false;
        }
        self.postponed.push_back((until, name.into()));
        true
    }

    /// Whether there was such a prune.
    fn cancel(&mut self, name: &[u8]) -> bool {
        let before = self.postponed.len();
        self.postponed.retain(|(_, known)| **known != *name);
        self.postponed.len() < before
    }

    fn next(&self) -> Option<Instant> {
        self.postponed.front().map(|(until, _)| *until)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Text> {
        self.postponed.pop_front_if(|(until, _)| *until <= now).map(|(_, name)| name)
    }
}

/// The first moment, counted in whole intervals from `start`, that is not before `at`.
fn round_up(at: Instant, start: Instant, interval: Duration) -> Instant {
    let unit = u64::try_from(interval.as_nanos()).expect("the interval is short");
    let past = u64::try_from(at.since(start).as_nanos()).expect("instants have 64 bits");
    start + Duration::from_nanos(past.div_ceil(unit).saturating_mul(unit))
}

impl Serf {
    /// When something is to be forgotten.
    pub(super) fn reap_at(&self) -> Option<Instant> {
        let first = self.members.first_expiry(&self.settings.timeouts)?;
        Some(round_up(first, self.started, REAP_INTERVAL))
    }

    /// Forgets what is over.
    pub(super) fn reap(&mut self, cx: &mut Cx<'_>) {
        while let Some(member) = self.members.expire_member(&self.settings.timeouts, cx.now) {
            cx.note(Note::MemberReaped { name: member.name.clone() });
            self.forgotten(member, cx);
        }
        self.members.expire_intents(&self.settings.timeouts, cx.now);
    }

    /// Forgets a member that has been told to leave. One whose leave is under way is given the time that
    /// a leave takes.
    pub(super) fn prune(&mut self, name: &[u8], cx: &mut Cx<'_>) {
        match self.members.status(name) {
            Status::Left | Status::Failed => self.erase(name, cx),
            Status::Leaving => {
                let until = cx.now + self.settings.broadcast_timeout + self.settings.leave_propagate_delay;
                if !self.pruning.postpone(name, until) {
                    return cx.note(Note::PruneDropped { name: name.into() });
                }
                self.await_prune();
            }
            Status::None | Status::Alive => {}
        }
    }

    /// A member that is back is not forgotten for what was said of it before.
    pub(super) fn call_off_prune(&mut self, name: &[u8], cx: &mut Cx<'_>) {
        if self.pruning.cancel(name) {
            cx.note(Note::PruneDropped { name: name.into() });
        }
    }

    /// The time of a postponed prune has come. A member that is still there is kept: the membership layer
    /// would know it and this one would not.
    pub(super) fn on_prune_due(&mut self, cx: &mut Cx<'_>) {
        while let Some(name) = self.pruning.pop_due(cx.now) {
            if matches!(self.members.status(&name), Status::Left | Status::Failed) {
                self.erase(&name, cx);
            } else {
                cx.note(Note::PruneDropped { name });
            }
        }
        self.await_prune();
    }

    fn await_prune(&mut self) {
        if let Some(until) = self.pruning.next() {
            self.timers.set(Due::Prune, until);
        }
    }

    fn erase(&mut self, name: &[u8], cx: &mut Cx<'_>) {
        let Some(member) = self.members.erase(name) else { return };
        cx.note(Note::MemberForcedReaped { name: member.name.clone(), ip: member.addr.ip() });
        self.forgotten(member, cx);
    }

    fn forgotten(&mut self, member: Member, cx: &mut Cx<'_>) {
        cx.coordinates.forget(&member.name);
        cx.broadcasts.serf_members = self.members.len();
        self.report(MemberEventKind::Reap, member, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_whole_intervals_from_the_start() {
        let start = Instant::from_nanos(7);
        let second = |s| start + Duration::from_secs(s);
        assert_eq!(round_up(start, start, REAP_INTERVAL), start);
        assert_eq!(round_up(second(1), start, REAP_INTERVAL), second(15));
        assert_eq!(round_up(second(15), start, REAP_INTERVAL), second(15));
        assert_eq!(round_up(second(16), start, REAP_INTERVAL), second(30));
        assert_eq!(round_up(Instant::NEVER, start, REAP_INTERVAL), Instant::NEVER);
    }

    #[test]
    fn prunes_wait_in_order_and_once_each() {
        let at = Instant::from_nanos;
        let mut pruning = Pruning::new();
        assert!(pruning.postpone(b"a", at(10)) && pruning.postpone(b"b", at(20)));
        assert!(pruning.postpone(b"a", at(30)));
        assert_eq!(pruning.next(), Some(at(10)));
        assert_eq!(pruning.pop_due(at(9)), None);
        assert_eq!(pruning.pop_due(at(20)), Some("a".into()));
        assert_eq!(pruning.pop_due(at(20)), Some("b".into()));
        assert_eq!((pruning.pop_due(at(99)), pruning.next()), (None, None));
        for number in 0..limits::POSTPONED_PRUNES {
            assert!(pruning.postpone(&number.to_be_bytes(), at(1)));
        }
        assert!(!pruning.postpone(b"more", at(1)));
    }
}
