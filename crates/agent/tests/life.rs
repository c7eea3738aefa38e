//! What the console shows from the start to the exit.

mod lab;
#[path = "life/notify.rs"]
mod notify;
#[path = "life/reload.rs"]
mod reload;

use lab::cluster::{Cluster, config_of};
use lab::{Lab, config};
use std::net::SocketAddr;
use villein_agent::config::Config;
use villein_agent::io::{Input, Lookup, Signal, Sink};
use villein_core::note::Level;
use villein_core::snapshot::Restored;
use villein_core::time::Duration;

const BANNER: &str = "==> Serf agent running!
                      Node name: 'alpha'
                      Bind addr: '127.0.0.1:7946'
                       RPC addr: '127.0.0.1:7373'
                      Encrypted: false
                       Snapshot: false
                        Profile: lan
                        Runtime: none
    Message Compression Enabled: true
";

const STREAMING: &str = "
==> Log data will now stream in as it occurs:

";

#[test]
fn a_plain_start() {
    let lab = Lab::new(config());
    let log = "    2026/11/22 20:08:16 [INFO] agent: Serf agent starting
    2026/11/22 20:08:16 [INFO] serf: EventMemberJoin: alpha 127.0.0.1
";
    assert_eq!(lab.printed, format!("{BANNER}{STREAMING}{log}"));
}

#[test]
fn the_banner_shows_what_is_configured() {
    let mut config = config();
    config.advertise_text = Some("192.0.2.9:7946".to_owned());
    config.profile_name = "wan".to_owned();
    config.runtime_name = "glommio".to_owned();
    config.node.compression = false;
    config.discover = Some(villein_agent::config::Discover {
        cluster: "demo".to_owned(),
        host_name: "vm".to_owned(),
        families: Vec::new(),
    });
    config.start_lines = vec![(Level::Warn, "odd\nname".to_owned())];
    let lab = Lab::new(config);
    let wanted = "==> Serf agent running!
                      Node name: 'alpha'
                      Bind addr: '127.0.0.1:7946'
    Advertise addr: '192.0.2.9:7946'
                       RPC addr: '127.0.0.1:7373'
                      Encrypted: false
                       Snapshot: false
                        Profile: wan
                        Runtime: glommio
    Message Compression Enabled: false
                   mDNS cluster: demo
";
    assert!(lab.printed.starts_with(wanted), "{}", lab.printed);
    assert!(lab.printed.contains("[WARN] agent: odd\\nname\n"), "{}", lab.printed);
}

#[test]
fn a_failed_start_join_shows_the_log_and_the_error() {
    let mut config = config();
    config.start_join = vec!["127.0.0.9".to_owned(), "127.0.0.8:1".to_owned(), "nobody".to_owned()];
    let mut lab = Lab::new(config);
    assert_eq!(lab.printed, format!("{BANNER}==> Joining cluster...(replay: false)\n"));
    let (id, host, port, _) = lab.resolving.pop().expect("the name is looked up");
    assert_eq!((host.as_str(), port), ("nobody", 7946));
    let mark = lab.printed.len();
    lab.give(Input::Resolved { id, result: Err("lookup nobody: no such host") });
    let bullets = "\
\t* Failed to join 127.0.0.9: dial tcp 127.0.0.9:7946: connect: connection refused
\t* Failed to join 127.0.0.8: dial tcp 127.0.0.8:1: connect: connection refused
\t* Failed to resolve nobody: lookup nobody: no such host
";
    let log = lab.log_since(mark) + "\n";
    assert!(log.contains("[INFO] agent: Serf agent starting\n"), "{log}");
    assert!(log.contains("[INFO] agent: joining: [127.0.0.9 127.0.0.8:1 nobody] replay: false\n"), "{log}");
    assert!(log.contains("[WARN] agent: error joining: 3 errors occurred:\n"), "{log}");
    assert!(log.ends_with(&format!("==> 3 errors occurred:\n{bullets}\n\n")), "{log}");
    assert_eq!(lab.exit, Some(1));
}

