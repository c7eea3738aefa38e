//! Everything that a node is told before it starts.
//!
//! Defaults live here; the merge of flags and files, and what an operator is told about odd values, live in the
//! agent. The invariant: nothing here is optional by being absent, and with any durations and sizes a node
//! neither panics nor hangs, though it may serve badly; where a least or largest value is needed for that, the
//! node keeps to it.

use crate::crypto::Keyring;
use crate::member::{Tags, WireAddr};
use crate::text::Text;
use crate::time::Duration;

/// Timing and fan-out of the gossip layer for one kind of network (gossip.md 17.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Limit for connecting and for each direction of a stream exchange. Too short: joins over slow links
    /// fail. Too long: a silent address delays a join.
    pub tcp_timeout: Duration,
    /// Relays asked when a probe goes unanswered. More: fewer false suspicions, more packets.
    pub indirect_checks: usize,
    /// Each broadcast rides in `retransmit_mult × ⌈log10(n + 1)⌉` packets at most.
    pub retransmit_mult: u32,
    /// Scales the least time between suspicion and declared failure.
    pub suspicion_mult: u32,
    /// The longest suspicion is this many times the shortest.
    pub suspicion_max_timeout_mult: u32,
    /// Between two full exchanges with a random member, for up to 32 nodes; zero disables them.
    pub push_pull_interval: Duration,
    /// How long a direct probe waits before relays are asked; shorter than `probe_interval`, or they have no time.
    pub probe_timeout: Duration,
    /// Between two probes.
    pub probe_interval: Duration,
    /// The local health score stays below this.
    pub awareness_max_multiplier: u32,
    /// Members that each gossip tick sends to.
    pub gossip_nodes: usize,
    /// Between two gossip ticks.
    pub gossip_interval: Duration,
    /// How long failed nodes still get gossip, so that they can refute; also how long they are remembered.
    pub gossip_to_the_dead_time: Duration,
}

impl Profile {
    /// One local network.
    pub const LAN: Profile = Profile {
        tcp_timeout: Duration::from_secs(10),
        indirect_checks: 3,
        retransmit_mult: 4,
        suspicion_mult: 4,
        suspicion_max_timeout_mult: 6,
        push_pull_interval: Duration::from_secs(30),
        probe_timeout: Duration::from_millis(500),
        probe_interval: Duration::from_secs(1),
        awareness_max_multiplier: 8,
        gossip_nodes: 3,
        gossip_interval: Duration::from_millis(200),
        gossip_to_the_dead_time: Duration::from_secs(30),
    };

    /// Sites that are far apart.
    pub const WAN: Profile = Profile {
        tcp_timeout: Duration::from_secs(30),
        suspicion_mult: 6,
        push_pull_interval: Duration::from_mins(1),
        probe_timeout: Duration::from_secs(3),
        probe_interval: Duration::from_secs(5),
        gossip_nodes: 4,
        gossip_interval: Duration::from_millis(500),
        gossip_to_the_dead_time: Duration::from_mins(1),
        ..Profile::LAN
    };

    /// One host.
    pub const LOCAL: Profile = Profile {
        tcp_timeout: Duration::from_secs(1),
        indirect_checks: 1,
        retransmit_mult: 2,
        suspicion_mult: 3,
        push_pull_interval: Duration::from_secs(15),
        probe_timeout: Duration::from_millis(200),
        gossip_interval: Duration::from_millis(100),
        gossip_to_the_dead_time: Duration::from_secs(15),
        ..Profile::LAN
    };

    /// The profile that operators call `name`: `lan`, `wan` or `local`.
    pub fn named(name: &str) -> Option<Profile> {
        match name {
            "lan" => Some(Profile::LAN),
            "wan" => Some(Profile::WAN),
            "local" => Some(Profile::LOCAL),
            _ => None,
        }
    }
}

/// How events of one kind are merged (gossip.md 13.8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coalesce {
    /// Flush at the latest this long after the first event.
    pub period: Duration,
    /// Flush when this long nothing came.
    pub quiescent: Duration,
}

