//! A few nodes in memory: their packets take a millisecond, their time is a number.
//!
//! The lab is a driver like any other: it uses the public interface only, performs every action, and can do
//! to the nodes what happens to real ones (stop, pause, cut off).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use villein_core::Node;
use villein_core::command::{Command, CommandId, QueryParams, Reply};
use villein_core::config::Config;
use villein_core::io::{Action, Input, Outbox, StoreOp, StreamEvent, StreamId, StreamOp};
use villein_core::member::{Event, MemberEventKind, QueryKey, Status, WireAddr};
use villein_core::metric::Metrics;
use villein_core::note::Note;
use villein_core::snapshot::Restored;
use villein_core::text::Text;
use villein_core::time::{Duration, Instant};

const LATENCY: Duration = Duration::from_millis(1);

/// Something that is on its way to a node.
#[derive(Clone, Debug)]
enum Parcel {
    Datagram { from: SocketAddr, bytes: Vec<u8> },
    Accepted { id: StreamId, from: SocketAddr },
    Connected { id: StreamId },
    Data { id: StreamId, bytes: Vec<u8> },
    End { id: StreamId },
    Failed { id: StreamId, why: &'static str },
}

/// The snapshot file of a host. It outlives the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    /// How much of it would outlast a loss of power.
    pub(crate) synced: usize,
    /// There is no room for more: of what is appended a half is written, and the file cannot be replaced.
    pub(crate) is_full: bool,
    /// How often it was appended to, replaced and synced, whatever came of it.
    pub(crate) appends: usize,
    pub(crate) replaces: usize,
    pub(crate) syncs: usize,
}

impl Disk {
    /// A file from before.
    pub(crate) fn with(bytes: &[u8]) -> Disk {
        Disk { bytes: bytes.to_vec(), synced: bytes.len(), ..Disk::default() }
    }

    /// The file as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("the names of the lab are text")
    }

    /// Whether it worked.
    fn perform(&mut self, op: StoreOp<'_>) -> bool {
        match op {
            StoreOp::Append(lines) => {
                self.appends += 1;
                let room = if self.is_full { lines.len() / 2 } else { lines.len() };
                self.bytes.extend_from_slice(&lines[..room]);
            }
            StoreOp::Replace(lines) => {
                self.replaces += 1;
                if !self.is_full {
                    self.bytes = lines.to_vec();
                    self.synced = lines.len();
                }
            }
            StoreOp::Sync => {
                self.syncs += 1;
                self.synced = self.bytes.len();
                return true;
            }
        }
        !self.is_full
    }
}

struct Host {
    node: Node,
    disk: Disk,
    addr: SocketAddr,
    running: bool,
    paused: Vec<Parcel>,
    is_paused: bool,
    events: Vec<(Instant, Event)>,
    notes: Vec<(Instant, Note)>,
    replies: BTreeMap<CommandId, Reply>,
    /// The other end of each open stream.
    streams: BTreeMap<StreamId, (usize, StreamId)>,
    sent: usize,
}

pub(crate) struct Lab {
    hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, usize>,
    now: Instant,
    parcels: BTreeMap<(Instant, u64), (usize, Parcel)>,
    parcel_count: u64,
    accepted_count: u64,
    command_count: u64,
    cut: BTreeSet<(usize, usize)>,
    out: Outbox,
}

/// `node0` is at 10.0.0.1:7946, and so on.
pub(crate) fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 200) as u8, (index % 200 + 1) as u8], 7946))
}

