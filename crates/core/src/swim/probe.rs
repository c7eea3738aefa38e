//! Is it there? One probe at a time: a ping, then relays and TCP, then a suspicion (gossip.md 8.2 to 8.6).
//!
//! A probe is a small machine: direct until the probe timeout, then indirect until the scaled interval is
//! over. The invariant: both of its timers are set exactly while it runs, and what it says in the end refers
//! to the incarnation that the target had in the beginning, so that a refutation on the way makes it void.

use super::gossip::next_on_grid;
use super::rules::State;
use super::table::MemberIdx;
use super::{Swim, Timer, flush};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::member::WireAddr;
use crate::metric::{Metric, milliseconds};
use crate::note::Note;
use crate::text::Text;
use crate::time::{Duration, Instant};
use crate::wire::message::{Accusation, Ack, IndirectPing, Message, Nack, Ping, Source};
use crate::wire::serf::{decode_coordinate, encode_coordinate};
use std::net::SocketAddr;

/// A probe that runs.
#[derive(Debug)]
pub(super) struct Probe {
    target: MemberIdx,
    name: Text,
    addr: SocketAddr,
    incarnation: u32,
    sequence: u32,
    sent: Instant,
    end: Instant,
    nacks_expected: u32,
    nacks: u32,
    /// The target answered over TCP.
    reached_by_tcp: bool,
}

impl Swim {
    /// Starts the next probe, or remembers that one was due.
    pub(super) fn on_probe_due(&mut self, cx: &mut Cx<'_>) {
        // Each due time is on the grid of the one before, however late the tick.
        self.timers.set(Timer::Probe, next_on_grid(self.probe_grid, self.profile.probe_interval, cx.now));
        if self.probe.is_some() {
            self.probe_missed = true;
        } else {
            self.probe_next(cx);
        }
    }

    /// Nobody answered the ping: asks others to try, and tries TCP.
    pub(super) fn on_probe_timeout(&mut self, cx: &mut Cx<'_>) {
        let Some(probe) = &self.probe else { return };
        let (target, name, addr) = (probe.target, probe.name.clone(), probe.addr);
        let (sequence, end) = (probe.sequence, probe.end);
        let entry = self.table.get(target);
        let (wire_addr, speaks_tcp_ping) = (entry.addr, entry.versions.memberlist_max() >= 3);
        let me = &self.name;
        self.table.choose(self.profile.indirect_checks, cx.rng, &mut self.chosen, |entry| {
            entry.state == State::Alive && entry.name != *me && entry.name != name
        });
        let mut nacks_expected = 0;
        for idx in &self.chosen {
            let relay = self.table.get(*idx);
            let nack = relay.versions.memberlist_max() >= 4;
            nacks_expected += u32::from(nack);
            let request = IndirectPing {
                seq: sequence,
                target: wire_addr.as_bytes(),
                port: addr.port(),
                node: &name,
                nack,
                source: self.source(),
            };
            self.send(relay.socket_addr(), &Message::IndirectPing(request), cx);
        }
        if let Some(probe) = &mut self.probe {
            probe.nacks_expected = nacks_expected;
        }
        if speaks_tcp_ping {
            self.ping_by_stream(addr, name, sequence, end, cx);
        }
    }

    /// The time of the probe is over.
    pub(super) fn on_probe_end(&mut self, cx: &mut Cx<'_>) {
        let Some(probe) = self.probe.take() else { return };
        self.timers.cancel(Timer::ProbeTimeout);
        cx.count(Metric::ProbeNode, milliseconds(cx.now.since(probe.sent)));
        if probe.reached_by_tcp {
            cx.note(Note::ProbeOnlyTcp { node: probe.name });
            self.adjust_health(-1, cx);
        } else {
            cx.note(Note::ProbeFailed { node: probe.name.clone() });
            let lost = probe.nacks_expected.saturating_sub(probe.nacks);
            // Relays that all said "no" show that this node hears well.
            let delta = if probe.nacks_expected == 0 { 1 } else { lost };
            self.adjust_health(i32::try_from(delta).unwrap_or(i32::MAX), cx);
            let me = self.name.clone();
            let claim = Accusation { incarnation: probe.incarnation, node: &probe.name, from: &me };
            self.suspect(&claim, cx);
        }
        self.probe_remembered(cx);
    }

    /// Ends the running probe without a judgement.
    pub(super) fn drop_probe(&mut self) {
        self.probe = None;
        self.probe_missed = false;
        self.timers.cancel(Timer::ProbeTimeout);
        self.timers.cancel(Timer::ProbeEnd);
    }

    /// Whatever answers a ping of ours: of our own probe, or of one that is relayed.
    pub(super) fn on_ack(&mut self, from: SocketAddr, ack: &Ack<'_>, cx: &mut Cx<'_>) {
        let Some(probe) = self.probe.take_if(|probe| probe.sequence == ack.seq) else {
            return self.on_relayed_ack(from, ack.seq, cx);
        };
        self.timers.cancel(Timer::ProbeTimeout);
        self.timers.cancel(Timer::ProbeEnd);
        let round_trip = cx.now.since(probe.sent);
        cx.count(Metric::ProbeNode, milliseconds(round_trip));
        // A later ack may have come through a relay, and so says nothing about the distance. Of a node that is
        // gone by now the layer above may have forgotten everything, and nobody would forget the distance.
        let is_live = self.table.get(probe.target).state.is_live();
        if round_trip <= self.profile.probe_timeout && is_live {
            locate(&probe.name, ack.payload.unwrap_or_default(), round_trip, cx);
        }
        self.adjust_health(-1, cx);
        self.probe_remembered(cx);
    }

