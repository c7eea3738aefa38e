//! Several agents on one network without delay. Time passes for all alike; the network can be cut.

use super::{START, without_time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use villein_agent::Agent;
use villein_agent::config::{Config, Machine};
use villein_agent::io::{
    Action, ChildId, ChildStatus, Clock, Conn, ConnEvent, ConnOp, Input, Lookup, Outbox, ResolveId, SaveId,
    ServiceState, Socket, Spawn, StoreOp, StreamId,
};
use villein_core::config::Config as NodeConfig;
use villein_core::member::{Status, WireAddr};
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};
use villein_rpc::Request;

/// The client that [`Cluster::join`] is.
const JOINER: u64 = 9999;

/// Settings of a node on `127.0.0.NUMBER`.
pub(crate) fn config_of(name: &str, number: u8) -> Config {
    let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number));
    let node = NodeConfig::new(name.into(), WireAddr::from_ip(ip), 7946);
    Config::new(node, Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 })
}

/// All agents, each known by its place in the order of their start.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Place>,
    now: Instant,
    waiting: VecDeque<(usize, Delivery)>,
    /// The other end of each end of a stream.
    pipes: BTreeMap<(usize, StreamId), (usize, StreamId)>,
    accepted: u64,
    /// How many connections were asked for, by address.
    pub(crate) dialed: BTreeMap<SocketAddr, usize>,
    /// What names lead to.
    pub(crate) names: BTreeMap<(String, Lookup), Vec<SocketAddr>>,
    /// What a handler with this command prints at once.
    pub(crate) prints: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One agent with what it did.
pub(crate) struct Place {
    pub(crate) agent: Agent,
    addr: SocketAddr,
    /// Only agents of one side reach each other.
    pub(crate) side: u8,
    /// Whom this agent's datagrams cannot be sent to; streams can.
    pub(crate) unreachable: BTreeSet<SocketAddr>,
    pub(crate) printed: String,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) exit: Option<u8>,
    written: BTreeMap<u64, Vec<u8>>,
    pub(crate) closed: Vec<u64>,
    /// What is answered to each file that is saved.
    pub(crate) disk: Result<(), &'static str>,
    pub(crate) saved: Vec<(String, String)>,
    /// What its service manager was told, and when.
    pub(crate) notified: Vec<(Instant, Vec<ServiceState>)>,
}

enum Delivery {
    Datagram(SocketAddr, Vec<u8>),
    SendFailed(SocketAddr),
    Stream(StreamId, Happening),
    Resolved(ResolveId, Option<Vec<SocketAddr>>),
    Saved(SaveId, Result<(), &'static str>),
    Drained(u64),
    Exited(ChildId, Vec<u8>),
}

enum Happening {
    Accepted(SocketAddr),
    Connected,
    Data(Vec<u8>),
    End,
    Failed(&'static str),
}

impl Cluster {
    /// Agents that have started, alone each.
    pub(crate) fn new(configs: impl IntoIterator<Item = Config>) -> Cluster {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            now: Instant::ORIGIN,
            waiting: VecDeque::new(),
            pipes: BTreeMap::new(),
            accepted: 0,
            dialed: BTreeMap::new(),
            names: BTreeMap::new(),
            prints: BTreeMap::new(),
        };
        for config in configs {
            cluster.start(config, Restored::default());
        }
        cluster
    }

    /// Starts one more agent; gives its place.
    pub(crate) fn start(&mut self, config: Config, restored: Restored) -> usize {
        let place = self.nodes.len();
        let addr = config.advertised();
        self.nodes.push(Place {
            agent: Agent::new(config, [place as u8 + 1; 32], restored, self.now),
            addr,
            side: 0,
            unreachable: BTreeSet::new(),
            printed: String::new(),
            snapshot: Vec::new(),
            exit: None,
            written: BTreeMap::new(),
            closed: Vec::new(),
            disk: Ok(()),
            saved: Vec::new(),
            notified: Vec::new(),
        });
        self.give(place, Input::Started);
        place
    }

