//! Who is a member, and in which state (gossip.md 13.5, 13.6).
//!
//! Two sources meet here: the membership layer says who is there, intents say who means to be. This file
//! applies both and says what follows; telling others is up to the caller. The invariant: a member is in
//! the failed or the left list exactly if that is its status.

use super::clock::Clock;
use super::intents::{By, Intents, Kind, Said, Upsert};
use crate::limits;
use crate::member::{Member, MemberEventKind, Status};
use crate::note::Note;
use crate::text::Text;
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};

/// A member and what only this layer needs of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) member: Member,
    /// The last intent about it that counted, and how late it was said.
    kind: Kind,
    said: Said,
    /// When it left or failed.
    gone: Instant,
}

impl Entry {
    /// Whether a state lists it among those that left. One that has announced that it is back is not, though the
    /// membership layer may not have found it yet: readers would conclude a leave after its return.
    pub(super) fn is_listed_as_left(&self) -> bool {
        self.member.status == Status::Left && self.kind == Kind::Leave
    }

    /// What a state says of it. Readers add one for who left (gossip.md 13.13): if this node did so and passed it
    /// on, any two nodes would drive each other's clocks on for ever.
    pub(super) fn status_ltime(&self) -> u64 {
        let is_later = self.member.status == Status::Left && self.said.by == By::Conclusion;
        self.said.ltime.saturating_sub(u64::from(is_later))
    }
}

/// What follows from an intent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing: it is old.
    Old,
    /// It is about no member, news, and to be passed on.
    Remembered,
    /// It is about no member, and there is no room to remember it.
    Full,
    /// It has been applied and is to be passed on.
    Applied {
        /// The member that was failed and counts as left now.
        forced: Option<Member>,
    },
    /// This node is said to leave and does not, or a time about it is known that is not its own.
    Refute,
}

/// The member table.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) clock: Clock,
    table: BTreeMap<Text, Entry>,
    intents: Intents,
    failed: BTreeSet<(Instant, Text)>,
    left: BTreeSet<(Instant, Text)>,
}

