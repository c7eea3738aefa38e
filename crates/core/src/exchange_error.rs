//! Why an exchange over a stream came to nothing.

use std::fmt;

/// The outcome of a stream exchange that failed; `Display` is for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// The connection could not be made: the operating system's words.
    Connect(String),
    /// The connection broke: the operating system's words.
    Broken(String),
    /// The peer closed the connection before its answer was complete.
    Closed,
    /// The connection was not made within the TCP timeout.
    ConnectTimedOut,
    /// A connection was made, but no complete answer came within the TCP timeout.
    TimedOut,
    /// The peer could not read our request, and says why.
    Remote(String),
    /// The answer could not be understood: what is wrong with it.
    Malformed(String),
    /// The protocol versions of peer and cluster do not meet (gossip.md 3.6).
    Versions {
        /// Name of the offending node.
        node: String,
        /// Which version, and the range that the cluster allows.
        why: String,
    },
    /// As many exchanges as are allowed are under way.
    TooMany,
    /// All streams together hold as many bytes as are allowed.
    NoRoom,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) | Self::Broken(why) | Self::Malformed(why) => f.write_str(why),
            Self::Closed => {
                f.write_str("the peer closed the connection without an answer (is its label or key another?)")
            }
            Self::ConnectTimedOut | Self::TimedOut => f.write_str("i/o timeout"),
            Self::Remote(why) => write!(f, "remote error: {why}"),
            Self::Versions { node, why } => write!(f, "Node '{node}' {why}"),
            Self::TooMany => f.write_str("too many connections are under way"),
            Self::NoRoom => f.write_str("the connections under way hold too many bytes"),
        }
    }
}

impl std::error::Error for ExchangeError {}
