use crate::lab::{Lab, config, user_events};
use villein_core::command::Command;
use villein_core::member::Status;
use villein_core::time::Duration;

#[test]
fn a_hundred_nodes_join_and_see_each_other() {
    let mut lab = Lab::new();
    for index in 0..100 {
        lab.add(config(&format!("node{index}"), index));
    }
    for index in 1..100 {
        let addrs = vec![crate::lab::addr(index / 2)];
        lab.start(index, Command::Join { addrs, ignore_old: true });
    }
    lab.run_until("a hundred nodes converge", Duration::from_mins(2), |lab| {
        (0..100).all(|index| {
            let statuses = lab.statuses(index);
            statuses.len() == 100 && statuses.values().all(|status| *status == Status::Alive)
        })
    });

    lab.run_for(Duration::from_secs(10));
    lab.clear_records();
    lab.event(42, "deploy", b"now");
    lab.run_until("an event reaches everybody", Duration::from_secs(30), |lab| {
        (0..100).all(|index| lab.node(index).stats().event_time > 1)
    });
    lab.run_for(Duration::from_secs(10));
    for index in 0..100 {
        let events = lab.take_events(index);
        assert_eq!(user_events(&events), [("deploy".to_owned(), b"now".to_vec())], "node{index}");
    }
}
