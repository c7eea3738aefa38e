use crate::lab::{Lab, names, text};
use villein_core::command::{Command, CommandError, Reply};
use villein_core::member::{MemberEventKind, Status};
use villein_core::time::Duration;

#[test]
fn a_node_that_leaves_is_left_everywhere() {
    let mut lab = Lab::cluster(3);
    lab.clear_records();
    let before = lab.now();
    assert_eq!(lab.command(2, Command::Leave), Reply::Done);
    let took = lab.now().since(before);
    assert!(took < Duration::from_secs(4), "the leave took {took:?}");
    lab.kill(2);
    lab.run_for(Duration::from_secs(40));
    for index in 0..2 {
        let events = lab.take_events(index);
        assert_eq!(lab.status(index, "node2"), Status::Left);
        assert_eq!(names(&events, MemberEventKind::Leave), ["node2"]);
        assert_eq!(names(&events, MemberEventKind::Failed), Vec::<String>::new());
    }
    let reply = lab.command(2, Command::Join { addrs: vec![crate::lab::addr(0)], ignore_old: true });
    assert_eq!(reply, Reply::Failed(CommandError::JoinAfterLeave));
}

#[test]
fn nodes_that_all_leave_at_once_do_not_wait_for_each_other() {
    for count in [2, 3] {
        let mut lab = Lab::cluster(count);
        let before = lab.now();
        let leaves: Vec<_> = (0..count).map(|index| (index, lab.start(index, Command::Leave))).collect();
        lab.run_until("all have left", Duration::from_secs(20), |lab| {
            leaves.iter().all(|(index, id)| lab.reply(*index, *id) == Some(&Reply::Done))
        });
        let took = lab.now().since(before);
        assert!(took < Duration::from_secs(3), "{count} nodes left in {took:?}");
    }
}

#[test]
fn a_second_leave_waits_for_the_first() {
    let mut lab = Lab::cluster(2);
    let first = lab.start(1, Command::Leave);
    let second = lab.start(1, Command::Leave);
    assert_eq!((lab.reply(1, first), lab.reply(1, second)), (None, None));
    lab.run_for(Duration::from_secs(10));
    assert_eq!((lab.reply(1, first), lab.reply(1, second)), (Some(&Reply::Done), Some(&Reply::Done)));
}

#[test]
fn a_node_that_leaves_keeps_its_tags() {
    let mut lab = Lab::cluster(2);
    let tags = || Command::SetTags([(text("role"), text("web"))].into());
    let leave = lab.start(1, Command::Leave);
    let refused = Reply::Failed(CommandError::TagsAfterLeave);
    assert_eq!(lab.command(1, tags()), refused, "while it leaves");
    lab.run_for(Duration::from_secs(10));
    assert_eq!(lab.reply(1, leave), Some(&Reply::Done));
    let before = lab.now();
    assert_eq!(lab.command(1, tags()), refused, "after it left");
    assert_eq!(lab.now(), before);
    assert!(lab.node(1).local_member().tags.is_empty());
}

#[test]
fn a_failed_node_can_be_declared_left() {
    let mut lab = Lab::cluster(3);
    lab.kill(2);
    lab.run_until("it has failed", Duration::from_mins(1), |lab| {
        (0..2).all(|index| lab.status(index, "node2") == Status::Failed)
    });
    let forced = Command::ForceLeave { name: text("node2"), prune: false };
    assert_eq!(lab.command(0, forced), Reply::Done);
    lab.run_until("it has left", Duration::from_secs(10), |lab| {
        (0..2).all(|index| lab.status(index, "node2") == Status::Left)
    });
    let pruned = Command::ForceLeave { name: text("node2"), prune: true };
    assert_eq!(lab.command(1, pruned), Reply::Done);
    lab.run_until("it is forgotten", Duration::from_secs(10), |lab| {
        (0..2).all(|index| lab.status(index, "node2") == Status::None)
    });
}

#[test]
fn a_node_that_came_back_is_not_forgotten_for_an_old_prune() {
    let mut lab = Lab::cluster(3);
    lab.kill(2);
    for prune in [false, true] {
        let forced = Command::ForceLeave { name: text("node2"), prune };
        assert_eq!(lab.command(0, forced), Reply::Done);
    }
    assert_eq!(lab.status(0, "node2"), Status::Leaving, "nobody has noticed its failure");
    let again = lab.add(crate::lab::config("node2", 2));
    lab.join(again, &[0]);
    lab.run_until("it is seen to be back", Duration::from_secs(2), |lab| {
        lab.status(0, "node2") == Status::Alive
    });
    assert_eq!(lab.command(again, Command::Leave), Reply::Done);
    lab.run_for(Duration::from_secs(10));
    assert_eq!(lab.status(0, "node2"), Status::Left, "it is remembered as any that left");
}

#[test]
fn a_live_node_survives_being_declared_left() {
    let mut lab = Lab::cluster(3);
    let forced = Command::ForceLeave { name: text("node2"), prune: false };
    assert_eq!(lab.command(0, forced), Reply::Done);
    lab.run_for(Duration::from_secs(10));
    for index in 0..3 {
        assert_eq!(lab.status(index, "node2"), Status::Alive, "on node{index}");
    }
    let pruned = Command::ForceLeave { name: text("node2"), prune: true };
    assert_eq!(lab.command(0, pruned), Reply::Failed(CommandError::MemberAlive(text("node2"))));
}
