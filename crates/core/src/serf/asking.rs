//! Queries of our own: sent out, their acks and answers collected until their time is over
//! (gossip.md 13.10).
//!
//! A query is known by the Lamport time that it took. It ends when its time is over, or before if everybody has
//! answered whom it is [addressed](super::addressed) to; an ack alone promises an answer, and is no reason to end.
//! The invariant: each node's ack and answer count once, and every query that began ends exactly once.

use super::addressed::addressed;
use super::conflict::Votes;
use super::internal::{PING, PREFIX};
use super::rotation::Tally;
use super::{Due, Serf};
use crate::command::{CommandError, CommandId, QueryParams, Reply, Size};
use crate::cx::Cx;
use crate::limits;
use crate::member::{Event, QueryKey};
use crate::metric::Metric;
use crate::note::Note;
use crate::scale::query_timeout;
use crate::swim::Swim;
use crate::text::Text;
use crate::time::Instant;
use crate::wire::message::{Filter, Query, Response, SerfMessage, flags};
use crate::wire::serf::encode_filter;
use std::collections::{BTreeMap, BTreeSet};

/// The first Serf protocol with queries (gossip.md 13.3).
const QUERY_PROTOCOL: u8 = 4;

/// The queries of ours, by Lamport time.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    running: BTreeMap<u64, Running>,
    /// Those that ended before their time: the id, and until when answers may still come.
    ended: BTreeMap<u64, (u32, Instant)>,
}

/// For whom a query runs.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// The application: it gets each ack and answer.
    Application(CommandId),
    /// The vote about our name, which takes its whole time: who is absent now may come back and vote.
    Vote(Votes),
    /// A key operation.
    Keys(Tally),
}

#[derive(Clone, Debug)]
struct Running {
    id: u32,
    deadline: Instant,
    /// Who acknowledged; `None` if nobody was asked to.
    acked: Option<BTreeSet<Text>>,
    answered: BTreeSet<Text>,
    /// Who is yet to answer, and to acknowledge if that is wanted. Empty from the start if nobody is waited for.
    awaited: BTreeSet<Text>,
    client: Client,
}

impl Running {
    /// A node has responded; whether it was the last one that was waited for.
    fn settle(&mut self, from: &Text) -> bool {
        let has_all =
            self.answered.contains(from) && self.acked.as_ref().is_none_or(|acked| acked.contains(from));
        has_all && self.awaited.remove(from) && self.awaited.is_empty()
    }
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collected {
    Ack,
    Answer,
    /// The node has responded before.
    Duplicate,
    /// The query has ended before its time.
    Late,
    /// No such query runs, or it wants no acks.
    Unexpected,
}

impl Asking {
    pub(super) fn new() -> Asking {
        Asking { running: BTreeMap::new(), ended: BTreeMap::new() }
    }

    /// Whether a vote about our name is under way.
    pub(super) fn is_voting(&self) -> bool {
        self.running.values().any(|running| matches!(running.client, Client::Vote(_)))
    }

    /// Whether a query of this time can begin. At the end of its range the clock stands still, and a query
    /// that runs keeps its place.
    fn has_room(&self, ltime: u64) -> bool {
        self.running.len() < limits::RUNNING_QUERIES && !self.running.contains_key(&ltime)
    }

    /// Ends a query that began; its responses are expected for as long as its time lasts.
    fn end(&mut self, ltime: u64, now: Instant) -> Option<Running> {
        let running = self.running.remove(&ltime)?;
        if now < running.deadline {
            self.ended.retain(|_, (_, deadline)| now <= *deadline);
            if self.ended.len() >= limits::ENDED_QUERIES {
                self.ended.pop_first();
            }
            self.ended.insert(ltime, (running.id, running.deadline));
        }
        Some(running)
    }