#[test]
fn a_start_join_that_works_is_counted() {
    let mut config = config();
    // The own address: joining oneself counts.
    config.start_join = vec!["127.0.0.1".to_owned()];
    config.replay_on_join = true;
    let mut lab = Lab::new(config);
    lab.pass(Duration::from_secs(1));
    let joined = "    Join completed. Synced with 1 initial agents\n";
    let wanted = format!("{BANNER}==> Joining cluster...(replay: true)\n{joined}{STREAMING}");
    assert!(lab.printed.starts_with(&wanted), "{}", lab.printed);
    assert!(lab.printed.contains("[INFO] agent: joining: [127.0.0.1] replay: true\n"), "{}", lab.printed);
    assert!(lab.printed.contains("[INFO] agent: joined: 1 nodes\n"), "{}", lab.printed);
}

#[test]
fn the_retry_join_ends_after_its_attempts() {
    let mut config = config();
    config.retry_join = vec!["127.0.0.2".to_owned()];
    config.retry_interval = Duration::from_secs(1);
    config.retry_max = 2;
    let mut lab = Lab::new(config);
    lab.pass(Duration::from_millis(2500));
    assert_eq!(lab.printed.matches("[INFO] agent: Joining cluster...(replay: false)\n").count(), 3);
    assert_eq!(lab.printed.matches("\n\n, retrying in 1s\n").count(), 2, "{}", lab.printed);
    let end = "[ERR] agent: maximum retry join attempts made, exiting
[INFO] agent: requesting serf shutdown
[WARN] serf: Shutdown without a Leave
[INFO] agent: shutdown complete";
    assert!(lab.log_since(0).ends_with(end), "{}", lab.printed);
    assert_eq!(lab.exit, Some(1));
}

#[test]
fn intervals_are_shown_in_minutes() {
    let mut config = config();
    config.retry_join = vec!["127.0.0.2".to_owned()];
    config.retry_interval = Duration::from_secs(90);
    let lab = Lab::new(config);
    assert!(lab.printed.contains("\n\n, retrying in 1m30s\n"), "{}", lab.printed);
}

#[test]
fn an_interrupt_leaves() {
    let mut lab = Lab::new(config());
    let mark = lab.printed.len();
    lab.signal(Signal::Interrupt);
    lab.signal(Signal::Hangup);
    lab.pass(Duration::from_secs(3));
    let log = lab.log_since(mark);
    let wanted = "==> Caught signal: interrupt
==> Gracefully shutting down agent...
[INFO] agent: requesting graceful leave from Serf
[INFO] serf: EventMemberLeave: alpha 127.0.0.1
";
    assert!(log.starts_with(wanted), "{log}");
    assert!(
        log.ends_with("[INFO] agent: requesting serf shutdown\n[INFO] agent: shutdown complete"),
        "{log}"
    );
    assert_eq!(lab.exit, Some(0));
    lab.signal(Signal::Interrupt);
    assert_eq!(lab.agent.deadline(), None);
}

#[test]
fn a_second_signal_ends_the_leave() {
    let mut lab = Lab::new(config());
    lab.signal(Signal::Interrupt);
    assert_eq!(lab.exit, None);
    let mark = lab.printed.len();
    lab.signal(Signal::Terminate);
    assert_eq!(
        lab.log_since(mark),
        "[INFO] agent: requesting serf shutdown\n[WARN] serf: Shutdown without a Leave\n[INFO] agent: shutdown complete"
    );
    assert_eq!(lab.exit, Some(1));
}

