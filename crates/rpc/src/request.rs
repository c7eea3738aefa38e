//! What a client asks: the twenty commands with their bodies (rpc.md 3.1 and 6).
//!
//! Decides names, fields, their order in the array form (the order of declaration here) and their
//! bytes. Does not decide what a command means or whether it is allowed; a value that is well-formed but
//! senseless (a version of 9, an unknown log level) decodes, and the agent refuses it in words.

use crate::decode::{self, flag, or_default, payload};
use crate::encode::{Put, record};
use crate::text::Text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// The only version of the protocol (rpc.md 6.1).
pub const VERSION: i32 = 1;

/// What precedes every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RequestHeader {
    /// The name of the command, as it came; empty when it was missing.
    #[serde(deserialize_with = "or_default")]
    pub command: Text,
    /// Chosen by the client, copied into every answer; 0 when it was missing.
    #[serde(deserialize_with = "or_default")]
    pub seq: u64,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `handshake`: the first request of a connection.
    Handshake(Handshake),
    /// `auth`: the token, when the agent wants one.
    Auth(Auth),
    /// `event`: fire a user event.
    Event(UserEvent),
    /// `members`: all members. No body.
    Members,
    /// `members-filtered`: the members that match.
    MembersFiltered(MemberFilter),
    /// `join`: contact other agents.
    Join(Join),
    /// `force-leave`: declare a failed member gone.
    ForceLeave(ForceLeave),
    /// `leave`: leave the cluster and exit. No body.
    Leave,
    /// `tags`: change the agent's own tags.
    Tags(TagChange),
    /// `stream`: subscribe to events.
    Stream(Stream),
    /// `monitor`: subscribe to log lines.
    Monitor(Monitor),
    /// `stop`: end a subscription.
    Stop(Stop),
    /// `install-key`: add an encryption key everywhere.
    InstallKey(Key),
    /// `use-key`: change the primary key everywhere.
    UseKey(Key),
    /// `remove-key`: remove a key everywhere.
    RemoveKey(Key),
    /// `list-keys`: which keys are installed where. No body.
    ListKeys,
    /// `query`: ask the cluster.
    Query(Query),
    /// `respond`: answer a query that arrived on a stream.
    Respond(Respond),
    /// `stats`: numbers about the agent. No body.
    Stats,
    /// `get-coordinate`: the network coordinate of a member.
    GetCoordinate(CoordinateOf),
    /// A command that does not exist, by its name: refused with `Unsupported command`, then closed.
    Unknown(Text),
}

/// Body of `handshake`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Handshake {
    /// The version that the client speaks: [`VERSION`].
    #[serde(deserialize_with = "or_default")]
    pub version: i32,
}

/// Body of `auth`. Its `Debug` does not show the token.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Auth {
    /// The token; to be compared in constant time.
    #[serde(deserialize_with = "or_default")]
    pub auth_key: Text,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

/// Body of `event`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UserEvent {
    /// Any bytes, also none.
    #[serde(deserialize_with = "or_default")]
    pub name: Text,
    /// `None` when the client sent none, which differs from an empty one.
    #[serde(deserialize_with = "payload")]
    pub payload: Option<Vec<u8>>,
    /// Whether receivers may fold several events of this name into the last one.
    #[serde(deserialize_with = "flag")]
    pub coalesce: bool,
}

/// Body of `members-filtered`: regular expressions, anchored at both ends by the agent (rpc.md 6.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MemberFilter {
    /// Tag to expression. All must match; a missing tag counts as empty.
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<Text, Text>,
    /// Expression for the status; empty matches all.
    #[serde(deserialize_with = "or_default")]
    pub status: Text,
    /// Expression for the name; empty matches all.
    #[serde(deserialize_with = "or_default")]
    pub name: Text,
}

/// Body of `join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Join {
    /// Addresses, each `host`, `host:port` or `name/host:port`.
    #[serde(deserialize_with = "or_default")]
    pub existing: Vec<Text>,
    /// Whether user events from before the join are delivered.
    #[serde(deserialize_with = "flag")]
    pub replay: bool,
}

