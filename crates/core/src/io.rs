//! What goes into a node and what comes out of it.
//!
//! The driver gives one [`Input`] at a time together with an [`Outbox`], performs the actions that are
//! then in the outbox in their order, clears it, and gives the next input. An outbox keeps its memory,
//! so that a steady node allocates nothing for a packet.

use crate::command::{Command, CommandId, Reply};
use crate::limits;
use crate::member::Event;
use crate::note::{Level, Note};
use std::net::SocketAddr;
use std::ops::Range;

/// Names a stream (TCP connection) between a driver and what it drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The `number`th stream that the node itself opened.
    pub const fn dialed(number: u64) -> StreamId {
        StreamId(number << 1)
    }

    /// The `number`th stream that the driver accepted.
    pub const fn accepted(number: u64) -> StreamId {
        StreamId(number << 1 | 1)
    }

    /// Whether the node opened it.
    pub const fn is_dialed(self) -> bool {
        self.0 & 1 == 0
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The deadline is there (or may be).
    Tick,
    /// A datagram arrived on the gossip socket.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Something happened to a stream on the gossip port.
    Stream {
        /// Which one.
        id: StreamId,
        /// What.
        event: StreamEvent<'a>,
    },
    /// The operator's side wants something.
    Command {
        /// Comes back with the reply.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// Something that was to be stored was not: the operating system's words. The file may end in the middle
    /// of a line.
    StoreFailed {
        /// Why.
        why: &'a str,
    },
}

/// What can happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamEvent<'a> {
    /// The driver accepted it: the first event of an accepted stream.
    Accepted {
        /// The peer.
        from: SocketAddr,
    },
    /// A dialled stream is connected.
    Connected,
    /// Bytes arrived, in order.
    Data(&'a [u8]),
    /// The peer has finished writing (FIN); writing is still possible.
    End,
    /// It could not be connected, or broke: the operating system's words. The last event of the stream.
    Failed(&'a str),
}

/// What to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StreamOp<'a> {
    /// Open a connection; the first operation on a dialled stream.
    Connect {
        /// Where to.
        to: SocketAddr,
    },
    /// Send these bytes after all earlier ones.
    Write(&'a [u8]),
    /// Deliver what was written, then drop the stream. No more events come for it.
    Close,
    /// Drop the stream now. No more events come for it.
    Abort,
}

/// What to do with the snapshot file (gossip.md 15). In order; a failure comes back as [`Input::StoreFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOp<'a> {
    /// Add these whole lines at the end.
    Append(&'a [u8]),
    /// From now on the file holds these whole lines and nothing else; whoever reads it at any time, also after a
    /// crash, finds the old contents or the new ones.
    Replace(&'a [u8]),
    /// Make sure that what was written so far outlasts a loss of power.
    Sync,
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub enum Action<'a> {
    /// Send a datagram from the gossip socket.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Do something with a stream on the gossip port.
    Stream {
        /// Which one.
        id: StreamId,
        /// What.
        op: StreamOp<'a>,
    },
    /// Do something with the snapshot file.
    Store(StoreOp<'a>),
    /// A command is answered.
    Reply {
        /// Which one.
        id: CommandId,
        /// How.
        reply: &'a Reply,
    },
    /// The application is told something.
    Event(&'a Event),
    /// Something is worth saying.
    Note(&'a Note),
}

/// Actions, and the memory that they live in.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// How many warnings of each kind the present input caused.
    warnings: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
enum Entry {
    Send(SocketAddr, Range<usize>),
    Connect(StreamId, SocketAddr),
    Write(StreamId, Range<usize>),
    Close(StreamId),
    Abort(StreamId),
    Append(Range<usize>),
    Replace(Range<usize>),
    Sync,
    Reply(CommandId, Reply),
    Event(Event),
    Note(Note),
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// What is to be done, in order.
    pub fn actions(&self) -> impl Iterator<Item = Action<'_>> {
        self.entries.iter().map(|entry| {
            let stream = |id: &StreamId, op| Action::Stream { id: *id, op };
            match entry {
                Entry::Send(to, range) => Action::Send { to: *to, bytes: &self.bytes[range.clone()] },
                Entry::Connect(id, to) => stream(id, StreamOp::Connect { to: *to }),
                Entry::Write(id, range) => stream(id, StreamOp::Write(&self.bytes[range.clone()])),
                Entry::Close(id) => stream(id, StreamOp::Close),
                Entry::Abort(id) => stream(id, StreamOp::Abort),
                Entry::Append(range) => Action::Store(StoreOp::Append(&self.bytes[range.clone()])),
                Entry::Replace(range) => Action::Store(StoreOp::Replace(&self.bytes[range.clone()])),
                Entry::Sync => Action::Store(StoreOp::Sync),
                Entry::Reply(id, reply) => Action::Reply { id: *id, reply },
                Entry::Event(event) => Action::Event(event),
                Entry::Note(note) => Action::Note(note),
            }
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all actions and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.warnings.clear();
    }

    /// Appends a datagram that `write` puts together; an empty one is not sent. Returns its length.
    pub(crate) fn send(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() > start {
            self.entries.push(Entry::Send(to, start..self.bytes.len()));
        }
        self.bytes.len() - start
    }

    pub(crate) fn connect(&mut self, id: StreamId, to: SocketAddr) {
        self.entries.push(Entry::Connect(id, to));
    }

    /// Appends stream bytes that `write` puts together. Returns their number.
    pub(crate) fn write(&mut self, id: StreamId, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.entries.push(Entry::Write(id, start..self.bytes.len()));
        self.bytes.len() - start
    }

    pub(crate) fn close(&mut self, id: StreamId) {
        self.entries.push(Entry::Close(id));
    }

    pub(crate) fn abort(&mut self, id: StreamId) {
        self.entries.push(Entry::Abort(id));
    }

    pub(crate) fn store(&mut self, op: StoreOp<'_>) {
        let start = self.bytes.len();
        let entry = match op {
            StoreOp::Append(lines) => {
                self.bytes.extend_from_slice(lines);
                Entry::Append(start..self.bytes.len())
            }
            StoreOp::Replace(lines) => {
                self.bytes.extend_from_slice(lines);
                Entry::Replace(start..self.bytes.len())
            }
            StoreOp::Sync => Entry::Sync,
        };
        self.entries.push(entry);
    }

    pub(crate) fn reply(&mut self, id: CommandId, reply: Reply) {
        self.entries.push(Entry::Reply(id, reply));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.entries.push(Entry::Event(event));
    }

    /// Appends a note. One input can be odd in a hundred thousand places; of warnings of one kind the first ones
    /// are kept, and the rest is counted.
    pub(crate) fn note(&mut self, note: Note) {
        if note.level() < Level::Warn || self.count_warning(note.name()) <= limits::WARNINGS_ALIKE {
            self.entries.push(Entry::Note(note));
        }
    }

    /// The input has been handled: says how many warnings were not kept.
    pub(crate) fn end_input(&mut self) {
        for (name, count) in self.warnings.drain(..) {
            if count > limits::WARNINGS_ALIKE {
                let count = count - limits::WARNINGS_ALIKE;
                self.entries.push(Entry::Note(Note::MoreAlike { name, count }));
            }
        }
    }

    /// The number of this warning among those of its kind.
    fn count_warning(&mut self, name: &'static str) -> usize {
        let place = self.warnings.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.warnings.push((name, 0));
            self.warnings.len() - 1
        });
        self.warnings[place].1 += 1;
        self.warnings[place].1
    }
}
