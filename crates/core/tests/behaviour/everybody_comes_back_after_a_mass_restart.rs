use crate::lab::{Lab, addr, config, names};
use villein_core::command::Command;
use villein_core::member::{MemberEventKind, Status, Tags};
use villein_core::note::Note;
use villein_core::time::Duration;

const NODES: usize = 35;

/// The longest suspicion among so many: four probe intervals, times log10(35), times six (gossip.md 8.7).
const SUSPICION_MAX: Duration = Duration::from_secs(37);

/// A cluster whose nodes have been through something: their incarnations are 1 to 4.
fn seasoned_cluster() -> Lab {
    let mut lab = Lab::cluster(NODES);
    for round in 0..3 {
        for index in (0..NODES).filter(|index| index % 3 >= round) {
            let tags = Tags::from([("round".into(), round.to_string().into())]);
            lab.start(index, Command::SetTags(tags));
        }
        lab.run_for(Duration::from_secs(5));
    }
    lab
}

/// Kills all from `first` on, starts them again after a while with fresh incarnations, and lets each join one of
/// `seeds` nodes. Returns the lab and where each node is in it.
fn restart_from(first: usize, after: Duration, seeds: usize) -> (Lab, Vec<usize>) {
    let mut lab = seasoned_cluster();
    (first..NODES).for_each(|index| lab.kill(index));
    lab.run_for(after);
    lab.clear_records();
    let restarted = (first..NODES).map(|index| lab.add(config(&format!("node{index}"), index)));
    let restarted: Vec<usize> = restarted.collect();
    for (number, index) in restarted.iter().enumerate() {
        lab.start(*index, Command::Join { addrs: vec![addr(number % seeds)], ignore_old: true });
    }
    (lab, (0..first).chain(restarted).collect())
}

fn all_see_all(lab: &Lab, places: &[usize]) -> bool {
    places.iter().all(|index| {
        let statuses = lab.statuses(*index);
        statuses.len() == NODES && statuses.values().all(|status| *status == Status::Alive)
    })
}

#[test]
fn nodes_that_some_hold_for_dead_and_others_have_forgotten() {
    let (mut lab, places) = restart_from(5, Duration::from_secs(90), 5);
    let dead = |lab: &Lab, index: &usize| lab.statuses(*index).values().any(|s| *s == Status::Failed);
    assert!(places.iter().any(|index| dead(&lab, index)));
    lab.run_until("all are told what they must exceed", Duration::from_secs(5), |lab| {
        !places.iter().any(|index| dead(lab, index))
    });
    lab.run_until("all see all", SUSPICION_MAX, |lab| all_see_all(lab, &places));
    lab.run_for(Duration::from_mins(2));
    assert!(all_see_all(&lab, &places));
    for index in places {
        let failed = names(&lab.take_events(index), MemberEventKind::Failed);
        assert_eq!(failed, [""; 0], "nobody is called failed on the way back");
    }
}

#[test]
fn nodes_that_all_joined_the_one_survivor() {
    let (mut lab, places) = restart_from(1, Duration::from_secs(90), 1);
    lab.run_until("all see all", SUSPICION_MAX, |lab| all_see_all(lab, &places));
}

#[test]
fn nodes_that_are_suspected_or_just_declared_dead() {
    for after in [0, 3, 12, 25] {
        let (mut lab, places) = restart_from(3, Duration::from_secs(after), 3);
        lab.run_until("all see all", SUSPICION_MAX, |lab| all_see_all(lab, &places));
        let refuted = |note: &Note| {
            matches!(note, Note::RefutedAlive { .. } | Note::RefutedSuspect { .. } | Note::RefutedDead { .. })
        };
        let who: Vec<usize> = places[3..].iter().copied().filter(|i| lab.notes(*i).any(refuted)).collect();
        assert_eq!(who.len(), NODES - 3, "after {after} s all must exceed what was said of them");
    }
}
