//! Who is told things from outside the cluster: statsd, statsite and syslog (agent.md 16 and 17), and the service
//! manager.
//!
//! A thread for each looks up the name, connects, and hands over pieces in their order. What cannot be handed
//! over is tried once more over a new connection, with the name looked up again, and then thrown away: metrics
//! and log lines are worth less than the agent's peace.
//!
//! Invariant: while there is no connection, nothing is tried, and so nothing told, for [`limits::SINK_REST`] after a
//! failure; which failures an operator hears of is the agent's to decide.

use crate::address::HostPort;
use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::notify::{self, ServiceManager};
use crate::resolve::lookup;
use crate::worker::{Ending, Worker};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;
use villein_agent::io::Sink;
use villein_rpc::system::os_words;

/// The addresses of the sinks that are wanted.
#[derive(Debug, Default)]
pub struct Sinks {
    /// `host:port` for datagrams.
    pub statsd: Option<String>,
    /// `host:port` for a stream.
    pub statsite: Option<String>,
    /// Who started the process, if that wants to hear of it.
    pub service_manager: Option<ServiceManager>,
}

/// Where a syslog daemon listens, in the order in which they are tried.
const SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Whether a syslog daemon listens; `Err` is the reason, to be put behind `Syslog setup failed: `.
pub fn syslog_available() -> Result<(), String> {
    local(&SYSLOG.map(PathBuf::from)).map(drop)
}

/// Where pieces go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// `host:port` for datagrams.
    Datagrams(String),
    /// `host:port` for a stream.
    Stream(String),
    /// The first of these sockets that somebody listens on.
    Local(Vec<PathBuf>),
    /// The socket of a service manager, as the environment names it.
    Manager(OsString),
}

impl Target {
    /// Of a sink, if it is wanted. Nobody reports to a syslog that is not.
    pub(crate) fn of(sink: Sink, sinks: &Sinks) -> Option<Target> {
        match sink {
            Sink::Statsd => sinks.statsd.clone().map(Target::Datagrams),
            Sink::Statsite => sinks.statsite.clone().map(Target::Stream),
            Sink::Syslog => Some(Target::Local(SYSLOG.map(PathBuf::from).to_vec())),
            Sink::ServiceManager => {
                sinks.service_manager.as_ref().map(|manager| Target::Manager(manager.socket.clone()))
            }
        }
    }

    /// May take as long as the resolver, and [`limits::SINK_PATIENCE`] for each address of the name.
    fn connect(&self) -> Result<Link, String> {
        match self {
            Target::Datagrams(text) => first(text, |addr| {
                let any = if addr.is_ipv4() {
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
                } else {
                    SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(addr)?;
                socket.set_write_timeout(Some(limits::SINK_PATIENCE))?;
                Ok(Link::Udp(socket))
            }),
            Target::Stream(text) => first(text, |addr| {
                let stream = TcpStream::connect_timeout(&addr, limits::SINK_PATIENCE)?;
                stream.set_write_timeout(Some(limits::SINK_PATIENCE))?;
                Ok(Link::Tcp(stream))
            }),
            Target::Local(paths) => local(paths),
            Target::Manager(name) => notify::connect(name).map(Link::LocalDatagrams),
        }
    }

    /// As messages show it.
    fn shown(&self) -> String {
        match self {
            Target::Datagrams(text) | Target::Stream(text) => text.clone(),
            Target::Local(_) => "syslog".to_owned(),
            Target::Manager(name) => name.display().to_string(),
        }
    }
}

/// A connection to the first address of `host:port` that has one.
fn first(text: &str, connect: impl Fn(SocketAddr) -> io::Result<Link>) -> Result<Link, String> {
    let HostPort { host, port } = HostPort::parse(text)?;
    let port =
        port.filter(|port| *port != 0).ok_or_else(|| format!("address {text}: missing port in address"))?;
    let host = if host.is_empty() { "localhost" } else { &host };
    let mut why = String::new();
    for addr in lookup(host, port)? {
        match connect(addr) {
            Ok(link) => return Ok(link),
            Err(error) => why = format!("{addr}: {}", os_words(&error)),
        }
    }
    Err(why)
}

/// A connection to the first of these sockets: of datagrams if it takes them, else a stream.
fn local(paths: &[PathBuf]) -> Result<Link, String> {
    let connect = |path: &PathBuf| {
        let socket = UnixDatagram::unbound()?;
        if socket.connect(path).is_ok() {
            socket.set_write_timeout(Some(limits::SINK_PATIENCE))?;
            return Ok(Link::LocalDatagrams(socket));
        }
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(limits::SINK_PATIENCE))?;
        io::Result::Ok(Link::LocalStream(stream))
    };
    paths.iter().find_map(|path| connect(path).ok()).ok_or_else(|| {
        let tried: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        format!("Unix syslog delivery error: nobody listens on {}", tried.join(", "))
    })
}

