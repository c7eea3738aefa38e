//! What a claim about a node means, given what is known of that node: the whole of SWIM's order of
//! incarnations in one pure function (gossip.md 9.2 to 9.4).
//!
//! This decides who wins; [`merge`](super::merge) carries it out. The invariant: at an equal incarnation
//! nobody rises again — alive beats suspect and dead only with a greater one, save for a node that left
//! and comes back at another address.

/// What a node is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Answers, as far as is known.
    Alive = 0,
    /// Somebody could not reach it.
    Suspect = 1,
    /// Did not refute the suspicion in time.
    Dead = 2,
    /// Went by its own will.
    Left = 3,
}

impl State {
    /// Alive or suspect.
    pub(crate) const fn is_live(self) -> bool {
        matches!(self, State::Alive | State::Suspect)
    }
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) incarnation: u32,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Alive {
        incarnation: u32,
        /// Address bytes or port are other than the known ones.
        address_differs: bool,
        /// Metadata or version vector are other than the known ones.
        attributes_differ: bool,
        /// This node says it about itself, now.
        own: bool,
    },
    Suspect {
        incarnation: u32,
    },
    Dead {
        incarnation: u32,
        /// The node says it about itself.
        left: bool,
    },
}

/// Whom the claim is about, from where this node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Other,
    Myself {
        /// This node has said that it leaves.
        leaving: bool,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Old news, or none of our business.
    Ignore,
    /// The name is taken.
    Conflict,
    /// Say something greater about this node.
    Refute,
    /// Believe it: the node is in this state, with the claimed incarnation and attributes.
    Accept(State),
    /// One more that suspects the same.
    Confirm,
}

/// Decides. Total and pure.
pub(super) fn judge(known: Option<Known>, claim: Claim, subject: Subject) -> Verdict {
    match claim {
        Claim::Alive { incarnation, address_differs, attributes_differ, own } => {
            judge_alive(known, (incarnation, address_differs, attributes_differ, own), subject)
        }
        Claim::Suspect { incarnation } => {
            let Some(known) = known.filter(|known| incarnation >= known.incarnation) else {
                return Verdict::Ignore;
            };
            match (known.state, subject) {
                (State::Suspect, _) => Verdict::Confirm,
                (State::Dead | State::Left, _) => Verdict::Ignore,
                (State::Alive, Subject::Myself { .. }) => Verdict::Refute,
                (State::Alive, Subject::Other) => Verdict::Accept(State::Suspect),
            }
        }
        Claim::Dead { incarnation, left } => {
            let Some(known) = known.filter(|known| incarnation >= known.incarnation) else {
                return Verdict::Ignore;
            };
            match (known.state, subject) {
                (State::Dead | State::Left, _) => Verdict::Ignore,
                (_, Subject::Myself { leaving: false }) => Verdict::Refute,
                _ if left => Verdict::Accept(State::Left),
                _ => Verdict::Accept(State::Dead),
            }
        }
    }
}

fn judge_alive(
    known: Option<Known>,
    (incarnation, address_differs, attributes_differ, own): (u32, bool, bool, bool),
    subject: Subject,
) -> Verdict {
    if subject == (Subject::Myself { leaving: true }) {
        return Verdict::Ignore;
    }
    let Some(known) = known else {
        // Incarnation 0 beats nothing, not even the empty entry that the reference makes for it.
        return if incarnation > 0 { Verdict::Accept(State::Alive) } else { Verdict::Ignore };
    };
    let moved = address_differs && known.state == State::Left;
    if address_differs && !moved {
        return Verdict::Conflict;
    }
    match subject {
        Subject::Other if incarnation <= known.incarnation && !moved => Verdict::Ignore,
        Subject::Other => Verdict::Accept(State::Alive),
        Subject::Myself { .. } if incarnation < known.incarnation => Verdict::Ignore,
        Subject::Myself { .. } if own => Verdict::Accept(State::Alive),
        Subject::Myself { .. } if incarnation == known.incarnation && !attributes_differ => Verdict::Ignore,
        Subject::Myself { .. } => Verdict::Refute,
    }
}

/// The incarnation that refutes an accusation against `accused`, given the own one (gossip.md 9.1).
pub(super) fn refutation(own: u32, accused: u32) -> u32 {
    own.saturating_add(1).max(accused.saturating_add(1))
}
