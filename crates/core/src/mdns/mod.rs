//! Finding peers on the local network by multicast DNS (spec gossip.md 16).
//!
//! A small machine with the words of the node: it asks both multicast groups who else offers the service
//! `_serf_NAME._tcp.local.`, answers those who ask, and tells the driver which hosts it found. It does
//! not join them, knows nothing of members, and opens no sockets: the driver has, per family of
//! addresses, one socket bound to port 5353 that is a member of the group, and one on a port of the
//! system's choice ([`Via`]).
//!
//! Invariant: only hosts that announce exactly this service are ever found, each at most once per poll,
//! and less and less often the longer they keep being found.

mod hosts;
mod service;
mod writer;

use crate::rng::Rng;
use crate::text::Text;
use crate::time::{Duration, Instant};
use hosts::{Heard, Hosts};
use service::{Message, Service};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where questions are sent over IPv4.
pub const GROUP_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353);
/// Where questions are sent over IPv6; the driver's socket decides on the interface.
pub const GROUP_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb)), 5353);

const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// How long after a question answers are taken.
const QUERY_WINDOW: Duration = Duration::from_secs(1);
/// How long nothing new may be heard before the hosts heard so far are told together.
const QUIET_INTERVAL: Duration = Duration::from_millis(100);

/// What is announced, and where questions go.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name D of `_serf_D._tcp.local.`; dots separate labels. What exceeds DNS limits is cut off.
    pub discovery: Text,
    /// Name of this node, the instance of the service; dots separate labels. What exceeds DNS limits is
    /// cut off, which harms nobody: peers learn the true name by gossip.
    pub node: Text,
    /// Name of this machine, without `.local`.
    pub host: Text,
    /// Advertised address.
    pub addr: IpAddr,
    /// Advertised port.
    pub port: u16,
    /// Whether to ask over IPv4.
    pub ipv4: bool,
    /// Whether to ask over IPv6.
    pub ipv6: bool,
}

