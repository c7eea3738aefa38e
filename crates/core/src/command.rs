//! What the operator's side asks of a node, and what it gets back.
//!
//! Every command gets exactly one [`Reply`] with the id that the driver gave it, at once or when the
//! work is done.

use crate::exchange_error::ExchangeError;
use crate::member::{QueryKey, Tags};
use crate::text::{Secret, Text};
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// Names a command until its reply; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One request of the operator's side.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Push/pull with each address (gossip.md 13.14). Reply: [`Reply::Joined`].
    Join {
        /// Resolved addresses; each is tried.
        addrs: Vec<SocketAddr>,
        /// Whether user events from before the join are not delivered.
        ignore_old: bool,
    },
    /// Leave gracefully (gossip.md 13.15). Reply: [`Reply::Done`] when the cluster has been told.
    Leave,
    /// Declare a failed member as left (gossip.md 13.16). Reply: [`Reply::Done`].
    ForceLeave {
        /// Whom.
        name: Text,
        /// Whether to forget it at once.
        prune: bool,
    },
    /// Fire a custom event (gossip.md 13.9). Reply: [`Reply::Done`].
    UserEvent {
        /// Any bytes.
        name: Text,
        /// Any bytes.
        payload: Option<Box<[u8]>>,
        /// Whether receivers may merge events of this name.
        coalesce: bool,
    },
    /// Ask (gossip.md 13.10). Reply: [`Reply::QueryStarted`]; then events with its key until `QueryDone`.
    Query(QueryParams),
    /// End a query of this node before its time. Reply: [`Reply::Done`], after the `QueryDone` if it still ran.
    EndQuery(QueryKey),
    /// Answer a query that was delivered as an event. Reply: [`Reply::Done`].
    Respond {
        /// Which query.
        key: QueryKey,
        /// The answer.
        payload: Box<[u8]>,
    },
    /// Replace the tags of this node. Reply: [`Reply::Done`] when the update has been gossiped.
    SetTags(Tags),
    /// Look at or change the keys of every live member (gossip.md 13.11). Reply: [`Reply::Keys`] when all have
    /// answered or their time is over.
    Keys(KeyRequest),
    /// The keyring that [`Event::KeyringChanged`](crate::member::Event::KeyringChanged) named was kept, or why it
    /// was not. Reply: [`Reply::Done`].
    KeyringKept {
        /// From the event.
        token: u64,
        /// The words for the asking node.
        result: Result<(), String>,
    },
    /// Keep the texts that were joined in the snapshot, so that they are known after a restart. Reply:
    /// [`Reply::Done`].
    RememberSeeds(Vec<Text>),
    /// Nothing more will come: put what is worth keeping into the snapshot. Reply: [`Reply::Done`].
    Stop,
}

/// What is wanted with the keys of the cluster; the bytes of a key may be of any length, which each member judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRequest {
    /// Tell all of them.
    List,
    /// Also accept this one.
    Install(Secret),
    /// Encrypt with this one.
    Use(Secret),
    /// No longer accept this one.
    Remove(Secret),
}

/// What the members did with their keys. A member that did not answer is in neither map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Live members, who were asked.
    pub nodes: usize,
    /// How many answered.
    pub responses: usize,
    /// How many of those failed.
    pub failures: usize,
    /// What members said, by their name: why they failed, or that a list is cut short.
    pub messages: BTreeMap<Text, Text>,
    /// Live members that did not answer.
    pub silent: Vec<Text>,
    /// For a list: each key in base64, and how many members have it.
    pub keys: BTreeMap<String, usize>,
    /// For a list: each primary key in base64, and how many members encrypt with it.
    pub primary_keys: BTreeMap<String, usize>,
}

