//! Intents about names that are no members yet (gossip.md 13.5).
//!
//! An intent can arrive before the membership layer knows its subject. The latest one per name is kept for
//! a while and decides how the member starts. The invariant: never more than
//! [`limits::RECENT_INTENTS`] names.

use crate::limits;
use crate::text::Text;
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};

/// What a name announced, or was said to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Join,
    Leave,
}

/// How an intent is known; a later kind counts more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// A state lists the node among those that left: at some time before, and it may be back since.
    Conclusion,
    /// A state has a time for the node, which may be that of a join or of a leave. Nothing at all is time zero.
    #[default]
    State,
    /// A message says it.
    Message,
}

/// How late something is that was said of a node. The Lamport time counts first; but who joins at the time after a
/// leave must not be held for leaving by those who only conclude that leave from a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    pub(super) ltime: u64,
    pub(super) by: By,
}

/// The latest intent about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) kind: Kind,
    pub(super) said: Said,
    heard: Instant,
}

/// What remembering came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsert {
    /// It is the latest one now.
    New,
    /// A later or the same one is known.
    Old,
    /// There is no room for another name.
    Full,
}

/// The latest intents by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Intents {
    by_name: BTreeMap<Text, Intent>,
    by_age: BTreeSet<(Instant, Text)>,
}

impl Intents {
    pub(super) fn upsert(&mut self, name: &[u8], kind: Kind, said: Said, now: Instant) -> Upsert {
        match self.by_name.get(name) {
            Some(known) if said <= known.said => return Upsert::Old,
            None if self.by_name.len() >= limits::RECENT_INTENTS => return Upsert::Full,
            _ => {}
        }
        self.take(name);
        let name = Text::from(name);
        self.by_age.insert((now, name.clone()));
        self.by_name.insert(name, Intent { kind, said, heard: now });
        Upsert::New
    }

    /// Removes what is known about a name that has become a member.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Intent> {
        let (name, intent) = self.by_name.remove_entry(name)?;
        self.by_age.remove(&(intent.heard, name));
        Some(intent)
    }

    /// When the oldest one came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.by_age.first().map(|(heard, _)| *heard)
    }

    /// Forgets what came `timeout` ago or earlier.
    pub(super) fn forget_old(&mut self, now: Instant, timeout: Duration) {
        while let Some((heard, _)) = self.by_age.first()
            && *heard + timeout <= now
        {
            let (_, name) = self.by_age.pop_first().expect("there is a first one");
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: [Instant; 3] = [Instant::from_nanos(1), Instant::from_nanos(2), Instant::from_nanos(3)];

    fn at(ltime: u64) -> Said {
        Said { ltime, by: By::Message }
    }

    #[test]
    fn the_latest_one_counts() {
        let mut intents = Intents::default();
        assert_eq!(intents.upsert(b"a", Kind::Join, at(4), T[0]), Upsert::New);
        assert_eq!(intents.upsert(b"a", Kind::Leave, at(4), T[1]), Upsert::Old);
        assert_eq!(intents.upsert(b"a", Kind::Leave, at(5), T[1]), Upsert::New);
        assert_eq!(intents.oldest(), Some(T[1]));
        assert_eq!(intents.take(b"a"), Some(Intent { kind: Kind::Leave, said: at(5), heard: T[1] }));
        assert_eq!((intents.take(b"a"), intents.oldest()), (None, None));
        let said = |by| Said { ltime: 5, by };
        assert_eq!(intents.upsert(b"a", Kind::Leave, said(By::Conclusion), T[1]), Upsert::New);
        assert_eq!(intents.upsert(b"a", Kind::Join, said(By::State), T[1]), Upsert::New);
        assert_eq!(intents.upsert(b"a", Kind::Leave, said(By::Message), T[1]), Upsert::New);
        assert_eq!(intents.upsert(b"a", Kind::Join, said(By::State), T[1]), Upsert::Old);
        assert_eq!(
            intents.upsert(b"a", Kind::Leave, Said { ltime: 6, by: By::Conclusion }, T[1]),
            Upsert::New
        );
    }

    #[test]
    fn old_ones_are_forgotten() {
        let mut intents = Intents::default();
        intents.upsert(b"a", Kind::Join, at(1), T[0]);
        intents.upsert(b"b", Kind::Join, at(1), T[1]);
        intents.upsert(b"c", Kind::Join, at(1), T[2]);
        intents.forget_old(T[2], Duration::from_nanos(1));
        assert_eq!(intents.oldest(), Some(T[2]));
        assert!(intents.take(b"a").is_none() && intents.take(b"c").is_some());
    }

    #[test]
    fn a_flood_of_names_stops() {
        let mut intents = Intents::default();
        for number in 0..limits::RECENT_INTENTS {
            assert_eq!(intents.upsert(&number.to_be_bytes(), Kind::Join, at(1), T[0]), Upsert::New);
        }
        assert_eq!(intents.upsert(b"more", Kind::Join, at(1), T[0]), Upsert::Full);
        assert_eq!(intents.upsert(&0usize.to_be_bytes(), Kind::Leave, at(2), T[0]), Upsert::New);
    }
}