/// A connection to a sink.
#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    LocalDatagrams(UnixDatagram),
    LocalStream(UnixStream),
}

impl Link {
    fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Link::Udp(socket) => socket.send(piece).map(drop),
            Link::Tcp(stream) => {
                check_open(stream)?;
                stream.write_all(piece)
            }
            Link::LocalDatagrams(socket) => socket.send(piece).map(drop),
            Link::LocalStream(stream) => stream.write_all(&in_one_line(piece)),
        }
    }
}

/// A message for a stream, where only the end of a line tells it from the next one.
fn in_one_line(piece: &[u8]) -> Vec<u8> {
    let text = piece.trim_ascii_end();
    let mut line: Vec<u8> = text.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
    line.push(b'\n');
    line
}

/// Whether the peer still listens. The system takes what is written to one that has gone, and loses it.
fn check_open(stream: &mut TcpStream) -> io::Result<()> {
    let mut unwanted = [0; 512];
    stream.set_nonblocking(true)?;
    let read = loop {
        match stream.read(&mut unwanted) {
            Ok(0) => break Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    read
}

/// Gives pieces to one sink.
#[derive(Debug)]
pub(crate) struct Feed {
    worker: Worker<Vec<u8>>,
    /// Pieces for which there was no room, since this was last told.
    lost: Arc<AtomicU64>,
}

impl Feed {
    /// Starts the thread of a sink; failures are put into `inbox`.
    pub(crate) fn start(sink: Sink, target: Target, inbox: Sender) -> io::Result<Feed> {
        let lost = Arc::new(AtomicU64::new(0));
        let unheard = lost.clone();
        // The system's resolver wants a stack of the usual size.
        let thread = thread::Builder::new().name("sink".to_owned());
        let worker = Worker::start(thread, limits::SINK_JOBS, move |pieces| {
            deliver_all(&pieces, target, &unheard, |why| {
                // The driver may have gone, which is fine.
                let _ = inbox.put_blocking(Arrival::SinkFailed { sink, why });
            });
        })?;
        Ok(Feed { worker, lost })
    }

    /// Hands over a piece, or throws it away when too many wait.
    pub(crate) fn give(&self, piece: &[u8]) {
        if self.worker.give(piece.to_vec()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no more; what was taken is handed over.
    pub(crate) fn close(self) -> Ending {
        self.worker.close()
    }
}

fn deliver_all(pieces: &Receiver<Vec<u8>>, target: Target, lost: &AtomicU64, tell: impl Fn(String)) {
    let mut delivery = Delivery { target, link: None, resting_until: None };
    for piece in pieces {
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tell(format!("{}: too slow, {lost} pieces are lost", delivery.target.shown()));
        }
        if let Err(why) = delivery.deliver(&piece, Instant::now()) {
            tell(why);
        }
    }
}

/// Hands pieces over, one at a time.
#[derive(Debug)]
struct Delivery {
    target: Target,
    link: Option<Link>,
    /// Nothing is tried before.
    resting_until: Option<Instant>,
}

impl Delivery {
    fn deliver(&mut self, piece: &[u8], now: Instant) -> Result<(), String> {
        if self.resting_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let result = self.try_twice(piece);
        self.resting_until = (result.is_err() && self.link.is_none()).then(|| now + limits::SINK_REST);
        result
    }

    /// Over the connection that is there, and over a new one if that fails.
    fn try_twice(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut result = Ok(());
        if let Some(link) = &mut self.link {
            let Err(error) = link.send(piece) else { return Ok(()) };
            // A stream that ends is made again and misses nothing. A datagram fails for those before it.
            if let Link::Udp(_) = link {
                result = Err(self.said(&error));
            }
            self.link = None;
        }
        let mut link = self.target.connect()?;
        link.send(piece).map_err(|error| self.said(&error))?;
        self.link = Some(link);
        result
    }

    fn said(&self, error: &io::Error) -> String {
        format!("{}: {}", self.target.shown(), os_words(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Folder;
    use crate::inbox::{Inbox, inbox};
    use std::io::BufRead;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn feed(target: Target) -> (Feed, Inbox) {
        let (sender, inbox) = inbox();
        (Feed::start(Sink::Statsd, target, sender).expect("a thread"), inbox)
    }

    fn delivery(target: Target) -> Delivery {
        Delivery { target, link: None, resting_until: None }
    }

    /// All that was told until the end.
    fn told(feed: Feed, inbox: &mut Inbox) -> Vec<String> {
        feed.close().wait(Instant::now() + PATIENCE);
        std::iter::from_fn(|| inbox.take())
            .map(|arrival| match arrival {
                Arrival::SinkFailed { sink: Sink::Statsd, why } => why,
                other => panic!("not of a sink: {other:?}"),
            })
            .collect()
    }

    fn received(recv: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<u8> {
        let mut buffer = [0; 100];
        let length = recv(&mut buffer).expect("it arrives");
        buffer[..length].to_vec()
    }

    #[test]
    fn datagrams_arrive_as_they_are() {
        let server = UdpSocket::bind("127.42.1.1:0").expect("the loopback is there");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        let addr = server.local_addr().expect("it is bound");
        let (feed, mut inbox) = feed(Target::Datagrams(addr.to_string()));
        for piece in [&b"a:1|c\nb:2|c\n"[..], b"c:3|c\n"] {
            feed.give(piece);
            assert_eq!(received(|buffer| server.recv(buffer)), piece);
        }
        assert_eq!(told(feed, &mut inbox), [""; 0]);
    }

    #[test]
    fn nobody_to_take_datagrams_is_told() {
        let server = UdpSocket::bind("127.42.1.2:0").expect("the loopback is there");
        let addr = server.local_addr().expect("it is bound");
        drop(server);
        let mut delivery = delivery(Target::Datagrams(addr.to_string()));
        let now = Instant::now();
        assert_eq!(delivery.deliver(b"1", now), Ok(()), "nobody knows yet");
        let refused = Err(format!("{addr}: connection refused"));
        assert_eq!(delivery.deliver(b"2", now), refused);
        let server = UdpSocket::bind(addr).expect("nobody else wants it");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        // Of the second piece, sent again at once, the system may tell now; this one arrives in any case.
        let _ = delivery.deliver(b"3", now);
        assert_eq!(received(|buffer| server.recv(buffer)), b"3");
    }

    #[test]
    fn a_stream_that_ends_is_made_again_and_loses_nothing() {
        let server = TcpListener::bind("127.42.1.3:0").expect("the loopback is there");
        let addr = server.local_addr().expect("it is bound");
        let (feed, mut inbox) = feed(Target::Stream(addr.to_string()));
        for piece in ["one\n", "two\n", "three\n"] {
            feed.give(piece.as_bytes());
            let (stream, _) = server.accept().expect("it is connected");
            let mut line = String::new();
            io::BufReader::new(stream).read_line(&mut line).expect("it is text");
            assert_eq!(line, piece);
        }
        assert_eq!(told(feed, &mut inbox), [""; 0]);
    }

    #[test]
    fn a_sink_that_is_not_there_is_told_once_and_then_left_alone() {
        let server = TcpListener::bind("127.42.1.4:0").expect("the loopback is there");
        let addr = server.local_addr().expect("it is bound");
        drop(server);
        let (feed, mut inbox) = feed(Target::Stream(addr.to_string()));
        for _ in 0..5 {
            feed.give(b"x\n");
        }
        assert_eq!(told(feed, &mut inbox), [format!("{addr}: connection refused")]);

        let mut delivery = delivery(Target::Stream(addr.to_string()));
        let now = Instant::now();
        assert!(delivery.deliver(b"x\n", now).is_err());
        assert_eq!(delivery.deliver(b"x\n", now), Ok(()), "it is not tried");
        assert!(delivery.deliver(b"x\n", now + limits::SINK_REST).is_err());
    }

    #[test]
    fn addresses_that_are_none_are_told() {
        let cases = [
            ("127.0.0.1", "address 127.0.0.1: missing port in address"),
            ("127.0.0.1:99999", "address 99999: invalid port"),
            ("bogus host:8125", "lookup bogus host: no such host"),
        ];
        for (text, why) in cases {
            for target in [Target::Datagrams(text.to_owned()), Target::Stream(text.to_owned())] {
                assert_eq!(target.connect().expect_err("it is none"), why);
            }
        }
        assert!(Target::Datagrams(":8125".to_owned()).connect().is_ok(), "this machine has an address");
    }

    #[test]
    fn syslog_is_whoever_listens_first() {
        let folder = Folder::new();
        let paths = ["absent", "stream", "datagrams"].map(|name| folder.at(name)).to_vec();
        let tried: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        let why = local(&paths).expect_err("nobody is there");
        assert_eq!(why, format!("Unix syslog delivery error: nobody listens on {}", tried.join(", ")));

        let daemon = UnixDatagram::bind(&paths[2]).expect("the directory can be written");
        daemon.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        let (feed, mut inbox) = feed(Target::Local(paths.clone()));
        feed.give(b"<133>one");
        assert_eq!(received(|buffer| daemon.recv(buffer)), b"<133>one");
        // The daemon is started again, now with a stream.
        let listener = UnixListener::bind(&paths[1]).expect("the directory can be written");
        drop(daemon);
        feed.give(b"<133>two\n\t* of\n\n");
        feed.give(b"<133>three\n");
        let (stream, _) = listener.accept().expect("it is connected");
        let lines = io::BufReader::new(stream).lines().take(2).map(|line| line.expect("it is text"));
        assert_eq!(lines.collect::<Vec<_>>(), ["<133>two \t* of", "<133>three"], "a message is a line");
        assert_eq!(told(feed, &mut inbox), [""; 0]);
    }

    #[test]
    fn pieces_without_room_are_counted() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (done, results) = std::sync::mpsc::channel();
        let lost = Arc::new(AtomicU64::new(0));
        let unheard = lost.clone();
        let thread = thread::Builder::new();
        let worker = Worker::start(thread, 1, move |pieces| {
            wait.recv().expect("it is told");
            let target = Target::Stream("bogus host:9".to_owned());
            deliver_all(&pieces, target, &unheard, |why| done.send(why).expect("the test listens"));
        });
        let feed = Feed { worker: worker.expect("a thread"), lost };
        for _ in 0..4 {
            feed.give(b"x");
        }
        go.send(()).expect("it waits");
        feed.close().wait(Instant::now() + PATIENCE);
        let told: Vec<String> = results.try_iter().collect();
        assert_eq!(
            told,
            ["bogus host:9: too slow, 3 pieces are lost", "lookup bogus host: no such host"],
            "it fails besides"
        );
    }
}
