//! What the parts of a node share while one input is handled.

use crate::broadcast::Broadcasts;
use crate::coordinate::Coordinates;
use crate::io::Outbox;
use crate::metric::{Metric, Metrics};
use crate::note::Note;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::serf::{Batch, Codec};

/// Lent to the layers for one call.
pub(crate) struct Cx<'a> {
    /// When the input happened.
    pub(crate) now: Instant,
    /// Chance.
    pub(crate) rng: &'a mut Rng,
    /// Where actions go.
    pub(crate) out: &'a mut Outbox,
    /// The packet layers.
    pub(crate) codec: &'a mut Codec,
    /// Memory in which a packet is put together; empty between calls.
    pub(crate) batch: &'a mut Batch,
    /// What waits to be gossiped.
    pub(crate) broadcasts: &'a mut Broadcasts,
    /// Where nodes are in the network.
    pub(crate) coordinates: &'a mut Coordinates,
    /// What is measured.
    pub(crate) metrics: &'a mut Metrics,
}

impl Cx<'_> {
    pub(crate) fn note(&mut self, note: Note) {
        self.out.note(note);
    }

    /// Lets gossip ride along in the packet that is put together, as far as there is room.
    pub(crate) fn fill(&mut self, room: usize) {
        let Cx { broadcasts, batch, metrics, now, .. } = self;
        broadcasts.fill(room, batch, |length| metrics.count(Metric::MsgsSent, length as f64, *now));
    }

    /// Takes one value of a metric in.
    pub(crate) fn count(&mut self, metric: Metric, value: f64) {
        self.metrics.count(metric, value, self.now);
    }
}
