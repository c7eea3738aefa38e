use crate::lab::{Lab, addr, config};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::text::Text;
use villein_core::time::Duration;

fn labelled(index: usize, label: &str) -> Config {
    Config { label: label.into(), ..config(&format!("node{index}"), index) }
}

fn refused_packets(lab: &Lab, index: usize) -> usize {
    let is_label = |note: &&Note| matches!(note, Note::PacketRefused { why, .. } if why.contains("label"));
    lab.notes(index).filter(is_label).count()
}

#[test]
fn one_label_is_one_cluster() {
    let mut lab = Lab::cluster_with(3, |_, config| config.label = "east".into());
    lab.event(0, "deploy", b"1");
    lab.run_for(Duration::from_mins(1));
    for index in 0..3 {
        assert!(lab.statuses(index).values().all(|status| *status == Status::Alive));
        assert_eq!(refused_packets(&lab, index), 0);
    }
}

#[test]
fn another_label_does_not_get_in() {
    for (holder, stranger) in [("east", "west"), ("east", ""), ("", "west")] {
        let mut lab = Lab::new();
        lab.add(labelled(0, holder));
        lab.add(labelled(1, stranger));
        let reply = lab.command(1, Command::Join { addrs: vec![addr(0)], ignore_old: true });
        let Reply::Joined { contacted: 0, failures } = reply else { panic!("{reply:?}") };
        assert_eq!(failures.len(), 1);
        let refused = |note: &Note| matches!(note, Note::StreamRefused { why, .. } if why.contains("label"));
        assert_eq!(lab.notes(0).filter(|note| refused(note)).count(), 1, "{holder:?} {stranger:?}");
        lab.run_for(Duration::from_mins(1));
        assert_eq!((lab.statuses(0).len(), lab.statuses(1).len()), (1, 1));
    }
}

#[test]
fn packets_with_another_label_are_counted_and_not_answered() {
    let mut lab = Lab::cluster_with(3, |_, config| config.label = "east".into());
    lab.kill(2);
    let moved = lab.add(labelled(2, "west"));
    lab.run_until("it is missed in its old cluster", Duration::from_mins(1), |lab| {
        (0..2).all(|index| lab.status(index, "node2") == Status::Failed)
    });
    assert!(refused_packets(&lab, moved) > 0);
    assert_eq!(lab.statuses(moved).len(), 1);
    assert_eq!(lab.sent(moved), 0);
}

/// The agent refuses it; whoever uses the library without one gets its beginning.
#[test]
fn a_label_that_is_too_long_is_cut_off() {
    let mut lab = Lab::new();
    for (index, length) in [(0, 100_000), (1, 255)] {
        lab.add(Config { label: Text::from(vec![b'l'; length]), ..config(&format!("node{index}"), index) });
    }
    lab.join(1, &[0]);
    lab.run_for(Duration::from_secs(10));
    assert_eq!(lab.status(0, "node1"), Status::Alive);
}
