//! Every command and every flag, each in one place: its name, kind, default and help.
//!
//! This is what was typed, nothing more: defaults that depend on the environment or on files are applied
//! where they are used. Flag names are given to clap here and to nobody else; `goflags` reads them from
//! the definition. Positional words are one list per command, because the commands count them themselves.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Command, Subcommand};
use std::path::PathBuf;
use villein_core::text::{Secret, Text as Name};
use villein_rpc::Text;

use crate::govalue::{boolean, duration, integer, parse_duration, text};

/// Stands for the name under which the program was called, until help is shown.
pub const PROGRAM: &str = "villein";

const HELP_TEMPLATE: &str = "{usage-heading} {usage}\n\n  {about-with-newline}\n{all-args}{after-help}";

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

/// What `agent -help` says below its flags.
const AGENT_NOTES: &str = "\
Event handlers:
  -event-handler=SCRIPT                 runs on every event
  -event-handler=TYPE[,TYPE...]=SCRIPT  member-join, member-leave, member-failed, member-update,
                                        member-reap, user, query, or * for all
  -event-handler=user:NAME=SCRIPT       custom events of this name only
  -event-handler=query:NAME=SCRIPT      queries of this name only; what it prints is the answer
  -event-handler={OPTIONS}TYPE=SCRIPT   with limits, as in '{timeout=5s,queue=64}user:deploy=deploy.sh':
      timeout=5s      ends a script that still runs then, with all that it started: SIGTERM, and
                      SIGKILL 5s later [default: never]
      queue=64        events that may wait for it; the oldest are dropped and counted [default: 1024]
      concurrency=4   scripts of it at once; with more than one, events lose their order [default: 1]

  A script is a command line for /bin/sh; one that contains '=' needs a TYPE, as in '*=LANG=C x.sh'.
  It finds the event in SERF_EVENT, SERF_USER_EVENT, SERF_QUERY_NAME, SERF_SELF_NAME, SERF_TAG_... and
  on standard input. What it prints is logged at -log-level=debug; a script that fails is reported at
  any level. Scripts take turns in the order of events and of the configuration; one that runs for
  more than a second delays only the later events of its own handler. 'info' shows how they fare.

Flags may be written -flag=value, -flag value or --flag=value; durations like 500ms, 5s or 1m.";

