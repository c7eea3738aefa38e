//! Subscriptions of one connection: event streams, the monitor, and records that wait (rpc.md 5).
//!
//! Invariant: what waits is bounded in records and in bytes; what does not fit is counted.

use crate::handler::EventFilter;
use crate::limits::{RPC_BACKLOG_BYTES, RPC_BACKLOG_RECORDS};
use crate::throttle::Throttle;
use std::collections::VecDeque;
use villein_core::note::Level;

/// A subscription to events.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) filter: EventFilter,
    pub(super) backlog: Backlog,
}

impl Stream {
    pub(super) fn new(filter: EventFilter) -> Stream {
        Stream { filter, backlog: Backlog::default() }
    }
}

/// A subscription to the log. The log itself is its queue.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) seq: u64,
    /// Lines below are not sent.
    pub(super) level: Level,
    /// Number of the line that is looked at next.
    pub(super) next: u64,
    pub(super) missed: Throttle,
}

/// Encoded records that wait until the client has read others.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    pub(super) dropped: Throttle,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keeps a record; gives whether there was room. One record always has room.
    pub(super) fn push(&mut self, record: Vec<u8>) -> bool {
        let full = self.records.len() >= RPC_BACKLOG_RECORDS || self.bytes + record.len() > RPC_BACKLOG_BYTES;
        if full && !self.records.is_empty() {
            return false;
        }
        self.push_always(record);
        true
    }

    /// Keeps a record that may not be lost; the caller knows that there are few of them.
    pub(super) fn push_always(&mut self, record: Vec<u8>) {
        self.bytes += record.len();
        self.records.push_back(record);
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let record = self.records.pop_front()?;
        self.bytes -= record.len();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_bounded_in_records_and_bytes() {
        let mut backlog = Backlog::default();
        assert!(backlog.push(vec![0; RPC_BACKLOG_BYTES + 1]), "a single record always fits");
        assert!(!backlog.push(vec![0]));
        assert!(backlog.pop().is_some());
        for _ in 0..RPC_BACKLOG_RECORDS {
            assert!(backlog.push(vec![0]));
        }
        assert!(!backlog.push(vec![0]));
        backlog.push_always(vec![0]);
        assert_eq!(std::iter::from_fn(|| backlog.pop()).count(), RPC_BACKLOG_RECORDS + 1);
    }
}
