//! Who comes and goes: what follows when the membership layer or an intent says so (gossip.md 13.5, 13.6).
//!
//! The rules are those of the member table; here others are told.

use super::Serf;
use super::intents::{By, Said};
use super::members::Verdict;
use crate::broadcast::SerfQueue;
use crate::cx::Cx;
use crate::member::{Member, MemberEventKind, Status};
use crate::metric::Metric;
use crate::note::Note;
use crate::swim::Entry;
use crate::time::Duration;
use crate::wire::message::{JoinIntent, LeaveIntent, SerfMessage};
use crate::wire::serf::decode_meta;

/// A member that is back within this time of its failure flaps (gossip.md 17.2).
const FLAP_TIMEOUT: Duration = Duration::from_mins(1);

/// Where an intent comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// A message, which is passed on in these bytes.
    Message(&'a [u8]),
    /// This node, which sees to it elsewhere that others hear of it.
    Own,
    /// The state of another node.
    State,
}

impl Serf {
    /// The membership layer has found a node.
    pub(super) fn on_joined(&mut self, node: &Entry, cx: &mut Cx<'_>) {
        let is_flapping =
            self.members.failed_since(&node.name, cx.now).is_some_and(|gone| gone < FLAP_TIMEOUT);
        if !self.members.appear(seen(node)) {
            return cx.note(Note::MembersFull { name: node.name.clone() });
        }
        cx.count(Metric::MemberJoin, 1.0);
        if is_flapping {
            cx.count(Metric::MemberFlap, 1.0);
        }
        self.call_off_prune(&node.name, cx);
        cx.broadcasts.serf_members = self.members.len();
        cx.note(Note::MemberJoined { name: node.name.clone(), ip: node.addr.ip() });
        let member = self.members.get(&node.name).expect("it has just appeared").clone();
        self.report(MemberEventKind::Join, member, cx);
    }

    /// The membership layer has lost a node.
    pub(super) fn on_gone(&mut self, name: &[u8], cx: &mut Cx<'_>) {
        if self.members.get(name).is_none() {
            // There was no room for it, or it was pruned; what its acks said is still there.
            return cx.coordinates.forget(name);
        }
        let Some((kind, member)) = self.members.vanish(name, cx.now) else { return };
        let (name, ip) = (member.name.clone(), member.addr.ip());
        if kind == MemberEventKind::Leave {
            cx.count(Metric::MemberLeft, 1.0);
            cx.note(Note::MemberLeft { name, ip });
        } else {
            cx.count(Metric::MemberFailed, 1.0);
            cx.note(Note::MemberFailed { name, ip });
            self.expect_return(cx);
        }
        self.report(kind, member, cx);
    }

    /// The membership layer has news of a node.
    pub(super) fn on_updated(&mut self, node: &Entry, cx: &mut Cx<'_>) {
        let Some(member) = self.members.change(seen(node)) else { return };
        cx.count(Metric::MemberUpdate, 1.0);
        cx.note(Note::MemberUpdated { name: node.name.clone() });
        self.report(MemberEventKind::Update, member, cx);
    }

    /// A node leaves, or is to be forgotten.
    pub(super) fn on_leave_intent(&mut self, intent: &LeaveIntent<'_>, source: Source<'_>, cx: &mut Cx<'_>) {
        let home = self.home.name.clone();
        let by = if matches!(source, Source::State) { By::Conclusion } else { By::Message };
        let said = Said { ltime: intent.ltime, by };
        let stays = self.leaving.is_here().then_some(&*home);
        match self.members.leave_intent(intent.node, said, stays, cx.now) {
            Ok(Verdict::Applied { forced }) => {
                if let Some(member) = forced {
                    cx.count(Metric::MemberLeave, 1.0);
                    cx.note(Note::MemberForcedLeft { name: member.name.clone(), ip: member.addr.ip() });
                    self.report(MemberEventKind::Leave, member, cx);
                }
                if intent.prune {
                    self.prune(intent.node, cx);
                }
                self.forward_intent(source, cx);
            }
            Ok(Verdict::Refute) => {
                cx.note(Note::RefutedLeave);
                self.announce(cx);
            }
            verdict => self.after_intent(verdict, intent.node, source, cx),
        }
    }

