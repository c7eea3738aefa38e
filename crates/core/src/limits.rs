//! Every bound of the crate, with the reason for the number. Hitting one is a [`Note`](crate::note::Note).

/// Parts in one compound packet. Old members compute the size of the length table in 8 bits (gossip.md 4.7).
pub const COMPOUND_PARTS: usize = 127;

/// Messages in one queue of the Serf layer: the reference prunes to this number (gossip.md 13.18).
pub const SERF_QUEUE: usize = 4096;

/// Nodes in the table. Far above any cluster that gossip serves well; a flood of invented names stops here.
pub const NODES: usize = 65_536;

/// Names without a member for which intents are remembered; they live five minutes (gossip.md 13.5).
pub const RECENT_INTENTS: usize = 4096;

/// Lamport times for which events, and queries, are remembered (gossip.md 13.9).
pub const EVENT_BUFFER: usize = 512;

/// Events or queries remembered at one Lamport time. Honest nodes rarely share a time; the reference has
/// no bound here (gossip.md 20.3).
pub const EVENTS_PER_SLOT: usize = 64;

/// Bytes of all remembered events together: twice an event of the largest size at each time. With the nodes
/// beside it, a state must stay below [`STREAM_MESSAGE`], or nobody could join this node any more.
pub const EVENT_BYTES: usize = 8 << 20;

/// How far one message may move a Lamport clock. A clock that ticks once a microsecond for a month stays
/// below; wrapped and hostile values do not (gossip.md 13.4).
pub const CLOCK_JUMP: u64 = 1 << 42;

/// Streams that peers may have open at once; the reference refuses the 128th (gossip.md 5.7).
pub const ACCEPTED_STREAMS: usize = 127;

/// Streams that this node opens at once. Further joins wait for a place.
pub const DIALED_STREAMS: usize = 32;

/// Joins that wait for one of those places; an operator's list is far shorter.
pub const WAITING_EXCHANGES: usize = 4096;

/// Probes that are relayed for others at once: more than any cluster's members ask of one node in a probe timeout.
pub const RELAYED_PROBES: usize = 1024;

/// Queries of our own that run at once. The application's own bound is lower, so that the vote about this
/// node's name always finds a place.
pub const RUNNING_QUERIES: usize = 1024;

/// Queries of our own that ended before their time and are remembered until it is over, so that late answers are
/// known for what they are. As many as run; the oldest are forgotten first.
pub const ENDED_QUERIES: usize = RUNNING_QUERIES;

/// Key operations that run or wait at once. Operators change keys one after the other; few look on meanwhile.
pub const KEY_OPERATIONS: usize = 16;

/// Distinct keys that a report counts: far more than [`KEYS`] in every ring of an honest cluster.
pub const REPORTED_KEYS: usize = 1024;

/// Answers to key queries that wait until the changed keyring is written: more changes than a disk is slow for.
pub const HELD_KEY_ANSWERS: usize = 64;

/// Bytes of the reason why a keyring was not written, as it travels: an answer has 1024 bytes by default, of which
/// names take half at worst.
pub const KEYRING_REASON: usize = 256;

/// Queries of others that wait for an answer of the application.
pub const PENDING_ANSWERS: usize = 4096;

/// Bytes of a node's name. The reference allows 128 where it checks at all; with this and the largest
/// metadata an alive message still fits into a packet.
pub const NAME: usize = 512;

/// Bytes of a node's name where names are validated (gossip.md 13.3).
pub const PLAIN_NAME: usize = 128;

/// Bytes of a label: its length is one byte (gossip.md 4.3).
pub const LABEL: usize = 255;

/// Bytes of the largest UDP payload over IPv4.
pub const DATAGRAM: usize = 65_507;

/// Largest packet size that may be configured. A checksum, and the length of the message that gossip rides with, are
/// not counted in it (gossip.md 4.8).
pub const PACKET: usize = DATAGRAM - 7;

/// Commands of one kind that wait for their end at once: far more than operators have hands.
pub const WAITING_COMMANDS: usize = 1024;

/// Prunes that wait for a leave to end; each waits a few seconds.
pub const POSTPONED_PRUNES: usize = 1024;

/// User events that are held to be merged; when there are so many they are delivered early.
pub const COALESCED: usize = 4096;

/// Encoded metadata of a node, in bytes (gossip.md 13.3).
pub const META: usize = 512;

/// Largest user event that may be configured, in encoded bytes (gossip.md 13.9). Name and payload of a query
/// stay below it too; by default a query has 1024 bytes in all.
pub const USER_EVENT: usize = 9216;

