//! What a configuration file says: every key of agent.md 3 and those of this product, all optional.
//!
//! Flags make the same type, so that files and flags are merged by one rule for each key. Invariant: nothing is
//! checked here but the types; what a value means is decided when all sources are merged.

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
