//! A node with everything that an operator sees of it: takes what happened, says what must be done.
//!
//! This file only dispatches: inputs to the parts and to the node, the node's actions to the parts, and
//! the errands that parts leave for each other, until nothing is left to do.

use crate::answers;
use crate::config::Config;
use crate::cx::{Counters, Cx, Errand, Waiter};
use crate::discovery::Discovery;
use crate::escape;
use crate::invoke::Invoker;
use crate::io::{Clock, ConfigFile, Conn, ConnEvent, Input, Outbox, Signal, Sink, Socket};
use crate::join::{Ended, Joins, Purpose};
use crate::keeping::Keeping;
use crate::lifecycle::Lifecycle;
use crate::log::Log;
use crate::notify::Notifier;
use crate::reach::Reach;
use crate::reload::Reloading;
use crate::rpc::Rpc;
use crate::seeds::Seeds;
use crate::telemetry::Telemetry;
use crate::throttle::Throttle;
use std::collections::{BTreeMap, VecDeque};
use villein_core::Node;
use villein_core::command::{CommandId, Reply};
use villein_core::io as node_io;
use villein_core::io::{StreamEvent, StreamId, StreamOp};
use villein_core::mdns;
use villein_core::member::Event;
use villein_core::note::{Component, Level, Note};
use villein_core::rng::Rng;
use villein_core::snapshot::Restored;
use villein_core::time::Instant;

/// One agent as a deterministic state machine.
///
/// The contract is that of [`Node`]: one input at a time, [`Input::Started`] first; the actions in the
/// [`Outbox`] are performed in their order before the next input; [`Input::Tick`] comes at or after
/// [`deadline`](Agent::deadline). Equal arguments and equal inputs make equal actions.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    clock: Clock,
    node: Node,
    node_out: node_io::Outbox,
    /// Who waits for which command of the node.
    waiters: BTreeMap<CommandId, Waiter>,
    next_command: u64,
    errands: VecDeque<Errand>,
    counters: Counters,
    overflow: Throttle,
    log: Log,
    telemetry: Telemetry,
    lifecycle: Lifecycle,
    joins: Joins,
    seeds: Seeds,
    invoker: Invoker,
    rpc: Rpc,
    discovery: Option<Discovery>,
    reach: Reach,
    keeping: Keeping,
    reloading: Reloading,
    notifier: Option<Notifier>,
}

/// Calls a method of a part with the surroundings that are made of all other fields.
macro_rules! with_cx {
    ($agent:ident, $out:expr, |$cx:ident| $body:expr) => {{
        let $cx = &mut Cx {
            clock: $agent.clock,
            config: &$agent.config,
            node: &$agent.node,
            counters: &mut $agent.counters,
            log: &mut $agent.log,
            telemetry: &mut $agent.telemetry,
            errands: &mut $agent.errands,
            out: $out,
        };
        $body
    }};
}

impl Agent {
    /// An agent that has not started, with what its snapshot says. The seed is split between the node,
    /// multicast discovery and the healing of the cluster.
    pub fn new(config: Config, seed: [u8; 32], restored: Restored, now: Instant) -> Agent {
        let mut rng = Rng::new(seed);
        let [node_seed, mdns_seed, healing_seed] = std::array::from_fn(|_| draw_seed(&mut rng));
        let discovery =
            config.discover.as_ref().map(|discover| Discovery::new(discover, &config.node, mdns_seed, now));
        Agent {
            clock: Clock { now, unix_seconds: 0, offset_seconds: 0 },
            seeds: Seeds::new(&restored.seeds, healing_seed),
            node: Node::new(config.node.clone(), node_seed, restored, now),
            node_out: node_io::Outbox::new(),
            waiters: BTreeMap::new(),
            next_command: 0,
            errands: VecDeque::new(),
            counters: Counters::default(),
            overflow: Throttle::default(),
            log: Log::new(&config),
            telemetry: Telemetry::new(&config),
            lifecycle: Lifecycle::new(),
            joins: Joins::default(),
            invoker: Invoker::new(&config.handlers),
            rpc: Rpc::default(),
            discovery,
            reach: Reach::new(&config),
            keeping: Keeping::default(),
            reloading: Reloading::new(&config),
            notifier: config.service_manager.map(Notifier::new),
            config,
        }
    }

