//! The hosts that offer a service: SRV records (RFC 2782), asked of the system's name servers.
//!
//! The system's resolver, which every other name goes through, has no word for them, so the question is asked
//! here: over UDP, over TCP if the answer does not fit, of one server after the other as resolv.conf(5) has it.
//! The hosts that are found are names again, which whoever calls looks up.
//!
//! Invariant: a lookup takes no longer than [`limits::SERVICE_LOOKUP`], whatever servers do, and nothing is
//! believed that does not answer the question.

use crate::files;
use crate::limits;
use simple_dns::rdata::{RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer};
use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use villein_rpc::system::os_words;

/// Where the system's name servers are written down.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of name servers.
const DOMAIN: u16 = 53;

/// Name servers, and how relative names are completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    addrs: Vec<SocketAddr>,
    /// Domains in which names are looked for that have fewer than `dots` dots.
    search: Vec<String>,
    dots: usize,
}

impl Servers {
    /// Those of the system, as of now.
    pub(crate) fn of_system() -> Servers {
        // Without the file there is a name server on this machine, or none.
        let text = files::read(Path::new(RESOLV_CONF)).ok().flatten().unwrap_or_default();
        Servers::parse(&String::from_utf8_lossy(&text))
    }

    /// Reads the text of resolv.conf(5). What it says about times and tries is not heeded: they are bounded here.
    fn parse(text: &str) -> Servers {
        let mut servers = Servers { addrs: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let addr = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    servers.addrs.extend(addr.map(|ip| SocketAddr::new(ip, DOMAIN)));
                }
                // The last of these lines counts.
                Some("search" | "domain") => servers.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    servers.dots = dots.unwrap_or(servers.dots);
                }
                _ => {}
            }
        }
        if servers.addrs.is_empty() {
            servers.addrs.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DOMAIN));
        }
        servers.addrs.truncate(limits::NAME_SERVERS);
        servers.search.truncate(limits::SEARCH_DOMAINS);
        servers
    }

    /// The names that `name` may stand for, in the order in which they are tried.
    fn meanings(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let completed = self.search.iter().map(|domain| format!("{name}.{}", domain.trim_end_matches('.')));
        let mut meanings: Vec<String> = completed.collect();
        let is_long = name.bytes().filter(|byte| *byte == b'.').count() >= self.dots;
        meanings.insert(if is_long { 0 } else { meanings.len() }, name.to_owned());
        meanings
    }
}

/// Who offers a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Provider {
    /// Its name.
    pub(crate) host: String,
    /// 0 if the record does not say.
    pub(crate) port: u16,
}

/// The hosts of a service in the order of their priorities and weights, never an empty list; or
/// `lookup NAME: no such host`. May take long.
pub(crate) fn providers(name: &str, servers: &Servers) -> Result<Vec<Provider>, String> {
    let deadline = Instant::now() + limits::SERVICE_LOOKUP;
    for meaning in servers.meanings(name) {
        let Ok(meaning) = Name::new(&meaning) else { continue };
        let found = ask_all(&meaning, servers, deadline).map_err(|(server, error)| {
            let why = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
                _ => os_words(&error),
            };
            format!("lookup {name} on {server}: {why}")
        })?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(format!("lookup {name}: no such host"))
}

/// Asks until one server has an answer, which may be that there is nothing; or the last failure.
fn ask_all(
    name: &Name<'_>,
    servers: &Servers,
    deadline: Instant,
) -> Result<Vec<Provider>, (SocketAddr, io::Error)> {
    let mut failure = None;
    for server in (0..limits::SERVICE_TRIES).flat_map(|_| &servers.addrs) {
        match ask(name, *server, deadline) {
            Ok(found) => return Ok(found),
            Err(error) => failure = Some((*server, error)),
        }
    }
    Err(failure.expect("there is a server, and it is tried"))
}

fn ask(name: &Name<'_>, server: SocketAddr, deadline: Instant) -> io::Result<Vec<Provider>> {
    let patience = || deadline.min(Instant::now() + limits::SERVICE_PATIENCE);
    let until = patience();
    let id = random_id()?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let (qtype, qclass) = (QTYPE::TYPE(TYPE::SRV), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(name.clone(), qtype, qclass, false));
    let query = packet.build_bytes_vec().map_err(io::Error::other)?;

    let own =
        if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let mut buffer = vec![0; limits::DATAGRAM];
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        let length = socket.recv(&mut buffer)?;
        let bytes = &buffer[..length];
        if !is_answer(bytes, id) {
            continue;
        }
        if header_buffer::has_flags(bytes, PacketFlag::TRUNCATION).unwrap_or(false) {
            break;
        }
        if let Some(found) = read(bytes, name) {
            return found;
        }
    }
    let bytes = ask_tcp(&query, server, patience())?;
    let found = if is_answer(&bytes, id) { read(&bytes, name) } else { None };
    found.unwrap_or_else(|| Err(io::Error::other("server misbehaving")))
}

