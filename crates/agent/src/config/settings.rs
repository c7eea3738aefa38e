//! What merged settings mean: defaults, checks and their messages (agent.md 2 to 4).
//!
//! Pure, and used three times: at the start, when settings are read again, and by `validate`. Each error is one
//! line for the operator; whoever calls knows in which step of the start it counts and what to put before it.
//! Invariant: an empty text, an empty list and a duration of zero are the same as nothing.

use super::decode::{Problem, decode};
use super::file::File;
use super::{Config, Facility, Family, LogFormat, Machine, PROFILE, Runtime};
use crate::escape;
use crate::handler::Handler;
use crate::io::{ConfigFile, Sink};
use crate::json::{self, Json};
use crate::keeping;
use villein_core::command::{CommandError, Size};
use villein_core::config::{Config as NodeConfig, Profile};
use villein_core::crypto::{Key, KeyError, Keyring, decode_base64};
use villein_core::limits;
use villein_core::member::{Tags, is_plain_name};
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::time::Duration;
use villein_core::wire::serf::encode_meta;

/// Why tags cannot be given when there is a file for them.
const TAGS_WITH_FILE: &str = "Tags config not allowed while using tag files";

/// Why a key cannot be given when there is a file with others.
const KEY_WITH_FILE: &str = "Encryption key not allowed while using a keyring";

/// The intervals of joins and broadcasts are raised to it.
const LEAST: Duration = Duration::from_secs(1);
const FACILITIES: [(&str, u8); 20] = [
    ("KERN", 0),
    ("USER", 1),
    ("MAIL", 2),
    ("DAEMON", 3),
    ("AUTH", 4),
    ("SYSLOG", 5),
    ("LPR", 6),
    ("NEWS", 7),
    ("UUCP", 8),
    ("CRON", 9),
    ("AUTHPRIV", 10),
    ("FTP", 11),
    ("LOCAL0", 16),
    ("LOCAL1", 17),
    ("LOCAL2", 18),
    ("LOCAL3", 19),
    ("LOCAL4", 20),
    ("LOCAL5", 21),
    ("LOCAL6", 22),
    ("LOCAL7", 23),
];

/// All sources as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// What counts.
    pub file: File,
    /// What was skipped, each a line for the log.
    pub skipped: Vec<String>,
}

/// Reads files in their order and puts the flags on top. `Err` is the message for the operator.
pub fn merge(files: &[ConfigFile], flags: &File) -> Result<Merged, String> {
    let (mut decoded, mut skipped) = (Vec::new(), Vec::new());
    for file in files {
        let path = &file.path;
        let read = decode(&file.bytes).map_err(|why| format!("Error decoding '{path}': {why}"))?;
        if let Some(line) = read.rest {
            skipped.push(format!("what follows the first JSON value of '{path}' on line {line} is ignored"));
        }
        decoded.push(read.file);
    }
    Ok(Merged { file: File::merged(decoded, flags), skipped })
}

/// How a start with these sources is told: as far as it can be known, also when they are refused.
pub fn log_format_of_start(files: &[ConfigFile], flags: &File) -> LogFormat {
    let understood = files.iter().map(|file| match decode(&file.bytes) {
        Ok(decoded) => decoded.file,
        Err(error) => error.understood.file,
    });
    log_format(&File::merged(understood, flags)).unwrap_or_default()
}

/// What runs on events.
pub fn handlers(file: &File) -> Result<Vec<Handler>, String> {
    let parse = |spec| Handler::from_spec(spec).map_err(|error| error.to_string());
    file.event_handlers.iter().map(parse).collect()
}

/// Which families multicast discovery is to use; `None` without discovery.
pub fn discovery(file: &File) -> Result<Option<Vec<Family>>, String> {
    let families = [(Family::V4, on(file.mdns_disable_ipv4)), (Family::V6, on(file.mdns_disable_ipv6))];
    let families: Vec<Family> =
        families.into_iter().filter(|(_, off)| !off).map(|(family, _)| family).collect();
    if file.discover.is_none() {
        return match file.mdns_interface {
            Some(_) => Err("mDNS interface specified without enabling mDNS discovery".to_owned()),
            None => Ok(None),
        };
    }
    if families.is_empty() {
        return Err("Invalid mDNS configuration: both IPv4 and IPv6 are disabled".to_owned());
    }
    Ok(Some(families))
}