    fn collect(&mut self, response: &Response<'_>, now: Instant) -> Collected {
        let ended = self.ended.get(&response.ltime);
        if ended.is_some_and(|(id, deadline)| *id == response.id && now <= *deadline) {
            return Collected::Late;
        }
        let Some(running) = self.running.get_mut(&response.ltime) else { return Collected::Unexpected };
        if running.id != response.id || now > running.deadline {
            return Collected::Unexpected;
        }
        let is_ack = response.flags & flags::ACK != 0;
        let seen = match (is_ack, &mut running.acked) {
            (true, Some(acked)) => acked,
            (true, None) => return Collected::Unexpected,
            (false, _) => &mut running.answered,
        };
        if seen.contains(response.from) {
            return Collected::Duplicate;
        }
        // There cannot be more honest responders than nodes.
        if seen.len() >= limits::NODES {
            return Collected::Unexpected;
        }
        seen.insert(response.from.into());
        if is_ack { Collected::Ack } else { Collected::Answer }
    }
}

impl Serf {
    /// Sends a query out.
    pub(super) fn ask(
        &mut self,
        client: Client,
        params: &QueryParams,
        swim: &mut Swim,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        let is_users = matches!(client, Client::Application(_));
        if is_users && params.name.starts_with(PREFIX) && !is_plain_ping(params) {
            return Err(CommandError::ReservedQueryName);
        }
        if self.settings.protocol < QUERY_PROTOCOL {
            return Err(CommandError::NotSupported);
        }
        let ltime = self.answering.clock.time();
        if !self.asking.has_room(ltime) {
            return Err(CommandError::Busy);
        }
        let timeout =
            params.timeout.unwrap_or_else(|| query_timeout(self.settings.gossip_interval, swim.live_nodes()));
        let (addr, port) = swim.own_addr();
        let filters = encoded_filters(params);
        if filters.len() > limits::EXPRESSIONS {
            return Err(CommandError::TooManyFilters(limits::EXPRESSIONS));
        }
        let name = self.home.name.clone();
        let query = Query {
            ltime,
            id: (cx.rng.u64() >> 33) as u32,
            addr: addr.as_bytes(),
            port,
            source_node: &name,
            filters: filters.iter().map(Vec::as_slice).collect(),
            flags: if params.ack { flags::ACK } else { 0 },
            relay_factor: params.relay_factor,
            timeout_ns: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
            name: &params.name,
            payload: params.payload.as_deref(),
        };
        let mut bytes = Vec::new();
        crate::wire::serf::encode_serf(&SerfMessage::Query(query.clone()), &mut bytes);
        self.check_length(&query, bytes.len())?;
        let key = QueryKey { ltime, id: query.id };
        if let Client::Application(command) = client {
            cx.out.reply(command, Reply::QueryStarted { key });
        }
        let awaited = match client {
            Client::Vote(_) => Ok(BTreeSet::new()),
            Client::Application(_) | Client::Keys(_) => addressed(params, &self.members),
        };
        let (refused, awaited) =
            awaited.map_or_else(|note| (Some(note), BTreeSet::new()), |awaited| (None, awaited));
        let (deadline, acked) = (cx.now + timeout, params.ack.then(BTreeSet::new));
        let running = Running { id: key.id, deadline, acked, answered: BTreeSet::new(), awaited, client };
        self.asking.running.insert(ltime, running);
        if let Some(note) = refused {
            // Every node would only complain of it.
            cx.note(note);
            self.answering.clock.tick();
            self.on_query_over(ltime, cx);
            return Ok(());
        }
        self.timers.set(Due::Query(ltime), deadline);
        // Hearing it ourselves moves the clock on, so that no two queries of ours share a time.
        self.on_query(&query, &bytes, cx);
        Ok(())
    }

    /// Whether a query of `total` bytes may be sent, and can.
    fn check_length(&self, query: &Query<'_>, total: usize) -> Result<(), CommandError> {
        let (limit, room) = (self.settings.query_size_limit, self.settings.gossip_room);
        let size = || {
            let filters: usize = query.filters.iter().map(|filter| filter.len()).sum();
            let mut parts =
                vec![("name", query.name.len()), ("payload", query.payload.map_or(0, <[u8]>::len))];
            parts.extend((filters > 0).then_some(("filters", filters)));
            Size::new(parts, total)
        };
        if total > limit {
            return Err(CommandError::QueryTooLong { limit, size: size() });
        }
        if total > room {
            return Err(CommandError::FitsNoPacket { what: "query", size: size(), room });
        }
        Ok(())
    }

