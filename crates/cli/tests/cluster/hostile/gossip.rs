//! Gossip that ends agents of the reference, or spoils their cluster: an agent of ours refuses and counts it, lives
//! on, and hands nothing of it on to the real `serf` beside it (gossip.md 20.1).

use super::wire::{
    ENDLESS_LIST, NIL, VERSIONS, Wrapper, alive, event, intent, list, map, node, number, on_stream,
    push_pull, query, relay, say, send, signed, text,
};
use crate::support::{
    Agent, Folder, Kind, PATIENCE, Program, Runtime, client, members, on_every_runtime, serf_is_here,
    wait_until,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;
use villein_core::crypto::Key;
use villein_rpc::request::{
    self, CoordinateOf, ForceLeave, Handshake, Join, Query, Respond, TagChange, UserEvent,
};
use villein_rpc::response::TextMap;
use villein_rpc::{Client, Request, Text};

on_every_runtime! {
    nothing_of_it_reaches_a_real_agent,
    nothing_that_clients_ask_for_harms_a_real_agent,
    keys_stay_so_few_that_real_agents_can_list_them,
}

const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";

/// The most that a Lamport time can be.
const END_OF_TIME: u64 = u64::MAX;

/// An agent of ours, and a real one that hears of others through it alone.
struct Pair {
    runtime: Runtime,
    net: u8,
    /// What every agent of this cluster is started with.
    flags: Vec<String>,
    ours: Agent,
    serf: Agent,
    stats: Client,
    wrapper: Wrapper,
}

fn start(kind: impl Into<Kind>, ip: &str, name: &str, flags: &[String]) -> Agent {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Agent::on_loopback(kind, ip, name, &flags)
}

impl Pair {
    fn new(runtime: Runtime, net: u8, key: Option<&str>) -> Pair {
        let flags: Vec<String> = key.map(|key| format!("-encrypt={key}")).into_iter().collect();
        let ip = |last: u8| runtime.here(&format!("127.64.{net}.{last}"));
        let (ours, serf) =
            (start(runtime, &ip(1), "ours", &flags), start(Program::Serf, &ip(2), "serf", &flags));
        let printed = client(Program::Serf, &serf, &["join", &ip(1)]);
        assert_eq!(printed.status, Some(0), "{printed:?}");
        let stats = Client::connect(&ours.rpc, None).expect("our agent answers");
        Pair { runtime, net, flags, ours, serf, stats, wrapper: Wrapper::new(key) }
    }

    /// The address of a member.
    fn ip(&self, last: u8) -> String {
        self.runtime.here(&format!("127.64.{}.{last}", self.net))
    }

    /// That of the real one, as gossip has it.
    fn serf_octets(&self) -> [u8; 4] {
        self.ip(2).parse::<Ipv4Addr>().expect("it is an address").octets()
    }

    fn gossip_port(&self) -> SocketAddr {
        SocketAddr::new(self.ip(1).parse().expect("it is an address"), 7946)
    }

    fn number(&mut self, section: &str, name: &str) -> u64 {
        let stats = self.stats.stats().expect("our agent lives and answers");
        let text = stats[section.as_bytes()][name.as_bytes()].to_string();
        text.parse().unwrap_or_else(|_| panic!("{section} {name} is a number: {text}"))
    }

    /// What our agent has refused so far.
    fn refused(&mut self) -> u64 {
        ["packets", "messages", "streams"].iter().map(|sum| self.number("dropped", sum)).sum()
    }

    /// Waits until our agent has refused so much.
    fn wait_for_refused(&mut self, count: u64, what: &str) {
        let start = Instant::now();
        while self.refused() < count {
            assert!(start.elapsed() < PATIENCE, "{what}: {} refused of {count}", self.refused());
        }
    }

    /// A message in every form; each must be refused.
    fn refuses(&mut self, what: &str, message: &[u8]) {
        let before = self.refused();
        let datagrams = self.wrapper.datagrams(message);
        for datagram in &datagrams {
            send(self.gossip_port(), datagram);
        }
        self.wait_for_refused(before + datagrams.len() as u64, what);
        if message[0] == 8 {
            self.refuses_streams(what, &on_stream(message));
        }
    }

    /// A message on streams, plain and compressed.
    fn refuses_streams(&mut self, what: &str, message: &[u8]) {
        let before = self.refused();
        let streams = self.wrapper.streams(message);
        for stream in &streams {
            say(self.gossip_port(), stream);
        }
        self.wait_for_refused(before + streams.len() as u64, what);
    }

    /// Bytes that are no message.
    fn refuses_bytes(&mut self, what: &str, bytes: &[u8]) {
        let before = self.refused();
        let datagram = self.wrapper.bare_datagram(bytes);
        send(self.gossip_port(), &datagram);
        self.wait_for_refused(before + u64::from(!datagram.is_empty()), what);
    }

    fn refuses_stream_bytes(&mut self, what: &str, bytes: &[u8]) {
        let before = self.refused();
        let stream = self.wrapper.bare_stream(bytes);
        say(self.gossip_port(), &stream);
        self.wait_for_refused(before + 1, what);
    }

    /// An event that a stranger hands to our agent reaches the real one.
    fn passes_on(&mut self, ltime: u64, name: &str) {
        for datagram in self.wrapper.datagrams(&event(ltime, name)) {
            send(self.gossip_port(), &datagram);
        }
        self.serf.wait_for(&format!("agent: Received event: user-event: {name}"));
    }
}

fn nothing_of_it_reaches_a_real_agent(runtime: Runtime) {
    if !serf_is_here() {
        return;
    }
    std::thread::scope(|scope| {
        for (net, key) in [(1, None), (2, Some(KEY))] {
            scope.spawn(move || hostile(runtime, net, key));
        }
    });
}

/// Nor does our agent itself say such a thing, whatever its clients want.
fn nothing_that_clients_ask_for_harms_a_real_agent(runtime: Runtime) {
    if !serf_is_here() {
        return;
    }
    std::thread::scope(|scope| {
        for (net, key) in [(13, None), (14, Some(KEY))] {
            scope.spawn(move || odd_wishes(runtime, net, key));
        }
    });
}

fn odd_wishes(runtime: Runtime, net: u8, key: Option<&str>) {
    let mut pair = Pair::new(runtime, net, key);
    pair.passes_on(3, "before");
    let wishes = wishes();
    let mut said = Vec::new();
    for (seq, wish) in (0..).zip(&wishes) {
        wish.encode(seq, &mut said);
    }
    // Who closes its side is answered to the last request.
    let mut stream = TcpStream::connect(&pair.ours.rpc).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(&said).and_then(|()| stream.shutdown(Shutdown::Write)).expect("our agent listens");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("our agent answers all and closes");
    let count = answers.windows(4).filter(|window| window == b"\xa3Seq").count();
    assert!(count >= wishes.len(), "{count} answers: {}", String::from_utf8_lossy(&answers));
    nobody_was_harmed(&mut pair);
}

/// What a client may ask for, and no thoughtful one does.
fn wishes() -> Vec<Request> {
    let query = |name: &str, nodes: &[&str], tag: Option<(&[u8], &[u8])>, payload: Option<&[u8]>| {
        Request::Query(Query {
            filter_nodes: nodes.iter().map(|&node| node.into()).collect(),
            filter_tags: tag.map(|(tag, expr)| (tag.into(), expr.into())).into_iter().collect(),
            request_ack: true,
            relay_factor: 255,
            timeout: 50_000_000,
            name: name.into(),
            payload: payload.map(<[u8]>::to_vec),
        })
    };
    let mut wishes = vec![
        Request::Handshake(Handshake { version: 1 }),
        query("", &[], None, None),
        query("", &[""], None, Some(b"")),
        query("q", &["", "", "serf"], Some((b"", b"")), Some(b"\0")),
        query("q", &[], Some((b"\xff", b"\xff")), None),
        query("q", &[], Some((b"role", b"(")), None),
        query("q", &["x"; 700], None, None),
        query(&"q".repeat(2000), &[], None, Some(&[0xff; 2000])),
    ];
    for name in ["install-key", "use-key", "remove-key", "list-keys", "ping", "conflict", "nonsense", ""] {
        wishes.push(query(&format!("_serf_{name}"), &[], None, None));
        wishes.push(query(&format!("_serf_{name}"), &[], None, Some(b"")));
    }
    for timeout in [i64::MIN, -1, i64::MAX] {
        wishes.push(Request::Query(Query { timeout, name: "q".into(), ..Query::default() }));
    }
    for name in [&b""[..], b"\0", b"\xff\xfe", b"a\nb", &[b'x'; 512]] {
        for payload in [None, Some(vec![]), Some(vec![0; 100])] {
            wishes.push(Request::Event(UserEvent { name: name.into(), payload, coalesce: true }));
        }
        wishes.push(Request::Join(Join { existing: vec![name.into()], replay: true }));
        wishes.push(Request::GetCoordinate(CoordinateOf { node: name.into() }));
    }
    // Each of these waits until it is gossiped, or answered.
    let odd = &b"\xff\0"[..];
    let tags = TextMap::from([(odd.into(), odd.into()), (Text::default(), Text::default())]);
    wishes.push(Request::Tags(TagChange { tags, delete_tags: vec![Text::default()] }));
    wishes.push(Request::ForceLeave(ForceLeave { node: odd.into(), prune: true }));
    for key in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        wishes.push(Request::InstallKey(request::Key { key: key.into() }));
    }
    wishes.push(Request::RemoveKey(request::Key { key: Text::default() }));
    wishes.push(Request::Respond(Respond { id: u64::MAX, payload: None }));
    wishes.push(Request::ForceLeave(ForceLeave { node: "serf".into(), prune: true }));
    wishes
}

