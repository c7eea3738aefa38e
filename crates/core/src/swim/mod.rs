//! Who is there: the membership layer (gossip.md 8 to 12).
//!
//! This decides which nodes are alive, spreads what changes, and exchanges complete state over streams.
//! It does not know what a member, an event or a query is: what it learns it tells the layer above as
//! [`Notice`]s, in order. The claims of others are weighed in `rules`, carried out in `merge`; the rest is
//! one file per kind of conversation: `probe`, `relay`, `gossip`, `exchange`.
//!
//! The invariant: this node is in its own table from [`Swim::start`] on, and is never held for suspect there.

mod awareness;
mod exchange;
mod gossip;
mod merge;
mod probe;
mod relay;
mod rules;
mod suspicion;
mod table;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use self::exchange::Purpose;
pub(crate) use self::table::{Entry, MemberIdx, Table};

use self::awareness::Awareness;
use self::exchange::Streams;
use self::gossip::Metronome;
use self::merge::Origin;
use self::probe::Probe;
use self::relay::Relay;
use self::table::Deck;
use crate::broadcast::Token;
use crate::config::{Config, Profile};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::io::StreamId;
use crate::limits;
use crate::member::{Versions, WireAddr};
use crate::metric::Metric;
use crate::note::Note;
use crate::text::Text;
use crate::time::{Duration, Instant};
use crate::timers::Timers;
use crate::wire::message::{Accusation, Alive, Message, Source};
use crate::wire::serf::{Codec, encode_meta};
use std::net::SocketAddr;

/// Bytes that a message for the layer above costs in a datagram of its own, besides its own and the overhead.
pub(crate) const USER_KIND: usize = 1;

/// What the layer above is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Notice {
    /// A node joined or came back.
    Joined(MemberIdx),
    /// A node is dead or has left.
    Gone(MemberIdx),
    /// The metadata or the versions of a live node changed.
    Updated(MemberIdx),
    /// A name of the table is claimed for another address; the claim was refused.
    Conflict {
        /// Whose name.
        node: Text,
        /// Who else wants it.
        addr: WireAddr,
        /// Who else wants it.
        port: u16,
        /// Who said so, if it was asked for its state.
        asked: Option<SocketAddr>,
    },
    /// A peer waits for the state of the layer above: to be answered with [`Swim::send_state`].
    StateWanted {
        /// Where it waits.
        stream: StreamId,
    },
    /// State of a peer's layer above; its nodes have been merged.
    RemoteState {
        /// Not empty.
        state: Vec<u8>,
        /// Whether this was part of a join.
        join: bool,
    },
    /// A message for the layer above that came on a stream.
    User(Vec<u8>),
    /// A join or reconnect is over.
    ExchangeDone {
        /// As given to [`Swim::exchange`].
        purpose: Purpose,
        /// With whom.
        to: SocketAddr,
        /// Whether the states were exchanged and merged here.
        result: Result<(), ExchangeError>,
    },
}

/// What can become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next probe.
    Probe,
    /// The direct ping of the running probe went unanswered.
    ProbeTimeout,
    /// The running probe is over.
    ProbeEnd,
    /// The next periodic push/pull.
    PushPull,
    /// A suspect did not refute.
    Suspicion(MemberIdx),
    /// A probe that is relayed for another, by its local sequence number.
    Relay(u32),
    /// A stream takes too long.
    Stream(StreamId),
}

/// The membership layer of one node.
#[derive(Debug)]
pub(crate) struct Swim {
    name: Text,
    addr: WireAddr,
    port: u16,
    versions: Versions,
    /// Metadata that the first announcement carries.
    first_meta: Vec<u8>,
    profile: Profile,
    udp_buffer_size: usize,
    /// How long a dead node keeps its name from others; zero until it is forgotten.
    reclaim_time: Duration,
    validate_node_names: bool,
    /// Own incarnation; 0 before the start.
    incarnation: u32,
    leaving: bool,
    /// Of the last ping.
    sequence: u32,
    table: Table,
    /// Who is gossiped with next.
    deck: Deck,
    awareness: Awareness,
    timers: Timers<Timer>,
    metronome: Metronome,
    /// The times at which probes are due lie whole probe intervals after this.
    probe_grid: Instant,
    probe: Option<Probe>,
    /// A probe was due while another ran.
    probe_missed: bool,
    /// Probes for others that are under way; the list is short, or at least bounded, and keeps its memory.
    relays: Vec<Relay>,
    streams: Streams,
    /// Memory for one message.
    scratch: Vec<u8>,
    /// Memory for a random choice.
    chosen: Vec<MemberIdx>,
}