    /// Gives one input, and carries out everything that it causes.
    pub(crate) fn give(&mut self, place: usize, input: Input<'_>) {
        self.give_one(place, input);
        while let Some((to, delivery)) = self.waiting.pop_front() {
            let stream = |id, event| Input::Conn { conn: Conn::Gossip(id), event };
            match delivery {
                Delivery::Datagram(from, bytes) => {
                    self.give_one(to, Input::Datagram { socket: Socket::Gossip, from, bytes: &bytes });
                }
                Delivery::SendFailed(addr) => {
                    let why = "network is unreachable";
                    self.give_one(to, Input::SendFailed { socket: Socket::Gossip, to: addr, why });
                }
                Delivery::Stream(id, Happening::Accepted(from)) => {
                    self.give_one(to, stream(id, ConnEvent::Accepted { from }));
                }
                Delivery::Stream(id, Happening::Connected) => {
                    self.give_one(to, stream(id, ConnEvent::Connected));
                }
                Delivery::Stream(id, Happening::Data(bytes)) => {
                    self.give_one(to, stream(id, ConnEvent::Data(&bytes)));
                }
                Delivery::Stream(id, Happening::End) => self.give_one(to, stream(id, ConnEvent::End)),
                Delivery::Stream(id, Happening::Failed(why)) => {
                    self.give_one(to, stream(id, ConnEvent::Failed(why)));
                }
                Delivery::Resolved(id, found) => {
                    let result = found.as_deref().ok_or("lookup: no such host");
                    self.give_one(to, Input::Resolved { id, result });
                }
                Delivery::Saved(id, result) => self.give_one(to, Input::Saved { id, result }),
                Delivery::Drained(conn) => {
                    let event = ConnEvent::Drained;
                    self.give_one(to, Input::Conn { conn: Conn::Rpc(conn), event });
                }
                Delivery::Exited(id, output) => {
                    let (status, output_total) = (ChildStatus::Exited(0), output.len() as u64);
                    self.give_one(to, Input::ChildExited { id, status, output: &output, output_total });
                }
            }
        }
    }

    fn give_one(&mut self, at: usize, input: Input<'_>) {
        let unix_seconds = START + (self.now.as_nanos() / 1_000_000_000) as i64;
        let clock = Clock { now: self.now, unix_seconds, offset_seconds: 0 };
        let mut out = Outbox::new();
        if self.nodes[at].exit.is_none() {
            self.nodes[at].agent.handle(clock, input, &mut out);
        }
        for action in out.actions() {
            match action {
                Action::Send { socket: Socket::Gossip, to, .. }
                    if self.nodes[at].unreachable.contains(&to) =>
                {
                    self.waiting.push_back((at, Delivery::SendFailed(to)));
                }
                Action::Send { socket: Socket::Gossip, to, bytes } => {
                    if let Some(to) = self.place_of(to, at) {
                        let from = self.nodes[at].addr;
                        self.waiting.push_back((to, Delivery::Datagram(from, bytes.to_vec())));
                    }
                }
                Action::Conn { conn: Conn::Gossip(id), op } => self.on_stream(at, id, op),
                Action::Conn { conn: Conn::Rpc(conn), op } => self.on_client(at, conn, op),
                Action::Resolve { id, host, lookup, .. } => {
                    let found = self.names.get(&(host.to_owned(), lookup)).cloned();
                    self.waiting.push_back((at, Delivery::Resolved(id, found)));
                }
                Action::Save { id, path, bytes } => {
                    let file = (path.display().to_string(), String::from_utf8_lossy(bytes.0).into_owned());
                    self.nodes[at].saved.push(file);
                    self.waiting.push_back((at, Delivery::Saved(id, self.nodes[at].disk)));
                }
                Action::Store(StoreOp::Append(lines)) => self.nodes[at].snapshot.extend_from_slice(lines),
                Action::Store(StoreOp::Replace(lines)) => self.nodes[at].snapshot = lines.to_vec(),
                Action::Print(bytes) => {
                    self.nodes[at].printed.push_str(&String::from_utf8_lossy(bytes));
                }
                Action::Spawn { id, spawn: Spawn { command, .. } } => {
                    let output = self.prints.get(command).cloned().unwrap_or_default();
                    self.waiting.push_back((at, Delivery::Exited(id, output)));
                }
                Action::Notify(states) => self.nodes[at].notified.push((self.now, states.to_vec())),
                Action::Exit(status) => self.nodes[at].exit = Some(status),
                _ => {}
            }
        }
    }

    /// Whom `from` reaches at this address.
    fn place_of(&self, addr: SocketAddr, from: usize) -> Option<usize> {
        let side = self.nodes[from].side;
        self.nodes.iter().position(|node| node.addr == addr && node.side == side && node.exit.is_none())
    }

