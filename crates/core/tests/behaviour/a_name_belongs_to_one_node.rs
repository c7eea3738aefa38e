use crate::lab::{Lab, addr, config};
use std::net::SocketAddr;
use villein_core::command::Command;
use villein_core::member::{Event, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

#[test]
fn the_newcomer_with_a_taken_name_yields() {
    let mut lab = Lab::cluster(3);
    lab.clear_records();
    let newcomer = lab.add(config("node1", 7));
    lab.start(newcomer, Command::Join { addrs: vec![addr(0)], ignore_old: true });
    lab.run_for(Duration::from_secs(30));
    let lost = lab.take_events(newcomer).into_iter().find(|event| matches!(event, Event::NameLost { .. }));
    assert!(lost.is_some(), "the newcomer is told that it lost");
    assert!(!lab.take_events(1).iter().any(|event| matches!(event, Event::NameLost { .. })));
    assert!(lab.notes(0).any(|note| matches!(note, Note::NameConflict { .. })), "the joined node refuses it");
    for index in 0..3 {
        assert_eq!(lab.status(index, "node1"), Status::Alive);
        let member = lab.node(index).members().find(|member| member.name.as_bytes() == b"node1");
        assert_eq!(member.map(|member| member.socket_addr()), Some(addr(1)));
    }
}

/// Where `index` sees a node of this name, and how.
fn seen(lab: &Lab, index: usize, name: &str) -> Option<(SocketAddr, Status)> {
    let member = lab.node(index).members().find(|member| member.name.as_bytes() == name.as_bytes())?;
    Some((member.socket_addr(), member.status))
}

fn conflicts(lab: &Lab, indices: &[usize]) -> usize {
    let is_conflict = |note: &&Note| {
        matches!(
            note,
            Note::AddressConflict { .. } | Note::NameConflict { .. } | Note::OwnNameConflict { .. }
        )
    };
    indices.iter().map(|index| lab.notes(*index).filter(is_conflict).count()).sum()
}

/// Which of them were told that they lost their name.
fn losers(lab: &mut Lab, indices: &[usize]) -> Vec<usize> {
    let mut lost =
        |index: &usize| lab.take_events(*index).iter().any(|event| matches!(event, Event::NameLost { .. }));
    indices.iter().copied().filter(|index| lost(index)).collect()
}

#[test]
fn a_name_that_left_returns_at_once_also_at_another_address() {
    for place in [3, 9] {
        let mut lab = Lab::cluster(4);
        lab.command(3, Command::Leave);
        lab.run_for(Duration::from_secs(1));
        lab.kill(3);
        lab.clear_records();
        let again = lab.add(config("node3", place));
        lab.join(again, &[0]);
        lab.run_for(Duration::from_secs(5));
        for index in [0, 1, 2, again] {
            assert_eq!(seen(&lab, index, "node3"), Some((addr(place), Status::Alive)), "node{index}");
        }
        assert_eq!(conflicts(&lab, &[0, 1, 2, again]), 0);
        lab.run_for(Duration::from_mins(2));
        assert_eq!(losers(&mut lab, &[0, 1, 2, again]), [0; 0]);
        assert_eq!(seen(&lab, 1, "node3"), Some((addr(place), Status::Alive)), "its past is refuted");
    }
}

/// A cluster in which node3 was declared dead `ago`, and it is back at another address.
fn moved_after(reclaim_time: Duration, ago: Duration) -> (Lab, usize) {
    let mut lab = Lab::cluster_with(4, |_, config| config.reclaim_time = reclaim_time);
    lab.kill(3);
    lab.run_until("all call it failed", Duration::from_mins(1), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Failed)
    });
    lab.run_for(ago);
    lab.clear_records();
    let mut config = config("node3", 9);
    config.reclaim_time = reclaim_time;
    let again = lab.add(config);
    lab.join(again, &[0]);
    lab.run_for(Duration::from_secs(5));
    (lab, again)
}

