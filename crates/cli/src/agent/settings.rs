//! Flags of `agent` as the settings of one more source (agent.md 2).
//!
//! What they mean is decided where those of files are, in [`villein_agent::config::settings`]. Invariant: a flag
//! that was not given leaves its setting alone.

use crate::args::{AgentArgs, split_tag};
use villein_agent::config::{File, Sources};
use villein_agent::handler::HandlerSpec;
use villein_core::gotext::parse_duration;
use villein_core::text::Text;

/// Where the settings of an agent with these flags come from. `Err` is the message for the operator about the first
/// flag that is wrong, in the order of the reference (agent.md 1, step 1).
pub(super) fn sources(args: &AgentArgs) -> Result<Sources, String> {
    let mut tags = Vec::new();
    for word in &args.tags {
        let (name, value) =
            split_tag(word).map_err(|message| String::from_utf8_lossy(&message).into_owned())?;
        tags.push((Text::from(name), Text::from(value)));
    }
    let retry_interval_ns = duration_ns(args.retry_interval.as_ref())?;
    let broadcast_timeout_ns = duration_ns(args.broadcast_timeout.as_ref())?;
    let reclaim_time_ns = duration_ns(args.reclaim_time.as_ref())?;
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
        runtime: args.runtime.clone(),
        protocol: args.protocol,
        profile: args.profile.clone(),
        event_handlers: args.event_handlers.iter().cloned().map(HandlerSpec::Line).collect(),
        start_join: args.start_join.clone(),
        retry_join: args.retry_join.clone(),
        retry_max_attempts: args.retry_max,
        retry_interval_ns,
        replay_on_join: args.replay,
        snapshot_path: args.snapshot.clone(),
        rejoin_after_leave: args.rejoin,
        discover: args.discover.clone(),
        mdns_interface: args.mdns_iface.clone(),
        mdns_disable_ipv4: args.mdns_disable_ipv4,
        mdns_disable_ipv6: args.mdns_disable_ipv6,
        reclaim_time_ns,
        enable_syslog: args.syslog,
        enable_compression: args.disable_compression.map(|disabled| !disabled),
        broadcast_timeout_ns,
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

/// Nanoseconds; an empty text is none.
fn duration_ns(text: Option<&Text>) -> Result<Option<i64>, String> {
    let given = text.filter(|text| !text.is_empty());
    given.map(|text| parse_duration(&text.to_string())).transpose().map_err(|why| format!("Error: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::program;
    use clap::FromArgMatches;
    use villein_core::text::Secret;

    fn read(flags: &[&str]) -> Result<Sources, String> {
        let words = ["villein", "agent"].iter().chain(flags);
        let matches = program().try_get_matches_from(words).expect("clap knows the flags");
        let (_, matches) = matches.subcommand().expect("it is a command");
        sources(&AgentArgs::from_arg_matches(matches).expect("every value is right"))
    }

    #[expect(clippy::unnecessary_wraps, reason = "settings are optional")]
    fn text(text: &str) -> Option<Text> {
        Some(Text::from(text))
    }

    #[test]
    fn nothing_typed_is_nothing_said() {
        assert_eq!(read(&[]), Ok(Sources::default()));
        let empty = read(&["--config-file=", "--retry-interval=", "--reclaim-time="]);
        assert_eq!(empty, Ok(Sources::default()));
    }

    #[test]
    fn every_flag_has_its_setting() {
        let flags = "--node=n --role=r --tag=a=b=c --tag=d= --tags-file=t --bind=b --advertise=x --iface=i \
                     --rpc-addr=p --encrypt=k --keyring-file=f --log-level=l --log-format=json --protocol=4 \
                     --profile=wan --event-handler=h --join=j --retry-join=q --retry-max=3 --retry-interval=2s \
                     --replay=true --snapshot=s --rejoin=false --discover=c --mdns-iface=m \
                     --mdns-disable-ipv4=true --mdns-disable-ipv6=false --reclaim-time=1s --syslog=true \
                     --disable-compression=true --broadcast-timeout=3s --disable-coordinates=true --label=L \
                     --skip-inbound-label-check=true --gossip-verify-incoming=false \
                     --gossip-verify-outgoing=false --config-file=one --config-dir=two --config-file=three";
        let sources = read(&flags.split_whitespace().collect::<Vec<_>>()).expect("every value is right");
        assert_eq!(sources.paths, ["one", "two", "three"].map(std::path::PathBuf::from));
        let expected = File {
            node_name: text("n"),
            role: text("r"),
            tags: vec![("a".into(), "b=c".into()), ("d".into(), "".into())],
            tags_file: Some("t".into()),
            bind: text("b"),
            advertise: text("x"),
            interface: text("i"),
            rpc_addr: text("p"),
            encrypt_key: Some(Secret::from("k")),
            keyring_file: Some("f".into()),
            log_level: text("l"),
            log_format: text("json"),
            protocol: Some(4),
            profile: text("wan"),
            event_handlers: vec![HandlerSpec::Line("h".into())],
            start_join: vec!["j".into()],
            retry_join: vec!["q".into()],
            retry_max_attempts: Some(3),
            retry_interval_ns: Some(2_000_000_000),
            replay_on_join: Some(true),
            snapshot_path: Some("s".into()),
            rejoin_after_leave: Some(false),
            discover: text("c"),
            mdns_interface: text("m"),
            mdns_disable_ipv4: Some(true),
            mdns_disable_ipv6: Some(false),
            reclaim_time_ns: Some(1_000_000_000),
            enable_syslog: Some(true),
            enable_compression: Some(false),
            broadcast_timeout_ns: Some(3_000_000_000),
            disable_coordinates: Some(true),
            label: text("L"),
            skip_inbound_label_check: Some(true),
            gossip_verify_incoming: Some(false),
            gossip_verify_outgoing: Some(false),
            ..File::default()
        };
        assert_eq!(sources.flags, expected);
    }

    #[test]
    fn the_deprecated_role_is_no_tag_yet() {
        let flags = read(&["--role=web", "--tag=role=db"]).expect("both are right").flags;
        assert_eq!((flags.role, flags.tags.len()), (text("web"), 1));
    }

    #[test]
    fn flags_are_checked_in_order() {
        let tag = "--tag=b";
        let (interval, timeout) = ("--retry-interval=5", "--broadcast-timeout=xyz");
        let refused = |flags: &[&str]| read(flags).expect_err("a flag is wrong");
        assert_eq!(refused(&[timeout, interval, "--tag=a=1", tag]), "Error: Invalid tag: 'b'");
        assert_eq!(refused(&[timeout, interval]), "Error: time: missing unit in duration \"5\"");
        assert_eq!(refused(&["--reclaim-time=1", timeout]), "Error: time: invalid duration \"xyz\"");
        assert_eq!(refused(&["--reclaim-time=1"]), "Error: time: missing unit in duration \"1\"");
    }
}
