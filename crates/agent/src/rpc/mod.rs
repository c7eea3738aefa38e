//! The RPC port: connections of clients, their requests and subscriptions (rpc.md).
//!
//! This file holds all connections and carries to each what concerns it; a [`Session`] is one of them.
//! Bytes and typed messages are those of `villein-rpc`.
//!
//! Invariant: what a client sends or does not read costs its own connection only, and a bounded amount.

mod commands;
mod filter;
mod keys;
mod records;
mod session;
mod stats;
mod streams;

use crate::config::Config;
use crate::cx::{Cx, Waiter};
use crate::escape;
use crate::io::{Conn, ConnEvent};
use crate::limits::{
    RPC_BACKLOG_TOTAL, RPC_CONNECTIONS, RPC_GREETING_BYTES, RPC_HANDSHAKE, RPC_INPUT_BYTES, RPC_QUERIES,
};
use session::{Outcome, Session};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use villein_core::command::{Command, Reply};
use villein_core::member::{Event, QueryKey};
use villein_core::note::Level;
use villein_core::time::Instant;
use villein_rpc::response::{Joined, QueryAnswer, QueryRecord};
use villein_rpc::{Record, Reply as Body};

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) conn: u64,
    pub(crate) seq: u64,
}

/// Which request waits for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// `event`.
    Event,
    /// `force-leave` or `tags`: nothing but its error matters.
    Plain,
    /// `query`.
    Query,
    /// `respond`.
    Respond,
    /// `install-key`, `use-key` or `remove-key`.
    KeyChange,
    /// `list-keys`.
    KeyList,
}

/// All RPC connections.
#[derive(Debug, Default)]
pub(crate) struct Rpc {
    sessions: BTreeMap<u64, Session>,
    /// The connections that still have to introduce themselves, and until when, in the order of that time.
    greeting: VecDeque<(Instant, u64)>,
    /// Who hears about the queries that run; those of clients that have gone run on.
    queries: BTreeMap<QueryKey, Ticket>,
    /// Number of the log line up to which all monitors were looked after.
    lines_seen: u64,
}

