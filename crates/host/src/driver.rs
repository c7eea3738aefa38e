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
use crate::inbox::{Arrival, ConnArrival, Inbox, Sender};
use crate::limits;
use crate::resolve::Resolver;
use crate::words::os_words;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use villein_agent::Agent;
use villein_agent::io::{Action, ChildStatus, Conn, ConnEvent, ConnOp, Input, Outbox, Socket};
use villein_core::time::Instant as Virtual;

/// What a shell shows for a program that wrote to nobody (SIGPIPE); the agent ends with it when its output has no
/// reader any more, as programs in a pipeline do.
pub const OUTPUT_CLOSED_STATUS: u8 = 128 + 13;

/// The five verbs that a runtime brings. None of them waits.
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
    turns: Arc<AtomicU64>,
}

/// Everything that actions act on, beside the network.
#[derive(Debug)]
struct Machine {
    /// Answers that needed no waiting; they come before what is in the inbox.
    answers: VecDeque<Arrival>,
    /// Connections that the agent may hear of and write to.
    conns: BTreeSet<Conn>,
    children: Children,
    resolver: Resolver,
    console: Console,
}

impl Driver {
    /// A driver for an agent that has had no input yet. `sender` leads to `inbox`.
    pub fn new(agent: Agent, clock: Clock, (sender, inbox): (Sender, Inbox), console: Console) -> Driver {
        let machine = Machine {
            answers: VecDeque::new(),
            conns: BTreeSet::new(),
            children: Children::new(sender.clone()),
            resolver: Resolver::new(sender),
            console,
        };
        Driver {
            agent,
            inbox,
            machine,
            clock,
            outbox: Outbox::new(),
            started: false,
            next_overflow: Virtual::ORIGIN,
            turns: Arc::default(),
        }
    }

    /// Handles what has arrived, up to [`limits::ARRIVALS_PER_TURN`], and what is due.
    pub fn turn(&mut self, net: &mut impl Net) -> Turn {
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
            Arrival::SendFailed { socket, to, why } => self.give(Input::SendFailed { socket, to, why: &why }, net),
            Arrival::Conn { conn, event } => self.take_conn(conn, event, net),
            Arrival::Resolved { id, result } => {
                let result = result.as_deref().map_err(String::as_str);
                self.give(Input::Resolved { id, result }, net)
            }
            Arrival::ChildExited { id, status, output, output_total } => {
                self.give(Input::ChildExited { id, status, output: &output, output_total }, net)
            }
            Arrival::Signal(signal) => self.give(Input::Signal(signal), net),
            Arrival::OutputClosed => Some(OUTPUT_CLOSED_STATUS),
        }
    }

    fn take_conn(&mut self, conn: Conn, event: ConnArrival, net: &mut impl Net) -> Option<u8> {
        if let ConnArrival::Accepted { .. } = event {
            self.machine.conns.insert(conn);
        }
        let is_open = self.machine.conns.contains(&conn);
        match event {
            // It was closed or aborted while this was on its way.
            _ if !is_open => None,
            ConnArrival::Accepted { from } => self.give_conn(conn, ConnEvent::Accepted { from }, net),
            ConnArrival::Connected => self.give_conn(conn, ConnEvent::Connected, net),
            ConnArrival::Data(bytes) => {
                let ended = self.give_conn(conn, ConnEvent::Data(&bytes), net);
                self.inbox.recycle(bytes);
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
        let ended = self.outbox.actions().find_map(|action| self.machine.perform(action, net));
        self.outbox.clear();
        ended
    }
}

impl Machine {
    fn perform(&mut self, action: Action<'_>, net: &mut impl Net) -> Option<u8> {
        match action {
            Action::Send { socket, to, bytes } => {
                if let Err(error) = net.send(socket, to, bytes) {
                    self.answers.push_back(Arrival::SendFailed { socket, to, why: os_words(&error) });
                }
            }
            Action::Conn { conn, op } => self.perform_on(conn, op, net),
            Action::Resolve { id, host, port } => {
                if let Some(result) = self.resolver.resolve(id, host, port) {
                    self.answers.push_back(Arrival::Resolved { id, result });
                }
            }
            Action::Spawn { id, spawn } => {
                if let Err(why) = self.children.spawn(id, spawn) {
                    let status = ChildStatus::NotStarted(why);
                    self.answers.push_back(Arrival::ChildExited { id, status, output: Vec::new(), output_total: 0 });
                }
            }
            Action::Print(bytes) => self.console.print(bytes),
            Action::Exit(status) => return Some(status),
        }
        None
    }

    fn perform_on(&mut self, conn: Conn, op: ConnOp<'_>, net: &mut impl Net) {
        match op {
            ConnOp::Connect { to } => {
                self.conns.insert(conn);
                net.connect(conn, to);
            }
            ConnOp::Write(bytes) => net.write(conn, bytes),
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
