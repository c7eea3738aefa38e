//! One member of a cluster: takes what happened, says what must be done.
//!
//! This file only dispatches. The layers live in [`swim`](crate::swim) (who is there) and
//! [`serf`](crate::serf) (intents, events, queries); the first reports to the second through notices,
//! which are carried over here, in order, before the next message is looked at.

use crate::broadcast::{Broadcasts, SerfQueue};
use crate::command::{Command, CommandError, CommandId};
use crate::config::Config;
use crate::coordinate::{Coordinate, Coordinates};
use crate::crypto::Keyring;
use crate::cx::Cx;
use crate::io::{Input, Outbox};
use crate::limits;
use crate::member::{Member, Tags};
use crate::metric::{Metric, Metrics};
use crate::note::Note;
use crate::rng::Rng;
use crate::serf::Serf;
use crate::snapshot::Restored;
use crate::swim::{Notice, Swim};
use crate::text::Text;
use crate::time::Instant;
use crate::wire::message::Message;
use crate::wire::serf::{Batch, Codec, Parts, Settings, decode};
use std::net::SocketAddr;

/// From here on time stands still, three hundred years after the origin. What lies ahead of it, and
/// [`Instant::NEVER`] above all, never becomes due, so that each deadline that is set anew lies in the future.
const END_OF_TIME: Instant = Instant::from_nanos(u64::MAX / 2);

/// The protocol as a deterministic state machine.
///
/// The contract: one [`Input`] at a time; the actions in the [`Outbox`] are performed in their order before
/// the next input; [`Input::Tick`] comes at or after [`deadline`](Node::deadline), late ticks are fine.
/// Equal arguments and equal inputs make equal actions on every platform. Nothing blocks, fails or panics
/// on any input.
#[derive(Debug)]
pub struct Node {
    now: Instant,
    rng: Rng,
    codec: Codec,
    parts: Parts,
    batch: Batch,
    broadcasts: Broadcasts,
    coordinates: Coordinates,
    metrics: Metrics,
    swim: Swim,
    serf: Serf,
    notices: Vec<Notice>,
    user_state: Vec<u8>,
}

/// Numbers about a node, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members in any state.
    pub members: usize,
    /// Members that failed and are not yet reaped.
    pub failed: usize,
    /// Members that left and are not yet reaped.
    pub left: usize,
    /// 0 is healthy.
    pub health_score: u32,
    /// Member clock.
    pub member_time: u64,
    /// Event clock.
    pub event_time: u64,
    /// Query clock.
    pub query_time: u64,
    /// Intents waiting to be gossiped.
    pub intent_queue: usize,
    /// User events waiting to be gossiped.
    pub event_queue: usize,
    /// Queries waiting to be gossiped.
    pub query_queue: usize,
    /// Whether there are keys.
    pub encrypted: bool,
    /// How often the own coordinate became unusable and was reset.
    pub coordinate_resets: u64,
}

impl Node {
    /// A node that knows itself and what a snapshot says. Its announcements and first events come with the
    /// first input.
    pub fn new(mut config: Config, seed: [u8; 32], restored: Restored, now: Instant) -> Node {
        let now = now.min(END_OF_TIME);
        if config.label.len() > limits::LABEL {
            config.label = Text::from(&config.label[..limits::LABEL]);
        }
        config.udp_buffer_size = config.udp_buffer_size.min(limits::PACKET);
        let mut node = Node {
            now,
            rng: Rng::new(seed),
            codec: Codec::new(Settings {
                label: config.label.to_vec(),
                skip_inbound_label_check: config.skip_inbound_label_check,
                keyring: config.keyring.clone(),
                verify_incoming: config.verify_incoming,
                verify_outgoing: config.verify_outgoing,
                compression: config.compression,
            }),
            parts: Parts::default(),
            batch: Batch::default(),
            broadcasts: Broadcasts::new(config.profile.retransmit_mult),
            coordinates: if config.coordinates { Coordinates::new() } else { Coordinates::disabled() },
            metrics: Metrics::new(),
            serf: Serf::new(&config, restored, now),
            swim: Swim::new(config),
            notices: Vec::new(),
            user_state: Vec::new(),
        };
        let mut nothing = Outbox::new();
        let (swim, _, notices, mut cx) = node.lend(now, &mut nothing);
        swim.start(notices, &mut cx);
        node
    }

