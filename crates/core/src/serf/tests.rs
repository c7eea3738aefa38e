//! Whole nodes on a network without delay: what takes several of them and some time.

use crate::Node;
use crate::command::{Command, CommandError, CommandId, KeyRequest, QueryParams, Reply, Size};
use crate::config::{Coalesce, Config};
use crate::crypto::{Key, Keyring};
use crate::io::{Action, Input, Outbox, StreamEvent, StreamId, StreamOp};
use crate::limits;
use crate::member::{Event, MemberEventKind, QueryKey, Status, Tags, WireAddr};
use crate::note::Note;
use crate::text::{Secret, Text};
use crate::time::{Duration, Instant};
use crate::wire::message::{Filter, LeaveIntent, Query, Relay, Response, SerfMessage};
use crate::wire::serf::{encode_filter, encode_key_request, encode_serf};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Something under way to a node.
enum Parcel {
    Datagram(SocketAddr, Vec<u8>),
    Stream(StreamId, StreamNews),
}

enum StreamNews {
    Accepted(SocketAddr),
    Connected,
    Data(Vec<u8>),
    End,
    Failed,
}

struct World {
    now: Instant,
    nodes: Vec<Node>,
    up: Vec<bool>,
    under_way: VecDeque<(usize, Parcel)>,
    /// The other end of each end of a stream.
    ends: BTreeMap<(usize, StreamId), (usize, StreamId)>,
    accepted: u64,
    commands: u64,
    events: Vec<(usize, Event)>,
    replies: BTreeMap<CommandId, Reply>,
    notes: Vec<(usize, Note)>,
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + node as u8], 7946))
}