/// What is said and does not hinder the start, each with the key that it is about.
pub fn notices(file: &File) -> Vec<(&'static str, String)> {
    let mut notices = Vec::new();
    if file.role.is_some() {
        notices.push(("role", "Deprecation warning: 'Role' has been replaced with 'Tags'".to_owned()));
    }
    let times = [
        ("retry_interval", "RetryInterval", file.retry_interval_ns),
        ("broadcast_timeout", "BroadcastTimeout", file.broadcast_timeout_ns),
    ];
    for (key, name, nanos) in times {
        if nanos.is_some_and(|nanos| duration(nanos) < LEAST) {
            notices.push((key, format!("Warning: '{name}' is too low. Setting to 1s")));
        }
    }
    if on(file.rejoin_after_leave) && file.snapshot_path.is_none() {
        let text = "Warning: 'RejoinAfterLeave' enabled without snapshot file";
        notices.push(("rejoin_after_leave", text.to_owned()));
    }
    notices
}

/// The lowest level that is printed, in any case.
pub fn log_level(file: &File) -> Result<Level, String> {
    let Some(name) = &file.log_level else { return Ok(Level::Info) };
    let name = name.to_string().to_uppercase();
    match name.as_str() {
        "TRACE" => Ok(Level::Trace),
        "DEBUG" => Ok(Level::Debug),
        "INFO" => Ok(Level::Info),
        "WARN" | "WARNING" => Ok(Level::Warn),
        "ERR" | "ERROR" => Ok(Level::Err),
        _ => Err(format!("Invalid log level: {name}. Valid log levels are: [TRACE DEBUG INFO WARN ERR]")),
    }
}

/// How the log is printed.
pub fn log_format(file: &File) -> Result<LogFormat, String> {
    match file.log_format.as_deref() {
        None | Some(b"text") => Ok(LogFormat::Text),
        Some(b"json") => Ok(LogFormat::Json),
        Some(_) => {
            let name = file.log_format.clone().unwrap_or_default();
            Err(format!("Invalid log format: {name}. Valid log formats are: [text json]"))
        }
    }
}

/// Which event loop is wanted.
pub fn runtime(file: &File) -> Result<Runtime, String> {
    match file.runtime.as_deref() {
        None | Some(b"auto") => Ok(Runtime::Auto),
        Some(b"smol") => Ok(Runtime::Smol),
        Some(b"glommio") => Ok(Runtime::Glommio),
        Some(_) => {
            let name = file.runtime.clone().unwrap_or_default();
            Err(format!("Invalid runtime: {name}. Valid runtimes are: [auto smol glommio]"))
        }
    }
}

/// As whose lines the log goes to syslog, if it does.
pub fn syslog(file: &File) -> Result<Option<Facility>, String> {
    let facility = on(file.enable_syslog).then(|| facility(file)).transpose();
    facility.map_err(|why| format!("Syslog setup failed: {why}"))
}

fn facility(file: &File) -> Result<Facility, String> {
    let name = file.syslog_facility.as_ref().map_or_else(|| "LOCAL0".to_owned(), Text::to_string);
    let name = name.to_uppercase();
    let found = FACILITIES.iter().find(|(known, _)| *known == name);
    found.map(|&(_, number)| Facility(number)).ok_or_else(|| format!("invalid syslog facility: {name}"))
}

/// The key, if there is one.
pub fn key(file: &File) -> Result<Option<Given>, String> {
    let typed = file.encrypt_key.as_ref();
    match typed.map(|key| decode_base64(key.reveal())).transpose() {
        Ok(bytes) => Ok(bytes.map(|bytes| Key::from_bytes(&bytes))),
        Err(error) => Err(format!("Invalid encryption key: {error}")),
    }
}

/// The timing of the network.
pub fn profile(file: &File) -> Result<Profile, String> {
    let name = file.profile.as_ref().map_or_else(|| PROFILE.to_owned(), Text::to_string);
    Profile::named(&name).ok_or_else(|| format!("Unknown profile: {name}"))
}

/// The tags of flags and files, which exclude a tags file.
pub fn tags(file: &File) -> Result<Tags, String> {
    let tags = all_tags(file);
    if file.tags_file.is_some() && !tags.is_empty() {
        return Err(TAGS_WITH_FILE.to_owned());
    }
    Ok(tags)
}

/// The deprecated role beats a tag of the same name.
fn all_tags(file: &File) -> Tags {
    let role = file.role.iter().map(|role| (Text::from("role"), role.clone()));
    file.tags.iter().cloned().chain(role).collect()
}

/// What a tags file says (agent.md 13).
pub fn kept_tags(bytes: &[u8]) -> Result<Tags, String> {
    let failed = |why: String| format!("Failed to decode tags file: {why}");
    match json::only(bytes).map_err(|fault| failed(fault.to_string()))? {
        Json::Null => Ok(Tags::new()),
        Json::Map(entries) => {
            let pair = |entry: json::Entry| Ok((Text::from(entry.key), text(entry.value)?));
            entries.into_iter().map(pair).collect::<Result<Tags, String>>().map_err(failed)
        }
        other => Err(failed(unfit(&other, "map[string]string"))),
    }
}