impl Swim {
    /// A node that is not in its own table yet.
    pub(crate) fn new(config: Config) -> Swim {
        let mut first_meta = Vec::new();
        encode_meta(&config.tags, config.protocol, &mut first_meta);
        Swim {
            name: config.name,
            addr: config.addr,
            port: config.port,
            versions: Versions::ours(config.protocol),
            first_meta,
            profile: config.profile,
            udp_buffer_size: config.udp_buffer_size,
            reclaim_time: config.reclaim_time,
            validate_node_names: config.validate_node_names,
            incarnation: 0,
            leaving: false,
            sequence: 0,
            table: Table::default(),
            deck: Deck::default(),
            awareness: Awareness::new(config.profile.awareness_max_multiplier),
            timers: Timers::new(),
            metronome: Metronome::new(config.profile.gossip_interval),
            probe_grid: Instant::ORIGIN,
            probe: None,
            probe_missed: false,
            relays: Vec::new(),
            streams: Streams::default(),
            scratch: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Announces this node, and draws the phases of what happens regularly (gossip.md 8.2, 11.1, 12).
    pub(crate) fn start(&mut self, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let meta = std::mem::take(&mut self.first_meta);
        self.announce(&meta, None, notices, cx);
        let Profile { probe_interval, gossip_interval, push_pull_interval, .. } = self.profile;
        self.probe_grid = cx.now + cx.rng.duration_below(probe_interval);
        self.timers.set(Timer::Probe, self.probe_grid + probe_interval);
        self.metronome.start(cx.now + cx.rng.duration_below(gossip_interval));
        if !push_pull_interval.is_zero() {
            let phase = cx.rng.duration_below(push_pull_interval);
            self.timers.set(Timer::PushPull, cx.now + phase + self.push_pull_interval());
        }
    }

    /// Takes a message of a datagram; those of the layer above do not come here.
    pub(crate) fn on_message(
        &mut self,
        from: SocketAddr,
        message: &Message<'_>,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        match message {
            Message::Ping(ping) => self.on_ping(from, ping, cx),
            Message::IndirectPing(ping) => self.on_indirect_ping(from, ping, cx),
            Message::Ack(ack) => self.on_ack(from, ack, cx),
            Message::Nack(nack) => self.on_nack(from, *nack, cx),
            Message::Alive(alive) => self.alive(alive, Origin::Peer, notices, cx),
            Message::Suspect(suspect) => self.suspect(suspect, cx),
            Message::Dead(dead) => self.dead(dead, None, notices, cx),
            Message::User(_) => unreachable!("the node gives them to the layer above"),
        }
    }

    /// Lets everything happen that is due.
    pub(crate) fn on_tick(&mut self, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        self.look_at_the_clock(cx);
        while let Some(timer) = self.timers.pop_due(cx.now) {
            match timer {
                Timer::Probe => self.on_probe_due(cx),
                Timer::ProbeTimeout => self.on_probe_timeout(cx),
                Timer::ProbeEnd => self.on_probe_end(cx),
                Timer::PushPull => self.on_push_pull_due(cx),
                Timer::Suspicion(idx) => self.on_suspicion_due(idx, notices, cx),
                Timer::Relay(sequence) => self.on_relay_due(sequence, cx),
                Timer::Stream(id) => self.on_stream_due(id, notices, cx),
            }
        }
        self.on_gossip_tick(cx);
    }

    /// After a tick so late that a probe had no time left for its relays, this node did not run, and what it
    /// was sent meanwhile has not been read yet. The silence of others says nothing then: the running probe is
    /// void, and for suspects the time stood still, until the probes after this have had theirs.
    fn look_at_the_clock(&mut self, cx: &mut Cx<'_>) {
        let Profile { probe_interval, probe_timeout, .. } = self.profile;
        let late = self.timers.next().map_or(Duration::ZERO, |due| cx.now.since(due));
        if late <= probe_interval.saturating_sub(probe_timeout) {
            return;
        }
        cx.note(Note::Overslept { late });
        self.drop_probe();
        self.chosen.clear();
        self.chosen.extend(self.table.iter().filter(|(_, e)| e.suspicion.is_some()).map(|(idx, _)| idx));
        for idx in &self.chosen {
            if let Some(suspicion) = &mut self.table.get_mut(*idx).suspicion {
                suspicion.prolong(late.saturating_add(probe_interval));
                self.timers.set(Timer::Suspicion(*idx), suspicion.deadline());
            }
        }
    }

    /// When [`on_tick`](Swim::on_tick) is wanted next. An agent that has nothing to gossip, or nobody to
    /// gossip with, is not woken for it.
    pub(crate) fn deadline(&self, now: Instant, gossip_wanted: bool) -> Option<Instant> {
        let gossip = (gossip_wanted && self.has_company()).then(|| self.metronome.due().unwrap_or(now));
        [self.timers.next(), gossip].into_iter().flatten().min()
    }

    /// Announces new metadata under a new incarnation; `token` finishes when it has been gossiped. A node
    /// that leaves announces nothing any more, and the token does not finish.
    pub(crate) fn update_meta(
        &mut self,
        meta: &[u8],
        token: Token,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        self.announce(meta, Some(token), notices, cx);
    }

    /// Says, once, that this node leaves. It goes on answering and gossiping (gossip.md 12).
    pub(crate) fn leave(&mut self, token: Token, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        self.leaving = true;
        let name = self.name.clone();
        let dead = Accusation { incarnation: self.incarnation, node: &name, from: &name };
        self.dead(&dead, Some(token), notices, cx);
    }

    /// Own name.
    pub(crate) fn name(&self) -> &Text {
        &self.name
    }

    /// Own address and port, as announced.
    pub(crate) fn own_addr(&self) -> (WireAddr, u16) {
        (self.addr, self.port)
    }

    /// All known nodes.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// How many nodes are alive or suspect, this one included.
    pub(crate) fn live_nodes(&self) -> usize {
        self.table.iter().filter(|(_, entry)| entry.state.is_live()).count()
    }

    /// Whether any other node is alive or suspect.
    pub(crate) fn others_live(&self) -> bool {
        self.table.iter().any(|(_, entry)| entry.state.is_live() && entry.name != self.name)
    }

    /// 0 is healthy (gossip.md 8.6).
    pub(crate) fn health_score(&self) -> u32 {
        self.awareness.score()
    }

    /// Takes the next incarnation and announces this node with `meta`.
    fn announce(&mut self, meta: &[u8], token: Option<Token>, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        self.incarnation = self.incarnation.saturating_add(1);
        let (name, addr, versions) = (self.name.clone(), self.addr, self.versions);
        let alive = Alive {
            incarnation: self.incarnation,
            node: &name,
            addr: addr.as_bytes(),
            port: self.port,
            meta,
            vsn: &versions.0,
        };
        self.alive(&alive, Origin::Own(token), notices, cx);
    }

    /// Whether there is anybody who could be gossiped with.
    fn has_company(&self) -> bool {
        self.table.len() > 1
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Where answers to this node go.
    fn source(&self) -> Source<'_> {
        Source { addr: self.addr.as_bytes(), port: self.port, node: &self.name }
    }

    fn adjust_health(&mut self, delta: i32, cx: &mut Cx<'_>) {
        if let Some(score) = self.awareness.adjust(delta) {
            cx.note(Note::HealthChanged { score });
            cx.count(Metric::HealthScore, f64::from(score));
        }
    }

    /// Sends one message, and lets gossip ride along as far as there is room (gossip.md 4.8).
    fn send(&self, to: SocketAddr, message: &Message<'_>, cx: &mut Cx<'_>) {
        cx.batch.push_message(message);
        let room = packet_room(self.udp_buffer_size, cx.codec).saturating_sub(cx.batch.bytes_len());
        cx.fill(room);
        flush(to, false, cx);
    }
}

/// Bytes of a gossip packet that its messages may fill, each with its length in the compound (gossip.md 4.8).
fn packet_room(udp_buffer_size: usize, codec: &Codec) -> usize {
    udp_buffer_size.saturating_sub(2 + codec.overhead())
}

/// Sends one message for the layer above of another node, directly. One that fits no datagram is dropped.
pub(crate) fn send_user(to: SocketAddr, body: &[u8], cx: &mut Cx<'_>) {
    let length = USER_KIND + body.len() + cx.codec.overhead();
    if length > limits::DATAGRAM {
        return cx.note(Note::DatagramTooLong { to, length });
    }
    cx.batch.push_user(body);
    flush(to, false, cx);
}

/// Sends the messages that were put together.
fn flush(to: SocketAddr, crc: bool, cx: &mut Cx<'_>) {
    let Cx { codec, batch, rng, out, .. } = cx;
    let length = out.send(to, |bytes| codec.seal(batch, crc, rng, bytes));
    batch.clear();
    cx.count(Metric::UdpSent, length as f64);
}
