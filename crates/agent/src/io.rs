//! What goes into an agent and what comes out of it.
//!
//! The words are those of the core, one level up: an [`Input`] is one thing that happened, with all its
//! bytes in it; the [`Outbox`] holds what must be done, in order. Nothing else connects an agent with the
//! world, so a recording of its inputs replays it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use villein_core::io::{StoreOp, StreamId};
use villein_core::mdns::Via;
use villein_core::time::{Duration, Instant};

/// What the clocks show; handed in with every input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// For everything that is measured or awaited.
    pub now: Instant,
    /// Seconds since 1970-01-01 00:00 UTC, for people.
    pub unix_seconds: i64,
    /// Local time is this many seconds ahead of UTC, for people.
    pub offset_seconds: i32,
}

/// A UDP socket of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// The one that gossips.
    Gossip,
    /// One of those of multicast discovery.
    Mdns(Via),
}

/// A TCP connection of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conn {
    /// On the gossip port, or dialled to one.
    Gossip(StreamId),
    /// Accepted on the RPC port; numbered by the driver, never reused.
    Rpc(u64),
}

/// What can happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConnEvent<'a> {
    /// The driver accepted it: the first event of an accepted connection.
    Accepted {
        /// The peer.
        from: SocketAddr,
    },
    /// A dialled connection is there.
    Connected,
    /// Bytes arrived, in order.
    Data(&'a [u8]),
    /// The peer has finished writing (FIN); writing is still possible.
    End,
    /// Everything written so far has been handed to the operating system. Comes once after one or more
    /// writes; on RPC connections only.
    Drained,
    /// It could not be made, or broke: the operating system's words, in lower case. The last event.
    Failed(&'a str),
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConnOp<'a> {
    /// Open it (gossip only).
    Connect {
        /// Where to.
        to: SocketAddr,
    },
    /// Send these bytes after all earlier ones.
    Write(&'a [u8]),
    /// Take no more from it until [`Resume`](ConnOp::Resume): at most one more piece of data comes, and its
    /// end only after that.
    Pause,
    /// Take from it again.
    Resume,
    /// Deliver what was written, then drop the connection. No more events come for it.
    Close,
    /// Drop the connection now. No more events come for it.
    Abort,
}

/// Names a child process; chosen by the agent, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// Names a name resolution; chosen by the agent, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub u64);

/// Names a file that is being saved; chosen by the agent, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaveId(pub u64);

/// What is looked up of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lookup {
    /// Its addresses (A and AAAA).
    Host,
    /// The addresses and ports of the hosts that offer a service (SRV, RFC 2782).
    Service,
}

/// Somebody outside the cluster who is told things and never answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// Metrics, as datagrams.
    Statsd,
    /// Metrics, as a stream.
    Statsite,
    /// Lines of the log, as datagrams.
    Syslog,
    /// How the agent fares, as datagrams; [`Action::Notify`] is for it alone.
    ServiceManager,
}

/// How this process fares, for the service manager that started it (`sd_notify(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It has started, or has read its configuration again.
    Ready,
    /// It begins to read its configuration again.
    Reloading,
    /// It begins to end.
    Stopping {
        /// Whether it leaves the cluster first.
        leaves: bool,
    },
    /// Its end is to be waited for at least so long from now.
    Patience(Duration),
    /// The members that it knows.
    Members {
        /// That are there, with itself.
        alive: usize,
        /// That failed.
        failed: usize,
    },
    /// It works.
    Watchdog,
}

/// How a child's process group is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kill {
    /// SIGTERM.
    Politely,
    /// SIGKILL.
    AtOnce,
}

/// What stands in a file, and may be secret: `Debug` shows only how long it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Contents<'a>(pub &'a [u8]);

impl fmt::Debug for Contents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A configuration file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// As messages show it.
    pub path: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigFile { path, bytes } = self;
        f.debug_struct("ConfigFile").field("path", path).field("bytes", &Contents(bytes)).finish()
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
    /// It was never started: the operating system's words.
    NotStarted(String),
}

