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
#[derive(Clone, Default, PartialEq, Eq)]
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

/// Shows how many keys there are, and none of them.
impl fmt::Debug for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyReport")
            .field("nodes", &self.nodes)
            .field("responses", &self.responses)
            .field("failures", &self.failures)
            .field("messages", &self.messages)
            .field("silent", &self.silent)
            .field("keys", &self.keys.len())
            .field("primary_keys", &self.primary_keys.len())
            .finish()
    }
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

/// How long a message is, added up for whoever must shorten it: `name 1 + payload 482 + encoding 30 = 513 bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// What the operator chose: each part by its name, in bytes.
    pub parts: Vec<(&'static str, usize)>,
    /// All of the message, in bytes. What the parts leave of it is the encoding.
    pub total: usize,
}

impl Size {
    /// Of a message that consists of these parts and their encoding.
    pub fn new(parts: impl Into<Vec<(&'static str, usize)>>, total: usize) -> Size {
        Size { parts: parts.into(), total }
    }

    /// Of tags that take `total` bytes when they are announced. Before protocol 3 that is the role alone.
    pub fn of_tags(tags: &Tags, total: usize) -> Size {
        let names: usize = tags.keys().map(|name| name.len()).sum();
        let values: usize = tags.values().map(|value| value.len()).sum();
        if names + values < total {
            Size::new([("names", names), ("values", values)], total)
        } else {
            Size::new([("role", total)], total)
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen: usize = self.parts.iter().map(|(_, bytes)| bytes).sum();
        let encoding = self.total.saturating_sub(chosen);
        let parts = self.parts.iter().copied().chain((encoding > 0).then_some(("encoding", encoding)));
        for (number, (name, bytes)) in parts.enumerate() {
            let plus = if number == 0 { "" } else { " + " };
            write!(f, "{plus}{name} {bytes}")?;
        }
        write!(f, " = {} bytes", self.total)
    }
}

/// Why a command was refused. The texts are those that Serf's clients know (rpc.md 6), and begin with them where
/// the arithmetic behind a limit is worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// A join after a leave began.
    JoinAfterLeave,
    /// The force-leave did not get out in time.
    RemovalTimedOut,
    /// The force-leave names a member that is alive and not this node's to remove.
    MemberAlive(Text),
    /// Name and payload are longer than the configured limit.
    EventTooLong {
        /// In bytes.
        limit: usize,
        /// Of name and payload.
        size: Size,
    },
    /// The encoded event is longer than the configured limit.
    EncodedEventTooLong {
        /// In bytes.
        limit: usize,
        /// Of the encoded event.
        size: Size,
    },
    /// The encoded query is longer than the configured limit.
    QueryTooLong {
        /// In bytes.
        limit: usize,
        /// Of the encoded query.
        size: Size,
    },
    /// The limits let the message through, but no gossip packet has room for it, so that it would reach others
    /// late or never (gossip.md 20.3).
    FitsNoPacket {
        /// What it is.
        what: &'static str,
        /// Of the encoded message.
        size: Size,
        /// What a packet holds, in bytes.
        room: usize,
    },
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
    /// The encoded response is longer than the configured limit.
    ResponseTooLong {
        /// In bytes.
        limit: usize,
        /// Of the encoded response.
        size: Size,
    },
    /// The encoded tags are longer than an announcement may be.
    TagsTooLong {
        /// In bytes.
        limit: usize,
        /// Of the encoded tags.
        size: Size,
    },
    /// A change of tags after a leave began; nobody would hear of it.
    TagsAfterLeave,
    /// The tags could not be written to their file, and were not changed: the words for the operator.
    TagsNotKept(String),
    /// The tag update did not get out in time.
    UpdateTimedOut,
    /// With so many keys, agents of the reference die when they are asked to list them.
    TooManyKeys(usize),
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
            Self::EventTooLong { limit, size } => {
                write!(f, "user event exceeds configured limit of {limit} bytes before encoding ({size})")
            }
            Self::EncodedEventTooLong { limit, size } => {
                write!(
                    f,
                    "encoded user event exceeds configured limit of {limit} bytes after encoding ({size})"
                )
            }
            Self::QueryTooLong { limit, size } => write!(f, "query exceeds limit of {limit} bytes ({size})"),
            Self::FitsNoPacket { what, size, room } => {
                let excess = size.total.saturating_sub(*room);
                write!(f, "{what} fits into no gossip packet ({size}, room for {room}): ")?;
                write!(f, "shorten it by {excess} bytes, or send the place where to fetch the rest")
            }
            Self::TooManyFilters(limit) => write!(f, "query has more than {limit} filters"),
            Self::ReservedQueryName => f.write_str("Queries cannot contain the '_serf_' prefix"),
            Self::NotSupported => f.write_str("Feature not supported"),
            Self::AlreadyResponded => f.write_str("response already sent"),
            Self::PastDeadline => f.write_str("response is past the deadline"),
            Self::UnknownQuery => f.write_str("No pending queries matching ID"),
            Self::ResponseTooLong { limit, size } => {
                write!(f, "response exceeds limit of {limit} bytes ({size})")
            }
            Self::TagsTooLong { limit, size } => {
                write!(f, "Encoded length of tags exceeds limit of {limit} bytes ({size})")
            }
            Self::TagsAfterLeave => f.write_str("Serf can't change tags after Leave or Shutdown"),
            Self::TagsNotKept(why) => f.write_str(why),
            Self::UpdateTimedOut => f.write_str("timeout waiting for update broadcast"),
            Self::TooManyKeys(count) => {
                write!(
                    f,
                    "a list of {count} keys fits into no answer, and agents of Serf 0.9.4 die when asked "
                )?;
                f.write_str("for it: first remove keys that are no longer used")
            }
            Self::Busy => f.write_str("too many requests of this kind are under way"),
        }
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_added_up() {
        let parts = [("name", 1), ("payload", 482)];
        assert_eq!(Size::new(parts, 513).to_string(), "name 1 + payload 482 + encoding 30 = 513 bytes");
        assert_eq!(Size::new(parts, 483).to_string(), "name 1 + payload 482 = 483 bytes");
        let tags = Tags::from([("role".into(), "x".repeat(600).into()), ("dc".into(), "eu".into())]);
        assert_eq!(Size::of_tags(&tags, 620).to_string(), "names 6 + values 602 + encoding 12 = 620 bytes");
        assert_eq!(Size::of_tags(&tags, 600).to_string(), "role 600 = 600 bytes");
    }