/// Body of `force-leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ForceLeave {
    /// The member's name.
    #[serde(deserialize_with = "or_default")]
    pub node: Text,
    /// Whether the member is forgotten at once instead of after the reap time.
    #[serde(deserialize_with = "flag")]
    pub prune: bool,
}

/// Body of `tags`: deletions first, then additions (rpc.md 6.9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TagChange {
    /// Tags to set.
    #[serde(deserialize_with = "or_default")]
    pub tags: BTreeMap<Text, Text>,
    /// Names of tags to delete.
    #[serde(deserialize_with = "or_default")]
    pub delete_tags: Vec<Text>,
}

/// Body of `stream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Stream {
    /// The filter list, comma separated; empty means everything (rpc.md 5.1).
    #[serde(rename = "Type", deserialize_with = "or_default")]
    pub filter: Text,
}

/// Body of `monitor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Monitor {
    /// The lowest level to see, in any case (rpc.md 5.2).
    #[serde(deserialize_with = "or_default")]
    pub log_level: Text,
}

/// Body of `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Stop {
    /// The `Seq` of the subscription.
    #[serde(deserialize_with = "or_default")]
    pub stop: u64,
}

/// Body of `install-key`, `use-key` and `remove-key`. Its `Debug` does not show the key.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Key {
    /// The key in base64.
    #[serde(deserialize_with = "or_default")]
    pub key: Text,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Body of `query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Query {
    /// Names of the members that are asked; empty asks all.
    #[serde(deserialize_with = "or_default")]
    pub filter_nodes: Vec<Text>,
    /// Tag to regular expression, not anchored; all must match.
    #[serde(deserialize_with = "or_default")]
    pub filter_tags: BTreeMap<Text, Text>,
    /// Whether members confirm that the query arrived.
    #[serde(deserialize_with = "flag")]
    pub request_ack: bool,
    /// How many other members relay each answer.
    #[serde(deserialize_with = "or_default")]
    pub relay_factor: u8,
    /// In nanoseconds; 0 lets the agent compute it from the size of the cluster.
    #[serde(deserialize_with = "or_default")]
    pub timeout: i64,
    /// What is asked.
    #[serde(deserialize_with = "or_default")]
    pub name: Text,
    /// `None` when the client sent none.
    #[serde(deserialize_with = "payload")]
    pub payload: Option<Vec<u8>>,
}

/// Body of `respond`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Respond {
    /// The `ID` of the query record.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: u64,
    /// The answer; a missing one is an empty one.
    #[serde(deserialize_with = "payload")]
    pub payload: Option<Vec<u8>>,
}

/// Body of `get-coordinate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CoordinateOf {
    /// The member's name.
    #[serde(deserialize_with = "or_default")]
    pub node: Text,
}

impl Request {
    /// The name of the command on the wire.
    pub fn command(&self) -> &[u8] {
        match self {
            Request::Handshake(_) => b"handshake",
            Request::Auth(_) => b"auth",
            Request::Event(_) => b"event",
            Request::Members => b"members",
            Request::MembersFiltered(_) => b"members-filtered",
            Request::Join(_) => b"join",
            Request::ForceLeave(_) => b"force-leave",
            Request::Leave => b"leave",
            Request::Tags(_) => b"tags",
            Request::Stream(_) => b"stream",
            Request::Monitor(_) => b"monitor",
            Request::Stop(_) => b"stop",
            Request::InstallKey(_) => b"install-key",
            Request::UseKey(_) => b"use-key",
            Request::RemoveKey(_) => b"remove-key",
            Request::ListKeys => b"list-keys",
            Request::Query(_) => b"query",
            Request::Respond(_) => b"respond",
            Request::Stats => b"stats",
            Request::GetCoordinate(_) => b"get-coordinate",
            Request::Unknown(name) => name,
        }
    }

