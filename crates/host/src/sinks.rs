//! Who is told things from outside the cluster: statsd, statsite and syslog (agent.md 16 and 17).

/// The addresses of the sinks that are wanted.
#[derive(Debug, Default)]
pub struct Sinks {
    /// `host:port` for datagrams.
    pub statsd: Option<String>,
    /// `host:port` for a stream.
    pub statsite: Option<String>,
}
