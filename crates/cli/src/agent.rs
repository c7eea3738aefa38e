//! The `agent` command: from flags to a running agent (agent.md 1, 4.3 and 5).
//!
//! Decides the order of the start and what is said when it fails: one line on standard output, exit
//! status 1. `settings` reads the flags, `warnings` finds what is odd about the machine; what settings mean is
//! decided in [`villein_agent::config::settings`], addresses, sockets and files are the host's. Invariant:
//! nothing is announced to others before every socket and file is open.

mod runtime;
mod settings;
mod warnings;

use self::runtime::EventLoop;
use crate::args::AgentArgs;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use villein_agent::config::settings::{self as check, Given, Merged};
use villein_agent::config::{
    Config, Discover, Facility, Family, File, LogFormat, RPC_ADDR, Runtime, Sources,
};
use villein_agent::handler::Handler;
use villein_core::config::Config as NodeConfig;
use villein_core::crypto::Keyring;
use villein_core::member::{Tags, WireAddr};
use villein_core::note::Level;
use villein_core::snapshot::Restored;
use villein_core::text::Text;
use villein_host::address::{Bind, parse_advertise};
use villein_host::bind::{self, Gossip};
use villein_host::boot::{Boot, Kept, Sockets};
use villein_host::files;
use villein_host::interface::{self, Interface};
use villein_host::machine;
use villein_host::multicast::{self, Pair};
use villein_host::notify::{self, ServiceManager};
use villein_host::sinks::{self, Sinks};
use villein_host::snapshot::Snapshot;
use villein_rpc::system::os_words;

/// What failures of the cluster part begin with.
const FAILED: &str = "Failed to start the Serf agent";

/// What failures of tags and keyring files begin with.
const SETUP_FAILED: &str = "Failed to setup the Serf agent";

/// Runs an agent with these flags; `program` is the name of the caller.
/// Returns the exit status.
pub(crate) fn run(args: &AgentArgs, program: &str) -> u8 {
    let mut console = Console::default();
    match start(args, program, &mut console) {
        Ok((event_loop, boot)) => event_loop.run(boot).unwrap_or_else(|error| {
            console.say(&format!("{FAILED}: {}", os_words(&error)));
            1
        }),
        Err(message) => {
            console.say(&message);
            1
        }
    }
}

/// Where the start is told.
#[derive(Default)]
struct Console {
    /// As far as it is known.
    format: LogFormat,
}

impl Console {
    /// A line of the start; who has closed the output does not read it. A log for machines stands alone on
    /// standard output.
    fn say(&self, line: &str) {
        let _ = match self.format {
            LogFormat::Text => writeln!(io::stdout(), "==> {line}"),
            LogFormat::Json => writeln!(io::stderr(), "==> {line}"),
        };
    }
}

/// What was told, and found right so far.
struct Settled {
    sources: Sources,
    /// What the files say in vain.
    skipped: Vec<String>,
    handlers: Vec<Handler>,
    /// Of discovery.
    families: Option<Vec<Family>>,
    log_level: Level,
    log_format: LogFormat,
    syslog: Option<Facility>,
    runtime: Runtime,
    place: Place,
    key: Option<Given>,
}

/// Where the agent is, for itself and for others.
struct Place {
    interface: Option<Interface>,
    /// Of discovery, if it is another one.
    mdns_interface: Option<Interface>,
    bind: Bind,
    advertise: Option<SocketAddr>,
}