/// One look at more keys than fit into an answer would be the end of all real agents.
fn keys_stay_so_few_that_real_agents_can_list_them(runtime: Runtime) {
    if !serf_is_here() {
        return;
    }
    let folder = Folder::new("many-keys");
    let key = |number: u8| Key::from_bytes(&[number; 32]).expect("it is a key").to_base64();
    let ring: Vec<String> = (1..=16).map(|number| format!("\"{}\"", key(number))).collect();
    let [ours, serf] = ["127.64.15.1", "127.64.15.2"].map(|ip| runtime.here(ip));
    let agents = [(runtime.into(), &ours, "ours"), (Kind::Serf, &serf, "serf")].map(|(kind, ip, name)| {
        let path = folder.path(name);
        std::fs::write(&path, format!("[{}]", ring.join(","))).expect("the file can be written");
        Agent::on_loopback(kind, ip, name, &[&format!("-keyring-file={}", path.display())])
    });
    let ask = |words: &[&str]| client(Program::Villein, &agents[0], words);
    assert_eq!(ask(&["join", &serf]).status, Some(0));
    let installed = (17..40).find(|number| {
        let printed = ask(&["keys", "-install", &key(*number)]);
        let is_refused = printed.status != Some(0);
        if is_refused {
            assert!(printed.stdout.contains("first remove keys that are no longer used"), "{printed:?}");
        }
        is_refused
    });
    assert!(installed.is_some_and(|number| number > 17), "{installed:?}");
    let listed = || ask(&["keys", "-list"]).stdout;
    let all = usize::from(installed.unwrap_or_default()) - 1;
    wait_until("all keys are listed by both", || listed().matches("[2/2]").count() == all, listed);
    assert_eq!(client(Program::Serf, &agents[1], &["members"]).status, Some(0));
}

