//! One agent in a bottle: time, sockets, children and names are what the test says they are.
//!
//! Datagrams that the agent sends to itself arrive at once; connections to others are refused. All other
//! actions are collected for the test to look at.

// Each test file uses a part of the words.
#![expect(dead_code, reason = "each test file uses a part of the lab")]

pub(crate) mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use villein_agent::Agent;
use villein_agent::config::{Config, Machine};
use villein_agent::handler::Handler;
use villein_agent::io::{
    Action, ChildId, ChildStatus, Clock, Conn, ConnEvent, ConnOp, Input, Kill, Lookup, Outbox, ResolveId,
    SaveId, ServiceState, Signal, Sink, Socket, Spawn, StoreOp, StreamId,
};
use villein_core::config::Config as NodeConfig;
use villein_core::member::WireAddr;
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};
use villein_rpc::Request;

/// 2026/11/22 20:08:16 UTC.
const START: i64 = 1_795_378_096;

/// An agent with everything that it did so far.
pub(crate) struct Lab {
    pub(crate) agent: Agent,
    now: Instant,
    pub(crate) printed: String,
    pub(crate) exit: Option<u8>,
    pub(crate) spawned: Vec<(ChildId, Spawn)>,
    pub(crate) resolving: Vec<(ResolveId, String, u16, Lookup)>,
    pub(crate) killed: Vec<(ChildId, Kill)>,
    /// Files that are being saved; answer with [`Input::Saved`].
    pub(crate) saving: Vec<(SaveId, PathBuf, Vec<u8>)>,
    /// What the snapshot file holds.
    pub(crate) snapshot: Vec<u8>,
    pub(crate) config_wanted: Vec<Vec<PathBuf>>,
    pub(crate) reported: Vec<(Sink, Vec<u8>)>,
    /// What the service manager was told.
    pub(crate) notified: Vec<Vec<ServiceState>>,
    pub(crate) printed_errors: String,
    pub(crate) written: BTreeMap<u64, Vec<u8>>,
    pub(crate) closed: Vec<u64>,
    /// Clients that are not to be read.
    pub(crate) paused: BTreeSet<u64>,
    pub(crate) sent: Vec<(Socket, SocketAddr, Vec<u8>)>,
    /// Whether bytes written to clients are drained at once.
    pub(crate) drains: bool,
    own: SocketAddr,
    /// The two ends of each stream that the agent opened to itself.
    pipes: BTreeMap<StreamId, StreamId>,
}

/// What goes through a pipe.
enum Flow {
    Bytes(Vec<u8>),
    End,
}

/// Settings of a node `alpha` on 127.0.0.1 with the tag `role=web`.
pub(crate) fn config() -> Config {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut node = NodeConfig::new("alpha".into(), WireAddr::from_ip(ip), 7946);
    node.tags.insert("role".into(), "web".into());
    Config::new(node, Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 })
}

/// Handlers from their texts.
pub(crate) fn handlers(texts: &[&str]) -> Vec<Handler> {
    texts.iter().map(|text| Handler::parse(text.as_bytes()).expect("the handler is valid")).collect()
}

impl Lab {
    /// An agent that has started.
    pub(crate) fn new(config: Config) -> Lab {
        let own = config.advertised();
        let mut lab = Lab {
            agent: Agent::new(config, [7; 32], Restored::default(), Instant::ORIGIN),
            now: Instant::ORIGIN,
            printed: String::new(),
            exit: None,
            spawned: Vec::new(),
            resolving: Vec::new(),
            killed: Vec::new(),
            saving: Vec::new(),
            snapshot: Vec::new(),
            config_wanted: Vec::new(),
            reported: Vec::new(),
            notified: Vec::new(),
            printed_errors: String::new(),
            written: BTreeMap::new(),
            closed: Vec::new(),
            paused: BTreeSet::new(),
            sent: Vec::new(),
            drains: true,
            own,
            pipes: BTreeMap::new(),
        };
        lab.give(Input::Started);
        lab
    }

