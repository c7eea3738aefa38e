//! Gives an agent its inputs, one at a time, and performs what it asks for, in order.
//!
//! Decides nothing: it keeps the promises of the two sides to each other. The agent hears nothing of a
//! connection that is over (also of one that the runtime goes on reporting), and every child, name and
//! failed datagram is answered exactly once.
//!
//! Invariant: [`turn`](Driver::turn) never waits.

use crate::child::Children;
use crate::clock::Clock;
use crate::console::Console;
use crate::inbox::{Arrival, ConnArrival, Credit, Inbox, Sender};
use crate::limits;
use crate::outlets::Outlets;
use crate::resolve::Resolver;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
#[cfg(any(test, feature = "conformance"))]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Instant;
use villein_agent::Agent;
use villein_agent::io::{Action, ChildStatus, Conn, ConnEvent, ConnOp, Input, Outbox, Socket};
use villein_core::time::Instant as Virtual;
use villein_rpc::system::os_words;

/// What a shell shows for a program that wrote to nobody (SIGPIPE); the agent ends with it when its output
/// has no reader any more, as programs in a pipeline do.
pub const OUTPUT_CLOSED_STATUS: u8 = 128 + 13;

/// What the driver does to the network: five verbs, brought by [`serve`](crate::serve). None of them waits.
pub trait Net {
    /// Sends a datagram now, or says why it was not sent.
    fn send(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) -> io::Result<()>;
    /// Begins to connect; [`ConnArrival::Connected`] or [`ConnArrival::Failed`] follows.
    fn connect(&mut self, conn: Conn, to: SocketAddr);
    /// Writes after everything written before; bytes for a connection that is not there are dropped.
    fn write(&mut self, conn: Conn, bytes: &[u8]);
    /// Delivers what was written, within [`limits::CLOSE_LINGER`], then drops the connection.
    fn close(&mut self, conn: Conn);
    /// Drops the connection and forgets what was not written.
    fn abort(&mut self, conn: Conn);
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Wait for the inbox or the deadline, then take the next turn.
    Continue,
    /// End the process with this status, after what was written has been delivered.
    Exit(u8),
}

/// An agent and its machine.
#[derive(Debug)]
pub struct Driver {
    agent: Agent,
    inbox: Inbox,
    machine: Machine,
    clock: Clock,
    outbox: Outbox,
    started: bool,
    next_overflow: Virtual,
    #[cfg(any(test, feature = "conformance"))]
    turns: Arc<AtomicU64>,
}

/// Everything that actions act on, beside the network.
#[derive(Debug)]
struct Machine {
    /// Answers that needed no waiting; they come before what is in the inbox.
    answers: VecDeque<Arrival>,
    /// Connections that the agent may hear of and write to.
    conns: BTreeMap<Conn, Reading>,
    children: Children,
    resolver: Resolver,
    console: Console,
    outlets: Outlets,
}

/// Whether the agent takes more of a connection.
#[derive(Debug)]
enum Reading {
    /// It does.
    Goes,
    /// It does not; the reader waits for the credit, once it has put something.
    Paused(Option<Credit>),
}

impl Driver {
    /// A driver for an agent that has had no input yet. `sender` leads to `inbox`.
    pub fn new(
        agent: Agent,
        clock: Clock,
        (sender, inbox): (Sender, Inbox),
        console: Console,
        outlets: Outlets,
    ) -> Driver {
        let machine = Machine {
            answers: VecDeque::new(),
            conns: BTreeMap::new(),
            children: Children::new(sender.clone()),
            resolver: Resolver::new(sender),
            console,
            outlets,
        };
        Driver {
            agent,
            inbox,
            machine,
            clock,
            outbox: Outbox::new(),
            started: false,
            next_overflow: Virtual::ORIGIN,
            #[cfg(any(test, feature = "conformance"))]
            turns: Arc::default(),
        }
    }

    /// Handles what has arrived, up to [`limits::ARRIVALS_PER_TURN`], and what is due.
    pub fn turn(&mut self, net: &mut impl Net) -> Turn {
        #[cfg(any(test, feature = "conformance"))]
        self.turns.fetch_add(1, Ordering::Relaxed);
        let mut ended = None;
        if !self.started {
            self.started = true;
            ended = self.give(Input::Started, net);
        }
        for _ in 0..limits::ARRIVALS_PER_TURN {
            if ended.is_some() {
                break;
            }
            let Some(arrival) = self.machine.answers.pop_front().or_else(|| self.inbox.take()) else { break };
            ended = self.take(arrival, net);
        }
        let now = self.clock.now();
        if ended.is_none() && now >= self.next_overflow {
            ended = self.tell_overflow(now, net);
        }
        if ended.is_none() && self.agent.deadline().is_some_and(|deadline| deadline <= now) {
            ended = self.give(Input::Tick, net);
        }
        match ended {
            Some(status) => {
                self.machine.outlets.finish();
                self.machine.console.finish();
                Turn::Exit(status)
            }
            None => Turn::Continue,
        }
    }

