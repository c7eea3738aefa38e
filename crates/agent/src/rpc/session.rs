//! One client: where its conversation stands, and what waits to be sent to it.
//!
//! Requests are evaluated strictly one after the other (rpc.md 1): while one waits for the node, or while
//! the client does not read, later ones stay undecoded, and when they are many the connection is not read
//! until they become fewer. Responses are written at once; records of
//! subscriptions wait while too many bytes are under way, and are dropped when too many wait (rpc.md 5.3).
//!
//! Invariant: a response or record is written in one piece, header and body.

use super::streams::{Backlog, Monitor, Room, Stream};
use super::{Ticket, records};
use crate::config::Config;
use crate::cx::Cx;
use crate::io::Conn;
use crate::limits::{RPC_BACKLOG_BYTES, RPC_OPEN_QUERIES, RPC_PIPELINE_BYTES, RPC_WINDOW_BYTES};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use villein_core::member::{Event, QueryKey};
use villein_core::note::Level;
use villein_core::time::Instant;
use villein_rpc::{Decoder, Record, Reply as Body, ResponseHeader};

/// What became of a step of the conversation.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The next request may be evaluated, if there is one and nothing is waited for.
    Answered,
    /// The client has said everything; the connection is to be closed.
    Finished,
    /// The client is at fault, for the log; the connection is to be closed.
    Refused(String),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: u64,
    pub(super) peer: SocketAddr,
    decoder: Decoder,
    /// Whether the client has finished writing.
    ended: bool,
    pub(super) greeted: bool,
    pub(super) authenticated: bool,
    /// Whether a request waits for the node.
    pub(super) waiting: bool,
    /// When the client last sent something, or got what it waited for.
    pub(super) active_at: Instant,
    /// Bytes written and not known to be drained.
    in_flight: usize,
    /// Whether the driver was told not to read.
    paused: bool,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) monitor: Option<Monitor>,
    /// Records of queries that this client runs.
    answers: Backlog,
    /// Queries that the client may answer, by the `ID` of their record.
    open_queries: BTreeMap<u64, (QueryKey, Instant)>,
    last_query_id: u64,
}

impl Session {
    pub(super) fn new(conn: u64, peer: SocketAddr, now: Instant) -> Session {
        Session {
            conn,
            peer,
            decoder: Decoder::new(),
            ended: false,
            greeted: false,
            authenticated: false,
            waiting: false,
            active_at: now,
            in_flight: 0,
            paused: false,
            streams: BTreeMap::new(),
            monitor: None,
            answers: Backlog::default(),
            open_queries: BTreeMap::new(),
            last_query_id: 0,
        }
    }

    /// Whether the handshake, or the token if one is wanted, is still to come.
    pub(super) fn is_greeting(&self, config: &Config) -> bool {
        !self.greeted || !(self.authenticated || config.rpc_auth.is_empty())
    }