    /// A relay could not reach the target either.
    pub(super) fn on_nack(&mut self, from: SocketAddr, nack: Nack, cx: &mut Cx<'_>) {
        match &mut self.probe {
            Some(probe) if probe.sequence == nack.seq => probe.nacks += 1,
            _ => cx.note(Note::AckUnexpected { from, seq: nack.seq }),
        }
    }

    /// The probe over TCP is over.
    pub(super) fn on_stream_ping_done(
        &mut self,
        node: Text,
        sequence: u32,
        result: Result<(), ExchangeError>,
        cx: &mut Cx<'_>,
    ) {
        match (result, &mut self.probe) {
            (Ok(()), Some(probe)) if probe.sequence == sequence => probe.reached_by_tcp = true,
            // An ack came first.
            (Ok(()), _) => {}
            // A dead node is expected not to answer; what its probe comes to is said in its place.
            (Err(why @ (ExchangeError::Connect(_) | ExchangeError::ConnectTimedOut)), _) => {
                cx.note(Note::ProbeTcpUnreachable { node, why });
            }
            (Err(why), _) => cx.note(Note::ProbeTcpFailed { node, why }),
        }
    }

    /// Answers another node's probe (gossip.md 8.4).
    pub(super) fn on_ping(&mut self, from: SocketAddr, ping: &Ping<'_>, cx: &mut Cx<'_>) {
        if !self.is_meant(ping) {
            return cx.note(Note::PingMisdirected { from, node: ping.node.into() });
        }
        self.scratch.clear();
        let locates = cx.coordinates.is_enabled();
        if locates {
            encode_coordinate(cx.coordinates.own(), &mut self.scratch);
        }
        let ack = Ack { seq: ping.seq, payload: locates.then_some(&self.scratch[..]) };
        self.send(answer_addr(from, &ping.source), &Message::Ack(ack), cx);
    }

    /// Whether a ping is for this node, and not for one that was here before.
    pub(super) fn is_meant(&self, ping: &Ping<'_>) -> bool {
        ping.node.is_empty() || ping.node == self.name.as_bytes()
    }

    fn probe_remembered(&mut self, cx: &mut Cx<'_>) {
        if std::mem::take(&mut self.probe_missed) {
            self.probe_next(cx);
        }
    }

    fn probe_next(&mut self, cx: &mut Cx<'_>) {
        let keep = self.profile.gossip_to_the_dead_time;
        let target = self.table.next_target(&self.name, (cx.now, keep), cx.rng);
        cx.broadcasts.nodes = self.table.len();
        let Some(target) = target else { return };
        let sequence = self.next_sequence();
        let end = cx.now + self.awareness.stretch(self.profile.probe_interval);
        if self.awareness.score() > 0 {
            cx.count(Metric::DegradedProbe, 1.0);
        }
        self.timers.set(Timer::ProbeTimeout, cx.now + self.profile.probe_timeout);
        self.timers.set(Timer::ProbeEnd, end);
        let entry = self.table.get(target);
        self.probe = Some(Probe {
            target,
            name: entry.name.clone(),
            addr: entry.socket_addr(),
            incarnation: entry.incarnation,
            sequence,
            sent: cx.now,
            end,
            nacks_expected: 0,
            nacks: 0,
            reached_by_tcp: false,
        });
        let ping = Message::Ping(Ping { seq: sequence, node: &entry.name, source: self.source() });
        if entry.state == State::Alive {
            return self.send(entry.socket_addr(), &ping, cx);
        }
        // The buddy system: a suspect learns at once that it must refute.
        let suspect = Accusation { incarnation: entry.incarnation, node: &entry.name, from: &self.name };
        cx.batch.push_message(&ping);
        cx.batch.push_message(&Message::Suspect(suspect));
        flush(entry.socket_addr(), entry.versions.memberlist_max() >= 5, cx);
    }
}

/// Where the answer to a probe goes: to where the prober says it is, if it says so.
pub(super) fn answer_addr(from: SocketAddr, source: &Source<'_>) -> SocketAddr {
    match WireAddr::from_bytes(source.addr) {
        Some(addr) if source.port != 0 => SocketAddr::new(addr.ip(), source.port),
        _ => from,
    }
}

/// Learns from the coordinate in a direct ack where the peer is (gossip.md 14.5).
fn locate(name: &Text, payload: &[u8], round_trip: Duration, cx: &mut Cx<'_>) {
    if payload.is_empty() || !cx.coordinates.is_enabled() {
        return;
    }
    let before = *cx.coordinates.own();
    let refused = match decode_coordinate(payload) {
        Ok(coordinate) => match cx.coordinates.update(name, &coordinate, round_trip, cx.rng) {
            Ok(()) => {
                let moved = before.distance(cx.coordinates.own());
                return cx.count(Metric::CoordinateAdjustment, milliseconds(moved));
            }
            Err(rejected) => rejected.to_string(),
        },
        Err(error) => error.to_string(),
    };
    cx.note(Note::CoordinateRefused { name: name.clone(), why: refused });
}