    /// Clients and scripts look for the words that Serf has for it (rpc.md 6).
    #[test]
    fn refusals_begin_as_they_are_known() {
        let size = || Size::new([("name", 1), ("payload", 2000)], 2034);
        #[rustfmt::skip]
        let rows = [
            (
                CommandError::EventTooLong { limit: 512, size: size() },
                "user event exceeds configured limit of 512 bytes before encoding (name 1 ",
            ),
            (
                CommandError::EncodedEventTooLong { limit: 512, size: size() },
                "encoded user event exceeds configured limit of 512 bytes after encoding (name 1 ",
            ),
            (
                CommandError::QueryTooLong { limit: 1024, size: size() },
                "query exceeds limit of 1024 bytes (name 1 ",
            ),
            (
                CommandError::ResponseTooLong { limit: 1024, size: size() },
                "response exceeds limit of 1024 bytes (name 1 ",
            ),
            (
                CommandError::TagsTooLong { limit: 512, size: size() },
                "Encoded length of tags exceeds limit of 512 bytes (name 1 ",
            ),
            (
                CommandError::FitsNoPacket { what: "user event", size: size(), room: 1395 },
                "user event fits into no gossip packet (name 1 + payload 2000 + encoding 33 = 2034 bytes, room for \
                 1395): shorten it by 639 bytes,",
            ),
        ];
        for (error, beginning) in rows {
            assert!(error.to_string().starts_with(beginning), "{error}");
        }
    }

    #[test]
    fn a_report_hides_the_keys() {
        let secret = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
        let counts = || BTreeMap::from([(secret.to_owned(), 3)]);
        let report = KeyReport { keys: counts(), primary_keys: counts(), ..KeyReport::default() };
        let shown = format!("{:?}", Reply::Keys(Box::new(report)));
        assert!(shown.contains("keys: 1") && !shown.contains(secret), "{shown}");
    }
}
