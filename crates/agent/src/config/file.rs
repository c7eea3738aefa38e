//! What a configuration file says: every key of agent.md 3 and those of this product, all optional.
//!
//! Flags make the same type, so that files and flags are merged by one rule for each key. [`File::slots`] is the
//! one table of keys: their names, their types, and how sources are merged. Invariant: nothing is checked here
//! but the types; what a value means is decided when all sources are merged.

use crate::handler::HandlerSpec;
use std::path::PathBuf;
use villein_core::text::{Secret, Text};

/// Settings of one source. `None` and empty lists were not given; durations are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// `node_name`
    pub node_name: Option<Text>,
    /// `role`
    pub role: Option<Text>,
    /// `tags`: later ones win.
    pub tags: Vec<(Text, Text)>,
    /// `tags_file`
    pub tags_file: Option<PathBuf>,
    /// `bind`
    pub bind: Option<Text>,
    /// `advertise`
    pub advertise: Option<Text>,
    /// `interface`
    pub interface: Option<Text>,
    /// `rpc_addr`
    pub rpc_addr: Option<Text>,
    /// `rpc_auth`
    pub rpc_auth: Option<Secret>,
    /// `encrypt_key`
    pub encrypt_key: Option<Secret>,
    /// `keyring_file`
    pub keyring_file: Option<PathBuf>,
    /// `log_level`
    pub log_level: Option<Text>,
    /// `log_format`: `text` or `json`.
    pub log_format: Option<Text>,
    /// `runtime`: `auto`, `smol` or `glommio`.
    pub runtime: Option<Text>,
    /// `protocol`
    pub protocol: Option<i64>,
    /// `profile`
    pub profile: Option<Text>,
    /// `event_handlers`
    pub event_handlers: Vec<HandlerSpec>,
    /// `start_join`
    pub start_join: Vec<Text>,
    /// `retry_join`
    pub retry_join: Vec<Text>,
    /// `retry_max_attempts`
    pub retry_max_attempts: Option<i64>,
    /// `retry_interval`
    pub retry_interval_ns: Option<i64>,
    /// `replay_on_join`
    pub replay_on_join: Option<bool>,
    /// `snapshot_path`
    pub snapshot_path: Option<PathBuf>,
    /// `rejoin_after_leave`
    pub rejoin_after_leave: Option<bool>,
    /// `leave_on_terminate`
    pub leave_on_terminate: Option<bool>,
    /// `skip_leave_on_interrupt`
    pub skip_leave_on_interrupt: Option<bool>,
    /// `discover`
    pub discover: Option<Text>,
    /// `mdns.interface`
    pub mdns_interface: Option<Text>,
    /// `mdns.disable_ipv4`
    pub mdns_disable_ipv4: Option<bool>,
    /// `mdns.disable_ipv6`
    pub mdns_disable_ipv6: Option<bool>,
    /// `reconnect_interval`
    pub reconnect_interval_ns: Option<i64>,
    /// `reconnect_timeout`
    pub reconnect_timeout_ns: Option<i64>,
    /// `tombstone_timeout`
    pub tombstone_timeout_ns: Option<i64>,
    /// `reclaim_time`
    pub reclaim_time_ns: Option<i64>,
    /// `disable_name_resolution`
    pub disable_name_resolution: Option<bool>,
    /// `validate_node_names`
    pub validate_node_names: Option<bool>,
    /// `enable_syslog`
    pub enable_syslog: Option<bool>,
    /// `syslog_facility`
    pub syslog_facility: Option<Text>,
    /// `enable_compression`; `-disable-compression` is its opposite.
    pub enable_compression: Option<bool>,
    /// `statsite_addr`
    pub statsite_addr: Option<Text>,
    /// `statsd_addr`
    pub statsd_addr: Option<Text>,
    /// `broadcast_timeout`
    pub broadcast_timeout_ns: Option<i64>,
    /// `query_response_size_limit`
    pub query_response_size_limit: Option<i64>,
    /// `query_size_limit`
    pub query_size_limit: Option<i64>,
    /// `user_event_size_limit`
    pub user_event_size_limit: Option<i64>,
    /// `disable_coordinates`
    pub disable_coordinates: Option<bool>,
    /// `label`
    pub label: Option<Text>,
    /// `skip_inbound_label_check`
    pub skip_inbound_label_check: Option<bool>,
    /// `gossip_verify_incoming`
    pub gossip_verify_incoming: Option<bool>,
    /// `gossip_verify_outgoing`
    pub gossip_verify_outgoing: Option<bool>,
}