    /// A node responds to a query of ours.
    pub(super) fn on_response(&mut self, response: &Response<'_>, cx: &mut Cx<'_>) {
        let Response { ltime, id, .. } = *response;
        let (key, from) = (QueryKey { ltime, id }, Text::from(response.from));
        let collected = self.asking.collect(response, cx.now);
        let event = match collected {
            Collected::Unexpected => return cx.note(Note::ResponseUnexpected { ltime, id, from }),
            Collected::Late => return cx.note(Note::ResponseLate { from }),
            Collected::Duplicate => return cx.note(Note::ResponseDuplicate { from }),
            Collected::Ack => {
                cx.count(Metric::QueryAcks, 1.0);
                Event::QueryAck { key, from: from.clone() }
            }
            Collected::Answer => {
                cx.count(Metric::QueryResponses, 1.0);
                let payload = response.payload.map(Box::from);
                Event::QueryResponse { key, from: from.clone(), payload }
            }
        };
        let running =
            self.asking.running.get_mut(&ltime).expect("what is collected belongs to a query that runs");
        let payload = response.payload.unwrap_or_default();
        match &mut running.client {
            Client::Application(_) => self.delivery.deliver(event, cx.now, cx.out),
            Client::Vote(votes) => votes.count(payload, self.home.socket_addr()),
            // Who was not there when the operation began was not asked.
            Client::Keys(tally) if running.awaited.contains(&from) => tally.count(from.clone(), payload),
            Client::Keys(_) => {}
        }
        if running.settle(&from) {
            self.timers.cancel(Due::Query(ltime));
            self.on_query_over(ltime, cx);
        }
    }

    /// The application wants no more answers to this query.
    pub(super) fn end_query(&mut self, key: QueryKey, cx: &mut Cx<'_>) {
        let is_users = |running: &&Running| matches!(running.client, Client::Application(_));
        if self.asking.running.get(&key.ltime).filter(is_users).is_some_and(|running| running.id == key.id) {
            self.timers.cancel(Due::Query(key.ltime));
            self.on_query_over(key.ltime, cx);
        }
    }

    /// The time of a query of ours is over, or nobody is waited for any more.
    pub(super) fn on_query_over(&mut self, ltime: u64, cx: &mut Cx<'_>) {
        let Some(Running { id, client, awaited, .. }) = self.asking.end(ltime, cx.now) else { return };
        match client {
            Client::Application(_) => {
                let key = QueryKey { ltime, id };
                self.delivery.deliver(Event::QueryDone { key }, cx.now, cx.out);
            }
            Client::Vote(votes) => self.on_vote_over(votes, cx),
            Client::Keys(tally) => self.on_rotated(tally, awaited, cx),
        }
    }
}

/// The only internal query that users may send (gossip.md 13.11).
fn is_plain_ping(params: &QueryParams) -> bool {
    *params.name == *PING.as_bytes() && params.payload.is_none()
}

/// At most one filter for nodes, then one per tag.
fn encoded_filters(params: &QueryParams) -> Vec<Vec<u8>> {
    let encoded = |filter: &Filter<'_>| {
        let mut bytes = Vec::new();
        encode_filter(filter, &mut bytes);
        bytes
    };
    let nodes: Vec<&[u8]> = params.nodes.iter().map(Text::as_bytes).collect();
    let nodes = (!nodes.is_empty()).then(|| encoded(&Filter::Nodes(nodes)));
    let tags = params.tags.iter().map(|(tag, expr)| encoded(&Filter::Tag { tag, expr }));
    nodes.into_iter().chain(tags).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::serf::conflict::CONFLICT;

    const NOW: Instant = Instant::from_nanos(50);

    fn asking(acks: bool) -> Asking {
        let mut asking = Asking::new();
        let running = Running {
            id: 7,
            deadline: Instant::from_nanos(100),
            acked: acks.then(BTreeSet::new),
            answered: BTreeSet::new(),
            awaited: BTreeSet::new(),
            client: Client::Application(CommandId(1)),
        };
        asking.running.insert(3, running);
        asking
    }

