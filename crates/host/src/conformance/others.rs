//! What an agent has to do with other agents and with children: names, multicast, handlers.

use super::endings::temporary;
use super::lab::{Extras, LOOPBACK, Running, eventually};
use super::{Check, Run};
use crate::interface::Interface;
use crate::multicast;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fs, process, thread};
use villein_agent::config::{Discover, Family};
use villein_agent::handler::Handler;
use villein_agent::io::Signal;
use villein_core::mdns::{GROUP_V4, GROUP_V6, Via};
use villein_rpc::request::UserEvent;

pub(super) const CHECKS: &[Check] = &[
    ("agents find each other by name, over both transports", two_agents),
    ("agents find each other by multicast", multicast_discovery),
    ("children run, and an idle agent sleeps", children_and_sleep),
    ("children wake an agent that has nothing else to wait for", children_in_turn),
    ("a script out of time is ended with its descendants", a_script_out_of_time),
];

fn two_agents(run: Run) {
    let alpha = Running::ready(run, "alpha");
    let port = alpha.gossip.port();
    let beta = Running::start(run, "beta", |config| config.start_join = vec![format!("localhost:{port}")]);
    beta.screen.wait_for("Join completed. Synced with 1 initial agents");
    beta.screen.wait_for("EventMemberJoin: alpha 127.0.0.1");
    alpha.screen.wait_for("EventMemberJoin: beta 127.0.0.1");
    alpha.signal(Signal::Interrupt);
    beta.screen.wait_for("EventMemberLeave: alpha 127.0.0.1");
    assert_eq!(alpha.end().0, 0);
    beta.stop();
}

/// Over the loopback interface, which nothing leaves.
fn multicast_discovery(run: Run) {
    let lo = Interface::named("lo").expect("every machine has it");
    for (family, group) in [(Family::V4, GROUP_V4), (Family::V6, GROUP_V6)] {
        let open = || multicast::open(Some(&lo), &[family]);
        let sent = open().and_then(|pairs| {
            let mut sockets = pairs.iter().flat_map(|pair| &pair.sockets);
            let (_, query) = sockets.find(|(via, _)| *via == Via::Query).expect("each family has one");
            query.send_to(b"?", group).map_err(|error| error.to_string())
        });
        if let Err(why) = sent {
            assert_eq!(family, Family::V6, "IPv4 has multicast on every loopback interface: {why}");
            let skipped = "SKIPPED: multicast over IPv6: the loopback interface has no route for it";
            // Past the test runner, which shows nothing of a test that passes.
            let _ = writeln!(io::stderr(), "{skipped}: {why}");
            continue;
        }
        let start = |name: &str| {
            let multicast = open().expect("the port is shared");
            let extras = Extras { multicast, ..Extras::default() };
            Running::start_with(run, name, extras, |config| {
                let cluster = format!("conformance-{}", process::id());
                let host_name = "localhost".to_owned();
                config.discover = Some(Discover { cluster, host_name, families: vec![family] });
            })
        };
        let alpha = start("alpha");
        alpha.screen.wait_for("==> Log data will now stream in");
        // It asks, the other one answers, and is joined.
        let beta = start("beta");
        beta.screen.wait_for("agent.mdns: Joined 1 hosts");
        beta.screen.wait_for(&format!("EventMemberJoin: alpha {LOOPBACK}"));
        alpha.screen.wait_for(&format!("EventMemberJoin: beta {LOOPBACK}"));
        alpha.stop();
        beta.stop();
    }
}

fn children_and_sleep(run: Run) {
    const SLEEP: Duration = Duration::from_secs(3);
    /// Turns in that time. The node wakes a few times a second at most; a loop that spins makes thousands.
    const TURNS: u64 = 30;
    let handler =
        Handler::parse(b"member-join=echo \"$SERF_EVENT heard by $SERF_SELF_NAME\"; cat").expect("a handler");
    let agent = Running::start(run, "alpha", |config| config.handlers = vec![handler]);
    agent.screen.wait_for("member-join heard by alpha");
    let before = agent.turns.load(Ordering::Relaxed);
    // Nothing is waited for here: the time itself is what is looked at.
    thread::sleep(SLEEP);
    let turns = agent.turns.load(Ordering::Relaxed) - before;
    assert!(turns <= TURNS, "{turns} turns of an idle agent in {SLEEP:?}");
    agent.stop();
}

/// Each child starts when the one before it has ended, and nothing but that end wakes the loop: a wake that is lost
/// is waited for in vain.
fn children_in_turn(run: Run) {
    const EVENTS: usize = 60;
    const NEVER: Duration = Duration::from_hours(24);
    let path = temporary("events");
    let script = format!("user=echo \"$SERF_USER_EVENT $(cat)\" >> {}", path.display());
    let agent = Running::ready_with(run, "alpha", |config| {
        let profile = &mut config.node.profile;
        (profile.probe_interval, profile.push_pull_interval) = (NEVER, NEVER);
        config.handlers = vec![Handler::parse(script.as_bytes()).expect("a handler")];
    });
    let mut client = agent.rpc_client();
    for number in 0..EVENTS {
        let name = format!("event-{number}").as_str().into();
        let event = UserEvent { name, payload: Some(b"payload".to_vec()), coalesce: false };
        client.event(event).expect("there is room for it");
    }
    let expected: Vec<String> = (0..EVENTS).map(|number| format!("event-{number} payload")).collect();
    let text = || fs::read_to_string(&path).unwrap_or_default();
    let is_there = eventually(|| text().lines().eq(&expected));
    let said = text();
    fs::remove_file(&path).expect("it was written");
    assert!(is_there, "{said}");
    agent.stop();
}

fn a_script_out_of_time(run: Run) {
    // Whoever is not ended holds the output open, and the script is given up, which has other words.
    let command = b"{timeout=100ms}member-join=echo started; sleep 1000 & sleep 1000";
    let handler = Handler::parse(command).expect("a handler");
    let agent = Running::start(run, "alpha", |config| config.handlers = vec![handler]);
    agent.screen.wait_for("timed out after 100ms: started");
    agent.stop();
}