fn hostile(runtime: Runtime, net: u8, key: Option<&str>) {
    let mut pair = Pair::new(runtime, net, key);
    pair.passes_on(3, "before");
    for (what, message) in messages(&pair.serf_octets()) {
        pair.refuses(&what, &message);
    }
    for (what, bytes) in broken_layers() {
        pair.refuses_bytes(&what, &bytes);
    }
    for (what, stream) in streams() {
        pair.refuses_streams(&what, &stream);
    }
    pair.refuses_stream_bytes("nothing in a compressed stream", &broken("neg-compress-empty"));
    pair.refuses_stream_bytes("a label header", b"\xf4\x01a\x00\x80");
    pair.refuses_stream_bytes("an unknown type", b"\x2a\x80");
    if key.is_some() {
        pair.refuses_bytes("an authentic datagram with nothing in it", b"");
        pair.refuses_stream_bytes("an authentic stream with nothing in it", b"");
    } else {
        pair.refuses_stream_bytes("an encrypted stream", b"\x0a\x00\x00\x00\x1d\x01");
    }
    many_parts_are_all_read(&mut pair);
    nobody_was_harmed(&mut pair);
}

/// Messages that are understood and must have no effect, or none that gets further.
fn messages(serf: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut rows = vec![
        ("an empty filter".into(), query(6, "q", &list(&[text("")]), NIL)),
        ("a filter that is nil".into(), query(6, "q", &list(&[NIL.to_vec()]), NIL)),
        ("a filter behind a good one that is empty".into(), {
            query(6, "q", &list(&[text(b"\x00\x91\xa1x"), text("")]), NIL)
        }),
        ("endless filters".into(), query(6, "q", ENDLESS_LIST, NIL)),
        ("a filter for endless names".into(), {
            query(6, "q", &list(&[text([&[0], ENDLESS_LIST].concat())]), NIL)
        }),
        ("a filter for an endless name".into(), {
            query(6, "q", &list(&[text(b"\x00\x91\xdb\xff\xff\xff\xf0")]), NIL)
        }),
        ("an event at the end of time".into(), event(END_OF_TIME, "late")),
        ("an event just before it".into(), event(END_OF_TIME - 1, "late")),
        ("a query at the end of time".into(), query(END_OF_TIME, "late", NIL, NIL)),
        ("a join at the end of time".into(), intent(1, END_OF_TIME, "serf")),
        ("a leave at the end of time".into(), intent(0, END_OF_TIME, "serf")),
        ("an alive without a name".into(), alive("", &[127, 64, 0, 97], Some(VERSIONS))),
        ("an alive without versions".into(), alive("x", &[127, 64, 0, 97], None)),
    ];
    for name in ["_serf_install-key", "_serf_use-key", "_serf_remove-key"] {
        rows.push((format!("{name} without a payload"), query(6, name, NIL, NIL)));
        rows.push((format!("{name} with nothing in it"), query(6, name, NIL, &text(""))));
        // Only responses are passed on, and only to members.
        let inner = query(6, name, NIL, NIL);
        rows.push((format!("{name} to be relayed"), relay("serf", serf, &inner)));
    }
    for length in [0, 1, 2, 3, 4, 5, 7] {
        let versions = &[VERSIONS, &[0]].concat()[..length];
        rows.push((format!("{length} versions"), alive("x", &[127, 64, 0, 97], Some(versions))));
    }
    for length in [0, 3, 5, 15, 17] {
        rows.push((
            format!("an address of {length} bytes"),
            alive("x", &[127; 17][..length], Some(VERSIONS)),
        ));
    }
    rows
}

