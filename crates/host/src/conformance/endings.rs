//! How agents begin and end: by signals, by requests, and in the middle of work.

use super::connections::BlackHole;
use super::lab::{
    Extras, Held, OK, Running, deaf, handshake, patient, ping, read, see_the_end, stream_ack, stream_ping,
    udp, write_until_full,
};
use super::streams::{STATS, state_of};
use super::{Check, Run};
use crate::boot::Kept;
use crate::snapshot::Snapshot;
use nix::sys::signal::{self, Signal as Number};
use nix::unistd::Pid;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, process, thread};
use villein_agent::handler::Handler;
use villein_agent::io::Signal;
use villein_rpc::request::Join;

pub(super) const CHECKS: &[Check] = &[
    ("a signal ends the agent, and its last words are read", a_signal_ends_the_agent),
    ("a graceful leave ends with 0", a_graceful_leave),
    ("the answer to a leave is delivered before the end", a_leave_over_rpc),
    ("what is to be kept is on the disk at the end", what_is_kept),
    ("an agent ends in the middle of work, and leaves nothing behind", work_in_flight),
];

/// Those after which the process no longer ends by signals: the last ones.
pub(super) const LAST_CHECKS: &[Check] = &[("signals of the system arrive", real_signals)];

fn a_signal_ends_the_agent(run: Run) {
    let agent = Running::ready(run, "alpha");
    agent.signal(Signal::Terminate);
    let (status, text) = agent.end();
    assert_eq!(status, 1);
    assert!(text.contains("==> Caught signal: terminated\n"), "{text}");
    assert!(text.trim_end().ends_with("agent: shutdown complete"), "{text}");
}

fn a_graceful_leave(run: Run) {
    let agent = Running::ready(run, "alpha");
    agent.signal(Signal::Interrupt);
    assert_eq!(agent.end().0, 0);
}

fn a_leave_over_rpc(run: Run) {
    let agent = Running::ready(run, "alpha");
    let mut client = agent.greeted();
    client.write_all(b"\x82\xa7Command\xa5leave\xa3Seq\x09").expect("the agent listens");
    assert_eq!(read(&mut client, OK.len() + 1), [OK, b"\x09"].concat());
    assert_eq!(agent.end().0, 0);
}

fn what_is_kept(run: Run) {
    let path = temporary("snapshot");
    let (snapshot, _) = Snapshot::open(&path).expect("the directory can be written");
    let extras = Extras { kept: Kept { snapshot: Some(snapshot), ..Kept::default() }, ..Extras::default() };
    let agent = Running::start_with(run, "alpha", extras, |config| config.node.snapshot = true);
    agent.screen.wait_for("EventMemberJoin: alpha");
    let line = format!("alive: alpha {}\n", agent.gossip);
    agent.stop();
    let text = fs::read_to_string(&path).expect("it is text");
    let removed = fs::remove_file(&path);
    assert!(text.contains(&line), "{text}");
    removed.expect("it was there");
}

/// A file of this process alone.
pub(super) fn temporary(what: &str) -> PathBuf {
    env::temp_dir().join(format!("villein-conformance-{}.{what}", process::id()))
}

fn work_in_flight(run: Run) {
    // What a loop of this runtime leaves to the end of the process, which has only one.
    let before = Held::now();
    Running::ready(run, "idle").stop();
    let left = before.threads_come_back().descriptors - before.descriptors;
    for (signal, status) in [(Signal::Terminate, 1), (Signal::Interrupt, 0)] {
        let held = Held::now();
        end_in_the_middle(run, signal, status);
        Held { descriptors: held.descriptors + left, ..held }.comes_back();
    }
}

/// Ends an agent while a child runs, connections are made, read, written and closed, names are looked up, and
/// datagrams come.
fn end_in_the_middle(run: Run, signal: Signal, status: u8) {
    let busy = temporary("busy");
    fs::write(&busy, "").expect("the directory can be written");
    let script = format!("member-join=while [ -e {} ]; do sleep 0.02; done", busy.display());
    let agent = Running::ready_with(run, "alpha", |config| {
        patient(config);
        config.handlers = vec![Handler::parse(script.as_bytes()).expect("a handler")];
    });
    let state = state_of(&agent);
    let half: Vec<_> = (0..20)
        .map(|number| {
            let mut peer = agent.peer();
            peer.write_all(&state[..number * state.len() / 20]).expect("the agent listens");
            peer
        })
        .collect();
    // The agent has closed this connection, and waits for its peer to do so.
    let mut answered = agent.peer();
    answered.write_all(&stream_ping(5)).expect("the agent listens");
    assert_eq!(read(&mut answered, stream_ack(5).len()), stream_ack(5));
    see_the_end(&mut answered);
    let mut mute = deaf(agent.rpc);
    mute.write_all(&handshake()).expect("the agent listens");
    write_until_full(&mut mute, &STATS.repeat(100));

    let hole = BlackHole::new();
    // One connects to nobody, the other is still looking for names.
    let name = format!("localhost:{}", hole.addr.port());
    let joins = [vec![hole.addr.to_string(); 3], vec![name; 1000]].map(|texts| {
        let mut client = agent.rpc_client();
        let existing = texts.iter().map(|text| text.as_str().into()).collect();
        thread::spawn(move || client.join(Join { existing, replay: false }))
    });
    agent.screen.wait_for_times("joining: ", 2);
    let flooding = AtomicBool::new(true);
    let (ended, text) = thread::scope(|scope| {
        let (to, flooding) = (agent.gossip, &flooding);
        scope.spawn(move || {
            let source = udp();
            while flooding.load(Ordering::Relaxed) {
                // Nobody is there any more at the end.
                let _ = source.send_to(&ping(1), to);
            }
        });
        agent.signal(signal);
        let end = agent.end();
        flooding.store(false, Ordering::Relaxed);
        end
    });
    assert_eq!(ended, status, "{text}");
    for join in joins {
        join.join().expect("it only asks").expect_err("nobody is there");
    }
    drop((half, answered, mute, hole));
    // The child outlives the agent, and ends when it is told so.
    fs::remove_file(&busy).expect("it was there");
}

fn real_signals(run: Run) {
    let extras = || Extras { signals: true, ..Extras::default() };
    let agent = Running::start_with(run, "alpha", extras(), |_| {});
    agent.screen.wait_for("==> Log data will now stream in");
    // Linux gives a signal to the thread whose number is named if it can: so each interrupts the loop in its wait.
    let interrupt = |agent: &Running, number| {
        signal::kill(Pid::from_raw(agent.tid.as_raw()), number).expect("this process may signal itself");
    };
    for times in 1..=5 {
        interrupt(&agent, Number::SIGUSR2);
        interrupt(&agent, Number::SIGCHLD);
        interrupt(&agent, Number::SIGHUP);
        agent.screen.wait_for_times("Caught signal: hangup", times);
        agent.goes_on();
    }
    interrupt(&agent, Number::SIGTERM);
    let (status, text) = agent.end();
    assert_eq!(status, 1);
    assert!(text.contains("==> Caught signal: terminated\n"), "{text}");

    let agent = Running::start_with(run, "alpha", extras(), |_| {});
    agent.screen.wait_for("==> Log data will now stream in");
    interrupt(&agent, Number::SIGINT);
    assert_eq!(agent.end().0, 0);
}
