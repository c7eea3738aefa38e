//! Metrics: what the agent and its node count and measure, for statsd, statsite and SIGUSR1 (agent.md 16).
//!
//! The node keeps tallies of its own; they are taken over when an interval of ten seconds is over, when a sink is
//! due, and when somebody asks. Without a sink nothing ever wakes the agent for its metrics. Work inside the agent
//! takes no time on the agent's clock: samples of it count how often it was done.
//!
//! Invariant: the intervals kept, the names in one of them and the bytes that wait for a sink are bounded.

use crate::config::Config;
use crate::escape;
use crate::io::{Clock, Outbox, Sink, StoreOp};
use crate::limits::{METRIC_INTERVALS, METRIC_NAMES, METRIC_PACKET_BYTES};
use crate::log::LocalTime;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use villein_core::Node;
use villein_core::metric::{Kind, Metric, Tally};
use villein_core::time::{Duration, Instant};

/// The first word of every name.
const PREFIX: &str = "serf-agent";

/// Seconds of an interval; intervals begin at multiples of it.
const INTERVAL: i64 = 10;

/// How long values wait for others that share their packet.
const FLUSH: Duration = Duration::from_secs(1);

/// What was counted and measured lately.
#[derive(Debug)]
pub(crate) struct Telemetry {
    sinks: Vec<Sink>,
    host_name: String,
    /// Those of which it was said that they fail.
    failed: BTreeSet<Sink>,
    started: Option<Instant>,
    current: Interval,
    /// The oldest first.
    finished: VecDeque<Interval>,
    /// Whole lines for the sinks.
    pending: String,
    flush_at: Option<Instant>,
}

/// The values of ten seconds.
#[derive(Debug, Default)]
struct Interval {
    /// Unix time of its begin.
    start: i64,
    gauges: Tallies,
    counters: Tallies,
    samples: Tallies,
}

type Tallies = BTreeMap<String, Tally>;

impl Telemetry {
    /// Nothing was measured yet.
    pub(crate) fn new(config: &Config) -> Telemetry {
        Telemetry::of(config.metric_sinks.clone(), config.host_name.clone())
    }

    fn of(sinks: Vec<Sink>, host_name: String) -> Telemetry {
        Telemetry {
            sinks,
            host_name,
            failed: BTreeSet::new(),
            started: None,
            current: Interval::default(),
            finished: VecDeque::new(),
            pending: String::new(),
            flush_at: None,
        }
    }

    /// Whether somebody wants single values.
    pub(crate) fn has_sinks(&self) -> bool {
        !self.sinks.is_empty()
    }

    /// Whether the current interval is over, so that the node's tallies belong to it and not to the next.
    pub(crate) fn is_interval_over(&self, clock: Clock) -> bool {
        self.started.is_some() && interval_of(clock) != self.current.start
    }

    /// Begins the interval that `clock` is in.
    pub(crate) fn begin_interval(&mut self, clock: Clock) {
        if self.started.is_none() {
            self.started = Some(clock.now);
        } else if !self.current.is_empty() {
            self.finished.push_back(std::mem::take(&mut self.current));
        }
        self.current.start = interval_of(clock);
        let oldest = self.current.start - METRIC_INTERVALS * INTERVAL;
        self.finished.retain(|interval| (oldest..self.current.start).contains(&interval.start));
    }

    /// Counts one.
    pub(crate) fn count(&mut self, name: &str, clock: Clock) {
        self.add(Kind::Counter, name, 1.0, clock);
    }

    /// Takes a measured value; durations are in milliseconds.
    pub(crate) fn sample(&mut self, name: &str, value: f64, clock: Clock) {
        self.add(Kind::Sample, name, value, clock);
    }

    /// Takes what the node measured over into the current interval.
    pub(crate) fn take_tallies(&mut self, node: &mut Node) {
        for (metric, tally) in node.take_metrics().iter() {
            if let Some(known) = self.current.tally(metric.kind(), metric.name()) {
                known.merge(tally);
            }
        }
    }

