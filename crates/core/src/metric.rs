//! What a node measures: the names and numbers of telemetry (agent.md 16).
//!
//! A measured value is added to the [`Tally`] of its [`Metric`], and to a log of single values while somebody
//! wants each. This decides what is measured and under which name; when tallies are read and begun anew, and how
//! they are shown, is up to the reader. The invariant: measuring allocates nothing, and values are dropped rather
//! than held without bound.

use crate::limits;
use crate::time::{Duration, Instant};

/// What the numbers of a metric mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are to be added up.
    Counter,
    /// They are to be averaged: a time in milliseconds, a size in bytes, a depth.
    Sample,
    /// The last one is how it is now.
    Gauge,
}

macro_rules! metrics {
    ($( $(#[$doc:meta])* $variant:ident => $kind:ident, $name:literal; )*) => {
        /// One thing that is measured.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric { $( $(#[$doc])* $variant, )* }

        impl Metric {
            /// All there are, in the order of the declaration.
            pub const ALL: [Metric; METRICS] = [ $( Metric::$variant, )* ];

            /// As the reference calls it, without the program's own prefix.
            pub const fn name(self) -> &'static str {
                match self { $( Metric::$variant => $name, )* }
            }

            /// What its numbers mean.
            pub const fn kind(self) -> Kind {
                match self { $( Metric::$variant => Kind::$kind, )* }
            }
        }

        const METRICS: usize = [ $( Metric::$variant, )* ].len();
    };
}

metrics! {
    /// Bytes of a datagram that was sent.
    UdpSent => Counter, "memberlist.udp.sent";
    /// Bytes of a datagram that came.
    UdpReceived => Counter, "memberlist.udp.received";
    /// A stream that a peer opened.
    TcpAccept => Counter, "memberlist.tcp.accept";
    /// A stream that this node opened, when the peer is there.
    TcpConnect => Counter, "memberlist.tcp.connect";
    /// Bytes of a message that was written to a stream.
    TcpSent => Counter, "memberlist.tcp.sent";
    /// A claim that a node is alive was believed.
    MsgAlive => Counter, "memberlist.msg.alive";
    /// A claim that a node does not answer was believed.
    MsgSuspect => Counter, "memberlist.msg.suspect";
    /// A claim that a node is dead, or its farewell, was believed.
    MsgDead => Counter, "memberlist.msg.dead";
    /// How healthy this node holds itself, whenever that changes; 0 is healthy.
    HealthScore => Gauge, "memberlist.health.score";
    /// A probe that was given more time because this node is not healthy.
    DegradedProbe => Counter, "memberlist.degraded.probe";
    /// Milliseconds from a probe's begin to its end.
    ProbeNode => Sample, "memberlist.probeNode";
    /// Milliseconds from the begin of an exchange of states that this node started to its end.
    PushPullNode => Sample, "memberlist.pushPullNode";
    /// Milliseconds of one tick of gossip.
    Gossip => Sample, "memberlist.gossip";
    /// Bytes of a message of the Serf layer that came.
    MsgsReceived => Sample, "serf.msgs.received";
    /// Bytes of a message of the Serf layer, each time that it was gossiped.
    MsgsSent => Sample, "serf.msgs.sent";
    /// A member appeared, or came back.
    MemberJoin => Counter, "serf.member.join";
    /// A failed member was told to leave.
    MemberLeave => Counter, "serf.member.leave";
    /// A member failed.
    MemberFailed => Counter, "serf.member.failed";
    /// A member left.
    MemberLeft => Counter, "serf.member.left";
    /// A member changed its tags, its address or its versions.
    MemberUpdate => Counter, "serf.member.update";
    /// A member came back within a minute of its failure.
    MemberFlap => Counter, "serf.member.flap";
    /// A user event was heard of for the first time.
    Events => Counter, "serf.events";
    /// A query was heard of for the first time.
    Queries => Counter, "serf.queries";
    /// A member acknowledged a query of this node.
    QueryAcks => Counter, "serf.query_acks";
    /// A member answered a query of this node.
    QueryResponses => Counter, "serf.query_responses";
    /// How many intents wait to be gossiped.
    QueueIntent => Sample, "serf.queue.Intent";
    /// How many user events wait to be gossiped.
    QueueEvent => Sample, "serf.queue.Event";
    /// How many queries wait to be gossiped.
    QueueQuery => Sample, "serf.queue.Query";
    /// Milliseconds that a round trip moved the own coordinate by.
    CoordinateAdjustment => Sample, "serf.coordinate.adjustment-ms";
    /// Milliseconds of one line that was added to the snapshot.
    SnapshotAppendLine => Sample, "serf.snapshot.appendLine";
    /// Milliseconds of one rewriting of the snapshot.
    SnapshotCompact => Sample, "serf.snapshot.compact";
}

/// The values of one metric since the last reading, put together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many; the other fields mean nothing while there are none.
    pub count: u64,
    /// All of them added.
    pub sum: f64,
    /// Their squares added.
    pub sum_of_squares: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The latest.
    pub last: f64,
    /// When it came.
    pub updated: Instant,
}

impl Tally {
    /// Takes one more value in.
    pub fn add(&mut self, value: f64, now: Instant) {
        let is_first = self.count == 0;
        self.count += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = if is_first { value } else { self.max.max(value) };
        self.last = value;
        self.updated = now;
    }

