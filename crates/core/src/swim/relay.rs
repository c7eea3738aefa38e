//! Probing for others: an indirect ping makes this node ping the target and pass the answer on
//! (gossip.md 8.4, 8.5).
//!
//! The nack goes out before the own probe timeout is over, because the asker's time may end together with
//! it; an ack that comes after the nack is still passed on. The invariant: each relayed probe has a timer.

use super::probe::answer_addr;
use super::{Swim, Timer};
use crate::cx::Cx;
use crate::limits;
use crate::member::WireAddr;
use crate::note::Note;
use crate::time::Instant;
use crate::wire::message::{Ack, IndirectPing, Message, Nack, Ping};
use std::net::SocketAddr;

/// A probe for another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    /// Of our ping; no two that are under way share it.
    ping: u32,
    asker: SocketAddr,
    /// The asker's sequence number.
    sequence: u32,
    /// It still wants to hear if nothing comes.
    nack_wanted: bool,
    end: Instant,
}

impl Swim {
    /// Pings for another node.
    pub(super) fn on_indirect_ping(&mut self, from: SocketAddr, request: &IndirectPing<'_>, cx: &mut Cx<'_>) {
        let Some(target) = WireAddr::from_bytes(request.target) else {
            let why = "the target's address has an impossible length".into();
            return cx.note(Note::MessageMalformed { from, why });
        };
        if self.relays.len() >= limits::RELAYED_PROBES {
            return cx.note(Note::RelayLimit { from });
        }
        let port = if request.port == 0 { self.port } else { request.port };
        let timeout = self.profile.probe_timeout;
        let ping = self.next_sequence();
        let relay = Relay {
            ping,
            asker: answer_addr(from, &request.source),
            sequence: request.seq,
            nack_wanted: request.nack,
            end: cx.now + timeout,
        };
        let due = if request.nack { cx.now + timeout.saturating_mul(4) / 5 } else { relay.end };
        self.timers.set(Timer::Relay(ping), due);
        self.relays.push(relay);
        let ping = Ping { seq: ping, node: request.node, source: self.source() };
        self.send(SocketAddr::new(target.ip(), port), &Message::Ping(ping), cx);
    }

    /// Passes an ack on, if it answers a relayed probe.
    pub(super) fn on_relayed_ack(&mut self, from: SocketAddr, sequence: u32, cx: &mut Cx<'_>) {
        let Some(place) = self.relays.iter().position(|relay| relay.ping == sequence) else {
            return cx.note(Note::AckUnexpected { from, seq: sequence });
        };
        let relay = self.relays.swap_remove(place);
        self.timers.cancel(Timer::Relay(sequence));
        self.send(relay.asker, &Message::Ack(Ack { seq: relay.sequence, payload: None }), cx);
    }

    /// Nothing came: first the nack, then the end.
    pub(super) fn on_relay_due(&mut self, ping: u32, cx: &mut Cx<'_>) {
        let Some(place) = self.relays.iter().position(|relay| relay.ping == ping) else { return };
        let relay = &mut self.relays[place];
        if !std::mem::take(&mut relay.nack_wanted) {
            self.relays.swap_remove(place);
            return;
        }
        let Relay { asker, sequence: seq, end, .. } = *relay;
        self.timers.set(Timer::Relay(ping), end);
        self.send(asker, &Message::Nack(Nack { seq }), cx);
    }
}