fn name(node: usize) -> Text {
    ["a", "b", "c", "d"][node].into()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    /// Nodes that do not know each other, without coalescing.
    fn apart(count: usize, change: impl Fn(usize, &mut Config)) -> World {
        let node = |number: usize| {
            let mut config = Config::new(name(number), WireAddr::from_ip(addr(number).ip()), 7946);
            config.coalesce = None;
            change(number, &mut config);
            Node::new(config, [number as u8; 32], crate::snapshot::Restored::default(), Instant::ORIGIN)
        };
        let mut world = World {
            now: Instant::ORIGIN,
            nodes: (0..count).map(node).collect(),
            up: vec![true; count],
            under_way: VecDeque::new(),
            ends: BTreeMap::new(),
            accepted: 0,
            commands: 0,
            events: Vec::new(),
            replies: BTreeMap::new(),
            notes: Vec::new(),
        };
        (0..count).for_each(|node| world.give(node, Input::Tick));
        world
    }

    /// Nodes that have joined the first one, some seconds ago.
    fn joined(count: usize, change: impl Fn(usize, &mut Config)) -> World {
        let mut world = World::apart(count, change);
        for node in 1..count {
            let join = Command::Join { addrs: vec![addr(0)], ignore_old: false };
            let reply = world.reply_to(node, join, seconds(1));
            assert_eq!(reply, Reply::Joined { contacted: 1, failures: vec![] });
        }
        world.run(seconds(5));
        for node in 0..count {
            assert_eq!(world.statuses(node), vec![Status::Alive; count], "as {node} sees it");
        }
        world.events.clear();
        world.notes.clear();
        world
    }

    fn statuses(&self, node: usize) -> Vec<Status> {
        self.nodes[node].members().map(|member| member.status).collect()
    }

    fn status(&self, node: usize, of: usize) -> Status {
        let found = self.nodes[node].members().find(|member| member.name == name(of));
        found.map_or(Status::None, |member| member.status)
    }

    fn command(&mut self, node: usize, command: Command) -> CommandId {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.give(node, Input::Command { id, command });
        id
    }

    fn reply_to(&mut self, node: usize, command: Command, within: Duration) -> Reply {
        let id = self.command(node, command);
        let until = self.now + within;
        while !self.replies.contains_key(&id) {
            assert!(self.step(until), "no reply in {within:?}");
        }
        self.replies.remove(&id).unwrap()
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Goes to the next deadline; `false` if it is not before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let due = |(number, node): (usize, &Node)| Some((node.deadline()?, number));
        let live = self.nodes.iter().enumerate().filter(|(number, _)| self.up[*number]);
        let Some((at, node)) = live.filter_map(due).min().filter(|(at, _)| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        self.give(node, Input::Tick);
        true
    }

    fn give(&mut self, node: usize, input: Input<'_>) {
        self.give_one(node, input);
        while let Some((to, parcel)) = self.under_way.pop_front() {
            if !self.up[to] {
                continue;
            }
            match parcel {
                Parcel::Datagram(from, bytes) => {
                    self.give_one(to, Input::Datagram { from, bytes: &bytes });
                }
                Parcel::Stream(id, news) => {
                    let event = match &news {
                        StreamNews::Accepted(from) => StreamEvent::Accepted { from: *from },
                        StreamNews::Connected => StreamEvent::Connected,
                        StreamNews::Data(bytes) => StreamEvent::Data(bytes),
                        StreamNews::End => StreamEvent::End,
                        StreamNews::Failed => StreamEvent::Failed("connection refused"),
                    };
                    self.give_one(to, Input::Stream { id, event });
                }
            }
        }
    }

    fn give_one(&mut self, node: usize, input: Input<'_>) {
        let mut out = Outbox::new();
        self.nodes[node].handle(self.now, input, &mut out);
        for action in out.actions() {
            match action {
                Action::Send { to, bytes } => {
                    if let Some(target) = (0..self.nodes.len()).find(|target| addr(*target) == to) {
                        let parcel = Parcel::Datagram(addr(node), bytes.to_vec());
                        self.under_way.push_back((target, parcel));
                    }
                }
                Action::Stream { id, op } => self.stream(node, id, &op),
                Action::Store(_) => panic!("these nodes keep no snapshot"),
                Action::Reply { id, reply } => {
                    assert!(self.replies.insert(id, reply.clone()).is_none(), "{id:?} has one reply");
                }
                Action::Event(event) => self.events.push((node, event.clone())),
                Action::Note(note) => self.notes.push((node, note.clone())),
            }
        }
    }

    fn stream(&mut self, node: usize, id: StreamId, op: &StreamOp<'_>) {
        let here = (node, id);
        let mut post = |to: usize, id, news| self.under_way.push_back((to, Parcel::Stream(id, news)));
        match op {
            StreamOp::Connect { to } => {
                let up = &self.up;
                let Some(target) = (0..up.len()).find(|target| up[*target] && addr(*target) == *to) else {
                    return post(node, id, StreamNews::Failed);
                };
                self.accepted += 1;
                let there = (target, StreamId::accepted(self.accepted));
                self.ends.extend([(here, there), (there, here)]);
                post(target, there.1, StreamNews::Accepted(addr(node)));
                post(node, id, StreamNews::Connected);
            }
            StreamOp::Write(bytes) => {
                if let Some(&(peer, its)) = self.ends.get(&here) {
                    post(peer, its, StreamNews::Data(bytes.to_vec()));
                }
            }
            StreamOp::Close | StreamOp::Abort => {
                let Some(there) = self.ends.remove(&here) else { return };
                // Nothing reaches a stream that its node has dropped.
                if self.ends.get(&there) == Some(&here) {
                    post(there.0, there.1, StreamNews::End);
                }
            }
        }
    }

    /// A datagram with a Serf message, as `from` would send it.
    fn inject(&mut self, from: usize, to: usize, message: &SerfMessage<'_>) {
        let mut bytes = vec![8];
        encode_serf(message, &mut bytes);
        self.give(to, Input::Datagram { from: addr(from), bytes: &bytes });
    }

    /// The member events that a node reported, in short words.
    fn news(&self, node: usize) -> Vec<String> {
        let words = |(at, event): &(usize, Event)| match event {
            Event::Members { kind, members } if *at == node => {
                assert_eq!(members.len(), 1);
                Some(format!("{} {}", kind.name(), members[0].name))
            }
            _ => None,
        };
        self.events.iter().filter_map(words).collect()
    }

    fn noted(&self, node: usize, kind: &str) -> usize {
        self.notes.iter().filter(|(at, note)| *at == node && note.name() == kind).count()
    }
}

#[test]
fn a_join_is_known_to_everybody() {
    let mut world = World::apart(3, |_, _| {});
    let join = Command::Join { addrs: vec![addr(9), addr(0)], ignore_old: true };
    let Reply::Joined { contacted: 1, failures } = world.reply_to(1, join, seconds(20)) else {
        panic!("the join failed");
    };
    assert_eq!(failures.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [addr(9)]);
    let empty = Command::Join { addrs: vec![], ignore_old: true };
    assert_eq!(world.reply_to(2, empty, seconds(1)), Reply::Joined { contacted: 0, failures: vec![] });
    world.run(seconds(3));
    assert_eq!(world.news(0), ["member-join a", "member-join b"]);
    assert_eq!(world.nodes[0].stats().member_time, 2);
}

#[test]
fn a_leave_is_told_before_it_happens() {
    let mut world = World::joined(3, |_, _| {});
    let id = world.command(2, Command::Leave);
    let second = world.command(2, Command::Leave);
    let join = Command::Join { addrs: vec![addr(0)], ignore_old: true };
    assert_eq!(world.reply_to(2, join, seconds(1)), Reply::Failed(CommandError::JoinAfterLeave));
    world.run(seconds(4));
    assert_eq!(world.replies.get(&id), Some(&Reply::Done));
    assert_eq!(world.replies.get(&second), Some(&Reply::Done));
    for node in 0..3 {
        assert_eq!(world.statuses(node), [Status::Alive, Status::Alive, Status::Left], "{node}");
        assert_eq!(world.news(node), ["member-leave c"], "{node}");
    }
    assert_eq!(world.noted(2, "LeaveTimeout"), 0);
    assert_eq!(world.reply_to(2, Command::Leave, seconds(0)), Reply::Done);
}

#[test]
fn a_leave_alone_takes_the_propagation_delay() {
    let mut world = World::joined(1, |_, _| {});
    let id = world.command(0, Command::Leave);
    world.run(Duration::from_millis(999));
    assert_eq!(world.replies.get(&id), None);
    world.run(Duration::from_millis(1));
    assert_eq!(world.replies.get(&id), Some(&Reply::Done));
    assert_eq!(world.news(0), ["member-leave a"]);
}

#[test]
fn a_leave_goes_on_when_nobody_hears_of_it_in_time() {
    let short = Duration::from_millis(50);
    let mut world = World::joined(2, |_, config| config.broadcast_timeout = short);
    let force = Command::ForceLeave { name: "nobody".into(), prune: false };
    let late = Reply::Failed(CommandError::RemovalTimedOut);
    assert_eq!(world.reply_to(0, force, seconds(1)), late);
    let late = Reply::Failed(CommandError::UpdateTimedOut);
    assert_eq!(world.reply_to(0, Command::SetTags(Tags::new()), seconds(1)), late);
    world.run(seconds(3));
    let begin = world.now;
    assert_eq!(world.reply_to(0, Command::Leave, seconds(3)), Reply::Done);
    assert_eq!(world.now.since(begin), seconds(1) + 2 * short);
    assert_eq!(world.noted(0, "LeaveTimeout"), 2);
    assert_eq!(world.status(1, 0), Status::Left);
}

#[test]
fn a_leave_delivers_what_is_held() {
    let hours = Duration::from_hours(1);
    let mut world = World::apart(1, |_, config| {
        config.coalesce = Some(Coalesce { period: hours, quiescent: hours });
    });
    world.run(seconds(5));
    assert!(world.events.is_empty());
    assert_eq!(world.reply_to(0, Command::Leave, seconds(1)), Reply::Done);
    assert_eq!(world.news(0), ["member-leave a"]);
}

#[test]
fn failed_members_can_be_forced_to_leave() {
    let mut world = World::joined(3, |_, _| {});
    world.up[2] = false;
    world.run(seconds(60));
    assert_eq!(world.statuses(0), [Status::Alive, Status::Alive, Status::Failed]);
    assert!(world.noted(0, "Reconnecting") + world.noted(0, "ReconnectThrottled") > 0);
    let force = |prune| Command::ForceLeave { name: name(2), prune };
    assert_eq!(world.reply_to(0, force(false), seconds(5)), Reply::Done);
    world.run(seconds(2));
    assert_eq!(world.status(1, 2), Status::Left);
    assert_eq!(world.noted(1, "MemberForcedLeft"), 1);
    assert_eq!(world.reply_to(0, force(true), seconds(5)), Reply::Done);
    world.run(seconds(2));
    for node in 0..2 {
        assert_eq!(world.status(node, 2), Status::None);
        assert_eq!(world.news(node), ["member-failed c", "member-leave c", "member-reap c"]);
    }
    let unknown = Command::ForceLeave { name: "nobody".into(), prune: false };
    assert_eq!(world.reply_to(0, unknown, seconds(5)), Reply::Done);
}

#[test]
fn living_members_refute_a_forced_leave() {
    for count in [2, 3] {
        let mut world = World::joined(count, |_, _| {});
        let force = |prune| Command::ForceLeave { name: name(1), prune };
        let refused = Reply::Failed(CommandError::MemberAlive(name(1)));
        assert_eq!(world.reply_to(0, force(true), seconds(5)), refused);
        assert_eq!(world.reply_to(0, force(false), seconds(5)), Reply::Done);
        world.run(seconds(3));
        for node in 0..count {
            assert_eq!(world.statuses(node), vec![Status::Alive; count], "{node} of {count}");
        }
        assert_eq!(world.noted(1, "RefutedLeave"), 1);
        assert!(world.events.is_empty());
    }
}

#[test]
fn a_prune_waits_for_the_leave_and_looks_again() {
    let mut world = World::joined(3, |_, _| {});
    // Old members send this for a member that is there; it refutes, and nothing is lost.
    let intent = LeaveIntent { ltime: 50, node: b"c", prune: true };
    world.inject(1, 0, &SerfMessage::Leave(intent));
    assert_eq!(world.status(0, 2), Status::Leaving);
    world.run(seconds(10));
    assert_eq!(world.status(0, 2), Status::Alive);
    assert_eq!(world.noted(0, "PruneDropped"), 1);
    // One that goes within the time is forgotten at its end.
    world.command(2, Command::Leave);
    world.run(Duration::from_millis(300));
    let intent = LeaveIntent { ltime: 90, node: b"c", prune: true };
    world.inject(1, 0, &SerfMessage::Leave(intent));
    world.run(Duration::from_millis(5900));
    assert_eq!(world.status(0, 2), Status::Left);
    world.run(Duration::from_millis(200));
    assert_eq!(world.status(0, 2), Status::None);
    assert_eq!(world.news(0), ["member-leave c", "member-reap c"]);
}

#[test]
fn an_event_reaches_everybody_once() {
    let mut world = World::joined(3, |_, _| {});
    let fire = |name: &str, payload: usize| Command::UserEvent {
        name: name.into(),
        payload: Some(vec![b'x'; payload].into()),
        coalesce: true,
    };
    assert_eq!(world.reply_to(1, fire("deploy", 3), seconds(0)), Reply::Done);
    world.run(seconds(5));
    let heard: Vec<_> = world.events.iter().map(|(node, _)| *node).collect();
    assert_eq!(heard.len(), 3, "{:?}", world.events);
    let size = Size::new([("name", 6), ("payload", 507)], 513);
    let too_long = Reply::Failed(CommandError::EventTooLong { limit: 512, size });
    assert_eq!(world.reply_to(1, fire("deploy", 507), seconds(0)), too_long);
    let size = Size::new([("name", 6), ("payload", 506)], 542);
    let too_long = Reply::Failed(CommandError::EncodedEventTooLong { limit: 512, size });
    assert_eq!(world.reply_to(1, fire("deploy", 506), seconds(0)), too_long);
    // Who joins later hears of it, unless it does not want to.
    for ignore_old in [true, false] {
        let mut world = World::apart(2, |_, _| {});
        assert_eq!(world.reply_to(0, fire("deploy", 3), seconds(0)), Reply::Done);
        world.reply_to(1, Command::Join { addrs: vec![addr(0)], ignore_old }, seconds(1));
        world.run(seconds(2));
        let heard = world
            .events
            .iter()
            .filter(|(node, event)| *node == 1 && matches!(event, Event::User { coalesce: false, .. }));
        assert_eq!(heard.count(), usize::from(!ignore_old));
    }
}

/// Starts a query and returns its key.
fn ask(world: &mut World, node: usize, params: QueryParams) -> QueryKey {
    match world.reply_to(node, Command::Query(params), seconds(0)) {
        Reply::QueryStarted { key } => key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_is_acknowledged_answered_and_over() {
    let mut world = World::joined(3, |_, _| {});
    let params = QueryParams { name: "uptime".into(), ack: true, relay_factor: 1, ..QueryParams::default() };
    let key = ask(&mut world, 0, params);
    world.run(seconds(1));
    let respond = |payload: &[u8]| Command::Respond { key, payload: payload.into() };
    for node in 0..3 {
        let long = world.reply_to(node, respond(&[0; 1024]), seconds(0));
        assert!(matches!(long, Reply::Failed(CommandError::ResponseTooLong { limit: 1024, .. })));
        assert_eq!(world.reply_to(node, respond(b"1 day"), seconds(0)), Reply::Done);
        let twice = Reply::Failed(CommandError::AlreadyResponded);
        assert_eq!(world.reply_to(node, respond(b"1 day"), seconds(0)), twice);
    }
    world.run(seconds(1));
    let count = |world: &World, wanted: fn(&Event) -> bool| {
        world.events.iter().filter(|(node, event)| *node == 0 && wanted(event)).count()
    };
    assert_eq!(count(&world, |event| matches!(event, Event::QueryAck { .. })), 3);
    assert_eq!(count(&world, |event| matches!(event, Event::QueryResponse { .. })), 3);
    assert_eq!(count(&world, |event| matches!(event, Event::QueryDone { .. })), 1);
    // Each ack and each answer came directly and through one relay, the last ones after the end.
    assert_eq!(world.noted(0, "ResponseDuplicate") + world.noted(0, "ResponseLate"), 6);
    assert_eq!(world.noted(0, "ResponseUnexpected"), 0);
    world.run(seconds(5));
    assert_eq!(count(&world, |event| matches!(event, Event::QueryDone { .. })), 1);
    let unknown = Command::Respond { key: QueryKey { ltime: 77, id: 1 }, payload: [].into() };
    assert_eq!(world.reply_to(0, unknown, seconds(0)), Reply::Failed(CommandError::UnknownQuery));
}

#[test]
fn a_query_that_nobody_waits_for_any_more_ends_early_and_once() {
    let mut world = World::joined(1, |_, _| {});
    let done = |world: &World| {
        world.events.iter().filter(|(_, event)| matches!(event, Event::QueryDone { .. })).count()
    };
    let hour = Some(seconds(3600));
    let params = || QueryParams { name: "long".into(), timeout: hour, ..QueryParams::default() };
    let key = ask(&mut world, 0, params());
    let other = QueryKey { id: key.id ^ 1, ..key };
    assert_eq!(world.reply_to(0, Command::EndQuery(other), seconds(0)), Reply::Done);
    assert_eq!(done(&world), 0, "it is another one");
    for _ in 0..2 {
        assert_eq!(world.reply_to(0, Command::EndQuery(key), seconds(0)), Reply::Done);
        assert_eq!(done(&world), 1);
    }
    for _ in 0..2 * crate::limits::RUNNING_QUERIES {
        let key = ask(&mut world, 0, params());
        world.reply_to(0, Command::EndQuery(key), seconds(0));
    }
}

#[test]
fn queries_reach_those_whom_they_name() {
    let mut world = World::joined(3, |number, config| {
        config.tags = Tags::from([("role".into(), ["web", "db", "web"][number].into())]);
    });
    let asked = |world: &mut World, params: QueryParams| {
        world.events.clear();
        ask(world, 0, QueryParams { name: "q".into(), ..params });
        world.run(seconds(2));
        let query = |(node, event): &(usize, Event)| matches!(event, Event::Query { .. }).then_some(*node);
        let mut nodes: Vec<_> = world.events.iter().filter_map(query).collect();
        nodes.sort_unstable();
        nodes
    };
    let tags = |expr: &str| QueryParams { tags: vec![("role".into(), expr.into())], ..Default::default() };
    assert_eq!(asked(&mut world, tags("w.b")), [0, 2]);
    assert_eq!(asked(&mut world, QueryParams { nodes: vec!["b".into()], ..tags("") }), [1]);
    // A broken expression is noticed where it was typed, and goes nowhere.
    assert_eq!(asked(&mut world, tags("(")), [0; 0]);
    assert!(matches!(world.events.first(), Some((0, Event::QueryDone { .. }))), "{:?}", world.events);
    assert_eq!((0..3).map(|node| world.noted(node, "FilterInvalid")).collect::<Vec<_>>(), [1, 0, 0]);
    // One that is only too much for this node may be for others.
    assert_eq!(asked(&mut world, tags("(((a{100}){100}){100}){100}")), [0; 0]);
    assert_eq!((0..3).map(|node| world.noted(node, "FilterInvalid")).collect::<Vec<_>>(), [2, 1, 1]);
    // New tags count at once.
    let set = Command::SetTags(Tags::from([("role".into(), "cache".into())]));
    assert_eq!(world.reply_to(2, set, seconds(5)), Reply::Done);
    assert_eq!(asked(&mut world, tags("cache")), [2]);
    assert_eq!(world.noted(1, "MemberUpdated"), 1);
    let long = Command::SetTags(Tags::from([("x".into(), vec![b'y'; 510].into())]));
    let size = Size::new([("names", 1), ("values", 510)], 517);
    let too_long = Reply::Failed(CommandError::TagsTooLong { limit: 512, size });
    assert_eq!(world.reply_to(2, long, seconds(0)), too_long);
}

#[test]
fn a_query_with_too_many_filters_is_neither_heard_nor_passed_on() {
    let mut world = World::joined(3, |_, _| {});
    let mut filter = Vec::new();
    encode_filter(&Filter::Tag { tag: b"role", expr: b"" }, &mut filter);
    let time = |world: &World, node: usize| world.nodes[node].stats().query_time;
    let before = time(&world, 1);
    for (id, count, heard) in [(1, limits::EXPRESSIONS + 1, 0), (2, limits::EXPRESSIONS, 2)] {
        let query = Query {
            ltime: 50,
            id,
            addr: &[127, 0, 0, 1],
            port: 7946,
            source_node: b"a",
            filters: vec![&filter; count],
            name: b"q",
            ..Query::default()
        };
        world.inject(0, 1, &SerfMessage::Query(query));
        assert_eq!(world.noted(1, "FilterLimit"), 1);
        assert_eq!(time(&world, 1) == before, heard == 0);
        world.run(seconds(2));
        let queries =
            world.events.iter().filter(|(node, event)| *node > 0 && matches!(event, Event::Query { .. }));
        assert_eq!(queries.count(), heard);
    }
    assert_eq!(world.noted(2, "FilterLimit"), 0, "it was not passed on");
    let tags = vec![("role".into(), "".into()); limits::EXPRESSIONS + 1];
    let refused = Reply::Failed(CommandError::TooManyFilters(limits::EXPRESSIONS));
    let params = QueryParams { name: "q".into(), tags, ..QueryParams::default() };
    assert_eq!(world.reply_to(0, Command::Query(params), seconds(0)), refused);
}

#[test]
fn what_ends_agents_of_the_reference_is_neither_heard_nor_passed_on() {
    let mut world = World::joined(3, |_, _| {});
    for (number, name) in
        [b"_serf_install-key", b"_serf_remove-key" as &[u8], b"_serf_use-key"].iter().enumerate()
    {
        for (id, payload) in [(1, None), (2, Some(&b""[..]))] {
            let query = Query {
                ltime: 50 + number as u64,
                id,
                addr: &[127, 0, 0, 1],
                port: 7946,
                source_node: b"a",
                name,
                payload,
                ..Query::default()
            };
            world.inject(0, 1, &SerfMessage::Query(query));
        }
    }
    assert_eq!(world.noted(1, "SerfMalformed"), 6);
    assert_eq!(world.nodes[1].stats().query_queue, 0);
    world.run(seconds(2));
    assert_eq!(world.noted(2, "SerfMalformed") + world.noted(2, "KeyQueryFailed"), 0);
}

/// With one time for both, the answers to the first would be taken for answers to the second.
#[test]
fn queries_that_are_started_together_have_times_of_their_own() {
    let mut world = World::joined(2, |_, _| {});
    let mut start = || {
        let params = QueryParams { name: "load".into(), ..QueryParams::default() };
        match world.reply_to(0, Command::Query(params), seconds(0)) {
            Reply::QueryStarted { key } => key.ltime,
            other => panic!("{other:?}"),
        }
    };
    let (first, second) = (start(), start());
    assert!(second > first);
}

#[test]
fn refused_queries_are_not_sent() {
    let mut world = World::joined(1, |_, config| config.protocol = 3);
    let query = |name: &str| Command::Query(QueryParams { name: name.into(), ..Default::default() });
    let refused = |error| Reply::Failed(error);
    assert_eq!(world.reply_to(0, query("x"), seconds(0)), refused(CommandError::NotSupported));
    let mut world = World::joined(1, |_, _| {});
    let reserved = refused(CommandError::ReservedQueryName);
    assert_eq!(world.reply_to(0, query("_serf_list-keys"), seconds(0)), reserved);
    assert!(matches!(world.reply_to(0, query("_serf_ping"), seconds(0)), Reply::QueryStarted { .. }));
    let long = query(&"x".repeat(1024));
    let long = world.reply_to(0, long, seconds(0));
    assert!(matches!(long, Reply::Failed(CommandError::QueryTooLong { limit: 1024, .. })), "{long:?}");
    // No time at all is over at once, and after the reply.
    world.events.clear();
    let timeout = Some(Duration::ZERO);
    let key = ask(&mut world, 0, QueryParams { name: "x".into(), timeout, ..Default::default() });
    assert_eq!(world.events.last(), Some(&(0, Event::QueryDone { key })));
}

#[test]
fn only_responses_to_members_are_relayed() {
    let mut world = World::joined(3, |_, _| {});
    let mut inner = Vec::new();
    let response = Response { ltime: 1, id: 1, from: b"c", flags: 0, payload: None };
    encode_serf(&SerfMessage::Response(response), &mut inner);
    let relay = |addr: &'static [u8], name: &'static [u8], inner| {
        SerfMessage::Relay(Relay { addr, port: 7946, name, inner })
    };
    world.inject(2, 1, &relay(&[127, 0, 0, 1], b"a", &inner));
    world.inject(2, 1, &relay(&[127, 0, 0, 1], b"", &inner));
    assert_eq!(world.noted(0, "ResponseUnexpected"), 2);
    world.inject(2, 1, &relay(&[127, 0, 0, 1], b"c", &inner));
    world.inject(2, 1, &relay(&[10, 0, 0, 1], b"", &inner));
    world.inject(2, 1, &relay(&[127, 0, 0, 1], b"a", &[0, 0x80]));
    assert_eq!(world.noted(1, "RelayRefused"), 3);
    assert_eq!(world.noted(0, "ResponseUnexpected"), 2);
}

#[test]
fn members_are_reaped_in_the_end() {
    let mut world = World::joined(2, |_, config| config.reconnect_timeout = seconds(100));
    world.up[1] = false;
    world.run(seconds(90));
    assert_eq!(world.status(0, 1), Status::Failed);
    world.run(seconds(60));
    assert_eq!(world.statuses(0), [Status::Alive]);
    assert_eq!(world.news(0), ["member-failed b", "member-reap b"]);
    assert!(matches!(world.events[1].1, Event::Members { kind: MemberEventKind::Reap, .. }));
}

#[test]
fn pings_are_acknowledged_under_encryption() {
    let key = || Key::from_bytes(&[7; 32]).unwrap();
    let mut world = World::joined(2, |_, config| {
        config.keyring = Some(Keyring::new(key(), []).unwrap());
    });
    assert!(world.nodes[0].stats().encrypted);
    let key = ask(&mut world, 0, QueryParams { name: "_serf_ping".into(), ack: true, ..Default::default() });
    world.run(seconds(1));
    let acks = world
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::QueryAck { key: of, .. } if *of == key));
    assert_eq!(acks.count(), 2);
    // Internal queries stay inside.
    assert!(!world.events.iter().any(|(_, event)| matches!(event, Event::Query { .. })));
}

/// Sends what an operator's key tool would: a key query that asks for answers at the first node.
fn key_query(world: &mut World, to: usize, number: u32, name: &str, key: &[u8]) {
    let mut payload = Vec::new();
    encode_key_request(key, &mut payload);
    let query = Query {
        ltime: u64::from(number),
        id: number,
        addr: &[127, 0, 0, 1],
        port: 7946,
        source_node: b"a",
        filters: Vec::new(),
        flags: 0,
        relay_factor: 0,
        timeout_ns: 1_000_000_000,
        name: name.as_bytes(),
        payload: Some(&payload),
    };
    world.inject(0, to, &SerfMessage::Query(query));
}

#[test]
fn keys_are_changed_everywhere() {
    let mut world = World::joined(3, |_, config| {
        config.keyring = Some(Keyring::new(Key::from_bytes(&[7; 32]).unwrap(), []).unwrap());
        // The injected query is not encrypted.
        config.verify_incoming = false;
    });
    let steps = [("install", vec![7, 9]), ("use", vec![9, 7])];
    for (number, (verb, expected)) in (50..).zip(steps) {
        key_query(&mut world, 1, number, &format!("_serf_{verb}-key"), &[9; 32]);
        world.run(seconds(1));
        for node in 0..3 {
            let keys: Vec<u8> =
                world.nodes[node].keyring().unwrap().keys().iter().map(|key| key.as_bytes()[0]).collect();
            assert_eq!(keys, expected, "{verb} at {node}");
            assert_eq!(world.noted(node, "KeyQueryFailed"), 0);
        }
    }
    key_query(&mut world, 1, 52, "_serf_remove-key", &[9; 32]);
    world.run(seconds(1));
    assert_eq!((0..3).map(|node| world.noted(node, "KeyQueryFailed")).collect::<Vec<_>>(), [1; 3]);
    key_query(&mut world, 1, 53, "_serf_frobnicate", &[]);
    assert_eq!(world.noted(1, "InternalQueryUnknown"), 1);
}

/// A key query without a payload brings members of the reference down (gossip.md 20.1).
#[test]
fn key_queries_are_never_sent_without_a_payload() {
    let requests = [
        (KeyRequest::List, &b"_serf_list-keys\xa7Payload\xa7\x07\x81\xa3Key\xa0"[..]),
        (KeyRequest::Install(Secret::default()), b"_serf_install-key\xa7Payload\xa7\x07\x81\xa3Key\xa0"),
        (KeyRequest::Use("k".into()), b"_serf_use-key\xa7Payload\xa8\x07\x81\xa3Key\xa1k"),
        (KeyRequest::Remove("k".into()), b"_serf_remove-key\xa7Payload\xa8\x07\x81\xa3Key\xa1k"),
    ];
    for (request, expected) in requests {
        let mut world = World::joined(2, |_, config| config.compression = false);
        let (node, mut out, mut sent) = (&mut world.nodes[0], Outbox::new(), Vec::new());
        let command = Command::Keys(request);
        node.handle(world.now, Input::Command { id: CommandId(9), command }, &mut out);
        while let Some(at) = node.deadline().filter(|at| *at < world.now + seconds(1)) {
            node.handle(at, Input::Tick, &mut out);
        }
        for action in out.actions() {
            if let Action::Send { bytes, .. } = action {
                sent.extend_from_slice(bytes);
            }
        }
        let is_sent = sent.windows(expected.len()).any(|window| window == expected);
        assert!(is_sent, "{}", expected.escape_ascii());
    }
}

#[test]
fn more_changes_than_a_disk_keeps_up_with_are_answered_at_once() {
    let mut world = World::joined(2, |number, config| {
        config.keyring = Some(Keyring::new(Key::from_bytes(&[7; 32]).unwrap(), []).unwrap());
        config.verify_incoming = false;
        config.keyring_file = number == 1;
    });
    let most = limits::HELD_KEY_ANSWERS as u32;
    for number in 0..=most {
        assert_eq!(world.noted(1, "KeyQueryFailed"), 0);
        key_query(&mut world, 1, 50 + number, "_serf_install-key", &[9; 32]);
    }
    // The change itself is not lost: the file is to hold it all the same.
    let tokens: Vec<u64> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::KeyringChanged { token, keys } if keys.len() == 2 => Some(*token),
            _ => None,
        })
        .collect();
    assert_eq!(tokens.len(), most as usize + 1);
    assert_eq!(world.noted(1, "KeyQueryFailed"), 1);
    // Nobody waits for the last one; the others are answered, to a node that did not ask.
    for (token, answers) in [(most as usize, 1), (0, 2), (0, 2)] {
        let kept = Command::KeyringKept { token: tokens[token], result: Ok(()) };
        assert_eq!(world.reply_to(1, kept, seconds(0)), Reply::Done);
        assert_eq!(world.noted(0, "ResponseUnexpected"), answers);
    }
}

