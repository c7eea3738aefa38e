use crate::lab::{Lab, config};
use villein_core::command::{Command, Reply};
use villein_core::member::Status;
use villein_core::time::Duration;

/// A cluster of four whose node3 left, and has been stopped for so long.
fn left_behind(since: Duration) -> Lab {
    let mut lab = Lab::cluster(4);
    assert_eq!(lab.command(3, Command::Leave), Reply::Done);
    lab.kill(3);
    lab.run_for(since);
    lab
}

/// node1 does not hear that node3 is back, and tells a newcomer that it left: at a time that may be just before
/// that of its return.
#[test]
fn by_a_newcomer_who_asks_somebody_who_does_not_know_yet() {
    for seconds in 1..60 {
        let mut lab = left_behind(Duration::from_secs(seconds));
        let again = lab.add(config("node3", 7));
        for other in [0, 2, again] {
            lab.cut(1, other);
        }
        lab.join(again, &[0]);
        let newcomer = lab.add(config("node4", 8));
        for other in [0, 2, again] {
            lab.cut(newcomer, other);
        }
        lab.join(newcomer, &[1]);
        lab.heal();
        // It does not exchange states with the one who is back, who would see what it believes.
        lab.cut(newcomer, again);
        lab.run_for(Duration::from_secs(3));
        assert_eq!(lab.status(newcomer, "node3"), Status::Alive, "{seconds} s");
    }
}

/// An operator declares it as left while it is started again, before anybody has missed it: two nodes may say at the
/// same Lamport time that it is back and that it left, and some hear the one first and some the other.
#[test]
fn by_those_who_are_told_at_the_same_time_that_it_left() {
    for steps in 0..6 {
        let mut lab = Lab::cluster(3);
        lab.kill(2);
        let again = lab.add(config("node2", 2));
        for other in [0, again] {
            lab.cut(1, other);
        }
        for name in (0..steps).map(|step| format!("step{step}")).chain(["node2".to_owned()]) {
            lab.start(1, Command::ForceLeave { name: name.into(), prune: false });
        }
        lab.join(again, &[0]);
        lab.heal();
        lab.run_for(Duration::from_secs(5));
        for index in [0, 1, again] {
            assert_eq!(lab.status(index, "node2"), Status::Alive, "after {steps} steps at {index}");
        }
    }
}

/// Each exchange would raise the time of who left by one, and wake every disk of the cluster, for a day.
#[test]
fn clocks_stand_still_while_somebody_is_remembered_to_have_left() {
    let mut lab = left_behind(Duration::from_mins(3));
    let time = |lab: &Lab| (0..3).map(|index| lab.node(index).stats().member_time).collect::<Vec<_>>();
    let before = time(&lab);
    lab.run_for(Duration::from_mins(10));
    assert_eq!(time(&lab), before);
    assert_eq!(lab.status(0, "node3"), Status::Left);
}