    /// A node has joined, or stays. A state does not say whether its time is that of a join or of a leave.
    ///
    /// If it is about this node and later than all it said, some member may have applied a leave that this
    /// node never heard of. It says once more that it stays, or that member would never call it alive again.
    /// A gossiped intent says what it is, and needs no answer; two nodes of one name would answer each
    /// other's for ever.
    pub(super) fn on_join_intent(&mut self, intent: &JoinIntent<'_>, source: Source<'_>, cx: &mut Cx<'_>) {
        let home = self.home.name.clone();
        let by = if matches!(source, Source::State) { By::State } else { By::Message };
        let said = Said { ltime: intent.ltime, by };
        let stays = (by == By::State && self.leaving.is_here()).then_some(&*home);
        match self.members.join_intent(intent.node, said, stays, cx.now) {
            Ok(Verdict::Refute) => {
                cx.note(Note::RefutedTime { ltime: intent.ltime });
                self.announce(cx);
            }
            verdict => {
                if self.members.status(intent.node) == Status::Alive {
                    self.call_off_prune(intent.node, cx);
                }
                self.after_intent(verdict, intent.node, source, cx);
            }
        }
    }

    /// Tells the cluster that this node is a member and stays one.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        let name = self.home.name.clone();
        let intent = JoinIntent { ltime: self.members.clock.time(), node: &name };
        let bytes = self.encode(&SerfMessage::Join(intent.clone()));
        self.on_join_intent(&intent, Source::Message(&bytes), cx);
        self.scratch = bytes;
    }

    fn after_intent(
        &mut self,
        verdict: Result<Verdict, Note>,
        node: &[u8],
        source: Source<'_>,
        cx: &mut Cx<'_>,
    ) {
        match verdict {
            Ok(Verdict::Applied { .. } | Verdict::Remembered) => self.forward_intent(source, cx),
            Ok(Verdict::Old | Verdict::Refute) => {}
            Ok(Verdict::Full) => cx.note(Note::IntentsFull { name: node.into() }),
            Err(note) => cx.note(note),
        }
    }

    fn forward_intent(&mut self, source: Source<'_>, cx: &mut Cx<'_>) {
        if let Source::Message(bytes) = source {
            self.spread(SerfQueue::Intents, bytes, None, cx);
        }
    }
}

/// A node of the membership layer as a member; what it means to do is not known there.
fn seen(node: &Entry) -> Member {
    Member {
        name: node.name.clone(),
        addr: node.addr,
        port: node.port,
        tags: decode_meta(&node.meta),
        status: Status::None,
        versions: node.versions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::Broadcasts;
    use crate::config::Config;
    use crate::coordinate::{Coordinate, Coordinates};
    use crate::io::Outbox;
    use crate::member::WireAddr;
    use crate::rng::Rng;
    use crate::time::Instant;
    use crate::wire::serf::{Batch, Codec, Settings};

    /// A node for which there was no room among the members is probed all the same.
    #[test]
    fn of_a_node_that_was_no_member_nothing_stays() {
        let config = Config::new("me".into(), WireAddr::from_ip([127, 0, 0, 1].into()), 7946);
        let settings = Settings {
            label: Vec::new(),
            skip_inbound_label_check: false,
            keyring: None,
            verify_incoming: true,
            verify_outgoing: true,
            compression: false,
        };
        let mut serf = Serf::new(&config, crate::snapshot::Restored::default(), Instant::ORIGIN);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut Rng::new([1; 32]),
            out: &mut Outbox::new(),
            codec: &mut Codec::new(settings),
            batch: &mut Batch::default(),
            broadcasts: &mut Broadcasts::new(4),
            coordinates: &mut Coordinates::new(),
            metrics: &mut crate::metric::Metrics::new(),
        };
        let round_trip = Duration::from_millis(1);
        cx.coordinates.update(&"other".into(), &Coordinate::ORIGIN, round_trip, cx.rng).unwrap();
        serf.on_gone(b"other", &mut cx);
        assert_eq!(cx.coordinates.get(b"other"), None);
    }
}