/// Flags of `agent` (agent.md 2): `None` and empty lists were not given.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = AGENT_NOTES)]
pub struct AgentArgs {
    /// Name of this node; must be unique in the cluster [default: host name]
    #[arg(long, value_parser = text::<Name>())]
    pub node: Option<Name>,
    /// Address to listen on for gossip [default: 0.0.0.0:7946]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = text::<Name>())]
    pub bind: Option<Name>,
    /// Address that other nodes are told [default: derived from -bind]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = text::<Name>())]
    pub advertise: Option<Name>,
    /// Network interface to bind to
    #[arg(long, value_name = "NAME", value_parser = text::<Name>())]
    pub iface: Option<Name>,
    /// Address to listen on for RPC [default: 127.0.0.1:7373]
    #[arg(long, value_name = "HOST:PORT", value_parser = text::<Name>())]
    pub rpc_addr: Option<Name>,
    /// Configuration file, or directory with *.json files; can be given several times, later ones win
    #[arg(long = "config-file", visible_alias = "config-dir", value_name = "PATH", value_parser = path())]
    pub config_files: Vec<PathBuf>,
    /// Key for encrypting the gossip, in base64
    #[arg(long, value_name = "KEY", value_parser = text::<Secret>())]
    pub encrypt: Option<Secret>,
    /// File with the keys for encrypting the gossip; changed keys are kept in it
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub keyring_file: Option<PathBuf>,
    /// Accept only encrypted gossip if there is a key [default: true]
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub gossip_verify_incoming: Option<bool>,
    /// Encrypt all gossip if there is a key [default: true]
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub gossip_verify_outgoing: Option<bool>,
    /// Separates clusters on one network: only nodes with the same label understand each other
    #[arg(long, value_parser = text::<Name>())]
    pub label: Option<Name>,
    /// Also accept gossip without the label, because somebody has checked and removed it
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub skip_inbound_label_check: Option<bool>,
    /// Script to run on events, with an optional filter; can be given several times
    #[arg(long = "event-handler", value_name = "[FILTER=]SCRIPT", value_parser = text::<Name>())]
    pub event_handlers: Vec<Name>,
    /// Node to join at start, host or host:port (default: the port of this agent); can be given several times
    #[arg(long = "join", value_name = "ADDRESS", value_parser = text::<Name>())]
    pub start_join: Vec<Name>,
    /// Also deliver user events from before the start join
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub replay: Option<bool>,
    /// Node to join in the background until it works; can be given several times
    #[arg(long = "retry-join", value_name = "ADDRESS", value_parser = text::<Name>())]
    pub retry_join: Vec<Name>,
    /// Pause between attempts of -retry-join, at least 1s [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = text::<Name>())]
    pub retry_interval: Option<Name>,
    /// Attempts of -retry-join before giving up; 0 is without limit
    #[arg(long, value_name = "NUMBER", value_parser = integer())]
    pub retry_max: Option<i64>,
    /// Lowest level of log lines to print: trace, debug, info, warn, err [default: INFO]
    #[arg(long, value_name = "LEVEL", value_parser = text::<Name>())]
    pub log_level: Option<Name>,
    /// How log lines are printed: text or json [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = text::<Name>())]
    pub log_format: Option<Name>,
    /// Also send the log to syslog
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub syslog: Option<bool>,
    /// Timing profile: lan, wan, local [default: lan]
    #[arg(long, value_name = "NAME", value_parser = text::<Name>())]
    pub profile: Option<Name>,
    /// Protocol version to speak [default: 5]
    #[arg(long, value_name = "NUMBER", value_parser = integer())]
    pub protocol: Option<i64>,
    /// Deprecated: sets the tag "role"
    #[arg(long, value_parser = text::<Name>())]
    pub role: Option<Name>,
    /// Tag of this node; can be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = text::<Name>())]
    pub tags: Vec<Name>,
    /// File with the tags of this node; changed tags are kept in it
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub tags_file: Option<PathBuf>,
    /// File that remembers the cluster, so that a restarted agent joins it again
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub snapshot: Option<PathBuf>,
    /// Join the cluster of -snapshot again although this node had left it
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub rejoin: Option<bool>,
    /// Find nodes of the cluster with this name by multicast DNS
    #[arg(long, value_name = "CLUSTER", value_parser = text::<Name>())]
    pub discover: Option<Name>,
    /// Network interface for -discover [default: that of -iface]
    #[arg(long, value_name = "NAME", value_parser = text::<Name>())]
    pub mdns_iface: Option<Name>,
    /// Do not use IPv4 for -discover
    #[arg(long = "mdns-disable-ipv4", value_name = "BOOL", require_equals = true, num_args = 0..=1)]
    #[arg(default_missing_value = "true", value_parser = boolean())]
    pub mdns_disable_ipv4: Option<bool>,
    /// Do not use IPv6 for -discover
    #[arg(long = "mdns-disable-ipv6", value_name = "BOOL", require_equals = true, num_args = 0..=1)]
    #[arg(default_missing_value = "true", value_parser = boolean())]
    pub mdns_disable_ipv6: Option<bool>,
    /// How long to wait for a message to reach the cluster, at least 1s [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = text::<Name>())]
    pub broadcast_timeout: Option<Name>,
    /// Send gossip without compression
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub disable_compression: Option<bool>,
    /// Do not estimate round trip times
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(value_parser = boolean())]
    pub disable_coordinates: Option<bool>,
    /// How soon the name of a failed node may come back with another address; 0 waits until it is forgotten
    #[arg(long, value_name = "DURATION", value_parser = text::<Name>())]
    pub reclaim_time: Option<Name>,
    #[arg(hide = true, value_name = "", value_parser = text::<Name>())]
    pub(crate) ignored: Vec<Name>,
}

/// Flags and words of `event`.
#[derive(Args, Debug)]
pub struct EventArgs {
    /// Whether receivers may fold repeated events of one name into the last one [default: true]
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "true", hide_default_value = true, value_parser = boolean())]
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
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
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
    #[arg(long, default_value = "text", hide_default_value = true, value_parser = text::<Text>())]
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
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
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
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
    pub list: bool,
    /// Install this key, in base64, on all members
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    #[arg(value_parser = text::<Secret>())]
    pub install: Secret,
    /// Encrypt with this key from now on; it must be installed
    #[arg(long = "use", value_name = "KEY", default_value = "", hide_default_value = true)]
    #[arg(value_parser = text::<Secret>())]
    pub primary: Secret,
    /// Remove this key from all members; it must not be the one in use
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
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
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
    pub detailed: bool,
    /// Output format: text or json [default: text]
    #[arg(long, default_value = "text", hide_default_value = true, value_parser = text::<Text>())]
    pub format: Text,
    /// Only members whose whole name matches this expression
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    #[arg(value_parser = text::<Text>())]
    pub name: Text,
    /// Only members whose status matches: alive, leaving, left, failed
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    #[arg(value_parser = text::<Text>())]
    pub status: Text,
    /// Deprecated: the same as -tag role=REGEX
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
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
    #[arg(long, value_name = "LEVEL", default_value = "INFO", hide_default_value = true)]
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
    #[arg(long = "timeout", value_name = "DURATION", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = duration())]
    pub timeout_ns: i64,
    /// Do not ask for acknowledgements
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
    pub no_ack: bool,
    /// How many other nodes relay each answer, 0 to 255 [default: 0]
    #[arg(long, value_name = "NUMBER", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = integer())]
    pub relay_factor: i64,
    /// Output format: text or json [default: text]
    #[arg(long, default_value = "text", hide_default_value = true, value_parser = text::<Text>())]
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
    #[arg(long, value_name = "BOOL", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    #[arg(default_value = "false", hide_default_value = true, value_parser = boolean())]
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
#[command(after_help = VALIDATE_NOTES)]
pub struct ValidateArgs {
    #[arg(hide = true, value_name = "PATH...", value_parser = path())]
    pub(crate) paths: Vec<PathBuf>,
}