    /// Waits until something has arrived. May be dropped at any time without losing anything.
    pub async fn ready(&mut self) {
        if self.machine.answers.is_empty() {
            self.inbox.ready().await;
        }
    }

    /// Whether something has arrived and is not handled yet.
    pub fn is_ready(&self) -> bool {
        !self.machine.answers.is_empty() || self.inbox.is_ready()
    }

    /// When the next turn is due although nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.clock.system(self.agent.deadline()?)
    }

    /// Counts the turns: what an idle agent costs.
    #[cfg(any(test, feature = "conformance"))]
    pub fn turns(&self) -> Arc<AtomicU64> {
        self.turns.clone()
    }

    fn take(&mut self, arrival: Arrival, net: &mut impl Net) -> Option<u8> {
        match arrival {
            Arrival::Datagram { socket, from, bytes } => {
                let ended = self.give(Input::Datagram { socket, from, bytes: &bytes }, net);
                self.inbox.recycle(bytes);
                ended
            }
            Arrival::SendFailed { socket, to, why } => {
                self.give(Input::SendFailed { socket, to, why: &why }, net)
            }
            Arrival::Conn { conn, event } => self.take_conn(conn, event, net),
            Arrival::Resolved { id, result } => {
                let result = result.as_deref().map_err(String::as_str);
                self.give(Input::Resolved { id, result }, net)
            }
            Arrival::ChildExited { id, status, output, output_total } => {
                self.give(Input::ChildExited { id, status, output: &output, output_total }, net)
            }
            Arrival::Saved { id, result } => {
                let result = match &result {
                    Ok(()) => Ok(()),
                    Err(why) => Err(why.as_str()),
                };
                self.give(Input::Saved { id, result }, net)
            }
            Arrival::StoreFailed(why) => self.give(Input::StoreFailed { why: &why }, net),
            Arrival::ConfigRead(result) => {
                let result = result.as_deref().map_err(String::as_str);
                self.give(Input::ConfigRead(result), net)
            }
            Arrival::SinkFailed { sink, why } => self.give(Input::SinkFailed { sink, why: &why }, net),
            Arrival::Signal(signal) => self.give(Input::Signal(signal), net),
            Arrival::OutputClosed => Some(OUTPUT_CLOSED_STATUS),
        }
    }

    fn take_conn(&mut self, conn: Conn, event: ConnArrival, net: &mut impl Net) -> Option<u8> {
        if let ConnArrival::Accepted { .. } = event {
            self.machine.conns.insert(conn, Reading::Goes);
        }
        let is_open = self.machine.conns.contains_key(&conn);
        match event {
            // It was closed or aborted while this was on its way.
            _ if !is_open => None,
            ConnArrival::Accepted { from } => self.give_conn(conn, ConnEvent::Accepted { from }, net),
            ConnArrival::Connected => self.give_conn(conn, ConnEvent::Connected, net),
            ConnArrival::Data { bytes, credit } => {
                let ended = self.give_conn(conn, ConnEvent::Data(&bytes), net);
                self.inbox.recycle(bytes);
                if let Some(Reading::Paused(held)) = self.machine.conns.get_mut(&conn) {
                    *held = Some(credit);
                }
                ended
            }
            ConnArrival::End => self.give_conn(conn, ConnEvent::End, net),
            ConnArrival::Drained => self.give_conn(conn, ConnEvent::Drained, net),
            ConnArrival::Failed(why) => {
                self.machine.conns.remove(&conn);
                net.abort(conn);
                self.give_conn(conn, ConnEvent::Failed(&why), net)
            }
        }
    }

    fn give_conn(&mut self, conn: Conn, event: ConnEvent<'_>, net: &mut impl Net) -> Option<u8> {
        self.give(Input::Conn { conn, event }, net)
    }

    fn tell_overflow(&mut self, now: Virtual, net: &mut impl Net) -> Option<u8> {
        let datagrams = self.inbox.take_dropped();
        if datagrams == 0 {
            return None;
        }
        self.next_overflow = now + limits::OVERFLOW_INTERVAL;
        self.give(Input::Overflow { datagrams }, net)
    }

    /// One input and its actions; `Some` when the agent ends.
    fn give(&mut self, input: Input<'_>, net: &mut impl Net) -> Option<u8> {
        self.agent.handle(self.clock.read(), input, &mut self.outbox);
        let ended = self.outbox.actions().find_map(|action| self.machine.perform(&action, net));
        self.outbox.clear();
        ended
    }
}

