//! How often a thing that repeats is said: what peers and clients do wrong must not flood the log that
//! reports it.
//!
//! A [`Throttle`] counts losses of which only the number matters. [`Bursts`] lets single lines through as
//! long as they are few. [`Repeats`] folds a line that comes again and again. Invariant: in one [`LOSS_INTERVAL`] a loss makes at most one line, and lines of one
//! kind are at most [`BURST_LINES`] and one that counts the others.

use crate::limits::{BURST_LINES, LOSS_INTERVAL, REPEATED_LINES};
use std::collections::BTreeMap;
use villein_core::note::Level;
use villein_core::time::Instant;

/// The losses of one kind.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    total: u64,
    said_at: Option<Instant>,
}

impl Throttle {
    /// Adds `count` losses; gives the number of all losses so far when a line is due.
    pub(crate) fn add(&mut self, now: Instant, count: u64) -> Option<u64> {
        self.total = self.total.saturating_add(count);
        if self.said_at.is_some_and(|said_at| now < said_at + LOSS_INTERVAL) {
            return None;
        }
        self.said_at = Some(now);
        Some(self.total)
    }
}

/// Lines that strangers can cause, by kind.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    /// The kinds are words of our own, so they are few.
    kinds: BTreeMap<&'static str, Burst>,
}

/// Lines of one kind since the first of them.
#[derive(Debug)]
struct Burst {
    until: Instant,
    shown: u32,
    hidden: u64,
    speaker: (Level, &'static str),
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) kind: &'static str,
    /// Level and component of such a line.
    pub(crate) speaker: (Level, &'static str),
    pub(crate) count: u64,
}

impl Bursts {
    /// Whether another line of this kind may be written; it counts either way. Bursts that are over were
    /// [ended](Bursts::end_one) before.
    pub(crate) fn admit(&mut self, kind: &'static str, speaker: (Level, &'static str), now: Instant) -> bool {
        let fresh = || Burst { until: now + LOSS_INTERVAL, shown: 0, hidden: 0, speaker };
        let burst = self.kinds.entry(kind).or_insert_with(fresh);
        let admitted = burst.shown < BURST_LINES;
        if admitted {
            burst.shown += 1;
        } else {
            burst.hidden += 1;
        }
        admitted
    }

    /// Forgets the bursts that are over, as far as the next one of which lines were left out.
    pub(crate) fn end_one(&mut self, now: Instant) -> Option<Hidden> {
        self.kinds.retain(|_, burst| burst.until > now || burst.hidden > 0);
        let (&kind, _) = self.kinds.iter().find(|(_, burst)| burst.until <= now)?;
        let Burst { hidden: count, speaker, .. } = self.kinds.remove(kind)?;
        Some(Hidden { kind, speaker, count })
    }

    /// When the next line about what was left out is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.kinds.values().filter(|burst| burst.hidden > 0).map(|burst| burst.until).min()
    }
}

/// A line that comes again and again: the first few are written, the others counted.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    last: Option<Repeated>,
}

/// The last line, and what became of its likes.
#[derive(Debug)]
struct Repeated {
    speaker: (Level, &'static str),
    text: String,
    written: u32,
    folded: u64,
    /// When the likes that were not written are told at the latest.
    until: Instant,
}

/// How often a line was not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folded {
    pub(crate) speaker: (Level, &'static str),
    count: u64,
}

impl Folded {
    /// The text of the line that says so.
    pub(crate) fn text(&self) -> String {
        format!("... the last line came {} more times", self.count)
    }
}

impl Repeats {
    /// Whether this line is the last one once more and need not be written; if so it is counted.
    pub(crate) fn is_folded(&mut self, speaker: (Level, &'static str), text: &str, now: Instant) -> bool {
        let Some(last) = &mut self.last else { return false };
        if last.speaker != speaker || last.text != text || last.written < REPEATED_LINES {
            return false;
        }
        if last.folded == 0 {
            last.until = now + LOSS_INTERVAL;
        }
        last.folded += 1;
        true
    }

    /// A line was written. A line that is still repeated goes on being folded.
    pub(crate) fn remember(&mut self, speaker: (Level, &'static str), text: &str, now: Instant) {
        match &mut self.last {
            Some(last) if last.speaker == speaker && last.text == text => last.written += 1,
            last => {
                let until = now + LOSS_INTERVAL;
                *last = Some(Repeated { speaker, text: text.to_owned(), written: 1, folded: 0, until });
            }
        }
    }

    /// What was folded, because another line comes.
    pub(crate) fn take_folded(&mut self) -> Option<Folded> {
        let last = self.last.as_mut().filter(|last| last.folded > 0)?;
        Some(Folded { speaker: last.speaker, count: std::mem::take(&mut last.folded) })
    }

    /// What was folded for long enough.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Folded> {
        self.last.as_ref().filter(|last| last.until <= now)?;
        self.take_folded()
    }

    /// When something folded is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.as_ref().filter(|last| last.folded > 0).map(|last| last.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_folded_and_told_once_in_a_while() {
        let mut repeats = Repeats::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let (speaker, other) = ((Level::Info, "agent"), (Level::Warn, "agent"));
        let mut say = |speaker, text, now| {
            let folded = repeats.is_folded(speaker, text, now);
            if !folded {
                repeats.remember(speaker, text, now);
            }
            (folded, repeats.deadline())
        };
        for _ in 0..REPEATED_LINES {
            assert_eq!(say(speaker, "a", at(0)), (false, None));
        }
        assert_eq!(say(speaker, "a", at(500)), (true, Some(at(1500))));
        assert_eq!(say(speaker, "a", at(600)), (true, Some(at(1500))));
        assert_eq!(repeats.take_due(at(1499)), None);
        assert_eq!(repeats.take_due(at(1500)), Some(Folded { speaker, count: 2 }));
        assert_eq!((repeats.take_due(at(9000)), repeats.deadline()), (None, None));
        assert!(!repeats.is_folded(other, "a", at(9000)), "it is another line");
        assert!(repeats.is_folded(speaker, "a", at(9000)), "it is still the same line");
        assert_eq!(repeats.take_folded().map(|folded| folded.count), Some(1));
    }

    #[test]
    fn one_line_per_interval_tells_the_total() {
        let mut throttle = Throttle::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(throttle.add(at(0), 1), Some(1));
        assert_eq!(throttle.add(at(1), 4), None);
        assert_eq!(throttle.add(at(999), 1), None);
        assert_eq!(throttle.add(at(1000), 1), Some(7));
    }

    #[test]
    fn a_burst_is_cut_and_its_rest_counted() {
        let mut bursts = Bursts::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let speaker = (Level::Err, "x");
        for number in 0..BURST_LINES + 7 {
            assert_eq!(bursts.admit("a", speaker, at(u64::from(number))), number < BURST_LINES);
            assert!(
                number >= BURST_LINES || bursts.admit("b", speaker, at(0)),
                "another kind is not affected"
            );
        }
        assert_eq!(bursts.deadline(), Some(at(1000)));
        assert_eq!(bursts.end_one(at(999)), None);
        assert_eq!(bursts.end_one(at(1000)), Some(Hidden { kind: "a", speaker, count: 7 }));
        assert_eq!(bursts.end_one(at(1000)), None, "there is nothing to say about the other");
        assert_eq!((bursts.deadline(), bursts.kinds.len()), (None, 0));
        assert!(bursts.admit("a", speaker, at(1000)));
    }
}
