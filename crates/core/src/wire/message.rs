//! What nodes say to each other, free of any encoding.
//!
//! Every type borrows from the packet that it was decoded from. Byte strings of other nodes (address,
//! metadata, version vector) are kept as they came, because they must be passed on unchanged
//! (spec gossip.md 3.7). An empty byte string and an absent one are one and the same, except for
//! payloads, where the difference is visible on the wire.

/// A message between the membership layers of two nodes, as carried by a datagram (gossip.md 3.1).
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// Are you there?
    Ping(Ping<'a>),
    /// Is that other node there?
    IndirectPing(IndirectPing<'a>),
    /// I am here, or: it is there.
    Ack(Ack<'a>),
    /// I could not reach it.
    Nack(Nack),
    /// I think that node failed.
    Suspect(Accusation<'a>),
    /// That node is here, with these attributes.
    Alive(Alive<'a>),
    /// That node failed, or (`from == node`) left.
    Dead(Accusation<'a>),
    /// A message of the layer above.
    User(&'a [u8]),
}

/// Direct probe (gossip.md 3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ping<'a> {
    /// Chosen by the prober.
    pub seq: u32,
    /// The name that the prober believes to probe; may be empty.
    pub node: &'a [u8],
    /// Where the answer goes.
    pub source: Source<'a>,
}

/// The prober's own idea of its address; all empty in old packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Source<'a> {
    /// 4 or 16 bytes, or empty.
    pub addr: &'a [u8],
    /// 0 if absent.
    pub port: u16,
    /// Its name, or empty.
    pub node: &'a [u8],
}

/// Request to probe a third node (gossip.md 3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndirectPing<'a> {
    /// The requester's sequence number.
    pub seq: u32,
    /// Address of the node to probe: 4 or 16 bytes.
    pub target: &'a [u8],
    /// 0 means the receiver's own port.
    pub port: u16,
    /// Name of the node to probe.
    pub node: &'a [u8],
    /// Whether a nack is wanted when no ack comes.
    pub nack: bool,
    /// Where the answer goes.
    pub source: Source<'a>,
}

/// Answer to a probe (gossip.md 3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack<'a> {
    /// Of the probe.
    pub seq: u32,
    /// The answering node's coordinate (gossip.md 14.6), if any.
    pub payload: Option<&'a [u8]>,
}

/// No answer came within the relay's probe timeout (gossip.md 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nack {
    /// Of the indirect probe.
    pub seq: u32,
}

/// The body of suspect and dead (gossip.md 3.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accusation<'a> {
    /// The incarnation of the accused that this refers to.
    pub incarnation: u32,
    /// The accused.
    pub node: &'a [u8],
    /// The accuser.
    pub from: &'a [u8],
}

/// A node's own claim about itself (gossip.md 3.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alive<'a> {
    /// Grows with every change and refutation.
    pub incarnation: u32,
    /// Whom this is about.
    pub node: &'a [u8],
    /// 4 or 16 bytes.
    pub addr: &'a [u8],
    /// 0 means the receiver's own port.
    pub port: u16,
    /// Encoded tags, at most 512 bytes.
    pub meta: &'a [u8],
    /// Six bytes (gossip.md 3.6).
    pub vsn: &'a [u8],
}

