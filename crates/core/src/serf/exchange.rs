//! What this layer adds to a full exchange: clocks, intents and recent events (gossip.md 13.13).
//!
//! A state is taken as a whole or not at all: everything that can make it impossible is looked at before
//! anything changes. The invariant: merging it moves no clock further than the clocks in it allow, however
//! many times it holds.

use super::Serf;
use super::presence::Source;
use crate::cx::Cx;
use crate::limits;
use crate::note::Note;
use crate::wire::message::{EventSlot, JoinIntent, LeaveIntent, SerfMessage, SerfState, UserEvent};
use crate::wire::serf::{decode_serf, encode_serf};
use std::collections::BTreeMap;

impl Serf {
    /// Appends what a peer is to know.
    pub(crate) fn encode_state(&self, out: &mut Vec<u8>) {
        let status_ltimes = self
            .members
            .entries()
            .map(|entry| (entry.member.name.as_bytes(), entry.status_ltime()))
            .collect();
        let left = self.members.entries().filter(|entry| entry.is_listed_as_left());
        let slots = self.events.slots().map(|slot| EventSlot {
            ltime: slot.ltime,
            events: slot
                .items
                .iter()
                .map(|event| (event.name.as_bytes(), event.payload.as_deref()))
                .collect(),
        });
        let state = SerfState {
            ltime: self.members.clock.time(),
            event_ltime: self.events.clock.time(),
            query_ltime: self.answering.clock.time(),
            status_ltimes,
            left_members: left.map(|entry| entry.member.name.as_bytes()).collect(),
            events: slots.collect(),
        };
        encode_serf(&SerfMessage::PushPull(state), out);
    }

    /// Takes what a peer knows. Nothing of it is gossiped: every node gets it by exchanges of its own.
    pub(super) fn merge_state(&mut self, bytes: &[u8], join: bool, cx: &mut Cx<'_>) {
        let mut state = match decode_serf(bytes) {
            Ok(SerfMessage::PushPull(state)) => state,
            Ok(_) => return cx.note(Note::SerfMalformed { why: "an exchange without a state".to_owned() }),
            Err(error) => return cx.note(Note::SerfMalformed { why: error.to_string() }),
        };
        if !is_sound(&state) {
            return cx
                .note(Note::SerfMalformed { why: "a state with times beyond its own clocks".to_owned() });
        }
        // A clock shows the time of the next message; the peer has seen the one before.
        let clocks = [
            (&mut self.members.clock, state.ltime.saturating_sub(1)),
            (&mut self.events.clock, state.event_ltime.saturating_sub(1)),
            (&mut self.answering.clock, state.query_ltime.saturating_sub(1)),
        ];
        if let Some(note) = clocks.iter().find_map(|(clock, seen)| clock.accepts(*seen).err()) {
            return cx.note(note);
        }
        for (clock, seen) in clocks {
            clock.witness(seen).expect("the clock has just accepted this time");
        }
        let too_long = drop_long_names(&mut state);
        if too_long > 0 {
            let why = format!("{too_long} names in a state, longer than any node's");
            cx.note(Note::SerfMalformed { why });
        }
        self.merge_intents(&state, cx);
        if join && self.joining.ignores_old() {
            self.events.ignore_before(state.event_ltime);
        }
        for EventSlot { ltime, events } in &state.events {
            for &(name, payload) in events {
                let event = UserEvent { ltime: *ltime, name, payload, coalesce: false };
                self.on_user_event(&event, None, cx);
            }
        }
    }

    fn merge_intents(&mut self, state: &SerfState<'_>, cx: &mut Cx<'_>) {
        let mut joined: BTreeMap<&[u8], u64> = state.status_ltimes.iter().copied().collect();
        for node in &state.left_members {
            // The peer's time counts as that of a join; the leave is the next step.
            let ltime = joined.remove(node).unwrap_or(0).saturating_add(1);
            self.on_leave_intent(&LeaveIntent { ltime, node, prune: false }, Source::State, cx);
        }
        for (node, ltime) in joined {
            self.on_join_intent(&JoinIntent { ltime, node }, Source::State, cx);
        }
    }
}

/// Forgets what is said of names that no node of ours can have; returns how many there were. The rest of the
/// state counts: others may have let such a node in.
fn drop_long_names(state: &mut SerfState<'_>) -> usize {
    let count = |state: &SerfState<'_>| state.status_ltimes.len() + state.left_members.len();
    let before = count(state);
    state.status_ltimes.retain(|(name, _)| name.len() <= limits::NAME);
    state.left_members.retain(|name| name.len() <= limits::NAME);
    before - count(state)
}