impl Machine {
    fn perform(&mut self, action: &Action<'_>, net: &mut impl Net) -> Option<u8> {
        match *action {
            Action::Send { socket, to, bytes } => {
                if let Err(error) = net.send(socket, to, bytes) {
                    self.answers.push_back(Arrival::SendFailed { socket, to, why: os_words(&error) });
                }
            }
            Action::Conn { conn, op } => self.perform_on(conn, op, net),
            Action::Resolve { id, host, port, lookup } => {
                if let Some(result) = self.resolver.resolve(id, host, port, lookup) {
                    self.answers.push_back(Arrival::Resolved { id, result });
                }
            }
            Action::Spawn { id, spawn } => {
                if let Err(why) = self.children.spawn(id, spawn) {
                    let status = ChildStatus::NotStarted(why);
                    self.answers.push_back(Arrival::ChildExited {
                        id,
                        status,
                        output: Vec::new(),
                        output_total: 0,
                    });
                }
            }
            Action::Kill { id, how } => self.children.kill(id, how),
            Action::Save { id, path, bytes } => self.answers.extend(self.outlets.save(id, path, bytes.0)),
            Action::Store(op) => self.answers.extend(self.outlets.store(op)),
            Action::ReadConfig(paths) => self.answers.extend(self.outlets.read_config(paths)),
            Action::Report { sink, bytes } => self.answers.extend(self.outlets.report(sink, bytes)),
            Action::Notify(states) => self.answers.extend(self.outlets.notify(states)),
            Action::Print(bytes) => self.console.print(bytes),
            Action::PrintError(bytes) => self.outlets.print_error(bytes),
            Action::Exit(status) => return Some(status),
        }
        None
    }

