//! What agents keep in files, and files that they read again.

use super::{Host, replay};
use crate::namespaces::can_make_hosts;
use crate::transcript::{Replay, Step};

const N1: &str = "serf agent -node=n1 -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373";

#[test]
fn files_of_agents() {
    if can_make_hosts() {
        replay(&[files, reload, trip_ups]);
    }
}

/// An agent that runs goes on until the next one starts.
fn files() -> Vec<String> {
    let host = Host::new("files");
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
                } else if line.ends_with("-tags-file=tags.json") && !expected.contains("tag") && expected.contains("starting") {
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

fn reload() -> Vec<String> {
    let host = Host::new("reload");
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
    for name in ["two", "one"] {
        host.run(&format!("serf event -coalesce=false {name}"));
    }
    reload(&mut replay);
    n1.wait_for("Invalid log level");
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

fn trip_ups() -> Vec<String> {
    Vec::new()
}