    /// Takes the single values of the node for the sinks.
    pub(crate) fn take_values(&mut self, node: &mut Node, clock: Clock) {
        if self.has_sinks() {
            for (metric, value) in node.drain_values() {
                self.tell(metric.kind(), metric.name(), value, clock);
            }
        }
    }

    /// The snapshot is written.
    pub(crate) fn on_store(&mut self, op: StoreOp<'_>, clock: Clock) {
        match op {
            StoreOp::Append(lines) => {
                for _ in lines.iter().filter(|&&byte| byte == b'\n') {
                    self.sample(Metric::SnapshotAppendLine.name(), 0.0, clock);
                }
            }
            StoreOp::Replace(_) => self.sample(Metric::SnapshotCompact.name(), 0.0, clock),
            StoreOp::Sync => {}
        }
    }

    fn add(&mut self, kind: Kind, name: &str, value: f64, clock: Clock) {
        if self.has_sinks() {
            self.tell(kind, name, value, clock);
        }
        if let Some(tally) = self.current.tally(kind, name) {
            tally.add(value, clock.now);
        }
    }

    fn tell(&mut self, kind: Kind, name: &str, value: f64, clock: Clock) {
        let unit = match kind {
            Kind::Counter => "c",
            Kind::Sample => "ms",
            Kind::Gauge => "g",
        };
        let name = self.full_name(kind, name);
        writeln!(self.pending, "{name}:{value:.6}|{unit}").expect("a String takes any text");
        self.flush_at.get_or_insert(clock.now + FLUSH);
    }

    /// When values have waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.flush_at
    }

    /// A sink does not take what it is given: the line that says so, once for each.
    pub(crate) fn on_failed(&mut self, sink: Sink, why: &str) -> Option<String> {
        let what = match sink {
            Sink::Statsd => "metrics do not reach statsd",
            Sink::Statsite => "metrics do not reach statsite",
            Sink::Syslog => "log lines do not reach syslog",
            Sink::ServiceManager => "the service manager hears nothing of this agent",
        };
        let is_new = self.failed.insert(sink);
        is_new.then(|| format!("{what}: {}; this is not said again", escape::line(why.as_bytes())))
    }

    /// Whether what waits has waited long enough, or is much.
    pub(crate) fn is_due(&self, clock: Clock) -> bool {
        self.flush_at.is_some_and(|at| at <= clock.now) || self.pending.len() >= METRIC_PACKET_BYTES
    }

    /// Gives what waits to the sinks.
    pub(crate) fn flush(&mut self, out: &mut Outbox) {
        let mut rest = self.pending.as_str();
        while !rest.is_empty() {
            let (packet, later) = rest.split_at(packet_end(rest));
            for sink in &self.sinks {
                out.report(*sink, packet.as_bytes());
            }
            rest = later;
        }
        self.pending.clear();
        self.flush_at = None;
    }

    /// The text that SIGUSR1 asks for: the finished intervals of the last minute.
    pub(crate) fn dump(&self, clock: Clock) -> String {
        let mut text = String::new();
        for interval in &self.finished {
            let start = zoned(Clock { unix_seconds: interval.start, ..clock });
            for (name, tally) in &interval.gauges {
                let name = self.full_name(Kind::Gauge, name);
                writeln!(text, "[{start}][G] '{name}': {:.3}", tally.last).expect("a String takes any text");
            }
            let counters = interval.counters.iter().map(|entry| ('C', entry));
            let samples = interval.samples.iter().map(|entry| ('S', entry));
            for (letter, (name, tally)) in counters.chain(samples) {
                let (name, values) = (self.full_name(Kind::Sample, name), shown(tally));
                let updated = self.shown_time(tally.updated, clock);
                writeln!(text, "[{start}][{letter}] '{name}': {values} LastUpdated: {updated}")
                    .expect("a String takes any text");
            }
        }
        text
    }

    /// Gauges of several hosts must not be mixed up by those who collect them.
    fn full_name(&self, kind: Kind, name: &str) -> String {
        match kind {
            Kind::Gauge if self.has_sinks() => format!("{PREFIX}.{}.{}", flat(&self.host_name), flat(name)),
            _ => format!("{PREFIX}.{}", flat(name)),
        }
    }

    /// Wall-clock time, and how long after the start.
    fn shown_time(&self, at: Instant, clock: Clock) -> String {
        let ago = clock.now.since(at).as_secs();
        let then = Clock { unix_seconds: clock.unix_seconds.saturating_sub_unsigned(ago), ..clock };
        format!("{} m=+{:.9}", zoned(then), at.since(self.started.unwrap_or(at)).as_secs_f64())
    }
}