    fn perform_on(&mut self, conn: Conn, op: ConnOp<'_>, net: &mut impl Net) {
        match op {
            ConnOp::Connect { to } => {
                self.conns.insert(conn, Reading::Goes);
                net.connect(conn, to);
            }
            ConnOp::Write(bytes) => net.write(conn, bytes),
            ConnOp::Pause => {
                if let Some(reading @ Reading::Goes) = self.conns.get_mut(&conn) {
                    *reading = Reading::Paused(None);
                }
            }
            ConnOp::Resume => {
                if let Some(reading) = self.conns.get_mut(&conn) {
                    *reading = Reading::Goes;
                }
            }
            ConnOp::Close => {
                self.conns.remove(&conn);
                net.close(conn);
            }
            ConnOp::Abort => {
                self.conns.remove(&conn);
                net.abort(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Screen, config};
    use crate::files::tests::Folder;
    use crate::inbox::inbox;
    use crate::sinks::Sinks;
    use crate::snapshot::Snapshot;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use villein_agent::config::{Discover, Family};
    use villein_agent::io::{ChildId, ConfigFile, Contents, Kill, SaveId, Signal, Sink, Spawn, StoreOp};
    use villein_core::mdns::{GROUP_V4, Via};
    use villein_core::snapshot::Restored;

    /// Writes down what it is asked for; nothing is ever sent.
    #[derive(Debug, Default)]
    struct Paper {
        refused: Vec<SocketAddr>,
        ended: Vec<Conn>,
    }

    impl Net for Paper {
        fn send(&mut self, _: Socket, to: SocketAddr, _: &[u8]) -> io::Result<()> {
            self.refused.push(to);
            Err(io::Error::from_raw_os_error(101))
        }

        fn connect(&mut self, _: Conn, _: SocketAddr) {}

        fn write(&mut self, _: Conn, _: &[u8]) {}

        fn close(&mut self, conn: Conn) {
            self.ended.push(conn);
        }

        fn abort(&mut self, conn: Conn) {
            self.ended.push(conn);
        }
    }

    struct Lab {
        driver: Driver,
        sender: Sender,
        screen: Screen,
        net: Paper,
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn lab(discover: Option<Discover>) -> Lab {
        let (clock, screen) = (Clock::new(), Screen::default());
        let mut config = config("alpha", SocketAddr::from(([127, 0, 0, 1], 7946)), "127.0.0.1:7373");
        config.discover = discover;
        let agent = Agent::new(config, [7; 32], Restored::default(), clock.now());
        let (sender, inbox) = inbox();
        let console = Console::new(screen.clone(), sender.clone()).expect("a thread");
        let outlets = Outlets::new(None, Sinks::default(), sender.clone()).expect("threads");
        let driver = Driver::new(agent, clock, (sender.clone(), inbox), console, outlets);
        let mut lab = Lab { driver, sender, screen, net: Paper::default() };
        assert_eq!(lab.driver.turn(&mut lab.net), Turn::Continue);
        lab.screen.wait_for("==> Serf agent running!");
        lab
    }

    impl Lab {
        fn arrive(&mut self, arrival: Arrival) -> Turn {
            self.sender.put_blocking(arrival).expect("there is room");
            self.driver.turn(&mut self.net)
        }

        fn on_conn(&mut self, conn: Conn, event: ConnArrival) {
            assert_eq!(self.arrive(Arrival::Conn { conn, event }), Turn::Continue);
        }

        /// Bytes arrive and are handled; whether their reader may go on.
        fn on_data(&mut self, conn: Conn, bytes: &[u8]) -> bool {
            let sender = self.sender.clone();
            let mut reader = pin!(sender.data(conn, bytes.to_vec()));
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(reader.as_mut().poll(cx).is_pending());
            assert_eq!(self.driver.turn(&mut self.net), Turn::Continue);
            reader.as_mut().poll(cx).is_ready()
        }
    }

    #[test]
    fn signals_and_a_closed_output_end_the_agent() {
        assert_eq!(lab(None).arrive(Arrival::Signal(Signal::Terminate)), Turn::Exit(1));
        assert_eq!(lab(None).arrive(Arrival::OutputClosed), Turn::Exit(OUTPUT_CLOSED_STATUS));
    }

    #[test]
    fn the_agent_hears_nothing_of_a_connection_that_is_over() {
        let mut lab = lab(None);
        let conn = Conn::Rpc(5);
        assert!(lab.on_data(conn, b"\xc1"));
        assert_eq!(lab.net.ended, [], "it was never accepted");
        lab.on_conn(conn, ConnArrival::Accepted { from: peer() });
        assert!(lab.on_data(conn, b"\xc1"));
        assert_eq!(lab.net.ended, [conn], "garbage ends it");
        assert!(lab.on_data(conn, b"\xc1"));
        lab.on_conn(conn, ConnArrival::Failed("late".to_owned()));
        assert_eq!(lab.net.ended, [conn]);
    }

    #[test]
    fn a_connection_that_failed_is_forgotten_by_the_runtime() {
        let mut lab = lab(None);
        let conn = Conn::Rpc(6);
        lab.on_conn(conn, ConnArrival::Accepted { from: peer() });
        lab.on_conn(conn, ConnArrival::Failed("connection reset by peer".to_owned()));
        assert_eq!(lab.net.ended, [conn]);
    }

    #[test]
    fn the_reader_of_a_client_that_does_not_read_waits() {
        let mut lab = lab(None);
        let conn = Conn::Rpc(7);
        lab.on_conn(conn, ConnArrival::Accepted { from: peer() });
        assert!(lab.on_data(conn, b"\x82\xa7Command\xa9handshake\xa3Seq\x01\x81\xa7Version\x01"));
        let stats = b"\x82\xa7Command\xa5stats\xa3Seq\x02".repeat(limits::READ / 20);
        let pieces = (0..100).take_while(|_| lab.on_data(conn, &stats)).count();
        assert!((1..100).contains(&pieces), "{pieces}");
        assert!(matches!(lab.driver.machine.conns.get(&conn), Some(Reading::Paused(Some(_)))));
        let give_up = 100_000;
        let drained = (0..give_up).take_while(|_| {
            lab.on_conn(conn, ConnArrival::Drained);
            matches!(lab.driver.machine.conns.get(&conn), Some(Reading::Paused(Some(_))))
        });
        assert!(drained.count() < give_up, "it goes on when the answers are read");
        assert_eq!(lab.net.ended, []);
    }

    #[test]
    fn a_datagram_that_is_not_sent_is_told() {
        let families = vec![Family::V4];
        let discover = Discover { cluster: "demo".to_owned(), host_name: "vm".to_owned(), families };
        let mut lab = lab(Some(discover));
        while lab.net.refused.is_empty() {
            lab.driver.turn(&mut lab.net);
        }
        assert_eq!(lab.net.refused[0], GROUP_V4);
        lab.driver.turn(&mut lab.net);
        lab.screen.wait_for("network is unreachable");
        assert!(!lab.driver.is_ready());
    }

    #[test]
    fn what_the_agent_wants_of_the_machine_is_answered_once() {
        let folder = Folder::new();
        let (path, kept, snapshot) = (folder.with("c.json", "{}"), folder.at("tags"), folder.at("s"));
        let mut lab = lab(None);
        let (opened, _) = Snapshot::open(&snapshot).expect("nobody else has it");
        lab.driver.machine.outlets =
            Outlets::new(Some(opened), Sinks::default(), lab.sender.clone()).expect("threads");
        let spawn = Spawn {
            command: b"sleep 1000".to_vec(),
            env: Vec::new(),
            unset: Vec::new(),
            stdin: Arc::default(),
            own_group: true,
        };
        let actions = [
            Action::Spawn { id: ChildId(7), spawn: &spawn },
            Action::Kill { id: ChildId(7), how: Kill::AtOnce },
            Action::Save { id: SaveId(8), path: &kept, bytes: Contents(b"{}") },
            Action::ReadConfig(std::slice::from_ref(&path)),
            Action::Report { sink: Sink::Statsd, bytes: b"a:1|c\n" },
            Action::Store(StoreOp::Append(b"clock: 1\n")),
        ];
        for action in actions {
            assert_eq!(lab.driver.machine.perform(&action, &mut lab.net), None);
        }
        assert!(lab.driver.machine.answers.is_empty(), "all of it takes time");
        let mut arrived = Vec::new();
        while arrived.len() < 3 {
            match lab.driver.inbox.take() {
                Some(arrival) => arrived.push(arrival),
                None => std::thread::yield_now(),
            }
        }
        let file = ConfigFile { path: path.display().to_string(), bytes: b"{}".to_vec() };
        let killed = ChildStatus::Signaled(9);
        let (output, output_total) = (Vec::new(), 0);
        for expected in [
            Arrival::ChildExited { id: ChildId(7), status: killed, output, output_total },
            Arrival::Saved { id: SaveId(8), result: Ok(()) },
            Arrival::ConfigRead(Ok(vec![file])),
        ] {
            assert!(arrived.contains(&expected), "{expected:?} is missing in {arrived:?}");
        }
        assert_eq!(lab.arrive(Arrival::Signal(Signal::Terminate)), Turn::Exit(1));
        assert_eq!(lab.driver.inbox.take(), None);
    }

    #[test]
    fn what_is_to_be_kept_is_on_the_disk_at_the_end() {
        const LINES: usize = 500;
        let folder = Folder::new();
        let snapshot = folder.at("s");
        let mut lab = lab(None);
        let (opened, _) = Snapshot::open(&snapshot).expect("nobody else has it");
        lab.driver.machine.outlets =
            Outlets::new(Some(opened), Sinks::default(), lab.sender.clone()).expect("threads");
        for _ in 0..LINES {
            let action = Action::Store(StoreOp::Append(b"clock: 1\n"));
            assert_eq!(lab.driver.machine.perform(&action, &mut lab.net), None);
        }
        assert_eq!(lab.arrive(Arrival::Signal(Signal::Terminate)), Turn::Exit(1));
        let text = std::fs::read_to_string(&snapshot).expect("it is text");
        assert_eq!(text.lines().filter(|line| *line == "clock: 1").count(), LINES);
    }

    #[test]
    fn one_turn_takes_so_many_arrivals() {
        let mut lab = lab(None);
        for _ in 0..=limits::ARRIVALS_PER_TURN {
            lab.sender.datagram(Socket::Mdns(Via::Group), peer(), b"?");
        }
        lab.driver.turn(&mut lab.net);
        assert!(lab.driver.is_ready());
        lab.driver.turn(&mut lab.net);
        assert!(!lab.driver.is_ready());
        assert_eq!(lab.driver.turns().load(Ordering::Relaxed), 3);
    }

    #[test]
    fn dropped_datagrams_are_told() {
        let mut lab = lab(None);
        for _ in 0..limits::INBOX_DATAGRAMS + 5 {
            lab.sender.datagram(Socket::Gossip, peer(), b"?");
        }
        lab.driver.turn(&mut lab.net);
        lab.screen.wait_for("faster than they are handled: 5 so far");
        assert!(lab.driver.next_overflow > Virtual::ORIGIN, "the next report comes later");
    }
}
