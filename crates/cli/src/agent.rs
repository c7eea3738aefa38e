//! The `agent` command: from flags to a running agent (agent.md 1, 4.3 and 5).
//!
//! Decides the order of the start and what is said when it fails: one line on standard output, exit
//! status 1. `settings` reads the flags, `warnings` finds what is odd about them; addresses and sockets
//! are the host's. Invariant: nothing is announced to others before every socket is open.

mod settings;
mod warnings;

use crate::args::AgentArgs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use villein_agent::config::{Config, Discover};
use villein_core::config::Config as NodeConfig;
use villein_core::member::WireAddr;
use villein_core::note::Level;
use villein_core::text::{Secret, Text};
use villein_host::address::{Bind, parse_advertise};
use villein_host::bind::{self, Gossip};
use villein_host::boot::{Boot, Kept, Sockets};
use villein_host::interface::{self, Interface};
use villein_host::machine;
use villein_host::multicast::{self, Pair};
use villein_rpc::system::os_words;

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

/// Every socket of the agent.
struct Opened {
    rpc: bind::Rpc,
    gossip: Gossip,
    /// What others are told.
    addr: WireAddr,
    port: u16,
    multicast: Vec<Pair>,
}

/// The start up to the first input; `Err` is the message for the operator.
fn start(args: &AgentArgs) -> Result<Boot, String> {
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
    let host_name = machine::host_name();
    let name = args.node.clone().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| Text::from(host_name.as_str()));
    let protocol = settings::protocol(args).map_err(|why| format!("{FAILED}: Error creating Serf: {why}"))?;
    let tags =
        settings::tags(args, protocol).map_err(|why| format!("{FAILED}: Error creating Serf: {why}"))?;
    let keyring = key
        .map(settings::keyring)
        .transpose()
        .map_err(|why| format!("{FAILED}: Error creating Serf: Failed to create memberlist: {why}"))?;
    let opened = open(args, &place)?;
    say("Starting Serf agent RPC...");

    let node = NodeConfig {
        tags,
        protocol,
        profile,
        keyring,
        compression: !args.disable_compression.unwrap_or(false),
        broadcast_timeout: settings::broadcast_timeout(args)?,
        ..NodeConfig::new(name, opened.addr, opened.port)
    };
    let config = Config {
        profile_name,
        bind_text: place.bind.shown(opened.gossip.port),
        advertise_text: place.advertise.map(|addr| addr.to_string()),
        rpc_text: opened.rpc.shown.clone(),
        rpc_auth: Secret::default(),
        log_level,
        start_join: settings::words(&args.start_join),
        retry_join: settings::words(&args.retry_join),
        retry_interval: settings::retry_interval(args)?,
        retry_max: u32::try_from(args.retry_max.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        replay_on_join: args.replay.unwrap_or(false),
        leave_on_terminate: false,
        skip_leave_on_interrupt: false,
        discover: settings::given(args.discover.as_ref()).map(|cluster| Discover {
            cluster,
            host_name,
            families: opened.multicast.iter().map(|pair| pair.family).collect(),
        }),
        bind_port: opened.gossip.port,
        start_lines: warnings::all(&node.name, &handlers, &opened.rpc)
            .into_iter()
            .map(|text| (Level::Warn, text))
            .collect(),
        handlers,
        ..Config::new(node, machine::machine())
    };
    let sockets = Sockets::new(opened.gossip, opened.rpc.listener, opened.multicast);
    let failed = |error: io::Error| format!("{FAILED}: {}", os_words(&error));
    let boot = Boot::new(config, sockets, Kept::default(), io::stdout()).map_err(failed)?;
    boot.watch_signals().map_err(failed)?;
    Ok(boot)
}

/// Addresses as the operator wants them (agent.md 5.1, 5.2).
fn place(args: &AgentArgs, interface: Option<Interface>) -> Result<Place, String> {
    let text = settings::given(args.bind.as_ref()).unwrap_or_default();
    let mut bind = Bind::parse(&text).map_err(|why| format!("Invalid bind address: {why}"))?;
    if let Some(interface) = &interface {
        let (narrowed, chosen) = interface.narrow(bind)?;
        if chosen {
            say(&format!("Using interface '{}' address '{}'", interface.name, narrowed.ip));
        }
        bind = narrowed;
    }
    let advertise = settings::given(args.advertise.as_ref()).map(|text| parse_advertise(&text)).transpose();
    let advertise = advertise.map_err(|why| format!("Invalid advertise address: {why}"))?;
    Ok(Place { interface, bind, advertise })
}

/// Opens the RPC port first: who finds it taken has not yet disturbed any cluster (agent.md 20.2).
fn open(args: &AgentArgs, place: &Place) -> Result<Opened, String> {
    let rpc = settings::given(args.rpc_addr.as_ref()).unwrap_or_else(|| settings::RPC_ADDR.to_owned());
    let rpc = bind::rpc(&rpc)?;
    let Bind { ip, port, .. } = place.bind;
    let gossip = bind::gossip(ip, port).map_err(|why| format!("{FAILED}: {why}"))?;
    let (addr, port) = match place.advertise {
        Some(addr) => (WireAddr::from_ip(addr.ip()), addr.port()),
        None => (advertised(ip)?, gossip.port),
    };
    let multicast = match settings::given(args.discover.as_ref()) {
        Some(_) => multicast::open(place.interface.as_ref())?,
        None => Vec::new(),
    };
    Ok(Opened { rpc, gossip, addr, port, multicast })
}

/// What others are told who listens on `ip`. An address chosen from those of the machine travels in the
/// long form, as it does from every Serf agent (gossip.md 3.7): the form is part of what peers compare.
fn advertised(ip: IpAddr) -> Result<WireAddr, String> {
    if !ip.is_unspecified() {
        return Ok(WireAddr::from_ip(ip));
    }
    let route = interface::default_route();
    let chosen = interface::private_address(&interface::all(), route.as_deref(), ip.is_ipv6());
    let octets = match chosen {
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(v6)) => v6.octets(),
        None => {
            return Err(format!(
                "{FAILED}: No private IP address found, and explicit IP not provided \
                 (give one with -bind or -advertise)"
            ));
        }
    };
    Ok(WireAddr::from_bytes(&octets).expect("an IPv6 address has 16 bytes"))
}