#[test]
fn what_a_node_starts_at_once_never_shares_a_time() {
    let mut world = World::joined(3, |_, _| {});
    let fire = |name: &str| Command::UserEvent { name: name.into(), payload: None, coalesce: false };
    let mut times = Vec::new();
    for round in 0..20 {
        world.command(0, Command::Keys(KeyRequest::List));
        times.push(ask(&mut world, 0, QueryParams { name: "q".into(), ..Default::default() }).ltime);
        let broken = vec![("role".into(), "[".into())];
        times.push(
            ask(&mut world, 0, QueryParams { name: "q".into(), tags: broken, ..Default::default() }).ltime,
        );
        world.command(0, fire(&format!("event{round}")));
        world.command(0, fire("event"));
    }
    assert!(times.is_sorted_by(|one, other| one < other), "{times:?}");
    let mut fired: Vec<u64> = world
        .events
        .iter()
        .filter_map(|(node, event)| match event {
            Event::User { ltime, .. } if *node == 0 => Some(*ltime),
            _ => None,
        })
        .collect();
    fired.dedup();
    assert_eq!(fired.len(), 40);
    // No collector was lost on the way: each operation that was not refused gets its report.
    world.run(seconds(5));
    let (reports, refused): (Vec<_>, Vec<_>) =
        world.replies.values().filter(|reply| **reply != Reply::Done).partition(
            |reply| matches!(reply, Reply::Keys(report) if (report.nodes, report.responses) == (3, 3)),
        );
    assert_eq!((reports.len(), refused.len()), (limits::KEY_OPERATIONS, 20 - limits::KEY_OPERATIONS));
}

