//! What an agent answers: response headers, reply bodies and the records of subscriptions (rpc.md 3 to 6).
//!
//! Decides fields and bytes in both directions. Does not decide which reply belongs to which request:
//! the protocol has no tags, a reader knows from its own `Seq` what comes. The bytes of a message depend
//! on its value alone, so members and maps go out in the order they are given in.

use crate::decode::{self, bytes, flag, or_default, payload};
use crate::encode::{self, Put, record};
use crate::text::Text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Tags or messages: text to text.
pub type TextMap = BTreeMap<Text, Text>;

/// The sections of `stats`, each text to text (rpc.md 6.19).
pub type Stats = BTreeMap<Text, TextMap>;

/// The refusals of the session itself, in the words that clients know (rpc.md 3.3).
pub mod refusal {
    /// Any command before a successful `handshake`; then the connection is closed.
    pub const HANDSHAKE_REQUIRED: &str = "Handshake required";
    /// A `handshake` with a version other than 1.
    pub const UNSUPPORTED_VERSION: &str = "Unsupported IPC version";
    /// A second `handshake`.
    pub const HANDSHAKE_ALREADY_PERFORMED: &str = "Handshake already performed";
    /// Any command but `handshake` and `auth` before a successful `auth`, when a token is configured.
    pub const AUTHENTICATION_REQUIRED: &str = "Authentication required";
    /// A wrong token, or any token when none is configured.
    pub const INVALID_TOKEN: &str = "Invalid authentication token";
    /// A command that does not exist; then the connection is closed.
    pub const UNSUPPORTED_COMMAND: &str = "Unsupported command";
    /// A `stream` with an unknown word in its filter list.
    pub const INVALID_EVENT_FILTER: &str = "Invalid event filter";
    /// A `stream` whose `Seq` already streams.
    pub const STREAM_EXISTS: &str = "Stream with given sequence exists";
    /// A second `monitor` on a connection.
    pub const MONITOR_EXISTS: &str = "Monitor already exists";
    /// A `respond` to a query that is over or never was.
    pub const NO_PENDING_QUERY: &str = "No pending queries matching ID";

    /// The refusals that come before anybody looked at the request: no body follows them, not even for
    /// commands whose body comes also with an error.
    pub const WITHOUT_BODY: [&str; 3] = [AUTHENTICATION_REQUIRED, HANDSHAKE_REQUIRED, UNSUPPORTED_COMMAND];
}

/// What precedes every reply and every record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ResponseHeader {
    /// Copied from the request.
    #[serde(deserialize_with = "or_default")]
    pub seq: u64,
    /// Empty for success.
    #[serde(deserialize_with = "or_default")]
    pub error: Text,
}

/// The body that follows the header of a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `members` and `members-filtered`.
    Members(Vec<Member>),
    /// To `join`, also with an error.
    Joined(Joined),
    /// To the key commands, also with an error.
    Keys(KeyReport),
    /// To `stats`.
    Stats(Stats),
    /// To `get-coordinate`.
    Coordinate(Located),
}

/// One member (rpc.md 6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Member {
    /// Unique in the cluster.
    #[serde(deserialize_with = "or_default")]
    pub name: Text,
    /// 4 bytes of IPv4, 16 bytes of IPv6, or 16 bytes of IPv4 mapped into IPv6; see [`Member::ip`].
    #[serde(deserialize_with = "bytes")]
    pub addr: Vec<u8>,
    /// Where the member gossips.
    #[serde(deserialize_with = "or_default")]
    pub port: u16,
    /// What the member says about itself.
    #[serde(deserialize_with = "or_default")]
    pub tags: TextMap,
    /// `none`, `alive`, `leaving`, `left` or `failed`.
    #[serde(deserialize_with = "or_default")]
    pub status: Text,
    /// Lowest gossip version understood.
    #[serde(deserialize_with = "or_default")]
    pub protocol_min: u8,
    /// Highest gossip version understood.
    #[serde(deserialize_with = "or_default")]
    pub protocol_max: u8,
    /// Gossip version spoken.
    #[serde(deserialize_with = "or_default")]
    pub protocol_cur: u8,
    /// Lowest Serf version understood.
    #[serde(deserialize_with = "or_default")]
    pub delegate_min: u8,
    /// Highest Serf version understood.
    #[serde(deserialize_with = "or_default")]
    pub delegate_max: u8,
    /// Serf version spoken.
    #[serde(deserialize_with = "or_default")]
    pub delegate_cur: u8,
}