/// The key of the settings, or why its bytes are none, which the reference finds out only when it needs it.
pub type Given = Result<Key, KeyError>;

/// What a keyring file says (agent.md 14). A key that is given besides must be one of those in it, so that nobody
/// takes a key for the one in use that is not.
pub fn kept_keys(bytes: &[u8], given: Option<&Given>) -> Result<Keyring, String> {
    let keyring = ring_of(bytes);
    let Some(given) = given else { return keyring };
    let is_known = |keyring: &Keyring| given.as_ref().is_ok_and(|key| keyring.keys().contains(key));
    keyring.ok().filter(is_known).ok_or_else(|| KEY_WITH_FILE.to_owned())
}

fn ring_of(bytes: &[u8]) -> Result<Keyring, String> {
    let failed = |why: String| format!("Failed to decode keyring file: {why}");
    let texts = match json::only(bytes).map_err(|fault| failed(fault.to_string()))? {
        Json::Null => Vec::new(),
        Json::List(items) => items
            .into_iter()
            .map(|item| text(item.value))
            .collect::<Result<Vec<Text>, String>>()
            .map_err(failed)?,
        other => return Err(failed(unfit(&other, "[]string"))),
    };
    let decoded = texts.iter().map(|text| decode_base64(text)).collect::<Result<Vec<_>, KeyError>>();
    let decoded = decoded.map_err(|error| format!("Failed to decode key from keyring: {error}"))?;
    let restored = |why: String| format!("Failed to restore keyring: {why}");
    match decoded.split_first() {
        None => return Err("Keyring file contains no keys".to_owned()),
        Some((first, _)) if first.is_empty() => {
            return Err(restored("Empty primary key not allowed".to_owned()));
        }
        Some(_) => {}
    }
    let keys = decoded.iter().map(|bytes| Key::from_bytes(bytes)).collect::<Result<Vec<Key>, KeyError>>();
    let mut keys = keys.map_err(|error| restored(error.to_string()))?.into_iter();
    let primary = keys.next().expect("there is a first one");
    Keyring::new(primary, keys).map_err(|error| restored(error.to_string()))
}

/// The file of a ring: what [`kept_keys`] reads.
pub fn keyring_text(keyring: &Keyring) -> String {
    keeping::keys_text(keyring.keys())
}

fn text(value: Json) -> Result<Text, String> {
    match value {
        Json::Null => Ok(Text::default()),
        Json::Text(text) => Ok(Text::from(text)),
        other => Err(unfit(&other, "string")),
    }
}

