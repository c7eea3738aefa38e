//! What the service manager hears of an agent.

use crate::lab::cluster::{Cluster, config_of};
use crate::lab::{Lab, config};
use std::net::SocketAddr;
use villein_agent::config::{Config, ServiceManager};
use villein_agent::io::{ConfigFile, Input, ServiceState, Signal, Socket};
use villein_core::snapshot::Restored;
use villein_core::time::Duration;
use villein_rpc::Request;

const WATCHDOG: Duration = Duration::from_secs(10);

fn supervised(config: Config) -> Config {
    Config { service_manager: Some(ServiceManager { watchdog: None }), ..config }
}

fn watched(config: Config) -> Config {
    Config { service_manager: Some(ServiceManager { watchdog: Some(WATCHDOG) }), ..config }
}

fn members(alive: usize, failed: usize) -> ServiceState {
    ServiceState::Members { alive, failed }
}

/// What was told since the last call.
fn told(lab: &mut Lab) -> Vec<Vec<ServiceState>> {
    std::mem::take(&mut lab.notified)
}

#[test]
fn an_agent_that_has_started_is_ready_once() {
    let mut lab = Lab::new(supervised(config()));
    assert_eq!(told(&mut lab), [[ServiceState::Ready, members(1, 0)]]);
    lab.pass(Duration::from_mins(10));
    assert_eq!(told(&mut lab), [[]; 0]);
}

#[test]
fn nobody_is_told_who_does_not_want_to_hear() {
    let mut lab = Lab::new(config());
    lab.signal(Signal::Hangup);
    lab.give(Input::ConfigRead(Ok(&[])));
    lab.pass(Duration::from_mins(10));
    lab.signal(Signal::Interrupt);
    lab.pass(Duration::from_mins(1));
    assert_eq!(lab.exit, Some(0));
    assert_eq!(lab.notified, [[]; 0]);
}

/// A manager who does not watch costs an idle agent no wake-up.
#[test]
fn an_idle_agent_wakes_as_rarely_with_a_manager_as_without() {
    let mut labs = vec![Lab::new(config()), Lab::new(supervised(config()))];
    for second in 0..300 {
        for lab in &mut labs {
            lab.pass(Duration::from_secs(1));
        }
        assert_eq!(labs[0].agent.deadline(), labs[1].agent.deadline(), "second {second}");
    }
}

#[test]
fn the_start_is_over_when_the_start_join_has_worked() {
    let join = vec!["127.0.0.2:7946".to_owned()];
    let mut cluster = Cluster::new([config_of("beta", 2)]);
    let start_join = Config { start_join: join, ..config_of("alpha", 1) };
    let alpha = cluster.start(supervised(start_join), Restored::default());
    assert!(cluster.nodes[alpha].printed.contains("Join completed. Synced with 1 initial agents"));
    let states: Vec<_> = cluster.nodes[alpha].notified.iter().map(|(_, states)| states.clone()).collect();
    assert_eq!(states, [[ServiceState::Ready, members(2, 0)]]);
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let join = vec!["nowhere".to_owned()];
    let mut lab = Lab::new(supervised(Config { start_join: join, ..config() }));
    let (id, ..) = lab.resolving.pop().expect("the name is looked up");
    // To read the configuration again ends no start.
    lab.signal(Signal::Hangup);
    lab.give(Input::ConfigRead(Ok(&[])));
    lab.pass(Duration::from_secs(5));
    assert_eq!(told(&mut lab), [[]; 0]);
    lab.give(Input::Resolved { id, result: Err("lookup nowhere: no such host") });
    assert_eq!(lab.exit, Some(1));
    assert_eq!(told(&mut lab), [[ServiceState::Stopping { leaves: false }]]);
}

#[test]
fn members_are_told_when_their_numbers_change_and_not_too_often() {
    let mut cluster = Cluster::new([supervised(config_of("n1", 1))]);
    for number in 2..=9 {
        cluster.start(config_of(&format!("n{number}"), number), Restored::default());
        cluster.join(usize::from(number) - 1, 0);
    }
    cluster.pass(Duration::from_secs(30));
    assert_eq!(cluster.alive(), [9; 9]);
    for node in &mut cluster.nodes[1..5] {
        node.side = 1;
    }
    cluster.pass(Duration::from_mins(5));
    let notified = &cluster.nodes[0].notified;
    let numbers: Vec<_> = notified.iter().flat_map(|(_, states)| states).copied().collect();
    // The others join within the second in which the first number was told.
    assert_eq!(numbers[..3], [ServiceState::Ready, members(1, 0), members(9, 0)]);
    assert_eq!(numbers.last(), Some(&members(5, 4)), "{notified:?}");
    for pair in notified.windows(2) {
        assert!(pair[0].0 + Duration::from_secs(1) <= pair[1].0, "{pair:?}");
        assert_ne!(pair[0].1.last(), pair[1].1.last(), "the same is not told twice");
    }
}

