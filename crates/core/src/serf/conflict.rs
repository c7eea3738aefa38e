//! One name, two nodes: the cluster votes on who keeps it (gossip.md 13.12).
//!
//! Each node says where it knows the name; the claimant that less than half of them know must stop. Unlike the
//! reference, a vote in which nobody answers, or that ends in a tie, stops nobody at once, and only one vote runs
//! at a time. After such a vote the claimants look in turn whether the other one is still there, and who finds it
//! gives way. The invariant: no two turns come at the same time, so one of two claimants stays.

use super::asking::Client;
use super::{Due, Serf};
use crate::command::QueryParams;
use crate::cx::Cx;
use crate::member::{Event, Member, WireAddr};
use crate::note::Note;
use crate::scale::query_timeout;
use crate::swim::{Notice, Purpose, Swim};
use crate::text::Text;
use crate::wire::message::ConflictRecord;
use crate::wire::serf::{decode_conflict, encode_conflict};
use std::cmp::Ordering;
use std::net::SocketAddr;

/// The query that asks for votes.
pub(super) const CONFLICT: &str = "_serf_conflict";

/// The votes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Votes {
    matching: usize,
    responses: usize,
}

/// What a vote came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Won,
    Lost,
    Undecided,
}

/// Somebody else who has this node's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rival {
    at: Option<SocketAddr>,
    /// This node heard of it when it asked somebody for his state, as one does who comes later.
    is_first: bool,
    /// It is asked right now whether it is there.
    is_asked: bool,
}

impl Rival {
    /// After how many times of a vote `home` looks for the rival, if at all.
    fn turn(&self, home: SocketAddr, responses: usize) -> Option<u32> {
        let is_last = self.at.is_some_and(|at| home < at);
        match (self.is_first, is_last) {
            (true, false) => Some(1),
            (true, true) => Some(2),
            (false, false) => Some(3),
            // Nobody but the rival contests it: the name was here first.
            (false, true) if responses == 0 => None,
            // The rival may have won its vote.
            (false, true) => Some(4),
        }
    }
}

impl Votes {
    /// Counts a response, if it is one. `home` is where this node is.
    pub(super) fn count(&mut self, payload: &[u8], home: SocketAddr) {
        let Ok(record) = decode_conflict(payload) else { return };
        self.responses += 1;
        let at = record
            .and_then(|record| Some(SocketAddr::new(WireAddr::from_bytes(record.addr)?.ip(), record.port)));
        self.matching += usize::from(at == Some(home));
    }

    fn outcome(self) -> Outcome {
        match (2 * self.matching).cmp(&self.responses) {
            Ordering::Equal => Outcome::Undecided,
            Ordering::Greater => Outcome::Won,
            Ordering::Less => Outcome::Lost,
        }
    }
}

/// The vote of this node: what it knows of the name in `payload`. None about its own.
pub(super) fn vote(payload: &[u8], own_name: &[u8], known: Option<&Member>) -> Option<Vec<u8>> {
    if payload == own_name {
        return None;
    }
    let record = known.map(|member| ConflictRecord {
        addr: member.addr.as_bytes(),
        port: member.port,
        name: &member.name,
        status: member.status as i64,
        vsn: member.versions.0,
        tags: member.tags.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
    });
    let mut bytes = Vec::new();
    encode_conflict(record.as_ref(), &mut bytes);
    Some(bytes)
}

impl Serf {
    /// Somebody else claims a name that is taken; `asked` said so when it was asked for its state.
    pub(super) fn on_conflict(
        &mut self,
        name: &Text,
        theirs: SocketAddr,
        asked: Option<SocketAddr>,
        swim: &mut Swim,
        cx: &mut Cx<'_>,
    ) {
        if *name != self.home.name {
            // The first holder can have been forgotten since; then there is no conflict any more.
            let Some(known) = swim.table().find(name) else { return };
            let known = swim.table().get(known);
            let ours = SocketAddr::new(known.addr.ip(), known.port);
            return cx.note(Note::NameConflict { name: name.clone(), ours, theirs });
        }
        let resolution = self.settings.name_conflict_resolution;
        cx.note(Note::OwnNameConflict { theirs, resolution });
        if !resolution {
            return;
        }
        if self.rival.is_asked && self.rival.at == Some(theirs) && asked == Some(theirs) {
            return self.lose_name(Votes::default(), cx);
        }
        if self.asking.is_voting() {
            self.rival.is_first |= asked.is_some();
            return;
        }
        if self.rival.is_asked || self.timers.contains(Due::NameCheck) {
            return;
        }
        self.rival = Rival { at: Some(theirs), is_first: asked.is_some(), is_asked: false };
        let params = QueryParams {
            name: CONFLICT.into(),
            payload: Some(self.home.name.as_bytes().into()),
            ..QueryParams::default()
        };
        if let Err(why) = self.ask(Client::Vote(Votes::default()), &params, swim, cx) {
            cx.note(Note::VoteFailed { why });
        }
    }