/// Datagrams whose layers are broken; also all that were tried on the reference by hand.
fn broken_layers() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden");
    let names = std::fs::read_dir(folder).expect("the golden bytes are there");
    let names =
        names.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned());
    let mut rows: Vec<(String, Vec<u8>)> = names
        .filter_map(|name| name.strip_suffix(".hex").map(str::to_owned))
        .filter(|name| name.starts_with("neg-"))
        .map(|name| (name.clone(), broken(&name)))
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    rows.push(("a compound of three empty parts".into(), b"\x07\x03\x00\x00\x00\x00\x00\x00".to_vec()));
    rows.push((
        "a compound of a CRC around nothing".into(),
        b"\x07\x01\x00\x05\x0c\x00\x00\x00\x00".to_vec(),
    ));
    rows
}

fn broken(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden").join(format!("{name}.hex"));
    let text = std::fs::read_to_string(path).expect("the golden bytes are there");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("they are digits"), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("they are digits")).collect()
}

/// What begins a stream and must not be believed.
fn streams() -> Vec<(String, Vec<u8>)> {
    let here = [127, 64, 0, 97];
    let clocks = |ltime: u64| {
        let state = map(&[
            ("EventLTime", &number(ltime)),
            ("Events", NIL),
            ("LTime", &number(ltime)),
            ("LeftMembers", NIL),
            ("QueryLTime", &number(ltime)),
            ("StatusLTimes", NIL),
        ]);
        [&[2][..], &state].concat()
    };
    let state = |ltime| {
        let (user_state, node) = (clocks(ltime), node("x", &here, 3, VERSIONS));
        push_pull(1, user_state.len() as i64, &[node, user_state].concat())
    };
    let mut rows = vec![
        ("a negative number of nodes".into(), push_pull(-1, 0, b"")),
        ("the least number of nodes".into(), push_pull(i64::MIN, 0, b"")),
        ("a billion nodes".into(), push_pull(1 << 30, 0, b"")),
        ("a user state of negative length".into(), push_pull(0, -1, b"")),
        ("a user state of a gigabyte".into(), push_pull(0, 1 << 30, b"")),
        (
            "a user message of negative length".into(),
            [&[8], &map(&[("UserMsgLen", &signed(-1))])[..]].concat(),
        ),
        ("a state at the end of time".into(), state(END_OF_TIME)),
        ("an unknown state of a node".into(), push_pull(1, 0, &node("x", &here, 9, VERSIONS))),
        ("an address of five bytes".into(), push_pull(1, 0, &node("x", &[127; 5], 0, VERSIONS))),
    ];
    for length in [0, 1, 3, 5] {
        let node = node("x", &here, 0, &VERSIONS[..length]);
        rows.push((format!("a node with {length} versions"), push_pull(1, 0, &node)));
    }
    rows
}