#[test]
fn a_name_that_failed_returns_at_another_address_after_its_time() {
    let (mut lab, again) = moved_after(Duration::from_secs(10), Duration::from_secs(11));
    for index in [0, 1, 2, again] {
        assert_eq!(seen(&lab, index, "node3"), Some((addr(9), Status::Alive)), "node{index}");
    }
    assert_eq!(conflicts(&lab, &[0, 1, 2, again]), 0);
    lab.run_for(Duration::from_mins(2));
    assert_eq!(losers(&mut lab, &[again]), [0; 0]);

    // Before that the name is taken, and without such a time it is until it is forgotten.
    for reclaim_time in [Duration::from_secs(20), Duration::ZERO] {
        let (mut lab, again) = moved_after(reclaim_time, Duration::from_secs(11));
        assert_eq!(seen(&lab, 0, "node3"), Some((addr(3), Status::Failed)));
        assert!(conflicts(&lab, &[0]) > 0);
        lab.run_for(Duration::from_mins(3));
        assert_eq!(seen(&lab, 0, "node3"), Some((addr(9), Status::Alive)));
        assert_eq!(losers(&mut lab, &[again]), [0; 0]);
    }
}

/// Two nodes of one name, each with so many friends.
fn twins(friends: usize) -> (Lab, usize, usize) {
    let mut lab = Lab::new();
    let mut cluster = |first: usize| {
        let indices: Vec<usize> = (first..=first + friends)
            .map(|index| {
                let name = if index == first { "twin".to_owned() } else { format!("friend{index}") };
                lab.add(config(&name, index))
            })
            .collect();
        indices[1..].iter().for_each(|index| lab.join(*index, &indices[..1]));
        indices[0]
    };
    let (one, other) = (cluster(0), cluster(friends + 1));
    lab.run_for(Duration::from_secs(5));
    (lab, one, other)
}

#[test]
fn without_voters_the_newcomer_yields_and_the_holder_stays() {
    for (holder, newcomer) in [(0, 1), (1, 0)] {
        let (mut lab, ..) = twins(0);
        lab.join(newcomer, &[holder]);
        lab.run_for(Duration::from_secs(4));
        assert_eq!(losers(&mut lab, &[0, 1]), [0; 0], "nobody voted, and so nobody stops at once");
        lab.run_until("the newcomer looks once more", Duration::from_secs(10), |lab| {
            lab.notes(newcomer).any(|note| matches!(note, Note::NameConflictLost { .. }))
        });
        lab.kill(newcomer);
        lab.run_for(Duration::from_mins(1));
        assert_eq!(losers(&mut lab, &[0, 1]), [newcomer]);
    }
}

/// The reference stops when nobody votes, and so must not take us with it.
#[test]
fn without_voters_the_newcomer_stays_if_the_holder_stops() {
    for (holder, newcomer) in [(0, 1), (1, 0)] {
        let (mut lab, ..) = twins(0);
        lab.join(newcomer, &[holder]);
        lab.run_for(Duration::from_millis(3300));
        lab.kill(holder);
        lab.run_for(Duration::from_mins(1));
        assert_eq!(losers(&mut lab, &[newcomer]), [0; 0]);
        assert!(lab.notes(newcomer).any(|note| matches!(note, Note::NameConflictOver { .. })));
    }
}

/// Lets time pass, in which each of the two that loses its name stops. Returns who did.
fn lost_within(lab: &mut Lab, duration: Duration, twins: [usize; 2]) -> Vec<usize> {
    let end = lab.now() + duration;
    let mut lost = Vec::new();
    while lab.now() < end {
        lab.run_for(Duration::from_millis(100));
        for loser in losers(lab, &twins) {
            lab.kill(loser);
            lost.push(loser);
        }
    }
    lost
}

#[test]
fn of_twins_that_join_each_other_one_stays() {
    for friends in 0..3 {
        let (mut lab, one, other) = twins(friends);
        for (from, to) in [(one, other), (other, one)] {
            lab.start(from, Command::Join { addrs: vec![addr(to)], ignore_old: true });
        }
        let lost = lost_within(&mut lab, Duration::from_mins(4), [one, other]);
        assert_eq!(lost.len(), 1, "with {friends} friends each");
    }
}

#[test]
fn of_twins_whose_friends_meet_one_stays() {
    for friends in 1..3 {
        let (mut lab, one, other) = twins(friends);
        lab.join(one + 1, &[other + 1]);
        assert_eq!(
            lost_within(&mut lab, Duration::from_mins(4), [one, other]).len(),
            1,
            "{friends} friends each"
        );
    }
}
