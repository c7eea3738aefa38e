//! Snapshot files that change hands between the programs: who restarts with one, as whatever program
//! and on whichever event loop, finds the cluster again.

use crate::support::{Agent, Folder, Kind, Program, Runtime, client, count, serf_is_here, wait_until};

/// A small cluster whose second member is killed, or leaves, and comes back as another kind.
struct Pair {
    folder: Folder,
    net: u8,
    first: Agent,
}

impl Pair {
    fn new(name: &str, net: u8) -> Pair {
        let first = Agent::on_loopback(Program::Serf, &format!("127.63.{net}.1"), "first", &[]);
        Pair { folder: Folder::new(name), net, first }
    }

    fn second(&self, kind: Kind, more: &[&str]) -> Agent {
        let snapshot = format!("-snapshot={}", self.folder.path("snapshot").display());
        let handler = format!("-event-handler=user=(cat; echo) >> {}", self.folder.path("events").display());
        let arguments: Vec<&str> = [&[snapshot.as_str(), handler.as_str()], more].concat();
        Agent::on_loopback(kind, &format!("127.63.{}.2", self.net), "second", &arguments)
    }

    fn wait_for(&self, status: &str) {
        let seen = || client(Program::Villein, &self.first, &["members", "-name=second"]).stdout;
        wait_until(&format!("the second member is {status}"), || seen().contains(status), seen);
    }

    fn fire(&self, payload: &str) {
        let printed = client(Program::Villein, &self.first, &["event", "-coalesce=false", "x", payload]);
        assert_eq!(printed.status, Some(0), "{printed:?}");
        let events = || self.folder.read("events");
        wait_until(&format!("{payload} arrives"), || events().contains(payload), events);
    }

    fn wait_for_line(&self, line: &str) {
        let snapshot = || self.folder.read("snapshot");
        wait_until(&format!("the snapshot says {line:?}"), || snapshot().contains(line), snapshot);
    }
}

/// Whoever was killed comes back without being told where to, and hears nothing twice.
fn a_crash_is_survived(before: Kind, after: Kind, net: u8) {
    let pair = Pair::new(&format!("crash-{net}"), net);
    let mut second = pair.second(before, &[&format!("-join=127.63.{net}.1")]);
    pair.fire("old news");
    // Serf writes what it has gathered only when there is more to write.
    let is_written = || {
        client(Program::Villein, &pair.first, &["event", "-coalesce=false", "more", "filler"]);
        let snapshot = pair.folder.read("snapshot");
        snapshot.contains("alive: first") && snapshot.contains("event-clock: ")
    };
    wait_until("the snapshot knows the other member and of events", is_written, || {
        pair.folder.read("snapshot")
    });
    second.signal("KILL");
    second.wait();
    pair.wait_for("failed");
    let second = pair.second(after, &[]);
    second.wait_for("serf: Re-joined to previously known node: first: ");
    pair.wait_for("alive");
    pair.fire("new news");
    assert_eq!(count(&pair.folder.read("events"), "old news"), 1);
}

/// Whoever has left stays away, unless told otherwise.
fn a_leave_is_remembered(before: Kind, after: Kind, net: u8) {
    let pair = Pair::new(&format!("leave-{net}"), net);
    let mut second = pair.second(before, &[&format!("-join=127.63.{net}.1")]);
    pair.wait_for("alive");
    let printed = client(before.into(), &second, &["leave"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    second.wait();
    pair.wait_for("left");
    pair.wait_for_line("leave\n");
    let kept = std::fs::read(pair.folder.path("snapshot")).expect("there is a snapshot");
    let mut alone = pair.second(after, &[]);
    alone.wait_for("serf: EventMemberJoin: second");
    let list = client(Program::Villein, &alone, &["members"]).stdout;
    assert_eq!(list.lines().count(), 1, "{list}");
    alone.signal("KILL");
    alone.wait();
    std::fs::write(pair.folder.path("snapshot"), kept).expect("the snapshot can be written");
    let again = pair.second(after, &["-rejoin"]);
    again.wait_for("serf: Ignoring previous leave in snapshot");
    again.wait_for("serf: Re-joined to previously known node: first: ");
    pair.wait_for("alive");
}

#[test]
fn snapshots_are_understood_both_ways() {
    if !serf_is_here() {
        return;
    }
    // Where there is no glommio, those of ours run on smol.
    Runtime::Glommio.is_here();
    let (smol, glommio) = (Kind::Ours(Runtime::Smol), Kind::Ours(Runtime::Glommio.or_smol()));
    std::thread::scope(|scope| {
        for (net, (before, after)) in [
            (smol, Kind::Serf),
            (Kind::Serf, smol),
            (smol, glommio),
            (glommio, Kind::Serf),
            (Kind::Serf, glommio),
            (glommio, smol),
        ]
        .into_iter()
        .enumerate()
        {
            let net = net as u8 * 2;
            scope.spawn(move || a_crash_is_survived(before, after, net));
            scope.spawn(move || a_leave_is_remembered(before, after, net + 1));
        }
    });
}
