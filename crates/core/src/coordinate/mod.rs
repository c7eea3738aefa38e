//! Network coordinates: where this node stands, so that round trips between any two nodes can be estimated.
//!
//! Vivaldi with height, an error-weighted spring, a rolling adjustment term and gravity (spec gossip.md
//! 14). This decides how one observation moves the own coordinate and which coordinate is known of each
//! peer. It does not decide which observations count (only direct probe acks do, gossip.md 14.5), nor
//! how a coordinate is encoded.
//!
//! Invariant: the own coordinate and every known one consist of finite numbers. Only + − × ÷ and √ are
//! used, in one order of evaluation, so that every platform computes the same bits.

use crate::rng::Rng;
use crate::text::Text;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::fmt;

const DIMENSIONS: usize = 8;
/// The initial error estimate and the largest one.
const ERROR_MAX: f64 = 1.5;
/// How much one observation changes the error estimate.
const ERROR_TUNING: f64 = 0.25;
/// How much one observation moves the coordinate.
const FORCE_TUNING: f64 = 0.25;
const ADJUSTMENT_WINDOW: usize = 20;
const HEIGHT_MIN: f64 = 1.0e-5;
const LATENCY_WINDOW: usize = 3;
/// Seconds; distance from the origin at which gravity pulls with 1 s.
const GRAVITY_RADIUS: f64 = 150.0;
/// Seconds; smaller values count as zero.
const ZERO_THRESHOLD: f64 = 1.0e-6;
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

type Vector = [f64; DIMENSIONS];

/// A position in the space of round trip times; every number is in seconds, save the error (gossip.md 14).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    /// Position in the Euclidean part of the space.
    pub vec: Vector,
    /// Confidence: relative error of the estimates, 1.5 at first.
    pub error: f64,
    /// Half of what estimates were short of, averaged over the last 20 observations.
    pub adjustment: f64,
    /// The part of every round trip that is spent on the way into the network.
    pub height: f64,
}

impl Coordinate {
    /// Where every node starts.
    pub const ORIGIN: Coordinate =
        Coordinate { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN };

    /// The estimated round trip between two nodes, truncated to nanoseconds (gossip.md 14.2).
    pub fn distance(&self, other: &Coordinate) -> Duration {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        let seconds = if adjusted > 0.0 { adjusted } else { raw };
        // The conversion truncates and saturates; a peer can claim any position.
        Duration::from_nanos((seconds * 1.0e9) as u64)
    }

    /// Whether every number is finite; others must not enter the computation.
    pub fn is_valid(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|number| number.is_finite())
    }

    fn raw_distance(&self, other: &Coordinate) -> f64 {
        norm(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    /// The coordinate after a push of `force` seconds away from `other` (gossip.md 14.3).
    fn pushed(mut self, force: f64, other: &Coordinate, rng: &mut Rng) -> Coordinate {
        let apart = difference(&self.vec, &other.vec);
        let apart_norm = norm(&apart);
        if apart_norm > ZERO_THRESHOLD {
            self.step(&scaled(apart, 1.0 / apart_norm), force);
            let height = (self.height + other.height) * force / apart_norm + self.height;
            self.height = height.max(HEIGHT_MIN);
        } else {
            self.step(&random_direction(rng), force);
        }
        self
    }

    fn step(&mut self, direction: &Vector, force: f64) {
        for (component, along) in self.vec.iter_mut().zip(direction) {
            *component += along * force;
        }
    }
}

/// Why an observation was not used; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The peer's coordinate holds a number that is not finite.
    Coordinate,
    /// The round trip took longer than 10 s.
    RoundTrip,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejected::Coordinate => "the coordinate is not finite",
            Rejected::RoundTrip => "the round trip took longer than 10 s",
        })
    }
}

/// The own coordinate, and what is known of the peers.
///
/// The map of peers is as large as the set of names that observations were given for; the caller bounds
/// it by observing members only and by [`forget`](Coordinates::forget)ting those that go.
#[derive(Clone, Debug)]
pub struct Coordinates {
    is_enabled: bool,
    own: Coordinate,
    /// The last differences between measured and estimated round trips, in seconds.
    adjustments: [f64; ADJUSTMENT_WINDOW],
    adjustment_next: usize,
    peers: BTreeMap<Text, Peer>,
    resets: u64,
}

#[derive(Clone, Debug)]
struct Peer {
    coordinate: Coordinate,
    latencies: LatencyFilter,
}

impl Coordinates {
    /// A node that has observed nothing.
    pub fn new() -> Coordinates {
        Coordinates {
            is_enabled: true,
            own: Coordinate::ORIGIN,
            adjustments: [0.0; ADJUSTMENT_WINDOW],
            adjustment_next: 0,
            peers: BTreeMap::new(),
            resets: 0,
        }
    }

    /// A node that neither says where it stands nor wants to know (gossip.md 14.5).
    pub fn disabled() -> Coordinates {
        Coordinates { is_enabled: false, ..Coordinates::new() }
    }

