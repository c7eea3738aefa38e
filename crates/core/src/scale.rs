//! How numbers grow with the cluster, in integers only: logarithms from a table, so that every platform
//! and every release computes the same (gossip.md 8.7, 10.1, 11.1).

use crate::time::Duration;

/// ⌈log10(n)⌉ for n ≥ 1; 0 for 0 and 1.
pub(crate) fn ceil_log10(n: usize) -> u32 {
    let mut power: u64 = 1;
    let mut exponent = 0;
    while power < n as u64 {
        power = power.saturating_mul(10);
        exponent += 1;
    }
    exponent
}

/// How often one broadcast is sent at most, in a cluster of `n` (gossip.md 10.1).
pub(crate) fn retransmit_limit(mult: u32, n: usize) -> u32 {
    mult.saturating_mul(ceil_log10(n + 1))
}

/// Between two full exchanges in a cluster of `n` (gossip.md 11.1).
pub(crate) fn push_pull_interval(base: Duration, n: usize) -> Duration {
    let mut factor = 1;
    let mut reach = 32;
    while reach < n {
        reach = reach.saturating_mul(2);
        factor += 1;
    }
    base.saturating_mul(factor)
}

/// The default time of a query in a cluster of `n` (gossip.md 13.10).
pub(crate) fn query_timeout(gossip_interval: Duration, n: usize) -> Duration {
    gossip_interval.saturating_mul(16 * ceil_log10(n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formulas() -> serde_json::Value {
        serde_json::from_str(include_str!("../tests/golden/formulas.json")).expect("the golden file is JSON")
    }

    fn table(name: &str) -> Vec<(usize, u64)> {
        let formulas = formulas();
        let rows = formulas[name].as_object().expect("the table is an object");
        assert!(!rows.is_empty());
        rows.iter().map(|(n, value)| (n.parse().unwrap(), value.as_u64().unwrap())).collect()
    }

    #[test]
    fn retransmit_limits_are_the_reference_ones() {
        for (n, limit) in table("retransmit_limit_mult4") {
            assert_eq!(u64::from(retransmit_limit(4, n)), limit, "n = {n}");
        }
    }

    #[test]
    fn push_pull_intervals_are_the_reference_ones() {
        for (n, seconds) in table("push_pull_interval_s_base30") {
            let interval = push_pull_interval(Duration::from_secs(30), n);
            assert_eq!(interval, Duration::from_secs(seconds), "n = {n}");
        }
    }

    #[test]
    fn query_timeouts_grow_with_the_cluster() {
        let lan = Duration::from_millis(200);
        assert_eq!(query_timeout(lan, 1), Duration::from_millis(3200));
        assert_eq!(query_timeout(lan, 9), Duration::from_millis(3200));
        assert_eq!(query_timeout(lan, 10), Duration::from_millis(6400));
    }
}
