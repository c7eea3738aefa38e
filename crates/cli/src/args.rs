//! Every command and every flag, each in one place: its name, kind, default and help.
//!
//! This is what was typed, nothing more: defaults that depend on the environment or on files are applied
//! where they are used. Flag names are given to clap here and to nobody else; `goflags` and `help` read them from
//! the definition. A flag whose value must follow `=` is a boolean. Positional words are one list per command,
//! because the commands count them themselves.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Command, Subcommand};
use std::path::PathBuf;
use villein_core::text::{Secret, Text as Name};
use villein_rpc::Text;

use crate::govalue::{boolean, duration, integer, text};
use crate::help;

/// The name of the program; help says that under which it was called.
pub const PROGRAM: &str = "villein";

/// What the command line asks for.
#[derive(Debug, Subcommand)]
pub enum Invocation {
    /// Runs an agent
    Agent(Box<AgentArgs>),
    /// Sends a custom event through the cluster
    Event(EventArgs),
    /// Forces a member of the cluster into the "left" state
    ForceLeave(ForceLeaveArgs),
    /// Shows numbers about a running agent
    Info(InfoArgs),
    /// Tells an agent to join a cluster
    Join(JoinArgs),
    /// Generates a new encryption key
    Keygen,
    /// Changes or lists the encryption keys of the cluster
    Keys(KeysArgs),
    /// Leaves the cluster gracefully and shuts the agent down
    Leave(LeaveArgs),
    /// Lists the members of the cluster
    Members(MembersArgs),
    /// Streams the log lines and events of an agent
    Monitor(MonitorArgs),
    /// Asks the cluster and prints the answers
    Query(QueryArgs),
    /// Tests whether every live member can be reached
    Reachability(ReachabilityArgs),
    /// Estimates the network round trip time between two members
    Rtt(RttArgs),
    /// Changes the tags of a running agent
    Tags(TagsArgs),
    /// Checks configuration files without starting an agent
    Validate(ValidateArgs),
    /// Prints the version
    Version,
}

/// Where the agent listens, and the token that it wants.
#[derive(Args, Debug)]
pub struct RpcArgs {
    /// Address of the agent's RPC port.
    #[arg(long, value_name = "HOST:PORT", value_parser = text::<Text>())]
    #[arg(help = "Address of the agent [default: $SERF_RPC_ADDR or 127.0.0.1:7373]")]
    pub rpc_addr: Option<Text>,
    /// Token that the agent wants; empty is none.
    #[arg(long, value_name = "TOKEN", value_parser = text::<Secret>())]
    #[arg(help = "Token for the agent [default: $SERF_RPC_AUTH]")]
    pub rpc_auth: Option<Secret>,
}

const ADDRESSES: &str = "Addresses";
const OTHERS: &str = "Finding others";
const SECRETS: &str = "Encryption and separation";
const GOSSIP: &str = "Gossip";
const LOG: &str = "Log";

/// Flags of `agent` (agent.md 2): `None` and empty lists were not given.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = help::AGENT_NOTES)]
pub struct AgentArgs {
    /// Name of this node; must be unique in the cluster [default: host name]
    #[arg(long, value_name = "NAME", value_parser = text::<Name>())]
    pub node: Option<Name>,
    /// Tag of this node; can be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = text::<Name>())]
    pub tags: Vec<Name>,
    /// File with the tags of this node; changed tags are kept in it
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub tags_file: Option<PathBuf>,
    /// Deprecated: sets the tag "role"
    #[arg(long, value_name = "ROLE", value_parser = text::<Name>())]
    pub role: Option<Name>,
    /// Script to run on events; can be given several times, see below
    #[arg(long = "event-handler", value_name = "[FILTER=]SCRIPT", value_parser = text::<Name>())]
    pub event_handlers: Vec<Name>,
    /// Configuration file, or directory whose *.json files are read; can be given several times, later ones win
    #[arg(long = "config-file", visible_alias = "config-dir", value_name = "PATH", value_parser = path())]
    pub config_files: Vec<PathBuf>,
    /// Event loop of the agent: smol (epoll), glommio (io_uring, or smol where that is denied), or auto, which is
    /// smol [default: auto]
    #[arg(long, value_name = "NAME", value_parser = text::<Name>())]
    pub runtime: Option<Name>,