/// Filters of one query, and expressions of one request. The reference sends a filter for nodes and one for each
/// tag; its 1024 bytes of a query hold fewer with a purpose.
pub const EXPRESSIONS: usize = 32;

/// Bytes of the expressions of one query: what the reference allows a whole query by default. A thousand bytes
/// of the worst kind (letters of any case) take a millisecond.
pub const QUERY_EXPRESSIONS_TEXT: usize = 1024;

/// What a large set of characters, such as `\pL`, counts as in bytes of an expression: it takes as long.
pub const EXPRESSION_WIDE_SET: usize = 128;

/// Groups within each other in one expression; below the depth of 250 that the compiler has as its own limit.
pub const EXPRESSION_DEPTH: usize = 50;

/// Bytes of one compiled expression: room for ninety characters of any kind, or one large set. Half a millisecond.
pub const EXPRESSION_PROGRAM: usize = 64 << 10;

/// Bytes of all compiled expressions of one request, shared evenly, so that many cost no more than a few.
pub const EXPRESSIONS_PROGRAM: usize = 256 << 10;

/// Keys in one ring. Every packet under an unknown key costs one attempt each (gossip.md 6.2).
pub const KEYS: usize = 64;

/// Bytes of an answer to a query where nobody has configured others. A ring whose list is longer must not come about:
/// agents of the reference with such a ring die when they are asked for it (gossip.md 13.11, 20.1).
pub const KEY_LIST: usize = 1024;

/// Layers of compound and compression within one packet (gossip.md 4.2). Senders use two.
pub const PACKET_LAYERS: usize = 4;

/// Bytes that one datagram may unfold to. Sixteen times the largest datagram; gossip compresses to a half.
pub const DATAGRAM_EXPANDED: usize = 1 << 20;

/// Unreadable parts of one datagram that are told apart before the rest of it is given up, counted over all
/// compounds in it, nested ones too. As many as one compound can have, so that a flat one is read to its end.
pub const REFUSED_PARTS: usize = 255;

/// Warnings of one kind that one input may cause; the rest is counted. A state of a peer has a place for one in
/// each of its hundred thousand entries, and nobody reads more than the first few.
pub const WARNINGS_ALIKE: usize = 16;

/// Bytes that one stream message may unfold to, and that a stream may hold (gossip.md 5.7).
pub const STREAM_EXPANDED: usize = 40 << 20;

/// Bytes that the unfinished messages of all accepted streams may hold together, and those of all dialled ones;
/// each has a bound of its own, so that callers cannot keep a node from joining. The largest message fits with
/// room for a dozen states of a thousand nodes beside it; without this bound, callers could fill 5 GiB.
pub const STREAMS_HELD: usize = 64 << 20;

/// Bytes of one encrypted stream message, of a user state and of a user message (gossip.md 5.7).
pub const STREAM_MESSAGE: usize = 20 << 20;

/// Elements of one list or map in a message. The protocol allows this many nodes in a push/pull (gossip.md 5.7).
pub const LIST: usize = 1 << 20;

/// A snapshot file up to this many bytes is not written anew: the reference's number (gossip.md 15.3).
pub const SNAPSHOT: u64 = 128 << 10;

/// Nor is one with up to this many bytes for each live member; twice what the reference expects of a line.
pub const SNAPSHOT_PER_MEMBER: u64 = 256;

/// Bytes of lines that wait to be put into the snapshot together. What one exchange with a cluster of ten thousand
/// brings stays below; more is written at once.
pub const SNAPSHOT_PENDING: usize = 1 << 20;

/// Texts that were joined and are kept in the snapshot, so that a list read from a cloud's inventory fits.
pub const SEEDS: usize = 64;

/// Bytes of one of them; the longest domain name has 253.
pub const SEED: usize = 512;

/// Bytes of a line of the snapshot that a note about it shows.
pub const ODDITY: usize = 128;

/// Known nodes that are tried at the same time after nobody answered one by one: few enough to be no burden, and
/// enough to get through a hundred that are gone within minutes.
pub const REJOINS_AT_ONCE: usize = 8;

/// Hosts that answered a discovery question lately. More than one network segment holds; a flood of
/// invented answers costs less than 100 KiB (gossip.md 16).
pub const MDNS_HOSTS: usize = 1024;

/// Bytes of a multicast DNS message (RFC 6762 section 17).
pub const MDNS_MESSAGE: usize = 9000;

/// Single measured values that wait to be read: sixteen inputs full of messages. Whoever wants them reads after
/// every input.
pub const METRIC_VALUES: usize = 4096;
