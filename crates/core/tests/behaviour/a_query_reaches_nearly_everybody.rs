use crate::lab::Lab;
use villein_core::command::QueryParams;
use villein_core::member::Event;
use villein_core::time::Duration;

/// A query is sent four times by each node that hears of it, and nothing repeats what was missed.
#[test]
fn queries_in_a_small_cluster_miss_hardly_anybody() {
    let mut lab = Lab::cluster(6);
    let mut missed = 0;
    for _ in 0..300 {
        lab.clear_records();
        lab.query(0, QueryParams { name: "load".into(), ..QueryParams::default() });
        lab.run_for(Duration::from_secs(4));
        for index in 0..6 {
            let heard =
                lab.take_events(index).iter().filter(|event| matches!(event, Event::Query { .. })).count();
            missed += 1 - heard;
        }
    }
    assert!(missed <= 8, "{missed} of 1800 deliveries were missed");
}