    /// Whether coordinates are exchanged and computed.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Where this node stands.
    pub fn own(&self) -> &Coordinate {
        &self.own
    }

    /// The coordinate that the peer called `name` reported with the last accepted observation.
    pub fn get(&self, name: &[u8]) -> Option<&Coordinate> {
        self.peers.get(name).map(|peer| &peer.coordinate)
    }

    /// Moves the own coordinate after `peer`, which says it stands at `other`, answered within
    /// `round_trip` (gossip.md 14.4). A rejected observation changes nothing.
    pub fn update(
        &mut self,
        peer: &Text,
        other: &Coordinate,
        round_trip: Duration,
        rng: &mut Rng,
    ) -> Result<(), Rejected> {
        if !other.is_valid() {
            return Err(Rejected::Coordinate);
        }
        if round_trip > ROUND_TRIP_MAX {
            return Err(Rejected::RoundTrip);
        }
        let seconds = self.observe(peer, other, round_trip).as_secs_f64();
        self.attract(other, seconds, rng);
        self.adjust(other, seconds);
        self.gravitate(rng);
        if !self.own.is_valid() {
            self.own = Coordinate::ORIGIN;
            self.resets += 1;
        }
        Ok(())
    }

    /// Drops what is known of the peer called `name`.
    pub fn forget(&mut self, name: &[u8]) {
        self.peers.remove(name);
    }

    /// How many times the own coordinate was no longer finite and began anew at the origin.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Notes where the peer stands; the result is its filtered latency.
    fn observe(&mut self, peer: &Text, other: &Coordinate, round_trip: Duration) -> Duration {
        if let Some(known) = self.peers.get_mut(peer) {
            known.coordinate = *other;
            return known.latencies.push(round_trip);
        }
        let mut latencies = LatencyFilter::default();
        let filtered = latencies.push(round_trip);
        self.peers.insert(peer.clone(), Peer { coordinate: *other, latencies });
        filtered
    }

    /// The spring between the two nodes, weighted by their errors.
    fn attract(&mut self, other: &Coordinate, seconds: f64, rng: &mut Rng) {
        let distance = self.own.distance(other).as_secs_f64();
        let seconds = seconds.max(ZERO_THRESHOLD);
        let wrong = (distance - seconds).abs() / seconds;
        let weight = self.own.error / (self.own.error + other.error).max(ZERO_THRESHOLD);
        let error = ERROR_TUNING * weight * wrong + self.own.error * (1.0 - ERROR_TUNING * weight);
        self.own.error = error.min(ERROR_MAX);
        let force = FORCE_TUNING * weight * (seconds - distance);
        self.own = self.own.pushed(force, other, rng);
    }

    /// What no position explains is averaged into the adjustment.
    fn adjust(&mut self, other: &Coordinate, seconds: f64) {
        self.adjustments[self.adjustment_next] = seconds - self.own.raw_distance(other);
        self.adjustment_next = (self.adjustment_next + 1) % ADJUSTMENT_WINDOW;
        let sum: f64 = self.adjustments.iter().fold(0.0, |sum, sample| sum + sample);
        self.own.adjustment = sum / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    /// A weak pull to the origin keeps the whole cluster from drifting away.
    fn gravitate(&mut self, rng: &mut Rng) {
        let ratio = Coordinate::ORIGIN.distance(&self.own).as_secs_f64() / GRAVITY_RADIUS;
        self.own = self.own.pushed(-(ratio * ratio), &Coordinate::ORIGIN, rng);
    }
}

impl Default for Coordinates {
    fn default() -> Coordinates {
        Coordinates::new()
    }
}

/// The median of the last three latencies of one peer.
#[derive(Clone, Debug, Default)]
struct LatencyFilter {
    latest: [Duration; LATENCY_WINDOW],
    count: usize,
}

impl LatencyFilter {
    fn push(&mut self, latency: Duration) -> Duration {
        if self.count < LATENCY_WINDOW {
            self.latest[self.count] = latency;
            self.count += 1;
        } else {
            self.latest.rotate_left(1);
            self.latest[LATENCY_WINDOW - 1] = latency;
        }
        let mut sorted = self.latest;
        let sorted = &mut sorted[..self.count];
        sorted.sort_unstable();
        sorted[self.count / 2]
    }
}

fn difference(a: &Vector, b: &Vector) -> Vector {
    std::array::from_fn(|i| a[i] - b[i])
}

fn scaled(vector: Vector, factor: f64) -> Vector {
    vector.map(|component| component * factor)
}

fn norm(vector: &Vector) -> f64 {
    vector.iter().fold(0.0, |sum, component| sum + component * component).sqrt()
}

/// Where two nodes at one place are pushed to.
fn random_direction(rng: &mut Rng) -> Vector {
    let vector: Vector = std::array::from_fn(|_| rng.unit() - 0.5);
    let vector_norm = norm(&vector);
    if vector_norm > ZERO_THRESHOLD {
        return scaled(vector, 1.0 / vector_norm);
    }
    std::array::from_fn(|i| if i == 0 { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests;
