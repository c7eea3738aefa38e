//! One name, two nodes: the cluster votes on who keeps it (gossip.md 13.12).
//!
//! Each node says where it knows the name; the claimant that less than a majority knows must stop. Unlike
//! the reference, a vote in which nobody answers decides nothing, and only one vote runs at a time.

use super::Serf;
use crate::command::QueryParams;
use crate::cx::Cx;
use crate::member::{Event, Member, WireAddr};
use crate::note::Note;
use crate::swim::Swim;
use crate::text::Text;
use crate::wire::message::ConflictRecord;
use crate::wire::serf::{decode_conflict, encode_conflict};
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
        if self.responses == 0 {
            Outcome::Undecided
        } else if self.matching > self.responses / 2 {
            Outcome::Won
        } else {
            Outcome::Lost
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
    /// Somebody else claims a name that is taken.
    pub(super) fn on_conflict(&mut self, name: &Text, theirs: SocketAddr, swim: &mut Swim, cx: &mut Cx<'_>) {
        if *name != self.home.name {
            // The first holder can have been forgotten since; then there is no conflict any more.
            let Some(known) = swim.table().find(name) else { return };
            let known = swim.table().get(known);
            let ours = SocketAddr::new(known.addr.ip(), known.port);
            return cx.note(Note::NameConflict { name: name.clone(), ours, theirs });
        }
        let resolution = self.settings.name_conflict_resolution;
        cx.note(Note::OwnNameConflict { theirs, resolution });
        if !resolution || self.asking.is_voting() {
            return;
        }
        let params = QueryParams {
            name: CONFLICT.into(),
            payload: Some(self.home.name.as_bytes().into()),
            ..QueryParams::default()
        };
        if let Err(why) = self.ask(None, &params, swim, cx) {
            cx.note(Note::VoteFailed { why });
        }
    }

    /// The time to vote is over.
    pub(super) fn on_vote_over(&mut self, votes: Votes, cx: &mut Cx<'_>) {
        let Votes { matching, responses } = votes;
        match votes.outcome() {
            Outcome::Undecided => cx.note(Note::NameConflictUndecided),
            Outcome::Won => cx.note(Note::NameConflictWon { matching, responses }),
            Outcome::Lost => {
                cx.note(Note::NameConflictLost { matching, responses });
                self.delivery.flush(cx.out);
                self.delivery.deliver(Event::NameLost { matching, responses }, cx.now, cx.out);
            }
        }
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
            (1, 2, Outcome::Lost),
            (2, 3, Outcome::Won),
            (2, 4, Outcome::Lost),
            (3, 4, Outcome::Won),
        ];
        for (matching, responses, outcome) in rows {
            assert_eq!(Votes { matching, responses }.outcome(), outcome, "{matching} of {responses}");
        }
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