#[test]
fn the_watchdog_is_fed_twice_in_its_time() {
    let mut lab = Lab::new(watched(config()));
    told(&mut lab);
    lab.pass(Duration::from_mins(1) - Duration::from_nanos(1));
    assert_eq!(told(&mut lab), vec![vec![ServiceState::Watchdog]; 11]);
    // Whatever else is handled is no proof that what is due is done.
    lab.stall(WATCHDOG * 3);
    let from = SocketAddr::from(([127, 0, 0, 9], 7946));
    lab.give(Input::Datagram { socket: Socket::Gossip, from, bytes: b"?" });
    assert_eq!(told(&mut lab), [[]; 0]);
    lab.give(Input::Tick);
    assert_eq!(told(&mut lab), [[ServiceState::Watchdog]]);
}

#[test]
fn a_watchdog_of_no_patience_does_not_keep_the_agent_busy() {
    let manager = ServiceManager { watchdog: Some(Duration::from_micros(1)) };
    let mut lab = Lab::new(Config { service_manager: Some(manager), ..config() });
    told(&mut lab);
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.notified.len(), 100);
}

#[test]
fn a_reload_begins_and_ends_however_it_ends() {
    let mut lab = Lab::new(supervised(config()));
    told(&mut lab);
    let broken = [ConfigFile { path: "a.json".to_owned(), bytes: b"{".to_vec() }];
    for result in [Ok(&[][..]), Ok(&broken[..]), Err("Error reading 'a.json': permission denied")] {
        lab.signal(Signal::Hangup);
        assert_eq!(told(&mut lab), [[ServiceState::Reloading]]);
        lab.pass(Duration::from_secs(5));
        assert_eq!(told(&mut lab), [[]; 0]);
        lab.give(Input::ConfigRead(result));
        assert_eq!(told(&mut lab), [[ServiceState::Ready]], "{result:?}");
    }
}

#[test]
fn who_asks_for_two_reloads_is_told_when_both_are_done() {
    let mut lab = Lab::new(supervised(config()));
    told(&mut lab);
    lab.signal(Signal::Hangup);
    lab.signal(Signal::Hangup);
    assert_eq!(told(&mut lab), [[ServiceState::Reloading]; 2]);
    lab.give(Input::ConfigRead(Ok(&[])));
    assert_eq!(told(&mut lab), [[]; 0]);
    lab.give(Input::ConfigRead(Ok(&[])));
    assert_eq!(told(&mut lab), [[ServiceState::Ready]]);
}

#[test]
fn tags_that_are_changed_belong_to_the_reload() {
    let mut lab = Lab::new(supervised(Config { tags_file: Some("tags.json".into()), ..config() }));
    told(&mut lab);
    let files = [ConfigFile { path: "a.json".to_owned(), bytes: br#"{"tags": {"dc": "east"}}"#.to_vec() }];
    for saved in [Err("open tags.json: read-only file system"), Ok(())] {
        lab.signal(Signal::Hangup);
        lab.give(Input::ConfigRead(Ok(&files)));
        assert_eq!(told(&mut lab), [[ServiceState::Reloading]]);
        let (id, ..) = lab.saving.pop().expect("the tags are written first");
        lab.give(Input::Saved { id, result: saved });
        assert_eq!(told(&mut lab), [[ServiceState::Ready]], "{saved:?}");
    }
}

#[test]
fn a_leave_stops_the_agent_and_says_how_long_that_takes() {
    let patience = ServiceState::Patience(Duration::from_secs(3 + 15));
    let mut cluster = Cluster::new([watched(config_of("alpha", 1)), config_of("beta", 2)]);
    cluster.join(0, 1);
    cluster.pass(Duration::from_secs(5));
    cluster.nodes[0].notified.clear();
    cluster.give(0, Input::Signal(Signal::Interrupt));
    // Neither a reload nor what else comes changes what was said.
    cluster.give(0, Input::Signal(Signal::Hangup));
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.nodes[0].exit, Some(0));
    let states = cluster.nodes[0].notified.iter().flat_map(|(_, states)| states).copied();
    let states: Vec<_> = states.filter(|state| *state != ServiceState::Watchdog).collect();
    assert_eq!(states, [ServiceState::Stopping { leaves: true }, patience]);
}

#[test]
fn every_end_is_told() {
    let mut leaves = Lab::new(supervised(config()));
    leaves.client(1);
    told(&mut leaves);
    leaves.request(1, 1, &Request::Leave);
    let needed = Duration::from_secs(5 * 2 + 1 + 1);
    let patience = ServiceState::Patience(needed + Duration::from_secs(15));
    assert_eq!(told(&mut leaves), [[ServiceState::Stopping { leaves: true }, patience]]);
    leaves.signal(Signal::Terminate);
    assert_eq!((leaves.exit, told(&mut leaves).len()), (Some(1), 0));

    let mut ends = Lab::new(supervised(config()));
    ends.signal(Signal::Hangup);
    told(&mut ends);
    ends.signal(Signal::Terminate);
    assert_eq!(ends.exit, Some(1));
    assert_eq!(told(&mut ends), [[ServiceState::Stopping { leaves: false }]]);
}