/// One of the two sockets that the driver has for each family of addresses; the family is that of the
/// other side's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Bound to port 5353 and member of the group: hears questions, sends answers.
    Group,
    /// Bound to any port: sends questions, hears answers.
    Query,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The deadline is there (or may be).
    Tick,
    /// A datagram arrived.
    Packet {
        /// On which socket.
        via: Via,
        /// Its source.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// A datagram could not be sent, or there is no such socket. The other family goes on, and this one
    /// is tried again with the next poll.
    Failed {
        /// On which socket.
        via: Via,
        /// Where it was meant to go.
        to: SocketAddr,
        /// The operating system's words.
        reason: &'a str,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// From which socket.
        via: Via,
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// These hosts, at least one, offer the service: join those that are not members, together. A host
    /// that keeps answering is told again after 1, 2, 4, … and at last every 64 polls, whether or not it
    /// was joined; one that fell silent for some polls is new when it comes back.
    Found(Vec<SocketAddr>),
    /// Something is worth saying.
    Note(Note),
}

/// Everything worth saying; at most one of each kind per poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many datagrams since the last poll were not DNS, or not understood.
    BadPackets(u64),
    /// So many answers since the last poll were ignored, because too many hosts are known.
    TooManyHosts(u64),
    /// A socket does not work; said once for each socket.
    Failed {
        /// Which one.
        via: Via,
        /// Where it sends to.
        to: SocketAddr,
        /// The operating system's words.
        reason: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::BadPackets(count) => write!(f, "Ignored {count} packets that are not understood"),
            Note::TooManyHosts(count) => write!(f, "Ignored {count} answers: too many hosts"),
            Note::Failed { via: Via::Query, to, reason } => {
                write!(f, "Failed to poll for new hosts: cannot send to {to}: {reason}")
            }
            Note::Failed { via: Via::Group, to, reason } => {
                write!(f, "Failed to answer a question: cannot send to {to}: {reason}")
            }
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Mdns {
    service: Service,
    own: SocketAddr,
    groups: Vec<SocketAddr>,
    rng: Rng,
    hosts: Hosts,
    next_poll: Instant,
    /// Answers that come later are not taken.
    window_end: Instant,
    /// Found and not told yet, in the order in which they were heard.
    found: Vec<SocketAddr>,
    /// When they are told, if there are any.
    quiet_at: Option<Instant>,
    bad_packets: u64,
    ignored_answers: u64,
    /// Sockets whose failure has been told, with whether they are of IPv4.
    failed: Vec<(Via, bool)>,
}

impl Mdns {
    /// Pure: equal arguments make equal machines. The first poll is due `now`.
    pub fn new(config: &Config, seed: [u8; 32], now: Instant) -> Mdns {
        let groups = [(config.ipv4, GROUP_V4), (config.ipv6, GROUP_V6)];
        Mdns {
            service: Service::new(config),
            own: SocketAddr::new(config.addr.to_canonical(), config.port),
            groups: groups.into_iter().filter_map(|(wanted, group)| wanted.then_some(group)).collect(),
            rng: Rng::new(seed),
            hosts: Hosts::new(),
            next_poll: now,
            window_end: now,
            found: Vec::new(),
            quiet_at: None,
            bad_packets: 0,
            ignored_answers: 0,
            failed: Vec::new(),
        }
    }

    /// Takes one thing that happened; appends what must be done, in order. Never fails or panics on input.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Action>) {
        match input {
            Input::Tick => self.tick(now, out),
            Input::Packet { via, from, bytes } => self.packet(now, via, from, bytes, out),
            Input::Failed { via, to, reason } => self.failure(via, to, reason, out),
        }
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn deadline(&self) -> Instant {
        self.quiet_at.map_or(self.next_poll, |quiet_at| quiet_at.min(self.next_poll))
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.quiet_at.is_some_and(|quiet_at| quiet_at <= now) {
            self.quiet_at = None;
            out.push(Action::Found(std::mem::take(&mut self.found)));
        }
        if self.next_poll <= now {
            self.poll(now, out);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.next_poll = now + POLL_INTERVAL;
        self.window_end = now + QUERY_WINDOW;
        self.hosts.begin_poll();
        let bytes = self.service.question(self.rng.u64() as u16);
        for &to in &self.groups {
            out.push(Action::Send { via: Via::Query, to, bytes: bytes.clone() });
        }
        let bad_packets = std::mem::take(&mut self.bad_packets);
        if bad_packets > 0 {
            out.push(Action::Note(Note::BadPackets(bad_packets)));
        }
        let ignored_answers = std::mem::take(&mut self.ignored_answers);
        if ignored_answers > 0 {
            out.push(Action::Note(Note::TooManyHosts(ignored_answers)));
        }
    }

    fn packet(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8], out: &mut Vec<Action>) {
        match self.service.read(bytes) {
            Some(Message::Answer(hosts)) => {
                for host in hosts {
                    self.hear(now, host);
                }
            }
            Some(Message::Question(answers)) => {
                // Nobody has reason to ask on a port that is not announced.
                let answers = if via == Via::Group { answers } else { Vec::new() };
                out.extend(answers.into_iter().map(|bytes| Action::Send { via, to: from, bytes }));
            }
            Some(Message::Other) => {}
            None => self.bad_packets += 1,
        }
    }

    fn hear(&mut self, now: Instant, host: SocketAddr) {
        if host == self.own || now >= self.window_end {
            return;
        }
        match self.hosts.hear(host) {
            Heard::Due => {
                self.found.push(host);
                self.quiet_at = Some(now + QUIET_INTERVAL);
            }
            Heard::Known => {}
            Heard::Full => self.ignored_answers += 1,
        }
    }

    fn failure(&mut self, via: Via, to: SocketAddr, reason: &str, out: &mut Vec<Action>) {
        let socket = (via, to.is_ipv4());
        if !self.failed.contains(&socket) {
            self.failed.push(socket);
            out.push(Action::Note(Note::Failed { via, to, reason: reason.to_owned() }));
        }
    }
}

#[cfg(test)]
mod tests;
