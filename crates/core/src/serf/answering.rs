//! Queries of others, and our own as anybody else sees them: heard once, acknowledged, given to the
//! application, answered, relayed (gossip.md 13.10).
//!
//! The invariant: a query is answered at most once and never after its deadline.

use super::Serf;
use super::clock::Clock;
use super::filters;
use super::internal::is_harmful;
use super::ring::{Heard, Ring};
use crate::broadcast::SerfQueue;
use crate::command::{CommandError, Size};
use crate::cx::Cx;
use crate::limits;
use crate::member::{Event, Member, QueryKey, Status, WireAddr};
use crate::metric::Metric;
use crate::note::Note;
use crate::swim::send_user;
use crate::text::Text;
use crate::time::{Duration, Instant};
use crate::wire::message::{Query, Relay, Response, SerfMessage, flags};
use crate::wire::serf::decode_serf;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The first memberlist protocol whose nodes relay (gossip.md 13.10).
const RELAY_PROTOCOL: u8 = 5;

/// Where answers to a query go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asker {
    pub(super) key: QueryKey,
    pub(super) addr: WireAddr,
    pub(super) port: u16,
    pub(super) node: Text,
    pub(super) relay_factor: u8,
}

impl Asker {
    fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.port)
    }
}

/// A query that the application has been given.
#[derive(Clone, Debug)]
struct Pending {
    asker: Asker,
    deadline: Instant,
    answered: bool,
}

/// The query clock, the queries of the last times, and those that the application may answer.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    pub(super) clock: Clock,
    /// Queries from before are not answered.
    min_time: u64,
    ring: Ring<u32>,
    pending: BTreeMap<QueryKey, Pending>,
    /// The pending ones, by the end of their time.
    order: BTreeSet<(Instant, QueryKey)>,
}

impl Answering {
    pub(super) fn new() -> Answering {
        Answering {
            clock: Clock::new("query"),
            min_time: 0,
            ring: Ring::new(),
            pending: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// The queries up to `ltime` were delivered before this node was started again; 0 for none.
    pub(super) fn resume_after(&mut self, ltime: u64) -> Result<(), Note> {
        self.clock.witness(ltime)?;
        if ltime > 0 {
            self.min_time = ltime + 1;
        }
        Ok(())
    }

    /// Whether the query is news. A note says why it must be dropped.
    fn hear(&mut self, query: &Query<'_>) -> Result<bool, Note> {
        let ltime = query.ltime;
        if query.name.len() + query.payload.map_or(0, <[u8]>::len) > limits::USER_EVENT {
            return Err(Note::SerfMalformed { why: "a query longer than any may be".to_owned() });
        }
        self.clock.witness(ltime)?;
        if ltime < self.min_time {
            return Ok(false);
        }
        let now = self.clock.time();
        match self.ring.hear(ltime, now, 0, |id| *id == query.id, || query.id) {
            Heard::New => Ok(true),
            Heard::Known => Ok(false),
            Heard::TooOld => Err(Note::QueryTooOld { name: query.name.into(), ltime, now }),
            Heard::Full => Err(Note::SlotFull { what: "queries", ltime }),
        }
    }

    /// Remembers a query for its answer, and forgets those that nobody may answer any more. Without room the one
    /// whose time ends first gives way.
    fn expect(&mut self, asker: Asker, deadline: Instant, now: Instant) {
        while let Some((first, key)) = self.order.first().copied()
            && (first < now || self.order.len() >= limits::PENDING_ANSWERS)
        {
            self.order.pop_first();
            self.pending.remove(&key);
        }
        self.order.insert((deadline, asker.key));
        self.pending.insert(asker.key, Pending { asker, deadline, answered: false });
    }

    /// The asker, if an answer is in order at `now`.
    fn asker(&self, key: QueryKey, now: Instant) -> Result<Asker, CommandError> {
        let pending = self.pending.get(&key).ok_or(CommandError::UnknownQuery)?;
        if pending.answered {
            return Err(CommandError::AlreadyResponded);
        }
        if now > pending.deadline {
            return Err(CommandError::PastDeadline);
        }
        Ok(pending.asker.clone())
    }

    fn answered(&mut self, key: QueryKey) {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.answered = true;
        }
    }
}

impl Serf {
    /// A query was heard of; `bytes` are passed on.
    pub(super) fn on_query(&mut self, query: &Query<'_>, bytes: &[u8], cx: &mut Cx<'_>) {
        let Some(addr) = WireAddr::from_bytes(query.addr) else {
            return cx.note(Note::SerfMalformed { why: "a query without an address".to_owned() });
        };
        if is_harmful(query) {
            return cx.note(Note::SerfMalformed { why: "a key query without a request".to_owned() });
        }
        let allowance = match filters::allowance(query) {
            Ok(allowance) => allowance,
            Err(note) => return cx.note(note),
        };
        match self.answering.hear(query) {
            Ok(true) => {}
            Ok(false) => return,
            Err(note) => return cx.note(note),
        }
        cx.count(Metric::Queries, 1.0);
        if query.flags & flags::NO_BROADCAST == 0 {
            self.spread(SerfQueue::Queries, bytes, None, cx);
        }
        match filters::accept(&query.filters, allowance, &self.home.name, &self.home.tags) {
            Ok(true) => {}
            Ok(false) => return,
            Err(note) => return cx.note(note),
        }
        self.recording.on_query(query.ltime, cx.now);
        let asker = Asker {
            key: QueryKey { ltime: query.ltime, id: query.id },
            addr,
            port: query.port,
            node: query.source_node.into(),
            relay_factor: query.relay_factor,
        };
        if query.flags & flags::ACK != 0 {
            let ack = self.response(asker.key, flags::ACK, None);
            self.send_response(&asker, &ack, cx);
            self.scratch = ack;
        }
        let name = Text::from(query.name);
        let deadline = cx.now + Duration::from_nanos(u64::try_from(query.timeout_ns).unwrap_or(0));
        if name.starts_with(super::internal::PREFIX) {
            return self.on_internal_query(&asker, &name, query.payload, deadline, cx);
        }
        let (key, payload) = (asker.key, query.payload.map(Box::from));
        self.answering.expect(asker, deadline, cx.now);
        self.delivery.deliver(Event::Query { key, name, payload, deadline }, cx.now, cx.out);
    }