#[test]
fn terminate_and_hangup() {
    let mut lab = Lab::new(config());
    let mark = lab.printed.len();
    lab.signal(Signal::Hangup);
    assert_eq!(lab.log_since(mark), "==> Caught signal: hangup\n==> Reloading configuration...");
    assert_eq!(lab.config_wanted, [Vec::<std::path::PathBuf>::new()], "flags are the only source");
    lab.signal(Signal::Terminate);
    assert_eq!(lab.exit, Some(1));
    assert!(lab.printed.contains("==> Caught signal: terminated\n"), "{}", lab.printed);

    let mut config = config();
    config.leave_on_terminate = true;
    let mut lab = Lab::new(config);
    lab.signal(Signal::Terminate);
    assert_eq!(lab.exit, None);
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.exit, Some(0));
}

#[test]
fn a_signal_during_the_start_join_leaves() {
    let mut config = config();
    config.start_join = vec!["slow.example".to_owned()];
    let mut lab = Lab::new(config);
    lab.signal(Signal::Interrupt);
    let (id, ..) = lab.resolving.pop().expect("the name is looked up");
    lab.give(Input::Resolved { id, result: Err("lookup slow.example: no such host") });
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.exit, Some(0), "the failed join does not matter any more: {}", lab.printed);
    assert!(lab.printed.contains("[INFO] agent: Serf agent starting\n"), "{}", lab.printed);
}

#[test]
fn a_skipped_leave_ends_at_once() {
    let mut config = config();
    config.skip_leave_on_interrupt = true;
    let mut lab = Lab::new(config);
    lab.signal(Signal::Interrupt);
    assert_eq!(lab.exit, Some(1));
    assert!(lab.printed.contains("[WARN] serf: Shutdown without a Leave\n"));
}

#[test]
fn a_leave_over_slow_links_is_waited_for() {
    // The wait at the end of the leave alone is longer than the 3 s that a signal allows.
    let leave = |profile: &str| {
        let mut config = config();
        config.profile_name = profile.to_owned();
        config.node.leave_propagate_delay = Duration::from_secs(4);
        let mut lab = Lab::new(config);
        lab.signal(Signal::Interrupt);
        lab.pass(Duration::from_secs(20));
        (lab.exit, lab.printed.contains("Shutdown without a Leave"))
    };
    assert_eq!(leave("lan"), (Some(1), true));
    assert_eq!(leave("wan"), (Some(0), false));
}

#[test]
fn tags_that_hide_each_other_are_said() {
    let mut config = config();
    config.node.tags = [("a-b".into(), "1".into()), ("a.b".into(), "2".into())].into();
    let lab = Lab::new(config);
    assert!(lab.printed.contains("[WARN] agent: handlers do not see tag 'a-b'"), "{}", lab.printed);
}

#[test]
fn metrics_of_the_last_minute_are_shown_on_demand() {
    let mut lab = Lab::new(config());
    lab.client(1);
    lab.signal(Signal::User1);
    assert_eq!(lab.printed_errors, "", "no interval is over yet");
    lab.pass(Duration::from_secs(12));
    lab.signal(Signal::User1);
    for wanted in [
        "[C] 'serf-agent.agent.ipc.accept': Count: 1 Sum: 1.000 LastUpdated: 2026-11-22 20:08:16 +0000 UTC m=+0.000000000\n",
        "[C] 'serf-agent.agent.ipc.command': Count: 1 ",
        "[C] 'serf-agent.serf.member.join': Count: 1 ",
        "[2026-11-22 20:08:10 +0000 UTC][C] ",
    ] {
        assert!(lab.printed_errors.contains(wanted), "{wanted}: {}", lab.printed_errors);
    }
}

#[test]
fn sinks_are_told_within_a_second_and_their_failure_once() {
    let mut config = config();
    config.metric_sinks = vec![Sink::Statsd];
    let mut lab = Lab::new(config);
    lab.pass(Duration::from_secs(2));
    let reported =
        |lab: &Lab| lab.reported.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect::<String>();
    let text = reported(&lab);
    assert!(text.contains("serf-agent.serf.member.join:1.000000|c\n"), "{text}");
    for _ in 0..3 {
        lab.give(Input::SinkFailed { sink: Sink::Statsd, why: "connection refused" });
    }
    assert_eq!(lab.printed.matches("metrics do not reach statsd: connection refused").count(), 1);
    lab.client(1);
    lab.signal(Signal::Terminate);
    let text = reported(&lab);
    assert!(
        text.contains("serf-agent.agent.ipc.accept:1.000000|c\n"),
        "what waits goes before the end: {text}"
    );
}