/// Signals that the agent acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The sockets are bound and the driver runs: always the first input.
    Started,
    /// The deadline is there (or may be).
    Tick,
    /// A datagram arrived.
    Datagram {
        /// Where.
        socket: Socket,
        /// Its source.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// A datagram could not be sent: the operating system's words.
    SendFailed {
        /// From where.
        socket: Socket,
        /// Where to.
        to: SocketAddr,
        /// Why.
        why: &'a str,
    },
    /// Something happened to a connection.
    Conn {
        /// Which one.
        conn: Conn,
        /// What.
        event: ConnEvent<'a>,
    },
    /// A name was resolved, or not.
    Resolved {
        /// Which request.
        id: ResolveId,
        /// Every address of the name, never empty; or why there is none.
        result: Result<&'a [SocketAddr], &'a str>,
    },
    /// A child ended (or could not start). Comes exactly once per child.
    ChildExited {
        /// Which one.
        id: ChildId,
        /// How.
        status: ChildStatus,
        /// The last bytes that it wrote to stdout and stderr, at most [`CHILD_OUTPUT`] of them.
        output: &'a [u8],
        /// How many bytes it wrote in all.
        output_total: u64,
    },
    /// A signal arrived.
    Signal(Signal),
    /// A file was saved, or not. Comes exactly once per [`Action::Save`].
    Saved {
        /// Which one.
        id: SaveId,
        /// The operating system's words with the path, as in `open PATH: permission denied`.
        result: Result<(), &'a str>,
    },
    /// The snapshot could not be written; the answer to an [`Action::Store`] that failed.
    StoreFailed {
        /// The operating system's words.
        why: &'a str,
    },
    /// The configuration files were read again, or the message for the operator that says why not. Comes exactly
    /// once per [`Action::ReadConfig`].
    ConfigRead(Result<&'a [ConfigFile], &'a str>),
    /// What was given to a sink did not reach it.
    SinkFailed {
        /// Which one.
        sink: Sink,
        /// The operating system's words.
        why: &'a str,
    },
    /// So many datagrams since the last such input were dropped, because more came than were taken.
    Overflow {
        /// How many.
        datagrams: u64,
    },
}

/// How many of the last bytes of a child's output are kept (agent.md 7).
pub const CHILD_OUTPUT: usize = 8192;