/// A node's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique in the cluster; not empty.
    pub name: Text,
    /// Announced to others, in the form given here.
    pub addr: WireAddr,
    /// Announced to others, and the default for peers that announce none.
    pub port: u16,
    /// Announced to others; at most 512 bytes when encoded.
    pub tags: Tags,
    /// Serf protocol spoken: 2 to 5.
    pub protocol: u8,
    /// Timing of the gossip layer.
    pub profile: Profile,
    /// UDP payload that gossip aims to fill, in bytes; at most [`limits::PACKET`](crate::limits::PACKET). More than a
    /// path's MTU loses packets.
    pub udp_buffer_size: usize,
    /// Prefix that separates clusters on one network; empty for none. Of a longer one the first 255 bytes count.
    pub label: Text,
    /// Whether packets and streams are compressed when sent; received ones are always understood.
    pub compression: bool,
    /// Encryption keys; `None` for plain text.
    pub keyring: Option<Keyring>,
    /// Whether plain traffic is refused although there are keys.
    pub verify_incoming: bool,
    /// Whether traffic is encrypted although some peers may not have keys.
    pub verify_outgoing: bool,
    /// `None` reports every event at once.
    pub coalesce: Option<Coalesce>,
    /// Encoded size of a user event, in bytes; at most 9216.
    pub user_event_size_limit: usize,
    /// Encoded size of a query, in bytes.
    pub query_size_limit: usize,
    /// Encoded size of a query response, in bytes; at most what fits into a datagram.
    pub query_response_size_limit: usize,
    /// How long leave, force-leave and tag updates wait to be gossiped.
    pub broadcast_timeout: Duration,
    /// After the leave has been gossiped, how long the node stays for others to hear of it.
    pub leave_propagate_delay: Duration,
    /// Between two attempts to reach a failed member; at least a second.
    pub reconnect_interval: Duration,
    /// How long failed members are remembered.
    pub reconnect_timeout: Duration,
    /// How long members that left are remembered.
    pub tombstone_timeout: Duration,
    /// Whether a name claimed twice is put to the vote.
    pub name_conflict_resolution: bool,
    /// Whether traffic without a label is accepted although there is one, because whoever receives for this node
    /// has checked and removed it (gossip.md 4.3).
    pub skip_inbound_label_check: bool,
    /// Whether network coordinates are exchanged and computed.
    pub coordinates: bool,
    /// How long after its failure a name may come back at another address at once; zero waits until the failed
    /// node is forgotten (gossip.md 20.3). A name that left may always.
    pub reclaim_time: Duration,
    /// Whether members with odd names are refused: only letters, digits, `-`, `_` and `.`, at most 128 bytes.
    pub validate_node_names: bool,
    /// Whether what a restart needs is given out as [`Action::Store`](crate::io::Action::Store).
    pub snapshot: bool,
    /// Whether a restart joins the cluster again although this node had left it.
    pub rejoin_after_leave: bool,
    /// Whether changed keys are kept in a file, so that answers wait for it.
    pub keyring_file: bool,
}

impl Config {
    /// The agent's defaults for a node of this name and address (gossip.md 17.2).
    pub fn new(name: Text, addr: WireAddr, port: u16) -> Config {
        Config {
            name,
            addr,
            port,
            tags: Tags::new(),
            protocol: 5,
            profile: Profile::LAN,
            udp_buffer_size: 1400,
            label: Text::default(),
            compression: true,
            keyring: None,
            verify_incoming: true,
            verify_outgoing: true,
            coalesce: Some(Coalesce { period: Duration::from_secs(3), quiescent: Duration::from_secs(1) }),
            user_event_size_limit: 512,
            query_size_limit: 1024,
            query_response_size_limit: 1024,
            broadcast_timeout: Duration::from_secs(5),
            leave_propagate_delay: Duration::from_secs(1),
            reconnect_interval: Duration::from_secs(30),
            reconnect_timeout: Duration::from_hours(24),
            tombstone_timeout: Duration::from_hours(24),
            name_conflict_resolution: true,
            skip_inbound_label_check: false,
            coordinates: true,
            reclaim_time: Duration::ZERO,
            validate_node_names: false,
            snapshot: false,
            rejoin_after_leave: false,
            keyring_file: false,
        }
    }
}
