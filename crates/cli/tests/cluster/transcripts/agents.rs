//! What agents print: how they start, with which addresses and names, how they join, and how they end.

use super::{Host, Running, replay};
use crate::namespaces::can_make_hosts;
use crate::transcript::Replay;

/// Whom the others join.
const N2: &str = "serf agent -node=n2 -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373";
/// An agent that is stopped: the system accepts connections for it, and nobody ever answers.
const SILENT: &str = "serf agent -node=silent -bind=127.0.0.9 -rpc-addr=127.0.0.9:7373";

#[test]
fn agents_print_what_the_reference_prints() {
    if can_make_hosts() {
        replay(&[
            addresses, names, joins, ipv6, no_flags, discovery, old_events, signals, name_conflict, silence,
        ]);
    }
}

fn open(host: &Host, name: &'static str) -> Replay {
    Replay::open(name, &host.shell())
}

/// Sees all commands through, one after the other.
fn plain(replay: &mut Replay) {
    while replay.line().is_some() {
        replay.play();
    }
}

fn addresses() -> Vec<String> {
    const GOSSIP_TAKEN: &str = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.2:7373";
    let host = Host::new("addresses");
    let mut replay = open(&host, "agent/start-addresses");
    while replay.line().is_some_and(|line| line != GOSSIP_TAKEN) {
        replay.play();
    }
    let _other = host.agent("serf agent -node=other -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373");
    plain(&mut replay);
    replay.finish()
}

fn names() -> Vec<String> {
    let host = Host::new("names");
    let mut replay = open(&host, "agent/start-names");
    plain(&mut replay);
    replay.finish()
}

fn joins() -> Vec<String> {
    let host = Host::new("joins");
    let mut replay = open(&host, "agent/start-join");
    replay.play();
    let n2 = host.agent(N2);
    replay.play();
    replay.play();
    drop(n2);
    replay.play();

    // n2 starts when n1 has tried three times.
    let mut n1 = replay.start();
    n1.wait_for_times("retrying in 1s", 3);
    let n2 = host.agent(N2);
    replay.settle(n1);
    drop(n2);
    plain(&mut replay);
    replay.finish()
}

fn ipv6() -> Vec<String> {
    let host = Host::new("ipv6");
    let mut replay = open(&host, "agent/ipv6");
    let mut six = replay.start();
    six.wait_for("Serf agent starting");
    let mut seven = replay.start();
    replay.check(&mut six);
    replay.check(&mut seven);
    replay.finish()
}

fn no_flags() -> Vec<String> {
    let host = Host::new("bind");
    host.add_interface("10.77.0.1/24");
    let mut replay = open(&host, "agent/default-bind");
    let mut agent = replay.start();
    replay.check(&mut agent);
    replay.finish()
}

fn discovery() -> Vec<String> {
    let host = Host::new("discovery");
    host.add_interface("10.77.0.1/24");
    let mut replay = open(&host, "agent/discover");
    let mut n1 = replay.start();
    n1.wait_for("Received event: member-join");
    let mut n2 = replay.start();
    replay.check(&mut n1);
    replay.check(&mut n2);
    replay.play();
    drop((n1, n2));
    replay.play();
    replay.finish()
}

fn old_events() -> Vec<String> {
    let host = Host::new("replay");
    let n2 = host.agent(N2);
    for number in 0..4 {
        host.run(&format!("serf event -rpc-addr=127.0.0.2:7373 -coalesce=false old{number}"));
    }
    n2.wait_for("user-event: old3");
    let mut replay = open(&host, "agent/replay");
    let mut n1 = replay.start();
    replay.check(&mut n1);
    replay.play();
    replay.finish()
}

fn signals() -> Vec<String> {
    let host = Host::new("signals");
    let mut n2 = host.agent(N2);
    let mut replay = open(&host, "agent/signals");
    let start = |replay: &mut Replay, until: &str| -> Running {
        let mut agent = replay.start();
        agent.wait_for(until);
        agent
    };
    // Alone, and before its own join is old enough to be handled.
    let n1 = start(&mut replay, "EventMemberJoin: n1");
    n1.signal("INT");
    replay.settle(n1);
    for signals in [&["INT"][..], &["TERM"], &["INT", "INT"], &["INT", "TERM"], &["INT", "HUP"]] {
        let n1 = start(&mut replay, "Received event: member-join");
        for signal in signals {
            n1.signal(signal);
            n1.wait_for("==> Caught signal");
        }
        replay.settle(n1);
    }
    for (setting, signal) in [("leave_on_terminate", "TERM"), ("skip_leave_on_interrupt", "INT")] {
        let content = format!("{{\"{setting}\": true}}");
        std::fs::write(host.folder().join("sig.json"), content).expect("the folder is ours");
        let n1 = start(&mut replay, "Received event: member-join");
        n1.signal(signal);
        replay.settle(n1);
    }
    let n1 = start(&mut replay, "Received event: member-join");
    n2.signal("STOP");
    n1.signal("INT");
    replay.settle(n1);
    drop(n2);

    let n1 = start(&mut replay, "Received event: member-join");
    n1.signal("USR1");
    n1.signal("TERM");
    replay.settle(n1);

    n2 = host.agent(&format!("{N2} -profile=wan"));
    let n1 = start(&mut replay, "Received event: member-join");
    n1.signal("INT");
    replay.settle(n1);
    let case = replay.take().expect("a command is left");
    replay.ask(&case);
    drop(n2);

    let n1 = start(&mut replay, "EventMemberJoin: n1");
    host.run("serf leave");
    replay.settle(n1);
    replay.finish()
}

fn name_conflict() -> Vec<String> {
    const N3: &str = "serf agent -node=n3 -bind=127.0.0.3 -rpc-addr=127.0.0.3:7373";
    let host = Host::new("conflict");
    let mut replay = open(&host, "agent/name-conflict");
    let mut n3 = replay.start_early(N3);
    n3.wait_for("Serf agent starting");
    let mut first = replay.start();
    replay.check(&mut first);
    replay.play();
    replay.check(&mut n3);
    replay.play();
    drop((first, n3));

    std::fs::write(host.folder().join("nr.json"), "{\"disable_name_resolution\": true}").expect("the folder is ours");
    let _n3 = host.agent(N3);
    let mut first = replay.start();
    replay.check(&mut first);
    replay.play();
    replay.finish()
}

/// A start join that nobody answers; then what agents of older protocols can do.
fn silence() -> Vec<String> {
    let host = Host::new("silence");
    let silent = host.agent(SILENT);
    silent.signal("STOP");
    let mut replay = open(&host, "agent/misc");
    for signal in ["INT", "TERM", "HUP"] {
        let mut n1 = replay.start();
        n1.wait_for("==> Joining cluster");
        n1.signal(signal);
        replay.settle(n1);
    }
    replay.play();
    for protocol in [3, 2] {
        let n1 = format!("serf agent -node=n1 -bind=127.0.0.1 -protocol={protocol} -tag role=web -tag x=1");
        let _n1 = host.agent(&n1);
        for _ in 0..4 {
            replay.play();
        }
    }
    replay.steps.clear();
    replay.finish()
}
