//! Everything that an agent is told before it starts: complete and checked.
//!
//! What was typed ([`cli`'s flags]) and what the host found out (addresses, host name) meet here; nothing
//! below this type asks again. The defaults of the protocol are those of the core.

use crate::handler::Handler;
use std::net::{IpAddr, SocketAddr};
use villein_core::config::Config as NodeConfig;
use villein_core::note::Level;
use villein_core::text::Secret;
use villein_core::time::Duration;

/// An agent's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's own settings.
    pub node: NodeConfig,
    /// For the banner: `lan`, `wan` or `local`.
    pub profile_name: String,
    /// For the banner: the bind address as it is shown, such as `127.0.0.1:7946`.
    pub bind_text: String,
    /// For the banner: the advertise address, if one was given.
    pub advertise_text: Option<String>,
    /// For the banner: the RPC address as it is shown.
    pub rpc_text: String,
    /// Clients must present this; empty for none.
    pub rpc_auth: Secret,
    /// Lines below this level are not printed.
    pub log_level: Level,
    /// In the order of the configuration.
    pub handlers: Vec<Handler>,
    /// Joined at the start; failure ends the agent.
    pub start_join: Vec<String>,
    /// Joined in the background until it works.
    pub retry_join: Vec<String>,
    /// Between two attempts of the retry join; at least 1 s.
    pub retry_interval: Duration,
    /// Attempts after the first; 0 for no limit.
    pub retry_max: u32,
    /// Whether user events from before a join are delivered.
    pub replay_on_join: bool,
    /// Whether SIGTERM leaves gracefully.
    pub leave_on_terminate: bool,
    /// Whether SIGINT does not leave gracefully.
    pub skip_leave_on_interrupt: bool,
    /// Multicast discovery, if wanted.
    pub discover: Option<Discover>,
    /// The port that gossip is bound to: the default for addresses to join that name none.
    pub bind_port: u16,
    /// For `stats`.
    pub machine: Machine,
    /// What the operator should know about these settings; logged as warnings right after the start.
    pub start_warnings: Vec<String>,
}

/// The machine that an agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The architecture as Go spells it, such as `amd64`.
    pub arch: String,
    /// Processors.
    pub cpu_count: usize,
}

/// Multicast discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// Clusters with other names stay apart.
    pub cluster: String,
    /// The machine's host name.
    pub host_name: String,
    /// Whether the IPv4, and the IPv6, sockets could be opened.
    pub families: Vec<Family>,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Config {
    /// Where the node gossips, as others see it.
    pub fn advertised(&self) -> SocketAddr {
        let ip: IpAddr = self.node.addr.ip();
        SocketAddr::new(ip, self.node.port)
    }
}