/// Old agents lose most parts of a compound with more than 127; ours does not, wherever it comes from.
fn many_parts_are_all_read(pair: &mut Pair) {
    let nack: &[u8] = b"\x0b\x80";
    let last = event(5, "the-last-of-200");
    let lengths = [[0, 2].repeat(199), (last.len() as u16).to_be_bytes().to_vec()].concat();
    let compound = [&[7, 200][..], &lengths, &nack.repeat(199), &last].concat();
    let datagram = pair.wrapper.bare_datagram(&compound);
    send(pair.gossip_port(), &datagram);
    pair.serf.wait_for("agent: Received event: user-event: the-last-of-200");
}

fn nobody_was_harmed(pair: &mut Pair) {
    pair.passes_on(7, "after");
    for queue in ["intent_queue", "event_queue", "query_queue"] {
        // Whatever our agent passes on has been passed on.
        wait_until(&format!("the {queue} is empty"), || pair.number("serf", queue) == 0, String::new);
    }
    let place = |last: u8| pair.ip(last);
    let rows = |names: &[(&str, u8)]| -> Vec<String> {
        names.iter().map(|(name, last)| format!("{name} {}:7946 alive", place(*last))).collect()
    };
    for (program, agent) in [(Program::Serf, &pair.serf), (Program::Villein, &pair.ours)] {
        let seen = members(&client(program, agent, &["members"]).stdout);
        assert_eq!(seen, rows(&[("ours", 1), ("serf", 2)]), "the members of {program:?}");
        let info = client(program, agent, &["info"]).stdout;
        for clock in ["member_time", "event_time", "query_time"] {
            let line = info.lines().find_map(|line| line.trim().strip_prefix(clock));
            let time = line.and_then(|line| line.strip_prefix(" = ")?.parse::<u64>().ok());
            assert!(time.is_some_and(|time| time < 1000), "{program:?} counts on: {info}");
        }
    }
    let said = pair.serf.output();
    // That it has no such key, or none at all, is nothing that hurts.
    let hurts = |line: &&str| (line.contains("[ERR]") || line.contains("onflict")) && !line.contains("key");
    assert_eq!(said.lines().find(hurts), None, "{said}");
    // The cluster still takes in whoever comes, by either side.
    let newcomer = start(Program::Serf, &pair.ip(3), "newcomer", &pair.flags);
    for last in [1, 2] {
        let printed = client(Program::Serf, &newcomer, &["join", &place(last)]);
        assert_eq!(printed.stdout, "Successfully joined cluster by contacting 1 nodes.\n");
    }
}