/// Body of the reply to `join`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Joined {
    /// How many addresses were contacted.
    #[serde(deserialize_with = "or_default")]
    pub num: i32,
}

/// Body of the reply to the four key commands (rpc.md 6.13).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KeyReport {
    /// Member to its error or note.
    #[serde(deserialize_with = "or_default")]
    pub messages: TextMap,
    /// Key in base64 to how many members have it; `None` except for `list-keys`.
    pub keys: Option<BTreeMap<Text, u64>>,
    /// Members that were asked.
    #[serde(deserialize_with = "or_default")]
    pub num_nodes: u64,
    /// Members that reported an error.
    #[serde(deserialize_with = "or_default")]
    pub num_err: u64,
    /// Members that answered.
    #[serde(deserialize_with = "or_default")]
    pub num_resp: u64,
}

/// Body of the reply to `get-coordinate`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Located {
    /// All zero, without a vector, when the member is unknown.
    #[serde(deserialize_with = "or_default")]
    pub coord: Coordinate,
    /// Whether the member has a coordinate.
    #[serde(deserialize_with = "flag")]
    pub ok: bool,
}

/// A network coordinate; all numbers in seconds except `error`, which has no unit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Coordinate {
    /// Correction of the estimate by recent measurements.
    #[serde(deserialize_with = "or_default")]
    pub adjustment: f64,
    /// Confidence: 1.5 knows nothing, 0 is certain.
    #[serde(deserialize_with = "or_default")]
    pub error: f64,
    /// The part of the way that does not depend on the other end.
    #[serde(deserialize_with = "or_default")]
    pub height: f64,
    /// The position, 8 numbers; empty when unknown.
    #[serde(deserialize_with = "or_default")]
    pub vec: Vec<f64>,
}

/// The body of a record of a subscription or of a running query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// From `stream`: something happened to members.
    Members(MemberEvent),
    /// From `stream`: a user event.
    User(UserEvent),
    /// From `stream`: a query that can be answered with `respond`.
    Query(QueryEvent),
    /// From `monitor`: a log line without its newline.
    Log(Text),
    /// From `query`: an answer, or the end.
    Answer(QueryRecord),
}

/// A member event after coalescing (rpc.md 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEvent {
    /// `member-join`, `member-leave`, `member-failed`, `member-update` or `member-reap`.
    pub event: Text,
    /// Whom it happened to, as they are now.
    pub members: Vec<Member>,
}

/// A user event as a stream delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// Lamport time of the event.
    pub ltime: u64,
    /// Name of the event.
    pub name: Text,
    /// What came with it.
    pub payload: Option<Vec<u8>>,
    /// Whether it may have replaced earlier events of its name.
    pub coalesce: bool,
}

/// A query as a stream delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryEvent {
    /// Number for `respond`, unique on this connection.
    pub id: u64,
    /// Lamport time of the query.
    pub ltime: u64,
    /// What is asked.
    pub name: Text,
    /// What came with it.
    pub payload: Option<Vec<u8>>,
}

/// A record of a running query (rpc.md 5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryRecord {
    /// A member answers.
    Answer(QueryAnswer),
    /// The time is over; nothing more comes.
    Done,
}

/// What a member answers to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryAnswer {
    /// The query arrived.
    Ack {
        /// The member.
        from: Text,
    },
    /// The answer.
    Response {
        /// The member.
        from: Text,
        /// What it says.
        payload: Option<Vec<u8>>,
    },
}