    fn response(from: &str, flags: u32) -> Response<'_> {
        Response { ltime: 3, id: 7, from: from.as_bytes(), flags, payload: None }
    }

    #[test]
    fn each_node_counts_once_for_ack_and_answer() {
        let mut asking = asking(true);
        let rows = [
            (response("a", flags::ACK), Collected::Ack),
            (response("a", flags::ACK), Collected::Duplicate),
            (response("a", 0), Collected::Answer),
            (response("a", 0), Collected::Duplicate),
            (response("b", 0), Collected::Answer),
            // Unknown flags mean nothing.
            (response("c", 4), Collected::Answer),
            (Response { id: 8, ..response("d", 0) }, Collected::Unexpected),
            (Response { ltime: 4, ..response("d", 0) }, Collected::Unexpected),
        ];
        for (response, collected) in rows {
            assert_eq!(asking.collect(&response, NOW), collected, "{response:?}");
        }
    }

    #[test]
    fn late_responses_and_unwanted_acks_do_not_count() {
        let mut asking = asking(false);
        assert_eq!(asking.collect(&response("a", flags::ACK), NOW), Collected::Unexpected);
        assert_eq!(asking.collect(&response("a", 0), Instant::from_nanos(101)), Collected::Unexpected);
        assert_eq!(asking.collect(&response("a", 0), Instant::from_nanos(100)), Collected::Answer);
    }

    #[test]
    fn everybody_owes_an_answer_and_an_ack_if_wanted() {
        for acks in [true, false] {
            let mut asking = asking(acks);
            asking.running.get_mut(&3).unwrap().awaited = ["a".into(), "b".into()].into();
            let mut is_over = |response: &Response<'_>| {
                asking.collect(response, NOW);
                asking.running.get_mut(&3).unwrap().settle(&response.from.into())
            };
            assert!(!is_over(&response("a", 0)));
            assert!(!is_over(&response("a", flags::ACK)));
            // Who is not waited for makes no difference.
            assert!(!is_over(&response("c", flags::ACK)) && !is_over(&response("c", 0)));
            // The ack of the last one may be overtaken by its answer.
            assert_eq!(is_over(&response("b", 0)), !acks);
            assert_eq!(is_over(&response("b", flags::ACK)), acks);
        }
    }

    #[test]
    fn a_query_that_ended_early_is_remembered_for_its_time() {
        let at = Instant::from_nanos;
        let mut asking = asking(false);
        assert!(asking.end(3, NOW).is_some() && asking.end(3, NOW).is_none());
        assert_eq!(asking.collect(&response("a", 0), at(100)), Collected::Late);
        assert_eq!(asking.collect(&response("a", flags::ACK), at(100)), Collected::Late);
        assert_eq!(asking.collect(&response("a", 0), at(101)), Collected::Unexpected);
        assert_eq!(asking.collect(&Response { id: 8, ..response("a", 0) }, NOW), Collected::Unexpected);
        // The newest are remembered, and none that is of no more use.
        let running = self::asking(false).running.remove(&3).unwrap();
        let deadline = at(1000);
        for ltime in 4..4 + limits::ENDED_QUERIES as u64 {
            asking.running.insert(ltime, Running { deadline, ..running.clone() });
            asking.end(ltime, NOW);
        }
        assert_eq!(asking.ended.len(), limits::ENDED_QUERIES);
        assert_eq!(asking.collect(&response("a", 0), NOW), Collected::Unexpected);
        asking.running.insert(9999, Running { deadline: at(3000), ..running.clone() });
        asking.end(9999, at(1001));
        assert_eq!(asking.ended.len(), 1);
        // One whose time is over has no answers to come.
        asking.running.insert(10_000, running);
        asking.end(10_000, at(1002));
        assert_eq!(asking.ended.len(), 1);
    }

    #[test]
    fn a_running_query_keeps_its_place() {
        let mut asking = asking(false);
        assert_eq!((asking.has_room(3), asking.has_room(4)), (false, true));
        for ltime in 4..3 + limits::RUNNING_QUERIES as u64 {
            asking.running.insert(ltime, asking.running[&3].clone());
        }
        assert!(!asking.has_room(0));
    }

    #[test]
    fn filters_are_for_nodes_and_then_for_tags() {
        let decode = |params: &QueryParams| -> Vec<String> {
            let filters = encoded_filters(params);
            filters
                .iter()
                .map(|filter| match crate::wire::serf::decode_filter(filter).unwrap() {
                    Filter::Nodes(names) => format!("{} nodes", names.len()),
                    Filter::Tag { tag, .. } => String::from_utf8_lossy(tag).into_owned(),
                })
                .collect()
        };
        assert!(decode(&QueryParams::default()).is_empty());
        let tags = vec![("role".into(), "web".into()), ("dc".into(), "eu".into())];
        let params = QueryParams { nodes: vec!["a".into(), "b".into()], tags, ..QueryParams::default() };
        assert_eq!(decode(&params), ["2 nodes", "role", "dc"]);
    }

    #[test]
    fn users_may_ping_and_nothing_else() {
        let ping = QueryParams { name: PING.into(), ..QueryParams::default() };
        assert!(is_plain_ping(&ping));
        assert!(!is_plain_ping(&QueryParams { payload: Some([].into()), ..ping }));
        assert!(!is_plain_ping(&QueryParams { name: CONFLICT.into(), ..QueryParams::default() }));
    }
}
