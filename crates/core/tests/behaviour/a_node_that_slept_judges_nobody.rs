use crate::lab::{Lab, names};
use villein_core::member::{MemberEventKind, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

fn noted(lab: &Lab, index: usize, name: &str) -> usize {
    lab.notes(index).filter(|note| note.name() == name).count()
}

#[test]
fn the_probe_that_ran_is_void() {
    // Half of what a quiet node sends are pings: after these, it falls asleep in the middle of a probe.
    for packets in 1..8 {
        let mut lab = Lab::cluster(3);
        let sent = lab.sent(2) + packets;
        lab.run_until("it has sent so many", Duration::from_secs(20), |lab| lab.sent(2) >= sent);
        lab.clear_records();
        lab.pause(2);
        lab.run_for(Duration::from_mins(5));
        lab.resume(2);
        lab.run_for(Duration::from_millis(900));
        let judged = ["ProbeFailed", "ProbeTcpUnreachable", "SuspicionTimeout"];
        assert_eq!(judged.map(|name| noted(&lab, 2, name)), [0; 3], "after {packets} packets");
        assert_eq!(noted(&lab, 2, "Overslept"), 1);
        assert_eq!(names(&lab.take_events(2), MemberEventKind::Failed), Vec::<String>::new());
    }
}

#[test]
fn suspects_are_heard_first() {
    let mut asleep_in_time = 0;
    // Asleep early in the time of the suspicion, and just before its end.
    for moment in 0..10 {
        let mut lab = Lab::cluster(3);
        lab.pause(1);
        lab.run_until("both suspect it", Duration::from_secs(20), |lab| {
            [0, 2].iter().all(|index| lab.notes(*index).any(|note| matches!(note, Note::ProbeFailed { .. })))
        });
        lab.run_for(Duration::from_millis(400 * moment));
        if lab.status(2, "node1") != Status::Alive {
            break;
        }
        asleep_in_time += 1;
        lab.pause(2);
        lab.clear_records();
        // It refutes, and nobody reads that for a minute.
        lab.resume(1);
        lab.run_for(Duration::from_mins(1));
        lab.resume(2);
        lab.run_for(Duration::from_secs(30));
        assert_eq!(noted(&lab, 2, "SuspicionTimeout"), 0, "{moment}");
        assert_eq!(names(&lab.take_events(2), MemberEventKind::Failed), Vec::<String>::new());
        assert_eq!(lab.status(2, "node1"), Status::Alive);
    }
    assert!(asleep_in_time > 3, "{asleep_in_time}");
}

#[test]
fn who_is_really_gone_is_found_out_afterwards() {
    let mut lab = Lab::cluster(3);
    lab.pause(2);
    lab.kill(0);
    lab.kill(1);
    lab.run_for(Duration::from_mins(5));
    lab.resume(2);
    lab.run_until("it calls both failed", Duration::from_mins(1), |lab| {
        lab.status(2, "node0") == Status::Failed && lab.status(2, "node1") == Status::Failed
    });
}