/// Whether all times are before the clock that comes with them, as those of every node are: a clock is past
/// everything that it has seen, and starts at 1.
fn is_sound(state: &SerfState<'_>) -> bool {
    let (members, events) = (state.ltime.max(1), state.event_ltime.max(1));
    state.status_ltimes.iter().all(|(_, ltime)| *ltime < members)
        && state.events.iter().all(|slot| slot.ltime < events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::{Broadcasts, SerfQueue};
    use crate::config::Config;
    use crate::coordinate::Coordinates;
    use crate::io::Outbox;
    use crate::member::{Member, Status, WireAddr};
    use crate::rng::Rng;
    use crate::serf::intents::{By, Said};
    use crate::serf::members::Verdict;
    use crate::time::Instant;
    use crate::wire::serf::{Batch, Codec, Settings};

    /// Node `a`, with the members `a` and `b`.
    fn serf() -> Serf {
        let config = Config::new("a".into(), WireAddr::from_ip([127, 0, 0, 1].into()), 7946);
        let mut serf = Serf::new(&config, crate::snapshot::Restored::default(), Instant::ORIGIN);
        for name in ["a", "b"] {
            let member = Member { name: name.into(), ..serf.home.clone() };
            assert!(serf.members.appear(member));
        }
        serf
    }

    /// Merges a state; returns the notes by name. No event may be gossiped because of it.
    fn merge(serf: &mut Serf, state: SerfState<'_>, join: bool) -> Vec<&'static str> {
        let mut bytes = Vec::new();
        encode_serf(&SerfMessage::PushPull(state), &mut bytes);
        merge_bytes(serf, &bytes, join)
    }

    fn merge_bytes(serf: &mut Serf, bytes: &[u8], join: bool) -> Vec<&'static str> {
        let mut out = Outbox::new();
        let mut broadcasts = Broadcasts::new(4);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut Rng::new([0; 32]),
            out: &mut out,
            codec: &mut Codec::new(Settings {
                label: Vec::new(),
                skip_inbound_label_check: false,
                keyring: None,
                verify_incoming: true,
                verify_outgoing: true,
                compression: false,
            }),
            batch: &mut Batch::default(),
            broadcasts: &mut broadcasts,
            coordinates: &mut Coordinates::new(),
            metrics: &mut crate::metric::Metrics::new(),
        };
        serf.merge_state(bytes, join, &mut cx);
        assert_eq!(broadcasts.depth(SerfQueue::Events), 0);
        let note = |action| match action {
            crate::io::Action::Note(note) => Some(note.name()),
            _ => None,
        };
        out.actions().filter_map(note).collect()
    }

    fn times(serf: &Serf) -> [u64; 3] {
        [serf.members.clock.time(), serf.events.clock.time(), serf.answering.clock.time()]
    }

    #[test]
    fn clocks_catch_up_and_do_not_overtake() {
        let mut serf = serf();
        let state = SerfState { ltime: 7, event_ltime: 0, query_ltime: 3, ..SerfState::default() };
        assert!(merge(&mut serf, state, false).is_empty());
        assert_eq!(times(&serf), [7, 1, 3]);
        // A state with one impossible clock is not merged at all.
        for (ltime, event_ltime, query_ltime) in [(u64::MAX, 9, 9), (9, u64::MAX, 9), (9, 9, u64::MAX)] {
            let state = SerfState {
                ltime,
                event_ltime,
                query_ltime,
                status_ltimes: vec![(b"b", 5)],
                left_members: vec![b"b"],
                ..SerfState::default()
            };
            assert_eq!(merge(&mut serf, state, false), ["ClockJump"]);
            assert_eq!((times(&serf), serf.members.status(b"b")), ([7, 1, 3], Status::Alive));
        }
    }

    #[test]
    fn a_state_with_times_beyond_its_clocks_is_refused() {
        let mut serf = serf();
        let slot = |ltime| EventSlot { ltime, events: vec![(&b"x"[..], None)] };
        let state = |status, event| SerfState {
            ltime: 7,
            event_ltime: 7,
            status_ltimes: vec![(&b"b"[..], status)],
            events: vec![slot(event)],
            ..SerfState::default()
        };
        for (status, event) in [(7, 3), (limits::CLOCK_JUMP, 3), (3, 7)] {
            assert_eq!(merge(&mut serf, state(status, event), false), ["SerfMalformed"]);
            assert_eq!(times(&serf), [1, 1, 1], "nothing has moved");
        }
        // Each entry is within reach of the one before; together they would use the range up.
        let names: Vec<String> = (0..1000).map(|number| format!("n{number:04}")).collect();
        let ladder = (1..).map(|step: u64| step * limits::CLOCK_JUMP);
        let status_ltimes = names.iter().map(String::as_bytes).zip(ladder).collect();
        let state_of_steps = SerfState { ltime: 7, status_ltimes, ..SerfState::default() };
        assert_eq!(merge(&mut serf, state_of_steps, false), ["SerfMalformed"]);
        assert_eq!(times(&serf), [1, 1, 1]);
        assert!(merge(&mut serf, state(6, 6), false).is_empty());
        assert_eq!(times(&serf), [7, 7, 1]);
    }

    #[test]
    fn those_who_left_are_one_step_ahead() {
        let mut serf = serf();
        let left = |ltime| SerfState {
            ltime: ltime + 1,
            status_ltimes: vec![(&b"b"[..], ltime)],
            left_members: vec![b"b"],
            ..SerfState::default()
        };
        let joined = |ltime| SerfState { left_members: Vec::new(), ..left(ltime) };
        assert!(merge(&mut serf, joined(5), false).is_empty());
        assert!(merge(&mut serf, left(4), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Alive);
        assert!(merge(&mut serf, left(5), false).is_empty());
        assert_eq!((serf.members.status(b"b"), serf.members.clock.time()), (Status::Leaving, 7));
        assert!(merge(&mut serf, joined(5), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Leaving);
        assert!(merge(&mut serf, joined(6), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Alive);
        assert!(merge(&mut serf, left(5), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Alive, "that leave was before");
        // This node has not left, whatever others think.
        let own = SerfState { left_members: vec![b"a"], ..SerfState::default() };
        assert_eq!(merge(&mut serf, own, false), ["RefutedLeave"]);
        assert_eq!(serf.members.status(b"a"), Status::Alive);
    }

    #[test]
    fn a_foreign_time_about_this_node_is_answered_once() {
        let mut serf = serf();
        let state = || SerfState { ltime: 8, status_ltimes: vec![(b"a", 7)], ..SerfState::default() };
        assert_eq!(merge(&mut serf, state(), false), ["RefutedTime"]);
        assert_eq!(serf.members.clock.time(), 9);
        assert!(merge(&mut serf, state(), false).is_empty());
        let echo = SerfState { ltime: 9, status_ltimes: vec![(b"a", 8)], ..SerfState::default() };
        assert!(merge(&mut serf, echo, false).is_empty());
        assert_eq!(serf.members.clock.time(), 9);
    }

    #[test]
    fn what_one_encodes_another_merges() {
        let mut one = serf();
        let events =
            (3..6).map(|ltime| EventSlot { ltime, events: vec![(b"deploy", None), (b"x", Some(b"1"))] });
        let state = SerfState { event_ltime: 6, events: events.collect(), ..SerfState::default() };
        assert!(merge(&mut one, state, false).is_empty());
        let mut bytes = Vec::new();
        one.encode_state(&mut bytes);
        let mut other = serf();
        assert!(merge_bytes(&mut other, &bytes, true).is_empty());
        assert_eq!(times(&other), times(&one));
        let mut again = Vec::new();
        other.encode_state(&mut again);
        assert_eq!(again, bytes);
        assert_eq!(other.events.slots().count(), 3);
    }

    #[test]
    fn names_that_no_node_can_have_are_skipped() {
        let mut serf = serf();
        let in_state = |ltime| Said { ltime, by: By::State };
        let (long, longest) = (vec![b'x'; limits::NAME + 1], vec![b'x'; limits::NAME]);
        let state = SerfState {
            ltime: 6,
            status_ltimes: vec![(&long, 5), (b"b", 5), (&longest, 5)],
            left_members: vec![&long, b"b"],
            ..SerfState::default()
        };
        assert_eq!(merge(&mut serf, state, false), ["SerfMalformed"]);
        assert_eq!(serf.members.status(b"b"), Status::Leaving);
        assert_eq!(serf.members.join_intent(&longest, in_state(1), None, Instant::ORIGIN), Ok(Verdict::Old));
        let unknown = serf.members.join_intent(&long, in_state(1), None, Instant::ORIGIN);
        assert_eq!(unknown, Ok(Verdict::Remembered));
    }

    #[test]
    fn what_is_no_state_is_noted() {
        let mut serf = serf();
        assert_eq!(merge_bytes(&mut serf, &[2, 0xc1], false), ["SerfMalformed"]);
        assert_eq!(merge_bytes(&mut serf, &[1, 0x80], false), ["SerfMalformed"]);
        let state = |ltime| SerfState {
            event_ltime: ltime + 1,
            events: vec![EventSlot { ltime, events: vec![(&b"x"[..], None)] }],
            ..SerfState::default()
        };
        assert!(merge(&mut serf, state(1 + limits::EVENT_BUFFER as u64 * 2), false).is_empty());
        assert_eq!(merge(&mut serf, state(1), false), ["EventTooOld"]);
    }
}
