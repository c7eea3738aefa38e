//! From the text of an address to a connected socket, with errors in the words scripts know (cli.md 2).
//!
//! Decides which texts are addresses, what they resolve to and how long dialling may take. The texts of the
//! errors are part of the interface of the command line; the session that follows belongs to
//! [`crate::client`].

use crate::client::RpcError;
use crate::system::{os_words, port_number};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long dialling may take, over all addresses of a name (cli.md 2).
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The text is no address; nothing was dialled.
    Address(String),
    /// The host does not resolve.
    Lookup {
        /// The host part of the address.
        host: String,
        /// What the resolver says.
        cause: String,
    },
    /// Nothing answers there.
    Dial {
        /// The first address that was tried, or the text when it has no host.
        addr: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The connection stood, but the handshake or the token was refused, or the connection broke.
    Session(RpcError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Address(cause) => write!(f, "dial tcp: {cause}"),
            ConnectError::Lookup { host, cause } => write!(f, "dial tcp: lookup {host}: {cause}"),
            ConnectError::Dial { addr, error } if error.kind() == io::ErrorKind::TimedOut => {
                write!(f, "dial tcp {addr}: i/o timeout")
            }
            ConnectError::Dial { addr, error } => write!(f, "dial tcp {addr}: connect: {}", os_words(error)),
            ConnectError::Session(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Connects to `host:port`. An empty host is this machine; a port may be the name of a service.
pub(crate) fn dial(text: &str) -> Result<TcpStream, ConnectError> {
    let (host, port) = split(text)?;
    let port = port_number(port).map_err(ConnectError::Address)?;
    let candidates = resolve(host, port)?;
    let deadline = Instant::now() + DIAL_TIMEOUT;
    let mut first_failure = None;
    for addr in candidates {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            TcpStream::connect_timeout(&addr, left)
        };
        match attempt {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                let addr = if host.is_empty() { format!(":{port}") } else { addr.to_string() };
                first_failure.get_or_insert(ConnectError::Dial { addr, error });
            }
        }
    }
    Err(first_failure
        .unwrap_or_else(|| ConnectError::Lookup { host: host.to_owned(), cause: "no such host".to_owned() }))
}

/// Splits `host:port`, `[v6]:port` and `:port`.
fn split(text: &str) -> Result<(&str, &str), ConnectError> {
    let refused = |why: &str| Err(ConnectError::Address(format!("address {text}: {why}")));
    if text.is_empty() {
        return Err(ConnectError::Address("missing address".to_owned()));
    }
    let Some((host, port)) = text.rsplit_once(':') else { return refused("missing port in address") };
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((inside, after)) = bracketed.split_once(']') else {
            return refused("missing ']' in address");
        };
        return match after.strip_prefix(':') {
            Some(port) if port.contains(':') => refused("too many colons in address"),
            Some(_) if inside.contains('[') => refused("unexpected '[' in address"),
            Some(port) if port.contains(['[', ']']) => refused("unexpected ']' in address"),
            Some(port) => Ok((inside, port)),
            None => refused("missing port in address"),
        };
    }
    if host.contains(':') {
        return refused("too many colons in address");
    }
    if text.contains('[') {
        return refused("unexpected '[' in address");
    }
    if text.contains(']') {
        return refused("unexpected ']' in address");
    }
    Ok((host, port))
}

/// The addresses of a host in the order in which they are tried.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if host.is_empty() {
        let local = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Ok(local.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    match (host, port).to_socket_addrs() {
        Ok(addrs) => Ok(addrs.collect()),
        Err(error) => {
            let text = os_words(&error);
            let cause = text.rsplit_once(": ").map_or(&text[..], |(_, cause)| cause);
            let unknown = ["Name or service not known", "No address associated with hostname"];
            let cause = if unknown.contains(&cause) { "no such host" } else { cause };
            Err(ConnectError::Lookup { host: host.to_owned(), cause: cause.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split_or_say_why_not() {
        let good = [
            ("127.0.0.1:7373", "127.0.0.1", "7373"),
            ("localhost:http", "localhost", "http"),
            ("[::1]:7373", "::1", "7373"),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", "1"),
            (":7373", "", "7373"),
            ("[]:1", "", "1"),
            ("127.0.0.1:", "127.0.0.1", ""),
        ];
        for (text, host, port) in good {
            assert_eq!(split(text).ok(), Some((host, port)), "{text}");
        }
        let bad = [
            ("", "dial tcp: missing address"),
            ("127.0.0.1", "dial tcp: address 127.0.0.1: missing port in address"),
            ("[::1]", "dial tcp: address [::1]: missing port in address"),
            ("[::1]x:1", "dial tcp: address [::1]x:1: missing port in address"),
            ("::1", "dial tcp: address ::1: too many colons in address"),
            ("127.0.0.1:7373:1", "dial tcp: address 127.0.0.1:7373:1: too many colons in address"),
            ("tcp://127.0.0.1:7373", "dial tcp: address tcp://127.0.0.1:7373: too many colons in address"),
            ("[::1]:1:2", "dial tcp: address [::1]:1:2: too many colons in address"),
            ("[::1:1", "dial tcp: address [::1:1: missing ']' in address"),
            ("a[b:1", "dial tcp: address a[b:1: unexpected '[' in address"),
            ("[a[b]:1", "dial tcp: address [a[b]:1: unexpected '[' in address"),
            ("a]b:1", "dial tcp: address a]b:1: unexpected ']' in address"),
            ("[::1]:1]", "dial tcp: address [::1]:1]: unexpected ']' in address"),
        ];
        for (text, words) in bad {
            assert_eq!(split(text).expect_err(text).to_string(), words);
        }
    }

    #[test]
    fn an_empty_host_is_this_machine() {
        let addrs = resolve("", 7373).expect("two literals");
        assert_eq!(
            addrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["127.0.0.1:7373", "[::1]:7373"]
        );
    }

    #[test]
    fn failures_use_the_words_of_the_standard_client() {
        let refused = ConnectError::Dial {
            addr: "127.0.0.1:7373".to_owned(),
            error: io::Error::from_raw_os_error(111),
        };
        assert_eq!(refused.to_string(), "dial tcp 127.0.0.1:7373: connect: connection refused");
        let late =
            ConnectError::Dial { addr: "10.0.0.1:7373".to_owned(), error: io::ErrorKind::TimedOut.into() };
        assert_eq!(late.to_string(), "dial tcp 10.0.0.1:7373: i/o timeout");
        let unknown = ConnectError::Lookup { host: "nowhere".to_owned(), cause: "no such host".to_owned() };
        assert_eq!(unknown.to_string(), "dial tcp: lookup nowhere: no such host");
    }
}