fn unfit(value: &Json, wanted: &str) -> String {
    let found = match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::Text(_) => "string",
        Json::List(_) => "array",
        Json::Map(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

/// The ring of one key.
pub fn keyring(key: Given) -> Result<Keyring, String> {
    let key = key.map_err(|error| error.to_string())?;
    Keyring::new(key, []).map_err(|error| error.to_string())
}

/// What the node of this name, place and tags is told besides its keys; checked in the order of the reference.
pub fn node(file: &File, node: NodeConfig) -> Result<NodeConfig, String> {
    let protocol = protocol(file)?;
    let user_event_size_limit = event_limit(file)?;
    check_name(file, &node.name)?;
    check_tags(&node.tags, protocol)?;
    let label = label(file)?;
    let time = |nanos: Option<i64>, default| nanos.map_or(default, duration);
    let size = |limit: Option<i64>, default| limit.map_or(default, size);
    Ok(NodeConfig {
        protocol,
        profile: profile(file)?,
        label,
        skip_inbound_label_check: on(file.skip_inbound_label_check),
        compression: file.enable_compression.unwrap_or(node.compression),
        verify_incoming: file.gossip_verify_incoming.unwrap_or(node.verify_incoming),
        verify_outgoing: file.gossip_verify_outgoing.unwrap_or(node.verify_outgoing),
        user_event_size_limit: user_event_size_limit.unwrap_or(node.user_event_size_limit),
        query_size_limit: size(file.query_size_limit, node.query_size_limit),
        query_response_size_limit: size(file.query_response_size_limit, node.query_response_size_limit),
        broadcast_timeout: time(file.broadcast_timeout_ns, node.broadcast_timeout).max(LEAST),
        reconnect_interval: time(file.reconnect_interval_ns, node.reconnect_interval),
        reconnect_timeout: time(file.reconnect_timeout_ns, node.reconnect_timeout),
        tombstone_timeout: time(file.tombstone_timeout_ns, node.tombstone_timeout),
        reclaim_time: time(file.reclaim_time_ns, node.reclaim_time),
        name_conflict_resolution: !on(file.disable_name_resolution),
        coordinates: !on(file.disable_coordinates),
        validate_node_names: on(file.validate_node_names),
        snapshot: file.snapshot_path.is_some(),
        rejoin_after_leave: on(file.rejoin_after_leave),
        keyring_file: file.keyring_file.is_some(),
        ..node
    })
}

/// What the agent of this node is told, less what is checked on the way there and what the host finds out.
pub fn agent(file: &File, node: NodeConfig, machine: Machine) -> Config {
    let texts = |texts: &[Text]| texts.iter().map(Text::to_string).collect();
    let sinks = [(Sink::Statsd, &file.statsd_addr), (Sink::Statsite, &file.statsite_addr)];
    let default = Config::new(node, machine);
    Config {
        profile_name: file.profile.as_ref().map_or(default.profile_name, Text::to_string),
        rpc_auth: file.rpc_auth.clone().unwrap_or_default(),
        start_join: texts(&file.start_join),
        retry_join: texts(&file.retry_join),
        retry_interval: file.retry_interval_ns.map_or(default.retry_interval, duration).max(LEAST),
        retry_max: u32::try_from(file.retry_max_attempts.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        replay_on_join: on(file.replay_on_join),
        leave_on_terminate: on(file.leave_on_terminate),
        skip_leave_on_interrupt: on(file.skip_leave_on_interrupt),
        tags_file: file.tags_file.clone(),
        keyring_file: file.keyring_file.clone(),
        metric_sinks: sinks.into_iter().filter(|(_, addr)| addr.is_some()).map(|(sink, _)| sink).collect(),
        ..default
    }
}

/// Everything that is wrong with single keys, whatever the machine is and other sources say. Lines are not known
/// here.
pub fn problems(file: &File) -> Vec<Problem> {
    let handlers = file.event_handlers.iter().enumerate().filter_map(|(index, spec)| {
        let error = Handler::from_spec(spec).err()?;
        Some((format!("event_handlers[{index}]"), error.to_string()))
    });
    let others = [
        ("log_level", log_level(file).err()),
        ("log_format", log_format(file).err()),
        ("runtime", runtime(file).err()),
        ("syslog_facility", facility(file).err()),
        ("encrypt_key", key(file).and_then(|key| key.map(keyring).transpose()).err()),
        ("profile", profile(file).err()),
        ("protocol", protocol(file).err()),
        ("user_event_size_limit", event_limit(file).err()),
        ("label", label(file).err()),
    ];
    let others = others.into_iter().filter_map(|(key, reason)| Some((key.to_owned(), reason?)));
    handlers.chain(others).map(|(key, reason)| Problem { line: None, key, reason }).collect()
}

/// Everything that is wrong between the keys of all sources together, by the key that is in the way.
pub fn conflicts(file: &File) -> Vec<Problem> {
    let mdns = if file.mdns_interface.is_some() { "mdns.interface" } else { "mdns.disable_ipv6" };
    let name = file.node_name.as_ref().and_then(|name| check_name(file, name).err());
    let too_long = protocol(file).ok().and_then(|protocol| check_tags(&all_tags(file), protocol).err());
    let conflicts = [
        (mdns, discovery(file).err()),
        ("node_name", name),
        ("tags", too_long),
        ("tags_file", tags(file).err()),
    ];
    let conflicts = conflicts.into_iter().filter_map(|(key, reason)| Some((key.to_owned(), reason?)));
    conflicts.map(|(key, reason)| Problem { line: None, key, reason }).collect()
}

/// The Serf protocol to speak.
fn protocol(file: &File) -> Result<u8, String> {
    let version = file.protocol.unwrap_or(5);
    let refused = |why: &str| Err(format!("Protocol version '{version}' {why}. Must be in range: [2, 5]"));
    match u8::try_from(version) {
        Ok(version @ 2..=5) => Ok(version),
        Ok(0..2) => refused("too low"),
        _ => refused("too high"),
    }
}

fn event_limit(file: &File) -> Result<Option<usize>, String> {
    match file.user_event_size_limit.map(size) {
        Some(limit) if limit > limits::USER_EVENT => {
            Err(format!("user event size limit exceeds limit of {} bytes", limits::USER_EVENT))
        }
        limit => Ok(limit),
    }
}

/// Who wants plain names of others has one.
fn check_name(file: &File, name: &[u8]) -> Result<(), String> {
    if !on(file.validate_node_names) || is_plain_name(name) {
        return Ok(());
    }
    let (name, bound) = (escape::line(name), limits::PLAIN_NAME);
    Err(format!(
        "the node name '{name}' has other than letters, digits, '-', '_' and '.', or more than {bound} bytes, \
         and validate_node_names is on"
    ))
}

/// Tags must fit into an announcement.
fn check_tags(tags: &Tags, protocol: u8) -> Result<(), String> {
    let mut encoded = Vec::new();
    encode_meta(tags, protocol, &mut encoded);
    if encoded.len() > limits::META {
        let size = Size::of_tags(tags, encoded.len());
        return Err(CommandError::TagsTooLong { limit: limits::META, size }.to_string());
    }
    Ok(())
}

fn label(file: &File) -> Result<Text, String> {
    let label = file.label.clone().unwrap_or_default();
    let (length, bound) = (label.len(), limits::LABEL);
    if length > bound {
        return Err(format!("the label has {length} bytes, at most {bound} are possible"));
    }
    Ok(label)
}

/// Booleans are false by default.
fn on(flag: Option<bool>) -> bool {
    flag == Some(true)
}

/// Times below zero are over at once.
fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Nothing is shorter than a size below zero.
fn size(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::HandlerSpec;
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::member::WireAddr;
    use villein_core::text::Secret;

    #[expect(clippy::unnecessary_wraps, reason = "settings are optional")]
    fn text(text: &str) -> Option<Text> {
        Some(Text::from(text))
    }

    fn tags_of(pairs: &[(&str, &str)]) -> Vec<(Text, Text)> {
        pairs.iter().map(|&(name, value)| (Text::from(name), Text::from(value))).collect()
    }

    fn plain() -> NodeConfig {
        NodeConfig::new("a".into(), WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), 7946)
    }

    fn machine() -> Machine {
        Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 }
    }

    #[test]
    fn nothing_given_is_the_default() {
        let file = File::default();
        assert_eq!(log_level(&file), Ok(Level::Info));
        assert_eq!(log_format(&file), Ok(LogFormat::Text));
        assert_eq!(syslog(&file), Ok(None));
        assert_eq!(facility(&file), Ok(Facility(16)));
        assert_eq!(profile(&file), Ok(Profile::LAN));
        assert_eq!(key(&file), Ok(None));
        assert_eq!(tags(&file), Ok(Tags::new()));
        assert_eq!(discovery(&file), Ok(None));
        assert!(notices(&file).is_empty() && problems(&file).is_empty() && conflicts(&file).is_empty());
        // One place says what the defaults are: a file that is silent changes none of them.
        let same = node(&file, plain()).expect("the defaults are right");
        assert_eq!(format!("{same:?}"), format!("{:?}", plain()));
        let (ours, theirs) = (agent(&file, plain(), machine()), Config::new(plain(), machine()));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn every_setting_of_the_node_arrives() {
        let file = File {
            protocol: Some(4),
            profile: text("wan"),
            label: text("blue"),
            skip_inbound_label_check: Some(true),
            enable_compression: Some(false),
            gossip_verify_incoming: Some(false),
            gossip_verify_outgoing: Some(false),
            user_event_size_limit: Some(9216),
            query_size_limit: Some(-1),
            query_response_size_limit: Some(7),
            broadcast_timeout_ns: Some(7_000_000_000),
            reconnect_interval_ns: Some(1),
            reconnect_timeout_ns: Some(2),
            tombstone_timeout_ns: Some(-3),
            reclaim_time_ns: Some(4),
            disable_name_resolution: Some(true),
            disable_coordinates: Some(true),
            validate_node_names: Some(true),
            snapshot_path: Some("s".into()),
            rejoin_after_leave: Some(true),
            keyring_file: Some("k".into()),
            ..File::default()
        };
        let expected = NodeConfig {
            protocol: 4,
            profile: Profile::WAN,
            label: "blue".into(),
            skip_inbound_label_check: true,
            compression: false,
            verify_incoming: false,
            verify_outgoing: false,
            user_event_size_limit: 9216,
            query_size_limit: 0,
            query_response_size_limit: 7,
            broadcast_timeout: Duration::from_secs(7),
            reconnect_interval: Duration::from_nanos(1),
            reconnect_timeout: Duration::from_nanos(2),
            tombstone_timeout: Duration::ZERO,
            reclaim_time: Duration::from_nanos(4),
            name_conflict_resolution: false,
            coordinates: false,
            validate_node_names: true,
            snapshot: true,
            rejoin_after_leave: true,
            keyring_file: true,
            ..plain()
        };
        let node = node(&file, plain()).expect("everything is right");
        assert_eq!(format!("{node:?}"), format!("{expected:?}"));
    }

    #[test]
    fn every_setting_of_the_agent_arrives() {
        let file = File {
            profile: text("local"),
            rpc_auth: Some(Secret::from("t")),
            start_join: vec!["a".into()],
            retry_join: vec!["b".into()],
            retry_interval_ns: Some(1),
            retry_max_attempts: Some(i64::MAX),
            replay_on_join: Some(true),
            leave_on_terminate: Some(true),
            skip_leave_on_interrupt: Some(true),
            tags_file: Some("t".into()),
            keyring_file: Some("k".into()),
            statsd_addr: text("x:1"),
            ..File::default()
        };
        let expected = Config {
            profile_name: "local".to_owned(),
            rpc_auth: Secret::from("t"),
            start_join: vec!["a".to_owned()],
            retry_join: vec!["b".to_owned()],
            retry_interval: LEAST,
            retry_max: u32::MAX,
            replay_on_join: true,
            leave_on_terminate: true,
            skip_leave_on_interrupt: true,
            tags_file: Some("t".into()),
            keyring_file: Some("k".into()),
            metric_sinks: vec![Sink::Statsd],
            ..Config::new(plain(), machine())
        };
        assert_eq!(format!("{:?}", agent(&file, plain(), machine())), format!("{expected:?}"));
    }

    #[test]
    fn levels_have_aliases() {
        let level = |name| log_level(&File { log_level: text(name), ..File::default() });
        assert_eq!(level("Debug"), Ok(Level::Debug));
        assert_eq!(level("error"), Ok(Level::Err));
        assert_eq!(level("warning"), Ok(Level::Warn));
        let refused = "Invalid log level: BOGUS. Valid log levels are: [TRACE DEBUG INFO WARN ERR]";
        assert_eq!(level("bogus"), Err(refused.to_owned()));
        let format = |name| log_format(&File { log_format: text(name), ..File::default() });
        assert_eq!(format("json"), Ok(LogFormat::Json));
        let refused = "Invalid log format: xml. Valid log formats are: [text json]";
        assert_eq!(format("xml"), Err(refused.to_owned()));
    }

    #[test]
    fn a_facility_matters_only_with_syslog() {
        let of = |enabled, name| {
            syslog(&File { enable_syslog: Some(enabled), syslog_facility: text(name), ..File::default() })
        };
        assert_eq!(of(true, "daemon"), Ok(Some(Facility(3))));
        assert_eq!(of(false, "bogus"), Ok(None));
        assert_eq!(of(true, "bogus"), Err("Syslog setup failed: invalid syslog facility: BOGUS".to_owned()));
    }

    #[test]
    fn protocols_and_sizes_have_ranges() {
        let of = |protocol, limit| {
            let file =
                File { protocol: Some(protocol), user_event_size_limit: Some(limit), ..File::default() };
            node(&file, plain()).map(|node| node.protocol)
        };
        let refused =
            |number: i64, why| Err(format!("Protocol version '{number}' {why}. Must be in range: [2, 5]"));
        assert_eq!(of(1, 1), refused(1, "too low"));
        assert_eq!(of(2, -1), Ok(2));
        assert_eq!(of(6, 1), refused(6, "too high"));
        assert_eq!(of(260, 1), refused(260, "too high"));
        let refused = "user event size limit exceeds limit of 9216 bytes";
        assert_eq!(of(5, 9217), Err(refused.to_owned()));
        let label = |length| File { label: text(&"x".repeat(length)), ..File::default() };
        assert!(node(&label(255), plain()).is_ok());
        let refused = "the label has 256 bytes, at most 255 are possible".to_owned();
        assert_eq!(node(&label(256), plain()).map(|_| ()), Err(refused));
    }

    #[test]
    fn what_is_odd_is_said() {
        let file = File {
            retry_interval_ns: Some(10),
            broadcast_timeout_ns: Some(-1_000_000_000),
            role: text("web"),
            tags: tags_of(&[("role", "db"), ("a", ""), ("b", "c=d"), ("a", "2")]),
            rejoin_after_leave: Some(true),
            ..File::default()
        };
        let texts = |file| notices(file).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(
            texts(&file),
            [
                "Deprecation warning: 'Role' has been replaced with 'Tags'",
                "Warning: 'RetryInterval' is too low. Setting to 1s",
                "Warning: 'BroadcastTimeout' is too low. Setting to 1s",
                "Warning: 'RejoinAfterLeave' enabled without snapshot file",
            ]
        );
        assert_eq!(
            tags(&file),
            Ok(tags_of(&[("a", "2"), ("b", "c=d"), ("role", "web")]).into_iter().collect())
        );
        let file = File { tags_file: Some("t".into()), ..file };
        assert_eq!(tags(&file), Err(TAGS_WITH_FILE.to_owned()));
    }

    #[test]
    fn tags_fit_into_an_announcement() {
        let of = |length| {
            let tags = tags_of(&[("big", &"x".repeat(length))]).into_iter().collect();
            node(&File::default(), NodeConfig { tags, ..plain() }).map(|node| node.tags.len())
        };
        assert_eq!(of(400), Ok(1));
        let refused = of(510).expect_err("it is too long");
        assert!(refused.starts_with("Encoded length of tags exceeds limit of 512 bytes"), "{refused}");
    }

    #[test]
    fn who_wants_plain_names_has_one() {
        let of = |name: &str, validate| {
            let file = File { validate_node_names: Some(validate), ..File::default() };
            node(&file, NodeConfig { name: name.into(), ..plain() }).map(|node| node.name)
        };
        assert_eq!(of("a_b-c.d", true), Ok("a_b-c.d".into()));
        assert_eq!(of("a b", false), Ok("a b".into()));
        let refused = of("a\nb", true).expect_err("it has a line break");
        assert!(refused.starts_with("the node name 'a\\nb' has other than letters"), "{refused}");
    }

    #[test]
    fn keys_are_base64_first_and_long_enough_later() {
        let of = |word| key(&File { encrypt_key: Some(Secret::from(word)), ..File::default() });
        assert_eq!(of("!!"), Err("Invalid encryption key: illegal base64 data at input byte 0".to_owned()));
        let short = of("YWJj").expect("it is base64").expect("it was given");
        assert_eq!(keyring(short), Err("key size must be 16, 24 or 32 bytes".to_owned()));
        let good = of("AAAAAAAAAAAAAAAAAAAAAA==").expect("it is base64").expect("it was given");
        assert_eq!(keyring(good).map(|ring| ring.keys().len()), Ok(1));
    }

    #[test]
    fn discovery_uses_what_is_left_of_the_families() {
        let of = |discover: &str, interface: &str, ipv4: bool, ipv6: bool| {
            let given = |name: &str| text(name).filter(|name| !name.is_empty());
            discovery(&File {
                discover: given(discover),
                mdns_interface: given(interface),
                mdns_disable_ipv4: Some(ipv4),
                mdns_disable_ipv6: Some(ipv6),
                ..File::default()
            })
        };
        assert_eq!(of("x", "lo", false, false), Ok(Some(vec![Family::V4, Family::V6])));
        assert_eq!(of("x", "", true, false), Ok(Some(vec![Family::V6])));
        assert_eq!(of("", "", true, true), Ok(None));
        let refused = "mDNS interface specified without enabling mDNS discovery";
        assert_eq!(of("", "lo", false, false), Err(refused.to_owned()));
        let refused = "Invalid mDNS configuration: both IPv4 and IPv6 are disabled";
        assert_eq!(of("x", "lo", true, true), Err(refused.to_owned()));
    }

    /// Each text is what the reference says.
    #[test]
    fn files_of_tags_and_keys_are_read() {
        let tags = |bytes: &[u8]| kept_tags(bytes).map(|tags| tags.into_iter().collect::<Vec<_>>());
        assert_eq!(tags(br#"{"b":null,"a":"x","b":"y"}"#), Ok(tags_of(&[("a", "x"), ("b", "y")])));
        assert_eq!(tags(b" null "), Ok(Vec::new()));
        let refused = [
            (&b"{\"b\":[],\"a\":1}"[..], "json: cannot unmarshal array into Go value of type string"),
            (b"[]", "json: cannot unmarshal array into Go value of type map[string]string"),
            (b"true", "json: cannot unmarshal bool into Go value of type map[string]string"),
            (b"", "unexpected end of JSON input"),
            (b"{} x", "invalid character 'x' after top-level value"),
        ];
        for (bytes, why) in refused {
            assert_eq!(tags(bytes), Err(format!("Failed to decode tags file: {why}")));
        }
        let key = "MDEyMzQ1Njc4OWFiY2RlZg==";
        let other = "ZmVkY2JhOTg3NjU0MzIxMA==";
        let ring = kept_keys(format!("[\"{key}\", \"{other}\"]").as_bytes(), None).expect("both are keys");
        assert_eq!((ring.primary().to_base64(), ring.keys().len()), (key.to_owned(), 2));
        let text = keyring_text(&ring);
        assert_eq!(kept_keys(text.as_bytes(), None), Ok(ring.clone()));
        for given in ring.keys() {
            assert_eq!(kept_keys(text.as_bytes(), Some(&Ok(given.clone()))), Ok(ring.clone()));
        }
        let refused = Err(KEY_WITH_FILE.to_owned());
        for given in [Key::from_bytes(&[7; 16]), Key::from_bytes(b"short")] {
            assert_eq!(kept_keys(text.as_bytes(), Some(&given)), refused);
            assert_eq!(kept_keys(b"[]", Some(&given)), refused);
        }
        let refused = [
            ("[]".to_owned(), "Keyring file contains no keys"),
            ("null".to_owned(), "Keyring file contains no keys"),
            (
                "{}".to_owned(),
                "Failed to decode keyring file: json: cannot unmarshal object into Go value of type []string",
            ),
            (
                "[1]".to_owned(),
                "Failed to decode keyring file: json: cannot unmarshal number into Go value of type string",
            ),
            (String::new(), "Failed to decode keyring file: unexpected end of JSON input"),
            (
                "[\"AAAA\",\"***\"]".to_owned(),
                "Failed to decode key from keyring: illegal base64 data at input byte 0",
            ),
            ("[null]".to_owned(), "Failed to restore keyring: Empty primary key not allowed"),
            (
                format!("[\"{key}\",\"AAAA\"]"),
                "Failed to restore keyring: key size must be 16, 24 or 32 bytes",
            ),
        ];
        for (bytes, why) in refused {
            assert_eq!(kept_keys(bytes.as_bytes(), None).map(|_| ()), Err(why.to_owned()), "{bytes}");
        }
    }

    #[test]
    fn sources_are_merged_in_their_order() {
        let file = |path: &str, bytes: &[u8]| ConfigFile { path: path.to_owned(), bytes: bytes.to_vec() };
        let files =
            [file("a", b"{\"bind\":\"x\",\"log_level\":\"warn\"}"), file("b", b"{\"bind\":\"y\"}\n{}")];
        let flags = File { log_level: text("debug"), ..File::default() };
        let merged = merge(&files, &flags).expect("both are right");
        assert_eq!((merged.file.bind, merged.file.log_level), (text("y"), text("debug")));
        assert_eq!(merged.skipped, ["what follows the first JSON value of 'b' on line 2 is ignored"]);
        assert_eq!(merge(&[file("c", b"")], &flags), Err("Error decoding 'c': EOF".to_owned()));
    }

    #[test]
    fn a_start_that_fails_is_told_in_the_right_place() {
        let of = |texts: &[&str], flag: Option<&str>| {
            let file = |text: &&str| ConfigFile { path: "c".to_owned(), bytes: text.as_bytes().to_vec() };
            let files: Vec<ConfigFile> = texts.iter().map(file).collect();
            log_format_of_start(&files, &File { log_format: flag.and_then(text), ..File::default() })
        };
        let json = r#"{"log_format": "json", "bogus": 1}"#;
        assert_eq!(of(&[json, "{"], None), LogFormat::Json);
        assert_eq!(of(&[json, r#"{"log_format": "text"}"#], None), LogFormat::Text);
        assert_eq!(of(&[json], Some("text")), LogFormat::Text);
        assert_eq!(of(&["{"], Some("json")), LogFormat::Json);
        assert_eq!(of(&[json], Some("bogus")), LogFormat::Text);
    }

    #[test]
    fn everything_wrong_is_found_with_its_key() {
        let file = File {
            event_handlers: vec![HandlerSpec::Line("x".into()), HandlerSpec::Line("bogus=x".into())],
            log_level: text("x"),
            log_format: text("x"),
            syslog_facility: text("x"),
            encrypt_key: Some(Secret::from("AAAA")),
            profile: text("x"),
            protocol: Some(9),
            user_event_size_limit: Some(10_000),
            label: text(&"x".repeat(300)),
            mdns_interface: text("lo"),
            tags: tags_of(&[("big", &"x".repeat(510))]),
            tags_file: Some("t".into()),
            node_name: text("a b"),
            validate_node_names: Some(true),
            ..File::default()
        };
        let keys =
            |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>();
        let alone = [
            "event_handlers[1]",
            "log_level",
            "log_format",
            "syslog_facility",
            "encrypt_key",
            "profile",
            "protocol",
            "user_event_size_limit",
            "label",
        ];
        assert_eq!(keys(problems(&file)), alone);
        // How long tags are depends on the protocol, which is wrong here.
        assert_eq!(keys(conflicts(&file)), ["mdns.interface", "node_name", "tags_file"]);
        let file = File { protocol: None, ..file };
        assert_eq!(keys(conflicts(&file)), ["mdns.interface", "node_name", "tags", "tags_file"]);
    }
}
