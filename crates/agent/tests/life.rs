//! What the console shows from the start to the exit.

mod lab;

use lab::{Lab, config};
use villein_agent::io::{Input, Signal, Sink};
use villein_core::note::Level;
use villein_core::time::Duration;

const BANNER: &str = "==> Serf agent running!
                      Node name: 'alpha'
                      Bind addr: '127.0.0.1:7946'
                       RPC addr: '127.0.0.1:7373'
                      Encrypted: false
                       Snapshot: false
                        Profile: lan
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
    assert_eq!(
        lab.log_since(mark),
        "==> Caught signal: hangup\n==> Reloading configuration...\n\
         [INFO] agent: nothing to reload: every setting comes from flags"
    );
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
    let reported = lab.reported.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect::<String>();
    assert!(reported.contains("serf-agent.serf.member.join:1.000000|c\n"), "{reported}");
    for _ in 0..3 {
        lab.give(Input::SinkFailed { sink: Sink::Statsd, why: "connection refused" });
    }
    assert_eq!(lab.printed.matches("metrics do not reach statsd: connection refused").count(), 1);
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