pub(crate) fn config(name: &str, index: usize) -> Config {
    Config::new(name.into(), WireAddr::from_ip(addr(index).ip()), 7946)
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab {
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            now: Instant::from_nanos(1_000_000_000),
            parcels: BTreeMap::new(),
            parcel_count: 0,
            accepted_count: 0,
            command_count: 0,
            cut: BTreeSet::new(),
            out: Outbox::new(),
        }
    }

    /// `count` nodes that know each other: all have joined the first.
    pub(crate) fn cluster(count: usize) -> Lab {
        Lab::cluster_with(count, |_, _| {})
    }

    pub(crate) fn cluster_with(count: usize, change: impl Fn(usize, &mut Config)) -> Lab {
        let mut lab = Lab::new();
        for index in 0..count {
            let mut config = config(&format!("node{index}"), index);
            change(index, &mut config);
            lab.add(config);
        }
        for index in 1..count {
            lab.join(index, &[0]);
        }
        lab.run_until("everybody sees everybody", Duration::from_mins(1), |lab| {
            (0..count)
                .all(|index| lab.statuses(index).values().filter(|s| **s == Status::Alive).count() == count)
        });
        lab.run_for(Duration::from_secs(5));
        lab
    }

    /// Starts a node at the address in `config`; returns its index.
    pub(crate) fn add(&mut self, config: Config) -> usize {
        self.add_restored(config, Restored::default())
    }

    /// Starts a node that knows what a snapshot says; returns its index.
    pub(crate) fn add_restored(&mut self, config: Config, restored: Restored) -> usize {
        self.start_host(config, restored, Disk::default())
    }

    /// Starts a node that reads its snapshot from this disk; returns its index.
    pub(crate) fn add_with_disk(&mut self, config: Config, disk: Disk) -> usize {
        let restored = Restored::parse(&disk.bytes, config.rejoin_after_leave);
        self.start_host(config, restored, disk)
    }

    /// Starts a node again, with the disk that it had; returns its new index. Unless it was stopped before, this is
    /// a crash.
    pub(crate) fn restart(&mut self, index: usize, config: Config) -> usize {
        if self.hosts[index].running {
            self.kill(index);
        }
        let disk = self.hosts[index].disk.clone();
        self.add_with_disk(config, disk)
    }

    fn start_host(&mut self, config: Config, restored: Restored, disk: Disk) -> usize {
        let index = self.hosts.len();
        let addr = SocketAddr::new(config.addr.ip(), config.port);
        let mut seed = [0x5e; 32];
        seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
        let node = Node::new(config, seed, restored, self.now);
        self.by_addr.insert(addr, index);
        self.hosts.push(Host {
            node,
            disk,
            addr,
            running: true,
            paused: Vec::new(),
            is_paused: false,
            events: Vec::new(),
            notes: Vec::new(),
            replies: BTreeMap::new(),
            streams: BTreeMap::new(),
            sent: 0,
        });
        self.input(index, Input::Tick);
        index
    }

    /// Ends a node without a word, as SIGKILL does.
    pub(crate) fn kill(&mut self, index: usize) {
        self.hosts[index].running = false;
        let streams = std::mem::take(&mut self.hosts[index].streams);
        for (peer, id) in streams.into_values() {
            self.hosts[peer].streams.remove(&id);
            self.post(peer, Parcel::Failed { id, why: "connection reset by peer" });
        }
    }

    /// Holds a node as SIGSTOP does: what is sent to it waits.
    pub(crate) fn pause(&mut self, index: usize) {
        self.hosts[index].is_paused = true;
    }

    pub(crate) fn resume(&mut self, index: usize) {
        self.hosts[index].is_paused = false;
        for parcel in std::mem::take(&mut self.hosts[index].paused) {
            self.post(index, parcel);
        }
    }

    /// Drops what either sends to the other.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// The snapshot file of a host.
    pub(crate) fn disk(&self, index: usize) -> &Disk {
        &self.hosts[index].disk
    }

    /// Whether the disk of a host has no room for more.
    pub(crate) fn set_disk_full(&mut self, index: usize, is_full: bool) {
        self.hosts[index].disk.is_full = is_full;
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.hosts[index].node
    }

    /// What it measured since the last call.
    pub(crate) fn take_metrics(&mut self, index: usize) -> Metrics {
        self.hosts[index].node.take_metrics()
    }

    /// How many inputs made the node send a datagram, and how many datagrams.
    pub(crate) fn sent(&self, index: usize) -> usize {
        self.hosts[index].sent
    }

    pub(crate) fn statuses(&self, index: usize) -> BTreeMap<String, Status> {
        self.hosts[index].node.members().map(|member| (member.name.to_string(), member.status)).collect()
    }

    pub(crate) fn status(&self, index: usize, name: &str) -> Status {
        self.statuses(index).get(name).copied().unwrap_or(Status::None)
    }

    /// Everything that the application was told, forgotten afterwards.
    pub(crate) fn take_events(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.hosts[index].events).into_iter().map(|(_, event)| event).collect()
    }

    pub(crate) fn notes(&self, index: usize) -> impl Iterator<Item = &Note> {
        self.hosts[index].notes.iter().map(|(_, note)| note)
    }

    pub(crate) fn clear_records(&mut self) {
        for host in &mut self.hosts {
            host.events.clear();
            host.notes.clear();
        }
    }

    /// Gives a command and returns its id; the reply comes in its own time.
    pub(crate) fn start(&mut self, index: usize, command: Command) -> CommandId {
        self.command_count += 1;
        let id = CommandId(self.command_count);
        self.input(index, Input::Command { id, command });
        id
    }

    pub(crate) fn reply(&self, index: usize, id: CommandId) -> Option<&Reply> {
        self.hosts[index].replies.get(&id)
    }

    /// Gives a command and waits for its reply.
    pub(crate) fn command(&mut self, index: usize, command: Command) -> Reply {
        let id = self.start(index, command);
        self.run_until("the command is answered", Duration::from_mins(1), |lab| {
            lab.reply(index, id).is_some()
        });
        self.reply(index, id).expect("the reply was just seen").clone()
    }

    /// Lets `index` join the others; all must be reached.
    pub(crate) fn join(&mut self, index: usize, others: &[usize]) {
        let addrs: Vec<SocketAddr> = others.iter().map(|other| self.hosts[*other].addr).collect();
        let reply = self.command(index, Command::Join { addrs, ignore_old: true });
        assert_eq!(reply, Reply::Joined { contacted: others.len(), failures: vec![] });
    }

    pub(crate) fn event(&mut self, index: usize, name: &str, payload: &[u8]) {
        let reply = self.command(
            index,
            Command::UserEvent { name: name.into(), payload: Some(payload.into()), coalesce: false },
        );
        assert_eq!(reply, Reply::Done);
    }

    pub(crate) fn query(&mut self, index: usize, params: QueryParams) -> QueryKey {
        match self.command(index, Command::Query(params)) {
            Reply::QueryStarted { key } => key,
            other => panic!("the query was not started: {other:?}"),
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`; fails after `limit`.
    pub(crate) fn run_until(&mut self, what: &str, limit: Duration, done: impl Fn(&Lab) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "{what}: not within {limit:?}");
        }
    }

    /// Sends bytes to a node from an address where nobody is.
    pub(crate) fn inject(&mut self, index: usize, bytes: &[u8]) {
        let from = SocketAddr::from(([10, 9, 9, 9], 9));
        self.input(index, Input::Datagram { from, bytes });
    }

    /// Sends bytes on a stream to a node from where nobody is; what it answers is lost.
    pub(crate) fn inject_stream(&mut self, index: usize, bytes: &[u8]) {
        self.accepted_count += 1;
        let id = StreamId::accepted(self.accepted_count);
        let from = SocketAddr::from(([10, 9, 9, 9], 9));
        self.input(index, Input::Stream { id, event: StreamEvent::Accepted { from } });
        self.input(index, Input::Stream { id, event: StreamEvent::Data(bytes) });
    }

    /// Lets the next thing happen, unless it is later than `end`.
    fn step(&mut self, end: Instant) -> bool {
        let tick = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.running && !host.is_paused)
            .filter_map(|(index, host)| Some((host.node.deadline()?, index)))
            .min();
        let parcel = self.parcels.first_key_value().map(|(key, _)| *key);
        match (tick, parcel) {
            (Some((at, index)), parcel) if parcel.is_none_or(|(due, _)| at < due) => {
                if at > end {
                    return false;
                }
                self.now = self.now.max(at);
                self.input(index, Input::Tick);
            }
            (_, Some(key)) => {
                if key.0 > end {
                    return false;
                }
                self.now = self.now.max(key.0);
                let (index, parcel) = self.parcels.remove(&key).expect("the key was just read");
                self.deliver(index, parcel);
            }
            _ => return false,
        }
        true
    }

    fn post(&mut self, to: usize, parcel: Parcel) {
        self.parcel_count += 1;
        self.parcels.insert((self.now + LATENCY, self.parcel_count), (to, parcel));
    }

    fn deliver(&mut self, index: usize, parcel: Parcel) {
        if !self.hosts[index].running {
            return;
        }
        if self.hosts[index].is_paused {
            self.hosts[index].paused.push(parcel);
            return;
        }
        match parcel {
            Parcel::Datagram { from, bytes } => self.input(index, Input::Datagram { from, bytes: &bytes }),
            Parcel::Accepted { id, from } => self.stream(index, id, StreamEvent::Accepted { from }),
            Parcel::Connected { id } => self.stream(index, id, StreamEvent::Connected),
            Parcel::Data { id, bytes } => self.stream(index, id, StreamEvent::Data(&bytes)),
            Parcel::End { id } => self.stream(index, id, StreamEvent::End),
            Parcel::Failed { id, why } => {
                self.input(index, Input::Stream { id, event: StreamEvent::Failed(why) });
            }
        }
    }

    /// Gives a stream event to a node that still has the stream.
    fn stream(&mut self, index: usize, id: StreamId, event: StreamEvent<'_>) {
        if self.hosts[index].streams.contains_key(&id) {
            self.input(index, Input::Stream { id, event });
        }
    }

    fn input(&mut self, index: usize, input: Input<'_>) {
        let mut out = std::mem::take(&mut self.out);
        let mut store_failed = false;
        self.hosts[index].node.handle(self.now, input, &mut out);
        for action in out.actions() {
            match action {
                Action::Send { to, bytes } => {
                    assert!(bytes.len() <= 65_507, "a datagram of {} bytes", bytes.len());
                    self.hosts[index].sent += 1;
                    let from = self.hosts[index].addr;
                    if let Some(peer) = self.peer(index, to) {
                        self.post(peer, Parcel::Datagram { from, bytes: bytes.to_vec() });
                    }
                }
                Action::Stream { id, op } => self.stream_op(index, id, op),
                Action::Store(op) => store_failed |= !self.hosts[index].disk.perform(op),
                Action::Reply { id, reply } => {
                    let earlier = self.hosts[index].replies.insert(id, reply.clone());
                    assert_eq!(earlier, None, "two replies to {id:?}");
                }
                Action::Event(event) => {
                    let at = self.now;
                    self.hosts[index].events.push((at, event.clone()));
                }
                Action::Note(note) => {
                    let at = self.now;
                    self.hosts[index].notes.push((at, note.clone()));
                }
            }
        }
        out.clear();
        self.out = out;
        if store_failed {
            self.input(index, Input::StoreFailed { why: "write snap: no space left on device" });
        }
    }

    /// Who would get what `index` sends to `to`.
    fn peer(&self, index: usize, to: SocketAddr) -> Option<usize> {
        let peer = *self.by_addr.get(&to)?;
        (self.hosts[peer].running && !self.cut.contains(&(index, peer))).then_some(peer)
    }

    fn stream_op(&mut self, index: usize, id: StreamId, op: StreamOp<'_>) {
        match op {
            StreamOp::Connect { to } => {
                let Some(peer) = self.peer(index, to) else {
                    self.post(index, Parcel::Failed { id, why: "connect: connection refused" });
                    return;
                };
                self.accepted_count += 1;
                let far = StreamId::accepted(self.accepted_count);
                self.hosts[index].streams.insert(id, (peer, far));
                self.hosts[peer].streams.insert(far, (index, id));
                let from = self.hosts[index].addr;
                self.post(peer, Parcel::Accepted { id: far, from });
                self.post(index, Parcel::Connected { id });
            }
            StreamOp::Write(bytes) => {
                let Some(&(peer, far)) = self.hosts[index].streams.get(&id) else { return };
                // In pieces, because that is how streams arrive.
                for piece in bytes.chunks(700) {
                    self.post(peer, Parcel::Data { id: far, bytes: piece.to_vec() });
                }
            }
            StreamOp::Close | StreamOp::Abort => {
                if let Some((peer, far)) = self.hosts[index].streams.remove(&id) {
                    self.post(peer, Parcel::End { id: far });
                }
            }
        }
    }
}

/// The names in the member events of one kind, in order.
pub(crate) fn names(events: &[Event], kind: MemberEventKind) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Members { kind: this, members } if *this == kind => Some(members),
            _ => None,
        })
        .flatten()
        .map(|member| member.name.to_string())
        .collect()
}

/// The user events: name and payload.
pub(crate) fn user_events(events: &[Event]) -> Vec<(String, Vec<u8>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::User { name, payload, .. } => {
                Some((name.to_string(), payload.as_deref().unwrap_or_default().to_vec()))
            }
            _ => None,
        })
        .collect()
}

/// Bytes that the reference sent.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let hex: String =
        std::fs::read_to_string(path).expect("there is such a vector").split_whitespace().collect();
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("a vector is hexadecimal"))
        .collect()
}

pub(crate) fn text(name: &str) -> Text {
    name.into()
}