    /// The application answers.
    pub(super) fn respond(
        &mut self,
        key: QueryKey,
        payload: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        let asker = self.answering.asker(key, cx.now)?;
        self.answer(&asker, payload, cx)?;
        self.answering.answered(key);
        Ok(())
    }

    /// Sends an answer if it is short enough.
    pub(super) fn answer(
        &mut self,
        asker: &Asker,
        payload: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        let limit = self.settings.query_response_size_limit;
        let response = self.response(asker.key, 0, Some(payload));
        let outcome = if response.len() <= limit {
            self.send_response(asker, &response, cx);
            Ok(())
        } else {
            let size = Size::new([("payload", payload.len())], response.len());
            Err(CommandError::ResponseTooLong { limit, size })
        };
        self.scratch = response;
        outcome
    }

    /// Encodes a response of this node; give the memory back as `scratch`.
    pub(super) fn response(&mut self, key: QueryKey, flags: u32, payload: Option<&[u8]>) -> Vec<u8> {
        let from = self.home.name.clone();
        let response = Response { ltime: key.ltime, id: key.id, from: &from, flags, payload };
        self.encode(&SerfMessage::Response(response))
    }

    /// Sends a response directly and through as many members as the asker wants.
    fn send_response(&mut self, asker: &Asker, response: &[u8], cx: &mut Cx<'_>) {
        let to = asker.socket_addr();
        send_user(to, response, cx);
        let wanted = usize::from(asker.relay_factor);
        if wanted == 0 || self.members.len() <= wanted {
            return;
        }
        let relay =
            Relay { addr: asker.addr.as_bytes(), port: asker.port, name: &asker.node, inner: response };
        let bytes = self.encode(&SerfMessage::Relay(relay));
        if bytes.len() > self.settings.query_response_size_limit {
            // The response itself is on its way.
            return cx.note(Note::RelayRefused { to, why: "the relayed form is too long" });
        }
        for to in self.relays(wanted, cx) {
            send_user(to, &bytes, cx);
        }
    }

    /// Up to `wanted` random members that can relay.
    fn relays(&self, wanted: usize, cx: &mut Cx<'_>) -> Vec<SocketAddr> {
        let able = |member: &&Member| {
            member.status == Status::Alive
                && member.versions.memberlist_max() >= RELAY_PROTOCOL
                && member.name != self.home.name
        };
        let mut able: Vec<SocketAddr> =
            self.members.entries().map(|entry| &entry.member).filter(able).map(Member::socket_addr).collect();
        cx.rng.shuffle(&mut able);
        able.truncate(wanted);
        able
    }