#[test]
fn a_log_for_machines_stands_alone_on_standard_output() {
    let mut config = config();
    config.log_format = villein_agent::config::LogFormat::Json;
    let mut lab = Lab::new(config);
    lab.signal(Signal::Terminate);
    assert!(
        lab.printed.lines().count() > 3
            && lab
                .printed
                .lines()
                .all(|line| line.starts_with("{\"time\":\"2026-11-22T20:08:16+00:00\",\"level\":"))
    );
    assert!(lab.printed_errors.starts_with("==> Serf agent running!\n"), "{}", lab.printed_errors);
    assert!(lab.printed_errors.contains("==> Caught signal: terminated\n"), "{}", lab.printed_errors);
}

/// Settings of a node that forgets failed members soon, so that nothing but seeds leads to them, and that contacts
/// nobody else by itself.
fn forgetful(name: &str, number: u8, seeds: &[&str]) -> Config {
    let mut config = config_of(name, number);
    config.retry_join = seeds.iter().map(|&seed| seed.to_owned()).collect();
    config.node.reconnect_timeout = Duration::from_secs(60);
    config.node.profile.push_pull_interval = Duration::ZERO;
    config
}

const HOUR: Duration = Duration::from_secs(3600);
/// From a cut until the members on the other side are forgotten; and the longest time between two looks at seeds.
const A_WHILE: Duration = Duration::from_secs(610);

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 7946))
}

#[test]
fn the_halves_of_a_cluster_find_each_other_again() {
    let mut cluster = Cluster::new([
        forgetful("alpha", 1, &[]),
        forgetful("beta", 2, &["127.0.0.1"]),
        forgetful("gamma", 3, &["127.0.0.1"]),
        forgetful("delta", 4, &["127.0.0.1"]),
    ]);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.alive(), [4, 4, 4, 4]);

    // Nothing happens as long as nothing has to.
    let marks: Vec<usize> = cluster.nodes.iter().map(|node| node.printed.len()).collect();
    let dialed = cluster.dialed.clone();
    cluster.pass(HOUR);
    assert_eq!(cluster.dialed, dialed, "a seed that is a live member needs no contact");

    for place in [2, 3] {
        cluster.nodes[place].side = 1;
    }
    cluster.pass(A_WHILE);
    assert_eq!(cluster.alive(), [2, 2, 2, 2]);
    for node in &mut cluster.nodes {
        node.side = 0;
    }
    cluster.pass(A_WHILE);
    assert_eq!(cluster.alive(), [4, 4, 4, 4]);
    let brought = "[INFO] agent: seeds [127.0.0.1] brought 2 more live members";
    let logs = [2, 3].map(|place| cluster.log_since(place, marks[place]));
    assert_eq!(logs.iter().map(|log| log.matches(brought).count()).sum::<usize>(), 1, "{logs:?}");
    assert!(logs.iter().all(|log| !log.contains("joining: ") && !log.contains("error joining")), "{logs:?}");
}

#[test]
fn a_node_that_is_alone_looks_for_its_seeds_as_often_as_it_would_retry() {
    // The address that was joined at the start is a seed, too.
    let start = Config { start_join: vec!["127.0.0.2".to_owned()], ..forgetful("alpha", 1, &[]) };
    let mut cluster = Cluster::new([forgetful("beta", 2, &[]), start]);
    cluster.nodes[0].side = 1;
    // The failure, and its last reconnects.
    cluster.pass(Duration::from_secs(300));
    let before = cluster.dialed[&addr(2)];
    cluster.pass(Duration::from_secs(300));
    assert_eq!(cluster.dialed[&addr(2)] - before, 10);
    assert_eq!(cluster.nodes[1].exit, None, "this never ends the agent");
    cluster.nodes[0].side = 0;
    cluster.pass(Duration::from_secs(30));
    assert_eq!(cluster.alive(), [2, 2]);
}

