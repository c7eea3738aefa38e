//! Subscriptions of one connection: event streams, the monitor, and records that wait (rpc.md 5).
//!
//! Invariant: what waits is bounded in records for a subscription, and in bytes for a connection and for
//! all of them; what does not fit is counted.

use crate::handler::EventFilter;
use crate::limits::RPC_BACKLOG_RECORDS;
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

/// How many bytes of records may still be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// For one connection.
    pub(super) connection: usize,
    /// For all.
    pub(super) all: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.connection.min(self.all);
        if fits {
            self.connection -= bytes;
            self.all -= bytes;
        }
        fits
    }
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

    /// Bytes of the records that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a record; gives whether there was room.
    pub(super) fn push(&mut self, record: Vec<u8>, room: &mut Room) -> bool {
        let fits = self.records.len() < RPC_BACKLOG_RECORDS && room.take(record.len());
        if fits {
            self.push_always(record);
        }
        fits
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
        let (mut one, mut other) = (Backlog::default(), Backlog::default());
        let mut room = Room { connection: 10, all: 100 };
        assert!(one.push(vec![0; 6], &mut room));
        assert!(!other.push(vec![0; 5], &mut room), "subscriptions of a connection share");
        assert!(other.push(vec![0; 4], &mut room));
        assert!(!one.push(vec![0], &mut Room { connection: 10, all: 0 }), "and so do connections");
        assert_eq!((room.connection, room.all, one.bytes(), other.bytes()), (0, 90, 6, 4));

        let mut room = Room { connection: usize::MAX, all: usize::MAX };
        for _ in 1..RPC_BACKLOG_RECORDS {
            assert!(one.push(vec![0], &mut room));
        }
        assert!(!one.push(vec![0], &mut room));
        one.push_always(vec![0]);
        assert_eq!(std::iter::from_fn(|| one.pop()).count(), RPC_BACKLOG_RECORDS + 1);
        assert_eq!(one.bytes(), 0);
    }
}
