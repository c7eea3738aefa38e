//! What the parts of a node share while one input is handled.

use crate::broadcast::Broadcasts;
use crate::coordinate::Coordinates;
use crate::io::Outbox;
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
}

impl Cx<'_> {
    pub(crate) fn note(&mut self, note: Note) {
        self.out.note(note);
    }
}
