//! How often a thing that repeats is said: what peers and clients do wrong must not flood the log that
//! reports it.
//!
//! A [`Throttle`] counts losses of which only the number matters. [`Bursts`] lets single lines of one kind through
//! as long as they are few, and [`Repeats`] does the same for a line that comes several times in a row. Invariant:
//! in one [`LOSS_INTERVAL`] a loss makes at most one line, and lines that are alike at most [`BURST_LINES`] and one
//! that counts the others.

use crate::limits::{BURST_LINES, LOSS_INTERVAL};
use std::collections::BTreeMap;
use std::fmt;
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

/// Lines that are alike, since the first of them.
#[derive(Debug)]
struct Burst {
    until: Instant,
    shown: u32,
    hidden: u64,
    speaker: Speaker,
}

/// Level and component of a line.
pub(crate) type Speaker = (Level, &'static str);

/// Lines that were left out; `Display` says so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) speaker: Speaker,
    /// What they have in common, unless it is the whole line.
    kind: Option<&'static str>,
    count: u64,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "... and {} more like these ({kind})", self.count),
            None => write!(f, "... the last line came {} more times", self.count),
        }
    }
}

impl Burst {
    fn new(speaker: Speaker, now: Instant) -> Burst {
        Burst { until: now + LOSS_INTERVAL, shown: 0, hidden: 0, speaker }
    }

    /// Whether one more line may be written; it counts either way.
    fn admit(&mut self) -> bool {
        let admitted = self.shown < BURST_LINES;
        if admitted {
            self.shown += 1;
        } else {
            self.hidden += 1;
        }
        admitted
    }

    fn end(&mut self, kind: Option<&'static str>) -> Option<Hidden> {
        let count = std::mem::take(&mut self.hidden);
        (count > 0).then_some(Hidden { speaker: self.speaker, kind, count })
    }

    fn deadline(&self) -> Option<Instant> {
        (self.hidden > 0).then_some(self.until)
    }
}

impl Bursts {
    /// Whether another line of this kind may be written; it counts either way. Bursts that are over were
    /// [ended](Bursts::end_one) before.
    pub(crate) fn admit(&mut self, kind: &'static str, speaker: Speaker, now: Instant) -> bool {
        self.kinds.entry(kind).or_insert_with(|| Burst::new(speaker, now)).admit()
    }

    /// Forgets the bursts that are over by `now`, as far as the next one of which lines were left out.
    pub(crate) fn end_one(&mut self, now: Instant) -> Option<Hidden> {
        self.kinds.retain(|_, burst| burst.until > now || burst.hidden > 0);
        let (&kind, _) = self.kinds.iter().find(|(_, burst)| burst.until <= now)?;
        self.kinds.remove(kind)?.end(Some(kind))
    }

    /// When the next line about what was left out is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.kinds.values().filter_map(Burst::deadline).min()
    }
}

/// The last line, and how often it came. A line that comes again later is written like a new one.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    last: Option<(String, Burst)>,
}

impl Repeats {
    /// Whether this line may be written; and what is to be said before it about those before.
    pub(crate) fn admit(&mut self, speaker: Speaker, text: &str, now: Instant) -> (bool, Option<Hidden>) {
        if let Some((last, burst)) = &mut self.last
            && last == text
            && burst.speaker == speaker
            && now < burst.until
        {
            return (burst.admit(), None);
        }
        let hidden = self.end(Instant::NEVER);
        let mut burst = Burst::new(speaker, now);
        let admitted = burst.admit();
        self.last = Some((text.to_owned(), burst));
        (admitted, hidden)
    }

    /// What was left out, if it is over by `now`.
    pub(crate) fn end(&mut self, now: Instant) -> Option<Hidden> {
        self.last.as_mut().filter(|(_, burst)| burst.until <= now)?.1.end(None)
    }

    /// When what was left out is due to be told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.as_ref()?.1.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_folded_within_an_interval() {
        let mut repeats = Repeats::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let (speaker, other) = ((Level::Info, "agent"), (Level::Warn, "agent"));
        let hidden = |count| Some(Hidden { speaker, kind: None, count });
        for number in 0..u64::from(BURST_LINES) {
            assert_eq!(repeats.admit(speaker, "a", at(number)), (true, None));
        }
        assert_eq!(repeats.deadline(), None);
        for millis in [500, 600] {
            assert_eq!(repeats.admit(speaker, "a", at(millis)), (false, None));
            assert_eq!(repeats.deadline(), Some(at(1000)));
        }
        assert_eq!(repeats.end(at(999)), None);
        assert_eq!(repeats.end(at(1000)), hidden(2));
        assert_eq!((repeats.end(at(9000)), repeats.deadline()), (None, None));
        for number in 0..BURST_LINES {
            assert_eq!(repeats.admit(speaker, "a", at(1000)), (true, None), "{number}");
        }
        assert_eq!(repeats.admit(speaker, "a", at(1001)), (false, None));
        assert_eq!(repeats.admit(other, "a", at(1001)), (true, hidden(1)), "it is another line");
        assert_eq!(repeats.admit(speaker, "a", at(1001)), (true, None), "others came between");
    }

    #[test]
    fn what_repeats_slowly_is_always_written() {
        let mut repeats = Repeats::default();
        let at = |interval: u32| Instant::ORIGIN + LOSS_INTERVAL * interval;
        for interval in 0..100 {
            assert_eq!(repeats.admit((Level::Info, "agent"), "a", at(interval)), (true, None));
        }
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
        assert_eq!(bursts.end_one(at(1000)), Some(Hidden { kind: Some("a"), speaker, count: 7 }));
        assert_eq!(bursts.end_one(at(1000)), None, "there is nothing to say about the other");
        assert_eq!((bursts.deadline(), bursts.kinds.len()), (None, 0));
        assert!(bursts.admit("a", speaker, at(1000)));
    }
}