    /// Address to listen on for gossip [default: 0.0.0.0:7946]
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST[:PORT]", value_parser = text::<Name>())]
    pub bind: Option<Name>,
    /// Address that other nodes are told [default: derived from -bind]
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST[:PORT]", value_parser = text::<Name>())]
    pub advertise: Option<Name>,
    /// Network interface to bind to
    #[arg(long, help_heading = ADDRESSES, value_name = "NAME", value_parser = text::<Name>())]
    pub iface: Option<Name>,
    /// Address to listen on for RPC [default: 127.0.0.1:7373]
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST:PORT", value_parser = text::<Name>())]
    pub rpc_addr: Option<Name>,

    /// Node to join at the start, which fails if none can be; host or host:port (default: the port of this agent);
    /// can be given several times
    #[arg(long = "join", help_heading = OTHERS, value_name = "ADDRESS", value_parser = text::<Name>())]
    pub start_join: Vec<Name>,
    /// Also deliver user events from before the join
    #[arg(long, help_heading = OTHERS, require_equals = true, value_parser = boolean())]
    pub replay: Option<bool>,
    /// Node to join in the background until it works; can be given several times
    #[arg(long = "retry-join", help_heading = OTHERS, value_name = "ADDRESS", value_parser = text::<Name>())]
    pub retry_join: Vec<Name>,
    /// Pause between attempts of -retry-join, at least 1s [default: 30s]
    #[arg(long, help_heading = OTHERS, value_name = "DURATION", value_parser = text::<Name>())]
    pub retry_interval: Option<Name>,
    /// Attempts of -retry-join after the first; then the agent exits. 0 is without limit [default: 0]
    #[arg(long, help_heading = OTHERS, value_name = "NUMBER", value_parser = integer())]
    pub retry_max: Option<i64>,
    /// Find nodes of the cluster with this name by multicast DNS
    #[arg(long, help_heading = OTHERS, value_name = "CLUSTER", value_parser = text::<Name>())]
    pub discover: Option<Name>,
    /// Network interface for -discover [default: that of -iface]
    #[arg(long, help_heading = OTHERS, value_name = "NAME", value_parser = text::<Name>())]
    pub mdns_iface: Option<Name>,
    /// Do not use IPv4 for -discover
    #[arg(long = "mdns-disable-ipv4", help_heading = OTHERS, require_equals = true, value_parser = boolean())]
    pub mdns_disable_ipv4: Option<bool>,
    /// Do not use IPv6 for -discover
    #[arg(long = "mdns-disable-ipv6", help_heading = OTHERS, require_equals = true, value_parser = boolean())]
    pub mdns_disable_ipv6: Option<bool>,
    /// File that remembers the cluster, so that a restarted agent joins it again
    #[arg(long, help_heading = OTHERS, value_name = "PATH", value_parser = path())]
    pub snapshot: Option<PathBuf>,
    /// Join the cluster of -snapshot again although this node had left it
    #[arg(long, help_heading = OTHERS, require_equals = true, value_parser = boolean())]
    pub rejoin: Option<bool>,

    /// Key for encrypting the gossip, in base64; 'keygen' makes one
    #[arg(long, help_heading = SECRETS, value_name = "KEY", value_parser = text::<Secret>())]
    pub encrypt: Option<Secret>,
    /// File with the keys for encrypting the gossip; changed keys are kept in it. If it is not there yet, it is made
    /// with the key of -encrypt
    #[arg(long, help_heading = SECRETS, value_name = "PATH", value_parser = path())]
    pub keyring_file: Option<PathBuf>,
    /// Accept only encrypted gossip if there is a key [default: true]
    #[arg(long, help_heading = SECRETS, value_name = "BOOL", require_equals = true, value_parser = boolean())]
    pub gossip_verify_incoming: Option<bool>,
    /// Encrypt all gossip if there is a key [default: true]
    #[arg(long, help_heading = SECRETS, value_name = "BOOL", require_equals = true, value_parser = boolean())]
    pub gossip_verify_outgoing: Option<bool>,
    /// Separates clusters on one network: only nodes with the same label understand each other
    #[arg(long, help_heading = SECRETS, value_name = "NAME", value_parser = text::<Name>())]
    pub label: Option<Name>,
    /// Accept gossip without the label, and none with it: whoever receives it for this node has checked and
    /// removed it
    #[arg(long, help_heading = SECRETS, require_equals = true, value_parser = boolean())]
    pub skip_inbound_label_check: Option<bool>,