    /// Takes one thing that happened; appends what must be done, in order. After an exit was asked for
    /// nothing more is done.
    pub fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Outbox) {
        self.clock = Clock { now: self.clock.now.max(clock.now), ..clock };
        if self.lifecycle.is_done() {
            return;
        }
        self.log.end_bursts(self.clock, out);
        self.begin_interval();
        if !matches!(input, Input::SendFailed { .. }) {
            with_cx!(self, out, |cx| self.reach.look(cx));
        }
        let is_tick = matches!(input, Input::Tick);
        match input {
            Input::Started => self.start(out),
            Input::Tick => self.tell_node(node_io::Input::Tick, out),
            Input::Datagram { socket: Socket::Gossip, from, bytes } => {
                self.tell_node(node_io::Input::Datagram { from, bytes }, out);
            }
            Input::Datagram { socket: Socket::Mdns(via), from, bytes } => {
                self.tell_discovery(mdns::Input::Packet { via, from, bytes }, out);
            }
            Input::SendFailed { socket: Socket::Gossip, to, why } => {
                with_cx!(self, out, |cx| self.reach.on_failed(to, why, cx));
            }
            Input::SendFailed { socket: Socket::Mdns(via), to, why } => {
                self.tell_discovery(mdns::Input::Failed { via, to, reason: why }, out);
            }
            Input::Conn { conn: Conn::Rpc(conn), event } => {
                with_cx!(self, out, |cx| self.rpc.on_conn(conn, event, cx));
            }
            Input::Conn { conn: Conn::Gossip(id), event } => self.on_gossip_stream(id, event, out),
            Input::Resolved { id, result } => {
                with_cx!(self, out, |cx| self.joins.on_resolved(id, result, cx));
            }
            Input::ChildExited { id, status, output, output_total } => {
                with_cx!(self, out, |cx| self.invoker.on_child((id, &status), output, output_total, cx));
            }
            Input::Signal(Signal::User1) => out.print_error(self.telemetry.dump(self.clock).as_bytes()),
            Input::Signal(signal) => with_cx!(self, out, |cx| self.lifecycle.on_signal(signal, cx)),
            Input::Saved { id, result } => with_cx!(self, out, |cx| self.keeping.on_saved(id, result, cx)),
            Input::StoreFailed { why } => self.tell_node(node_io::Input::StoreFailed { why }, out),
            Input::ConfigRead(result) => self.on_config_read(result, out),
            Input::SinkFailed { sink, why } => self.on_sink_failed(sink, why, out),
            Input::Overflow { datagrams } => self.on_overflow(datagrams, out),
        }
        self.on_time(out);
        self.run_errands(out);
        if self.lifecycle.is_done() {
            return;
        }
        with_cx!(self, out, |cx| self.rpc.pump_monitors(cx));
        self.telemetry.take_values(&mut self.node, self.clock);
        if self.telemetry.is_due(self.clock) {
            self.telemetry.flush(out);
        }
        if let Some(notifier) = &mut self.notifier {
            notifier.look(self.clock.now, is_tick, (&self.lifecycle, &self.node), out);
        }
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn deadline(&self) -> Option<Instant> {
        if self.lifecycle.is_done() {
            return None;
        }
        let own = [
            self.lifecycle.deadline(),
            self.seeds.deadline(),
            self.invoker.deadline(),
            self.rpc.deadline(),
            self.log.deadline(),
            self.telemetry.deadline(),
            self.discovery.as_ref().map(Discovery::deadline),
            self.notifier.as_ref().and_then(Notifier::deadline),
        ];
        own.into_iter().chain([self.node.deadline()]).flatten().min()
    }

    /// The node inside.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What was measured so far belongs to the interval in which it happened.
    fn begin_interval(&mut self) {
        if self.telemetry.is_interval_over(self.clock) {
            self.telemetry.take_tallies(&mut self.node);
            self.telemetry.begin_interval(self.clock);
        }
    }

    fn start(&mut self, out: &mut Outbox) {
        self.telemetry.begin_interval(self.clock);
        self.node.log_values(self.telemetry.has_sinks());
        with_cx!(self, out, |cx| Lifecycle::start(cx));
        self.tell_node(node_io::Input::Tick, out);
        with_cx!(self, out, |cx| self.lifecycle.begin_start_join(cx));
    }

    /// Lets everything happen that is due in the agent's own parts.
    fn on_time(&mut self, out: &mut Outbox) {
        let now = self.clock.now;
        if self.discovery.as_ref().is_some_and(|discovery| discovery.deadline() <= now) {
            self.tell_discovery(mdns::Input::Tick, out);
        }
        with_cx!(self, out, |cx| {
            self.lifecycle.on_tick(cx);
            self.seeds.on_tick(cx);
            self.invoker.on_tick(cx);
            self.rpc.on_tick(cx);
        });
    }

    fn tell_discovery(&mut self, input: mdns::Input<'_>, out: &mut Outbox) {
        if let Some(discovery) = &mut self.discovery {
            with_cx!(self, out, |cx| discovery.handle(input, cx));
        }
    }

    fn on_gossip_stream(&mut self, id: StreamId, event: ConnEvent<'_>, out: &mut Outbox) {
        let event = match event {
            ConnEvent::Accepted { from } => StreamEvent::Accepted { from },
            ConnEvent::Connected => StreamEvent::Connected,
            ConnEvent::Data(bytes) => StreamEvent::Data(bytes),
            ConnEvent::End => StreamEvent::End,
            ConnEvent::Failed(why) => StreamEvent::Failed(why),
            ConnEvent::Drained => return,
        };
        self.tell_node(node_io::Input::Stream { id, event }, out);
    }

    /// SIGHUP: the files are as they are now.
    fn on_config_read(&mut self, result: Result<&[ConfigFile], &str>, out: &mut Outbox) {
        let tags = self.node.local_member().tags;
        let plan = result.map_err(str::to_owned);
        let plan = match plan.and_then(|files| self.reloading.plan(files, &self.config, &tags)) {
            Ok(plan) => plan,
            Err(message) => {
                return with_cx!(self, out, |cx| {
                    cx.announce(&message);
                    cx.announce("Failed to reload configs");
                    let why: Vec<&str> = message.split_whitespace().collect();
                    let text = format!("configuration not read again: {}", why.join(" "));
                    cx.log(Level::Err, "agent", &escape::line(text.as_bytes()));
                    cx.errand(Errand::Reloaded);
                });
            }
        };
        if let Ok(level) = plan.log_level {
            self.log.set_level(level);
            self.config.log_level = level;
        }
        self.config.handlers = plan.handlers;
        self.config.leave_on_terminate = plan.leave_on_terminate;
        self.config.skip_leave_on_interrupt = plan.skip_leave_on_interrupt;
        with_cx!(self, out, |cx| {
            for notice in plan.notices.iter().chain(plan.log_level.as_ref().err()) {
                cx.announce(notice);
            }
            self.invoker.replace_handlers(&cx.config.handlers, cx);
            match plan.tags {
                Ok(Some(change)) => cx.errand(Errand::ChangeTags(Waiter::Reload, change)),
                Ok(None) => cx.errand(Errand::Reloaded),
                Err(why) => {
                    cx.announce(&format!("Failed to update tags: {why}"));
                    cx.errand(Errand::Reloaded);
                }
            }
            for warning in plan.warnings {
                cx.log(Level::Warn, "agent", &escape::line(warning.as_bytes()));
            }
            cx.log(Level::Info, "agent", "configuration read again");
        });
    }

    fn on_sink_failed(&mut self, sink: Sink, why: &str, out: &mut Outbox) {
        if let Some(text) = self.telemetry.on_failed(sink, why) {
            with_cx!(self, out, |cx| cx.log(Level::Warn, "agent", &text));
        }
    }

    fn on_overflow(&mut self, datagrams: u64, out: &mut Outbox) {
        self.counters.overflow += datagrams;
        if let Some(total) = self.overflow.add(self.clock.now, datagrams) {
            let text = format!("dropped packets that came faster than they are handled: {total} so far");
            with_cx!(self, out, |cx| cx.log(Level::Warn, "memberlist", &text));
        }
    }

    /// Gives the node an input and carries out what it wants.
    fn tell_node(&mut self, input: node_io::Input<'_>, out: &mut Outbox) {
        let mut node_out = std::mem::take(&mut self.node_out);
        self.node.handle(self.clock.now, input, &mut node_out);
        for action in node_out.actions() {
            match action {
                node_io::Action::Send { to, bytes } => {
                    self.reach.on_sent(self.clock.now, to);
                    out.send(Socket::Gossip, to, bytes);
                }
                node_io::Action::Stream { id, op } => {
                    let conn = Conn::Gossip(id);
                    match op {
                        StreamOp::Connect { to } => out.connect(conn, to),
                        StreamOp::Write(bytes) => out.write(conn, bytes),
                        StreamOp::Close => out.close(conn),
                        StreamOp::Abort => out.abort(conn),
                    }
                }
                node_io::Action::Store(op) => {
                    self.telemetry.on_store(op, self.clock);
                    out.store(op);
                }
                node_io::Action::Reply { id, reply } => self.on_reply(id, reply, out),
                node_io::Action::Event(event) => self.on_event(event, out),
                node_io::Action::Note(note) => self.on_note(note, out),
            }
        }
        node_out.clear();
        self.node_out = node_out;
    }

    fn on_note(&mut self, note: &Note, out: &mut Outbox) {
        let (kind, count) = match note {
            Note::MoreAlike { name, count } => (*name, *count as u64),
            _ => (note.name(), 1),
        };
        *self.counters.notes.entry(kind).or_default() += count;
        let component = match note.component() {
            Component::Memberlist => "memberlist",
            Component::Serf => "serf",
        };
        // The life of the cluster is told in full; what others do wrong could go on without end.
        let speaker = (note.level(), component);
        if note.level() == Level::Info || self.log.admits(note.name(), speaker, self.clock.now) {
            let text = escape::line(note.to_string().as_bytes());
            with_cx!(self, out, |cx| cx.log(note.level(), component, &text));
        }
    }

    fn on_event(&mut self, event: &Event, out: &mut Outbox) {
        let received = match event {
            Event::Members { kind, .. } => Some(kind.name().to_owned()),
            Event::User { name, .. } => Some(format!("user-event: {}", escape::line(name))),
            Event::Query { name, .. } => Some(format!("query: {}", escape::line(name))),
            Event::NameLost { matching, responses } => {
                let votes = (*matching, *responses);
                with_cx!(self, out, |cx| self.lifecycle.on_name_lost(votes, cx));
                return;
            }
            Event::KeyringChanged { token, keys } => {
                with_cx!(self, out, |cx| self.keeping.keep_keyring(*token, keys, cx));
                return;
            }
            Event::QueryAck { .. } | Event::QueryResponse { .. } | Event::QueryDone { .. } => None,
        };
        match event {
            Event::User { name, .. } => self.telemetry.count(&format!("serf.events.{name}"), self.clock),
            Event::Query { name, .. } => self.telemetry.count(&format!("serf.queries.{name}"), self.clock),
            _ => {}
        }
        with_cx!(self, out, |cx| {
            if let Some(received) = received {
                cx.log(Level::Info, "agent", &format!("Received event: {received}"));
                self.invoker.on_event(event, cx);
            }
            // On one connection the lines that led to an event come before it.
            self.rpc.pump_monitors(cx);
            self.rpc.on_event(event, cx);
        });
    }

    fn on_reply(&mut self, id: CommandId, reply: &Reply, out: &mut Outbox) {
        if let Some(waiter) = self.waiters.remove(&id) {
            self.answer(waiter, reply, out);
        }
    }

    fn answer(&mut self, waiter: Waiter, reply: &Reply, out: &mut Outbox) {
        with_cx!(self, out, |cx| match waiter {
            Waiter::Join(number) => self.joins.on_reply(number, reply, cx),
            Waiter::Leave => self.lifecycle.on_left(reply, cx),
            Waiter::Nobody => {}
            Waiter::Reload => {
                if let Reply::Failed(why) = reply {
                    cx.announce(&format!("Failed to update tags: {why}"));
                }
                cx.errand(Errand::Reloaded);
            }
            Waiter::Rpc(ticket, awaited) => self.rpc.on_reply((ticket, awaited), reply, cx),
            Waiter::Script(query) => {
                if let Reply::Failed(why) = reply {
                    answers::log_unanswered(&query, why, cx);
                }
            }
        });
    }

    /// Carries out what the parts left for each other. An exit is the last errand.
    fn run_errands(&mut self, out: &mut Outbox) {
        while let Some(errand) = self.errands.pop_front() {
            match errand {
                Errand::Command(waiter, command) => {
                    let id = CommandId(self.next_command);
                    self.next_command += 1;
                    self.waiters.insert(id, waiter);
                    self.tell_node(node_io::Input::Command { id, command }, out);
                }
                Errand::Join { purpose, texts, replay } => {
                    with_cx!(self, out, |cx| self.joins.begin(purpose, &texts, replay, cx));
                }
                Errand::JoinEnded(ended) => self.on_join_ended(ended, out),
                Errand::ChangeTags(waiter, change) => {
                    with_cx!(self, out, |cx| self.keeping.change_tags(waiter, change, cx));
                }
                Errand::KeepNext => with_cx!(self, out, |cx| self.keeping.go_on(cx)),
                Errand::Reply(waiter, reply) => self.answer(waiter, &reply, out),
                Errand::Running => with_cx!(self, out, |cx| self.seeds.begin(cx)),
                Errand::Reload => {
                    if let Some(notifier) = &mut self.notifier {
                        notifier.begin_reload(out);
                    }
                    out.read_config(self.config.sources.paths.clone());
                }
                Errand::Reloaded => {
                    if let Some(notifier) = &mut self.notifier {
                        notifier.end_reload();
                    }
                }
                Errand::Leave(client) => {
                    self.seeds.stop();
                    with_cx!(self, out, |cx| self.lifecycle.leave(client, cx));
                }
                Errand::LeaveEnded(ticket, result) => {
                    with_cx!(self, out, |cx| self.rpc.on_left(ticket, result, cx));
                }
                Errand::Exit(status) => self.exit(status, out),
            }
        }
    }

    /// Says what is still to be said; nothing is done after an exit.
    fn exit(&mut self, status: u8, out: &mut Outbox) {
        self.log.finish(self.clock, out);
        with_cx!(self, out, |cx| {
            self.rpc.pump_monitors(cx);
            self.rpc.close_all(cx);
        });
        self.telemetry.take_values(&mut self.node, self.clock);
        self.telemetry.flush(out);
        if let Some(notifier) = &mut self.notifier {
            notifier.stop(None, out);
        }
        out.exit(status);
        self.errands.clear();
    }

    fn on_join_ended(&mut self, ended: Ended, out: &mut Outbox) {
        with_cx!(self, out, |cx| {
            // Whom multicast finds it finds again.
            if ended.purpose != Purpose::Discovery {
                self.seeds.on_reached(&ended.reached, cx);
            }
            match ended.purpose {
                Purpose::Start => self.lifecycle.on_start_join(ended.result, cx),
                Purpose::Retry => {
                    if self.seeds.on_retried(&ended, cx) {
                        self.lifecycle.fail(cx);
                    }
                }
                Purpose::Healing { .. } => self.seeds.on_healed(cx),
                Purpose::Rpc(ticket) => self.rpc.on_joined(ticket, ended.result, cx),
                Purpose::Discovery => Discovery::on_joined(ended.result, cx),
            }
        });
    }
}

