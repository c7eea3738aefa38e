//! How long a suspect has to speak up (gossip.md 8.7).
//!
//! The time starts long and shrinks with each further node that suspects the same: logarithmically, so
//! that the first confirmations weigh most. Logarithms are computed in integers, so that every platform
//! arrives at the same millisecond. The invariant: the time is never below the least one.

use crate::text::Text;
use crate::time::{Duration, Instant};

/// As far as instants reach; what is longer would not fit into the computations here.
const LONGEST: Duration = Duration::from_nanos(u64::MAX);

/// A suspicion that is under way.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    started: Instant,
    min: Duration,
    max: Duration,
    /// Confirmations that bring the time down to the least one; 0 starts with it.
    wanted: u32,
    /// The first accuser, then those who confirmed: at most `wanted` more.
    accusers: Vec<Text>,
}

/// What the timing of suspicions depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Suspicion multiplier.
    pub(super) mult: u32,
    /// The longest time is this many times the least.
    pub(super) max_mult: u32,
    /// Between two probes.
    pub(super) probe_interval: Duration,
    /// Entries of the node table.
    pub(super) nodes: usize,
}

impl Suspicion {
    /// The first accusation.
    pub(super) fn new(from: Text, pace: Pace, now: Instant) -> Suspicion {
        let min = least(pace);
        let wanted = pace.mult.saturating_sub(2);
        let others = pace.nodes.saturating_sub(2);
        let wanted = if others < wanted as usize { 0 } else { wanted };
        let max = min.saturating_mul(pace.max_mult).min(LONGEST);
        Suspicion { started: now, min, max, wanted, accusers: vec![from] }
    }

    /// Counts a further accuser; `false` if it changes nothing.
    pub(super) fn confirm(&mut self, from: &[u8]) -> bool {
        if self.confirmations() >= self.wanted
            || self.accusers.iter().any(|accuser| accuser.as_bytes() == from)
        {
            return false;
        }
        self.accusers.push(Text::from(from));
        true
    }

    pub(super) fn confirmations(&self) -> u32 {
        self.accusers.len() as u32 - 1
    }

    /// Time that did not count.
    pub(super) fn prolong(&mut self, by: Duration) {
        self.started = self.started + by;
    }

    /// When the suspect is declared dead, as of now.
    pub(super) fn deadline(&self) -> Instant {
        self.started + shrunk(self.min, self.max, self.wanted, self.confirmations())
    }
}

/// The least time of a suspicion.
fn least(pace: Pace) -> Duration {
    let scale = thousandths_of_log10(pace.nodes.max(1) as u64).max(1000);
    let interval = pace.probe_interval.min(LONGEST).as_nanos();
    let nanoseconds = u128::from(pace.mult) * u128::from(scale) * interval / 1000;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// The whole time after `confirmed` of `wanted` confirmations: `max − ln(c+1)/ln(k+1) × (max − min)`, in
/// whole milliseconds from the first confirmation on.
fn shrunk(min: Duration, max: Duration, wanted: u32, confirmed: u32) -> Duration {
    if wanted == 0 {
        return min;
    }
    if confirmed == 0 {
        return max;
    }
    let range = max.saturating_sub(min).as_nanos();
    let whole = u128::from(log2(u64::from(wanted) + 1));
    let part = u128::from(log2(u64::from(confirmed) + 1));
    // Rounding to the nearest nanosecond undoes the cut-off digits of the logarithms.
    let drop = (range * part + whole / 2) / whole;
    let milliseconds = max.as_nanos().saturating_sub(drop) / 1_000_000;
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX)).max(min)
}

const FRACTION_BITS: u32 = 40;

/// log2(n) for n ≥ 1 with 40 binary places, cut off. Squaring doubles the logarithm: each round yields one place.
fn log2(n: u64) -> u64 {
    let whole = n.ilog2();
    let mut mantissa = (u128::from(n) << 62) >> whole;
    let mut result = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 62;
        let place = mantissa >> 63;
        mantissa >>= place;
        result = result << 1 | place as u64;
    }
    result
}

/// ⌊1000 × log10(n)⌋ for n ≥ 1.
fn thousandths_of_log10(n: u64) -> u64 {
    // The cut-off digits would leave powers of ten just below their whole number; no other n that a table
    // can hold comes as near to one from below as what is added here.
    let cut_off = 16;
    (log2(n) + cut_off) * 1000 / log2(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Vec<serde_json::Value> {
        let formulas: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/formulas.json")).unwrap();
        let rows = formulas[name].as_array().unwrap().clone();
        assert!(rows.len() > 5);
        rows
    }

    fn millis(row: &serde_json::Value, key: &str) -> Duration {
        Duration::from_millis(row[key].as_u64().unwrap())
    }

    fn number(row: &serde_json::Value, key: &str) -> u32 {
        row[key].as_u64().unwrap() as u32
    }

    #[test]
    fn the_least_time_is_the_reference_one() {
        for row in table("suspicion_min_ms") {
            let pace = Pace {
                mult: number(&row, "mult"),
                max_mult: 6,
                probe_interval: millis(&row, "probe_interval_ms"),
                nodes: number(&row, "n") as usize,
            };
            assert_eq!(least(pace), millis(&row, "min_ms"), "{row}");
        }
    }

    #[test]
    fn confirmations_shrink_the_time_like_the_reference() {
        for row in table("suspicion_remaining_ms") {
            let whole = shrunk(
                millis(&row, "min_ms"),
                millis(&row, "max_ms"),
                number(&row, "k"),
                number(&row, "confirmations"),
            );
            let remaining = whole.as_millis() as i64 - row["elapsed_ms"].as_i64().unwrap();
            assert_eq!(remaining, row["remaining_ms"].as_i64().unwrap(), "{row}");
        }
    }

    #[test]
    fn decimal_logarithms_are_right_for_every_table() {
        let mut power = 1;
        for exponent in 0..=18 {
            assert_eq!(thousandths_of_log10(power), exponent * 1000, "{power}");
            power *= 10;
        }
        for n in 1..=70_000_u64 {
            let expected = ((n as f64).log10() * 1000.0 + 1e-7).floor() as u64;
            assert_eq!(thousandths_of_log10(n), expected, "{n}");
        }
    }

    #[test]
    fn each_accuser_counts_once_and_only_as_many_as_are_wanted() {
        let lan = |nodes| Pace { mult: 4, max_mult: 6, probe_interval: Duration::from_secs(1), nodes };
        let start = Instant::from_nanos(7);
        let mut suspicion = Suspicion::new("a".into(), lan(4), start);
        assert_eq!(suspicion.deadline(), start + Duration::from_secs(24));
        assert!(!suspicion.confirm(b"a"));
        assert!(suspicion.confirm(b"b"));
        assert_eq!(suspicion.deadline(), start + Duration::from_millis(11_381));
        assert!(!suspicion.confirm(b"b"));
        assert!(suspicion.confirm(b"c"));
        assert_eq!((suspicion.deadline(), suspicion.confirmations()), (start + Duration::from_secs(4), 2));
        assert!(!suspicion.confirm(b"d"));

        let mut small = Suspicion::new("a".into(), lan(3), start);
        assert_eq!(small.deadline(), start + Duration::from_secs(4));
        assert!(!small.confirm(b"b"));
    }
}
