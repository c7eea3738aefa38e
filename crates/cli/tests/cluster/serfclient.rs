//! A client library of others, `serfclient` for Python, gets the same answers from our agent and from the
//! real `serf`.

use crate::support::{Agent, Folder, Kind, Printed, Program, Runtime, available, run, serf_is_here};
use std::process::Command;

/// A Python that has the library: `python3`, or what the environment names.
fn python() -> Option<String> {
    let named = std::env::var("VILLEIN_SERFCLIENT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&named).args(["-c", "import serfclient"]).output();
    let present = import.is_ok_and(|output| output.status.success());
    available("Python with PyPI's `serfclient` (VILLEIN_SERFCLIENT_PYTHON names one)", present)
        .then_some(named)
}

fn drive(python: &str, phase: &str, ip: &str, peer: &str) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/drive_serfclient.py");
    let Printed { stdout, stderr, status } = run(Command::new(python).args([script, phase, ip, peer]));
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    stdout.lines().map(str::to_owned).collect()
}

/// What the library returns in the life of an agent: alone, with a peer, after the peer's death, leaving.
fn story(python: &str, kind: Kind, network: &str) -> Vec<String> {
    let (ip, peer_ip) = (format!("{network}.1"), format!("{network}.2"));
    let words = [
        "-tag=role=web",
        "-tag=dc=east",
        "-event-handler=query:never=exit 1",
        "-event-handler=user:never=exit 2",
    ];
    let mut agent = Agent::on_loopback(kind, &ip, "alpha", &words);
    // Its own join is handled late, and is not to be seen by who subscribes later still.
    agent.wait_for("agent: Received event: member-join");
    let peer = Agent::on_loopback(Program::Serf, &peer_ip, "beta", &["-tag=role=web"]);
    let mut lines = drive(python, "before", &ip, &peer_ip);
    drop(peer);
    lines.extend(drive(python, "after", &ip, &peer_ip));
    assert_eq!(agent.wait().code(), Some(0), "the agent ends well");
    lines
}

#[test]
fn serfclient_gets_the_answers_of_the_real_agent() {
    let Some(python) = python() else { return };
    if !serf_is_here() {
        return;
    }
    // Where there is no glommio, that agent runs on smol.
    Runtime::Glommio.is_here();
    are_equal(|kind, network| story(&python, kind, network));
    are_equal(|kind, network| secured(&python, kind, &format!("{network}.3")));
}

/// A story is the same with an agent of any kind; they happen at the same time.
fn are_equal(story: impl Fn(Kind, &str) -> Vec<String> + Sync) {
    let story = &story;
    let [theirs, smol, glommio] = std::thread::scope(|scope| {
        let stories = [
            (Kind::Serf, "127.62.1"),
            (Kind::Ours(Runtime::Smol), "127.62.2"),
            (Kind::Ours(Runtime::Glommio.or_smol()), "127.62.3"),
        ];
        let stories = stories.map(|(kind, network)| scope.spawn(move || story(kind, network)));
        stories.map(|story| story.join().expect("the story ends"))
    });
    for ours in [smol, glommio] {
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

/// What the library returns from an agent that wants a token and has a key.
fn secured(python: &str, kind: Kind, ip: &str) -> Vec<String> {
    let folder = Folder::new("secured");
    let path = folder.path("agent.json");
    let key = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
    std::fs::write(&path, format!(r#"{{"rpc_auth": "sekret", "encrypt_key": "{key}"}}"#))
        .expect("the file can be written");
    let file = format!("-config-file={}", path.display());
    let mut agent = Agent::on_loopback(kind, ip, "alpha", &[&file]);
    let lines = drive(python, "secured", ip, "");
    assert_eq!(agent.wait().code(), Some(0), "the agent ends well");
    lines
}
