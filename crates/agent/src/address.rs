//! Addresses to join as operators write them: `[NAME/]HOST[:PORT]` (agent.md 5.3), or `dns+srv://SERVICE[:PORT]`.
//!
//! Decides host and port; a host that is a name, and a service, are looked up by the driver. The error texts are
//! those that follow `Failed to resolve TEXT: `.

use std::net::{IpAddr, SocketAddr};
use villein_core::gotext::quote;

/// What stands before the name of a service whose hosts and ports are in DNS (RFC 2782).
const SERVICE: &str = "dns+srv://";

/// What a text means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing to look up.
    Address(SocketAddr),
    /// A name, or an address that needs the system's help (a zone).
    Host(String, u16),
    /// The name of a service, and the port of hosts whose record says 0.
    Service(String, u16),
}

impl Target {
    /// Reads a text; the name before the last `/` is only a hint and not used.
    pub(crate) fn parse(text: &[u8], default_port: u16) -> Result<Target, String> {
        let text = std::str::from_utf8(text).map_err(|_| "the address is not UTF-8".to_owned())?;
        let service = text.strip_prefix(SERVICE);
        let place = match (service, text.rsplit_once('/')) {
            (Some(service), _) => service,
            (_, Some(("", _))) => return Err("empty node name provided".to_owned()),
            (_, Some((_, place))) => place,
            (_, None) => text,
        };
        let (host, port) = split(place)?;
        let port = port.map_or(Ok(default_port), parse_port)?;
        if host.is_empty() {
            return Err("lookup : no such host".to_owned());
        }
        if service.is_some() {
            return Ok(Target::Service(host.to_owned(), port));
        }
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => Target::Address(SocketAddr::new(ip.to_canonical(), port)),
            Err(_) => Target::Host(host.to_owned(), port),
        })
    }
}

fn split(place: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| format!("address {place}: missing ']' in address"))?;
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => Ok((host, None)),
            (_, Some(port)) => Ok((host, Some(port))),
            _ => Err(format!("address {place}: unexpected text after ']' in address")),
        };
    }
    if place.parse::<IpAddr>().is_ok() {
        return Ok((place, None));
    }
    match place.rsplit_once(':') {
        // Several colons without brackets: an IPv6 address with a zone has no port.
        Some((host, _)) if host.contains(':') && place.contains('%') => Ok((place, None)),
        Some((host, _)) if host.contains(':') => Err(format!("address {place}: too many colons in address")),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let failure = || format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes()));
    if digits { text.parse().map_err(|_| failure()) } else { Err(failure()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_targets() {
        let address = |text: &str| Ok(Target::Address(text.parse().expect("the address is valid")));
        let host = |name: &str, port| Ok(Target::Host(name.to_owned(), port));
        let service = |name: &str, port| Ok(Target::Service(name.to_owned(), port));
        let error = |text: &str| Err(text.to_owned());
        for (text, target) in [
            ("127.0.0.1", address("127.0.0.1:7946")),
            ("127.0.0.1:1", address("127.0.0.1:1")),
            ("::1", address("[::1]:7946")),
            ("[::1]", address("[::1]:7946")),
            ("[::1]:80", address("[::1]:80")),
            ("::ffff:10.0.0.1", address("10.0.0.1:7946")),
            ("beta/127.0.0.2", address("127.0.0.2:7946")),
            ("a/b/127.0.0.2:9", address("127.0.0.2:9")),
            ("host.example", host("host.example", 7946)),
            ("host:7000", host("host", 7000)),
            ("fe80::1%eth0", host("fe80::1%eth0", 7946)),
            ("[fe80::1%eth0]:9", host("fe80::1%eth0", 9)),
            ("dns+srv://_serf._tcp.example", service("_serf._tcp.example", 7946)),
            ("dns+srv://_serf._tcp.example:7", service("_serf._tcp.example", 7)),
            ("dns+srv://127.0.0.1", service("127.0.0.1", 7946)),
            ("dns+srv://", error("lookup : no such host")),
            ("dns+srv://a:x", error("strconv.ParseUint: parsing \"x\": invalid syntax")),
            ("", error("lookup : no such host")),
            (":7946", error("lookup : no such host")),
            ("/127.0.0.2", error("empty node name provided")),
            ("127.0.0.2:99999", error("strconv.ParseUint: parsing \"99999\": value out of range")),
            ("127.0.0.2:x", error("strconv.ParseUint: parsing \"x\": invalid syntax")),
            ("127.0.0.2:", error("strconv.ParseUint: parsing \"\": invalid syntax")),
            ("127.0.0.2:+1", error("strconv.ParseUint: parsing \"+1\": invalid syntax")),
            ("[::1", error("address [::1: missing ']' in address")),
            ("[::1]x", error("address [::1]x: unexpected text after ']' in address")),
            ("a:b:c", error("address a:b:c: too many colons in address")),
        ] {
            assert_eq!(Target::parse(text.as_bytes(), 7946), target, "{text}");
        }
        assert!(Target::parse(b"\xff", 7946).is_err());
    }
}