    /// Timing: lan, wan, local [default: lan]
    #[arg(long, help_heading = GOSSIP, value_name = "NAME", value_parser = text::<Name>())]
    pub profile: Option<Name>,
    /// Protocol version to speak, 2 to 5 [default: 5]
    #[arg(long, help_heading = GOSSIP, value_name = "NUMBER", value_parser = integer())]
    pub protocol: Option<i64>,
    /// How long to wait for a message to reach the cluster, at least 1s [default: 5s]
    #[arg(long, help_heading = GOSSIP, value_name = "DURATION", value_parser = text::<Name>())]
    pub broadcast_timeout: Option<Name>,
    /// Send gossip without compression
    #[arg(long, help_heading = GOSSIP, require_equals = true, value_parser = boolean())]
    pub disable_compression: Option<bool>,
    /// Do not estimate round trip times
    #[arg(long, help_heading = GOSSIP, require_equals = true, value_parser = boolean())]
    pub disable_coordinates: Option<bool>,
    /// How soon the name of a failed node may come back with another address; 0 waits until it is forgotten
    /// [default: 0]
    #[arg(long, help_heading = GOSSIP, value_name = "DURATION", value_parser = text::<Name>())]
    pub reclaim_time: Option<Name>,

    /// Lowest level of log lines to print: trace, debug, info, warn, err [default: info]
    #[arg(long, help_heading = LOG, value_name = "LEVEL", value_parser = text::<Name>())]
    pub log_level: Option<Name>,
    /// How log lines are printed: text, or json on standard output and all else on standard error [default: text]
    #[arg(long, help_heading = LOG, value_name = "FORMAT", value_parser = text::<Name>())]
    pub log_format: Option<Name>,
    /// Also send the log to syslog
    #[arg(long, help_heading = LOG, require_equals = true, value_parser = boolean())]
    pub syslog: Option<bool>,

    #[arg(hide = true, value_name = "", value_parser = text::<Name>())]
    pub(crate) ignored: Vec<Name>,
}

/// Flags and words of `event`.
#[derive(Args, Debug)]
pub struct EventArgs {
    /// Whether receivers may fold repeated events of one name into the last one [default: true]
    #[arg(long, value_name = "BOOL", require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "true", value_parser = boolean())]
    pub coalesce: bool,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "NAME [PAYLOAD]", value_parser = text::<Text>())]
    pub(crate) words: Vec<Text>,
}

/// Flags and words of `force-leave`.
#[derive(Args, Debug)]
pub struct ForceLeaveArgs {
    /// Also remove the member from the list of members
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub prune: bool,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "NAME", value_parser = text::<Text>())]
    pub(crate) words: Vec<Text>,
}

/// Flags of `info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Output format: text or json [default: text]
    #[arg(long, default_value = "text", value_parser = text::<Text>())]
    pub format: Text,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags and words of `join`.
#[derive(Args, Debug)]
pub struct JoinArgs {
    /// Also deliver user events from before the join
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub replay: bool,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "ADDRESS...", value_parser = text::<Text>())]
    pub(crate) words: Vec<Text>,
}

