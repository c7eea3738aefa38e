//! Custom events: fired by a user somewhere, delivered once everywhere (gossip.md 13.9).

use super::Serf;
use super::clock::Clock;
use super::ring::{Heard, Ring, Slot};
use crate::broadcast::SerfQueue;
use crate::command::{CommandError, Size};
use crate::cx::Cx;
use crate::limits;
use crate::member::Event;
use crate::metric::Metric;
use crate::note::Note;
use crate::text::Text;
use crate::wire::message::{SerfMessage, UserEvent};
use crate::wire::serf::encode_serf;

/// Name and payload of one event.
#[derive(Clone, Debug)]
pub(super) struct Custom {
    pub(super) name: Text,
    pub(super) payload: Option<Box<[u8]>>,
}

/// The event clock and the events of the last times.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub(super) clock: Clock,
    /// Events from before are not delivered.
    min_time: u64,
    ring: Ring<Custom>,
}

impl Events {
    pub(super) fn new() -> Events {
        Events { clock: Clock::new("event"), min_time: 0, ring: Ring::new() }
    }

    /// The events up to `ltime` were delivered before this node was started again; 0 for none.
    pub(super) fn resume_after(&mut self, ltime: u64) -> Result<(), Note> {
        self.clock.witness(ltime)?;
        if ltime > 0 {
            self.ignore_before(ltime + 1);
        }
        Ok(())
    }

    /// What was heard, in the order of the ring.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot<Custom>> {
        self.ring.slots()
    }

    /// From now on, events from before `ltime` are not delivered.
    pub(super) fn ignore_before(&mut self, ltime: u64) {
        self.min_time = self.min_time.max(ltime);
    }

    /// Whether the event is news. A note says why it must be dropped.
    fn hear(&mut self, event: &UserEvent<'_>) -> Result<bool, Note> {
        let ltime = event.ltime;
        let length = event.name.len() + event.payload.map_or(0, <[u8]>::len);
        if length > limits::USER_EVENT {
            return Err(Note::SerfMalformed { why: "an event longer than any may be".to_owned() });
        }
        self.clock.witness(ltime)?;
        if ltime < self.min_time {
            return Ok(false);
        }
        let now = self.clock.time();
        let bytes = event.payload.unwrap_or_default();
        let is_same = |known: &Custom| {
            *known.name == *event.name && *known.payload.as_deref().unwrap_or_default() == *bytes
        };
        let make = || Custom { name: event.name.into(), payload: event.payload.map(Box::from) };
        match self.ring.hear(ltime, now, length, is_same, make) {
            Heard::New => Ok(true),
            Heard::Known => Ok(false),
            Heard::TooOld => Err(Note::EventTooOld { name: event.name.into(), ltime, now }),
            Heard::Full => Err(Note::SlotFull { what: "events", ltime }),
        }
    }
}

impl Serf {
    /// Fires an event.
    pub(super) fn fire(
        &mut self,
        (name, payload, coalesce): (&Text, Option<&[u8]>, bool),
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        let (limit, room) = (self.settings.user_event_size_limit, self.settings.gossip_room);
        let parts = [("name", name.len()), ("payload", payload.map_or(0, <[u8]>::len))];
        let size = |total| Size::new(parts, total);
        let chosen = parts[0].1 + parts[1].1;
        if chosen > limit {
            return Err(CommandError::EventTooLong { limit, size: size(chosen) });
        }
        let event = UserEvent { ltime: self.events.clock.time(), name, payload, coalesce };
        let mut bytes = Vec::new();
        encode_serf(&SerfMessage::UserEvent(event.clone()), &mut bytes);
        if bytes.len() > limit {
            return Err(CommandError::EncodedEventTooLong { limit, size: size(bytes.len()) });
        }
        if bytes.len() > room {
            return Err(CommandError::FitsNoPacket { what: "user event", size: size(bytes.len()), room });
        }
        self.on_user_event(&event, Some(&bytes), cx);
        Ok(())
    }

