//! What a claim about a node means, given what is known of that node: the whole of SWIM's order of
//! incarnations in one pure function (gossip.md 9.2 to 9.4).
//!
//! This decides who wins; [`merge`](super::merge) carries it out. The invariant: nobody rises again at an
//! incarnation that it was ever accused at — alive beats suspect and dead only with a greater one than all of
//! them had, save for a node that left, or is dead for long, and comes back at another address.

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
    /// It has been in this state for longer than a dead node keeps its name.
    pub(super) is_old: bool,
}

impl Known {
    /// Whether its name may be taken at another address.
    fn is_free(self) -> bool {
        self.state == State::Left || (self.state == State::Dead && self.is_old)
    }
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
    /// It is gone already, but was there at a later time than was known: remember the claimed incarnation, or an
    /// alive from before would bring it back.
    Raise,
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
                (State::Dead | State::Left, _) => accused_again(known, incarnation, subject),
                (State::Alive, Subject::Myself { .. }) => Verdict::Refute,
                (State::Alive, Subject::Other) => Verdict::Accept(State::Suspect),
            }
        }
        Claim::Dead { incarnation, left } => {
            let Some(known) = known.filter(|known| incarnation >= known.incarnation) else {
                return Verdict::Ignore;
            };
            match (known.state, subject) {
                (State::Dead | State::Left, _) => accused_again(known, incarnation, subject),
                (_, Subject::Myself { leaving: false }) => Verdict::Refute,
                _ if left => Verdict::Accept(State::Left),
                _ => Verdict::Accept(State::Dead),
            }
        }
    }
}

