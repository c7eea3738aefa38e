//! Carries out what [`rules`](super::rules) decides about a claim: table, timers, gossip, notices
//! (gossip.md 9).
//!
//! The invariant: a node has a suspicion and a suspicion timer exactly while it is suspect.

use super::rules::{Claim, Known, State, Subject, Verdict, judge, refutation};
use super::suspicion::{Pace, Suspicion};
use super::table::{Entry, MemberIdx};
use super::verify::admit;
use super::{Notice, Swim, Timer, flush, packet_room};
use crate::broadcast::Token;
use crate::cx::Cx;
use crate::limits;
use crate::member::{Versions, WireAddr, is_plain_name};
use crate::metric::Metric;
use crate::note::Note;
use crate::time::Instant;
use crate::wire::message::{Accusation, Alive, Message, PushNode};
use crate::wire::serf::encode;
use std::net::SocketAddr;

/// Bytes that a message costs in a compound besides its own (gossip.md 4.7).
const COMPOUND_ENTRY: usize = 2;

/// Who says that a node is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Another node.
    Peer,
    /// The node at this address, when it was asked for its state.
    Asked(SocketAddr),
    /// This node, about itself, now; the token rides on the broadcast.
    Own(Option<Token>),
}

impl Swim {
    /// Weighs "that node is here" (gossip.md 9.2).
    pub(super) fn alive(
        &mut self,
        alive: &Alive<'_>,
        origin: Origin,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        // What is said of this node at its own address is never believed but refuted where it is wrong, and so
        // it need not be possible: whoever says it may have been believed by others.
        let is_myself = alive.node == self.name.as_bytes() && alive.addr == self.addr.as_bytes();
        let is_odd =
            self.validate_node_names && alive.node != self.name.as_bytes() && !is_plain_name(alive.node);
        let admitted = match (is_myself, is_odd) {
            (true, _) => Ok((self.addr, self.versions)),
            (false, true) => Err("its name is too long or has other than letters, digits, '-', '_' and '.'"),
            (false, false) => admit(alive),
        };
        let (addr, versions) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => return cx.note(Note::AliveRefused { node: alive.node.into(), why }),
        };
        let port = if alive.port == 0 { self.port } else { alive.port };
        let idx = self.table.find(alive.node);
        let known = idx.map(|idx| self.table.get(idx));
        let claim = Claim::Alive {
            incarnation: alive.incarnation,
            address_differs: known.is_some_and(|entry| entry.addr != addr || entry.port != port),
            attributes_differ: known
                .is_some_and(|entry| *entry.meta != *alive.meta || entry.versions.0 != *alive.vsn),
            own: matches!(origin, Origin::Own(_)),
        };
        match judge(known.map(|entry| self.known(entry, cx.now)), claim, self.subject(alive.node)) {
            Verdict::Accept(_) => {
                let alive = Alive { port, ..alive.clone() };
                self.accept_alive(idx, &alive, (addr, versions), origin, notices, cx);
            }
            Verdict::Refute => {
                self.refute(alive.incarnation, Note::RefutedAlive { node: alive.node.into() }, cx);
            }
            Verdict::Conflict => {
                let entry = known.expect("only a known name can be in conflict");
                cx.note(Note::AddressConflict {
                    node: entry.name.clone(),
                    ours: entry.socket_addr(),
                    theirs: SocketAddr::new(addr.ip(), port),
                    state: entry.state as u8,
                });
                let asked = if let Origin::Asked(peer) = origin { Some(peer) } else { None };
                notices.push(Notice::Conflict { node: entry.name.clone(), addr, port, asked });
            }
            Verdict::Ignore => self.remind(idx, cx),
            Verdict::Confirm | Verdict::Raise => {}
        }
    }

    /// Weighs "I could not reach that node" (gossip.md 9.3).
    pub(super) fn suspect(&mut self, claim: &Accusation<'_>, cx: &mut Cx<'_>) {
        let Some(idx) = self.table.find(claim.node) else { return };
        let judged = Claim::Suspect { incarnation: claim.incarnation };
        match judge(Some(self.known(self.table.get(idx), cx.now)), judged, self.subject(claim.node)) {
            Verdict::Accept(_) => {
                let pace = Pace {
                    mult: self.profile.suspicion_mult,
                    max_mult: self.profile.suspicion_max_timeout_mult,
                    probe_interval: self.profile.probe_interval,
                    nodes: self.table.len(),
                };
                let suspicion = Suspicion::new(claim.from.into(), pace, cx.now);
                self.timers.set(Timer::Suspicion(idx), suspicion.deadline());
                let entry = self.table.get_mut(idx);
                entry.incarnation = claim.incarnation;
                entry.state = State::Suspect;
                entry.changed = cx.now;
                entry.suspicion = Some(suspicion);
                cx.count(Metric::MsgSuspect, 1.0);
                self.gossip_about(idx, &Message::Suspect(claim.clone()), None, cx);
            }
            Verdict::Confirm => self.confirm(idx, claim, cx),
            Verdict::Refute => {
                self.refute(claim.incarnation, Note::RefutedSuspect { from: claim.from.into() }, cx);
            }
            Verdict::Raise => self.table.get_mut(idx).incarnation = claim.incarnation,
            Verdict::Ignore | Verdict::Conflict => {}
        }
    }

    /// Weighs "that node is dead", or its own word that it leaves (gossip.md 9.4).
    pub(super) fn dead(
        &mut self,
        claim: &Accusation<'_>,
        token: Option<Token>,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        let Some(idx) = self.table.find(claim.node) else { return };
        let judged = Claim::Dead { incarnation: claim.incarnation, left: claim.node == claim.from };
        match judge(Some(self.known(self.table.get(idx), cx.now)), judged, self.subject(claim.node)) {
            Verdict::Accept(state) => {
                self.drop_suspicion(idx);
                let entry = self.table.get_mut(idx);
                entry.incarnation = claim.incarnation;
                entry.state = state;
                entry.changed = cx.now;
                cx.count(Metric::MsgDead, 1.0);
                self.gossip_about(idx, &Message::Dead(claim.clone()), token, cx);
                notices.push(Notice::Gone(idx));
            }
            Verdict::Refute => {
                self.refute(claim.incarnation, Note::RefutedDead { from: claim.from.into() }, cx);
            }
            Verdict::Raise => self.table.get_mut(idx).incarnation = claim.incarnation,
            Verdict::Ignore | Verdict::Confirm | Verdict::Conflict => {}
        }
    }

    /// Weighs the table of another node (gossip.md 9.5).
    pub(super) fn merge(
        &mut self,
        nodes: &[PushNode<'_>],
        origin: Origin,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        let me = self.name.clone();
        for node in nodes {
            let &PushNode { incarnation, name, addr, port, meta, vsn, .. } = node;
            match node.state {
                0 => {
                    let alive = Alive { incarnation, node: name, addr, port, meta, vsn };
                    self.alive(&alive, origin, notices, cx);
                }
                // A dead node gets the chance to refute.
                1 | 2 => self.suspect(&Accusation { incarnation, node: name, from: &me }, cx),
                3 => self.dead(&Accusation { incarnation, node: name, from: name }, None, notices, cx),
                _ => cx.note(Note::AliveRefused { node: name.into(), why: "its state is unknown" }),
            }
        }
    }

    /// A suspect did not refute in time.
    pub(super) fn on_suspicion_due(&mut self, idx: MemberIdx, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let entry = self.table.get(idx);
        let suspicion = entry.suspicion.as_ref().expect("the timer lives as long as the suspicion");
        let (node, incarnation) = (entry.name.clone(), entry.incarnation);
        let confirmations = suspicion.confirmations();
        cx.note(Note::SuspicionTimeout { node: node.clone(), confirmations });
        let me = self.name.clone();
        self.dead(&Accusation { incarnation, node: &node, from: &me }, None, notices, cx);
    }

    fn known(&self, entry: &Entry, now: Instant) -> Known {
        let is_old = !self.reclaim_time.is_zero() && now.since(entry.changed) > self.reclaim_time;
        Known { state: entry.state, incarnation: entry.incarnation, is_old }
    }

    fn subject(&self, node: &[u8]) -> Subject {
        if node == self.name.as_bytes() { Subject::Myself { leaving: self.leaving } } else { Subject::Other }
    }

    fn accept_alive(
        &mut self,
        idx: Option<MemberIdx>,
        alive: &Alive<'_>,
        (addr, versions): (WireAddr, Versions),
        origin: Origin,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        let token = if let Origin::Own(token) = origin { token } else { None };
        let claimed = Entry {
            name: idx.map_or_else(|| alive.node.into(), |idx| self.table.get(idx).name.clone()),
            addr,
            port: alive.port,
            meta: alive.meta.into(),
            versions,
            incarnation: alive.incarnation,
            state: State::Alive,
            changed: cx.now,
            reminded: Instant::ORIGIN,
            suspicion: None,
        };
        let Some(idx) = idx else {
            if self.table.len() >= limits::NODES {
                return cx.note(Note::TableFull { node: claimed.name });
            }
            let idx = self.table.insert(claimed, cx.rng);
            cx.broadcasts.nodes = self.table.len();
            cx.count(Metric::MsgAlive, 1.0);
            self.gossip_about(idx, &Message::Alive(alive.clone()), token, cx);
            return notices.push(Notice::Joined(idx));
        };
        cx.count(Metric::MsgAlive, 1.0);
        self.drop_suspicion(idx);
        let entry = self.table.get_mut(idx);
        let came_back = !entry.state.is_live();
        let updated = entry.meta != claimed.meta || entry.versions != versions;
        let changed = if entry.state == State::Alive { entry.changed } else { cx.now };
        *entry = Entry { changed, ..claimed };
        self.gossip_about(idx, &Message::Alive(alive.clone()), token, cx);
        if came_back {
            notices.push(Notice::Joined(idx));
        } else if updated {
            notices.push(Notice::Updated(idx));
        }
    }

    /// Somebody says that a node is there that is held for gone since a later time. That may be old news; or the
    /// node was started again, joined others that have forgotten it, and knows nothing of what it must exceed. So
    /// it is told, at most once in the time of a probe.
    fn remind(&mut self, idx: Option<MemberIdx>, cx: &mut Cx<'_>) {
        let Some(idx) = idx else { return };
        let entry = self.table.get_mut(idx);
        let is_due = cx.now.since(entry.reminded) >= self.profile.probe_interval;
        if entry.state.is_live() || entry.name == self.name || !is_due {
            return;
        }
        entry.reminded = cx.now;
        let accusation = Accusation { incarnation: entry.incarnation, node: &entry.name, from: &self.name };
        cx.batch.push_message(&Message::Suspect(accusation));
        flush(entry.socket_addr(), entry.versions.memberlist_max() >= 5, cx);
    }

    fn confirm(&mut self, idx: MemberIdx, claim: &Accusation<'_>, cx: &mut Cx<'_>) {
        let entry = self.table.get_mut(idx);
        // Whatever it is accused at, it must exceed; also if this accuser has been counted.
        entry.incarnation = claim.incarnation;
        let suspicion = entry.suspicion.as_mut().expect("a suspect has a suspicion");
        if !suspicion.confirm(claim.from) {
            return;
        }
        self.timers.set(Timer::Suspicion(idx), suspicion.deadline());
        cx.note(Note::SuspicionConfirmed { node: entry.name.clone(), from: claim.from.into() });
        self.gossip_about(idx, &Message::Suspect(claim.clone()), None, cx);
    }

    fn drop_suspicion(&mut self, idx: MemberIdx) {
        self.table.get_mut(idx).suspicion = None;
        self.timers.cancel(Timer::Suspicion(idx));
    }

    /// Says something about this node that is greater than what was claimed (gossip.md 9.1). Nothing is greater
    /// than the last incarnation; after such a claim this node is dead to the others until they forget it, and
    /// its health is not what is wrong.
    fn refute(&mut self, accused: u32, said: Note, cx: &mut Cx<'_>) {
        let Some(incarnation) = refutation(self.incarnation, accused) else {
            return cx.note(Note::Irrefutable { incarnation: accused });
        };
        cx.note(said);
        self.adjust_health(1, cx);
        self.incarnation = incarnation;
        let idx = self.table.find(&self.name).expect("this node is in its own table");
        let entry = self.table.get_mut(idx);
        entry.incarnation = self.incarnation;
        let (name, meta) = (entry.name.clone(), entry.meta.clone());
        let (addr, versions) = (self.addr, self.versions);
        let alive = Alive {
            incarnation: self.incarnation,
            node: &name,
            addr: addr.as_bytes(),
            port: self.port,
            meta: &meta,
            vsn: &versions.0,
        };
        self.gossip_about(idx, &Message::Alive(alive), None, cx);
    }

    /// Queues a message about a node; an older one about it is displaced. One that fits into no packet, which
    /// takes a packet size below the default, would stay in the queue for ever and is left to the full exchanges.
    fn gossip_about(&mut self, idx: MemberIdx, message: &Message<'_>, token: Option<Token>, cx: &mut Cx<'_>) {
        self.scratch.clear();
        encode(message, &mut self.scratch);
        let length = self.scratch.len();
        if length + COMPOUND_ENTRY > packet_room(self.udp_buffer_size, cx.codec) {
            return cx.note(Note::TooLongToGossip { queue: "Membership", length });
        }
        cx.broadcasts.push_member(&self.table.get(idx).name, &self.scratch, token);
    }
}

/// What goes out about a node in a push/pull.
impl<'a> From<&'a Entry> for PushNode<'a> {
    fn from(entry: &'a Entry) -> PushNode<'a> {
        PushNode {
            incarnation: entry.incarnation,
            name: &entry.name,
            addr: entry.addr.as_bytes(),
            port: entry.port,
            meta: &entry.meta,
            state: entry.state as i64,
            vsn: &entry.versions.0,
        }
    }
}