/// Who is asked what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryParams {
    /// Any bytes.
    pub name: Text,
    /// Any bytes.
    pub payload: Option<Box<[u8]>>,
    /// Only these nodes act; empty for all.
    pub nodes: Vec<Text>,
    /// Only nodes whose tag matches the unanchored expression act: (tag, expression).
    pub tags: Vec<(Text, Text)>,
    /// Whether acting nodes acknowledge receipt.
    pub ack: bool,
    /// How many members relay each response.
    pub relay_factor: u8,
    /// `None` computes it from the size of the cluster.
    pub timeout: Option<Duration>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It was refused or did not work; nothing was changed unless the error says so.
    Failed(CommandError),
    /// Every address was tried; the join worked if `contacted` is not 0.
    Joined {
        /// How many addresses answered.
        contacted: usize,
        /// What went wrong with the others, in the order of the command.
        failures: Vec<(SocketAddr, ExchangeError)>,
    },
    /// The query is on its way.
    QueryStarted {
        /// Names it in events.
        key: QueryKey,
    },
    /// What the members did with their keys.
    Keys(Box<KeyReport>),
}

/// Why a command was refused. The texts are those that Serf's clients know (rpc.md 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A join after a leave began.
    JoinAfterLeave,
    /// The force-leave did not get out in time.
    RemovalTimedOut,
    /// The force-leave names a member that is alive and not this node's to remove.
    MemberAlive(Text),
    /// Name and payload are longer than the limit in bytes.
    EventTooLong(usize),
    /// The encoded event is longer than the limit in bytes.
    EncodedEventTooLong(usize),
    /// The encoded query is longer than the limit in bytes.
    QueryTooLong(usize),
    /// The query has more filters than this.
    TooManyFilters(usize),
    /// The name begins with the reserved prefix.
    ReservedQueryName,
    /// The configured protocol version is below 4.
    NotSupported,
    /// This node has answered that query.
    AlreadyResponded,
    /// The query's deadline is past.
    PastDeadline,
    /// No such query is waiting for an answer.
    UnknownQuery,
    /// The encoded response is longer than the limit in bytes.
    ResponseTooLong(usize),
    /// The encoded tags are longer than the limit in bytes.
    TagsTooLong(usize),
    /// A change of tags after a leave began; nobody would hear of it.
    TagsAfterLeave,
    /// The tags could not be written to their file, and were not changed: the words for the operator.
    TagsNotKept(String),
    /// The tag update did not get out in time.
    UpdateTimedOut,
    /// As many commands of this kind as are allowed are under way.
    Busy,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinAfterLeave => f.write_str("Serf can't Join after Leave or Shutdown"),
            Self::RemovalTimedOut => f.write_str("timed out broadcasting node removal"),
            Self::MemberAlive(name) => {
                write!(f, "member '{name}' is alive: it can leave by itself, or be stopped first")
            }
            Self::EventTooLong(limit) => {
                write!(f, "user event exceeds configured limit of {limit} bytes before encoding")
            }
            Self::EncodedEventTooLong(limit) => {
                write!(f, "encoded user event exceeds configured limit of {limit} bytes after encoding")
            }
            Self::QueryTooLong(limit) => write!(f, "query exceeds limit of {limit} bytes"),
            Self::TooManyFilters(limit) => write!(f, "query has more than {limit} filters"),
            Self::ReservedQueryName => f.write_str("Queries cannot contain the '_serf_' prefix"),
            Self::NotSupported => f.write_str("Feature not supported"),
            Self::AlreadyResponded => f.write_str("response already sent"),
            Self::PastDeadline => f.write_str("response is past the deadline"),
            Self::UnknownQuery => f.write_str("No pending queries matching ID"),
            Self::ResponseTooLong(limit) => write!(f, "response exceeds limit of {limit} bytes"),
            Self::TagsTooLong(limit) => write!(f, "Encoded length of tags exceeds limit of {limit} bytes"),
            Self::TagsAfterLeave => f.write_str("Serf can't change tags after Leave or Shutdown"),
            Self::TagsNotKept(why) => f.write_str(why),
            Self::UpdateTimedOut => f.write_str("timeout waiting for update broadcast"),
            Self::Busy => f.write_str("too many requests of this kind are under way"),
        }
    }
}

impl std::error::Error for CommandError {}
