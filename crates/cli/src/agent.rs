//! The `agent` command: from flags to a running agent (agent.md 1, 4.3 and 5).
//!
//! Decides the order of the start and what is said when it fails: one line on standard output, exit status
//! 1. `settings` reads the flags, `warnings` finds what is odd about them; addresses and sockets are the
//! host's. Invariant: nothing is announced to others before every socket is open.

mod settings;
mod warnings;

use crate::args::AgentArgs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use villein_agent::config::{Config, Discover};
use villein_core::config::Config as NodeConfig;
use villein_core::crypto::Keyring;
use villein_core::limits;
use villein_core::member::WireAddr;
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::wire::serf::encode_meta;
use villein_host::address::{Bind, parse_advertise};
use villein_host::bind::{self, Gossip};
use villein_host::boot::{Boot, Sockets};
use villein_host::interface::{self, Interface};
use villein_host::multicast::{self, Pair};
use villein_host::words::os_words;

/// What every failure of the cluster part begins with.
const FAILED: &str = "Failed to start the Serf agent";

/// Runs an agent with these flags, which were checked; `program` is the name of the caller.
/// Returns the exit status.
pub(crate) fn run(args: &AgentArgs, program: &str) -> u8 {
    if !args.ignored.is_empty() {
        let words: Vec<String> = args.ignored.iter().map(Text::to_string).collect();
        // A closed stderr is no reason not to run.
        let _ = writeln!(io::stderr(), "{program} agent: ignoring these words: {}", words.join(" "));
    }
    match start(args) {
        Ok(boot) => villein_rt_smol::run(boot).unwrap_or_else(|error| {
            say(&format!("{FAILED}: {}", os_words(&error)));
            1
        }),
        Err(message) => {
            say(&message);
            1
        }
    }
}

/// A line of the start; who has closed standard output does not read it.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "==> {line}");
}

/// Where the agent is, for itself and for others.
struct Place {
    interface: Option<Interface>,
    bind: Bind,
    advertise: Option<SocketAddr>,
}

/// The start up to the first input; `Err` is the message for the operator.
fn start(args: &AgentArgs) -> Result<Boot, String> {
    let host_name = settings::host_name();
    let handlers = settings::handlers(args)?;
    let interface = settings::given(args.iface.as_ref()).map(|name| Interface::named(&name)).transpose()?;
    for notice in settings::notices(args) {
        say(&notice);
    }
    let log_level = settings::log_level(args)?;
    let place = place(args, interface)?;
    let key = settings::key(args)?;
    let (profile_name, profile) = settings::profile(args)?;
    say("Starting Serf agent...");

    let name = args.node.clone().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| Text::from(host_name.as_str()));
    let (protocol, tags) = (settings::protocol(args)?, settings::tags(args, protocol_of(args))?);
    let keyring = match key {
        Some(key) => {
            let refused = |why: &dyn std::fmt::Display| {
                format!("{FAILED}: Error creating Serf: Failed to create memberlist: {why}")
            };
            let key = key.map_err(|why| refused(&why))?;
            Some(Keyring::new(key, []).map_err(|why| refused(&why))?)
        }
        None => None,
    };
    todo!()
}