/// A child to start: `/bin/sh -c command` with the agent's own environment less `unset` plus `env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// For the shell.
    pub command: Vec<u8>,
    /// Variables to set: name and value.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Inherited variables to remove first.
    pub unset: Vec<Vec<u8>>,
    /// What it reads before end of file; all handlers of an event share it.
    pub stdin: Arc<[u8]>,
    /// Whether it leads a process group of its own, which [`Action::Kill`] can end.
    pub own_group: bool,
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub enum Action<'a> {
    /// Send a datagram.
    Send {
        /// From where.
        socket: Socket,
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Do something with a connection.
    Conn {
        /// Which one.
        conn: Conn,
        /// What.
        op: ConnOp<'a>,
    },
    /// Resolve a host name or address text; the answer is [`Input::Resolved`].
    Resolve {
        /// Comes back with the answer.
        id: ResolveId,
        /// Name or address, without brackets.
        host: &'a str,
        /// Goes into the answer; of a service, for hosts whose record says 0.
        port: u16,
        /// What is looked up.
        lookup: Lookup,
    },
    /// Start a child; the answer is [`Input::ChildExited`].
    Spawn {
        /// Comes back with the answer.
        id: ChildId,
        /// What to start.
        spawn: &'a Spawn,
    },
    /// Tell the process group of a child to end. One that has ended already, or has no group of its own, is left
    /// alone.
    Kill {
        /// Which child.
        id: ChildId,
        /// How.
        how: Kill,
    },
    /// Replace a file by one with these bytes, at once and for good; a new one is for its owner only (0600). The
    /// answer is [`Input::Saved`].
    Save {
        /// Comes back with the answer.
        id: SaveId,
        /// Where.
        path: &'a Path,
        /// All of it.
        bytes: Contents<'a>,
    },
    /// Do something with the snapshot file. A failure comes back as [`Input::StoreFailed`].
    Store(StoreOp<'a>),
    /// Read these configuration files, and those in these directories; the answer is [`Input::ConfigRead`].
    ReadConfig(&'a [PathBuf]),
    /// Give these bytes to a sink: one packet, or a piece of its stream.
    Report {
        /// Whom.
        sink: Sink,
        /// What.
        bytes: &'a [u8],
    },
    /// Tell the service manager all of this at once.
    Notify(&'a [ServiceState]),
    /// Write these bytes to standard output.
    Print(&'a [u8]),
    /// Write these bytes to standard error.
    PrintError(&'a [u8]),
    /// End the process with this status, after everything before has been done.
    Exit(u8),
}

/// Actions, and the memory that they live in.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    Send(Socket, SocketAddr, Range<usize>),
    Connect(Conn, SocketAddr),
    Write(Conn, Range<usize>),
    Pause(Conn),
    Resume(Conn),
    Close(Conn),
    Abort(Conn),
    Resolve(ResolveId, String, u16, Lookup),
    Spawn(ChildId, Spawn),
    Kill(ChildId, Kill),
    Save(SaveId, PathBuf, Range<usize>),
    Append(Range<usize>),
    Replace(Range<usize>),
    Sync,
    ReadConfig(Vec<PathBuf>),
    Report(Sink, Range<usize>),
    Notify(Vec<ServiceState>),
    PrintError(Range<usize>),
    Print(Range<usize>),
    Exit(u8),
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// What is to be done, in order.
    pub fn actions(&self) -> impl Iterator<Item = Action<'_>> {
        self.entries.iter().map(|entry| {
            let on = |conn: &Conn, op| Action::Conn { conn: *conn, op };
            match entry {
                Entry::Send(socket, to, range) => {
                    Action::Send { socket: *socket, to: *to, bytes: &self.bytes[range.clone()] }
                }
                Entry::Connect(conn, to) => on(conn, ConnOp::Connect { to: *to }),
                Entry::Write(conn, range) => on(conn, ConnOp::Write(&self.bytes[range.clone()])),
                Entry::Pause(conn) => on(conn, ConnOp::Pause),
                Entry::Resume(conn) => on(conn, ConnOp::Resume),
                Entry::Close(conn) => on(conn, ConnOp::Close),
                Entry::Abort(conn) => on(conn, ConnOp::Abort),
                Entry::Resolve(id, host, port, lookup) => {
                    Action::Resolve { id: *id, host, port: *port, lookup: *lookup }
                }
                Entry::Kill(id, how) => Action::Kill { id: *id, how: *how },
                Entry::Save(id, path, range) => {
                    Action::Save { id: *id, path, bytes: Contents(&self.bytes[range.clone()]) }
                }
                Entry::Append(range) => Action::Store(StoreOp::Append(&self.bytes[range.clone()])),
                Entry::Replace(range) => Action::Store(StoreOp::Replace(&self.bytes[range.clone()])),
                Entry::Sync => Action::Store(StoreOp::Sync),
                Entry::ReadConfig(paths) => Action::ReadConfig(paths),
                Entry::Report(sink, range) => {
                    Action::Report { sink: *sink, bytes: &self.bytes[range.clone()] }
                }
                Entry::Notify(states) => Action::Notify(states),
                Entry::PrintError(range) => Action::PrintError(&self.bytes[range.clone()]),
                Entry::Spawn(id, spawn) => Action::Spawn { id: *id, spawn },
                Entry::Print(range) => Action::Print(&self.bytes[range.clone()]),
                Entry::Exit(status) => Action::Exit(*status),
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
    }

    pub(crate) fn send(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::Send(socket, to, range));
    }

    pub(crate) fn connect(&mut self, conn: Conn, to: SocketAddr) {
        self.entries.push(Entry::Connect(conn, to));
    }

    pub(crate) fn write(&mut self, conn: Conn, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::Write(conn, range));
    }

    pub(crate) fn pause(&mut self, conn: Conn) {
        self.entries.push(Entry::Pause(conn));
    }

    pub(crate) fn resume(&mut self, conn: Conn) {
        self.entries.push(Entry::Resume(conn));
    }

    pub(crate) fn close(&mut self, conn: Conn) {
        self.entries.push(Entry::Close(conn));
    }

    pub(crate) fn abort(&mut self, conn: Conn) {
        self.entries.push(Entry::Abort(conn));
    }

    pub(crate) fn resolve(&mut self, id: ResolveId, host: String, port: u16, lookup: Lookup) {
        self.entries.push(Entry::Resolve(id, host, port, lookup));
    }

    pub(crate) fn kill(&mut self, id: ChildId, how: Kill) {
        self.entries.push(Entry::Kill(id, how));
    }

    pub(crate) fn save(&mut self, id: SaveId, path: PathBuf, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::Save(id, path, range));
    }

    pub(crate) fn store(&mut self, op: StoreOp<'_>) {
        let entry = match op {
            StoreOp::Append(lines) => Entry::Append(self.keep(lines)),
            StoreOp::Replace(lines) => Entry::Replace(self.keep(lines)),
            StoreOp::Sync => Entry::Sync,
        };
        self.entries.push(entry);
    }

    pub(crate) fn read_config(&mut self, paths: Vec<PathBuf>) {
        self.entries.push(Entry::ReadConfig(paths));
    }

    pub(crate) fn report(&mut self, sink: Sink, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::Report(sink, range));
    }

    pub(crate) fn notify(&mut self, states: Vec<ServiceState>) {
        self.entries.push(Entry::Notify(states));
    }

    pub(crate) fn print_error(&mut self, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::PrintError(range));
    }

    pub(crate) fn spawn(&mut self, id: ChildId, spawn: Spawn) {
        self.entries.push(Entry::Spawn(id, spawn));
    }

    pub(crate) fn print(&mut self, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.entries.push(Entry::Print(range));
    }

    pub(crate) fn exit(&mut self, status: u8) {
        self.entries.push(Entry::Exit(status));
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

/// Shows the actions and not the memory, where the bytes of files stand like all others.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.actions()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_files_are_not_shown() {
        let mut out = Outbox::new();
        out.save(SaveId(1), "keys.json".into(), b"sekret");
        let file = ConfigFile { path: "c.json".to_owned(), bytes: b"sekret".to_vec() };
        let shown = format!("{out:?} {:?}", Input::ConfigRead(Ok(&[file])));
        let wanted = "[Save { id: SaveId(1), path: \"keys.json\", bytes: 6 bytes }] \
                      ConfigRead(Ok([ConfigFile { path: \"c.json\", bytes: 6 bytes }]))";
        assert_eq!(shown, wanted);
    }
}
