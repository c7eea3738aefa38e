//! Flags of `agent` as the settings of one more source (agent.md 2).
//!
//! What they mean is decided where those of files are, in [`villein_agent::config::settings`]. Invariant: a flag
//! that was not given leaves its setting alone.

use crate::args::{AgentArgs, split_tag};
use villein_agent::config::{File, Sources};
use villein_agent::handler::HandlerSpec;
use villein_core::text::Text;

/// Where the settings of an agent with these flags come from. `Err` is the message for the operator.
pub(super) fn sources(args: &AgentArgs) -> Result<Sources, String> {
    let mut tags = Vec::new();
    for word in &args.tags {
        let (name, value) =
            split_tag(word).map_err(|message| String::from_utf8_lossy(&message).into_owned())?;
        tags.push((Text::from(name), Text::from(value)));
    }
    let flags = File {
        node_name: args.node.clone(),
        role: args.role.clone(),
        tags,
        tags_file: args.tags_file.clone(),
        bind: args.bind.clone(),
        advertise: args.advertise.clone(),
        interface: args.iface.clone(),
        rpc_addr: args.rpc_addr.clone(),
        encrypt_key: args.encrypt.clone(),
        keyring_file: args.keyring_file.clone(),
        log_level: args.log_level.clone(),
        log_format: args.log_format.clone(),
        protocol: args.protocol,
        profile: args.profile.clone(),
        event_handlers: args.event_handlers.iter().cloned().map(HandlerSpec::Line).collect(),
        start_join: args.start_join.clone(),
        retry_join: args.retry_join.clone(),
        retry_max_attempts: args.retry_max,
        retry_interval_ns: args.retry_interval_ns()?,
        replay_on_join: args.replay,
        snapshot_path: args.snapshot.clone(),
        rejoin_after_leave: args.rejoin,
        discover: args.discover.clone(),
        mdns_interface: args.mdns_iface.clone(),
        mdns_disable_ipv4: args.mdns_disable_ipv4,
        mdns_disable_ipv6: args.mdns_disable_ipv6,
        reclaim_time_ns: args.reclaim_time_ns()?,
        enable_syslog: args.syslog,
        enable_compression: args.disable_compression.map(|disabled| !disabled),
        broadcast_timeout_ns: args.broadcast_timeout_ns()?,
        disable_coordinates: args.disable_coordinates,
        label: args.label.clone(),
        skip_inbound_label_check: args.skip_inbound_label_check,
        gossip_verify_incoming: args.gossip_verify_incoming,
        gossip_verify_outgoing: args.gossip_verify_outgoing,
        ..File::default()
    };
    let is_given = |path: &&std::path::PathBuf| !path.as_os_str().is_empty();
    Ok(Sources {
        paths: args.config_files.iter().filter(is_given).cloned().collect(),
        flags,
        ..Sources::default()
    })
}
