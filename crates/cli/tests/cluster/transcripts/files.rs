//! What agents keep in files, and files that they read again.

use super::Host;
use crate::support::Runtime;
use crate::transcript::{Replay, Step};
use std::os::unix::net::UnixDatagram;

const N1: &str = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373";

/// An agent that runs goes on until the next one starts.
pub(super) fn files(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "files");
    let mut replay = Replay::open("agent/files", &host.shell());
    let mut agent = None;
    while let Some(line) = replay.line().map(str::to_owned) {
        if line == "serf tags -set a=b" {
            drop(agent.take());
            let unwritable = replay.start_early(&format!("{N1} -tags-file=nodir/tags.json"));
            unwritable.wait_for("Serf agent starting");
            replay.play();
            replay.play();
            replay.settle(unwritable);
        } else if let Some(words) = line.strip_prefix("serf agent") {
            drop(agent.take());
            let mut next = {
                // Empty files are not shown.
                let expected = replay.expected();
                let path = words.rsplit_once('=').map(|(_, path)| path).unwrap_or_default();
                if expected.contains("unexpected end of JSON input") {
                    host.write(path, "");
                } else if line.ends_with("-tags-file=tags.json")
                    && !expected.contains("tag")
                    && expected.contains("starting")
                {
                    let _ = std::fs::remove_file(host.folder().join("tags.json"));
                }
                replay.start()
            };
            if next.case.expected.exit == "running" {
                replay.check(&mut next);
                agent = Some(next);
            } else {
                replay.settle(next);
            }
        } else {
            replay.play();
        }
    }
    replay.finish()
}

pub(super) fn reload(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "reload");
    let mut replay = Replay::open("agent/reload", &host.shell());
    replay.put_file();
    let n1 = replay.start_early(&format!("{N1} -config-file=h.json -tag dc=east"));
    n1.wait_for("EventMemberJoin: n1");
    replay.play();
    host.run("serf tags -set rt=1");
    let mut reloads = 0;
    let mut reload = |replay: &mut Replay| {
        replay.put_file();
        reloads += 1;
        n1.signal("HUP");
        n1.wait_for_times("==> Reloading configuration...", reloads);
    };
    reload(&mut replay);
    host.wait_for("serf members", "role=db");
    replay.play();
    replay.play();
    n1.wait_for("Received event: member-update");
    for name in ["two", "one"] {
        host.run(&format!("serf event -coalesce=false {name}"));
    }
    reload(&mut replay);
    n1.wait_for("Invalid log level");
    n1.wait_for_times("Received event: member-update", 2);
    reload(&mut replay);
    n1.wait_for("Error decoding");
    reload(&mut replay);
    n1.wait_for("Invalid event script");
    reload(&mut replay);
    n1.wait_for("Failed to update tags");
    reload(&mut replay);
    host.run("serf event -coalesce=false two");
    reload(&mut replay);
    n1.signal("TERM");
    replay.settle(n1);
    replay.finish()
}

/// What users of the reference trip over.
pub(super) fn trip_ups(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "trip-ups");
    let mut replay = Replay::open("agent/trip-ups", &host.shell());
    let n1 = replay.start_early(&format!("{N1} -tags-file=tags.json"));
    n1.wait_for("Serf agent starting");
    replay.play();
    replay.check_file();
    n1.signal("HUP");
    n1.wait_for("==> Reloading configuration...");
    replay.play();
    replay.settle(n1);

    replay.put_file();
    let mut n1 = replay.start();
    replay.check(&mut n1);
    replay.play();
    drop(n1);
    for name in ["a|b", "  padded  "] {
        let _agent = host.agent(&format!("serf agent '-node={name}' -bind=127.0.0.1"));
        replay.play();
        replay.play();
    }

    // The snapshot names a live member, and the RPC port is taken.
    host.write("s2", "alive: n2 127.0.0.2:7946\n");
    let _n2 = host.agent("serf agent -node=n2 -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373");
    let _other = host.agent("serf agent -node=other -bind=127.0.0.3");
    replay.play();
    replay.play();
    // The last command was recorded with its port taken; agent/start-addresses has it without.
    replay.take();
    replay.finish()
}

/// A socket of ours stands where the system's log has its own.
pub(super) fn syslog(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "syslog");
    let path = host.folder().join("log");
    let socket = UnixDatagram::bind(&path).expect("the folder is ours");
    let path = path.display();
    let command = format!(
        "mount -t tmpfs none /run && ln -s {path} /run/log && {{ [ ! -e /dev/log ] || mount --bind {path} /dev/log; }}"
    );
    host.write("f.json", r#"{"syslog_facility": "daemon", "log_level": "debug"}"#);
    let mut replay = Replay::open("agent/syslog", &host.shell_after(&command));
    while replay.line().is_some() {
        let n1 = replay.start();
        n1.wait_for("Received event: member-join");
        host.run("serf event -coalesce=false x");
        host.run("serf join 127.0.0.9");
        n1.signal("TERM");
        replay.settle(n1);
        let Some(Step::Check { content, .. }) = replay.steps.pop_front() else {
            panic!("the packets follow")
        };
        let received = packets(&socket);
        // What the gossip layer says at the lowest level is its own.
        let is_told = |line: &String| !line.contains("> serf: memberlist: ");
        for line in String::from_utf8_lossy(&content).lines().map(untimed).filter(is_told) {
            assert!(received.contains(&line), "{line:?} is not in {received:#?}");
        }
    }
    replay.finish()
}

/// The lines that came.
fn packets(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).expect("sockets can do that");
    let mut bytes = [0; 2048];
    let mut lines = Vec::new();
    while let Ok(length) = socket.recv(&mut bytes) {
        lines.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(untimed));
    }
    lines
}

/// A packet's line without time, process and port.
fn untimed(line: &str) -> String {
    let line = line.split_once("Accepted client").map_or(line, |(before, _)| before);
    match (line.split_once('>'), line.split_once("serf[").and_then(|(_, rest)| rest.split_once(']'))) {
        (Some((priority, _)), Some((_, text))) => format!("{priority}> serf{text}"),
        _ => line.to_owned(),
    }
}
