//! An agent that cannot send says so, and says when it can again; who cannot be reached is another matter.

mod lab;

use lab::cluster::{Cluster, config_of};
use std::net::SocketAddr;
use villein_agent::io::{Action, Clock, Input, Outbox, Socket};
use villein_core::note::Level;
use villein_core::time::Duration;

const LOST: &str = "[ERR] agent: nothing can be sent from 127.0.0.1 (last to 127.0.0.";

fn place(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 7946))
}

/// Agents that know each other. The first one tells everything.
fn three() -> Cluster {
    let mut alpha = config_of("alpha", 1);
    alpha.log_level = Level::Debug;
    let mut cluster = Cluster::new([alpha, config_of("beta", 2), config_of("gamma", 3)]);
    cluster.join(1, 0);
    cluster.join(2, 0);
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.alive(), [3, 3, 3]);
    cluster
}

fn count(cluster: &Cluster, text: &str) -> usize {
    cluster.nodes[0].printed.matches(text).count()
}

#[test]
fn that_nothing_can_be_sent_is_said_now_and_then_and_its_end_once() {
    let mut cluster = three();
    cluster.nodes[0].unreachable.extend([place(2), place(3)]);
    let mark = cluster.nodes[0].printed.len();
    cluster.pass(Duration::from_secs(10));
    let log = cluster.log_since(0, mark);
    let said: Vec<&str> = log.lines().filter(|line| line.starts_with("[ERR]")).collect();
    let wanted = ": network is unreachable): this host may be cut off, or may no longer have the address; if it has \
                  another one for good, restart the agent";
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].starts_with(LOST) && said[0].ends_with(wanted), "{log}");
    assert!(
        count(&cluster, "[DEBUG] memberlist: failed to send to 127.0.0.2:7946: network is unreachable\n") > 1
    );
    cluster.pass(Duration::from_secs(2 * 3600));
    assert_eq!(count(&cluster, LOST), 3);
    assert_eq!(count(&cluster, "[INFO] agent: packets can be sent"), 0);

    cluster.nodes[0].unreachable.clear();
    cluster.pass(Duration::from_secs(3600));
    assert_eq!(count(&cluster, LOST), 3);
    assert_eq!(count(&cluster, "[INFO] agent: packets can be sent from 127.0.0.1 again, after 721"), 1);
    assert_eq!(cluster.alive(), [3, 3, 3]);
    assert_eq!((1..3).filter(|&at| cluster.nodes[at].printed.contains("can be sent")).count(), 0);
}

#[test]
fn an_agent_that_is_cut_off_altogether_says_so_too() {
    let mut cluster = three();
    cluster.nodes[0].unreachable.extend([place(2), place(3)]);
    cluster.nodes[0].side = 1;
    cluster.pass(Duration::from_secs(60));
    assert_eq!(cluster.alive(), [1, 2, 2]);
    assert_eq!(count(&cluster, LOST), 1);
    cluster.nodes[0].unreachable.clear();
    cluster.nodes[0].side = 0;
    cluster.pass(Duration::from_secs(300));
    assert_eq!(cluster.alive(), [3, 3, 3]);
    assert_eq!(count(&cluster, "[INFO] agent: packets can be sent from 127.0.0.1 again, after "), 1);
}

#[test]
fn one_peer_that_cannot_be_reached_is_not_the_network() {
    let mut cluster = three();
    cluster.nodes[0].unreachable.insert(place(3));
    cluster.pass(Duration::from_secs(3600));
    assert!(count(&cluster, "failed to send to 127.0.0.3:7946: network is unreachable\n") > 100);
    assert_eq!(count(&cluster, "can be sent"), 0);
}

/// A process that is stopped for a while hears of its failures late.
#[test]
fn failures_that_are_told_late_are_failures() {
    let mut cluster = three();
    cluster.nodes[0].unreachable.extend([place(2), place(3)]);
    cluster.pass(Duration::from_secs(10));
    assert_eq!(count(&cluster, LOST), 1);
    let agent = &mut cluster.nodes[0].agent;
    let mut out = Outbox::new();
    let mut clock = Clock { now: agent.deadline().expect("it probes"), unix_seconds: 0, offset_seconds: 0 };
    let mut sent = Vec::new();
    while sent.len() < 2 {
        clock.now = clock.now.max(agent.deadline().expect("it probes"));
        agent.handle(clock, Input::Tick, &mut out);
        let target = |action| if let Action::Send { to, .. } = action { Some(to) } else { None };
        sent = out.actions().filter_map(target).collect();
    }
    out.clear();
    clock.now = clock.now + Duration::from_secs(60);
    for to in sent {
        let why = "network is unreachable";
        agent.handle(clock, Input::SendFailed { socket: Socket::Gossip, to, why }, &mut out);
    }
    let printed = |action| if let Action::Print(bytes) = action { Some(bytes) } else { None };
    let log: Vec<u8> = out.actions().filter_map(printed).flatten().copied().collect();
    let log = String::from_utf8_lossy(&log);
    assert_eq!(log.matches("failed to send").count(), 2, "{log}");
    assert!(!log.contains("can be sent"), "{log}");
}
