//! Names to addresses, by the system's resolver, on threads.
//!
//! Serf's agent asks a name server for names with a dot before it asks the system (agent.md 5.3); the system's
//! resolver alone finds the same addresses, also where the answer of that server would be another one. Only the
//! hosts of a service are asked for elsewhere ([`service`]).
//!
//! Literal addresses and names that can be none need no thread. A thread is started for a name when all others are
//! busy, up to [`limits::RESOLVERS`], and stays. Names are taken in the order in which they came.
//!
//! Invariant: each request has one answer, either at once or through the inbox.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::service::{self, Servers};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use villein_agent::io::{Lookup, ResolveId};
use villein_rpc::system::os_words;

#[derive(Debug)]
struct Request {
    id: ResolveId,
    host: String,
    port: u16,
    lookup: Lookup,
}

/// Resolves names in the background.
#[derive(Debug)]
pub struct Resolver {
    inbox: Sender,
    requests: async_channel::Sender<Request>,
    waiting: async_channel::Receiver<Request>,
    threads: usize,
    /// Names that wait or are being asked for.
    open: Arc<AtomicUsize>,
    /// How a thread is started.
    start: fn(&mut Resolver) -> io::Result<()>,
}

impl Resolver {
    /// Answers are put into `inbox`.
    pub fn new(inbox: Sender) -> Resolver {
        let (requests, waiting) = async_channel::bounded(limits::RESOLUTIONS);
        let open = Arc::default();
        Resolver { inbox, requests, waiting, threads: 0, open, start: Resolver::start_thread }
    }

    /// The answer if it needs no waiting; otherwise it arrives later, exactly once.
    pub fn resolve(
        &mut self,
        id: ResolveId,
        host: &str,
        port: u16,
        lookup: Lookup,
    ) -> Option<Result<Vec<SocketAddr>, String>> {
        let known = match lookup {
            Lookup::Host => without_asking(host, port),
            Lookup::Service => not_a_name(host).map(Err),
        };
        if known.is_some() {
            return known;
        }
        // Whoever is asked must be there first: a request that is queued is answered from the queue.
        let is_needed = self.open.load(Ordering::Relaxed) >= self.threads;
        if is_needed
            && self.threads < limits::RESOLVERS
            && let Err(error) = (self.start)(self)
            && self.threads == 0
        {
            return Some(Err(format!("lookup {host}: {}", os_words(&error))));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        if self.requests.try_send(Request { id, host: host.to_owned(), port, lookup }).is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Some(Err(format!("lookup {host}: too many names are being looked up")));
        }
        None
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let (waiting, inbox, open) = (self.waiting.clone(), self.inbox.clone(), self.open.clone());
        // The system's resolver wants a stack of the usual size.
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while let Ok(Request { id, host, port, lookup }) = waiting.recv_blocking() {
                let result = match lookup {
                    Lookup::Host => ask(&host, port),
                    Lookup::Service => ask_service(&host, port, &Servers::of_system()),
                };
                open.fetch_sub(1, Ordering::Relaxed);
                if inbox.put_blocking(Arrival::Resolved { id, result }).is_err() {
                    return;
                }
            }
        })?;
        self.threads += 1;
        Ok(())
    }
}

/// Every address of `host`, never an empty list; or `lookup HOST: why`. May take long.
pub fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    without_asking(host, port).unwrap_or_else(|| ask(host, port))
}

fn without_asking(host: &str, port: u16) -> Option<Result<Vec<SocketAddr>, String>> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(Ok(vec![SocketAddr::new(ip, port)])),
        Err(_) => not_a_name(host).map(Err),
    }
}

/// Why nobody needs to be asked for this.
fn not_a_name(host: &str) -> Option<String> {
    // The system would read `127.1` or `256.1.1.1` in ways of its own, and no top-level domain is a number.
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !host.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    (is_number || !is_name).then(|| format!("lookup {host}: no such host"))
}

/// The addresses of the hosts of a service, in their order; `port` is for those that name none.
fn ask_service(name: &str, port: u16, servers: &Servers) -> Result<Vec<SocketAddr>, String> {
    let providers = service::providers(name, servers)?;
    let deadline = Instant::now() + limits::SERVICE_LOOKUP;
    let mut addrs = Vec::new();
    let mut failure = None;
    for provider in providers {
        let port = if provider.port == 0 { port } else { provider.port };
        match without_asking(&provider.host, port).unwrap_or_else(|| ask_absolute(&provider.host, port)) {
            Ok(found) => {
                let new = found.into_iter().filter(|addr| !addrs.contains(addr));
                addrs.extend(new.collect::<Vec<_>>());
            }
            Err(why) => failure = failure.or(Some(why)),
        }
        // Those that were found first are the most wanted.
        if Instant::now() >= deadline {
            break;
        }
    }
    match failure {
        Some(why) if addrs.is_empty() => Err(why),
        _ => Ok(addrs),
    }
}

/// Of a name that is complete as it is: no domain is to be searched for it, unless this machine alone knows it, by
/// its file of hosts.
fn ask_absolute(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    ask(&format!("{host}."), port).or_else(|_| ask(host, port))
}

fn ask(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let answer = (host, port).to_socket_addrs().map_err(|error| reason(&error));
    match answer.map(Vec::from_iter) {
        Ok(addrs) if addrs.is_empty() => Err(format!("lookup {host}: no such host")),
        Ok(addrs) => Ok(addrs),
        Err(why) => Err(format!("lookup {host}: {why}")),
    }
}