    /// Takes in what came later.
    pub fn merge(&mut self, later: &Tally) {
        if self.count == 0 {
            *self = *later;
        } else if later.count > 0 {
            self.count += later.count;
            self.sum += later.sum;
            self.sum_of_squares += later.sum_of_squares;
            self.min = self.min.min(later.min);
            self.max = self.max.max(later.max);
            (self.last, self.updated) = (later.last, later.updated);
        }
    }

    /// The average; 0 of no values.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The standard deviation of a sample; 0 of less than two values.
    pub fn stddev(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = self.count as f64;
        let squares = count * self.sum_of_squares - self.sum * self.sum;
        // Rounding can leave a little less than nothing.
        (squares.max(0.0) / (count * (count - 1.0))).sqrt()
    }
}

/// What one node measured.
#[derive(Clone, Debug)]
pub struct Metrics {
    tallies: [Tally; METRICS],
    /// The latest single values, in their order; without room while nobody wants them.
    log: Vec<(Metric, f64)>,
    dropped: u64,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics { tallies: [Tally::default(); METRICS], log: Vec::new(), dropped: 0 }
    }

    /// The values of one metric.
    pub fn get(&self, metric: Metric) -> &Tally {
        &self.tallies[metric as usize]
    }

    /// The metrics that have a value, in the order of [`Metric::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &Tally)> {
        Metric::ALL.into_iter().map(|metric| (metric, self.get(metric))).filter(|(_, tally)| tally.count > 0)
    }

    /// Single values that the log had no room for, ever.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a value in.
    pub(crate) fn count(&mut self, metric: Metric, value: f64, now: Instant) {
        self.tallies[metric as usize].add(value, now);
        if self.log.len() < self.log.capacity() {
            self.log.push((metric, value));
        } else if self.log.capacity() > 0 {
            self.dropped += 1;
        }
    }

    /// Begins to log single values, or stops.
    pub(crate) fn set_log(&mut self, wanted: bool) {
        match (wanted, self.log.capacity() > 0) {
            (true, false) => self.log.reserve_exact(limits::METRIC_VALUES),
            (false, true) => self.log = Vec::new(),
            (true, true) | (false, false) => {}
        }
    }

    /// The same tallies, without a log.
    pub(crate) fn tallies(&self) -> Metrics {
        Metrics { log: Vec::new(), ..*self }
    }

    /// Begins all tallies anew; the log stays.
    pub(crate) fn reset(&mut self) {
        self.tallies = [Tally::default(); METRICS];
    }

    /// Takes the logged values out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        self.log.drain(..)
    }
}

/// As metrics give times.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_metric_has_a_name_and_a_place_of_its_own() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), METRICS);
        for (place, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, place);
        }
    }

    /// Four datagrams that a reference agent sent; it showed minimum, mean, maximum and deviation as below.
    #[test]
    fn a_tally_sums_up_its_values() {
        let mut tally = Tally::default();
        assert_eq!((tally.mean(), tally.stddev()), (0.0, 0.0));
        for (at, value) in [(1, 306.0), (2, 42.0), (3, 306.0), (9, 305.0)] {
            tally.add(value, Instant::from_nanos(at));
        }
        assert_eq!(
            (tally.count, tally.sum, tally.min, tally.max, tally.last),
            (4, 959.0, 42.0, 306.0, 305.0)
        );
        assert_eq!(tally.updated, Instant::from_nanos(9));
        assert_eq!((tally.mean(), format!("{:.3}", tally.stddev())), (239.75, "131.834".to_owned()));
        let mut even = Tally::default();
        for _ in 0..3 {
            even.add(0.1, Instant::ORIGIN);
        }
        assert!(even.stddev() < 1e-8, "{}", even.stddev());
    }

    #[test]
    fn values_are_logged_while_they_are_wanted_and_as_far_as_there_is_room() {
        let mut metrics = Metrics::new();
        let count = |metrics: &mut Metrics, value| metrics.count(Metric::UdpSent, value, Instant::ORIGIN);
        count(&mut metrics, 1.0);
        assert_eq!((metrics.drain().count(), metrics.dropped()), (0, 0), "nobody wants them");
        metrics.set_log(true);
        count(&mut metrics, 2.0);
        metrics.set_log(true);
        assert_eq!(metrics.drain().collect::<Vec<_>>(), [(Metric::UdpSent, 2.0)]);
        for _ in 0..limits::METRIC_VALUES + 3 {
            count(&mut metrics, 3.0);
        }
        assert_eq!((metrics.drain().count(), metrics.dropped()), (limits::METRIC_VALUES, 3));
        metrics.set_log(false);
        count(&mut metrics, 4.0);
        assert_eq!((metrics.drain().count(), metrics.dropped()), (0, 3));
        assert_eq!(metrics.get(Metric::UdpSent).count, 3 + limits::METRIC_VALUES as u64 + 3);
        let named: Vec<_> = metrics.iter().map(|(metric, _)| metric.name()).collect();
        assert_eq!(named, ["memberlist.udp.sent"]);
        metrics.reset();
        assert_eq!(metrics.iter().count(), 0);
    }
}