    /// The request of a command that has no body, or `None` when `command` waits for one.
    ///
    /// An unknown command is complete: nobody knows whether a body follows.
    pub(crate) fn without_body(command: &Text) -> Option<Request> {
        match command.as_bytes() {
            b"members" => Some(Request::Members),
            b"leave" => Some(Request::Leave),
            b"list-keys" => Some(Request::ListKeys),
            b"stats" => Some(Request::Stats),
            b"handshake" | b"auth" | b"event" | b"members-filtered" | b"join" | b"force-leave" | b"tags"
            | b"stream" | b"monitor" | b"stop" | b"install-key" | b"use-key" | b"remove-key" | b"query"
            | b"respond" | b"get-coordinate" => None,
            _ => Some(Request::Unknown(command.clone())),
        }
    }

    /// The request of a command that has a body, from the whole object that is its body.
    pub(crate) fn with_body(command: &Text, body: &[u8]) -> Result<Request, rmp_serde::decode::Error> {
        Ok(match command.as_bytes() {
            b"handshake" => Request::Handshake(decode::record(body)?),
            b"auth" => Request::Auth(decode::record(body)?),
            b"event" => Request::Event(decode::record(body)?),
            b"members-filtered" => Request::MembersFiltered(decode::record(body)?),
            b"join" => Request::Join(decode::record(body)?),
            b"force-leave" => Request::ForceLeave(decode::record(body)?),
            b"tags" => Request::Tags(decode::record(body)?),
            b"stream" => Request::Stream(decode::record(body)?),
            b"monitor" => Request::Monitor(decode::record(body)?),
            b"stop" => Request::Stop(decode::record(body)?),
            b"install-key" => Request::InstallKey(decode::record(body)?),
            b"use-key" => Request::UseKey(decode::record(body)?),
            b"remove-key" => Request::RemoveKey(decode::record(body)?),
            b"query" => Request::Query(decode::record(body)?),
            b"respond" => Request::Respond(decode::record(body)?),
            b"get-coordinate" => Request::GetCoordinate(decode::record(body)?),
            _ => Request::Unknown(command.clone()),
        })
    }

    /// Appends the header and, for commands that have one, the body.
    pub fn encode(&self, seq: u64, out: &mut Vec<u8>) {
        record!(out, { "Command" => Text::from(self.command()), "Seq" => seq });
        match self {
            Request::Members | Request::Leave | Request::ListKeys | Request::Stats | Request::Unknown(_) => {}
            Request::Handshake(body) => record!(out, { "Version" => body.version }),
            Request::Auth(body) => record!(out, { "AuthKey" => body.auth_key }),
            Request::Event(body) => record!(out, {
                "Coalesce" => body.coalesce,
                "Name" => body.name,
                "Payload" => body.payload,
            }),
            Request::MembersFiltered(body) => record!(out, {
                "Name" => body.name,
                "Status" => body.status,
                "Tags" => body.tags,
            }),
            Request::Join(body) => record!(out, { "Existing" => body.existing, "Replay" => body.replay }),
            Request::ForceLeave(body) => record!(out, { "Node" => body.node, "Prune" => body.prune }),
            Request::Tags(body) => record!(out, { "DeleteTags" => body.delete_tags, "Tags" => body.tags }),
            Request::Stream(body) => record!(out, { "Type" => body.filter }),
            Request::Monitor(body) => record!(out, { "LogLevel" => body.log_level }),
            Request::Stop(body) => record!(out, { "Stop" => body.stop }),
            Request::InstallKey(body) | Request::UseKey(body) | Request::RemoveKey(body) => {
                record!(out, { "Key" => body.key });
            }
            Request::Query(body) => body.put(out),
            Request::Respond(body) => record!(out, { "ID" => body.id, "Payload" => body.payload }),
            Request::GetCoordinate(body) => record!(out, { "Node" => body.node }),
        }
    }
}

impl Put for Query {
    fn put(&self, out: &mut Vec<u8>) {
        record!(out, {
            "FilterNodes" => self.filter_nodes,
            "FilterTags" => self.filter_tags,
            "Name" => self.name,
            "Payload" => self.payload,
            "RelayFactor" => self.relay_factor,
            "RequestAck" => self.request_ack,
            "Timeout" => self.timeout,
        });
    }
}
