//! What agents print: how they start, with which addresses and names, how they join, and how they end.

use super::{Host, Running};
use crate::namespaces::ip;
use crate::support::Runtime;
use crate::transcript::Replay;
use std::io::Write;
use std::net::TcpStream;

/// Whom the others join.
const N2: &str = "serf agent -node=n2 -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373";
/// An agent that is stopped: the system accepts connections for it, and nobody ever answers.
const SILENT: &str = "serf agent -node=silent -bind=127.0.0.9 -rpc-addr=127.0.0.9:7373";

fn open(host: &Host, name: &'static str) -> Replay {
    Replay::open(name, &host.shell())
}

/// Sees all commands through, one after the other.
fn plain(replay: &mut Replay) {
    while replay.line().is_some() {
        replay.play();
    }
}

pub(super) fn addresses(runtime: Runtime) -> Vec<String> {
    const GOSSIP_TAKEN: &str = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.2:7373";
    let host = Host::new(runtime, "addresses");
    let mut replay = open(&host, "agent/start-addresses");
    while replay.line().is_some_and(|line| line != GOSSIP_TAKEN) {
        replay.play();
    }
    let _other = host.agent("serf agent -node=other -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373");
    plain(&mut replay);
    replay.finish()
}

pub(super) fn names(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "names");
    let mut replay = open(&host, "agent/start-names");
    plain(&mut replay);
    replay.finish()
}

pub(super) fn joins(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "joins");
    let mut replay = open(&host, "agent/start-join");
    replay.play();
    let n2 = host.agent(N2);
    replay.play();
    replay.play();
    drop(n2);
    replay.play();

    // n2 starts when n1 has tried three times.
    let n1 = replay.start();
    n1.wait_for_times("retrying in 1s", 3);
    let n2 = host.agent(N2);
    replay.settle(n1);
    drop(n2);
    plain(&mut replay);
    replay.finish()
}

pub(super) fn ipv6(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "ipv6");
    let mut replay = open(&host, "agent/ipv6");
    let mut six = replay.start();
    six.wait_for("Serf agent starting");
    let mut seven = replay.start();
    replay.check(&mut six);
    replay.check(&mut seven);
    replay.finish()
}

pub(super) fn no_flags(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "bind");
    host.add_interface("10.77.0.1/24");
    let mut replay = open(&host, "agent/default-bind");
    let mut agent = replay.start();
    replay.check(&mut agent);
    replay.finish()
}

pub(super) fn discovery(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "discovery");
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

pub(super) fn discovery_without_ipv6(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "no-ipv6");
    let mut replay = open(&host, "agent/discover-no-ipv6");
    ip(&["-n", &host.namespace, "link", "set", "lo", "multicast", "on"]);
    ip(&["-n", &host.namespace, "route", "add", "224.0.0.0/4", "dev", "lo"]);
    replay.play();
    ip(&["-n", &host.namespace, "route", "del", "224.0.0.0/4", "dev", "lo"]);
    ip(&["-n", &host.namespace, "link", "set", "lo", "multicast", "off"]);
    replay.play();
    replay.finish()
}

pub(super) fn old_events(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "replay");
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