/// What `validate -help` says.
const VALIDATE_NOTES: &str = "\
Each PATH is a configuration file, or a directory whose *.json files are meant. They are read in this
order and checked as \"agent -config-file=PATH...\" does, first each file, then all of them together.
Each mistake is one line, FILE:LINE: 'KEY': REASON. The exit status is 1 if there are any.";

/// The definition of the whole program. Help begins with the usage line, and names the program
/// [`PROGRAM`].
pub fn program() -> Command {
    let program = Invocation::augment_subcommands(Command::new(PROGRAM))
        .disable_help_subcommand(true)
        .args_override_self(true);
    program.mut_subcommands(|command| {
        let flags = if command.get_opts().next().is_some() { " [flags]" } else { "" };
        let words = command.get_positionals().flat_map(|words| words.get_value_names().unwrap_or_default());
        let words: Vec<&str> =
            words.map(clap::builder::Str::as_str).filter(|name| !name.is_empty()).collect();
        let words = words.join(" ");
        let usage = format!("{PROGRAM} {}{flags} {words}", command.get_name()).trim_end().to_owned();
        command.override_usage(usage).help_template(HELP_TEMPLATE)
    })
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

impl AgentArgs {
    /// Nanoseconds of `-retry-interval`; the error is the message for the user.
    pub fn retry_interval_ns(&self) -> Result<Option<i64>, String> {
        duration_ns(self.retry_interval.as_ref())
    }

    /// Nanoseconds of `-broadcast-timeout`; the error is the message for the user.
    pub fn broadcast_timeout_ns(&self) -> Result<Option<i64>, String> {
        duration_ns(self.broadcast_timeout.as_ref())
    }

    /// Nanoseconds of `-reclaim-time`; the error is the message for the user.
    pub fn reclaim_time_ns(&self) -> Result<Option<i64>, String> {
        duration_ns(self.reclaim_time.as_ref())
    }

    /// What is checked before any file is read (agent.md 1, step 1): tags, then durations.
    ///
    /// # Errors
    /// The first message for the user, without the prefix of the agent's output.
    pub fn check(&self) -> Result<(), Vec<u8>> {
        for tag in &self.tags {
            split_tag(tag)?;
        }
        self.retry_interval_ns()?;
        self.broadcast_timeout_ns()?;
        self.reclaim_time_ns()?;
        Ok(())
    }
}

fn duration_ns(word: Option<&Name>) -> Result<Option<i64>, String> {
    let given = word.filter(|word| !word.is_empty());
    let parsed = given.map(|word| parse_duration(&String::from_utf8_lossy(word)));
    parsed.transpose().map_err(|message| format!("Error: {message}"))
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

    #[test]
    fn agent_flags_are_checked_in_order() {
        let mut args = AgentArgs {
            tags: vec![Name::from("a=1"), Name::from("b")],
            retry_interval: Some(Name::from("5")),
            broadcast_timeout: Some(Name::from("xyz")),
            ..AgentArgs::default()
        };
        assert_eq!(args.check(), Err(b"Error: Invalid tag: 'b'".to_vec()));
        args.tags.pop();
        assert_eq!(args.check(), Err(b"Error: time: missing unit in duration \"5\"".to_vec()));
        args.retry_interval = Some(Name::from("10ms"));
        assert_eq!(args.check(), Err(b"Error: time: invalid duration \"xyz\"".to_vec()));
        args.broadcast_timeout = None;
        assert_eq!(args.check(), Ok(()));
        assert_eq!(args.retry_interval_ns(), Ok(Some(10_000_000)));
    }
}