/// Flags of `keys`.
#[derive(Args, Debug)]
pub struct KeysArgs {
    /// List the keys of all members
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub list: bool,
    /// Install this key, in base64, on all members
    #[arg(long, value_name = "KEY", default_value = "")]
    #[arg(value_parser = text::<Secret>())]
    pub install: Secret,
    /// Encrypt with this key from now on; it must be installed
    #[arg(long = "use", value_name = "KEY", default_value = "")]
    #[arg(value_parser = text::<Secret>())]
    pub primary: Secret,
    /// Remove this key from all members; it must not be the one in use
    #[arg(long, value_name = "KEY", default_value = "")]
    #[arg(value_parser = text::<Secret>())]
    pub remove: Secret,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags of `leave`.
#[derive(Args, Debug)]
pub struct LeaveArgs {
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags of `members`.
#[derive(Args, Debug)]
pub struct MembersArgs {
    /// Add the protocol versions (text format only)
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub detailed: bool,
    /// Output format: text or json [default: text]
    #[arg(long, default_value = "text", value_parser = text::<Text>())]
    pub format: Text,
    /// Only members whose whole name matches this expression
    #[arg(long, value_name = "REGEX", default_value = "")]
    #[arg(value_parser = text::<Text>())]
    pub name: Text,
    /// Only members whose status matches: alive, leaving, left, failed
    #[arg(long, value_name = "REGEX", default_value = "")]
    #[arg(value_parser = text::<Text>())]
    pub status: Text,
    /// Deprecated: the same as -tag role=REGEX
    #[arg(long, value_name = "REGEX", default_value = "")]
    #[arg(value_parser = text::<Text>())]
    pub role: Text,
    /// Only members whose tag matches; can be given several times, then all must
    #[arg(long = "tag", value_name = "KEY=REGEX", value_parser = text::<Text>())]
    pub tags: Vec<Text>,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags of `monitor`.
#[derive(Args, Debug)]
pub struct MonitorArgs {
    /// Lowest level of log lines: trace, debug, info, warn, err [default: INFO]
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    #[arg(value_parser = text::<Text>())]
    pub log_level: Text,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags and words of `query`.
#[derive(Args, Debug)]
pub struct QueryArgs {
    /// Only ask the node with this name; can be given several times
    #[arg(long = "node", value_name = "NAME", value_parser = text::<Text>())]
    pub nodes: Vec<Text>,
    /// Only ask nodes whose tag matches (not anchored); can be given several times, then all must
    #[arg(long = "tag", value_name = "KEY=REGEX", value_parser = text::<Text>())]
    pub tags: Vec<Text>,
    /// How long to wait for answers; 0 lets the agent choose by the size of the cluster [default: 0]
    #[arg(long = "timeout", value_name = "DURATION", default_value = "0")]
    #[arg(value_parser = duration())]
    pub timeout_ns: i64,
    /// Do not ask for acknowledgements
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub no_ack: bool,
    /// How many other nodes relay each answer, 0 to 255 [default: 0]
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    #[arg(value_parser = integer())]
    pub relay_factor: i64,
    /// Output format: text or json [default: text]
    #[arg(long, default_value = "text", value_parser = text::<Text>())]
    pub format: Text,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "NAME [PAYLOAD]", value_parser = text::<Text>())]
    pub(crate) words: Vec<Text>,
}

/// Flags of `reachability`.
#[derive(Args, Debug)]
pub struct ReachabilityArgs {
    /// Print each acknowledgement and the times
    #[arg(long, require_equals = true, action = ArgAction::Set)]
    #[arg(default_value = "false", value_parser = boolean())]
    pub verbose: bool,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Flags and words of `rtt`.
#[derive(Args, Debug)]
pub struct RttArgs {
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "NODE1 [NODE2]", value_parser = text::<Text>())]
    pub(crate) words: Vec<Text>,
}

/// Flags of `tags`.
#[derive(Args, Debug)]
pub struct TagsArgs {
    /// Set a tag; can be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = text::<Text>())]
    pub set: Vec<Text>,
    /// Delete a tag; can be given several times
    #[arg(long, value_name = "KEY", value_parser = text::<Text>())]
    pub delete: Vec<Text>,
    #[command(flatten)]
    pub(crate) rpc: RpcArgs,
    #[arg(hide = true, value_name = "", value_parser = text::<Text>())]
    ignored: Vec<Text>,
}

/// Words of `validate`.
#[derive(Args, Debug)]
#[command(after_help = help::VALIDATE_NOTES)]
pub struct ValidateArgs {
    #[arg(hide = true, value_name = "PATH...", value_parser = path())]
    pub(crate) paths: Vec<PathBuf>,
}

/// The definition of the whole program.
pub fn program() -> Command {
    Invocation::augment_subcommands(Command::new(PROGRAM))
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .args_override_self(true)
}

/// A path, which may be empty: clap's own parser refuses that, and the agent takes it for none.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Key and value of `key=value`, of which only the first `=` separates; an empty key is none.
///
/// # Errors
/// The message for the user, when `word` is not of that form.
pub fn split_tag(word: &[u8]) -> Result<(&[u8], &[u8]), Vec<u8>> {
    match word.iter().position(|&byte| byte == b'=') {
        None | Some(0) => Err([b"Error: Invalid tag: '", word, b"'"].concat()),
        Some(at) => Ok((&word[..at], &word[at + 1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        program().debug_assert();
    }

    #[test]
    fn keys_and_tokens_are_not_shown() {
        let agent = AgentArgs { encrypt: Some(Secret::from("sekret")), ..AgentArgs::default() };
        let rpc = RpcArgs { rpc_addr: None, rpc_auth: Some(Secret::from("sekret")) };
        let [install, primary, remove] = [(); 3].map(|()| Secret::from("sekret"));
        let keys = KeysArgs { list: false, install, primary, remove, rpc, ignored: Vec::new() };
        let shown = format!("{agent:?} {keys:?}");
        assert!(shown.contains("hidden") && !shown.contains("sekret"), "{shown}");
    }

    #[test]
    fn tags_split_at_the_first_equals_sign() {
        assert_eq!(split_tag(b"a=b=c"), Ok((&b"a"[..], &b"b=c"[..])));
        assert_eq!(split_tag(b"a="), Ok((&b"a"[..], &b""[..])));
        assert_eq!(split_tag(b"=v"), Err(b"Error: Invalid tag: '=v'".to_vec()));
        assert_eq!(split_tag(b"x\xff"), Err(b"Error: Invalid tag: 'x\xff'".to_vec()));
    }
}
