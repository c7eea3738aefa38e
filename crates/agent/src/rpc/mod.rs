//! The RPC port: connections of clients, their requests and subscriptions (rpc.md).
//!
//! This file holds all connections and carries to each what concerns it; a [`Session`] is one of them.
//! Bytes and typed messages are those of `villein-rpc`.
//!
//! Invariant: what a client sends or does not read costs its own connection only, and a bounded amount.

mod commands;
mod filter;
mod records;
mod session;
mod stats;
mod streams;

use crate::cx::Cx;
use crate::escape;
use crate::io::{Conn, ConnEvent};
use crate::limits::{RPC_CONNECTIONS, RPC_HANDSHAKE, RPC_INPUT_BYTES};
use crate::throttle::Throttle;
use session::{Outcome, Session};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use villein_core::command::Reply;
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
}

/// All RPC connections.
#[derive(Debug, Default)]
pub(crate) struct Rpc {
    sessions: BTreeMap<u64, Session>,
    /// Connections in the order of the time at which they must have shaken hands.
    greeting: VecDeque<(Instant, u64)>,
    /// Who hears about the queries that run.
    queries: BTreeMap<QueryKey, Ticket>,
    refused: Throttle,
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
            ConnEvent::Data(bytes) => session.receive(bytes),
            ConnEvent::End => session.end_input(),
            ConnEvent::Drained => session.on_drained(cx),
            ConnEvent::Failed(_) => {
                self.sessions.remove(&conn);
                return;
            }
            ConnEvent::Accepted { .. } | ConnEvent::Connected => return,
        }
        self.run(conn, cx);
    }

    fn accept(&mut self, conn: u64, from: SocketAddr, cx: &mut Cx<'_>) {
        if self.sessions.len() >= RPC_CONNECTIONS {
            cx.counters.rpc += 1;
            cx.out.abort(Conn::Rpc(conn));
            if let Some(total) = self.refused.add(cx.clock.now, 1) {
                let text = format!("Too many clients, refused {from}: {total} refused so far");
                cx.log(Level::Warn, "agent.ipc", &text);
            }
            return;
        }
        cx.log(Level::Info, "agent.ipc", &format!("Accepted client: {from}"));
        self.sessions.insert(conn, Session::new(conn, from));
        self.greeting.push_back((cx.clock.now + RPC_HANDSHAKE, conn));
    }

    /// Evaluates the requests that are there, one after the other, until one has to wait.
    fn run(&mut self, conn: u64, cx: &mut Cx<'_>) {
        while let Some(session) = self.sessions.get_mut(&conn)
            && let Some(outcome) = session.step(cx)
        {
            match outcome {
                Outcome::Answered => {}
                Outcome::Finished => self.close(conn, cx),
                Outcome::Refused(why) => {
                    cx.counters.rpc += 1;
                    cx.log(Level::Err, "agent.ipc", &escape::line(why.as_bytes()));
                    self.close(conn, cx);
                }
            }
        }
        if self.sessions.get(&conn).is_some_and(|session| session.buffered() > RPC_INPUT_BYTES) {
            cx.counters.rpc += 1;
            cx.log(Level::Err, "agent.ipc", "Closed a connection: too many requests wait on it");
            self.close(conn, cx);
        }
    }

    fn close(&mut self, conn: u64, cx: &mut Cx<'_>) {
        if self.sessions.remove(&conn).is_some() {
            cx.out.close(Conn::Rpc(conn));
        }
    }

    /// Closes all connections, for the end of the process.
    pub(crate) fn close_all(&mut self, cx: &mut Cx<'_>) {
        for conn in std::mem::take(&mut self.sessions).into_keys() {
            cx.out.close(Conn::Rpc(conn));
        }
    }

    /// Answers a request that waited for the node.
    pub(crate) fn on_reply(&mut self, (ticket, awaited): (Ticket, Awaited), reply: &Reply, cx: &mut Cx<'_>) {
        if let Reply::Failed(why) = reply {
            let text = commands::refusal(awaited, why, cx);
            self.answer(ticket, Err(text), None, cx);
            return;
        }
        if let Reply::QueryStarted { key } = reply
            && self.sessions.contains_key(&ticket.conn)
        {
            self.queries.insert(*key, ticket);
        }
        self.answer(ticket, Ok(()), None, cx);
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
                for session in self.sessions.values_mut() {
                    session.on_event(event, cx);
                }
                return;
            }
        };
        let Some(ticket) = self.queries.get(key).copied() else { return };
        if record == QueryRecord::Done {
            self.queries.remove(key);
        }
        if let Some(session) = self.sessions.get_mut(&ticket.conn) {
            session.put_answer(ticket.seq, &Record::Answer(record), cx);
        }
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

    /// Closes connections that did not shake hands in time.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        while let Some(&(until, conn)) = self.greeting.front() {
            let waits = self.sessions.get(&conn).is_some_and(Session::is_greeting);
            if waits && until > cx.clock.now {
                return;
            }
            self.greeting.pop_front();
            if waits {
                cx.counters.rpc += 1;
                cx.log(Level::Err, "agent.ipc", "Closed a connection: no handshake in time");
                self.close(conn, cx);
            }
        }
    }

    /// When the oldest connection without a handshake is closed. Early when that one has gone on since.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.greeting.front().map(|&(until, _)| until)
    }
}
