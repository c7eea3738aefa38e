use crate::lab::{Disk, Lab, addr, config};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::snapshot::Restored;
use villein_core::text::Text;
use villein_core::time::Duration;

fn keeper() -> Config {
    Config { snapshot: true, ..config("node0", 0) }
}

fn remember(lab: &mut Lab, seeds: &[&str]) {
    let seeds = seeds.iter().map(|seed| Text::from(*seed)).collect();
    assert_eq!(lab.command(0, Command::RememberSeeds(seeds)), Reply::Done);
    lab.run_for(Duration::from_secs(1));
}

fn restored(lab: &Lab, index: usize) -> Restored {
    Restored::parse(&lab.disk(index).bytes, false)
}

#[test]
fn a_failed_member_is_gone_for_serf_and_known_to_us() {
    let mut lab = Lab::cluster_with(2, |index, config| {
        config.snapshot = index == 0;
        config.reconnect_timeout = Duration::from_mins(5);
    });
    lab.kill(1);
    lab.run_until("it has failed", Duration::from_mins(1), |lab| lab.status(0, "node1") == Status::Failed);
    lab.run_for(Duration::from_secs(1));
    let end = "not-alive: node1\n# failed: node1 10.0.0.2:7946\n";
    assert!(lab.disk(0).text().contains(end), "{}", lab.disk(0).text());
    let known = restored(&lab, 0);
    assert_eq!((known.alive.len(), known.failed), (1, vec![("node1".into(), addr(1))]));
    // Once it is forgotten, it is forgotten here too.
    lab.run_until("it is forgotten", Duration::from_mins(6), |lab| lab.status(0, "node1") == Status::None);
    lab.run_for(Duration::from_secs(1));
    assert_eq!(restored(&lab, 0).failed, []);
}

#[test]
fn a_failed_member_that_is_told_to_leave_is_not_looked_for() {
    let mut lab = Lab::cluster_with(2, |index, config| config.snapshot = index == 0);
    lab.kill(1);
    lab.run_until("it has failed", Duration::from_mins(1), |lab| lab.status(0, "node1") == Status::Failed);
    lab.command(0, Command::ForceLeave { name: "node1".into(), prune: false });
    lab.run_for(Duration::from_secs(1));
    let known = restored(&lab, 0);
    assert_eq!((known.alive.len(), known.failed), (1, vec![]));
}

#[test]
fn those_that_had_failed_are_tried_after_those_that_had_not() {
    let file = "# failed: node1 10.0.0.2:7946\nalive: node5 10.0.0.6:7946\n# failed: node6 10.0.0.7:7946\n\
        alive: node7 10.0.0.8:7946\n";
    let mut lab = Lab::new();
    lab.add_with_disk(keeper(), Disk::with(file.as_bytes()));
    lab.add(config("node1", 1));
    lab.run_until("it is found", Duration::from_secs(1), |lab| lab.status(0, "node1") == Status::Alive);
    let tried: Vec<String> = lab
        .notes(0)
        .filter_map(|note| match note {
            Note::Rejoining { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    let mut first = tried[..2].to_vec();
    first.sort();
    assert_eq!(first, ["node5", "node7"]);
    assert_eq!(tried.last().map(String::as_str), Some("node1"));
}

#[test]
fn what_was_joined_is_known_after_a_restart() {
    let mut lab = Lab::new();
    lab.add(keeper());
    remember(&mut lab, &["seed.example.com", "10.0.0.2:7946", "a\nb"]);
    remember(&mut lab, &["10.0.0.2:7946"]);
    assert!(lab.disk(0).text().ends_with("# seed: seed.example.com\n# seed: 10.0.0.2:7946\n# seed: a\\nb\n"));
    assert_eq!(restored(&lab, 0).seeds, ["seed.example.com", "10.0.0.2:7946", "a\nb"].map(Text::from));
    let again = lab.restart(0, keeper());
    lab.run_for(Duration::from_secs(1));
    assert_eq!(restored(&lab, again).seeds.len(), 3);
}

#[test]
fn seeds_are_bounded_and_the_latest_stay() {
    let mut lab = Lab::new();
    lab.add(keeper());
    let seeds: Vec<String> = (0..100).map(|number| format!("seed{number}")).collect();
    remember(&mut lab, &seeds.iter().map(String::as_str).collect::<Vec<_>>());
    let known = restored(&lab, 0).seeds;
    assert_eq!((known.len(), known.last()), (64, Some(&"seed99".into())));
    remember(&mut lab, &["", &"x".repeat(513)]);
    assert_eq!(restored(&lab, 0).seeds, known);
    assert_eq!(lab.notes(0).filter(|note| matches!(note, Note::SnapshotSeedOdd { .. })).count(), 2);
}

#[test]
fn both_outlast_a_new_file_and_end_with_a_leave() {
    let mut lab = Lab::new();
    // Torn, and so it is written anew.
    lab.add_with_disk(keeper(), Disk::with(b"# failed: lost 10.0.9.9:7946\n# seed: example.com\nalive: h"));
    assert_eq!(lab.disk(0).replaces, 1);
    let known = restored(&lab, 0);
    assert_eq!((known.failed.len(), known.seeds.len()), (1, 1));
    assert_eq!(lab.command(0, Command::Leave), Reply::Done);
    assert_eq!(lab.command(0, Command::Stop), Reply::Done);
    let known = restored(&lab, 0);
    assert_eq!((known.alive, known.failed, known.seeds), (vec![], vec![], vec![]));
}

/// Whoever went while this node was down is never spoken of again, and would be tried first at each start.
#[test]
fn who_was_gone_when_the_node_came_back_is_forgotten_after_a_while() {
    let file = "alive: node1 10.0.0.2:7946\nalive: gone 10.0.0.9:7946\n# failed: lost 10.0.0.8:7946\n";
    let mut lab = Lab::new();
    lab.add_with_disk(keeper(), Disk::with(file.as_bytes()));
    // As long as it is alone, it looks for all of them.
    lab.run_for(Duration::from_mins(25));
    assert_eq!((restored(&lab, 0).alive.len(), restored(&lab, 0).failed.len()), (3, 1));
    lab.add(config("node1", 1));
    lab.run_until("it is found", Duration::from_secs(40), |lab| lab.status(0, "node1") == Status::Alive);
    lab.run_for(Duration::from_mins(11));
    let known = restored(&lab, 0);
    let alive: Vec<String> = known.alive.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!((alive.join(" ").as_str(), known.failed.len()), ("node0 node1", 0));
    // Who has been there since the start is kept as ever.
    lab.kill(1);
    lab.run_for(Duration::from_mins(30));
    assert_eq!(restored(&lab, 0).failed.len(), 1);
}