impl Members {
    pub(super) fn new() -> Members {
        Members {
            clock: Clock::new("member"),
            table: BTreeMap::new(),
            intents: Intents::default(),
            failed: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Member> {
        self.table.get(name).map(|entry| &entry.member)
    }

    /// In the order of names.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.values()
    }

    pub(super) fn status(&self, name: &[u8]) -> Status {
        self.get(name).map_or(Status::None, |member| member.status)
    }

    /// Names of failed members, the longest failed first.
    pub(super) fn failed(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.failed.iter().map(|(_, name)| name)
    }

    /// How many members left.
    pub(super) fn left_count(&self) -> usize {
        self.left.len()
    }

    /// How long ago this member failed, if it has.
    pub(super) fn failed_since(&self, name: &[u8], now: Instant) -> Option<Duration> {
        let entry = self.table.get(name).filter(|entry| entry.member.status == Status::Failed)?;
        Some(now.since(entry.gone))
    }

    /// A node leaves, or is to be forgotten. `stays` is this node's name unless it is about to leave.
    pub(super) fn leave_intent(
        &mut self,
        node: &[u8],
        said: Said,
        stays: Option<&[u8]>,
        now: Instant,
    ) -> Result<Verdict, Note> {
        self.clock.witness(said.ltime)?;
        let Some(entry) = self.table.get_mut(node) else {
            return Ok(self.remember(node, Kind::Leave, said, now));
        };
        let is_mine = stays == Some(node);
        // Others may have heard this leave before what this node said at the same time.
        if said < entry.said || (said == entry.said && !is_mine) {
            return Ok(Verdict::Old);
        }
        if is_mine {
            return Ok(Verdict::Refute);
        }
        (entry.kind, entry.said) = (Kind::Leave, said);
        let mut forced = None;
        match entry.member.status {
            Status::Alive => entry.member.status = Status::Leaving,
            Status::Failed => {
                entry.member.status = Status::Left;
                let listed = (entry.gone, entry.member.name.clone());
                self.failed.remove(&listed);
                self.left.insert(listed);
                forced = Some(entry.member.clone());
            }
            Status::Leaving | Status::Left | Status::None => {}
        }
        Ok(Verdict::Applied { forced })
    }

    /// A node has joined, or stays. `stays` is this node's name if a later time about it is to be answered.
    pub(super) fn join_intent(
        &mut self,
        node: &[u8],
        said: Said,
        stays: Option<&[u8]>,
        now: Instant,
    ) -> Result<Verdict, Note> {
        self.clock.witness(said.ltime)?;
        let Some(entry) = self.table.get_mut(node) else {
            return Ok(self.remember(node, Kind::Join, said, now));
        };
        if said <= entry.said {
            return Ok(Verdict::Old);
        }
        if stays == Some(node) {
            return Ok(Verdict::Refute);
        }
        (entry.kind, entry.said) = (Kind::Join, said);
        if entry.member.status == Status::Leaving {
            entry.member.status = Status::Alive;
        }
        Ok(Verdict::Applied { forced: None })
    }

    fn remember(&mut self, name: &[u8], kind: Kind, said: Said, now: Instant) -> Verdict {
        match self.intents.upsert(name, kind, said, now) {
            Upsert::New => Verdict::Remembered,
            Upsert::Old => Verdict::Old,
            Upsert::Full => Verdict::Full,
        }
    }

    /// The membership layer has found a node; its status is decided here. `false` if there is no room.
    pub(super) fn appear(&mut self, mut member: Member) -> bool {
        member.status = Status::Alive;
        if let Some(entry) = self.table.get_mut(&member.name) {
            let listed = (entry.gone, member.name.clone());
            self.failed.remove(&listed);
            self.left.remove(&listed);
            entry.member = member;
            return true;
        }
        if self.table.len() >= limits::NODES {
            return false;
        }
        let intent = self.intents.take(&member.name);
        let (kind, said) = intent.map_or((Kind::Join, Said::default()), |intent| (intent.kind, intent.said));
        if kind == Kind::Leave {
            member.status = Status::Leaving;
        }
        let name = member.name.clone();
        self.table.insert(name, Entry { member, kind, said, gone: Instant::ORIGIN });
        true
    }

    /// The membership layer has lost a node: it left if it said so before, and failed otherwise.
    pub(super) fn vanish(&mut self, name: &[u8], now: Instant) -> Option<(MemberEventKind, Member)> {
        let entry = self.table.get_mut(name)?;
        let (status, kind, list) = match entry.member.status {
            Status::Leaving => (Status::Left, MemberEventKind::Leave, &mut self.left),
            Status::Alive => (Status::Failed, MemberEventKind::Failed, &mut self.failed),
            Status::None | Status::Left | Status::Failed => return None,
        };
        entry.member.status = status;
        entry.gone = now;
        list.insert((now, entry.member.name.clone()));
        Some((kind, entry.member.clone()))
    }

    /// The membership layer has news of a node; its status stays.
    pub(super) fn change(&mut self, mut seen: Member) -> Option<Member> {
        let entry = self.table.get_mut(&seen.name)?;
        seen.status = entry.member.status;
        entry.member = seen;
        Some(entry.member.clone())
    }

    /// Forgets a member.
    pub(super) fn erase(&mut self, name: &[u8]) -> Option<Member> {
        let entry = self.table.remove(name)?;
        let listed = (entry.gone, entry.member.name.clone());
        self.failed.remove(&listed);
        self.left.remove(&listed);
        Some(entry.member)
    }

    /// When the first member or intent is to be forgotten.
    pub(super) fn first_expiry(&self, timeouts: &Timeouts) -> Option<Instant> {
        let failed = self.failed.first().map(|(gone, _)| *gone + timeouts.failed);
        let left = self.left.first().map(|(gone, _)| *gone + timeouts.left);
        let intent = self.intents.oldest().map(|heard| heard + timeouts.intents);
        [failed, left, intent].into_iter().flatten().min()
    }

    /// Forgets one member whose time is over.
    pub(super) fn expire_member(&mut self, timeouts: &Timeouts, now: Instant) -> Option<Member> {
        let failed = self.failed.first().filter(|(gone, _)| *gone + timeouts.failed <= now);
        let left = self.left.first().filter(|(gone, _)| *gone + timeouts.left <= now);
        let (_, name) = failed.or(left)?.clone();
        self.erase(&name)
    }

    /// Forgets the intents whose time is over.
    pub(super) fn expire_intents(&mut self, timeouts: &Timeouts, now: Instant) {
        self.intents.forget_old(now, timeouts.intents);
    }
}

/// How long what is remembered (gossip.md 13.17).
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) failed: Duration,
    pub(super) left: Duration,
    pub(super) intents: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Tags, Versions, WireAddr};
    use proptest::prelude::*;

    const NOW: Instant = Instant::from_nanos(1_000);

    fn member(name: &str) -> Member {
        Member {
            name: name.into(),
            addr: WireAddr::from_ip([127, 0, 0, 1].into()),
            port: 7946,
            tags: Tags::new(),
            status: Status::None,
            versions: Versions::ours(5),
        }
    }

    fn at(ltime: u64) -> Said {
        Said { ltime, by: By::Message }
    }

    fn in_state(ltime: u64) -> Said {
        Said { ltime, by: By::State }
    }

    fn concluded(ltime: u64) -> Said {
        Said { ltime, by: By::Conclusion }
    }

    /// A table in which `b` has `status`, with an intent of Lamport time 5 accepted.
    fn table(status: Status) -> Members {
        let mut members = Members::new();
        if status == Status::None {
            return members;
        }
        members.join_intent(b"b", at(5), None, NOW).unwrap();
        assert!(members.appear(member("b")));
        if status == Status::Failed {
            members.vanish(b"b", NOW);
        }
        if matches!(status, Status::Leaving | Status::Left) {
            // The time of the intent must stay the same for all rows of the tables below.
            let entry = members.table.get_mut(&b"b"[..]).unwrap();
            entry.member.status = Status::Leaving;
            if status == Status::Left {
                members.vanish(b"b", NOW);
            }
        }
        assert_eq!(members.status(b"b"), status);
        members
    }

    fn lists(members: &Members) -> (usize, usize) {
        (members.failed().len(), members.left_count())
    }

    #[test]
    fn leave_intents_follow_the_table() {
        use Status::{Alive, Failed, Leaving, Left, None};
        #[rustfmt::skip]
        let rows = [
            // before, Lamport time, verdict, after, lists after
            (None,    1, "remembered", None,    (0, 0)),
            (Alive,   5, "old",        Alive,   (0, 0)),
            (Alive,   6, "applied",    Leaving, (0, 0)),
            (Leaving, 5, "old",        Leaving, (0, 0)),
            (Leaving, 6, "applied",    Leaving, (0, 0)),
            (Left,    6, "applied",    Left,    (0, 1)),
            (Failed,  5, "old",        Failed,  (1, 0)),
            (Failed,  6, "forced",     Left,    (0, 1)),
        ];
        for (before, ltime, verdict, after, after_lists) in rows {
            let mut members = table(before);
            let said = match members.leave_intent(b"b", at(ltime), Some(b"a"), NOW).unwrap() {
                Verdict::Old => "old",
                Verdict::Remembered => "remembered",
                Verdict::Applied { forced: Option::None } => "applied",
                Verdict::Applied { forced: Some(member) } => {
                    assert_eq!(member.status, Left);
                    "forced"
                }
                other => panic!("{other:?}"),
            };
            let row = format!("{before:?} at {ltime}");
            assert_eq!((said, members.status(b"b")), (verdict, after), "{row}");
            assert_eq!(lists(&members), after_lists, "{row}");
            let expected = if verdict == "old" || before == None { 5 } else { ltime };
            let known = members.table.get(&b"b"[..]).map_or(5, Entry::status_ltime);
            assert_eq!(known, expected, "{row}");
            assert!(members.clock.time() > ltime, "{row}");
        }
    }

    #[test]
    fn join_intents_follow_the_table() {
        use Status::{Alive, Failed, Leaving, Left, None};
        let applied = Verdict::Applied { forced: Option::None };
        let rows = [
            (None, 1, Verdict::Remembered, None),
            (Alive, 5, Verdict::Old, Alive),
            (Alive, 6, applied.clone(), Alive),
            (Leaving, 5, Verdict::Old, Leaving),
            (Leaving, 6, applied.clone(), Alive),
            (Left, 6, applied.clone(), Left),
            (Failed, 6, applied.clone(), Failed),
        ];
        for (before, ltime, verdict, after) in rows {
            let mut members = table(before);
            let said = members.join_intent(b"b", at(ltime), Option::None, NOW).unwrap();
            assert_eq!((said, members.status(b"b")), (verdict, after), "{before:?} at {ltime}");
        }
    }

    #[test]
    fn this_node_refutes_unless_it_leaves() {
        let mut members = table(Status::Alive);
        assert_eq!(members.leave_intent(b"b", at(4), Some(b"b"), NOW), Ok(Verdict::Old));
        assert_eq!(members.leave_intent(b"b", at(9), Some(b"b"), NOW), Ok(Verdict::Refute));
        assert_eq!(members.status(b"b"), Status::Alive);
        // The refutation is later than what it refutes.
        let ltime = members.clock.time();
        assert_eq!(ltime, 10);
        members.join_intent(b"b", at(ltime), None, NOW).unwrap();
        assert_eq!(members.leave_intent(b"b", at(9), Some(b"b"), NOW), Ok(Verdict::Old));
        // Of two that are said at one time, some hear the join first and some the leave.
        assert_eq!(members.leave_intent(b"b", at(10), Some(b"b"), NOW), Ok(Verdict::Refute));
        assert_eq!(members.leave_intent(b"b", at(10), None, NOW), Ok(Verdict::Old));
        members.leave_intent(b"b", at(11), None, NOW).unwrap();
        assert_eq!(members.status(b"b"), Status::Leaving);
    }

    /// A node that leaves and comes back announces itself at the next time; a newcomer that asks somebody who has
    /// not heard of that concludes a leave at the same time.
    #[test]
    fn what_is_concluded_counts_least() {
        for join in [in_state(6), at(6)] {
            let mut members = table(Status::Alive);
            let applied = Ok(Verdict::Applied { forced: None });
            assert_eq!(members.leave_intent(b"b", concluded(6), Some(b"a"), NOW), applied);
            assert_eq!(members.status(b"b"), Status::Leaving);
            assert_eq!(members.join_intent(b"b", join, None, NOW), applied);
            assert_eq!(members.status(b"b"), Status::Alive);
            assert_eq!(members.leave_intent(b"b", concluded(6), Some(b"a"), NOW), Ok(Verdict::Old));
            // The same for one that is no member yet.
            members.leave_intent(b"c", concluded(6), Some(b"a"), NOW).unwrap();
            members.join_intent(b"c", join, None, NOW).unwrap();
            assert!(members.appear(member("c")));
            assert_eq!(members.status(b"c"), Status::Alive);
        }
        // A state does not say that its time is that of a leave; the message does.
        let mut members = table(Status::Alive);
        members.join_intent(b"b", in_state(6), None, NOW).unwrap();
        members.leave_intent(b"b", at(6), Some(b"a"), NOW).unwrap();
        assert_eq!(members.status(b"b"), Status::Leaving);
    }

    /// It is heard of its return before the membership layer finds it. Whoever is told then that it left would take
    /// that for a later leave.
    #[test]
    fn who_has_announced_its_return_is_not_listed_as_left() {
        let mut members = table(Status::Left);
        let mut listed = Vec::new();
        members.leave_intent(b"b", at(6), Some(b"a"), NOW).unwrap();
        listed.push(members.table[&b"b"[..]].is_listed_as_left());
        members.join_intent(b"b", at(7), None, NOW).unwrap();
        listed.push(members.table[&b"b"[..]].is_listed_as_left());
        members.leave_intent(b"b", at(8), Some(b"a"), NOW).unwrap();
        listed.push(members.table[&b"b"[..]].is_listed_as_left());
        assert_eq!((members.status(b"b"), listed), (Status::Left, vec![true, false, true]));
    }

    /// Each of two nodes that know who left takes the other's time for one earlier than the leave.
    #[test]
    fn what_is_concluded_does_not_climb() {
        let mut both = [table(Status::Left), table(Status::Left)];
        let mut times = Vec::new();
        for _ in 0..6 {
            let ltime = both[0].entries().next().unwrap().status_ltime();
            both[1].leave_intent(b"b", concluded(ltime + 1), Some(b"a"), NOW).unwrap();
            times.push((ltime, both[1].clock.time()));
            both.reverse();
        }
        assert_eq!(times, [(5, 7); 6]);
    }

    #[test]
    fn this_node_answers_times_that_are_not_its_own() {
        let mut members = table(Status::Alive);
        assert_eq!(members.join_intent(b"b", at(5), Some(b"b"), NOW), Ok(Verdict::Old));
        assert_eq!(members.join_intent(b"b", at(9), Some(b"b"), NOW), Ok(Verdict::Refute));
        // The answer is later, and its echo is old.
        let ltime = members.clock.time();
        assert_eq!(ltime, 10);
        assert_eq!(members.join_intent(b"b", at(ltime), None, NOW), Ok(Verdict::Applied { forced: None }));
        assert_eq!(members.join_intent(b"b", at(ltime), Some(b"b"), NOW), Ok(Verdict::Old));
        // What is said of others is theirs to answer.
        assert_eq!(members.join_intent(b"b", at(12), Some(b"a"), NOW), Ok(Verdict::Applied { forced: None }));
    }

    #[test]
    fn what_appears_is_alive_unless_an_intent_came_before() {
        let mut members = Members::new();
        assert!(members.appear(member("a")));
        members.leave_intent(b"b", at(3), Some(b"a"), NOW).unwrap();
        assert_eq!(members.leave_intent(b"b", at(3), Some(b"a"), NOW), Ok(Verdict::Old));
        assert!(members.appear(member("b")));
        members.join_intent(b"c", at(4), None, NOW).unwrap();
        assert!(members.appear(member("c")));
        let known: Vec<_> =
            members.entries().map(|entry| (entry.member.status, entry.status_ltime())).collect();
        assert_eq!(known, [(Status::Alive, 0), (Status::Leaving, 3), (Status::Alive, 4)]);
    }

    #[test]
    fn what_vanishes_left_if_it_said_so() {
        let gone = |status| {
            let mut members = table(status);
            let event = members.vanish(b"b", NOW).map(|(kind, member)| (kind, member.status));
            (event, lists(&members))
        };
        assert_eq!(gone(Status::None), (None, (0, 0)));
        assert_eq!(gone(Status::Alive), (Some((MemberEventKind::Failed, Status::Failed)), (1, 0)));
        assert_eq!(gone(Status::Leaving), (Some((MemberEventKind::Leave, Status::Left)), (0, 1)));
        assert_eq!(gone(Status::Left), (None, (0, 1)));
        assert_eq!(gone(Status::Failed), (None, (1, 0)));
    }

    #[test]
    fn what_returns_is_alive_and_keeps_its_time() {
        for status in [Status::Alive, Status::Leaving, Status::Left, Status::Failed] {
            let mut members = table(status);
            assert!(members.appear(member("b")));
            let entry = members.entries().next().unwrap();
            assert_eq!((entry.member.status, entry.status_ltime()), (Status::Alive, 5), "{status:?}");
            assert_eq!(lists(&members), (0, 0), "{status:?}");
        }
    }

    #[test]
    fn a_change_keeps_the_status() {
        let mut members = table(Status::Failed);
        let seen = Member { port: 1, ..member("b") };
        let changed = members.change(seen).unwrap();
        assert_eq!((changed.port, changed.status), (1, Status::Failed));
        assert_eq!(members.get(b"b"), Some(&changed));
        assert_eq!(members.change(member("x")), None);
    }

    #[test]
    fn members_and_intents_expire() {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { failed: 3 * second, left: 2 * second, intents: second };
        let mut members = table(Status::Failed);
        members.appear(member("c"));
        members.leave_intent(b"c", at(9), None, NOW).unwrap();
        members.vanish(b"c", NOW);
        members.join_intent(b"x", at(9), None, NOW).unwrap();
        assert_eq!(members.first_expiry(&timeouts), Some(NOW + second));
        members.expire_intents(&timeouts, NOW + second);
        assert_eq!(members.first_expiry(&timeouts), Some(NOW + 2 * second));
        assert_eq!(members.expire_member(&timeouts, NOW + second), None);
        let expired = members.expire_member(&timeouts, NOW + 2 * second).unwrap();
        assert_eq!((&expired.name[..], members.len()), (&b"c"[..], 1));
        assert_eq!(members.expire_member(&timeouts, NOW + 2 * second), None);
        assert!(members.expire_member(&timeouts, NOW + 3 * second).is_some());
        assert_eq!((members.first_expiry(&timeouts), lists(&members)), (None, (0, 0)));
    }

    /// Forcing a failed member to leave must not prolong its memory (gossip.md 13.17).
    #[test]
    fn a_forced_leave_keeps_the_time_of_failure() {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { failed: second, left: 2 * second, intents: second };
        let mut members = table(Status::Failed);
        members.leave_intent(b"b", at(6), None, NOW + 9 * second).unwrap();
        assert_eq!(members.first_expiry(&timeouts), Some(NOW + 2 * second));
    }

    proptest! {
        /// The lists agree with the statuses after any history.
        #[test]
        fn lists_agree_with_statuses(steps in prop::collection::vec((0u8..5, 0u8..3, 1u64..9), 0..40)) {
            let mut members = Members::new();
            for (step, (action, who, ltime)) in steps.into_iter().enumerate() {
                let now = Instant::from_nanos(step as u64);
                let name = ["a", "b", "c"][usize::from(who)];
                match action {
                    0 => { members.appear(member(name)); }
                    1 => { members.vanish(name.as_bytes(), now); }
                    2 => { members.leave_intent(name.as_bytes(), at(ltime), Some(b"a"), now).unwrap(); }
                    3 => { members.join_intent(name.as_bytes(), at(ltime), None, now).unwrap(); }
                    _ => { members.erase(name.as_bytes()); }
                }
                let count = |status| members.entries().filter(|e| e.member.status == status).count();
                prop_assert_eq!(lists(&members), (count(Status::Failed), count(Status::Left)));
            }
        }
    }
}
