//! The Serf layer: what members mean to do, and what they tell and ask each other (gossip.md 13).
//!
//! Gossip brings messages here, the membership layer brings notices, the operator brings commands; out go
//! broadcasts, direct messages and events for the application. This file holds the state and dispatches;
//! each noun has a file of its own. The invariant: no part waits in place, so whatever takes time is in the
//! state with a deadline.

mod addressed;
mod answering;
mod asking;
mod clock;
mod coalesce;
mod conflict;
mod events;
mod exchange;
mod filters;
mod intents;
mod internal;
mod joining;
mod keys;
mod leaving;
mod members;
mod presence;
mod reaping;
mod recording;
mod rejoining;
mod ring;
mod rotation;
#[cfg(test)]
mod tests;

use crate::Stats;
use crate::broadcast::{SerfQueue, Token};
use crate::command::{Command, CommandId, Reply};
use crate::config::Config;
use crate::crypto::Version;
use crate::cx::Cx;
use crate::limits;
use crate::member::{Member, MemberEventKind, Status, Versions};
use crate::metric::Metric;
use crate::note::Note;
use crate::snapshot::Restored;
use crate::swim::{Notice, Purpose, Swim, USER_KIND};
use crate::time::{Duration, Instant};
use crate::timers::Timers;
use crate::wire::message::SerfMessage;
use crate::wire::serf::decode_serf;
use answering::Answering;
use asking::{Asking, Client};
use coalesce::Delivery;
use conflict::Rival;
use events::Events;
use joining::Joining;
use keys::Unkept;
use leaving::Leaving;
use members::{Members, Timeouts};
use presence::Source;
use reaping::Pruning;
use recording::Recording;
use rejoining::Rejoining;
use rotation::Rotation;
use std::net::SocketAddr;

/// How long intents about unknown names are remembered (gossip.md 17.2).
const INTENT_TIMEOUT: Duration = Duration::from_mins(5);

/// Between two looks at a long queue (gossip.md 13.18).
const QUEUE_CHECK: Duration = Duration::from_secs(30);

/// From this depth on a queue is long (gossip.md 13.18).
const QUEUE_WARNING: usize = 128;

/// The shortest time between two attempts to reach a failed member. Without one they would never end.
const RECONNECT_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A message of this layer costs these bytes of a packet besides its own (gossip.md 4.8).
const PACKET_OVERHEAD: usize = 3;

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The time of the query of ours with this Lamport time is over.
    Query(u64),
    /// A broadcast took too long.
    Broadcast(Token),
    /// Others have had the time to hear of our leave.
    Left,
    /// The first of the postponed prunes.
    Prune,
    /// An attempt to reach a failed member.
    Reconnect,
    /// An attempt to reach the nodes of the snapshot.
    Rejoin,
    /// A look at the nodes of the snapshot that nobody has seen.
    Unseen,
    /// A look at the queues.
    QueueCheck,
    /// A look at whether the other node with our name is still there.
    NameCheck,
    /// The key operation that has waited longest.
    Rotation,
}

/// What this layer needs of the configuration.
#[derive(Clone, Debug)]
struct Settings {
    protocol: u8,
    gossip_interval: Duration,
    /// The longest message that fits into a gossip packet.
    gossip_room: usize,
    user_event_size_limit: usize,
    query_size_limit: usize,
    query_response_size_limit: usize,
    broadcast_timeout: Duration,
    leave_propagate_delay: Duration,
    reconnect_interval: Duration,
    timeouts: Timeouts,
    name_conflict_resolution: bool,
    keyring_file: bool,
}

