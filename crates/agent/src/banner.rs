//! What the console shows once the agent runs (agent.md 1.2).

use crate::config::Config;
use crate::escape;
use std::fmt::Write as _;

/// The lines from `==> Serf agent running!` on.
pub(crate) fn text(config: &Config) -> String {
    let quoted = |text: &str| format!("'{text}'");
    let mut text = String::from("==> Serf agent running!\n");
    put(&mut text, "Node name", &quoted(&escape::line(&config.node.name)));
    put(&mut text, "Bind addr", &quoted(&config.bind_text));
    if let Some(advertise) = &config.advertise_text {
        // This label alone is not padded, in every release of Serf.
        text.push_str("    Advertise addr: '");
        text.push_str(advertise);
        text.push_str("'\n");
    }
    put(&mut text, "RPC addr", &quoted(&config.rpc_text));
    put(&mut text, "Encrypted", &config.node.keyring.is_some().to_string());
    put(&mut text, "Snapshot", &config.node.snapshot.to_string());
    put(&mut text, "Profile", &config.profile_name);
    put(&mut text, "Runtime", &config.runtime_name);
    put(&mut text, "Message Compression Enabled", &config.node.compression.to_string());
    if let Some(discover) = &config.discover {
        put(&mut text, "mDNS cluster", &escape::line(discover.cluster.as_bytes()));
    }
    text
}

fn put(text: &mut String, label: &str, value: &str) {
    writeln!(text, "    {label:>27}: {value}").expect("a String takes any text");
}
