use super::*;
use crate::rng::Rng;
use proptest::prelude::*;
use serde_json::Value;

const GOLDEN: &str = include_str!("../../tests/golden/coordinates.json");

fn rng() -> Rng {
    Rng::new([3; 32])
}

fn coordinate(value: &Value) -> Coordinate {
    let number = |value: &Value| value.as_f64().expect("a number");
    Coordinate {
        vec: std::array::from_fn(|i| number(&value["Vec"][i])),
        error: number(&value["Error"]),
        adjustment: number(&value["Adjustment"]),
        height: number(&value["Height"]),
    }
}

fn bits(coordinate: &Coordinate) -> Vec<u64> {
    let numbers = [coordinate.error, coordinate.adjustment, coordinate.height];
    coordinate.vec.iter().chain(&numbers).map(|number| number.to_bits()).collect()
}

#[test]
fn the_golden_sequence_is_reproduced_bit_for_bit() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("the golden file is JSON");
    let others = ["n1", "n2"].map(|name| coordinate(&golden["others"][name]));
    let mut coordinates = Coordinates::new();
    coordinates.own = coordinate(&golden["start"]);
    let mut rng = rng();
    let steps = golden["steps"].as_array().expect("steps");
    for (number, step) in steps.iter().enumerate() {
        let name = step["Node"].as_str().expect("a name");
        let other = others[usize::from(name == "n2")];
        let round_trip = Duration::from_nanos(step["RttNs"].as_u64().expect("not negative"));
        let before = *coordinates.own();
        let result = coordinates.update(&Text::from(name), &other, round_trip, &mut rng);
        if step["Err"] == "" {
            assert_eq!(result, Ok(()), "step {number}");
            assert_eq!(bits(coordinates.own()), bits(&coordinate(&step["After"])), "step {number}");
            assert_eq!(coordinates.get(name.as_bytes()), Some(&other));
        } else {
            assert_eq!(result, Err(Rejected::RoundTrip), "step {number}");
            assert_eq!(*coordinates.own(), before);
        }
        for (other, key) in others.iter().zip(["DistN1", "DistN2"]) {
            let expected = Duration::from_nanos(step[key].as_u64().expect("nanoseconds"));
            assert_eq!(coordinates.own().distance(other), expected, "step {number}");
        }
    }
    assert_eq!(steps.len(), 10);
    assert_eq!(coordinates.resets(), 0);
}

#[test]
fn the_longest_round_trip_is_accepted_and_a_longer_one_changes_nothing() {
    let (mut coordinates, mut rng, peer) = (Coordinates::new(), rng(), Text::from("b"));
    let late = ROUND_TRIP_MAX + Duration::from_nanos(1);
    let result = coordinates.update(&peer, &Coordinate::ORIGIN, late, &mut rng);
    assert_eq!(result, Err(Rejected::RoundTrip));
    assert_eq!((coordinates.get(b"b"), *coordinates.own()), (None, Coordinate::ORIGIN));
    assert_eq!(coordinates.update(&peer, &Coordinate::ORIGIN, ROUND_TRIP_MAX, &mut rng), Ok(()));
    assert_ne!(*coordinates.own(), Coordinate::ORIGIN);
}

#[test]
fn a_coordinate_that_is_not_finite_is_rejected() {
    let mut coordinates = Coordinates::new();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut in_vec = Coordinate::ORIGIN;
        in_vec.vec[7] = bad;
        let candidates = [
            in_vec,
            Coordinate { error: bad, ..Coordinate::ORIGIN },
            Coordinate { adjustment: bad, ..Coordinate::ORIGIN },
            Coordinate { height: bad, ..Coordinate::ORIGIN },
        ];
        for other in candidates {
            assert!(!other.is_valid());
            let result = coordinates.update(&Text::from("b"), &other, Duration::ZERO, &mut rng());
            assert_eq!(result, Err(Rejected::Coordinate));
        }
    }
    assert_eq!((coordinates.get(b"b"), *coordinates.own()), (None, Coordinate::ORIGIN));
}

#[test]
fn the_latency_filter_takes_the_larger_of_two_and_the_median_of_three() {
    let mut filter = LatencyFilter::default();
    let filtered: Vec<u64> =
        [30, 10, 20, 90, 80, 5].map(|ms| filter.push(Duration::from_millis(ms)).as_millis() as u64).to_vec();
    assert_eq!(filtered, [30, 30, 20, 20, 80, 80]);
}

