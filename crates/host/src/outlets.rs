//! Where an agent's bytes go besides the network and standard output: files, sinks, standard error.
//!
//! Invariant: nothing here makes the driver wait; what takes time is done by threads, in order.

use crate::inbox::Sender;
use crate::sinks::Sinks;
use crate::snapshot::Snapshot;
use std::io;
use std::path::{Path, PathBuf};
use villein_agent::io::{SaveId, Sink, StoreOp};

/// All of them.
#[derive(Debug)]
pub struct Outlets {
    inbox: Sender,
}

impl Outlets {
    /// Starts what is wanted; answers are put into `inbox`.
    pub fn new(snapshot: Option<Snapshot>, sinks: Sinks, inbox: Sender) -> io::Result<Outlets> {
        let _ = (snapshot, sinks);
        Ok(Outlets { inbox })
    }

    /// Replaces a file.
    pub fn save(&mut self, id: SaveId, path: &Path, bytes: &[u8]) {
        let _ = (id, path, bytes, &self.inbox);
    }

    /// Does something with the snapshot file.
    pub fn store(&mut self, op: StoreOp<'_>) {
        let _ = op;
    }

    /// Reads configuration files.
    pub fn read_config(&mut self, paths: &[PathBuf]) {
        let _ = paths;
    }

    /// Gives bytes to a sink.
    pub fn report(&mut self, sink: Sink, bytes: &[u8]) {
        let _ = (sink, bytes);
    }

    /// Writes to standard error.
    pub fn print_error(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// Waits until everything is where it belongs, for a bounded time.
    pub fn finish(&mut self) {}
}