    /// The time to vote is over.
    pub(super) fn on_vote_over(&mut self, votes: Votes, cx: &mut Cx<'_>) {
        let Votes { matching, responses } = votes;
        match votes.outcome() {
            Outcome::Undecided => {
                cx.note(Note::NameConflictUndecided { matching, responses });
                if let Some(turns) = self.rival.turn(self.home.socket_addr(), responses) {
                    let vote = query_timeout(self.settings.gossip_interval, self.members.len());
                    self.timers.set(Due::NameCheck, cx.now + vote.saturating_mul(turns));
                }
            }
            Outcome::Won => {
                self.rival = Rival::default();
                cx.note(Note::NameConflictWon { matching, responses });
            }
            Outcome::Lost => self.lose_name(votes, cx),
        }
    }

    /// Looks whether the rival is still there. One that runs the reference is not: it stops when nobody votes.
    pub(super) fn check_name(&mut self, swim: &mut Swim, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let Some(at) = self.rival.at else { return };
        self.rival.is_asked = true;
        swim.exchange(at, Purpose::NameCheck, notices, cx);
    }

    /// The rival was asked for its state. If it is there and has the name, this node has given way already.
    pub(super) fn on_name_checked(&mut self, cx: &mut Cx<'_>) {
        if let Rival { at: Some(theirs), is_asked: true, .. } = std::mem::take(&mut self.rival) {
            cx.note(Note::NameConflictOver { theirs });
        }
    }

    fn lose_name(&mut self, votes: Votes, cx: &mut Cx<'_>) {
        let Votes { matching, responses } = votes;
        self.rival = Rival::default();
        cx.note(Note::NameConflictLost { matching, responses });
        self.delivery.flush(cx.out);
        self.delivery.deliver(Event::NameLost { matching, responses }, cx.now, cx.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Status, Tags, Versions};

    fn member(addr: WireAddr, port: u16) -> Member {
        Member {
            name: "twin".into(),
            addr,
            port,
            tags: Tags::from([("role".into(), "web".into())]),
            status: Status::Alive,
            versions: Versions::ours(5),
        }
    }

    fn here(port: u16) -> Member {
        member(WireAddr::from_ip([127, 0, 0, 1].into()), port)
    }

    #[test]
    fn a_majority_of_those_who_answer_decides() {
        #[rustfmt::skip]
        let rows = [
            (0, 0, Outcome::Undecided),
            (0, 1, Outcome::Lost),
            (1, 1, Outcome::Won),
            (1, 2, Outcome::Undecided),
            (1, 3, Outcome::Lost),
            (2, 3, Outcome::Won),
            (2, 4, Outcome::Undecided),
            (2, 5, Outcome::Lost),
            (3, 4, Outcome::Won),
        ];
        for (matching, responses, outcome) in rows {
            assert_eq!(Votes { matching, responses }.outcome(), outcome, "{matching} of {responses}");
        }
    }

    /// Whoever came later gives way first, and of two alike the one with the greater address.
    #[test]
    fn two_rivals_never_have_the_same_turn() {
        let (low, high) = (here(7946).socket_addr(), here(7947).socket_addr());
        let turn = |home, at, is_first, responses| {
            Rival { at: Some(at), is_first, is_asked: false }.turn(home, responses)
        };
        for (low_is_first, high_is_first) in [(false, false), (false, true), (true, false), (true, true)] {
            for responses in [0, 4] {
                let turns =
                    (turn(low, high, low_is_first, responses), turn(high, low, high_is_first, responses));
                assert_ne!(turns.0, turns.1);
                assert!(turns.0.is_some() || turns.1.is_some());
            }
        }
        assert_eq!((turn(low, high, false, 0), turn(low, high, true, 0)), (None, Some(2)));
        assert!(turn(low, high, true, 0) < turn(high, low, false, 0), "the newcomer gives way to the holder");
    }

    #[test]
    fn a_vote_counts_for_the_place_that_it_names() {
        let home = here(7946).socket_addr();
        let mapped = "::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mapped = member(WireAddr::from_bytes(&mapped).unwrap(), 7946);
        let mut votes = Votes::default();
        let mut totals = Vec::new();
        for known in [Some(&here(7946)), Some(&mapped), Some(&here(7947)), None] {
            votes.count(&vote(b"twin", b"other", known).unwrap(), home);
            totals.push((votes.matching, votes.responses));
        }
        votes.count(b"\x05garbage", home);
        totals.push((votes.matching, votes.responses));
        // Both forms of an address name one host; not to know the name is a vote against.
        assert_eq!(totals, [(1, 1), (2, 2), (2, 3), (2, 4), (2, 4)]);
    }

    #[test]
    fn nobody_votes_about_himself() {
        assert_eq!(vote(b"twin", b"twin", Some(&here(1))), None);
        assert_eq!(vote(b"nobody", b"twin", None), Some(vec![6, 0xc0]));
        let full = vote(b"twin", b"a", Some(&here(7946))).unwrap();
        let record = decode_conflict(&full).unwrap().unwrap();
        assert_eq!((record.name, record.status, record.vsn), (&b"twin"[..], 1, [1, 5, 2, 2, 5, 5]));
        assert_eq!(record.tags, [(&b"role"[..], &b"web"[..])]);
    }
}
