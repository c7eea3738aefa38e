//! Everything that a runtime needs to run an agent.

use crate::bind::Gossip;
use crate::clock::Clock;
use crate::console::Console;
use crate::driver::Driver;
use crate::inbox::{Sender, inbox};
use crate::machine;
use crate::multicast::{Membership, Pair};
use crate::os_words;
use crate::outlets::Outlets;
use crate::signals;
use crate::sinks::Sinks;
use crate::snapshot::Snapshot;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use villein_agent::io::{Conn, Socket, StreamId};
use villein_agent::{Agent, config::Config};
use villein_core::snapshot::Restored;

/// An agent that has had no input yet, with its bound, non-blocking sockets.
#[derive(Debug)]
pub struct Boot {
    /// To be given turns until it ends.
    pub driver: Driver,
    /// For every reader.
    pub inbox: Sender,
    /// To be read for as long as the agent runs.
    pub sockets: Sockets,
}

/// What outlasts an agent, and who listens to it.
#[derive(Debug, Default)]
pub struct Kept {
    /// What the snapshot says.
    pub restored: Restored,
    /// The snapshot file, open and locked.
    pub snapshot: Option<Snapshot>,
    /// Where metrics and log lines go besides.
    pub sinks: Sinks,
}

/// Bound, non-blocking sockets.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: Vec<(Socket, UdpSocket)>,
    /// For connections.
    pub tcp: [(Port, TcpListener); 2],
    /// Where those of discovery hear and ask.
    pub memberships: Vec<Membership>,
}

/// What is spoken on a listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Among nodes.
    Gossip,
    /// With clients.
    Rpc,
}

impl Port {
    /// The name of the `number`th connection accepted here.
    pub const fn accepted(self, number: u64) -> Conn {
        match self {
            Port::Gossip => Conn::Gossip(StreamId::accepted(number)),
            Port::Rpc => Conn::Rpc(number),
        }
    }
}

impl Sockets {
    /// Of an agent that finds peers over `multicast`.
    pub fn new(gossip: Gossip, rpc: TcpListener, multicast: Vec<Pair>) -> Sockets {
        let mut udp = vec![(Socket::Gossip, gossip.udp)];
        let mut memberships = Vec::new();
        for pair in multicast {
            udp.extend(pair.sockets.map(|(via, socket)| (Socket::Mdns(via), socket)));
            memberships.push(pair.membership);
        }
        Sockets { udp, tcp: [(Port::Gossip, gossip.tcp), (Port::Rpc, rpc)], memberships }
    }
}

/// What can be sent from one UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    socket: Socket,
    ipv6: bool,
}

impl Route {
    /// Of a bound socket.
    pub fn new(socket: Socket, bound: &UdpSocket) -> io::Result<Route> {
        Ok(Route { socket, ipv6: bound.local_addr()?.is_ipv6() })
    }

    /// The form in which this socket takes `to`; `None` if a datagram from `socket` to there is not its
    /// business. Of the sockets of discovery each serves its family; there is one for all gossip.
    pub fn takes(self, socket: Socket, to: SocketAddr) -> Option<SocketAddr> {
        if socket != self.socket {
            return None;
        }
        match (to, socket) {
            (_, Socket::Mdns(_)) => (to.is_ipv6() == self.ipv6).then_some(to),
            (SocketAddr::V4(v4), Socket::Gossip) if self.ipv6 => {
                Some(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
            }
            _ => Some(to),
        }
    }
}

impl Boot {
    /// Makes an agent that prints to `out` and begins with what its snapshot says.
    pub fn new(
        config: Config,
        sockets: Sockets,
        kept: Kept,
        out: impl Write + Send + 'static,
    ) -> io::Result<Boot> {
        machine::allow_open_files();
        machine::keep_descriptors();
        let clock = Clock::new();
        let (sender, inbox) = inbox();
        let console = Console::new(out, sender.clone())?.with_format(config.log_format);
        let agent = Agent::new(config, seed()?, kept.restored, clock.now());
        let outlets = Outlets::new(kept.snapshot, kept.sinks, sender.clone())?;
        let driver = Driver::new(agent, clock, (sender.clone(), inbox), console, outlets);
        Ok(Boot { driver, inbox: sender, sockets })
    }

    /// From now on the agent decides what SIGINT, SIGTERM, SIGHUP and SIGUSR1 do to the process.
    pub fn watch_signals(&self) -> io::Result<()> {
        signals::watch(self.inbox.clone())
    }
}

/// Entropy of the system. Where a host lacks its source, as an empty `chroot` does, the error names it.
fn seed() -> io::Result<[u8; 32]> {
    const SOURCE: &str = "/dev/urandom";
    let mut seed = [0; 32];
    File::open(SOURCE)
        .and_then(|mut source| source.read_exact(&mut seed))
        .map_err(|error| io::Error::other(format!("{SOURCE}: {}", os_words(&error))))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_core::mdns::{GROUP_V4, GROUP_V6, Via};

    #[test]
    fn every_datagram_has_one_way() {
        let v4: SocketAddr = "10.0.0.1:7946".parse().expect("an address");
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7946".parse().expect("an address");
        let (group, query) = (Socket::Mdns(Via::Group), Socket::Mdns(Via::Query));
        let route = |socket, ipv6| Route { socket, ipv6 };
        let cases = [
            (route(Socket::Gossip, false), Socket::Gossip, v4, Some(v4)),
            (route(Socket::Gossip, true), Socket::Gossip, v4, Some(mapped)),
            (route(Socket::Gossip, true), Socket::Gossip, GROUP_V6, Some(GROUP_V6)),
            (route(Socket::Gossip, false), query, v4, None),
            (route(query, false), query, GROUP_V4, Some(GROUP_V4)),
            (route(query, true), query, GROUP_V4, None),
            (route(query, true), query, GROUP_V6, Some(GROUP_V6)),
            (route(query, true), group, GROUP_V6, None),
        ];
        for (route, socket, to, expected) in cases {
            assert_eq!(route.takes(socket, to), expected, "{route:?} {socket:?} {to}");
        }
    }

    #[test]
    fn seeds_differ() {
        let seeds = [seed().expect("entropy"), seed().expect("entropy")];
        assert_ne!(seeds[0], seeds[1]);
    }
}
