//! Finding the cluster again after a restart: the nodes of the snapshot are tried in the background
//! (gossip.md 13.14, 15.4).
//!
//! First one by one in random order, those that were alive before those that had failed; when nobody answered,
//! a few at a time once in a reconnect interval, for as long as this node is alone. Who answers is joined like
//! a failed member: without an intent, and with the events that were missed. The invariant: either somebody is
//! being tried, or there is a deadline, or it is over.

use super::{Due, Serf};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::limits;
use crate::note::Note;
use crate::rng::Rng;
use crate::snapshot::Restored;
use crate::swim::{Notice, Purpose, Swim};
use crate::text::Text;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A node and where it was.
type Place = (Text, SocketAddr);

/// Whom the snapshot knows.
#[derive(Clone, Debug)]
pub(super) struct Rejoining {
    alive: Vec<Place>,
    failed: Vec<Place>,
    /// In the order in which they are tried: all of them, less those that are being tried.
    waiting: VecDeque<Place>,
    trying: Vec<Place>,
    /// How many of them have not been tried at all.
    untried: usize,
    /// Nobody has been tried twice.
    is_first_round: bool,
}

impl Rejoining {
    /// Everybody that the snapshot names, but for this node itself, whatever it was called.
    pub(super) fn new(restored: &Restored, name: &Text, addr: SocketAddr) -> Rejoining {
        let others = |places: &[Place]| -> Vec<Place> {
            places.iter().filter(|(known, at)| known != name && *at != addr).cloned().collect()
        };
        Rejoining {
            alive: others(&restored.alive),
            failed: others(&restored.failed),
            waiting: VecDeque::new(),
            trying: Vec::new(),
            untried: 0,
            is_first_round: true,
        }
    }

    /// Whether there is somebody to try.
    pub(super) fn is_wanted(&self) -> bool {
        !(self.alive.is_empty() && self.failed.is_empty())
    }

    /// Who is to be tried now.
    fn next(&mut self, rng: &mut Rng) -> impl Iterator<Item = &Place> {
        for mut places in [std::mem::take(&mut self.alive), std::mem::take(&mut self.failed)] {
            rng.shuffle(&mut places);
            self.untried += places.len();
            self.waiting.extend(places);
        }
        let count = if self.is_first_round { 1 } else { limits::REJOINS_AT_ONCE };
        let count = count.min(self.waiting.len());
        self.untried = self.untried.saturating_sub(count);
        self.trying.extend(self.waiting.drain(..count));
        self.trying.iter()
    }

    /// Somebody who was tried has answered or not.
    fn end_one(&mut self, to: SocketAddr) -> Option<Place> {
        let place = self.trying.iter().position(|(_, addr)| *addr == to)?;
        Some(self.trying.remove(place))
    }

    /// Somebody is there, or this node is leaving.
    fn stop(&mut self) {
        for places in [&mut self.alive, &mut self.failed, &mut self.trying] {
            places.clear();
        }
        self.waiting.clear();
        self.untried = 0;
    }
}

impl Serf {
    /// Tries the next nodes of the snapshot, if this node is still alone.
    pub(super) fn rejoin(&mut self, swim: &mut Swim, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        if !self.leaving.is_here() || swim.others_live() {
            return self.rejoining.stop();
        }
        let is_first_round = self.rejoining.is_first_round;
        let chosen: Vec<Place> = self.rejoining.next(cx.rng).cloned().collect();
        if !is_first_round {
            cx.note(Note::RejoiningAgain { count: chosen.len() });
        }
        for (name, addr) in chosen {
            if is_first_round {
                cx.note(Note::Rejoining { name, addr });
            }
            swim.exchange(addr, Purpose::Rejoin, notices, cx);
        }
    }

    /// Somebody answered, or did not. The next one is tried with the next tick.
    pub(super) fn on_rejoin_exchange(
        &mut self,
        to: SocketAddr,
        result: Result<(), ExchangeError>,
        cx: &mut Cx<'_>,
    ) {
        let Some((name, addr)) = self.rejoining.end_one(to) else { return };
        let Err(why) = result else {
            cx.note(Note::Rejoined { name, addr });
            return self.rejoining.stop();
        };
        cx.note(Note::RejoinRefused { addr, why });
        self.rejoining.waiting.push_back((name, addr));
        if !self.rejoining.trying.is_empty() {
            return;
        }
        if self.rejoining.untried > 0 {
            return self.timers.set(Due::Rejoin, cx.now);
        }
        if std::mem::replace(&mut self.rejoining.is_first_round, false) {
            cx.note(Note::RejoinFailed);
        }
        self.timers.set(Due::Rejoin, cx.now + self.settings.reconnect_interval);
    }
}