    /// Whether the client has neither subscribed to anything nor waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.monitor.is_none() && !self.waiting
    }

    /// Bytes of records that wait for the client to read.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.streams.values().map(|stream| stream.backlog.bytes()).sum::<usize>() + self.answers.bytes()
    }

    fn room(&self, all: usize) -> Room {
        Room { connection: RPC_BACKLOG_BYTES.saturating_sub(self.backlog_bytes()), all }
    }

    /// Bytes of requests that wait.
    pub(super) fn buffered(&self) -> usize {
        self.decoder.buffered()
    }

    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.active_at = now;
        self.decoder.push(bytes);
    }

    /// The client has finished writing: what it subscribed to is over, what it asked is still answered.
    pub(super) fn end_input(&mut self) {
        self.ended = true;
        self.streams.clear();
        self.monitor = None;
        self.answers = Backlog::default();
    }

    /// Evaluates the next request; `None` when there is none, or when it has to wait.
    pub(super) fn step(&mut self, cx: &mut Cx<'_>) -> Option<Outcome> {
        if self.is_busy() {
            return None;
        }
        match self.decoder.next_request() {
            Err(error) => Some(Outcome::Refused(error.to_string())),
            Ok(Some((header, request))) => Some(self.evaluate(header.seq, request, cx)),
            Ok(None) if self.ended => Some(match self.decoder.finish() {
                Ok(()) => Outcome::Finished,
                Err(error) => Outcome::Refused(error.to_string()),
            }),
            Ok(None) => None,
        }
    }

    /// Whether requests have to wait: for the answer to an earlier one, or until the client has read more.
    fn is_busy(&self) -> bool {
        self.waiting || !self.has_room()
    }

    /// Stops and resumes reading, so that requests that have to wait do so at the client.
    pub(super) fn pace(&mut self, cx: &mut Cx<'_>) {
        let full = self.is_busy() && self.buffered() >= RPC_PIPELINE_BYTES;
        if full != self.paused {
            self.paused = full;
            let conn = Conn::Rpc(self.conn);
            if full { cx.out.pause(conn) } else { cx.out.resume(conn) }
        }
    }

    /// Marks the request as waiting for the node.
    pub(super) fn wait(&mut self, seq: u64) -> Ticket {
        self.waiting = true;
        Ticket { conn: self.conn, seq }
    }

    /// Answers the request that waits.
    pub(super) fn answer_waiting(
        &mut self,
        seq: u64,
        result: Result<(), String>,
        body: Option<&Body>,
        cx: &mut Cx<'_>,
    ) {
        self.waiting = false;
        self.active_at = cx.clock.now;
        match result {
            Ok(()) => self.respond(&ResponseHeader::ok(seq), body, cx),
            Err(why) => self.respond(&ResponseHeader::error(seq, why), body, cx),
        }
    }

    /// Writes a response.
    pub(super) fn respond(&mut self, header: &ResponseHeader, body: Option<&Body>, cx: &mut Cx<'_>) {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        if let Some(body) = body {
            body.encode(&mut bytes);
        }
        self.write(&bytes, cx);
    }

    fn write(&mut self, bytes: &[u8], cx: &mut Cx<'_>) {
        self.in_flight += bytes.len();
        cx.out.write(Conn::Rpc(self.conn), bytes);
    }

    /// Everything written has left: records that waited follow.
    pub(super) fn on_drained(&mut self, cx: &mut Cx<'_>) {
        self.in_flight = 0;
        while self.in_flight < RPC_WINDOW_BYTES {
            let streams = self.streams.values_mut().map(|stream| &mut stream.backlog);
            let Some(bytes) = std::iter::once(&mut self.answers).chain(streams).find_map(Backlog::pop) else {
                break;
            };
            self.write(&bytes, cx);
        }
        self.pump_monitor(cx);
    }

    /// Sends an event to each stream that wants it, once; takes from `all` what has to wait.
    pub(super) fn on_event(&mut self, event: &Event, all: &mut usize, cx: &mut Cx<'_>) {
        let mut room = self.room(*all);
        let wanted: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.filter.matches(event))
            .map(|(&seq, _)| seq)
            .collect();
        for seq in wanted {
            let id = match event {
                Event::Query { key, deadline, .. } => self.remember_query(*key, *deadline, cx.clock.now),
                _ => 0,
            };
            let Some(record) = records::of_event(event, id) else { return };
            let bytes = encoded(seq, &record);
            if self.has_room() && self.streams.get(&seq).is_some_and(|stream| stream.backlog.is_empty()) {
                self.write(&bytes, cx);
            } else if let Some(stream) = self.streams.get_mut(&seq)
                && !stream.backlog.push(bytes, &mut room)
                && let Some(total) = stream.backlog.dropped.add(cx.clock.now, 1)
            {
                let text = format!("Dropping event to ipc.client: {} ({total} so far)", self.peer);
                cx.log_hidden(self.conn, Level::Warn, "agent.ipc", &text);
            }
        }
        *all = room.all;
    }

    /// Sends a record of a query that this client runs. The last one is never dropped.
    pub(super) fn put_answer(&mut self, seq: u64, record: &Record, all: usize, cx: &mut Cx<'_>) {
        if self.ended {
            return;
        }
        let mut room = self.room(all);
        let bytes = encoded(seq, record);
        if self.has_room() && self.answers.is_empty() {
            self.write(&bytes, cx);
        } else if matches!(record, Record::Answer(villein_rpc::response::QueryRecord::Done)) {
            self.answers.push_always(bytes);
        } else if !self.answers.push(bytes, &mut room)
            && let Some(total) = self.answers.dropped.add(cx.clock.now, 1)
        {
            let text = format!("Dropping query record to ipc.client: {} ({total} so far)", self.peer);
            cx.log_hidden(self.conn, Level::Warn, "agent.ipc", &text);
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight < RPC_WINDOW_BYTES
    }

    /// Says how many lines the monitor did not get because the client reads too slowly.
    pub(super) fn report_missed_lines(&mut self, cx: &mut Cx<'_>) {
        let first = cx.log.first();
        let Some(monitor) = &mut self.monitor else { return };
        let missed = first.saturating_sub(monitor.next);
        monitor.next = monitor.next.max(first);
        if missed > 0
            && let Some(total) = monitor.missed.add(cx.clock.now, missed)
        {
            let text = format!("Dropping logs to ipc.client: {} ({total} lines so far)", self.peer);
            cx.log_hidden(self.conn, Level::Warn, "agent.ipc", &text);
        }
    }

    /// Sends the monitor the lines that it has not seen, as far as there is room.
    pub(super) fn pump_monitor(&mut self, cx: &mut Cx<'_>) {
        while self.has_room()
            && let Some(monitor) = &mut self.monitor
        {
            let (seq, number) = (monitor.seq, monitor.next.max(cx.log.first()));
            let Some(line) = cx.log.line(number) else { return };
            monitor.next = number + 1;
            if line.level >= monitor.level && line.hidden_from != Some(self.conn) {
                let bytes = encoded(seq, &Record::Log(line.text.as_str().into()));
                self.write(&bytes, cx);
            }
        }
    }

    /// Names a query for this client (rpc.md 5.5).
    fn remember_query(&mut self, key: QueryKey, deadline: Instant, now: Instant) -> u64 {
        self.last_query_id += 1;
        if self.open_queries.len() >= RPC_OPEN_QUERIES {
            self.open_queries.retain(|_, (_, deadline)| *deadline > now);
        }
        if self.open_queries.len() >= RPC_OPEN_QUERIES {
            self.open_queries.pop_first();
        }
        self.open_queries.insert(self.last_query_id, (key, deadline));
        self.last_query_id
    }

    /// The query with this `ID`, while its time is not over.
    pub(super) fn open_query(&mut self, id: u64, now: Instant) -> Option<QueryKey> {
        let &(key, deadline) = self.open_queries.get(&id)?;
        if deadline <= now {
            self.open_queries.remove(&id);
            return None;
        }
        Some(key)
    }
}

fn encoded(seq: u64, record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    ResponseHeader::ok(seq).encode(&mut bytes);
    record.encode(&mut bytes);
    bytes
}
