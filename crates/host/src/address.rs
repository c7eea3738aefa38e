//! Address texts of the operator: `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, `:PORT` (agent.md 5.1).
//!
//! Decides what is host and what is port, and in which words a text is refused; a bare IPv6 address is
//! a host. Invariant: the port is a number afterwards, whatever name it had.

use crate::resolve::lookup;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use villein_rpc::system::port_number;

/// The gossip port of those who name none.
pub const GOSSIP_PORT: u16 = 7946;

/// A host, perhaps empty, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address without brackets; empty for every address of this machine.
    pub host: String,
    /// `None` if the text has none.
    pub port: Option<u16>,
}

impl HostPort {
    /// Reads a text; `Err` is the reason, such as `address 99999: invalid port`.
    pub fn parse(text: &str) -> Result<HostPort, String> {
        if text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
            return Ok(HostPort { host: text.to_owned(), port: None });
        }
        let refused = |why: &str| Err(format!("address {text}: {why}"));
        let (host, rest) = if let Some(inside) = text.strip_prefix('[') {
            match inside.split_once(']') {
                Some(split) => split,
                None => return refused("missing ']' in address"),
            }
        } else {
            text.split_at(text.find(':').unwrap_or(text.len()))
        };
        if host.contains(['[', ']']) || rest.contains(['[', ']']) {
            return refused("unexpected bracket in address");
        }
        let port = match rest.strip_prefix(':') {
            _ if rest.is_empty() => None,
            Some(port) if port.contains(':') => return refused("too many colons in address"),
            Some(port) => Some(port_number(port)?),
            None => return refused("unexpected text after the bracket"),
        };
        Ok(HostPort { host: host.to_owned(), port })
    }

    /// The first address of the host, IPv4 before IPv6; may ask the resolver. `None` for an empty host.
    pub fn resolve(&self) -> Result<Option<IpAddr>, String> {
        if self.host.is_empty() {
            return Ok(None);
        }
        let addrs = lookup(&self.host, 0)?;
        let ipv4 = addrs.iter().find(|addr| addr.is_ipv4());
        Ok(ipv4.or(addrs.first()).map(SocketAddr::ip))
    }
}

/// Where to gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Unspecified for every address of this machine.
    pub ip: IpAddr,
    /// 0 for a free one.
    pub port: u16,
    /// Whether the host was left out, which the banner shows.
    pub host_is_empty: bool,
}

impl Bind {
    /// Reads the bind address of the operator. No text at all, no host, and `0.0.0.0` are the same.
    pub fn parse(text: &str) -> Result<Bind, String> {
        let parsed = HostPort::parse(text)?;
        let ip = parsed.resolve()?;
        Ok(Bind {
            ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: parsed.port.unwrap_or(GOSSIP_PORT),
            host_is_empty: ip.is_none() && parsed.port.is_some(),
        })
    }

    /// For the banner, with the port that it really is.
    pub fn shown(&self, port: u16) -> String {
        if self.host_is_empty { format!(":{port}") } else { SocketAddr::new(self.ip, port).to_string() }
    }
}

/// Reads the address that others are told.
pub fn parse_advertise(text: &str) -> Result<SocketAddr, String> {
    let parsed = HostPort::parse(text)?;
    let ip = parsed.resolve()?.ok_or_else(|| format!("address {text}: missing host"))?;
    Ok(SocketAddr::new(ip, parsed.port.unwrap_or(GOSSIP_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_texts() {
        let cases = [
            ("", "0.0.0.0:7946"),
            (":7999", ":7999"),
            (":0", ":0"),
            ("0.0.0.0", "0.0.0.0:7946"),
            ("127.0.0.1", "127.0.0.1:7946"),
            ("127.0.0.1:7999", "127.0.0.1:7999"),
            ("127.0.0.1:", "127.0.0.1:0"),
            ("127.0.0.1:+80", "127.0.0.1:80"),
            ("[::1]", "[::1]:7946"),
            ("[::1]:7950", "[::1]:7950"),
            ("::1", "[::1]:7946"),
            ("[127.0.0.1]:1", "127.0.0.1:1"),
            ("localhost", "127.0.0.1:7946"),
        ];
        for (text, shown) in cases {
            let bind = Bind::parse(text).expect(text);
            assert_eq!(bind.shown(bind.port), shown, "{text}");
        }
    }

    #[test]
    fn refused_texts() {
        let cases = [
            ("127.0.0.1:99999", "address 99999: invalid port"),
            ("127.0.0.1:-1", "address -1: invalid port"),
            ("127.0.0.1:no-such-service", "address tcp/no-such-service: unknown port"),
            ("256.1.1.1", "lookup 256.1.1.1: no such host"),
            ("127.0.0.1:7946:1", "address 127.0.0.1:7946:1: too many colons in address"),
            ("[::1", "address [::1: missing ']' in address"),
            ("[::1]x", "address [::1]x: unexpected text after the bracket"),
            ("::1]", "address ::1]: unexpected bracket in address"),
            ("bogus host", "lookup bogus host: no such host"),
        ];
        for (text, why) in cases {
            assert_eq!(Bind::parse(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn advertise_texts() {
        let cases = [
            ("192.0.2.9", "192.0.2.9:7946"),
            ("192.0.2.9:7000", "192.0.2.9:7000"),
            ("[2001:db8::1]", "[2001:db8::1]:7946"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_advertise(text).map(|addr| addr.to_string()), Ok(expected.to_owned()));
        }
        assert_eq!(parse_advertise(":7000"), Err("address :7000: missing host".to_owned()));
    }
}