/// The error of a decoder, for the log; what is behind it is a fault of the sender.
#[derive(Debug)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl From<rmp_serde::decode::Error> for DecodeError {
    fn from(error: rmp_serde::decode::Error) -> DecodeError {
        DecodeError(error.to_string())
    }
}

impl ResponseHeader {
    /// The header of a success.
    pub fn ok(seq: u64) -> ResponseHeader {
        ResponseHeader { seq, error: Text::default() }
    }

    /// The header of a failure.
    pub fn error(seq: u64, error: impl Into<Text>) -> ResponseHeader {
        ResponseHeader { seq, error: error.into() }
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        record!(out, { "Error" => self.error, "Seq" => self.seq });
    }

    /// Decodes one object.
    pub fn decode(object: &[u8]) -> Result<ResponseHeader, DecodeError> {
        Ok(decode::record(object)?)
    }
}

impl Reply {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Members(members) => put_members(members, out),
            Reply::Joined(joined) => record!(out, { "Num" => joined.num }),
            Reply::Keys(report) => record!(out, {
                "Keys" => report.keys,
                "Messages" => report.messages,
                "NumErr" => report.num_err,
                "NumNodes" => report.num_nodes,
                "NumResp" => report.num_resp,
            }),
            Reply::Stats(stats) => stats.put(out),
            Reply::Coordinate(located) => record!(out, { "Coord" => located.coord, "Ok" => located.ok }),
        }
    }
}

/// A reply body that a client expects, decoded from one object.
pub trait FromReply: Sized {
    /// Decodes one object.
    fn from_reply(object: &[u8]) -> Result<Self, DecodeError>;
}

impl FromReply for Vec<Member> {
    fn from_reply(object: &[u8]) -> Result<Vec<Member>, DecodeError> {
        Ok(decode::record::<MembersBody>(object)?.members)
    }
}

impl FromReply for Joined {
    fn from_reply(object: &[u8]) -> Result<Joined, DecodeError> {
        Ok(decode::record(object)?)
    }
}

impl FromReply for KeyReport {
    fn from_reply(object: &[u8]) -> Result<KeyReport, DecodeError> {
        Ok(decode::record(object)?)
    }
}

impl FromReply for Stats {
    fn from_reply(object: &[u8]) -> Result<Stats, DecodeError> {
        Ok(decode::record(object)?)
    }
}

impl FromReply for Located {
    fn from_reply(object: &[u8]) -> Result<Located, DecodeError> {
        Ok(decode::record(object)?)
    }
}

impl Member {
    /// The address; `None` when it is neither 4 nor 16 bytes. IPv4 mapped into IPv6 becomes IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        if let Ok(v4) = <[u8; 4]>::try_from(&self.addr[..]) {
            return Some(IpAddr::from(v4));
        }
        let v6 = <[u8; 16]>::try_from(&self.addr[..]).ok()?;
        Some(IpAddr::from(v6).to_canonical())
    }
}