#[test]
fn the_newcomer_loses_a_name_that_others_know() {
    let twins = |number: usize, config: &mut Config| {
        if number == 2 {
            config.name = name(1);
        }
    };
    let lost = |world: &World| -> Vec<usize> {
        let is_lost = |event: &Event| matches!(event, Event::NameLost { .. });
        world.events.iter().filter(|(_, event)| is_lost(event)).map(|(node, _)| *node).collect()
    };
    let mut world = World::apart(3, twins);
    for node in [1, 2] {
        let join = Command::Join { addrs: vec![addr(0)], ignore_old: true };
        world.reply_to(node, join, seconds(1));
        world.run(seconds(1));
    }
    world.run(seconds(6));
    assert_eq!(lost(&world), [2]);
    assert!(world.noted(0, "NameConflict") > 0 && world.noted(0, "OwnNameConflict") == 0);
    assert!(world.noted(2, "NameConflictLost") == 1 && world.noted(1, "NameConflictLost") == 0);
    // Without anybody to ask, it looks once more and gives way.
    let mut world = World::apart(3, twins);
    let join = Command::Join { addrs: vec![addr(1)], ignore_old: true };
    world.reply_to(2, join, seconds(1));
    world.run(seconds(4));
    assert_eq!(lost(&world), [0; 0]);
    world.run(seconds(10));
    assert_eq!(lost(&world), [2]);
    assert!(world.noted(1, "NameConflictUndecided") + world.noted(2, "NameConflictUndecided") > 0);
}
