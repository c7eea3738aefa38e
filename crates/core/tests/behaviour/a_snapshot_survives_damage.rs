use crate::lab::{Disk, Lab, addr, config};
use villein_core::Node;
use villein_core::config::Config;
use villein_core::io::{Action, Input, Outbox, StoreOp};
use villein_core::member::Status;
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};

fn keeper() -> Config {
    Config { snapshot: true, ..config("node0", 0) }
}

fn example() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/snapshot-example.txt");
    std::fs::read(path).expect("the example is there")
}

/// A file with every kind of line but `leave` and `not-alive`, so that nothing in it is taken back.
fn large() -> Vec<u8> {
    let lines = |index: u32| {
        let (twice, thrice, place) = (2 * index, 3 * index, addr(index as usize));
        format!(
            "alive: node {index} {place}\n# failed: lost{index} [2001:db8::{index:x}]:7946\n\
            # seed: seed{index}.example.com:7946\n\
            clock: {index}\nevent-clock: {twice}\nquery-clock: {thrice}\n"
        )
    };
    let end = "# alive: line\\nbreak 10.0.1.1:7946\ncoordinate: {}\n";
    format!("# written by hand\n{}{end}", (1..20).map(lines).collect::<Vec<_>>().concat()).into_bytes()
}

/// Starts a node with these bytes; returns what its file says after a second.
fn file_after_start(bytes: &[u8]) -> Restored {
    let mut now = Instant::from_nanos(1);
    let end = now + Duration::from_secs(1);
    let mut node = Node::new(keeper(), [3; 32], Restored::parse(bytes, false), now);
    let mut out = Outbox::new();
    let mut file = bytes.to_vec();
    while let Some(at) = node.deadline().filter(|at| *at <= end) {
        now = now.max(at);
        node.handle(now, Input::Tick, &mut out);
        for action in out.actions() {
            match action {
                Action::Store(StoreOp::Append(lines)) => file.extend_from_slice(lines),
                Action::Store(StoreOp::Replace(lines)) => file = lines.to_vec(),
                _ => {}
            }
        }
        out.clear();
    }
    assert_eq!(node.members().count(), 1);
    Restored::parse(&file, false)
}

#[test]
fn what_stands_before_a_cut_survives_and_what_is_written_after_it_counts() {
    for bytes in [example(), large()] {
        for end in 0..=bytes.len() {
            let whole_lines = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let expected = Restored::parse(&bytes[..whole_lines], false);
            let cut = Restored::parse(&bytes[..end], false);
            assert!(cut.oddities.is_empty(), "{end}: {:?}", cut.oddities);
            assert_eq!(cut.torn, whole_lines < end);
            let (torn, length) = (expected.torn, expected.length);
            assert_eq!(Restored { torn, length, ..cut }, expected, "{end}");

            let after = file_after_start(&bytes[..end]);
            assert!(!after.torn && after.oddities.is_empty(), "{end}: {:?}", after.oddities);
            let mut alive = expected.alive.clone();
            alive.push(("node0".into(), addr(0)));
            alive.sort();
            assert_eq!(after.alive, alive, "{end}");
            assert_eq!(
                (after.failed, after.seeds, after.clock),
                (expected.failed, expected.seeds, expected.clock)
            );
        }
    }
}

#[test]
fn a_flipped_bit_costs_at_most_the_lines_that_it_touches() {
    let bytes = large();
    let whole = Restored::parse(&bytes, false);
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            let restored = Restored::parse(&damaged, false);
            let lost = whole.alive.iter().filter(|member| !restored.alive.contains(member)).count()
                + whole.failed.iter().filter(|member| !restored.failed.contains(member)).count();
            assert!(lost <= 2, "{lost} members are lost with bit {bit} of {place}");
            let clocks = |restored: &Restored| [restored.clock, restored.event_clock, restored.query_clock];
            let kept = clocks(&whole).iter().zip(clocks(&restored)).filter(|(is, was)| **is == *was).count();
            assert!(kept >= 1, "bit {bit} of {place}");
            assert!(restored.oddities.len() <= 2);
        }
    }
}

#[test]
fn a_node_starts_whatever_bit_is_flipped() {
    let starts = |bytes: &[u8], place: usize, bit: usize| {
        let mut damaged = bytes.to_vec();
        damaged[place] ^= 1 << bit;
        let after = file_after_start(&damaged);
        assert!(after.alive.contains(&("node0".into(), addr(0))), "bit {bit} of {place}");
    };
    let (example, large) = (example(), large());
    for place in 0..example.len() {
        (0..8).for_each(|bit| starts(&example, place, bit));
    }
    for place in 0..large.len() {
        starts(&large, place, place % 8);
    }
}

#[test]
fn a_cluster_forms_with_any_damage() {
    let bytes = example();
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 7);
        for damaged in [&bytes[..place], &flipped] {
            let mut lab = Lab::new();
            lab.add_with_disk(keeper(), Disk::with(damaged));
            lab.add(config("node1", 1));
            lab.join(1, &[0]);
            lab.run_until("they see each other", Duration::from_secs(5), |lab| {
                lab.status(0, "node1") == Status::Alive && lab.status(1, "node0") == Status::Alive
            });
        }
    }
}

#[test]
fn a_file_of_noise_is_replaced_by_a_sound_one() {
    let noise: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let after = file_after_start(&noise);
    assert_eq!((after.alive, after.oddities), (vec![("node0".into(), addr(0))], vec![]));
}
