//! Multicast discovery: who is found is joined, and what cannot work is said once.

mod lab;

use lab::{Lab, config};
use villein_agent::Agent;
use villein_agent::config::{Config, Discover, Family};
use villein_agent::io::{Clock, Input, Outbox, Socket};
use villein_core::mdns::Via;
use villein_core::snapshot::Restored;
use villein_core::time::{Duration, Instant};

fn discovering() -> Config {
    let mut config = config();
    config.discover = Some(Discover {
        cluster: "demo".to_owned(),
        host_name: "vm".to_owned(),
        families: vec![Family::V4, Family::V6],
    });
    config
}

/// The question that a fresh agent asks over IPv4.
fn question(lab: &Lab) -> Vec<u8> {
    let asked = lab.sent.iter().find(|(socket, to, _)| *socket == Socket::Mdns(Via::Query) && to.is_ipv4());
    asked.map(|(_, _, bytes)| bytes.clone()).expect("the first question is asked at the start")
}

#[test]
fn a_host_that_answers_is_joined() {
    let mut lab = Lab::new(discovering());
    let mut other = discovering();
    other.node.name = "beta".into();
    other.node.port = 7950;
    let mut answering = Lab::new(other);
    let from = std::net::SocketAddr::from(([10, 0, 0, 1], 5353));
    answering.sent.clear();
    answering.give(Input::Datagram { socket: Socket::Mdns(Via::Group), from, bytes: &question(&lab) });
    let (_, _, answer) = answering.sent.pop().expect("the question is answered");
    let mark = lab.printed.len();
    lab.give(Input::Datagram { socket: Socket::Mdns(Via::Query), from, bytes: &answer });
    lab.pass(Duration::from_millis(200));
    let log = lab.log_since(mark);
    assert!(log.starts_with("[INFO] agent: joining: [127.0.0.1:7950] replay: false\n"), "{log}");
    let failed = "[ERR] agent.mdns: Failed to join: 1 error occurred:\n\t* Failed to join 127.0.0.1: \
                  dial tcp 127.0.0.1:7950: connect: connection refused\n";
    assert!(log.contains(failed), "{log}");
    assert_eq!(lab.exit, None);
}

#[test]
fn what_cannot_be_sent_is_said_once() {
    let mut lab = Lab::new(discovering());
    let groups: Vec<_> = lab.sent.iter().map(|(socket, to, _)| (*socket, *to)).collect();
    assert_eq!(groups.len(), 2);
    for _ in 0..3 {
        for &(socket, to) in &groups {
            lab.give(Input::SendFailed { socket, to, why: "network is unreachable" });
        }
        lab.pass(Duration::from_secs(61));
    }
    let failed = "[ERR] agent.mdns: Failed to poll for new hosts: ";
    assert_eq!(lab.printed.matches(failed).count(), 2, "{}", lab.printed);
    assert_eq!(lab.printed.matches("[ERR] agent.mdns: No question can be sent").count(), 1);
    assert_eq!(lab.printed.matches("[ERR] agent: ").count(), 0, "gossip is another matter");
}

#[test]
fn equal_inputs_make_equal_actions() {
    let play = |seed: u8| {
        let mut agent = Agent::new(discovering(), [seed; 32], Restored::default(), Instant::ORIGIN);
        let mut out = Outbox::new();
        let clock = Clock { now: Instant::ORIGIN, unix_seconds: 0, offset_seconds: 0 };
        agent.handle(clock, Input::Started, &mut out);
        out.actions().map(|action| format!("{action:?}")).collect::<Vec<_>>()
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2), "the number of a question is drawn");
}