/// Somebody who is gone is accused once more.
fn accused_again(known: Known, incarnation: u32, subject: Subject) -> Verdict {
    match subject {
        Subject::Other if incarnation > known.incarnation => Verdict::Raise,
        // What this node has said last about itself stands.
        Subject::Other | Subject::Myself { .. } => Verdict::Ignore,
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
    let moved = address_differs && known.is_free();
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

/// The incarnation that refutes an accusation against `accused`, given the own one, if there is a greater one
/// (gossip.md 9.1).
pub(super) fn refutation(own: u32, accused: u32) -> Option<u32> {
    own.max(accused).checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::State::{Alive, Dead, Left, Suspect};
    use super::Subject::{Myself, Other};
    use super::Verdict::{Accept, Confirm, Conflict, Ignore, Raise, Refute};
    use super::*;
    use proptest::prelude::*;

    const ME: Subject = Myself { leaving: false };
    const ME_LEAVING: Subject = Myself { leaving: true };

    #[expect(clippy::unnecessary_wraps, reason = "rows hold what `judge` takes, which may be unknown")]
    fn known(state: State, incarnation: u32) -> Option<Known> {
        Some(Known { state, incarnation, is_old: false })
    }

    /// In that state for longer than a dead node keeps its name.
    #[expect(clippy::unnecessary_wraps, reason = "rows hold what `judge` takes, which may be unknown")]
    fn old(state: State, incarnation: u32) -> Option<Known> {
        Some(Known { state, incarnation, is_old: true })
    }

    fn alive(incarnation: u32) -> Claim {
        Claim::Alive { incarnation, address_differs: false, attributes_differ: false, own: false }
    }

    fn moved(incarnation: u32) -> Claim {
        Claim::Alive { incarnation, address_differs: true, attributes_differ: false, own: false }
    }

    fn changed(incarnation: u32) -> Claim {
        Claim::Alive { incarnation, address_differs: false, attributes_differ: true, own: false }
    }

    fn own(incarnation: u32) -> Claim {
        Claim::Alive { incarnation, address_differs: false, attributes_differ: true, own: true }
    }

    fn suspect(incarnation: u32) -> Claim {
        Claim::Suspect { incarnation }
    }

    fn dead(incarnation: u32) -> Claim {
        Claim::Dead { incarnation, left: false }
    }

    fn left(incarnation: u32) -> Claim {
        Claim::Dead { incarnation, left: true }
    }

    #[test]
    fn the_table_of_claims_about_others() {
        let rows = [
            // alive
            (None, alive(1), Accept(Alive)),
            (None, alive(0), Ignore),
            (known(Alive, 3), alive(3), Ignore),
            (known(Alive, 3), alive(2), Ignore),
            (known(Alive, 3), changed(3), Ignore),
            (known(Alive, 3), alive(4), Accept(Alive)),
            (known(Suspect, 3), alive(3), Ignore),
            (known(Suspect, 3), alive(4), Accept(Alive)),
            (known(Dead, 3), alive(3), Ignore),
            (known(Dead, 3), alive(4), Accept(Alive)),
            (known(Left, 3), alive(3), Ignore),
            (known(Left, 3), alive(4), Accept(Alive)),
            // alive, at another address
            (known(Alive, 3), moved(9), Conflict),
            (known(Alive, 3), moved(1), Conflict),
            (known(Suspect, 3), moved(9), Conflict),
            (known(Dead, 3), moved(9), Conflict),
            (known(Left, 3), moved(9), Accept(Alive)),
            (known(Left, 3), moved(1), Accept(Alive)),
            (old(Alive, 3), moved(9), Conflict),
            (old(Suspect, 3), moved(9), Conflict),
            (old(Dead, 3), moved(1), Accept(Alive)),
            (old(Dead, 3), moved(9), Accept(Alive)),
            (old(Left, 3), moved(1), Accept(Alive)),
            (old(Dead, 3), alive(3), Ignore),
            // suspect
            (None, suspect(1), Ignore),
            (known(Alive, 3), suspect(2), Ignore),
            (known(Alive, 3), suspect(3), Accept(Suspect)),
            (known(Alive, 3), suspect(4), Accept(Suspect)),
            (known(Suspect, 3), suspect(2), Ignore),
            (known(Suspect, 3), suspect(3), Confirm),
            (known(Suspect, 3), suspect(4), Confirm),
            (known(Dead, 3), suspect(3), Ignore),
            (known(Dead, 3), suspect(4), Raise),
            (known(Left, 3), suspect(3), Ignore),
            (known(Left, 3), suspect(4), Raise),
            // dead and left
            (None, dead(1), Ignore),
            (None, left(1), Ignore),
            (known(Alive, 3), dead(2), Ignore),
            (known(Alive, 3), dead(3), Accept(Dead)),
            (known(Alive, 3), left(3), Accept(Left)),
            (known(Suspect, 3), dead(2), Ignore),
            (known(Suspect, 3), dead(4), Accept(Dead)),
            (known(Suspect, 3), left(4), Accept(Left)),
            (known(Dead, 3), left(3), Ignore),
            (known(Dead, 3), dead(2), Ignore),
            (known(Dead, 3), dead(3), Ignore),
            (known(Left, 3), dead(3), Ignore),
            // A node that is gone stays what it is, and needs a later life to return.
            (known(Dead, 3), left(4), Raise),
            (known(Dead, 3), dead(4), Raise),
            (known(Left, 3), dead(4), Raise),
            (known(Left, 3), left(4), Raise),
        ];
        for (known, claim, verdict) in rows {
            assert_eq!(judge(known, claim, Other), verdict, "{known:?} {claim:?}");
        }
    }

    #[test]
    fn the_table_of_claims_about_oneself() {
        let rows = [
            (None, own(1), ME, Accept(Alive)),
            (known(Alive, 3), own(4), ME, Accept(Alive)),
            (known(Alive, 3), own(3), ME, Accept(Alive)),
            (known(Alive, 3), alive(2), ME, Ignore),
            (known(Alive, 3), changed(2), ME, Ignore),
            (known(Alive, 3), alive(3), ME, Ignore),
            (known(Alive, 3), changed(3), ME, Refute),
            (known(Alive, 3), alive(4), ME, Refute),
            (known(Alive, 3), moved(4), ME, Conflict),
            (known(Alive, 3), moved(1), ME, Conflict),
            (known(Alive, 3), suspect(2), ME, Ignore),
            (known(Alive, 3), suspect(3), ME, Refute),
            (known(Alive, 3), dead(2), ME, Ignore),
            (known(Alive, 3), dead(3), ME, Refute),
            (known(Alive, 3), left(9), ME, Refute),
            // While leaving: only the own farewell counts.
            (known(Alive, 3), left(3), ME_LEAVING, Accept(Left)),
            (known(Alive, 3), alive(9), ME_LEAVING, Ignore),
            (known(Left, 3), alive(9), ME_LEAVING, Ignore),
            (known(Left, 3), moved(9), ME_LEAVING, Ignore),
            (known(Left, 3), own(9), ME_LEAVING, Ignore),
            (known(Left, 3), suspect(9), ME_LEAVING, Ignore),
            (known(Left, 3), dead(9), ME_LEAVING, Ignore),
        ];
        for (known, claim, subject, verdict) in rows {
            assert_eq!(judge(known, claim, subject), verdict, "{known:?} {claim:?} {subject:?}");
        }
    }

    /// gossip.md 9.6, in verdicts and refutations.
    #[test]
    fn the_worked_cases() {
        // Restart while others hold it alive at 5: they ignore the new life, its push/pull makes it refute.
        assert_eq!(judge(known(Alive, 5), alive(1), Other), Ignore);
        assert_eq!(judge(known(Alive, 1), alive(5), ME), Refute);
        assert_eq!(refutation(1, 5), Some(6));
        assert_eq!(judge(known(Alive, 5), alive(6), Other), Accept(Alive));
        // Restart after being declared dead at 5: shown to it as suspect.
        assert_eq!(judge(known(Alive, 1), suspect(5), ME), Refute);
        assert_eq!(judge(known(Dead, 5), alive(6), Other), Accept(Alive));
        // Restart after leaving at 5: shown to it as left.
        assert_eq!(judge(known(Alive, 1), left(5), ME), Refute);
        assert_eq!(judge(known(Left, 5), alive(6), Other), Accept(Alive));
        // One name, two addresses.
        assert_eq!(judge(known(Alive, 1), moved(1), Other), Conflict);
        // Suspect and alive race.
        assert_eq!(judge(known(Suspect, 5), alive(5), Other), Ignore);
        assert_eq!(judge(known(Alive, 5), suspect(5), Other), Accept(Suspect));
        assert_eq!(refutation(5, 5), Some(6));
    }

    #[test]
    fn refutations_exceed_the_accusation_and_all_earlier_ones() {
        assert_eq!(refutation(1, 9), Some(10));
        assert_eq!(refutation(7, 2), Some(8));
        assert_eq!(refutation(1, u32::MAX), None);
    }

    fn any_state() -> impl Strategy<Value = State> {
        prop::sample::select(vec![Alive, Suspect, Dead, Left])
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let alive = (0u32..6, any::<bool>(), any::<bool>()).prop_map(|(incarnation, address, attributes)| {
            Claim::Alive { incarnation, address_differs: address, attributes_differ: attributes, own: false }
        });
        prop_oneof![
            alive,
            (0u32..6).prop_map(suspect),
            (0u32..6, any::<bool>()).prop_map(|(incarnation, left)| Claim::Dead { incarnation, left }),
        ]
    }

    fn incarnation_of(claim: Claim) -> u32 {
        let (Claim::Alive { incarnation, .. }
        | Claim::Suspect { incarnation }
        | Claim::Dead { incarnation, .. }) = claim;
        incarnation
    }

    /// What the table says afterwards.
    fn after(known: Option<Known>, claim: Claim) -> Option<Known> {
        match judge(known, claim, Other) {
            Accept(state) => Some(Known { state, incarnation: incarnation_of(claim), is_old: false }),
            Raise | Confirm => known.map(|known| Known { incarnation: incarnation_of(claim), ..known }),
            Ignore | Conflict | Refute => known,
        }
    }

    proptest! {
        #[test]
        fn hearing_a_claim_twice_is_hearing_it_once(
            state in any_state(), incarnation in 0u32..6, claim in any_claim(),
        ) {
            let once = after(known(state, incarnation), claim);
            // The address that was accepted is the known one from then on.
            let again = match claim {
                Claim::Alive { incarnation, .. } if judge(known(state, incarnation), claim, Other) != Conflict => {
                    alive(incarnation)
                }
                other => other,
            };
            prop_assert_eq!(after(once, again), once);
        }

        #[test]
        fn incarnations_never_fall_and_nobody_rises_at_an_equal_one(
            state in any_state(), incarnation in 0u32..6, claim in any_claim(),
        ) {
            let before = Known { state, incarnation, is_old: false };
            let after = after(Some(before), claim).unwrap();
            let reclaimed = matches!(claim, Claim::Alive { address_differs: true, .. }) && state == Left;
            if !reclaimed {
                prop_assert!(after.incarnation >= incarnation);
                if after.incarnation == incarnation {
                    prop_assert!(after.state >= state);
                }
                if !state.is_live() && after != before {
                    prop_assert!(after.incarnation > incarnation && (after.state == Alive || after.state == state));
                }
            }
        }

        /// In whatever order claims about a node come, it is alive in the end exactly if it was heard alive at a
        /// greater incarnation than all that it was accused at.
        #[test]
        fn nobody_rises_at_an_incarnation_that_it_was_ever_accused_at(
            state in any_state(), incarnation in 1u32..6, claims in prop::collection::vec(any_claim(), 0..12),
        ) {
            let (mut lived, mut accused) = if state == Alive { (incarnation, 0) } else { (0, incarnation) };
            let mut now = known(state, incarnation);
            for claim in claims {
                if incarnation_of(claim) == 0 || matches!(claim, Claim::Alive { address_differs: true, .. }) {
                    continue;
                }
                now = after(now, claim);
                let side = if matches!(claim, Claim::Alive { .. }) { &mut lived } else { &mut accused };
                *side = incarnation_of(claim).max(*side);
                let now = now.unwrap();
                prop_assert_eq!((now.incarnation, now.state == Alive), (lived.max(accused), lived > accused));
            }
        }

        #[test]
        fn the_order_of_lives_and_one_accusation_does_not_matter(
            lives in prop::collection::vec(1u32..9, 0..5), accusation in (1u32..9, 0u8..3), place in 0usize..5,
        ) {
            let accused = match accusation {
                (incarnation, 0) => suspect(incarnation),
                (incarnation, 1) => dead(incarnation),
                (incarnation, _) => left(incarnation),
            };
            let mut claims: Vec<Claim> = lives.iter().copied().map(alive).collect();
            claims.insert(place.min(claims.len()), accused);
            let end = claims.iter().fold(known(Alive, 1), |known, claim| after(known, *claim)).unwrap();
            let last_life = lives.iter().copied().max().unwrap_or(1);
            prop_assert_eq!(end.incarnation, last_life.max(accusation.0));
            prop_assert_eq!(end.state == Alive, last_life > accusation.0);
        }

        #[test]
        fn oneself_is_never_held_for_gone_nor_loses_a_refutation(
            own_incarnation in 1u32..6, claim in any_claim(),
        ) {
            match judge(known(Alive, own_incarnation), claim, ME) {
                Refute => prop_assert!(refutation(own_incarnation, incarnation_of(claim)) > Some(incarnation_of(claim).max(own_incarnation))),
                verdict => prop_assert!(matches!(verdict, Ignore | Conflict)),
            }
        }
    }
}
