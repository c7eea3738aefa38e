//! Listening: the RPC port, and the gossip port for TCP and UDP (agent.md 4.3, 5.1).
//!
//! Errors are whole messages for the operator. Every socket is non-blocking, so any runtime can take it.

use crate::limits;
use crate::{address::HostPort, resolve::lookup};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as Raw, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use villein_rpc::system::os_words;

/// Connections that the system completes before they are accepted.
const BACKLOG: i32 = 1024;

/// The sockets of the gossip port.
#[derive(Debug)]
pub struct Gossip {
    /// For packets.
    pub udp: UdpSocket,
    /// For streams.
    pub tcp: TcpListener,
    /// The port that both have.
    pub port: u16,
}

/// The RPC listener.
#[derive(Debug)]
pub struct Rpc {
    /// For clients.
    pub listener: TcpListener,
    /// For the banner: as configured, but with the port that it really is.
    pub shown: String,
    /// Whether only this machine reaches it.
    pub is_local: bool,
}

/// Listens for RPC clients.
pub fn rpc(text: &str) -> Result<Rpc, String> {
    let failed = |why: String| format!("Error starting RPC listener: {why}");
    let parsed = HostPort::parse(text).map_err(|why| failed(format!("listen tcp: {why}")))?;
    let port =
        parsed.port.ok_or_else(|| failed(format!("listen tcp: address {text}: missing port in address")))?;
    let hosts: Vec<IpAddr> = if parsed.host.is_empty() {
        // Both families, or the one that there is.
        vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
    } else {
        let addrs = lookup(&parsed.host, port).map_err(|why| failed(format!("listen tcp: {why}")))?;
        let ipv4 = addrs.iter().find(|addr| addr.is_ipv4());
        ipv4.or(addrs.first()).map(SocketAddr::ip).into_iter().collect()
    };
    let mut refused = String::new();
    for ip in hosts {
        match tcp(SocketAddr::new(ip, port)).and_then(ask_for_signs_of_life) {
            Ok(listener) => {
                let port = port_of(listener.local_addr());
                let shown =
                    if parsed.host.is_empty() { format!(":{port}") } else { host_port(&parsed.host, port) };
                return Ok(Rpc { listener, shown, is_local: ip.is_loopback() });
            }
            Err(error) => {
                let addr = if parsed.host.is_empty() {
                    format!(":{port}")
                } else {
                    SocketAddr::new(ip, port).to_string()
                };
                refused = format!("listen tcp {addr}: bind: {}", os_words(&error));
                // Another program has the port in one family at least: half of it is not what was asked for.
                if error.kind() == io::ErrorKind::AddrInUse {
                    break;
                }
            }
        }
    }
    Err(failed(refused))
}

/// Listens for gossip on both transports. Port 0 means one that is free for both.
pub fn gossip(ip: IpAddr, port: u16) -> Result<Gossip, String> {
    let failed = |transport: &str, port: u16, error: &io::Error| {
        let lower = transport.to_lowercase();
        let addr = SocketAddr::new(ip, port);
        let why = os_words(error);
        format!(
            "Failed to start {transport} listener on \"{ip}\" port {port}: listen {lower} {addr}: bind: {why}"
        )
    };
    let mut attempt = 1;
    loop {
        let tcp = tcp(SocketAddr::new(ip, port)).map_err(|error| failed("TCP", port, &error))?;
        let found = port_of(tcp.local_addr());
        match udp(SocketAddr::new(ip, found)) {
            Ok(udp) => return Ok(Gossip { udp, tcp, port: found }),
            Err(_) if port == 0 && attempt < limits::PORT_ATTEMPTS => attempt += 1,
            Err(error) => return Err(failed("UDP", found, &error)),
        }
    }
}

/// Accepted connections have the option from their listener: a client that has vanished without a word does
/// not keep its place for ever.
fn ask_for_signs_of_life(listener: TcpListener) -> io::Result<TcpListener> {
    let (after, pause, attempts) = limits::KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(after).with_interval(pause).with_retries(attempts);
    SockRef::from(&listener).set_tcp_keepalive(&keepalive)?;
    Ok(listener)
}

fn tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Raw::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(&socket, addr)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Raw::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    let mut buffer = limits::UDP_RECEIVE_BUFFER;
    while buffer > 0 && socket.set_recv_buffer_size(buffer).is_err() {
        buffer /= 2;
    }
    prepare(&socket, addr)?;
    Ok(socket.into())
}

fn prepare(socket: &Raw, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv6() {
        // Every address means those of IPv4 too.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))
}

fn port_of(addr: io::Result<SocketAddr>) -> u16 {
    addr.expect("a bound socket has an address").port()
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_free_port_is_the_same_for_both_transports() {
        let gossip = gossip(IpAddr::from([127, 0, 0, 1]), 0).expect("there are free ports");
        assert_ne!(gossip.port, 0);
        assert_eq!(port_of(gossip.udp.local_addr()), gossip.port);
        assert_eq!(port_of(gossip.tcp.local_addr()), gossip.port);
    }

    #[test]
    fn a_taken_port_is_named() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = gossip(ip, 0).expect("there are free ports");
        let port = first.port;
        let expected = format!(
            "Failed to start TCP listener on \"127.0.0.1\" port {port}: listen tcp 127.0.0.1:{port}: bind: address already in use"
        );
        assert_eq!(gossip(ip, port).map(|gossip| gossip.port), Err(expected));
        drop(first.tcp);
        let expected = format!(
            "Failed to start UDP listener on \"127.0.0.1\" port {port}: listen udp 127.0.0.1:{port}: bind: address already in use"
        );
        assert_eq!(gossip(ip, port).map(|gossip| gossip.port), Err(expected));
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let expected = "Failed to start TCP listener on \"192.0.2.1\" port 7946: listen tcp 192.0.2.1:7946: bind: cannot assign requested address";
        assert_eq!(
            gossip(IpAddr::from([192, 0, 2, 1]), 7946).map(|gossip| gossip.port),
            Err(expected.to_owned())
        );
    }

    #[test]
    fn rpc_texts() {
        let refused = [
            ("127.0.0.1", "listen tcp: address 127.0.0.1: missing port in address"),
            ("127.0.0.1:99999", "listen tcp: address 99999: invalid port"),
            ("256.0.0.1:1", "listen tcp: lookup 256.0.0.1: no such host"),
            ("192.0.2.1:7373", "listen tcp 192.0.2.1:7373: bind: cannot assign requested address"),
        ];
        for (text, why) in refused {
            let result = rpc(text).map(|rpc| rpc.shown);
            assert_eq!(result, Err(format!("Error starting RPC listener: {why}")), "{text}");
        }
        let local = rpc("127.0.0.1:0").expect("there are free ports");
        let port = port_of(local.listener.local_addr());
        assert_eq!((local.shown, local.is_local), (format!("127.0.0.1:{port}"), true));
        let open = rpc(":0").expect("there are free ports");
        let port = port_of(open.listener.local_addr());
        assert_eq!((open.shown, open.is_local), (format!(":{port}"), false));
        TcpStream::connect(("127.0.0.1", port)).expect("every address includes this one");
        // The first may come later than it is asked for: the listener does not wait.
        let accepted = loop {
            match open.listener.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.keepalive().ok(), Some(true));
        assert_eq!(accepted.tcp_keepalive_time().ok(), Some(limits::KEEPALIVE.0));
        let expected =
            format!("Error starting RPC listener: listen tcp :{port}: bind: address already in use");
        assert_eq!(rpc(&format!(":{port}")).map(|rpc| rpc.shown), Err(expected));
    }
}