pub(super) fn signals(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "signals");
    let mut n2 = host.agent(N2);
    let mut replay = open(&host, "agent/signals");
    let start = |replay: &mut Replay, until: &str| -> Running {
        let agent = replay.start();
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
        host.write("sig.json", &content);
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

pub(super) fn name_conflict(runtime: Runtime) -> Vec<String> {
    const N3: &str = "serf agent -node=n3 -bind=127.0.0.3 -rpc-addr=127.0.0.3:7373";
    let host = Host::new(runtime, "conflict");
    let mut replay = open(&host, "agent/name-conflict");
    let mut n3 = replay.start_early(N3);
    n3.wait_for("Serf agent starting");
    let mut first = replay.start();
    replay.check(&mut first);
    replay.play();
    replay.check(&mut n3);
    replay.play();
    drop((first, n3));

    host.write("nr.json", r#"{"disable_name_resolution": true}"#);
    let _n3 = host.agent(N3);
    let mut first = replay.start();
    replay.check(&mut first);
    replay.play();
    replay.finish()
}

/// A start join that nobody answers; then what agents of older protocols can do, large events, and two leaves at once.
pub(super) fn silence(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "silence");
    let silent = host.agent(SILENT);
    silent.signal("STOP");
    let mut replay = open(&host, "agent/misc");
    for signal in ["INT", "TERM", "HUP"] {
        let n1 = replay.start();
        n1.wait_for("==> Joining cluster");
        n1.signal(signal);
        replay.settle(n1);
    }
    replay.play();
    let n1 = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373";
    for protocol in [3, 2] {
        let _n1 = host.agent(&format!("{n1} -protocol={protocol} -tag role=web -tag x=1"));
        for _ in 0..4 {
            replay.play();
        }
    }
    host.write("m.json", r#"{"user_event_size_limit": -1}"#);
    let agent = host.agent(&format!("{n1} -config-file=m.json"));
    replay.play();
    drop(agent);

    host.write("m.json", r#"{"user_event_size_limit": 9216}"#);
    let mut large = replay.start_early(&format!("{n1} -config-file=m.json"));
    large.wait_for("Serf agent starting");
    let n2 = host.agent(&format!("{N2} -join=127.0.0.1 -config-file=m.json"));
    large.wait_for("EventMemberJoin: n2");
    replay.play();
    replay.play();
    replay.check(&mut large);
    // What n2 prints takes half a minute, until the large event comes with an exchange.
    replay.take();
    drop((large, n2));

    let n1 = replay.start();
    n1.wait_for("Serf agent starting");
    let _n2 = host.agent(&format!("{N2} -join=127.0.0.1"));
    n1.wait_for("EventMemberJoin: n2");
    n1.wait_for("Received event: member-join");
    let leave = || host.run("serf leave");
    let leaves = std::thread::scope(|scope| {
        [scope.spawn(leave), scope.spawn(leave)].map(|leave| leave.join().expect("it was run"))
    });
    for leave in leaves {
        assert_eq!(String::from_utf8_lossy(&leave.stdout), "Graceful leave complete\n");
    }
    replay.settle(n1);

    let _n1 = host.agent("serf agent -node=n1 -bind=127.0.0.1");
    replay.finish()
}

/// Names that no command line can hold, and a tag without a name.
pub(super) fn odd_values(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "values");
    let mut replay = open(&host, "agent/misc2");
    let mut n1 = replay.start();
    n1.wait_for("EventMemberJoin: n1");
    let mut client = host.connect("127.0.0.1:7373");
    let send = |client: &mut TcpStream, command: &str, seq: u8, body: &[u8]| {
        let length = u8::try_from(command.len()).expect("commands are short");
        let header =
            [b"\x82\xa7Command", &[0xa0 | length][..], command.as_bytes(), b"\xa3Seq", &[seq]].concat();
        client.write_all(&[&header, body].concat()).expect("the agent reads");
    };
    send(&mut client, "handshake", 0, b"\x81\xa7Version\x01");
    send(&mut client, "event", 1, b"\x83\xa4Name\xa3a\0b\xa7Payload\xc4\x01x\xa8Coalesce\xc2");
    replay.check(&mut n1);
    send(&mut client, "query", 2, b"\x82\xa4Name\xa1q\xabRelayFactor\xcd\x01\x2c");
    n1.case = replay.take().expect("the agent goes on");
    replay.check(&mut n1);
    drop(n1);

    host.write("e.json", r#"{"tags":{"":"x","a":"b"}}"#);
    let line = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373 -config-file=e.json '-event-handler=user=env | grep SERF_TAG' -log-level=debug";
    let n1 = replay.start_early(line);
    n1.wait_for("EventMemberJoin: n1");
    replay.play();
    host.run("serf event -coalesce=false x");
    replay.settle(n1);
    replay.finish()
}