/// What the agent keeps in files, as it was when they were read.
struct Files {
    tags: Tags,
    keyring: Option<Keyring>,
    /// What was read, for the log.
    lines: Vec<(Level, String)>,
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
fn start(args: &AgentArgs, program: &str, console: &mut Console) -> Result<(EventLoop, Boot), String> {
    let settled = settle(args, program, console)?;
    console.say("Starting Serf agent...");
    let (file, place) = (&settled.sources.merged, &settled.place);
    let host_name = machine::host_name();
    let files = keep(file, settled.key.as_ref()).map_err(|why| format!("{SETUP_FAILED}: {why}"))?;
    let creating = |why: String| format!("{FAILED}: Error creating Serf: {why}");
    let name = file.node_name.clone().unwrap_or_else(|| Text::from(host_name.as_str()));
    let node = NodeConfig::new(name, WireAddr::from_ip(place.bind.ip), place.bind.port);
    let node = check::node(file, NodeConfig { tags: files.tags, ..node }).map_err(creating)?;
    let (snapshot, restored) = snapshot(file, &node).map_err(creating)?;
    let keyring = settled.key.map(check::keyring).transpose();
    let keyring = keyring.map_err(|why| creating(format!("Failed to create memberlist: {why}")))?;
    let (event_loop, fallback) = runtime::choose(settled.runtime);
    let opened = open(file, place, settled.families.as_deref())?;
    console.say("Starting Serf agent RPC...");

    let keyring = files.keyring.or(keyring);
    let node = NodeConfig { addr: opened.addr, port: opened.port, keyring, ..node };
    let warnings = warnings::all(file, &node.name, &settled.handlers, &opened.rpc);
    let warnings =
        settled.skipped.into_iter().chain(fallback).chain(warnings).map(|text| (Level::Warn, text));
    let start_lines = files.lines.into_iter().chain(warnings).collect();
    let discover = |cluster: &Text| Discover {
        cluster: cluster.to_string(),
        host_name: host_name.clone(),
        families: opened.multicast.iter().map(|pair| pair.family).collect(),
    };
    let kept = Kept { restored, snapshot, sinks: sinks(file) };
    let config = Config {
        bind_text: place.bind.shown(opened.gossip.port),
        advertise_text: place.advertise.map(|addr| addr.to_string()),
        rpc_text: opened.rpc.shown.clone(),
        log_level: settled.log_level,
        log_format: settled.log_format,
        journal: notify::journal_reads_output(),
        syslog: settled.syslog,
        handlers: settled.handlers,
        discover: file.discover.as_ref().map(discover),
        host_name,
        bind_port: opened.gossip.port,
        runtime_name: event_loop.name().to_owned(),
        service_manager: kept.sinks.service_manager.as_ref().map(ServiceManager::wishes),
        start_lines,
        ..check::agent(file, node, machine::machine())
    };
    let config = Config { sources: settled.sources, ..config };
    let sockets = Sockets::new(opened.gossip, opened.rpc.listener, opened.multicast);
    let failed = |error: io::Error| format!("{FAILED}: {}", os_words(&error));
    let boot = Boot::new(config, sockets, kept, io::stdout()).map_err(failed)?;
    boot.watch_signals().map_err(failed)?;
    Ok((event_loop, boot))
}

/// Reads all settings, and checks what is checked before the agent says that it starts.
fn settle(args: &AgentArgs, program: &str, console: &mut Console) -> Result<Settled, String> {
    let typed = File { log_format: args.log_format.clone(), ..File::default() };
    console.format = check::log_format_of_start(&[], &typed);
    let mut sources = settings::sources(args)?;
    if !args.ignored.is_empty() {
        let words: Vec<String> = args.ignored.iter().map(Text::to_string).collect();
        // A closed stderr is no reason not to run.
        let _ = writeln!(io::stderr(), "{program} agent: ignoring these words: {}", words.join(" "));
    }
    let read = files::read_config(&sources.paths)?;
    console.format = check::log_format_of_start(&read, &sources.flags);
    let Merged { file, skipped } = check::merge(&read, &sources.flags)?;
    let handlers = check::handlers(&file)?;
    let named = |kind: &str, name: Option<&Text>| {
        let find = |name: &Text| Interface::named(&name.to_string());
        name.map(find).transpose().map_err(|why| format!("Invalid {kind}: {why}"))
    };
    let interface = named("network interface", file.interface.as_ref())?;
    let families = check::discovery(&file)?;
    let mdns_interface = named("mDNS network interface", file.mdns_interface.as_ref())?;
    for (_, notice) in check::notices(&file) {
        console.say(&notice);
    }
    let log_level = check::log_level(&file)?;
    let log_format = check::log_format(&file)?;
    let syslog = check::syslog(&file)?;
    if syslog.is_some() {
        sinks::syslog_available().map_err(|why| format!("Syslog setup failed: {why}"))?;
    }
    let runtime = check::runtime(&file)?;
    let place = place(&file, interface, mdns_interface, console)?;
    let key = check::key(&file)?;
    check::profile(&file)?;
    sources.merged = file;
    Ok(Settled { sources, skipped, handlers, families, log_level, log_format, syslog, runtime, place, key })
}

/// Who is told the metrics, and how the agent fares.
fn sinks(file: &File) -> Sinks {
    let text = |addr: &Option<Text>| addr.as_ref().map(Text::to_string);
    Sinks {
        statsd: text(&file.statsd_addr),
        statsite: text(&file.statsite_addr),
        service_manager: notify::service_manager(),
    }
}

/// Addresses as the operator wants them (agent.md 5.1, 5.2).
fn place(
    file: &File,
    interface: Option<Interface>,
    mdns_interface: Option<Interface>,
    console: &Console,
) -> Result<Place, String> {
    let text = file.bind.as_ref().map(Text::to_string).unwrap_or_default();
    let mut bind = Bind::parse(&text).map_err(|why| format!("Invalid bind address: {why}"))?;
    if let Some(interface) = &interface {
        let (narrowed, chosen) = interface.narrow(bind)?;
        if chosen {
            console.say(&format!("Using interface '{}' address '{}'", interface.name, narrowed.ip));
        }
        bind = narrowed;
    }
    let advertise = file.advertise.as_ref().map(|text| parse_advertise(&text.to_string())).transpose();
    let advertise = advertise.map_err(|why| format!("Invalid advertise address: {why}"))?;
    Ok(Place { interface, mdns_interface, bind, advertise })
}

/// Reads the tags file, which need not be there yet, and the keyring file (agent.md 13, 14).
fn keep(file: &File, given: Option<&Given>) -> Result<Files, String> {
    let mut tags = check::tags(file)?;
    let mut lines = Vec::new();
    if let Some(path) = &file.tags_file
        && let Some(bytes) = files::read(path).map_err(|why| format!("Failed to read tags file: {why}"))?
    {
        tags = check::kept_tags(&bytes)?;
        lines.push((Level::Info, format!("Restored {} tag(s) from {}", tags.len(), path.display())));
    }
    let keyring = file.keyring_file.as_deref().map(|path| keyring(path, given, &mut lines)).transpose()?;
    Ok(Files { tags, keyring, lines })
}

/// The keys of the file. A key that was given makes the file if there is none yet.
fn keyring(path: &Path, given: Option<&Given>, lines: &mut Vec<(Level, String)>) -> Result<Keyring, String> {
    let shown = path.display();
    if let Err(error) = fs::metadata(path) {
        let given = given.filter(|_| error.kind() == io::ErrorKind::NotFound);
        let Some(Ok(key)) = given else { return Err(format!("stat {shown}: {}", os_words(&error))) };
        let keyring = check::keyring(Ok(key.clone()))?;
        let saved = files::save(path, check::keyring_text(&keyring).as_bytes());
        saved.map_err(|why| format!("Failed to write keyring file: {why}"))?;
        lines.push((Level::Info, format!("Created the keyring file {shown} with the encryption key")));
        return Ok(keyring);
    }
    let bytes = files::read_existing(path).map_err(|why| format!("Failed to read keyring file: {why}"))?;
    let keyring = check::kept_keys(&bytes, given)?;
    if given.is_some() {
        let text = format!(
            "the encryption key is also in the keyring file {shown}, which counts: leave the key out, or the agent \
             will not start any more once it is removed from there"
        );
        lines.push((Level::Warn, text));
    }
    lines.push((Level::Info, format!("Restored keyring with {} keys from {shown}", keyring.keys().len())));
    Ok(keyring)
}

/// Opens the snapshot before anything else hears of the node, and reads what it says.
fn snapshot(file: &File, node: &NodeConfig) -> Result<(Option<Snapshot>, Restored), String> {
    let Some(path) = &file.snapshot_path else { return Ok((None, Restored::default())) };
    let (snapshot, bytes) = Snapshot::open(path)
        .map_err(|why| format!("Failed to setup snapshot: failed to open snapshot: {why}"))?;
    Ok((Some(snapshot), Restored::parse(&bytes, node.rejoin_after_leave)))
}

/// Opens the RPC port first: who finds it taken has not yet disturbed any cluster (agent.md 20.2).
fn open(file: &File, place: &Place, families: Option<&[Family]>) -> Result<Opened, String> {
    let rpc = file.rpc_addr.as_ref().map_or_else(|| RPC_ADDR.to_owned(), Text::to_string);
    let rpc = bind::rpc(&rpc)?;
    let Bind { ip, port, .. } = place.bind;
    let gossip = bind::gossip(ip, port).map_err(|why| format!("{FAILED}: {why}"))?;
    let (addr, port) = match place.advertise {
        Some(addr) => (WireAddr::from_ip(addr.ip()), addr.port()),
        None => (advertised(ip)?, gossip.port),
    };
    let multicast = match families {
        Some(families) => {
            multicast::open(place.mdns_interface.as_ref().or(place.interface.as_ref()), families)?
        }
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