    /// A member wants a response of its own passed on. Only members get something from here, and only
    /// responses, so that nobody else can be flooded through this node (gossip.md 20.3).
    pub(super) fn on_relay(&mut self, relay: &Relay<'_>, cx: &mut Cx<'_>) {
        let Some(addr) = WireAddr::from_bytes(relay.addr) else {
            return cx.note(Note::SerfMalformed { why: "a relay without an address".to_owned() });
        };
        let to = SocketAddr::new(addr.ip(), relay.port);
        if !self.is_member(relay.name, to) {
            return cx.note(Note::RelayRefused { to, why: "it is no member" });
        }
        if !matches!(decode_serf(relay.inner), Ok(SerfMessage::Response(_))) {
            return cx.note(Note::RelayRefused { to, why: "it is no query response" });
        }
        send_user(to, relay.inner, cx);
    }

    /// Whether a member of this name, or of any if it is empty, is at this address.
    fn is_member(&self, name: &[u8], at: SocketAddr) -> bool {
        if name.is_empty() {
            return self.members.entries().any(|entry| entry.member.socket_addr() == at);
        }
        self.members.get(name).is_some_and(|member| member.socket_addr() == at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ltime: u64) -> QueryKey {
        QueryKey { ltime, id: 1 }
    }

    fn asker(ltime: u64) -> Asker {
        Asker {
            key: key(ltime),
            addr: WireAddr::from_ip([127, 0, 0, 1].into()),
            port: 7946,
            node: "a".into(),
            relay_factor: 0,
        }
    }

    fn query(ltime: u64, id: u32) -> Query<'static> {
        Query {
            ltime,
            id,
            addr: &[127, 0, 0, 1],
            port: 7946,
            source_node: b"a",
            filters: Vec::new(),
            flags: 0,
            relay_factor: 0,
            timeout_ns: 1,
            name: b"uptime",
            payload: None,
        }
    }

    #[test]
    fn a_query_is_news_once() {
        let mut answering = Answering::new();
        let rows = [((5, 1), true), ((5, 1), false), ((5, 2), true), ((6, 1), true), ((1, 1), true)];
        for ((ltime, id), news) in rows {
            assert_eq!(answering.hear(&query(ltime, id)), Ok(news), "{ltime} {id}");
        }
        assert_eq!(answering.hear(&query(5000, 1)), Ok(true));
        let note = Note::QueryTooOld { name: "uptime".into(), ltime: 4488, now: 5001 };
        assert_eq!(answering.hear(&query(4488, 1)), Err(note));
        assert_eq!(answering.hear(&query(4489, 1)), Ok(true));
    }

    #[test]
    fn an_answer_is_in_order_once_and_in_time() {
        let at = Instant::from_nanos;
        let mut answering = Answering::new();
        answering.expect(asker(5), at(100), at(1));
        assert_eq!(answering.asker(key(6), at(1)), Err(CommandError::UnknownQuery));
        assert_eq!(answering.asker(key(5), at(100)), Ok(asker(5)));
        assert_eq!(answering.asker(key(5), at(101)), Err(CommandError::PastDeadline));
        answering.answered(key(5));
        assert_eq!(answering.asker(key(5), at(1)), Err(CommandError::AlreadyResponded));
    }

    #[test]
    fn oversized_queries_are_refused() {
        let mut answering = Answering::new();
        let payload = vec![0; limits::USER_EVENT];
        let long = Query { name: b"", payload: Some(&payload), ..query(3, 1) };
        assert_eq!(answering.hear(&long), Ok(true));
        let too_long = Query { name: b"x", id: 2, ..long };
        assert!(matches!(answering.hear(&too_long), Err(Note::SerfMalformed { .. })));
    }

    #[test]
    fn a_query_is_forgotten_after_its_time() {
        let at = Instant::from_nanos;
        let mut answering = Answering::new();
        answering.expect(asker(1), at(100), at(1));
        answering.expect(asker(2), at(20), at(1));
        answering.expect(asker(3), at(100), at(20));
        assert_eq!(answering.pending.len(), 3, "the second one may be answered now");
        answering.expect(asker(4), at(100), at(21));
        assert_eq!(answering.asker(key(2), at(21)), Err(CommandError::UnknownQuery));
        assert_eq!((answering.pending.len(), answering.order.len()), (3, 3));
    }

    #[test]
    fn the_query_that_ends_first_gives_way() {
        let mut answering = Answering::new();
        for ltime in 0..=limits::PENDING_ANSWERS as u64 {
            answering.expect(asker(ltime), Instant::NEVER, Instant::ORIGIN);
        }
        assert_eq!(answering.asker(key(0), Instant::ORIGIN), Err(CommandError::UnknownQuery));
        assert!(answering.asker(key(1), Instant::ORIGIN).is_ok());
        assert_eq!(answering.pending.len(), limits::PENDING_ANSWERS);
    }
}
