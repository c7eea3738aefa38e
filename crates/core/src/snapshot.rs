//! What a node knew before it was started again: the records of its snapshot file (gossip.md 15).
//!
//! Decides what each line means; when lines are written is decided by the Serf layer.

use crate::note::Note;
use crate::text::Text;
use std::net::SocketAddr;

/// What a snapshot file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// Members that were alive, in the order of their records.
    pub alive: Vec<(Text, SocketAddr)>,
    /// Members that had failed, in the order of their records.
    pub failed: Vec<(Text, SocketAddr)>,
    /// Texts that were joined once: names or addresses, for the one who can resolve them.
    pub seeds: Vec<Text>,
    /// Last member time seen; 0 for none.
    pub clock: u64,
    /// Time of the last user event that was delivered; 0 for none.
    pub event_clock: u64,
    /// Time of the last query that was delivered; 0 for none.
    pub query_clock: u64,
    /// Bytes of the file.
    pub length: u64,
    /// What was skipped, to be said at the start.
    pub oddities: Vec<Note>,
}