    fn on_stream(&mut self, at: usize, id: StreamId, op: ConnOp<'_>) {
        let far_end = self.pipes.get(&(at, id)).copied();
        let delivery = match op {
            ConnOp::Connect { to } => {
                *self.dialed.entry(to).or_default() += 1;
                let Some(place) = self.place_of(to, at) else {
                    let failed = Happening::Failed("connection refused");
                    self.waiting.push_back((at, Delivery::Stream(id, failed)));
                    return;
                };
                let far_id = StreamId::accepted(self.accepted);
                self.accepted += 1;
                self.pipes.extend([((at, id), (place, far_id)), ((place, far_id), (at, id))]);
                let accepted = Happening::Accepted(self.nodes[at].addr);
                self.waiting.push_back((place, Delivery::Stream(far_id, accepted)));
                self.waiting.push_back((at, Delivery::Stream(id, Happening::Connected)));
                return;
            }
            ConnOp::Write(bytes) => Happening::Data(bytes.to_vec()),
            ConnOp::Close | ConnOp::Abort => {
                self.pipes.remove(&(at, id));
                Happening::End
            }
            ConnOp::Pause | ConnOp::Resume => panic!("{op:?} is for clients"),
        };
        if let Some((place, far_id)) = far_end
            && self.pipes.contains_key(&(place, far_id))
        {
            self.waiting.push_back((place, Delivery::Stream(far_id, delivery)));
        }
    }

    fn on_client(&mut self, at: usize, conn: u64, op: ConnOp<'_>) {
        match op {
            ConnOp::Write(bytes) => {
                self.nodes[at].written.entry(conn).or_default().extend_from_slice(bytes);
                self.waiting.push_back((at, Delivery::Drained(conn)));
            }
            ConnOp::Close | ConnOp::Abort => self.nodes[at].closed.push(conn),
            ConnOp::Connect { .. } | ConnOp::Pause | ConnOp::Resume => {}
        }
    }

    /// Lets time pass, with a tick at each deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = |node: &Place| node.agent.deadline().filter(|_| node.exit.is_none());
            let due = (0..self.nodes.len()).filter_map(|at| Some((deadline(&self.nodes[at])?, at))).min();
            let Some((deadline, at)) = due.filter(|&(deadline, _)| deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.give(at, Input::Tick);
        }
        self.now = end;
    }

    /// Opens a connection to the RPC port, without a word on it.
    pub(crate) fn connect(&mut self, at: usize, conn: u64) {
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000 + conn as u16));
        self.give(at, Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Accepted { from } });
    }

    /// Opens a connection and shakes hands.
    pub(crate) fn client(&mut self, at: usize, conn: u64) {
        self.connect(at, conn);
        self.request(at, conn, 0, &Request::Handshake(villein_rpc::request::Handshake { version: 1 }));
        self.take(at, conn);
    }

    pub(crate) fn client_sends(&mut self, at: usize, conn: u64, bytes: &[u8]) {
        self.give(at, Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Data(bytes) });
    }

    pub(crate) fn request(&mut self, at: usize, conn: u64, seq: u64, request: &Request) {
        let mut bytes = Vec::new();
        request.encode(seq, &mut bytes);
        self.client_sends(at, conn, &bytes);
    }

    /// What the agent wrote to this client since the last call.
    pub(crate) fn take(&mut self, at: usize, conn: u64) -> Vec<u8> {
        self.nodes[at].written.remove(&conn).unwrap_or_default()
    }

    /// Makes the agents at `from` join the one at `to`, and lets the news spread.
    pub(crate) fn join(&mut self, from: usize, to: usize) {
        let existing = vec![self.nodes[to].addr.to_string().as_str().into()];
        let join = villein_rpc::request::Join { existing, replay: false };
        self.client(from, JOINER);
        self.request(from, JOINER, 1, &Request::Join(join));
        self.take(from, JOINER);
        self.give(from, Input::Conn { conn: Conn::Rpc(JOINER), event: ConnEvent::Failed("done") });
    }

    /// How many members each agent holds alive.
    pub(crate) fn alive(&self) -> Vec<usize> {
        let alive = |node: &Place| {
            node.agent.node().members().filter(|member| member.status == Status::Alive).count()
        };
        self.nodes.iter().map(alive).collect()
    }

    /// The lines that an agent printed since `mark`, without their times.
    pub(crate) fn log_since(&self, at: usize, mark: usize) -> String {
        self.nodes[at].printed[mark..].lines().map(without_time).collect::<Vec<_>>().join("\n")
    }
}