impl Settings {
    fn new(config: &Config) -> Settings {
        let label = if config.label.is_empty() { 0 } else { 2 + config.label.len() };
        let encryption = if config.keyring.is_some() { Version::Plain.overhead() } else { 0 };
        let overhead = 2 + label + encryption + PACKET_OVERHEAD;
        Settings {
            protocol: config.protocol,
            gossip_interval: config.profile.gossip_interval,
            gossip_room: config.udp_buffer_size.saturating_sub(overhead),
            user_event_size_limit: config.user_event_size_limit.min(limits::USER_EVENT),
            query_size_limit: config.query_size_limit.min(limits::USER_EVENT),
            query_response_size_limit: config
                .query_response_size_limit
                .min(limits::DATAGRAM - label - encryption - USER_KIND),
            broadcast_timeout: config.broadcast_timeout,
            leave_propagate_delay: config.leave_propagate_delay,
            reconnect_interval: config.reconnect_interval.max(RECONNECT_INTERVAL_MIN),
            timeouts: Timeouts {
                failed: config.reconnect_timeout,
                left: config.tombstone_timeout,
                intents: INTENT_TIMEOUT,
            },
            name_conflict_resolution: config.name_conflict_resolution,
            keyring_file: config.keyring_file,
        }
    }
}

/// Members, events and queries of one node.
#[derive(Debug)]
pub(crate) struct Serf {
    settings: Settings,
    started: Instant,
    /// This node as it was configured, with its present tags.
    home: Member,
    members: Members,
    events: Events,
    answering: Answering,
    asking: Asking,
    rotation: Rotation,
    unkept: Unkept,
    joining: Joining,
    leaving: Leaving,
    pruning: Pruning,
    delivery: Delivery,
    recording: Recording,
    rejoining: Rejoining,
    /// What is to be said of the snapshot, before everything else.
    oddities: Vec<Note>,
    timers: Timers<Due>,
    /// Who else has our name, while that is not decided.
    rival: Rival,
    /// When the depths of the queues were measured last.
    queues_measured: Instant,
    /// Memory in which messages are encoded; empty between uses.
    scratch: Vec<u8>,
}

impl Serf {
    /// A node that knows nobody; the membership layer's first notice makes it a member.
    pub(crate) fn new(config: &Config, restored: Restored, now: Instant) -> Serf {
        let home_addr = SocketAddr::new(config.addr.ip(), config.port);
        let mut serf = Serf {
            settings: Settings::new(config),
            started: now,
            home: Member {
                name: config.name.clone(),
                addr: config.addr,
                port: config.port,
                tags: config.tags.clone(),
                status: Status::Alive,
                versions: Versions::ours(config.protocol),
            },
            members: Members::new(),
            events: Events::new(),
            answering: Answering::new(),
            asking: Asking::new(),
            rotation: Rotation::default(),
            unkept: Unkept::default(),
            joining: Joining::new(),
            leaving: Leaving::new(),
            pruning: Pruning::new(),
            delivery: Delivery::new(config.coalesce),
            recording: Recording::new(config, &restored, now),
            rejoining: Rejoining::new(&restored, &config.name, home_addr),
            oddities: restored.oddities,
            timers: Timers::new(),
            rival: Rival::default(),
            queues_measured: now,
            scratch: Vec::new(),
        };
        let clocks = [
            serf.members.clock.witness(restored.clock),
            serf.events.resume_after(restored.event_clock),
            serf.answering.resume_after(restored.query_clock),
        ];
        serf.oddities.extend(clocks.into_iter().filter_map(Result::err));
        if serf.rejoining.is_wanted() {
            serf.timers.set(Due::Rejoin, now);
        }
        serf.await_unseen(now);
        serf
    }

    /// Says once what was odd about the snapshot.
    pub(crate) fn say_oddities(&mut self, cx: &mut Cx<'_>) {
        for note in self.oddities.drain(..) {
            cx.note(note);
        }
    }

    /// A user message came: in a datagram of `from`, or on a stream.
    pub(crate) fn on_message(&mut self, from: Option<SocketAddr>, body: &[u8], cx: &mut Cx<'_>) {
        // Empty ones are legal and mean nothing (gossip.md 13.1).
        if body.is_empty() {
            return;
        }
        cx.count(Metric::MsgsReceived, body.len() as f64);
        match decode_serf(body) {
            Ok(SerfMessage::Leave(intent)) => self.on_leave_intent(&intent, Source::Message(body), cx),
            Ok(SerfMessage::Join(intent)) => self.on_join_intent(&intent, Source::Message(body), cx),
            Ok(SerfMessage::UserEvent(event)) => self.on_user_event(&event, Some(body), cx),
            Ok(SerfMessage::Query(query)) => self.on_query(&query, body, cx),
            Ok(SerfMessage::Response(response)) => self.on_response(&response, cx),
            Ok(SerfMessage::Relay(relay)) => self.on_relay(&relay, cx),
            Ok(SerfMessage::PushPull(_)) => {
                cx.note(Note::SerfMalformed { why: "a state outside of an exchange".to_owned() });
            }
            Err(error) => {
                let from = from.map_or_else(|| "a stream".to_owned(), |from| from.to_string());
                cx.note(Note::SerfMalformed { why: format!("{error} (from {from})") });
            }
        }
    }

