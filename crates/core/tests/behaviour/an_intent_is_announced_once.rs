use crate::lab::{Lab, config, text};
use villein_core::command::{Command, Reply};
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::time::Duration;
use villein_core::wire::message::{SerfMessage, SerfState};
use villein_core::wire::serf::{encode_push_pull, encode_serf};

/// The member clocks: they move with every new intent and with nothing else.
fn times(lab: &Lab, nodes: impl IntoIterator<Item = usize>) -> Vec<u64> {
    nodes.into_iter().map(|index| lab.node(index).stats().member_time).collect()
}

#[test]
fn an_idle_cluster_announces_nothing() {
    let mut lab = Lab::cluster(5);
    lab.run_for(Duration::from_secs(40));
    let before = times(&lab, 0..5);
    lab.run_for(Duration::from_mins(3));
    assert_eq!(times(&lab, 0..5), before);
}

/// Others remember a time about the node from its last life.
#[test]
fn a_node_that_comes_back_is_answered_for_once() {
    let mut lab = Lab::cluster(4);
    lab.kill(3);
    lab.run_until("the others call it failed", Duration::from_secs(40), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Failed)
    });
    let forced = Command::ForceLeave { name: text("node3"), prune: false };
    assert_eq!(lab.command(0, forced), Reply::Done);
    lab.run_for(Duration::from_secs(5));
    let again = lab.add(config("node3", 3));
    lab.join(again, &[0]);
    lab.run_for(Duration::from_mins(2));
    let all = [0, 1, 2, again];
    for index in all {
        assert_eq!(lab.status(index, "node3"), Status::Alive, "on node{index}");
    }
    let refuted = |note: &&Note| matches!(note, Note::RefutedTime { .. } | Note::RefutedLeave);
    assert!((1..=2).contains(&lab.notes(again).filter(refuted).count()));
    let before = times(&lab, all);
    lab.run_for(Duration::from_mins(3));
    assert_eq!(times(&lab, all), before);
}

/// A member that still counts the node as left tells one other in an exchange, which is not gossiped.
#[test]
fn a_live_node_does_not_stay_leaving_at_anybody() {
    let mut lab = Lab::cluster(4);
    let time = lab.node(1).stats().member_time;
    let state = SerfState {
        ltime: time + 1,
        status_ltimes: vec![(b"node3", time)],
        left_members: vec![b"node3"],
        ..SerfState::default()
    };
    let (mut user_state, mut bytes) = (Vec::new(), Vec::new());
    encode_serf(&SerfMessage::PushPull(state), &mut user_state);
    encode_push_pull(false, std::iter::empty(), &user_state, &mut bytes);
    lab.inject_stream(1, &bytes);
    assert_eq!(lab.status(1, "node3"), Status::Leaving);
    lab.run_until("it is alive again", Duration::from_mins(10), |lab| {
        lab.status(1, "node3") == Status::Alive
    });
    assert!(lab.notes(3).any(|note| matches!(note, Note::RefutedTime { .. })));
    // If it dies now it has failed, and is tried again.
    lab.kill(3);
    lab.run_until("the others call it failed", Duration::from_mins(1), |lab| {
        (0..3).all(|index| lab.status(index, "node3") == Status::Failed)
    });
}

/// Neither of two nodes with one name knows what the other announces.
#[test]
fn twins_do_not_answer_each_other() {
    let mut lab = Lab::cluster_with(3, |_, config| config.name_conflict_resolution = false);
    let mut twin = config("node2", 3);
    twin.name_conflict_resolution = false;
    let twin = lab.add(twin);
    lab.join(twin, &[0]);
    lab.run_for(Duration::from_mins(1));
    let before = times(&lab, [0, 1, 2, twin]);
    lab.run_for(Duration::from_mins(5));
    assert_eq!(times(&lab, [0, 1, 2, twin]), before);
}