/// The resolver's words without the preface that std gives them.
fn reason(error: &io::Error) -> String {
    let words = os_words(error);
    let words = words.rsplit(": ").next().unwrap_or_default();
    match words {
        "Name or service not known" | "No address associated with hostname" => "no such host".to_owned(),
        words => words.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{Inbox, inbox};

    fn answered(inbox: &mut Inbox) -> (ResolveId, Vec<SocketAddr>) {
        loop {
            match inbox.take() {
                Some(Arrival::Resolved { id, result: Ok(addrs) }) => return (id, addrs),
                Some(other) => panic!("not an answer: {other:?}"),
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn addresses_are_their_own_answer() {
        let (sender, _inbox) = inbox();
        let mut resolver = Resolver::new(sender);
        for text in ["127.0.0.9", "::1"] {
            let expected = SocketAddr::new(text.parse().expect("an address"), 7);
            assert_eq!(resolver.resolve(ResolveId(1), text, 7, Lookup::Host), Some(Ok(vec![expected])));
        }
        assert_eq!(resolver.threads, 0);
    }

    #[test]
    fn what_is_no_name_is_refused_at_once() {
        for text in ["", "256.1.1.1", "127.1", "bogus host", "a\nb"] {
            assert_eq!(lookup(text, 7), Err(format!("lookup {text}: no such host")));
        }
    }

    #[test]
    fn names_are_answered_by_a_thread() {
        let (sender, mut inbox) = inbox();
        let mut resolver = Resolver::new(sender);
        assert_eq!(resolver.resolve(ResolveId(3), "localhost", 7946, Lookup::Host), None);
        let (id, addrs) = answered(&mut inbox);
        assert_eq!(id, ResolveId(3));
        assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7946));
        assert!(!addrs.is_empty());
    }

    #[test]
    fn as_many_threads_are_there_as_names_were_asked_for_at_once() {
        let (sender, mut inbox) = inbox();
        let mut resolver = Resolver::new(sender);
        for number in 0..5 {
            assert_eq!(resolver.resolve(ResolveId(number), "localhost", 7946, Lookup::Host), None);
            assert_eq!(answered(&mut inbox).0, ResolveId(number));
        }
        assert_eq!(resolver.threads, 1);
        // As if the name server did not answer.
        resolver.open.fetch_add(1, Ordering::Relaxed);
        assert_eq!(resolver.resolve(ResolveId(5), "localhost", 7946, Lookup::Host), None);
        assert_eq!((answered(&mut inbox).0, resolver.threads), (ResolveId(5), 2));
    }

    #[test]
    fn a_name_without_a_thread_is_answered_once() {
        let (sender, mut inbox) = inbox();
        let mut resolver = Resolver::new(sender);
        resolver.start = |_| Err(io::Error::from_raw_os_error(11));
        let answer = resolver.resolve(ResolveId(1), "localhost", 7946, Lookup::Host);
        assert_eq!(answer, Some(Err("lookup localhost: resource temporarily unavailable".to_owned())));
        resolver.start = Resolver::start_thread;
        assert_eq!(resolver.resolve(ResolveId(2), "localhost", 7946, Lookup::Host), None);
        assert_eq!(answered(&mut inbox).0, ResolveId(2), "the first is not answered again");
    }

    #[test]
    fn the_resolvers_words() {
        let cases = [
            ("failed to lookup address information: Name or service not known", "no such host"),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                "temporary failure in name resolution",
            ),
        ];
        for (system, ours) in cases {
            assert_eq!(reason(&io::Error::other(system)), ours);
        }
    }

    #[test]
    fn the_hosts_of_a_service_are_found_in_their_order() {
        let servers = service::tests::servers(&[
            (3, 0, 7999, "127.42.0.3"),
            (1, 0, 0, "127.42.0.1"),
            (2, 0, 7373, "300.1.1.1"),
            (4, 0, 7946, "127.42.0.1"),
            (5, 0, 7999, "127.42.0.3"),
            (6, 0, 7, "localhost"),
        ]);
        let addrs = ask_service("_serf._tcp", 7946, &servers).expect("it is offered");
        let shown: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        assert_eq!(shown[..2], ["127.42.0.1:7946", "127.42.0.3:7999"]);
        assert!(
            !addrs[2..].is_empty()
                && addrs[2..].iter().all(|addr| addr.ip().is_loopback() && addr.port() == 7)
        );
        let words = "lookup _other._tcp: no such host";
        assert_eq!(ask_service("_other._tcp", 7946, &servers), Err(words.to_owned()));
    }

    #[test]
    fn a_service_whose_hosts_have_no_address_has_none() {
        let servers = service::tests::servers(&[(1, 0, 7946, "300.1.1.1"), (2, 0, 7946, "300.1.1.2")]);
        let words = "lookup 300.1.1.1: no such host";
        assert_eq!(ask_service("_serf._tcp", 7946, &servers), Err(words.to_owned()));
    }

    #[test]
    fn an_address_is_no_service() {
        let (sender, _inbox) = inbox();
        let mut resolver = Resolver::new(sender);
        for text in ["127.0.0.9", "", "bogus host"] {
            let answer = resolver.resolve(ResolveId(1), text, 7, Lookup::Service);
            assert_eq!(answer, Some(Err(format!("lookup {text}: no such host"))));
        }
    }

    #[test]
    fn a_name_may_be_absolute() {
        for (host, is_name) in
            [("example.test.", true), ("localhost.", true), (".", false), ("127.1.", false)]
        {
            assert_eq!(not_a_name(host).is_none(), is_name, "{host}");
        }
    }
}
