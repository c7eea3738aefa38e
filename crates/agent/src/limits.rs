//! Every bound of the crate, with the reason for the number. Hitting one is a log line.

use villein_core::time::Duration;

/// Log lines kept for monitors that come later (agent.md 7).
pub const LOG_LINES: usize = 512;

/// Bytes of one log line; the rest is cut off. More than the escaped output of a handler.
pub const LOG_LINE_BYTES: usize = 16 << 10;

/// Events that wait for one handler that says nothing else. At one per second this is a quarter of an hour; the
/// oldest are dropped.
pub const HANDLER_QUEUE: usize = 1024;

/// Events that may wait for one handler at most: some hours of one per second, and some MiB when they are small.
pub const HANDLER_QUEUE_MAX: usize = 1 << 14;

/// Scripts of one handler at once: some such handlers share the processes that the host starts at once.
pub const HANDLER_CONCURRENCY_MAX: usize = 64;

/// Bytes of the events that wait for one handler: the member events of a large cluster, some times over.
pub const HANDLER_QUEUE_BYTES: usize = 16 << 20;

/// When a running handler is called slow (agent.md 7).
pub const HANDLER_SLOW: Duration = Duration::from_secs(1);

/// When it is said again that a script still runs; after the last of them once in an hour. Who looks at a log once
/// a day still sees it, and a script that hangs for a year makes less than a MiB of lines.
pub const HANDLER_STILL_RUNNING: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600)];

/// How long a script has to end after it was asked to, and again after it was killed: enough to clean up after
/// itself, and more than the host waits for the output of one that is dead.
pub const HANDLER_GRACE: Duration = Duration::from_secs(5);

/// How often a line about the same kind of loss is logged at most.
pub const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that are alike in one [`LOSS_INTERVAL`], because they say the same or are about one kind of thing that peers
/// and clients do: more than people read, so what is beyond is only counted. Garbage without end makes some KiB of
/// log in a second, not a full disk. Scripts that fire an event some times and count the lines find them all.
pub const BURST_LINES: u32 = 20;

/// How long all packets must have failed before it is said that none can be sent: longer than an interface takes to
/// be set up anew, and less than a node goes on sending that loses sight of all others.
pub const MUTE_PATIENCE: Duration = Duration::from_secs(3);

/// When it is said again, at the next failure: who looks at a log once a day still sees it.
pub const MUTE_REMINDER: Duration = Duration::from_secs(3600);

/// A packet has been sent if no failure of it was heard for so long. Drivers tell failures at once; a busy one may
/// have something else to tell before.
pub const SEND_SETTLED: Duration = Duration::from_secs(1);

/// Finished intervals of ten seconds whose metrics are kept: one minute (agent.md 16).
pub const METRIC_INTERVALS: i64 = 6;

/// Names of metrics in one interval. The agent's own are some dozens; those of events, queries and handlers make
/// up the rest, and whoever invents more names than this is not charted.
pub const METRIC_NAMES: usize = 512;

/// Bytes of one packet with metrics: what fits into a datagram on every network.
pub const METRIC_PACKET_BYTES: usize = 1400;

/// RPC connections at once. Each honest client uses one. A newcomer is never refused: it takes the place of a
/// client that has not introduced itself, or that is idle, or of one of the address that has the most, so that clients
/// which hold many streams lock nobody out.
pub const RPC_CONNECTIONS: usize = 256;

/// From the acceptance of an RPC connection to its handshake and, where one is wanted, its token.
pub const RPC_HANDSHAKE: Duration = Duration::from_secs(30);

/// Bytes of requests that wait on one connection, above which it is not read: they keep a client busy that
/// sends many without awaiting answers.
pub const RPC_PIPELINE_BYTES: usize = 64 << 10;

/// Bytes of requests that may wait on one connection: the largest request, and more than a driver brings
/// that does not read a connection when it is told so.
pub const RPC_INPUT_BYTES: usize = 2 << 20;

/// Bytes of requests that a client may have sent before its handshake and its token are there: those two, many
/// times over. Strangers on all connections together fill 4 MiB.
pub const RPC_GREETING_BYTES: usize = 16 << 10;

/// Bytes handed to the driver and not yet drained, above which a connection's records and requests wait.
pub const RPC_WINDOW_BYTES: usize = 64 << 10;

/// Event streams of one connection. The largest number seen in a client is two.
pub const RPC_STREAMS: usize = 64;

/// Records that wait for one subscription (rpc.md 5.3).
pub const RPC_BACKLOG_RECORDS: usize = 512;

/// Bytes of records that wait for one connection: some member events of a large cluster.
pub const RPC_BACKLOG_BYTES: usize = 4 << 20;

/// Bytes of records that wait for all connections: a few slow readers at their worst. Without it, clients that
/// subscribe and never read could fill a GiB.
pub const RPC_BACKLOG_TOTAL: usize = 64 << 20;

/// Queries that clients run at once. Twice the connections, so that whoever runs most has a second one to
/// lose; half of what the node runs, so that it always finds a place for its own.
pub const RPC_QUERIES: usize = 512;

/// How long a query of a client may run: what waits longer for an answer is better asked again.
pub const RPC_QUERY_TIMEOUT: Duration = Duration::from_secs(3600);

/// Queries that one connection may still answer. They live as long as their deadlines; the oldest go first.
pub const RPC_OPEN_QUERIES: usize = 4096;

/// Bytes of the expressions of one member filter: a hundred names to choose from. The worst kind takes 5 ms.
pub const FILTER_EXPRESSIONS_TEXT: usize = 4 << 10;

/// Addresses in one join.
pub const JOIN_ADDRESSES: usize = 1024;

/// Joins under way at once for clients and discovery. Those of the configuration have places of their own.
pub const JOINS: usize = 64;

/// A node that sees others looks after its seeds once in so many retry intervals at most, and in half as many at
/// least: with the default of 30 s, every 5 to 10 minutes.
pub const HEALING_PATIENCE: u32 = 20;

/// Addresses that are contacted in one such round. Whoever is reached names all others that it knows, so that a
/// name with hundreds of addresses need not be contacted hundredfold; of dead ones others are tried next time.
pub const HEALING_CONTACTS: usize = 3;

/// Names of one join that are looked up at once. All joins together stay below what the resolver takes, and a
/// long list of dead names leaves it to others.
pub const JOIN_LOOKUPS: usize = 8;

/// How long a leave that a signal asked for may take in the profiles `lan` and `local` (agent.md 7).
pub const LEAVE_ALLOWANCE: Duration = Duration::from_secs(3);

/// Levels of lists and maps in a file. Two are meant for something; each costs some stack.
pub const JSON_DEPTH: usize = 64;

/// Changes of tags and keys that wait to be written to their files: one of each client, and as many of the
/// cluster's keys. A disk that takes a second for each is minutes behind with as many.
pub const KEPT_CHANGES: usize = 512;

/// Between two tellings of the numbers of members to a service manager, who shows them to people: when a cluster
/// falls apart they change faster than anybody reads.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A watchdog is fed no more often than this, whatever it asks for: who watches more closely would keep the
/// agent busy with telling that it works.
pub const WATCHDOG_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long the end of the process may take after a leave: as long as it waits for a slow disk, and some.
pub const EXIT_ALLOWANCE: Duration = Duration::from_secs(15);
