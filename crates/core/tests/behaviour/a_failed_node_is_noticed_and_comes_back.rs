use crate::lab::{Lab, config, names};
use villein_core::member::{MemberEventKind, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

#[test]
fn a_killed_node_fails_on_all_and_returns_after_its_restart() {
    let mut lab = Lab::cluster(4);
    lab.clear_records();
    lab.kill(3);
    lab.run_until("the others call it failed", Duration::from_secs(40), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Failed)
    });
    lab.run_for(Duration::from_secs(4));
    for index in 0..3 {
        let events = lab.take_events(index);
        assert_eq!(names(&events, MemberEventKind::Failed), ["node3"], "node{index}");
    }

    let again = lab.add(config("node3", 3));
    lab.join(again, &[0]);
    lab.run_until("the others see it again", Duration::from_secs(20), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Alive)
    });
    lab.run_for(Duration::from_secs(4));
    for index in 0..3 {
        let events = lab.take_events(index);
        assert_eq!(names(&events, MemberEventKind::Join), ["node3"], "node{index}");
    }
}

#[test]
fn a_suspended_node_refutes_when_it_wakes_early() {
    let mut lab = Lab::cluster(3);
    lab.clear_records();
    lab.pause(2);
    lab.run_until("somebody suspects it", Duration::from_secs(20), |lab| {
        lab.notes(0).chain(lab.notes(1)).any(|note| matches!(note, Note::ProbeFailed { .. }))
    });
    lab.resume(2);
    lab.run_until("it refutes", Duration::from_secs(5), |lab| {
        lab.notes(2).any(|note| matches!(note, Note::RefutedSuspect { .. }))
    });
    lab.run_for(Duration::from_mins(1));
    for index in 0..2 {
        assert_eq!(lab.status(index, "node2"), Status::Alive);
        assert_eq!(names(&lab.take_events(index), MemberEventKind::Failed), Vec::<String>::new());
    }
}

#[test]
fn a_suspended_node_fails_and_comes_back_when_it_wakes_late() {
    let mut lab = Lab::cluster(3);
    lab.pause(2);
    lab.run_until("the others call it failed", Duration::from_mins(1), |lab| {
        (0..2).all(|index| lab.status(index, "node2") == Status::Failed)
    });
    lab.resume(2);
    lab.run_until("everybody sees everybody again", Duration::from_mins(2), |lab| {
        (0..3).all(|index| lab.statuses(index).values().all(|status| *status == Status::Alive))
    });
}

#[test]
fn a_cut_cluster_heals() {
    let mut lab = Lab::cluster(4);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        lab.cut(a, b);
    }
    lab.run_until("each half gives the other up", Duration::from_secs(90), |lab| {
        lab.status(0, "node2") == Status::Failed
            && lab.status(1, "node3") == Status::Failed
            && lab.status(2, "node0") == Status::Failed
            && lab.status(3, "node1") == Status::Failed
    });
    lab.run_for(Duration::from_mins(2));
    lab.heal();
    lab.run_until("the halves find each other", Duration::from_mins(5), |lab| {
        (0..4).all(|index| lab.statuses(index).values().all(|status| *status == Status::Alive))
    });
}

#[test]
fn a_node_that_only_one_cannot_reach_stays_alive() {
    let mut lab = Lab::cluster(4);
    lab.cut(0, 1);
    lab.clear_records();
    lab.run_for(Duration::from_mins(2));
    for index in 0..4 {
        assert!(lab.statuses(index).values().all(|status| *status == Status::Alive), "node{index}");
    }
    assert_eq!(lab.notes(0).filter(|note| matches!(note, Note::SuspicionTimeout { .. })).count(), 0);
}