/// The place of one key's value, by the type of the value and the rule that merges it.
#[derive(Debug, PartialEq)]
pub(crate) enum Slot<'a> {
    /// Text; the last one that is not empty counts.
    Text(&'a mut Option<Text>),
    /// Text that is not shown; likewise.
    Secret(&'a mut Option<Secret>),
    /// Text; likewise.
    Path(&'a mut Option<PathBuf>),
    /// A boolean that is false by default: one true is enough.
    Flag(&'a mut Option<bool>),
    /// A boolean that is true by default: the last one counts.
    Switch(&'a mut Option<bool>),
    /// An integer; the last one that is not 0 counts.
    Number(&'a mut Option<i64>),
    /// An integer; the last one above 0 counts.
    Positive(&'a mut Option<i64>),
    /// Text in the file; the last one that is not 0 counts.
    Duration(&'a mut Option<i64>),
    /// Text to text; later ones are appended, and of one name the last counts.
    Tags(&'a mut Vec<(Text, Text)>),
    /// Later ones are appended.
    Texts(&'a mut Vec<Text>),
    /// Later ones are appended.
    Handlers(&'a mut Vec<HandlerSpec>),
}

impl File {
    /// Every key; those of an object inside have its name before a dot.
    pub fn keys() -> Vec<&'static str> {
        File::default().slots().into_iter().map(|(key, _)| key).collect()
    }

    /// Every key with its place; keys of an object inside have its name before a dot. The durations stand in the
    /// order in which the reference reads them.
    pub(crate) fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("node_name", Slot::Text(&mut self.node_name)),
            ("role", Slot::Text(&mut self.role)),
            ("tags", Slot::Tags(&mut self.tags)),
            ("tags_file", Slot::Path(&mut self.tags_file)),
            ("bind", Slot::Text(&mut self.bind)),
            ("advertise", Slot::Text(&mut self.advertise)),
            ("interface", Slot::Text(&mut self.interface)),
            ("rpc_addr", Slot::Text(&mut self.rpc_addr)),
            ("rpc_auth", Slot::Secret(&mut self.rpc_auth)),
            ("encrypt_key", Slot::Secret(&mut self.encrypt_key)),
            ("keyring_file", Slot::Path(&mut self.keyring_file)),
            ("log_level", Slot::Text(&mut self.log_level)),
            ("log_format", Slot::Text(&mut self.log_format)),
            ("runtime", Slot::Text(&mut self.runtime)),
            ("protocol", Slot::Positive(&mut self.protocol)),
            ("profile", Slot::Text(&mut self.profile)),
            ("event_handlers", Slot::Handlers(&mut self.event_handlers)),
            ("start_join", Slot::Texts(&mut self.start_join)),
            ("retry_join", Slot::Texts(&mut self.retry_join)),
            ("retry_max_attempts", Slot::Number(&mut self.retry_max_attempts)),
            ("replay_on_join", Slot::Flag(&mut self.replay_on_join)),
            ("snapshot_path", Slot::Path(&mut self.snapshot_path)),
            ("rejoin_after_leave", Slot::Flag(&mut self.rejoin_after_leave)),
            ("leave_on_terminate", Slot::Flag(&mut self.leave_on_terminate)),
            ("skip_leave_on_interrupt", Slot::Flag(&mut self.skip_leave_on_interrupt)),
            ("discover", Slot::Text(&mut self.discover)),
            ("mdns.interface", Slot::Text(&mut self.mdns_interface)),
            ("mdns.disable_ipv4", Slot::Flag(&mut self.mdns_disable_ipv4)),
            ("mdns.disable_ipv6", Slot::Flag(&mut self.mdns_disable_ipv6)),
            ("reconnect_interval", Slot::Duration(&mut self.reconnect_interval_ns)),
            ("reconnect_timeout", Slot::Duration(&mut self.reconnect_timeout_ns)),
            ("tombstone_timeout", Slot::Duration(&mut self.tombstone_timeout_ns)),
            ("retry_interval", Slot::Duration(&mut self.retry_interval_ns)),
            ("broadcast_timeout", Slot::Duration(&mut self.broadcast_timeout_ns)),
            ("reclaim_time", Slot::Duration(&mut self.reclaim_time_ns)),
            ("disable_name_resolution", Slot::Flag(&mut self.disable_name_resolution)),
            ("validate_node_names", Slot::Flag(&mut self.validate_node_names)),
            ("enable_syslog", Slot::Flag(&mut self.enable_syslog)),
            ("syslog_facility", Slot::Text(&mut self.syslog_facility)),
            ("enable_compression", Slot::Switch(&mut self.enable_compression)),
            ("statsite_addr", Slot::Text(&mut self.statsite_addr)),
            ("statsd_addr", Slot::Text(&mut self.statsd_addr)),
            ("query_response_size_limit", Slot::Number(&mut self.query_response_size_limit)),
            ("query_size_limit", Slot::Number(&mut self.query_size_limit)),
            ("user_event_size_limit", Slot::Number(&mut self.user_event_size_limit)),
            ("disable_coordinates", Slot::Flag(&mut self.disable_coordinates)),
            ("label", Slot::Text(&mut self.label)),
            ("skip_inbound_label_check", Slot::Flag(&mut self.skip_inbound_label_check)),
            ("gossip_verify_incoming", Slot::Switch(&mut self.gossip_verify_incoming)),
            ("gossip_verify_outgoing", Slot::Switch(&mut self.gossip_verify_outgoing)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_key() {
        let mut file = File::default();
        let shown = format!("{file:#?}");
        let fields = shown.lines().filter(|line| line.starts_with("    ")).count();
        assert_eq!(file.slots().len(), fields, "{shown}");
        for (key, slot) in file.slots() {
            let suffix = if matches!(slot, Slot::Duration(_)) { "_ns" } else { "" };
            let field = format!("    {}{suffix}: ", key.replace('.', "_"));
            assert!(shown.contains(&field), "{key}");
        }
    }
}
