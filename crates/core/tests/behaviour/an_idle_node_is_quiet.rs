use crate::lab::Lab;
use villein_core::io::{Input, Outbox};
use villein_core::time::{Duration, Instant};

/// Counts the wake-ups that a node asks for when nothing happens to it.
#[test]
fn a_lone_node_wakes_at_most_once_a_second() {
    let mut now = Instant::from_nanos(1);
    let mut node = villein_core::Node::new(
        crate::lab::config("alone", 0),
        [9; 32],
        villein_core::snapshot::Restored::default(),
        now,
    );
    let mut out = Outbox::new();
    let tick = |node: &mut villein_core::Node, until: Instant, now: &mut Instant, out: &mut Outbox| {
        let mut wakes = 0;
        while let Some(at) = node.deadline().filter(|at| *at <= until) {
            *now = at.max(*now);
            node.handle(*now, Input::Tick, out);
            out.clear();
            wakes += 1;
        }
        wakes
    };
    let start_over = now + Duration::from_mins(1);
    tick(&mut node, start_over, &mut now, &mut out);
    let wakes = tick(&mut node, start_over + Duration::from_secs(100), &mut now, &mut out);
    assert!((1..=110).contains(&wakes), "{wakes} wake-ups in 100 s");
}

#[test]
fn an_idle_cluster_only_probes() {
    let mut lab = Lab::cluster(3);
    lab.run_for(Duration::from_secs(30));
    let before: Vec<usize> = (0..3).map(|index| lab.sent(index)).collect();
    lab.run_for(Duration::from_secs(100));
    for (index, before) in before.into_iter().enumerate() {
        // One ping a second, and an ack for each ping received.
        let sent = lab.sent(index) - before;
        assert!((150..=330).contains(&sent), "node{index} sent {sent} datagrams in 100 s");
    }
}
