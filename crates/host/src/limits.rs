//! Every bound of the crate and of its runtimes, with the reason for the number.

use std::time::Duration;

/// Arrivals that wait in the inbox, other than datagrams: two of every connection there may be.
pub const INBOX: usize = 1024;

/// Datagrams that wait in the inbox: some milliseconds of work.
pub const INBOX_DATAGRAMS: usize = 768;

/// Bytes of datagrams that wait in the inbox: [`INBOX_DATAGRAMS`] of usual size, and few enough of the
/// largest size.
pub const INBOX_DATAGRAM_BYTES: usize = 4 << 20;

/// Buffers kept for reuse.
pub const POOL: usize = 256;

/// Buffers that have grown beyond this are not kept: one flood of large packets must not stay in memory.
pub const POOL_BUFFER: usize = 16 << 10;

/// The largest datagram.
pub const DATAGRAM: usize = 65_536;

/// Bytes that one read of a connection takes.
pub const READ: usize = 16 << 10;

/// Arrivals handled in one turn, before the runtime's other tasks go on.
pub const ARRIVALS_PER_TURN: usize = 64;

/// Connections that peers have made and that exist, those included that are closed and still deliver. The
/// agent refuses the 128th that is open, and says so; the rest is room for its refusals and for the closed.
pub const GOSSIP_CONNECTIONS: usize = 160;

/// The same of clients; the agent refuses the 257th.
pub const RPC_CONNECTIONS: usize = 288;

/// Dialled connections that are closed and still deliver, beside the 32 that the agent has open.
pub const DIALED_LINGERING: usize = 32;

/// Files that the process wants to have open at most: 512 connections, two pipes for each child, and the
/// rest. Not more than needed, because children inherit the limit, and some close whatever number it names.
pub const OPEN_FILES: u64 = 2048;

/// How long a client says nothing before it is asked for a sign of life, the pause between two attempts,
/// and their number: one that has vanished keeps its place for two minutes.
pub const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);

/// Bytes that wait to be written to one connection; more means that the agent does not heed its peer, and
/// the connection fails. Above the largest push/pull state (gossip.md 5.7).
pub const WRITE_BUFFER: usize = 48 << 20;

/// How long a closed connection may take to deliver its last bytes.
pub const CLOSE_LINGER: Duration = Duration::from_secs(10);

/// Bytes that the peer of a closed connection may still send, which are read and thrown away: a connection
/// dropped with unread bytes is reset, and takes what was written with it.
pub const CLOSE_DISCARD: usize = 1 << 20;

/// How long an ending process waits for its last bytes to be delivered.
pub const EXIT_LINGER: Duration = Duration::from_secs(1);

/// How long an ending process waits for the disk: long enough for a slow one, and no hindrance to a restart.
pub const EXIT_STORE: Duration = Duration::from_secs(10);

/// First and longest pause after an accept that failed, for instance without free file descriptors.
pub const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Children that run, or whose output is still held open by a descendant. The agent starts one per handler.
pub const CHILDREN: usize = 256;

/// After a child has exited, how long a descendant that holds its output open is waited for.
pub const CHILD_GRACE: Duration = Duration::from_secs(1);

/// How often it is looked whether anybody is left of a process group that was told to end: soon enough for whoever
/// waits for the end of a script, and little work for the few seconds that this may take.
pub const GROUP_POLL: Duration = Duration::from_millis(50);

/// Threads that resolve names. A name server that does not answer holds a thread for some seconds,
/// and no join asks for more than half as many names at once.
pub const RESOLVERS: usize = 32;

/// Names that wait to be resolved, in the order in which they came. The agent asks for few at once for each
/// of its joins, so this is more than all of them want.
pub const RESOLUTIONS: usize = 1024;

/// Name servers that are asked for a service, as many as the system's resolver knows.
pub const NAME_SERVERS: usize = 3;

/// Domains in which a relative name of a service is looked for, as many as other resolvers allow.
pub const SEARCH_DOMAINS: usize = 32;

/// How often each name server is asked for a service: datagrams get lost.
pub const SERVICE_TRIES: usize = 2;

/// How long a name server may take for its answer.
pub const SERVICE_PATIENCE: Duration = Duration::from_secs(2);

/// How long all name servers together may take for a service, and then its hosts to be looked up. As long as
/// the system's resolver takes for a name without an answer.
pub const SERVICE_LOOKUP: Duration = Duration::from_secs(10);

/// Pieces of output that wait to be written while nobody reads standard output.
pub const CONSOLE: usize = 1024;

/// Until standard output is tried again that takes nothing more and does not wait either.
pub const CONSOLE_RETRY: Duration = Duration::from_millis(20);

/// Bytes of a configuration, tags or keyring file. People write them; the largest key ring takes a few KiB.
pub const FILE: usize = 4 << 20;

/// Bytes of all configuration files together, which are in memory at the same time.
pub const CONFIG_BYTES: usize = 16 << 20;

/// Configuration files in one directory. More means that it is not a directory of configuration.
pub const CONFIG_FILES: usize = 1000;

/// Symbolic links that lead to a file, one after the other: as many as Linux follows.
pub const LINKS: usize = 40;

/// Files that wait to be saved or read. The agent saves one at a time; the rest is room for impatient
/// operators who ask for the configuration again and again.
pub const FILE_JOBS: usize = 64;

/// Bytes of a snapshot file: four times what the file of a hundred thousand members grows to before it is
/// compacted. A larger one is no snapshot.
pub const SNAPSHOT: usize = 100 << 20;

/// Attempts to open a snapshot file that another agent replaces just then. It ends soon, or never.
pub const SNAPSHOT_ATTEMPTS: usize = 10;

/// Pieces that wait to be written to the snapshot file while the disk is busy. At some for each event this is
/// more than a disk that works holds up.
pub const STORE_JOBS: usize = 1024;

/// Pieces that wait for a sink: packets of metrics of some minutes, or the lines of a busy log while the syslog
/// daemon is restarted. More are thrown away.
pub const SINK_JOBS: usize = 1024;

/// How long a sink may take to be connected, or to take a piece.
pub const SINK_PATIENCE: Duration = Duration::from_secs(5);

/// After a failure of a sink, until it is tried again.
pub const SINK_REST: Duration = Duration::from_secs(1);

/// Between two reports of dropped datagrams to the agent.
pub const OVERFLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Receive buffer wanted for gossip, in bytes; halved until the system grants it (gossip.md 5.7).
pub const UDP_RECEIVE_BUFFER: usize = 2 << 20;

/// Attempts to find a port that is free for TCP and for UDP.
pub const PORT_ATTEMPTS: usize = 16;

/// Stack of a thread that only waits and copies.
pub const THREAD_STACK: usize = 128 << 10;