impl Interval {
    fn is_empty(&self) -> bool {
        self.gauges.is_empty() && self.counters.is_empty() && self.samples.is_empty()
    }

    /// The place of a name, if there is one.
    fn tally(&mut self, kind: Kind, name: &str) -> Option<&mut Tally> {
        let names = self.gauges.len() + self.counters.len() + self.samples.len();
        let tallies = match kind {
            Kind::Gauge => &mut self.gauges,
            Kind::Counter => &mut self.counters,
            Kind::Sample => &mut self.samples,
        };
        if !tallies.contains_key(name) {
            if names >= METRIC_NAMES {
                return None;
            }
            tallies.insert(name.to_owned(), Tally::default());
        }
        tallies.get_mut(name)
    }
}

/// Values that are all the same are told by their sum.
fn shown(tally: &Tally) -> String {
    let Tally { count, sum, min, max, .. } = tally;
    let (mean, deviation) = (tally.mean(), tally.stddev());
    if deviation < 1e-9 {
        return format!("Count: {count} Sum: {sum:.3}");
    }
    format!("Count: {count} Min: {min:.3} Mean: {mean:.3} Max: {max:.3} Stddev: {deviation:.3} Sum: {sum:.3}")
}

fn interval_of(clock: Clock) -> i64 {
    clock.unix_seconds.div_euclid(INTERVAL) * INTERVAL
}

/// A name in which nothing separates it from its value or from the next line.
fn flat(name: &str) -> String {
    name.chars()
        .map(|c| if c == ':' || c == '|' || c.is_whitespace() || c.is_control() { '_' } else { c })
        .collect()
}

/// Where the first packet of these lines ends: after as many whole lines as it has room for, but one at least.
fn packet_end(lines: &str) -> usize {
    if lines.len() <= METRIC_PACKET_BYTES {
        return lines.len();
    }
    let room = &lines.as_bytes()[..METRIC_PACKET_BYTES];
    let last = room.iter().rposition(|&byte| byte == b'\n');
    last.or_else(|| lines.find('\n')).map_or(lines.len(), |end| end + 1)
}