#[test]
fn nodes_at_one_place_are_pushed_apart() {
    let mut coordinates = Coordinates::new();
    let result =
        coordinates.update(&Text::from("b"), &Coordinate::ORIGIN, Duration::from_millis(50), &mut rng());
    assert_eq!(result, Ok(()));
    // Half the weight, a quarter of it per observation, and the two heights count already.
    let moved = norm(&coordinates.own().vec);
    assert!((moved - 0.25 * 0.5 * (0.05 - 2.0e-5)).abs() < 1.0e-6, "moved by {moved}");
}

#[test]
fn a_negative_estimate_falls_back_to_the_raw_distance() {
    let near = Coordinate { adjustment: -1.0, ..Coordinate::ORIGIN };
    assert_eq!(near.distance(&Coordinate::ORIGIN), Duration::from_micros(20));
    let far = Coordinate { vec: [1.0e300; DIMENSIONS], ..Coordinate::ORIGIN };
    assert_eq!(far.distance(&Coordinate::ORIGIN), Duration::from_nanos(u64::MAX));
}

#[test]
fn an_absurd_peer_resets_the_coordinate_and_is_counted() {
    let mut coordinates = Coordinates::new();
    let absurd = Coordinate { vec: [f64::MAX; DIMENSIONS], error: -1.5, ..Coordinate::ORIGIN };
    for _ in 0..3 {
        assert_eq!(coordinates.update(&Text::from("b"), &absurd, Duration::ZERO, &mut rng()), Ok(()));
        assert!(coordinates.own().is_valid());
    }
    assert!(coordinates.resets() > 0);
}

#[test]
fn a_forgotten_peer_starts_with_an_empty_filter() {
    let (mut coordinates, mut rng, peer) = (Coordinates::new(), rng(), Text::from("b"));
    for ms in [900, 800] {
        let round_trip = Duration::from_millis(ms);
        coordinates.update(&peer, &Coordinate::ORIGIN, round_trip, &mut rng).expect("valid");
    }
    coordinates.forget(b"b");
    assert_eq!(coordinates.get(b"b"), None);
    let filtered = coordinates.observe(&peer, &Coordinate::ORIGIN, Duration::from_millis(1));
    assert_eq!(filtered, Duration::from_millis(1));
}

#[test]
fn four_nodes_learn_their_distances() {
    // Two sites, 1 ms within and 80 ms between them.
    let round_trip = |a: usize, b: usize| if a / 2 == b / 2 { 1 } else { 80 };
    let names = ["a", "b", "c", "d"].map(Text::from);
    let mut nodes: [Coordinates; 4] = std::array::from_fn(|_| Coordinates::new());
    let mut rng = rng();
    for _ in 0..2000 {
        let (a, b) = (rng.below(4), rng.below(4));
        if a != b {
            let (other, took) = (*nodes[b].own(), Duration::from_millis(round_trip(a, b)));
            nodes[a].update(&names[b], &other, took, &mut rng).expect("valid");
        }
    }
    let estimate = |a: usize, b: usize| nodes[a].own().distance(nodes[b].own()).as_millis();
    assert!((64..=96).contains(&estimate(0, 2)), "{} ms", estimate(0, 2));
    assert!(estimate(0, 1) < 16, "{} ms", estimate(0, 1));
}

fn any_coordinate() -> impl Strategy<Value = Coordinate> {
    let number = prop_oneof![-10.0..10.0f64, any::<f64>()];
    prop::collection::vec(number, DIMENSIONS + 3).prop_map(|numbers| Coordinate {
        vec: std::array::from_fn(|i| numbers[i]),
        error: numbers[8],
        adjustment: numbers[9],
        height: numbers[10],
    })
}

proptest! {
    #[test]
    fn the_own_and_every_known_coordinate_stay_valid(
        observations in prop::collection::vec((0..3u8, any_coordinate(), 0..11_000_000_000u64), 1..60),
    ) {
        let mut coordinates = Coordinates::new();
        let mut rng = rng();
        for (peer, other, nanoseconds) in observations {
            let name = Text::from(&[peer][..]);
            let result = coordinates.update(&name, &other, Duration::from_nanos(nanoseconds), &mut rng);
            prop_assert_eq!(result.is_ok(), other.is_valid() && nanoseconds <= 10_000_000_000);
            prop_assert!(coordinates.own().is_valid());
            prop_assert!(coordinates.own().height >= HEIGHT_MIN && coordinates.own().error <= ERROR_MAX);
            prop_assert!(coordinates.get(&name).is_none_or(Coordinate::is_valid));
        }
    }
}