impl Rpc {
    /// Takes what happened to a connection.
    pub(crate) fn on_conn(&mut self, conn: u64, event: ConnEvent<'_>, cx: &mut Cx<'_>) {
        if let ConnEvent::Accepted { from } = event {
            self.accept(conn, from, cx);
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        match event {
            ConnEvent::Data(bytes) => session.receive(bytes, cx.clock.now),
            ConnEvent::End => session.end_input(),
            ConnEvent::Drained => session.on_drained(cx),
            ConnEvent::Failed(_) => {
                self.forget(conn);
                return;
            }
            ConnEvent::Accepted { .. } | ConnEvent::Connected => return,
        }
        self.run(conn, cx);
    }

    fn accept(&mut self, conn: u64, from: SocketAddr, cx: &mut Cx<'_>) {
        if self.sessions.len() >= RPC_CONNECTIONS {
            self.make_room(cx);
        }
        let text = format!("Accepted client: {from}");
        cx.log_sparingly("accepted clients", (Level::Info, "agent.ipc"), &text);
        cx.telemetry.count("agent.ipc.accept", cx.clock);
        self.sessions.insert(conn, Session::new(conn, from, cx.clock.now));
        self.greeting.push_back((cx.clock.now + RPC_HANDSHAKE, conn));
    }

    /// Closes a connection, so that nobody who holds many keeps others out.
    fn make_room(&mut self, cx: &mut Cx<'_>) {
        let Some((session, what)) = self.least_needed(cx.config) else { return };
        let (conn, peer) = (session.conn, session.peer);
        let why = format!("Closed the {what} connection of {peer}: a new client takes its place");
        self.turn_out(conn, &why, cx);
    }

    /// Whose place a new client takes, and what there is to say of it: of those that have not introduced themselves,
    /// or else of those that do nothing, the one that is silent for the longest time. Where all are busy it is one of
    /// the address that has the most, and of these the one in the middle by age: whoever was there before a flood of
    /// connections stays, and so does a newcomer where a client left many open.
    fn least_needed(&self, config: &Config) -> Option<(&Session, &'static str)> {
        let asking: BTreeSet<u64> = self.queries.values().map(|ticket| ticket.conn).collect();
        let sessions = || self.sessions.values();
        let silence = |session: &&Session| (session.active_at, session.conn);
        if let Some(silent) = sessions().filter(|session| session.is_greeting(config)).min_by_key(silence) {
            return Some((silent, "silent"));
        }
        let is_idle = |session: &&Session| session.is_idle() && !asking.contains(&session.conn);
        if let Some(idle) = sessions().filter(is_idle).min_by_key(silence) {
            return Some((idle, "idle"));
        }
        let mut held: BTreeMap<IpAddr, Vec<&Session>> = BTreeMap::new();
        for session in sessions() {
            held.entry(session.peer.ip()).or_default().push(session);
        }
        let most = held.into_values().max_by_key(Vec::len)?;
        Some((most[most.len() / 2], "busy"))
    }

    /// Closes the connection of a client that is at fault, or in the way.
    fn turn_out(&mut self, conn: u64, why: &str, cx: &mut Cx<'_>) {
        cx.counters.rpc += 1;
        cx.log_sparingly("refused clients", (Level::Err, "agent.ipc"), &escape::line(why.as_bytes()));
        self.close(conn, cx);
    }

    /// Evaluates the requests that are there, one after the other, until one has to wait.
    fn run(&mut self, conn: u64, cx: &mut Cx<'_>) {
        while let Some(session) = self.sessions.get_mut(&conn)
            && let Some(outcome) = session.step(cx)
        {
            match outcome {
                Outcome::Answered => {}
                Outcome::Finished => self.close(conn, cx),
                Outcome::Refused(why) => self.turn_out(conn, &why, cx),
            }
        }
        if let Some(session) = self.sessions.get(&conn) {
            if session.buffered() > RPC_INPUT_BYTES {
                self.turn_out(conn, "Closed a connection: too many requests wait on it", cx);
            } else if session.is_greeting(cx.config) && session.buffered() > RPC_GREETING_BYTES {
                self.turn_out(conn, "Closed a connection: a long request before it introduced itself", cx);
            }
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.pace(cx);
            if !session.is_greeting(cx.config) {
                self.greeting.retain(|&(_, greeting)| greeting != conn);
            }
        }
    }

    fn close(&mut self, conn: u64, cx: &mut Cx<'_>) {
        if self.forget(conn) {
            cx.out.close(Conn::Rpc(conn));
        }
    }

    fn forget(&mut self, conn: u64) -> bool {
        self.greeting.retain(|&(_, greeting)| greeting != conn);
        self.sessions.remove(&conn).is_some()
    }

    /// Closes all connections, for the end of the process.
    pub(crate) fn close_all(&mut self, cx: &mut Cx<'_>) {
        for conn in std::mem::take(&mut self.sessions).into_keys() {
            cx.out.close(Conn::Rpc(conn));
        }
    }

    /// Answers a request that waited for the node.
    pub(crate) fn on_reply(&mut self, (ticket, awaited): (Ticket, Awaited), reply: &Reply, cx: &mut Cx<'_>) {
        match reply {
            Reply::Failed(why) => {
                let text = commands::refusal(awaited, why, cx);
                self.answer(ticket, Err(text), keys::body_without_answers(awaited).as_ref(), cx);
            }
            Reply::Keys(report) => {
                let (outcome, body) = keys::answer(awaited, report);
                self.answer(ticket, outcome, Some(&body), cx);
            }
            Reply::QueryStarted { key } => {
                self.queries.insert(*key, ticket);
                if self.queries.len() > RPC_QUERIES {
                    self.end_a_query(cx);
                }
                self.answer(ticket, Ok(()), None, cx);
            }
            Reply::Done | Reply::Joined { .. } => self.answer(ticket, Ok(()), None, cx),
        }
    }

    /// Ends a query of a client that has gone, or else the oldest of the client that runs most: nobody can
    /// take the places of all.
    fn end_a_query(&self, cx: &mut Cx<'_>) {
        let mut running = BTreeMap::new();
        for ticket in self.queries.values() {
            *running.entry(ticket.conn).or_insert(0_usize) += 1;
        }
        let weight = |&(conn, count): &(&u64, &usize)| (!self.sessions.contains_key(conn), *count);
        let heaviest = running.iter().max_by_key(weight).map(|(&conn, _)| conn);
        if let Some((&key, _)) = self.queries.iter().find(|(_, ticket)| Some(ticket.conn) == heaviest) {
            cx.command(Waiter::Nobody, Command::EndQuery(key));
        }
    }

    /// Answers `join`.
    pub(crate) fn on_joined(&mut self, ticket: Ticket, result: Result<usize, String>, cx: &mut Cx<'_>) {
        let num = result.as_ref().map_or(0, |&count| i32::try_from(count).unwrap_or(i32::MAX));
        self.answer(ticket, result.map(drop), Some(&Body::Joined(Joined { num })), cx);
    }

    /// Answers `leave`.
    pub(crate) fn on_left(&mut self, ticket: Ticket, result: Result<(), String>, cx: &mut Cx<'_>) {
        self.answer(ticket, result, None, cx);
    }

    fn answer(&mut self, ticket: Ticket, result: Result<(), String>, body: Option<&Body>, cx: &mut Cx<'_>) {
        if let Some(session) = self.sessions.get_mut(&ticket.conn) {
            session.answer_waiting(ticket.seq, result, body, cx);
            self.run(ticket.conn, cx);
        }
    }

    /// Carries an event to the streams that want it, and what belongs to a query to who asked.
    pub(crate) fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) {
        let (key, record) = match event {
            Event::QueryAck { key, from } => {
                (key, QueryRecord::Answer(QueryAnswer::Ack { from: from.as_bytes().into() }))
            }
            Event::QueryResponse { key, from, payload } => {
                let (from, payload) = (from.as_bytes().into(), payload.as_deref().map(<[u8]>::to_vec));
                (key, QueryRecord::Answer(QueryAnswer::Response { from, payload }))
            }
            Event::QueryDone { key } => (key, QueryRecord::Done),
            event => {
                let mut room = self.room();
                for session in self.sessions.values_mut() {
                    session.on_event(event, &mut room, cx);
                }
                return;
            }
        };
        let Some(ticket) = self.queries.get(key).copied() else { return };
        if record == QueryRecord::Done {
            self.queries.remove(key);
        }
        let room = self.room();
        if let Some(session) = self.sessions.get_mut(&ticket.conn) {
            session.put_answer(ticket.seq, &Record::Answer(record), room, cx);
        }
    }

    /// How many bytes of records may still wait on all connections.
    fn room(&self) -> usize {
        RPC_BACKLOG_TOTAL.saturating_sub(self.sessions.values().map(Session::backlog_bytes).sum())
    }

    /// Brings all monitors up to date with the log.
    pub(crate) fn pump_monitors(&mut self, cx: &mut Cx<'_>) {
        if self.lines_seen == cx.log.end() {
            return;
        }
        for session in self.sessions.values_mut() {
            session.report_missed_lines(cx);
        }
        self.lines_seen = cx.log.end();
        for session in self.sessions.values_mut() {
            session.pump_monitor(cx);
        }
    }

    /// Closes connections that did not introduce themselves in time.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        while let Some(&(until, conn)) = self.greeting.front()
            && until <= cx.clock.now
        {
            self.turn_out(conn, "Closed a connection: no handshake or token in time", cx);
        }
    }

    /// When the next connection that has not introduced itself is closed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.greeting.front().map(|&(until, _)| until)
    }
}