    /// The membership layer has something to say.
    pub(crate) fn on_notice(&mut self, notice: Notice, swim: &mut Swim, cx: &mut Cx<'_>) {
        match notice {
            Notice::Joined(node) => self.on_joined(swim.table().get(node), cx),
            Notice::Gone(node) => {
                self.on_gone(&swim.table().get(node).name, cx);
                self.wait_for_nobody(swim, cx);
            }
            Notice::Updated(node) => self.on_updated(swim.table().get(node), cx),
            Notice::Conflict { node, addr, port, asked } => {
                self.on_conflict(&node, SocketAddr::new(addr.ip(), port), asked, swim, cx);
            }
            Notice::RemoteState { state, join } => self.merge_state(&state, join, cx),
            Notice::User(body) => self.on_message(None, &body, cx),
            Notice::ExchangeDone { purpose: Purpose::Join(number), to, result } => {
                self.on_join_exchange(number, to, result, cx);
            }
            // A failed member that answers appears again by itself; one that does not is tried again.
            Notice::ExchangeDone { purpose: Purpose::Reconnect, .. } => {}
            Notice::ExchangeDone { purpose: Purpose::NameCheck, .. } => self.on_name_checked(cx),
            Notice::ExchangeDone { purpose: Purpose::Rejoin, to, result } => {
                self.on_rejoin_exchange(to, result, cx);
            }
            Notice::StateWanted { .. } => unreachable!("the node answers it with encode_state"),
        }
    }

    /// The operator wants something.
    pub(crate) fn on_command(
        &mut self,
        id: CommandId,
        command: Command,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        let outcome = match command {
            Command::Join { addrs, ignore_old } => self.join(id, addrs, ignore_old, swim, notices, cx),
            Command::Leave => self.leave(id, swim, notices, cx),
            Command::ForceLeave { name, prune } => self.force_leave(id, &name, prune, swim, cx),
            Command::SetTags(tags) => self.set_tags(id, tags, swim, notices, cx),
            Command::Query(params) => self.ask(Client::Application(id), &params, swim, cx),
            Command::EndQuery(key) => {
                self.end_query(key, cx);
                cx.out.reply(id, Reply::Done);
                Ok(())
            }
            Command::UserEvent { name, payload, coalesce } => {
                self.fire((&name, payload.as_deref(), coalesce), cx).map(|()| cx.out.reply(id, Reply::Done))
            }
            Command::Respond { key, payload } => {
                self.respond(key, &payload, cx).map(|()| cx.out.reply(id, Reply::Done))
            }
            Command::Keys(request) => self.rotate(id, request, swim, cx),
            Command::KeyringKept { token, result } => {
                self.on_keyring_kept(token, result, cx);
                cx.out.reply(id, Reply::Done);
                Ok(())
            }
            Command::RememberSeeds(seeds) => {
                self.recording.on_seeds(seeds, cx);
                cx.out.reply(id, Reply::Done);
                Ok(())
            }
            Command::Stop => {
                self.recording.on_stop(cx.now, cx.out);
                cx.out.reply(id, Reply::Done);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            cx.out.reply(id, Reply::Failed(error));
        }
    }

    /// Lets everything happen that is due.
    pub(crate) fn on_tick(&mut self, swim: &mut Swim, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        while let Some(due) = self.timers.pop_due(cx.now) {
            match due {
                Due::Query(ltime) => self.on_query_over(ltime, cx),
                Due::Broadcast(token) => self.on_broadcast_timeout(token, swim, notices, cx),
                Due::Left => self.on_left(cx),
                Due::Prune => self.on_prune_due(cx),
                Due::Reconnect => self.reconnect(swim, notices, cx),
                Due::Rejoin => self.rejoin(swim, notices, cx),
                Due::Unseen => self.forget_unseen(swim, cx),
                Due::QueueCheck => self.check_queues(cx),
                Due::NameCheck => self.check_name(swim, notices, cx),
                Due::Rotation => self.rotate_on(swim, cx),
            }
        }
        if self.reap_at().is_some_and(|at| at <= cx.now) {
            self.reap(cx);
        }
        self.delivery.on_tick(cx.now, cx.out);
        self.recording.on_member_time(self.members.clock.time(), cx.now);
        self.recording.on_tick(cx.now, cx.out);
        self.measure_queues(cx);
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let parts = [self.delivery.deadline(), self.recording.deadline()];
        [self.timers.next(), self.reap_at()].into_iter().chain(parts).flatten().min()
    }

    /// All members, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.members.entries().map(|entry| entry.member.clone())
    }

