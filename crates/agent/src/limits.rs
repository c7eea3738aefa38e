//! Every bound of the crate, with the reason for the number. Hitting one is a log line.

use villein_core::time::Duration;

/// Log lines kept for monitors that come later (agent.md 7).
pub const LOG_LINES: usize = 512;

/// Bytes of one log line; the rest is cut off. More than the escaped output of a handler.
pub const LOG_LINE_BYTES: usize = 16 << 10;

/// Events that wait for one handler. At one per second this is a quarter of an hour; the oldest are dropped.
pub const HANDLER_QUEUE: usize = 1024;

/// When a running handler is called slow (agent.md 7).
pub const HANDLER_SLOW: Duration = Duration::from_secs(1);

/// How often a line about the same kind of loss is logged at most.
pub const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// RPC connections at once. Each honest client uses one.
pub const RPC_CONNECTIONS: usize = 256;

/// From the acceptance of an RPC connection to its handshake.
pub const RPC_HANDSHAKE: Duration = Duration::from_secs(30);

/// Bytes of requests that may wait on one connection: the largest request and a long pipeline of small ones.
pub const RPC_INPUT_BYTES: usize = 2 << 20;

/// Bytes handed to the driver and not yet drained, above which a connection's records and requests wait.
pub const RPC_WINDOW_BYTES: usize = 64 << 10;

/// Event streams of one connection. The largest number seen in a client is two.
pub const RPC_STREAMS: usize = 64;

/// Records that wait for one subscription (rpc.md 5.3).
pub const RPC_BACKLOG_RECORDS: usize = 512;

/// Bytes of records that wait for one subscription: some member events of a large cluster.
pub const RPC_BACKLOG_BYTES: usize = 4 << 20;

/// Queries that one connection may still answer. They live as long as their deadlines; the oldest go first.
pub const RPC_OPEN_QUERIES: usize = 4096;

/// Size of a compiled member filter in bytes, so that an expression cannot take the machine's memory.
pub const FILTER_REGEX: usize = 1 << 20;

/// Addresses in one join.
pub const JOIN_ADDRESSES: usize = 1024;

/// Joins under way at once, those of RPC clients included.
pub const JOINS: usize = 64;

/// How long a leave that a signal asked for may take in the profiles `lan` and `local` (agent.md 7).
pub const LEAVE_ALLOWANCE: Duration = Duration::from_secs(3);