impl Record {
    /// Appends the body, which follows a [`ResponseHeader`] with the `Seq` of the subscription.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Members(body) => record!(out, {
                "Event" => body.event,
                "Members" => MemberList(&body.members),
            }),
            Record::User(body) => record!(out, {
                "Coalesce" => body.coalesce,
                "Event" => "user",
                "LTime" => body.ltime,
                "Name" => body.name,
                "Payload" => body.payload,
            }),
            Record::Query(body) => record!(out, {
                "Event" => "query",
                "ID" => body.id,
                "LTime" => body.ltime,
                "Name" => body.name,
                "Payload" => body.payload,
            }),
            Record::Log(line) => record!(out, { "Log" => line }),
            Record::Answer(record) => record.encode(out),
        }
    }

    /// Decodes one object. The fields that are present tell the kind: records have no other tag.
    pub fn decode(object: &[u8]) -> Result<Record, DecodeError> {
        let any: AnyRecord = decode::record(object)?;
        if let Some(line) = any.log {
            return Ok(Record::Log(line));
        }
        match (any.event.as_bytes(), any.kind.as_bytes()) {
            (b"", b"ack") => Ok(Record::Answer(QueryRecord::Answer(QueryAnswer::Ack { from: any.from }))),
            (b"", b"response") => Ok(Record::Answer(QueryRecord::Answer(QueryAnswer::Response {
                from: any.from,
                payload: any.payload,
            }))),
            (b"", b"done") => Ok(Record::Answer(QueryRecord::Done)),
            (b"", _) => Err(DecodeError(format!("a record of unknown type {:?}", any.kind))),
            (b"user", _) => Ok(Record::User(UserEvent {
                ltime: any.ltime,
                name: any.name,
                payload: any.payload,
                coalesce: any.coalesce,
            })),
            (b"query", _) => Ok(Record::Query(QueryEvent {
                id: any.id,
                ltime: any.ltime,
                name: any.name,
                payload: any.payload,
            })),
            _ => Ok(Record::Members(MemberEvent { event: any.event, members: any.members })),
        }
    }
}

impl QueryAnswer {
    /// The member that answers.
    pub fn from(&self) -> &Text {
        match self {
            QueryAnswer::Ack { from } | QueryAnswer::Response { from, .. } => from,
        }
    }
}

impl QueryRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        const NONE: &Option<Vec<u8>> = &None;
        let nobody = Text::default();
        let (from, payload, kind) = match self {
            QueryRecord::Answer(QueryAnswer::Ack { from }) => (from, NONE, "ack"),
            QueryRecord::Answer(QueryAnswer::Response { from, payload }) => (from, payload, "response"),
            QueryRecord::Done => (&nobody, NONE, "done"),
        };
        record!(out, { "From" => from, "Payload" => payload, "Type" => kind });
    }
}

struct MemberList<'a>(&'a [Member]);

impl Put for MemberList<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        encode::list(out, self.0);
    }
}

fn put_members(members: &[Member], out: &mut Vec<u8>) {
    record!(out, { "Members" => MemberList(members) });
}

impl Put for Member {
    fn put(&self, out: &mut Vec<u8>) {
        record!(out, {
            "Addr" => self.addr[..],
            "DelegateCur" => self.delegate_cur,
            "DelegateMax" => self.delegate_max,
            "DelegateMin" => self.delegate_min,
            "Name" => self.name,
            "Port" => self.port,
            "ProtocolCur" => self.protocol_cur,
            "ProtocolMax" => self.protocol_max,
            "ProtocolMin" => self.protocol_min,
            "Status" => self.status,
            "Tags" => self.tags,
        });
    }
}

impl Put for Coordinate {
    fn put(&self, out: &mut Vec<u8>) {
        record!(out, {
            "Adjustment" => self.adjustment,
            "Error" => self.error,
            "Height" => self.height,
            "Vec" => self.vec,
        });
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct MembersBody {
    #[serde(deserialize_with = "or_default")]
    members: Vec<Member>,
}

/// All fields of all records; which of them are present tells the kind.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AnyRecord {
    #[serde(deserialize_with = "or_default")]
    event: Text,
    #[serde(rename = "Type", deserialize_with = "or_default")]
    kind: Text,
    log: Option<Text>,
    #[serde(deserialize_with = "or_default")]
    members: Vec<Member>,
    #[serde(rename = "ID", deserialize_with = "or_default")]
    id: u64,
    #[serde(rename = "LTime", deserialize_with = "or_default")]
    ltime: u64,
    #[serde(deserialize_with = "or_default")]
    name: Text,
    #[serde(deserialize_with = "payload")]
    payload: Option<Vec<u8>>,
    #[serde(deserialize_with = "flag")]
    coalesce: bool,
    #[serde(deserialize_with = "or_default")]
    from: Text,
}