/// Over a connection of its own, where answers of any length fit.
fn ask_tcp(query: &[u8], server: SocketAddr, until: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, until)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut bytes, until)?;
    Ok(bytes)
}

/// Fills `buffer`; the sender cannot make this last by sending slowly.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], until: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => filled += length,
        }
    }
    Ok(())
}

/// The time until then, which is not over.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Strangers must not guess it.
fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(u16::from_be_bytes(id))
}

fn is_answer(bytes: &[u8], id: u16) -> bool {
    header_buffer::id(bytes).is_ok_and(|answered| answered == id)
        && header_buffer::has_flags(bytes, PacketFlag::RESPONSE).unwrap_or(false)
}

/// What a server says about `name`; `None` if it is not about that.
fn read(bytes: &[u8], name: &Name<'_>) -> Option<io::Result<Vec<Provider>>> {
    let packet = Packet::parse(bytes).ok()?;
    let is_about = |question: &Question<'_>| question.qname == *name && question.qtype == TYPE::SRV.into();
    if !packet.questions.iter().any(is_about) {
        return None;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        // There is no such name.
        RCODE::NameError => return Some(Ok(Vec::new())),
        _ => return Some(Err(io::Error::other("server misbehaving"))),
    }
    let mut records: Vec<(u16, Reverse<u16>, Provider)> = packet
        .answers
        .into_iter()
        .filter_map(|answer| match answer.rdata {
            RData::SRV(SRV { priority, weight, port, target }) => {
                Some((priority, Reverse(weight), Provider { host: target.to_string(), port }))
            }
            _ => None,
        })
        // The root as a target says that there is no such service here.
        .filter(|(_, _, provider)| !provider.host.is_empty())
        .collect();
    records.sort();
    Some(Ok(records.into_iter().map(|(_, _, provider)| provider).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use std::net::TcpListener;
    use std::thread;

    /// What a name server of a test does with a question.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Mood {
        Honest,
        /// Says over UDP that the answer does not fit.
        Brief,
        /// First answers a question that was not asked, and in the name of somebody else.
        Confused,
        Broken,
        Silent,
    }

    /// Priority, weight, port and target.
    type Record = (u16, u16, u16, &'static str);

    /// A name server that knows the service `_serf._tcp.example.test`, for as long as the test runs.
    pub(crate) fn servers(records: &'static [Record]) -> Servers {
        serve(&[Mood::Honest], records)
    }

    fn serve(moods: &[Mood], records: &'static [Record]) -> Servers {
        let addrs = moods.iter().map(|mood| start(*mood, records)).collect();
        Servers { addrs, search: vec!["example.test.".to_owned(), "nowhere.test".to_owned()], dots: 2 }
    }

    fn start(mood: Mood, records: &'static [Record]) -> SocketAddr {
        let tcp = TcpListener::bind("127.42.2.1:0").expect("the loopback is there");
        let addr = tcp.local_addr().expect("it is bound");
        let udp = UdpSocket::bind(addr).expect("nobody else is here");
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                for answer in answers(&buffer[..length], mood, records) {
                    udp.send_to(&answer, from).expect("the loopback takes it");
                }
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.expect("it is connected");
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a question comes");
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).expect("a question comes");
                let [answer] = &answers(&query, Mood::Honest, records)[..] else { panic!("one answer") };
                let length = u16::try_from(answer.len()).expect("it is short").to_be_bytes();
                // Each in a piece of its own, as a network may deliver them.
                for piece in [&length[..], &answer[..5], &answer[5..]] {
                    stream.write_all(piece).expect("the client reads");
                }
            }
        });
        addr
    }

    fn answers(query: &[u8], mood: Mood, records: &[Record]) -> Vec<Vec<u8>> {
        let query = Packet::parse(query).expect("a question");
        assert!(query.has_flags(PacketFlag::RECURSION_DESIRED));
        let question = query.questions.first().expect("a question").clone();
        let mut answer = Packet::new_reply(query.id());
        answer.questions.push(question.clone());
        match (mood, question.qname.to_string().to_ascii_lowercase().as_str()) {
            (Mood::Silent, _) => return Vec::new(),
            (Mood::Broken, _) => *answer.rcode_mut() = RCODE::ServerFailure,
            (Mood::Brief, _) => answer.set_flags(PacketFlag::TRUNCATION),
            (_, "_serf._tcp.example.test") => {
                for (priority, weight, port, target) in records {
                    let (priority, weight, port) = (*priority, *weight, *port);
                    let target = Name::new(target).expect("a name");
                    let record = RData::SRV(SRV { priority, weight, port, target });
                    answer.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, record));
                }
            }
            (_, "_empty._tcp.example.test") => {}
            _ => *answer.rcode_mut() = RCODE::NameError,
        }
        let honest = answer.build_bytes_vec().expect("it can be written");
        if mood != Mood::Confused {
            return vec![honest];
        }
        let mut other = Packet::new_reply(query.id());
        other.questions.push(Question::new(
            Name::new("other").expect("a name"),
            question.qtype,
            question.qclass,
            false,
        ));
        answer.set_id(!query.id());
        answer.answers.clear();
        let wrong = [other, answer].map(|packet| packet.build_bytes_vec().expect("it can be written"));
        vec![query.build_bytes_vec().expect("it can be written"), b"?".to_vec(), wrong.concat(), honest]
    }

    fn provider(host: &str, port: u16) -> Provider {
        Provider { host: host.to_owned(), port }
    }

    const RECORDS: &[Record] = &[
        (20, 0, 4, "d.test"),
        (10, 5, 2, "b.test"),
        (10, 9, 1, "a.test"),
        (10, 5, 3, "c.test"),
        (0, 0, 1, "."),
    ];

    #[test]
    fn providers_come_in_their_order_from_the_first_server_that_knows() {
        let expected =
            [provider("a.test", 1), provider("b.test", 2), provider("c.test", 3), provider("d.test", 4)];
        for moods in [&[Mood::Honest][..], &[Mood::Brief], &[Mood::Confused], &[Mood::Broken, Mood::Honest]] {
            let servers = serve(moods, RECORDS);
            for name in [
                "_serf._tcp.example.test",
                "_serf._tcp.example.test.",
                "_SERF._tcp.Example.test",
                "_serf._tcp",
            ] {
                assert_eq!(providers(name, &servers).as_deref(), Ok(&expected[..]), "{moods:?} {name}");
            }
        }
    }

    #[test]
    fn what_is_not_offered_is_no_such_host() {
        let servers = serve(&[Mood::Honest], RECORDS);
        let long = "x".repeat(64);
        for name in ["_other._tcp.example.test", "_empty._tcp.example.test", "_serf._tcp.", &long] {
            assert_eq!(providers(name, &servers), Err(format!("lookup {name}: no such host")));
        }
    }

    #[test]
    fn a_server_that_is_no_help_is_named() {
        let servers = serve(&[Mood::Broken], RECORDS);
        let words = format!("lookup _serf._tcp.x on {}: server misbehaving", servers.addrs[0]);
        assert_eq!(providers("_serf._tcp.x", &servers), Err(words));
        // Its socket is closed before it is asked.
        let closed =
            UdpSocket::bind("127.42.2.2:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let servers = Servers { addrs: vec![closed], ..servers };
        let words = format!("lookup _serf._tcp.x on {closed}: connection refused");
        assert_eq!(providers("_serf._tcp.x", &servers), Err(words));
    }

    #[test]
    fn a_silent_server_is_not_waited_for_any_longer_than_the_deadline() {
        let servers = serve(&[Mood::Silent], RECORDS);
        let name = Name::new("_serf._tcp.example.test").expect("a name");
        let soon = Instant::now() + Duration::from_millis(20);
        for deadline in [Instant::now(), soon] {
            let (server, error) = ask_all(&name, &servers, deadline).expect_err("nobody answers");
            assert_eq!(server, servers.addrs[0]);
            assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
        }
    }

    #[test]
    fn the_systems_configuration_is_understood() {
        let text = "# comment\n; comment\nnameserver 10.0.0.2 # first\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1\nnameserver\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n\
                    domain old.test\nsearch a.test b.test\noptions edns0 ndots:5 timeout:1\noptions ndots:x\n";
        let servers = Servers::parse(text);
        let addrs: Vec<_> = servers.addrs.iter().map(SocketAddr::to_string).collect();
        assert_eq!(addrs, ["10.0.0.2:53", "[2001:db8::1]:53", "10.0.0.3:53"]);
        assert_eq!(
            (servers.search.as_slice(), servers.dots),
            (&["a.test".to_owned(), "b.test".to_owned()][..], 5)
        );
        assert_eq!(servers.meanings("_x._tcp"), ["_x._tcp.a.test", "_x._tcp.b.test", "_x._tcp"]);
        assert_eq!(
            servers.meanings("a.b.c.d.e.f"),
            ["a.b.c.d.e.f", "a.b.c.d.e.f.a.test", "a.b.c.d.e.f.b.test"]
        );
        assert_eq!(servers.meanings("_x._tcp."), ["_x._tcp"]);
        let none = Servers::parse("");
        assert_eq!(none.addrs, ["127.0.0.1:53".parse().expect("an address")]);
        assert_eq!((none.search, none.dots), (Vec::new(), 1));
    }
}