    /// An event was heard of; `forward` is what to pass on.
    pub(super) fn on_user_event(&mut self, event: &UserEvent<'_>, forward: Option<&[u8]>, cx: &mut Cx<'_>) {
        match self.events.hear(event) {
            Ok(true) => {}
            Ok(false) => return,
            Err(note) => return cx.note(note),
        }
        cx.count(Metric::Events, 1.0);
        if let Some(bytes) = forward {
            self.spread(SerfQueue::Events, bytes, None, cx);
        }
        let UserEvent { ltime, coalesce, .. } = *event;
        self.recording.on_event(ltime, cx.now);
        let (name, payload) = (event.name.into(), event.payload.map(Box::from));
        self.delivery.deliver(Event::User { ltime, name, payload, coalesce }, cx.now, cx.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(ltime: u64, name: &'a str, payload: Option<&'a [u8]>) -> UserEvent<'a> {
        UserEvent { ltime, name: name.as_bytes(), payload, coalesce: false }
    }

    #[test]
    fn an_event_is_news_once() {
        let mut events = Events::new();
        let rows = [
            (event(3, "deploy", None), true),
            (event(3, "deploy", None), false),
            // An empty payload is none.
            (event(3, "deploy", Some(b"")), false),
            (event(3, "deploy", Some(b"1")), true),
            (event(3, "alert", None), true),
            (event(4, "deploy", None), true),
            (event(1, "deploy", None), true),
        ];
        for (event, news) in rows {
            assert_eq!(events.hear(&event), Ok(news), "{event:?}");
        }
        // Whether receivers may merge it makes no difference.
        assert_eq!(events.hear(&UserEvent { coalesce: true, ..event(4, "deploy", None) }), Ok(false));
        assert_eq!(events.clock.time(), 5);
    }

    #[test]
    fn old_events_are_dropped_and_noted() {
        let mut events = Events::new();
        assert_eq!(events.hear(&event(5000, "x", None)), Ok(true));
        let note = Note::EventTooOld { name: "x".into(), ltime: 4488, now: 5001 };
        assert_eq!(events.hear(&event(4488, "x", None)), Err(note));
        assert_eq!(events.hear(&event(4489, "x", None)), Ok(true));
    }

    #[test]
    fn oversized_events_are_refused() {
        let mut events = Events::new();
        let payload = vec![0; limits::USER_EVENT];
        assert!(matches!(events.hear(&event(3, "x", Some(&payload))), Err(Note::SerfMalformed { .. })));
        assert_eq!(events.clock.time(), 1);
        assert_eq!(events.hear(&event(3, "x", Some(&payload[1..]))), Ok(true));
    }

    #[test]
    fn a_flood_of_large_events_stays_small() {
        let mut events = Events::new();
        let payload = vec![0; limits::USER_EVENT - 1];
        for ltime in 1..=limits::EVENT_BUFFER as u64 {
            for name in 0..limits::EVENTS_PER_SLOT as u8 {
                let event = UserEvent { ltime, name: &[name], payload: Some(&payload), coalesce: false };
                assert_eq!(events.hear(&event), Ok(true));
            }
        }
        let lengths = events.slots().map(|slot| slot.items.len() * limits::USER_EVENT);
        let held: usize = lengths.sum();
        assert!(held <= limits::EVENT_BYTES && held > limits::EVENT_BYTES / 2, "{held}");
    }

    #[test]
    fn events_from_before_a_join_are_ignored() {
        let mut events = Events::new();
        events.ignore_before(7);
        events.ignore_before(5);
        assert_eq!(events.hear(&event(6, "x", None)), Ok(false));
        assert_eq!(events.hear(&event(7, "x", None)), Ok(true));
        assert_eq!(events.slots().map(|slot| slot.ltime).collect::<Vec<_>>(), [7]);
    }
}