    /// Takes one thing that happened; appends what must be done, in order.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        self.now = self.now.max(now.min(END_OF_TIME));
        let (_, serf, _, mut cx) = self.lend(self.now, out);
        serf.say_oddities(&mut cx);
        self.carry_notices(out);
        match input {
            Input::Tick => {}
            Input::Datagram { from, bytes } => self.on_datagram(from, bytes, out),
            Input::Stream { id, event } => {
                let (swim, _, notices, mut cx) = self.lend(self.now, out);
                swim.on_stream(id, event, notices, &mut cx);
                self.carry_notices(out);
            }
            Input::Command { id, command } => self.on_command(id, command, out),
            Input::StoreFailed { why } => {
                let (_, serf, _, mut cx) = self.lend(self.now, out);
                serf.on_store_failed(why, &mut cx);
            }
        }
        self.on_time(out);
        out.end_input();
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.notices.is_empty() {
            return Some(self.now);
        }
        let gossip_wanted = !self.broadcasts.is_empty();
        [self.swim.deadline(self.now, gossip_wanted), self.serf.deadline()].into_iter().flatten().min()
    }

    /// All members in any state, by name.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.serf.members()
    }

    /// This node as a member.
    pub fn local_member(&self) -> Member {
        self.serf.local_member()
    }

    /// Whether any other node is held alive or suspected.
    pub fn others_live(&self) -> bool {
        self.swim.others_live()
    }

    /// Whether [`Command::SetTags`] with these would be taken now.
    pub fn check_tags(&self, tags: &Tags) -> Result<(), CommandError> {
        self.serf.check_tags(tags)
    }

    /// How many nodes the gossip layer holds alive or suspects, this one included.
    pub fn live_nodes(&self) -> usize {
        self.swim.live_nodes()
    }

    /// The last known coordinate of a node; the own one for the own name. There is none at all while coordinates
    /// are disabled.
    pub fn coordinate(&self, name: &[u8]) -> Option<&Coordinate> {
        if !self.coordinates.is_enabled() {
            return None;
        }
        if name == self.swim.name().as_bytes() {
            return Some(self.coordinates.own());
        }
        self.coordinates.get(name)
    }

    /// The keys in use.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.codec.keyring()
    }

    /// Numbers for operators.
    pub fn stats(&self) -> Stats {
        Stats {
            health_score: self.swim.health_score(),
            intent_queue: self.broadcasts.depth(SerfQueue::Intents),
            event_queue: self.broadcasts.depth(SerfQueue::Events),
            query_queue: self.broadcasts.depth(SerfQueue::Queries),
            encrypted: self.codec.keyring().is_some(),
            coordinate_resets: self.coordinates.resets(),
            ..self.serf.stats()
        }
    }

    /// What was measured since the last [`take_metrics`](Node::take_metrics).
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What was measured since the last call; the tallies begin anew. The log of single values stays.
    pub fn take_metrics(&mut self) -> Metrics {
        let taken = self.metrics.tallies();
        self.metrics.reset();
        taken
    }

    /// Whether each measured value is wanted by itself. Then they are to be taken with
    /// [`drain_values`](Node::drain_values) after every input; what finds no room is dropped and counted.
    pub fn log_values(&mut self, wanted: bool) {
        self.metrics.set_log(wanted);
    }

    /// The logged values, in the order in which they were measured; none while they are not wanted.
    pub fn drain_values(&mut self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        self.metrics.drain()
    }

    fn lend<'a>(
        &'a mut self,
        now: Instant,
        out: &'a mut Outbox,
    ) -> (&'a mut Swim, &'a mut Serf, &'a mut Vec<Notice>, Cx<'a>) {
        let cx = Cx {
            now,
            rng: &mut self.rng,
            out,
            codec: &mut self.codec,
            batch: &mut self.batch,
            broadcasts: &mut self.broadcasts,
            coordinates: &mut self.coordinates,
            metrics: &mut self.metrics,
        };
        (&mut self.swim, &mut self.serf, &mut self.notices, cx)
    }

    fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], out: &mut Outbox) {
        self.metrics.count(Metric::UdpReceived, bytes.len() as f64, self.now);
        let mut parts = std::mem::take(&mut self.parts);
        if let Err(refusal) = self.codec.open(bytes, &mut parts) {
            out.note(Note::PacketRefused { from, why: refusal.text() });
        }
        for refusal in parts.refused() {
            out.note(Note::PacketRefused { from, why: refusal.text() });
        }
        for part in parts.iter() {
            let (swim, serf, notices, mut cx) = self.lend(self.now, out);
            match decode(part) {
                Ok(Message::User(body)) => serf.on_message(Some(from), body, &mut cx),
                Ok(message) => swim.on_message(from, &message, notices, &mut cx),
                Err(error) => cx.note(Note::MessageMalformed { from, why: error.to_string() }),
            }
            self.carry_notices(out);
        }
        self.parts = parts;
    }

    fn on_command(&mut self, id: CommandId, command: Command, out: &mut Outbox) {
        let (swim, serf, notices, mut cx) = self.lend(self.now, out);
        serf.on_command(id, command, swim, notices, &mut cx);
        self.carry_notices(out);
    }

    /// Lets everything happen that is due.
    fn on_time(&mut self, out: &mut Outbox) {
        let (swim, _, notices, mut cx) = self.lend(self.now, out);
        swim.on_tick(notices, &mut cx);
        self.carry_notices(out);
        let (swim, serf, notices, mut cx) = self.lend(self.now, out);
        serf.on_tick(swim, notices, &mut cx);
        self.carry_notices(out);
    }

    /// Carries what the membership layer has to say to the Serf layer, and what that causes in turn.
    fn carry_notices(&mut self, out: &mut Outbox) {
        loop {
            let mut notices = std::mem::take(&mut self.notices);
            for notice in notices.drain(..) {
                let mut more = Vec::new();
                let mut user_state = std::mem::take(&mut self.user_state);
                let (swim, serf, _, mut cx) = self.lend(self.now, out);
                match notice {
                    Notice::StateWanted { stream } => {
                        user_state.clear();
                        serf.encode_state(&mut user_state);
                        swim.send_state(stream, &user_state, &mut more, &mut cx);
                    }
                    notice => serf.on_notice(notice, swim, &mut cx),
                }
                self.user_state = user_state;
                self.notices.append(&mut more);
            }
            if self.notices.is_empty() {
                self.notices = notices;
            }
            while let Some(token) = self.broadcasts.pop_finished() {
                let (swim, serf, notices, mut cx) = self.lend(self.now, out);
                serf.on_broadcast_finished(token, swim, notices, &mut cx);
            }
            if self.notices.is_empty() {
                return;
            }
        }
    }
}