    /// This node.
    pub(crate) fn local_member(&self) -> Member {
        self.members.get(&self.home.name).unwrap_or(&self.home).clone()
    }

    /// The numbers that this layer knows.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            members: self.members.len(),
            failed: self.members.failed().len(),
            left: self.members.left_count(),
            member_time: self.members.clock.time(),
            event_time: self.events.clock.time(),
            query_time: self.answering.clock.time(),
            ..Stats::default()
        }
    }

    /// Tells the application about one member.
    fn report(&mut self, kind: MemberEventKind, member: Member, cx: &mut Cx<'_>) {
        self.recording.on_member(kind, &member, cx);
        let event = crate::member::Event::Members { kind, members: vec![member] };
        self.delivery.deliver(event, cx.now, cx.out);
    }

    /// Queues an encoded message for gossip. One that fits into no packet would stay in the queue for
    /// ever and is left to the full exchanges; its token never finishes.
    fn spread(&mut self, queue: SerfQueue, bytes: &[u8], token: Option<Token>, cx: &mut Cx<'_>) {
        if bytes.len() > self.settings.gossip_room {
            return cx.note(Note::TooLongToGossip { queue: queue.name(), length: bytes.len() });
        }
        cx.broadcasts.push_serf(queue, bytes, token);
        if cx.broadcasts.depth(queue) >= QUEUE_WARNING && !self.timers.contains(Due::QueueCheck) {
            self.timers.set(Due::QueueCheck, cx.now + QUEUE_CHECK);
        }
    }

    /// Encodes a message into memory that is used again; give it back as `scratch`.
    fn encode(&mut self, message: &SerfMessage<'_>) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        crate::wire::serf::encode_serf(message, &mut bytes);
        bytes
    }

    /// Measures how deep the queues are, when a moment for it has passed; no node wakes for that.
    fn measure_queues(&mut self, cx: &mut Cx<'_>) {
        if cx.now.since(self.queues_measured) < QUEUE_CHECK {
            return;
        }
        self.queues_measured = cx.now;
        for (queue, metric) in [
            (SerfQueue::Intents, Metric::QueueIntent),
            (SerfQueue::Events, Metric::QueueEvent),
            (SerfQueue::Queries, Metric::QueueQuery),
        ] {
            cx.count(metric, cx.broadcasts.depth(queue) as f64);
        }
    }

    /// Says how long the queues are and what they dropped: not more often, whatever the flood.
    fn check_queues(&mut self, cx: &mut Cx<'_>) {
        for queue in SerfQueue::ALL {
            let dropped = cx.broadcasts.take_dropped(queue);
            if dropped > 0 {
                cx.note(Note::QueueFull { queue: queue.name(), dropped });
            }
            let depth = cx.broadcasts.depth(queue);
            if depth >= QUEUE_WARNING {
                cx.note(Note::QueueDepth { queue: queue.name(), depth });
                self.timers.set(Due::QueueCheck, cx.now + QUEUE_CHECK);
            }
        }
    }
}