/// A message on a stream between the membership layers (gossip.md 5).
#[derive(Clone, Debug, PartialEq)]
pub enum StreamMessage<'a> {
    /// Exchange of complete state.
    PushPull(PushPull<'a>),
    /// A message of the layer above.
    User(&'a [u8]),
    /// Probe over TCP.
    Ping(Ping<'a>),
    /// Its answer.
    Ack(Ack<'a>),
    /// The peer could not read what was sent to it.
    Err(&'a [u8]),
}

/// Everything a node knows (gossip.md 5.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushPull<'a> {
    /// Whether this is part of a join.
    pub join: bool,
    /// Every entry of the node table, the sender included.
    pub nodes: Vec<PushNode<'a>>,
    /// The state of the layer above (gossip.md 13.13).
    pub user_state: &'a [u8],
}

/// One entry of a node table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PushNode<'a> {
    /// Grows with every change and refutation.
    pub incarnation: u32,
    /// Whom this is about.
    pub name: &'a [u8],
    /// 4 or 16 bytes.
    pub addr: &'a [u8],
    /// 0 means the receiver's own port.
    pub port: u16,
    /// Encoded tags.
    pub meta: &'a [u8],
    /// 0 alive, 1 suspect, 2 dead, 3 left; anything else is ignored.
    pub state: i64,
    /// Six bytes (gossip.md 3.6).
    pub vsn: &'a [u8],
}

/// A message between the Serf layers of two nodes (gossip.md 13.1).
#[derive(Clone, Debug, PartialEq)]
pub enum SerfMessage<'a> {
    /// A node is going to leave, or is to be forgotten.
    Leave(LeaveIntent<'a>),
    /// A node has joined.
    Join(JoinIntent<'a>),
    /// Clocks, intents and recent events; only as the user state of a push/pull.
    PushPull(SerfState<'a>),
    /// A custom event.
    UserEvent(UserEvent<'a>),
    /// A question to many.
    Query(Query<'a>),
    /// An ack or an answer to a query.
    Response(Response<'a>),
    /// "Pass the rest on to this address."
    Relay(Relay<'a>),
}

/// gossip.md 13.2, type 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveIntent<'a> {
    /// Member clock.
    pub ltime: u64,
    /// Who leaves.
    pub node: &'a [u8],
    /// Whether it is to be forgotten at once.
    pub prune: bool,
}

/// gossip.md 13.2, type 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinIntent<'a> {
    /// Member clock.
    pub ltime: u64,
    /// Who joined.
    pub node: &'a [u8],
}

/// gossip.md 13.13.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SerfState<'a> {
    /// Member clock.
    pub ltime: u64,
    /// Event clock.
    pub event_ltime: u64,
    /// Query clock.
    pub query_ltime: u64,
    /// Per member the Lamport time of its last accepted intent.
    pub status_ltimes: Vec<(&'a [u8], u64)>,
    /// Members that left and are not yet reaped.
    pub left_members: Vec<&'a [u8]>,
    /// The slots of the event buffer that hold something, in order.
    pub events: Vec<EventSlot<'a>>,
}

/// The events of one Lamport time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventSlot<'a> {
    /// Event clock.
    pub ltime: u64,
    /// Name and payload of each.
    pub events: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// gossip.md 13.2, type 3.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserEvent<'a> {
    /// Event clock.
    pub ltime: u64,
    /// Chosen by the user.
    pub name: &'a [u8],
    /// Chosen by the user.
    pub payload: Option<&'a [u8]>,
    /// Whether receivers may merge events of one name.
    pub coalesce: bool,
}

/// gossip.md 13.2, type 4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query<'a> {
    /// Query clock.
    pub ltime: u64,
    /// Random; together with `ltime` names the query.
    pub id: u32,
    /// The originator's address: 4 or 16 bytes.
    pub addr: &'a [u8],
    /// The originator's port.
    pub port: u16,
    /// The originator's name; empty in old packets.
    pub source_node: &'a [u8],
    /// Encoded filters; see [`Filter`].
    pub filters: Vec<&'a [u8]>,
    /// See [`flags`].
    pub flags: u32,
    /// How many members shall relay each response.
    pub relay_factor: u8,
    /// Nanoseconds that responders have, from receipt.
    pub timeout_ns: i64,
    /// Chosen by the user.
    pub name: &'a [u8],
    /// Chosen by the user.
    pub payload: Option<&'a [u8]>,
}

/// Flags of queries and responses (gossip.md 13.2).
pub mod flags {
    /// In a query: acknowledge receipt. In a response: this is an acknowledgement.
    pub const ACK: u32 = 1;
    /// Do not pass this query on.
    pub const NO_BROADCAST: u32 = 2;
}

/// Which nodes are to act on a query (gossip.md 13.10).
#[derive(Clone, Debug, PartialEq)]
pub enum Filter<'a> {
    /// The node is one of these.
    Nodes(Vec<&'a [u8]>),
    /// The value of the tag matches the expression anywhere; a missing tag counts as empty.
    Tag {
        /// Name of the tag.
        tag: &'a [u8],
        /// RE2 syntax, unanchored.
        expr: &'a [u8],
    },
}

/// gossip.md 13.2, type 5.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response<'a> {
    /// Of the query.
    pub ltime: u64,
    /// Of the query.
    pub id: u32,
    /// Who responds.
    pub from: &'a [u8],
    /// See [`flags`].
    pub flags: u32,
    /// The answer; absent in acks.
    pub payload: Option<&'a [u8]>,
}

/// gossip.md 13.2, type 9.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relay<'a> {
    /// IP of the final destination: 4 or 16 bytes.
    pub addr: &'a [u8],
    /// Port of the final destination.
    pub port: u16,
    /// Name of the final destination; may be empty.
    pub name: &'a [u8],
    /// A complete Serf message, passed on byte for byte.
    pub inner: &'a [u8],
}

/// What a node knows of a name (gossip.md 13.2, type 6).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConflictRecord<'a> {
    /// 4 or 16 bytes.
    pub addr: &'a [u8],
    /// Gossip port.
    pub port: u16,
    /// The name in question.
    pub name: &'a [u8],
    /// 0 none, 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: i64,
    /// Version vector: memberlist min, max, current, Serf min, max, current.
    pub vsn: [u8; 6],
    /// Tags of the member.
    pub tags: Vec<(&'a [u8], &'a [u8])>,
}

/// gossip.md 13.2, type 8.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyResponse<'a> {
    /// Whether the operation succeeded.
    pub result: bool,
    /// Why not, or a note.
    pub message: &'a [u8],
    /// Base64 keys, primary first; `None` except for list.
    pub keys: Option<Vec<&'a [u8]>>,
    /// Base64; empty except for list.
    pub primary_key: &'a [u8],
}