    /// Gives one input and performs what it causes.
    pub(crate) fn give(&mut self, input: Input<'_>) {
        let mut out = Outbox::new();
        self.agent.handle(self.clock(), input, &mut out);
        let (mut loopback, mut refused, mut drained) = (Vec::new(), Vec::new(), Vec::new());
        let (mut accepted, mut flows) = (Vec::new(), Vec::new());
        for action in out.actions() {
            assert_eq!(self.exit, None, "nothing follows an exit: {action:?}");
            match action {
                Action::Send { socket: Socket::Gossip, to, bytes } if to == self.own => {
                    loopback.push(bytes.to_vec());
                }
                Action::Send { socket, to, bytes } => self.sent.push((socket, to, bytes.to_vec())),
                Action::Conn { conn: Conn::Rpc(conn), op: ConnOp::Write(bytes) } => {
                    assert!(!self.closed.contains(&conn), "nothing is written to a closed connection");
                    self.written.entry(conn).or_default().extend_from_slice(bytes);
                    drained.push(conn);
                }
                Action::Conn { conn: Conn::Rpc(conn), op: ConnOp::Close | ConnOp::Abort } => {
                    self.closed.push(conn);
                }
                Action::Conn { conn: Conn::Rpc(conn), op: ConnOp::Pause } => {
                    assert!(self.paused.insert(conn), "a client is paused once");
                }
                Action::Conn { conn: Conn::Rpc(conn), op: ConnOp::Resume } => {
                    assert!(self.paused.remove(&conn), "only a paused client is resumed");
                }
                Action::Conn { conn: Conn::Rpc(_), op } => panic!("{op:?} is not for clients"),
                Action::Conn { conn: Conn::Gossip(id), op } => match op {
                    ConnOp::Connect { to } if to == self.own => accepted.push(id),
                    ConnOp::Connect { .. } => refused.push(id),
                    ConnOp::Write(bytes) => flows.push((id, Flow::Bytes(bytes.to_vec()))),
                    ConnOp::Close | ConnOp::Abort => flows.push((id, Flow::End)),
                    ConnOp::Pause | ConnOp::Resume => panic!("{op:?} is for clients"),
                },
                Action::Resolve { id, host, port, lookup } => {
                    self.resolving.push((id, host.to_owned(), port, lookup));
                }
                Action::Kill { id, how } => self.killed.push((id, how)),
                Action::Save { id, path, bytes } => self.saving.push((id, path.to_owned(), bytes.0.to_vec())),
                Action::Store(StoreOp::Append(lines)) => self.snapshot.extend_from_slice(lines),
                Action::Store(StoreOp::Replace(lines)) => self.snapshot = lines.to_vec(),
                Action::Store(StoreOp::Sync) => {}
                Action::ReadConfig(paths) => self.config_wanted.push(paths.to_vec()),
                Action::Report { sink, bytes } => self.reported.push((sink, bytes.to_vec())),
                Action::Notify(states) => self.notified.push(states.to_vec()),
                Action::PrintError(bytes) => {
                    self.printed_errors.push_str(std::str::from_utf8(bytes).expect("output is UTF-8"));
                }
                Action::Spawn { id, spawn } => self.spawned.push((id, spawn.clone())),
                Action::Print(bytes) => {
                    self.printed.push_str(std::str::from_utf8(bytes).expect("output is UTF-8"));
                }
                Action::Exit(status) => self.exit = Some(status),
            }
        }
        for bytes in loopback {
            self.give(Input::Datagram { socket: Socket::Gossip, from: self.own, bytes: &bytes });
        }
        for id in refused {
            self.gossip(id, ConnEvent::Failed("connection refused"));
        }
        for id in accepted {
            let far_end = StreamId::accepted(self.pipes.len() as u64);
            self.pipes.extend([(id, far_end), (far_end, id)]);
            self.gossip(far_end, ConnEvent::Accepted { from: self.own });
            self.gossip(id, ConnEvent::Connected);
        }
        self.carry(flows);
        drained.sort_unstable();
        drained.dedup();
        for conn in drained {
            if self.drains && !self.closed.contains(&conn) {
                self.give(Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Drained });
            }
        }
    }

    fn gossip(&mut self, id: StreamId, event: ConnEvent<'_>) {
        self.give(Input::Conn { conn: Conn::Gossip(id), event });
    }

    fn carry(&mut self, flows: Vec<(StreamId, Flow)>) {
        for (id, flow) in flows {
            let Some(&far_end) = self.pipes.get(&id) else { continue };
            let open = self.pipes.contains_key(&far_end);
            match flow {
                Flow::Bytes(bytes) if open => self.gossip(far_end, ConnEvent::Data(&bytes)),
                Flow::Bytes(_) => {}
                Flow::End => {
                    self.pipes.remove(&id);
                    if open {
                        self.gossip(far_end, ConnEvent::End);
                    }
                }
            }
        }
    }

    fn clock(&self) -> Clock {
        let unix_seconds = START + (self.now.as_nanos() / 1_000_000_000) as i64;
        Clock { now: self.now, unix_seconds, offset_seconds: 0 }
    }

    /// Lets time pass, with a tick at each deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.exit.is_none()
            && let Some(deadline) = self.agent.deadline().filter(|&deadline| deadline <= end)
        {
            self.now = self.now.max(deadline);
            self.give(Input::Tick);
        }
        self.now = end;
    }

    /// Lets time pass in which nothing is handled.
    pub(crate) fn stall(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.give(Input::Signal(signal));
    }

    /// Ends a child.
    pub(crate) fn child_exits(&mut self, id: ChildId, status: ChildStatus, output: &[u8]) {
        let output_total = output.len() as u64;
        self.give(Input::ChildExited { id, status, output, output_total });
    }

    /// Opens a connection to the RPC port.
    pub(crate) fn connect(&mut self, conn: u64) {
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000 + conn as u16));
        self.give(Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Accepted { from } });
    }

    /// Sends bytes on it.
    pub(crate) fn client_sends(&mut self, conn: u64, bytes: &[u8]) {
        self.give(Input::Conn { conn: Conn::Rpc(conn), event: ConnEvent::Data(bytes) });
    }

    /// Sends a request on it.
    pub(crate) fn request(&mut self, conn: u64, seq: u64, request: &Request) {
        let mut bytes = Vec::new();
        request.encode(seq, &mut bytes);
        self.client_sends(conn, &bytes);
    }

    /// Opens a connection and shakes hands.
    pub(crate) fn client(&mut self, conn: u64) {
        self.connect(conn);
        self.request(conn, 0, &Request::Handshake(villein_rpc::request::Handshake { version: 1 }));
        assert_eq!(self.take(conn), b"\x82\xa5Error\xa0\xa3Seq\x00");
    }

    /// What the agent wrote to this client since the last call.
    pub(crate) fn take(&mut self, conn: u64) -> Vec<u8> {
        self.written.remove(&conn).unwrap_or_default()
    }

    /// The lines printed since `mark`, without their times.
    pub(crate) fn log_since(&self, mark: usize) -> String {
        self.printed[mark..].lines().map(without_time).collect::<Vec<_>>().join("\n")
    }
}

/// Whether `bytes` holds `part`.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn without_time(line: &str) -> &str {
    let is_log = line.starts_with("    20") && line.get(23..24) == Some(" ");
    if is_log { &line[24..] } else { line }
}