fn draw_seed(rng: &mut Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    for chunk in seed.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.u64().to_le_bytes());
    }
    seed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use crate::io::Action;
    use crate::limits::RPC_HANDSHAKE;
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::config::Config as NodeConfig;
    use villein_core::exchange_error::ExchangeError;
    use villein_core::member::WireAddr;
    use villein_core::time::Duration;
    use villein_rpc::Request;
    use villein_rpc::request::{Handshake, VERSION};

    fn config() -> Config {
        let addr = WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let machine = Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 };
        Config::new(NodeConfig::new("same".into(), addr, 7946), machine)
    }

    #[test]
    fn who_has_shaken_hands_leaves_nothing_to_wait_for() {
        let mut agent = Agent::new(config(), [1; 32], Restored::default(), Instant::ORIGIN);
        let clock = Clock { now: Instant::ORIGIN, unix_seconds: 0, offset_seconds: 0 };
        let from = "127.0.0.1:40000".parse().expect("the address is valid");
        let mut handshake = Vec::new();
        Request::Handshake(Handshake { version: VERSION }).encode(0, &mut handshake);
        let broken = ConnEvent::Failed("connection reset by peer");
        for event in [ConnEvent::Data(&handshake), broken, ConnEvent::End] {
            assert_eq!(agent.rpc.deadline(), None);
            for event in [ConnEvent::Accepted { from }, event] {
                agent.handle(clock, Input::Conn { conn: Conn::Rpc(1), event }, &mut Outbox::new());
                let waits = event == ConnEvent::Accepted { from };
                assert_eq!(agent.rpc.deadline(), waits.then_some(Instant::ORIGIN + RPC_HANDSHAKE));
            }
            agent.handle(clock, Input::Conn { conn: Conn::Rpc(1), event: broken }, &mut Outbox::new());
        }
    }

    #[test]
    fn an_attempt_that_found_no_room_here_does_not_count() {
        let config = Config { retry_join: vec!["127.0.0.2".to_owned()], retry_max: 1, ..config() };
        let mut agent = Agent::new(config, [1; 32], Restored::default(), Instant::ORIGIN);
        let mut clock = Clock { now: Instant::ORIGIN, unix_seconds: 0, offset_seconds: 0 };
        let mut out = Outbox::new();
        agent.handle(clock, Input::Started, &mut out);
        let to = "127.0.0.2:7946".parse().expect("the address is valid");
        for (round, error) in
            [ExchangeError::TooMany, ExchangeError::TooMany, ExchangeError::TimedOut, ExchangeError::TimedOut]
                .into_iter()
                .enumerate()
        {
            assert!(!agent.lifecycle.is_done(), "round {round}");
            let mut joins = agent.waiters.iter().filter(|(_, waiter)| matches!(waiter, Waiter::Join(_)));
            let (&id, _) = joins.next_back().expect("an attempt is under way");
            agent.on_reply(id, &Reply::Joined { contacted: 0, failures: vec![(to, error)] }, &mut out);
            agent.run_errands(&mut out);
            clock.now = clock.now + Duration::from_secs(30);
            agent.handle(clock, Input::Tick, &mut out);
        }
        assert!(agent.lifecycle.is_done());
    }

    /// The vote itself is the node's; here it is what an operator sees of its outcome.
    #[test]
    fn a_lost_name_ends_the_process_as_a_failure() {
        let mut agent = Agent::new(config(), [1; 32], Restored::default(), Instant::ORIGIN);
        let clock = Clock { now: Instant::ORIGIN, unix_seconds: 0, offset_seconds: 0 };
        agent.handle(clock, Input::Started, &mut Outbox::new());
        let mut out = Outbox::new();
        agent.on_event(&Event::NameLost { matching: 0, responses: 1 }, &mut out);
        agent.run_errands(&mut out);
        let mut printed = String::new();
        let mut status = None;
        for action in out.actions() {
            match action {
                Action::Print(bytes) => printed.push_str(&String::from_utf8_lossy(bytes)),
                Action::Exit(exit) => status = Some(exit),
                other => panic!("nothing else is done: {other:?}"),
            }
        }
        assert_eq!(status, Some(1));
        assert_eq!(printed.matches("[WARN] serf: Shutdown without a Leave\n").count(), 1, "{printed}");
        assert!(printed.contains("[WARN] agent: Serf shutdown detected, quitting\n"), "{printed}");
        assert!(printed.contains("==> Error: another node has the name 'same'"), "{printed}");
        assert!(printed.ends_with("[INFO] agent: shutdown complete\n"), "{printed}");
        assert_eq!(agent.deadline(), None);
    }
}