/// `2026-11-22 20:29:20 +0000 UTC`.
fn zoned(clock: Clock) -> String {
    let minutes = clock.offset_seconds / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let offset = format!("{sign}{:02}{:02}", minutes.abs() / 60, minutes.abs() % 60);
    let name = if clock.offset_seconds == 0 { "UTC" } else { &offset };
    format!("{} {offset} {name}", LocalTime::of(clock).dashed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Action;

    fn clock(seconds: u64) -> Clock {
        let now = Instant::from_nanos(seconds * 1_000_000_000);
        Clock { now, unix_seconds: 1_795_379_355 + seconds as i64, offset_seconds: 0 }
    }

    fn telemetry(sinks: Vec<Sink>) -> Telemetry {
        let mut telemetry = Telemetry::of(sinks, "vm".to_owned());
        telemetry.begin_interval(clock(0));
        telemetry
    }

    fn packets(telemetry: &mut Telemetry, clock: Clock) -> Vec<(Sink, String)> {
        let mut out = Outbox::new();
        if telemetry.is_due(clock) {
            telemetry.flush(&mut out);
        }
        let packet = |action| match action {
            Action::Report { sink, bytes } => (sink, String::from_utf8_lossy(bytes).into_owned()),
            other => panic!("only packets are made, not {other:?}"),
        };
        out.actions().map(packet).collect()
    }

    #[test]
    fn finished_intervals_of_the_last_minute_are_shown() {
        let mut telemetry = telemetry(Vec::new());
        for (second, value) in [(1, 41.0), (2, 110.0)] {
            telemetry.sample("serf.msgs.received", value, clock(second));
        }
        telemetry.count("agent.ipc.accept", clock(1));
        telemetry.count("agent.ipc.accept", clock(3));
        assert_eq!(telemetry.dump(clock(4)), "", "the interval is not over");
        assert!(!telemetry.is_interval_over(clock(4)) && telemetry.is_interval_over(clock(5)));
        telemetry.begin_interval(clock(5));
        assert_eq!(
            telemetry.dump(clock(9)),
            "[2026-11-22 20:29:10 +0000 UTC][C] 'serf-agent.agent.ipc.accept': Count: 2 Sum: 2.000 \
             LastUpdated: 2026-11-22 20:29:18 +0000 UTC m=+3.000000000\n\
             [2026-11-22 20:29:10 +0000 UTC][S] 'serf-agent.serf.msgs.received': Count: 2 Min: 41.000 Mean: 75.500 \
             Max: 110.000 Stddev: 48.790 Sum: 151.000 LastUpdated: 2026-11-22 20:29:17 +0000 UTC m=+2.000000000\n"
        );
        telemetry.begin_interval(clock(60));
        assert_ne!(telemetry.dump(clock(60)), "");
        telemetry.begin_interval(clock(75));
        assert_eq!(telemetry.dump(clock(75)), "", "a minute is over");
    }

    #[test]
    fn sinks_get_every_value_in_packets() {
        let mut telemetry = telemetry(vec![Sink::Statsd, Sink::Statsite]);
        assert_eq!(telemetry.deadline(), None);
        telemetry.count("serf.member.join", clock(1));
        telemetry.sample("agent.invoke./bin/x y:z", 4.5, clock(1));
        assert_eq!(telemetry.deadline(), Some(clock(2).now));
        assert_eq!(packets(&mut telemetry, clock(1)), []);
        let text = "serf-agent.serf.member.join:1.000000|c\nserf-agent.agent.invoke./bin/x_y_z:4.500000|ms\n";
        let wanted = [Sink::Statsd, Sink::Statsite].map(|sink| (sink, text.to_owned()));
        assert_eq!(packets(&mut telemetry, clock(2)), wanted);
        assert_eq!(telemetry.deadline(), None);
        for _ in 0..100 {
            telemetry.count("serf.events.deploy", clock(3));
        }
        let packets = packets(&mut telemetry, clock(3));
        assert!(packets.len() > 2, "much does not wait");
        assert!(packets.iter().all(|(_, text)| text.len() <= METRIC_PACKET_BYTES && text.ends_with('\n')));
        assert_eq!(packets.iter().map(|(_, text)| text.lines().count()).sum::<usize>(), 200);
    }

    #[test]
    fn names_are_bounded() {
        let mut telemetry = telemetry(Vec::new());
        for number in 0..METRIC_NAMES + 9 {
            telemetry.count(&format!("serf.events.{number}"), clock(1));
        }
        telemetry.count("serf.events.0", clock(1));
        telemetry.begin_interval(clock(5));
        let text = telemetry.dump(clock(5));
        assert_eq!(text.lines().count(), METRIC_NAMES);
        assert!(text.lines().next().is_some_and(|line| line.contains("events.0': Count: 2")));
    }
}