#[test]
fn seeds_are_looked_up_again_and_found_where_they_moved() {
    for (seed, name, lookup) in [
        ("seed.example", "seed.example", Lookup::Host),
        ("dns+srv://_serf._tcp.example", "_serf._tcp.example", Lookup::Service),
    ] {
        let mut cluster = Cluster::new([forgetful("beta", 2, &[])]);
        cluster.names.insert((name.to_owned(), lookup), vec![addr(2)]);
        cluster.start(forgetful("alpha", 1, &[seed]), Restored::default());
        assert_eq!(cluster.alive(), [2, 2]);
        cluster.nodes[0].side = 1;
        cluster.names.insert((name.to_owned(), lookup), vec![addr(3)]);
        cluster.start(forgetful("gamma", 3, &[]), Restored::default());
        cluster.pass(A_WHILE);
        assert_eq!(cluster.alive(), [1, 2, 2], "{seed}");
    }
}

#[test]
fn a_name_with_many_addresses_is_not_contacted_manyfold() {
    let mut cluster = Cluster::new([forgetful("beta", 2, &[])]);
    let lookup = ("seeds.example".to_owned(), Lookup::Host);
    cluster.names.insert(lookup.clone(), vec![addr(2)]);
    cluster.start(forgetful("alpha", 1, &["seeds.example"]), Restored::default());
    cluster.names.insert(lookup, (1..=14).map(addr).collect());
    cluster.dialed.clear();
    cluster.pass(A_WHILE);
    let dialed: usize = cluster.dialed.values().sum();
    assert!((1..=6).contains(&dialed), "one or two looks: {dialed}");
    cluster.pass(5 * HOUR);
    assert_eq!(cluster.dialed.len(), 12, "each has its turn");
}

#[test]
fn seeds_from_before_a_restart_are_joined_and_never_end_the_agent() {
    let restored = Restored { seeds: vec!["127.0.0.2".into()], ..Restored::default() };
    let alpha = Config { retry_max: 1, ..forgetful("alpha", 1, &[]) };
    let mut cluster = Cluster::new([]);
    cluster.start(alpha, restored);
    cluster.pass(HOUR);
    assert_eq!(cluster.nodes[0].exit, None);
    cluster.start(forgetful("beta", 2, &[]), Restored::default());
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.alive(), [2, 2]);
}

#[test]
fn texts_that_worked_are_remembered_in_the_snapshot() {
    let mut alpha = forgetful("alpha", 1, &["127.0.0.2"]);
    alpha.node.snapshot = true;
    let mut cluster = Cluster::new([forgetful("beta", 2, &[]), forgetful("gamma", 3, &[]), alpha]);
    cluster.join(2, 1);
    cluster.join(2, 1);
    let seeds = |cluster: &Cluster| {
        let snapshot = String::from_utf8_lossy(&cluster.nodes[2].snapshot).into_owned();
        snapshot.lines().filter(|line| line.contains("seed")).map(str::to_owned).collect::<Vec<_>>()
    };
    cluster.pass(Duration::from_secs(1));
    assert_eq!(seeds(&cluster), ["# seed: 127.0.0.2", "# seed: 127.0.0.3:7946"]);
}

#[test]
fn what_is_worth_keeping_is_written_before_the_exit() {
    let mut config = config();
    config.node.snapshot = true;
    let mut lab = Lab::new(config);
    assert!(lab.snapshot.is_empty(), "it is not written at once");
    lab.signal(Signal::Terminate);
    assert_eq!(String::from_utf8_lossy(&lab.snapshot), "alive: alpha 127.0.0.1:7946\n");
    assert_eq!(lab.exit, Some(1));
}
