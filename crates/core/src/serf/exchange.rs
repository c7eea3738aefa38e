//! What this layer adds to a full exchange: clocks, intents and recent events (gossip.md 13.13).

use super::Serf;
use crate::cx::Cx;
use crate::note::Note;
use crate::text::Text;
use crate::wire::message::{EventSlot, JoinIntent, LeaveIntent, SerfMessage, SerfState, UserEvent};
use crate::wire::serf::{decode_serf, encode_serf};
use std::collections::BTreeMap;

impl Serf {
    /// Appends what a peer is to know.
    pub(crate) fn encode_state(&self, out: &mut Vec<u8>) {
        let status_ltimes =
            self.members.entries().map(|entry| (entry.member.name.as_bytes(), entry.status_ltime)).collect();
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
            left_members: self.members.left().map(Text::as_bytes).collect(),
            events: slots.collect(),
        };
        encode_serf(&SerfMessage::PushPull(state), out);
    }

    /// Takes what a peer knows. Nothing of it is gossiped: every node gets it by exchanges of its own.
    pub(super) fn merge_state(&mut self, bytes: &[u8], join: bool, cx: &mut Cx<'_>) {
        let state = match decode_serf(bytes) {
            Ok(SerfMessage::PushPull(state)) => state,
            Ok(_) => return cx.note(Note::SerfMalformed { why: "an exchange without a state".to_owned() }),
            Err(error) => return cx.note(Note::SerfMalformed { why: error.to_string() }),
        };
        let clocks = [
            (&mut self.members.clock, state.ltime),
            (&mut self.events.clock, state.event_ltime),
            (&mut self.answering.clock, state.query_ltime),
        ];
        for (clock, time) in clocks {
            // A clock shows the time of the next message; the peer has seen the one before.
            if let Some(seen) = time.checked_sub(1)
                && let Err(note) = clock.witness(seen)
            {
                return cx.note(note);
            }
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
            self.on_leave_intent(&LeaveIntent { ltime, node, prune: false }, None, cx);
        }
        for (node, ltime) in joined {
            self.on_join_intent(&JoinIntent { ltime, node }, None, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::{Broadcasts, SerfQueue};
    use crate::config::Config;
    use crate::coordinate::Coordinates;
    use crate::io::Outbox;
    use crate::limits;
    use crate::member::{Member, Status, WireAddr};
    use crate::rng::Rng;
    use crate::time::Instant;
    use crate::wire::serf::{Batch, Codec, Settings};

    /// Node `a`, with the members `a` and `b`.
    fn serf() -> Serf {
        let config = Config::new("a".into(), WireAddr::from_ip([127, 0, 0, 1].into()), 7946);
        let mut serf = Serf::new(&config, Instant::ORIGIN);
        for name in ["a", "b"] {
            let member = Member { name: name.into(), ..serf.home.clone() };
            assert!(serf.members.appear(member));
        }
        serf
    }

    /// Merges a state; returns the notes by name. Nothing may be gossiped because of it but intents.
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
                keyring: None,
                verify_incoming: true,
                verify_outgoing: true,
                compression: false,
            }),
            batch: &mut Batch::default(),
            broadcasts: &mut broadcasts,
            coordinates: &mut Coordinates::new(),
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
        // A state with an impossible clock is not merged at all.
        let state = SerfState {
            ltime: u64::MAX,
            status_ltimes: vec![(b"b", 5)],
            left_members: vec![b"b"],
            ..SerfState::default()
        };
        assert_eq!(merge(&mut serf, state, false), ["ClockJump"]);
        assert_eq!((times(&serf), serf.members.status(b"b")), ([7, 1, 3], Status::Alive));
    }

    #[test]
    fn those_who_left_are_one_step_ahead() {
        let mut serf = serf();
        let left = |ltime| SerfState {
            status_ltimes: vec![(&b"b"[..], ltime)],
            left_members: vec![b"b"],
            ..SerfState::default()
        };
        let joined = |ltime| SerfState { status_ltimes: vec![(&b"b"[..], ltime)], ..SerfState::default() };
        assert!(merge(&mut serf, joined(5), false).is_empty());
        assert!(merge(&mut serf, left(4), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Alive);
        assert!(merge(&mut serf, left(5), false).is_empty());
        assert_eq!((serf.members.status(b"b"), serf.members.clock.time()), (Status::Leaving, 7));
        assert!(merge(&mut serf, joined(6), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Leaving);
        assert!(merge(&mut serf, joined(7), false).is_empty());
        assert_eq!(serf.members.status(b"b"), Status::Alive);
        // This node has not left, whatever others think.
        let own = SerfState { left_members: vec![b"a"], ..SerfState::default() };
        assert_eq!(merge(&mut serf, own, false), ["RefutedLeave"]);
        assert_eq!(serf.members.status(b"a"), Status::Alive);
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
    fn what_is_no_state_is_noted() {
        let mut serf = serf();
        assert_eq!(merge_bytes(&mut serf, &[2, 0xc1], false), ["SerfMalformed"]);
        assert_eq!(merge_bytes(&mut serf, &[1, 0x80], false), ["SerfMalformed"]);
        let slots = |ltime| vec![EventSlot { ltime, events: vec![(&b"x"[..], None)] }];
        let state = SerfState { events: slots(1 + limits::EVENT_BUFFER as u64 * 2), ..SerfState::default() };
        assert!(merge(&mut serf, state, false).is_empty());
        let state = SerfState { events: slots(1), ..SerfState::default() };
        assert_eq!(merge(&mut serf, state, false), ["EventTooOld"]);
    }
}
