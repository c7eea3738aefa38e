//! Everything that an agent is told before it starts: complete and checked.
//!
//! What was typed ([`cli`'s flags]) and what the host found out (addresses, host name) meet here; nothing
//! below this type asks again. The defaults of the protocol are those of the core.

pub mod decode;
pub mod file;
mod merge;
pub mod settings;

pub use self::file::File;
pub(crate) use self::merge::RELOADED;
use crate::handler::Handler;
use crate::io::Sink;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use villein_core::config::Config as NodeConfig;
use villein_core::note::Level;
use villein_core::text::Secret;
use villein_core::time::Duration;

/// Where clients find an agent whose operator says nothing.
pub const RPC_ADDR: &str = "127.0.0.1:7373";

/// The timing of an agent whose operator says nothing.
const PROFILE: &str = "lan";

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
    /// Joined in the background until it works, and looked after from then on.
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
    /// The tags file: where changed tags are kept.
    pub tags_file: Option<PathBuf>,
    /// The keyring file: where changed keys are kept.
    pub keyring_file: Option<PathBuf>,
    /// Where the settings came from, for reading them again.
    pub sources: Sources,
    /// How log lines are printed.
    pub log_format: LogFormat,
    /// Whether standard output is the journal, which takes the level of a line of text from its first bytes.
    pub journal: bool,
    /// Whether log lines also go to syslog, and as whose.
    pub syslog: Option<Facility>,
    /// Which sinks get metrics.
    pub metric_sinks: Vec<Sink>,
    /// The machine's host name, for the names of metrics.
    pub host_name: String,
    /// Multicast discovery, if wanted.
    pub discover: Option<Discover>,
    /// For the banner and `stats`: the event loop that runs the agent.
    pub runtime_name: String,
    /// The port that gossip is bound to: the default for addresses to join that name none.
    pub bind_port: u16,
    /// For `stats`.
    pub machine: Machine,
    /// Who is told how the agent fares, if anybody.
    pub service_manager: Option<ServiceManager>,
    /// What the operator should know about these settings; logged right after the start.
    pub start_lines: Vec<(Level, String)>,
}

/// Where settings come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Files and directories, in the order of their flags.
    pub paths: Vec<PathBuf>,
    /// What was typed, which counts more than what any file says.
    pub flags: File,
    /// All of them together, as they were at the start.
    pub merged: File,
}

/// How log lines look on standard output. Monitors always get lines of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `YYYY/MM/DD HH:MM:SS [LEVEL] component: text`.
    #[default]
    Text,
    /// One JSON object in each line.
    Json,
}

/// The event loop that an operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// Whichever does best: smol, which needs the least of the machine.
    #[default]
    Auto,
    /// One over epoll.
    Smol,
    /// One over io_uring, where there is io_uring.
    Glommio,
}

/// A syslog facility: its number in RFC 3164.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

/// The machine that an agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The architecture as Go spells it, such as `amd64`.
    pub arch: String,
    /// Processors.
    pub cpu_count: usize,
    /// The agent's process.
    pub pid: u32,
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

/// A service manager that wants to hear of the process that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceManager {
    /// An agent that gives no sign of life for so long is restarted; `None` if nobody watches.
    pub watchdog: Option<Duration>,
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
    /// The defaults for a node that gossips and listens on `127.0.0.1`-like places; `bind_text`, `rpc_text` and
    /// `bind_port` are those of the node's own address.
    pub fn new(node: NodeConfig, machine: Machine) -> Config {
        let port = node.port;
        Config {
            profile_name: PROFILE.to_owned(),
            bind_text: SocketAddr::new(node.addr.ip(), port).to_string(),
            advertise_text: None,
            rpc_text: RPC_ADDR.to_owned(),
            rpc_auth: Secret::default(),
            log_level: Level::Info,
            handlers: Vec::new(),
            start_join: Vec::new(),
            retry_join: Vec::new(),
            retry_interval: Duration::from_secs(30),
            retry_max: 0,
            replay_on_join: false,
            leave_on_terminate: false,
            skip_leave_on_interrupt: false,
            tags_file: None,
            keyring_file: None,
            sources: Sources::default(),
            log_format: LogFormat::Text,
            journal: false,
            syslog: None,
            metric_sinks: Vec::new(),
            host_name: "localhost".to_owned(),
            discover: None,
            runtime_name: "none".to_owned(),
            bind_port: port,
            machine,
            service_manager: None,
            start_lines: Vec::new(),
            node,
        }
    }

    /// Where the node gossips, as others see it.
    pub fn advertised(&self) -> SocketAddr {
        let ip: IpAddr = self.node.addr.ip();
        SocketAddr::new(ip, self.node.port)
    }
}
