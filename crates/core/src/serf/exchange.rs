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
