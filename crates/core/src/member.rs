//! A member as the operator sees it, and the events that report changes.

use crate::crypto::Key;
use crate::limits;
use crate::text::Text;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Tags of a node: small texts by name.
pub type Tags = BTreeMap<Text, Text>;

/// Whether a name is as harmless as validated names must be: short, and nothing in it that means something to
/// shells, tables or files (gossip.md 13.3; underscores are common in practice).
pub fn is_plain_name(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    name.len() <= limits::PLAIN_NAME && name.iter().all(is_plain)
}

/// An IP address in the exact form in which its owner announced it.
///
/// IPv4 travels as 4 bytes or as 16 mapped bytes, peers compare the bytes, and so the form must
/// survive (spec gossip.md 3.7). Equality here is equality of bytes; compare [`ip`](WireAddr::ip) for
/// equality of hosts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireAddr {
    bytes: [u8; 16],
    short: bool,
}

impl WireAddr {
    /// `None` unless there are 4 or 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<WireAddr> {
        let mut full = [0; 16];
        full.get_mut(..bytes.len())?.copy_from_slice(bytes);
        matches!(bytes.len(), 4 | 16).then_some(WireAddr { bytes: full, short: bytes.len() == 4 })
    }

    /// The short form for IPv4.
    pub fn from_ip(ip: IpAddr) -> WireAddr {
        let bytes: &[u8] = match &ip {
            IpAddr::V4(v4) => &v4.octets(),
            IpAddr::V6(v6) => &v6.octets(),
        };
        WireAddr::from_bytes(bytes).expect("an IP address has 4 or 16 bytes")
    }

    /// As it travels: 4 or 16 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        if self.short { &self.bytes[..4] } else { &self.bytes }
    }

    /// The address itself; a mapped IPv4 address is IPv4.
    pub fn ip(&self) -> IpAddr {
        if self.short {
            let [a, b, c, d, ..] = self.bytes;
            return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        }
        Ipv6Addr::from(self.bytes).to_canonical()
    }
}

impl std::fmt::Debug for WireAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.ip(), if self.short { "" } else { " (16 bytes)" })
    }
}

/// Version vector: memberlist minimum, maximum, current; Serf minimum, maximum, current (gossip.md 3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions(pub [u8; 6]);

impl Versions {
    /// What this implementation understands, speaking Serf protocol `serf`.
    pub const fn ours(serf: u8) -> Versions {
        Versions([1, 5, 2, 2, 5, serf])
    }

    /// Highest memberlist protocol understood.
    pub const fn memberlist_max(self) -> u8 {
        self.0[1]
    }
}

/// What the Serf layer thinks of a member (gossip.md 13.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Not a member.
    None = 0,
    /// Here.
    Alive = 1,
    /// Has announced that it leaves.
    Leaving = 2,
    /// Has left.
    Left = 3,
    /// Went without a word.
    Failed = 4,
}

impl Status {
    /// The word that commands print.
    pub const fn name(self) -> &'static str {
        match self {
            Status::None => "none",
            Status::Alive => "alive",
            Status::Leaving => "leaving",
            Status::Left => "left",
            Status::Failed => "failed",
        }
    }
}

/// A member, as reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Unique in the cluster.
    pub name: Text,
    /// As its owner announced it.
    pub addr: WireAddr,
    /// Gossip port.
    pub port: u16,
    /// As its owner announced them.
    pub tags: Tags,
    /// See [`Status`].
    pub status: Status,
    /// See [`Versions`].
    pub versions: Versions,
}

impl Member {
    /// Where it gossips.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.port)
    }
}

/// What happened to the members of a member event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberEventKind {
    /// Joined or came back.
    Join,
    /// Left gracefully.
    Leave,
    /// Failed.
    Failed,
    /// Changed tags or address.
    Update,
    /// Was forgotten.
    Reap,
}

impl MemberEventKind {
    /// The word of handlers and streams, such as `member-join`.
    pub const fn name(self) -> &'static str {
        match self {
            MemberEventKind::Join => "member-join",
            MemberEventKind::Leave => "member-leave",
            MemberEventKind::Failed => "member-failed",
            MemberEventKind::Update => "member-update",
            MemberEventKind::Reap => "member-reap",
        }
    }
}

/// Names one query in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryKey {
    /// Query clock of the originator.
    pub ltime: u64,
    /// Drawn by the originator.
    pub id: u32,
}

/// What the application is told (gossip.md 13.7), after coalescing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something happened to these members.
    Members {
        /// What.
        kind: MemberEventKind,
        /// To whom; sorted by name, never empty.
        members: Vec<Member>,
    },
    /// A custom event.
    User {
        /// Event clock.
        ltime: u64,
        /// Chosen by the user.
        name: Text,
        /// Chosen by the user.
        payload: Option<Box<[u8]>>,
        /// Whether it could be coalesced.
        coalesce: bool,
    },
    /// A query that this node is asked to answer with `Command::Respond`.
    Query {
        /// Names it in the answer.
        key: QueryKey,
        /// Chosen by the user.
        name: Text,
        /// Chosen by the user.
        payload: Option<Box<[u8]>>,
        /// No answer is sent after this.
        deadline: Instant,
    },
    /// A node acknowledged a query of ours.
    QueryAck {
        /// Which query.
        key: QueryKey,
        /// Which node.
        from: Text,
    },
    /// A node answered a query of ours.
    QueryResponse {
        /// Which query.
        key: QueryKey,
        /// Which node.
        from: Text,
        /// Its answer.
        payload: Option<Box<[u8]>>,
    },
    /// The time of a query of ours is over.
    QueryDone {
        /// Which query.
        key: QueryKey,
    },
    /// This node lost the vote about its name and must stop without a leave (gossip.md 13.12).
    NameLost {
        /// Votes for this node.
        matching: usize,
        /// All votes.
        responses: usize,
    },
    /// A key query changed the keys of this node, which are to be kept; the answer to the query waits for
    /// `Command::KeyringKept`. Only with `Config::keyring_file`.
    KeyringChanged {
        /// Comes back with the command.
        token: u64,
        /// All of them, the primary one first.
        keys: Vec<Key>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_letters_digits_and_three_signs() {
        for name in ["a", "Web-01.eu_west", &"n".repeat(128)] {
            assert!(is_plain_name(name.as_bytes()), "{name}");
        }
        for name in ["a b", "a/b", "a|b", "caf\u{e9}", "a\n", "a\0", "$(a)", &"n".repeat(129)] {
            assert!(!is_plain_name(name.as_bytes()), "{name}");
        }
    }
}
