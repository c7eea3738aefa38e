//! Spreading news: at each tick a few random nodes get what is queued (gossip.md 10.5).
//!
//! This decides when and to whom; what goes first is the queues' business. The ticks lie on a grid with a
//! random phase, so that the nodes of a cluster do not beat in time. The invariant: a tick is due only
//! while there is something to gossip, and lies on the grid.

use super::rules::State;
use super::{Swim, flush, packet_room};
use crate::cx::Cx;
use crate::metric::Metric;
use crate::time::{Duration, Instant};

/// When the next tick is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metronome {
    phase: Instant,
    interval: Duration,
    due: Option<Instant>,
}

impl Metronome {
    pub(super) fn new(interval: Duration) -> Metronome {
        Metronome { phase: Instant::ORIGIN, interval, due: None }
    }

    /// Puts the grid there.
    pub(super) fn start(&mut self, phase: Instant) {
        self.phase = phase;
    }

    /// The tick that is waited for, if any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits for no tick.
    fn disarm(&mut self) {
        self.due = None;
    }

    /// Whether a tick is due; it is then taken.
    fn strikes(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
        }
        due
    }

    /// Waits for the next tick after `now`, unless one is waited for already.
    fn arm(&mut self, now: Instant) {
        self.due = self.due.or_else(|| Some(next_on_grid(self.phase, self.interval, now)));
    }
}

/// The first point after `now` of those that lie whole intervals after `phase`.
pub(super) fn next_on_grid(phase: Instant, interval: Duration, now: Instant) -> Instant {
    if now < phase {
        return phase;
    }
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    let passed = now.as_nanos() - phase.as_nanos();
    phase + Duration::from_nanos((passed / interval + 1).saturating_mul(interval))
}

impl Swim {
    /// Gossips if it is time, and sees to the next time.
    pub(super) fn on_gossip_tick(&mut self, cx: &mut Cx<'_>) {
        if cx.broadcasts.is_empty() || !self.has_company() {
            return self.metronome.disarm();
        }
        if self.metronome.strikes(cx.now) {
            self.gossip(cx);
            // A tick takes no time on the node's clock.
            cx.count(Metric::Gossip, 0.0);
        }
        self.metronome.arm(cx.now);
    }

    fn gossip(&mut self, cx: &mut Cx<'_>) {
        let Swim { table, deck, chosen, name, profile, .. } = self;
        let now = cx.now;
        deck.deal(table, profile.gossip_nodes, cx.rng, chosen, |entry| match entry.state {
            State::Alive | State::Suspect => entry.name != *name,
            // So that a node that was wrongly declared dead hears of it.
            State::Dead => now.since(entry.changed) <= profile.gossip_to_the_dead_time,
            State::Left => false,
        });
        for idx in &*chosen {
            cx.fill(packet_room(self.udp_buffer_size, cx.codec));
            if cx.batch.is_empty() {
                return;
            }
            let entry = table.get(*idx);
            flush(entry.socket_addr(), entry.versions.memberlist_max() >= 5, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanoseconds: u64) -> Instant {
        Instant::from_nanos(nanoseconds)
    }

    #[test]
    fn ticks_lie_on_the_grid() {
        let interval = Duration::from_nanos(10);
        for (now, next) in [(0, 3), (2, 3), (3, 13), (12, 13), (13, 23), (99, 103)] {
            assert_eq!(next_on_grid(at(3), interval, at(now)), at(next), "{now}");
        }
        assert_eq!(next_on_grid(at(3), Duration::ZERO, at(5)), at(6));
        assert_eq!(next_on_grid(at(3), Duration::MAX, Instant::NEVER), Instant::NEVER);
    }

    #[test]
    fn a_late_tick_is_taken_once_and_the_grid_stays() {
        let mut metronome = Metronome::new(Duration::from_nanos(10));
        metronome.start(at(3));
        assert!(!metronome.strikes(at(50)), "nothing is waited for");
        metronome.arm(at(50));
        metronome.arm(at(52));
        assert_eq!(metronome.due(), Some(at(53)));
        assert!(!metronome.strikes(at(52)));
        assert!(metronome.strikes(at(88)));
        assert!(!metronome.strikes(at(88)));
        metronome.arm(at(88));
        assert_eq!(metronome.due(), Some(at(93)));
    }
}
