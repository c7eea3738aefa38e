//! An encrypted cluster of ours, on either event loop, and two real `serf` agents: who gets in, and keys that change while it runs.

use crate::support::{
    Agent, Folder, Kind, Printed, Program, Runtime, client, count, members, serf_is_here, sorted, wait_until,
};

const NAMES: [&str; 4] = ["v1", "s1", "g1", "s2"];

const KEYS: [&str; 4] = [
    "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=",
    "c2l4dGVlbiBieXRlcyE1Ng==",
    "dHdlbnR5LWZvdXIgYnl0ZXMgb2Yga2V5",
    "QW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=",
];

fn program(index: usize) -> Program {
    Program::BOTH[index % 2]
}

fn kind(index: usize) -> Kind {
    match index {
        0 => Runtime::Smol.into(),
        2 => Runtime::Glommio.or_smol().into(),
        _ => Kind::Serf,
    }
}

fn ip(index: usize) -> String {
    format!("127.61.0.{}", index + 1)
}

fn ring_file(folder: &Folder, name: &str) -> String {
    folder.path(&format!("{name}.ring")).display().to_string()
}

/// The last one has its key from a flag, so that its changes are kept in memory only.
fn start(index: usize, kind: Kind, folder: &Folder) -> Agent {
    let name = NAMES[index];
    let handler = format!("-event-handler=user=cat >> {}", folder.path(name).display());
    let key = match index {
        2 => format!("-encrypt={}", KEYS[0]),
        _ => format!("-keyring-file={}", ring_file(folder, name)),
    };
    Agent::on_loopback(kind, &ip(index), name, &[&handler, &key])
}

fn ring(keys: &[&str]) -> String {
    let rows: Vec<String> = keys.iter().map(|key| format!("  \"{key}\"")).collect();
    format!("[\n{}\n]", rows.join(",\n"))
}

fn wait_for_all(agents: &[Agent]) {
    for (index, agent) in agents.iter().enumerate() {
        let alive = || count(&client(program(index), agent, &["members"]).stdout, " alive");
        let shown = || client(program(index), agent, &["members"]).stdout;
        wait_until(&format!("{} sees all alive", NAMES[index]), || alive() == agents.len(), shown);
    }
}

/// The keys as both command lines list them, from any agent. A list asks by a query, of which one can miss somebody.
fn wait_for_keys(agents: &[Agent], keys: &[&str]) {
    let mut wanted = vec![
        "==> Asking all members for installed keys...".to_owned(),
        "==> Keys gathered, listing cluster keys...".to_owned(),
        String::new(),
    ];
    wanted.extend(keys.iter().map(|key| format!("{key}  [4/4]")));
    wanted.sort();
    let widest = keys.iter().map(|key| key.len()).max().unwrap_or(0);
    for (index, agent) in agents.iter().enumerate() {
        for program in Program::BOTH {
            let listed = || {
                let mut lines = sorted(&client(program, agent, &["keys", "-list"]).stdout);
                for line in &mut lines {
                    // Shorter keys are padded to the width of the column.
                    let padding = " ".repeat(widest.saturating_sub(line.find(' ').unwrap_or(widest)));
                    *line = line.replacen(&format!("{padding}  ["), "  [", 1);
                }
                lines
            };
            let what = format!("{program:?} lists the keys at {}", NAMES[index]);
            wait_until(&what, || listed() == wanted, || format!("{:?}", listed()));
        }
    }
}

/// Changes the keys of all; asked again if the query missed somebody.
fn change(program: Program, agent: &Agent, flag: &str, key: &str, done: &str) {
    let last = || client(program, agent, &["keys", &format!("{flag}={key}")]);
    let mut printed = Printed { stdout: String::new(), stderr: String::new(), status: None };
    wait_until(
        &format!("{program:?} keys {flag}"),
        || {
            printed = last();
            printed.status == Some(0) && printed.stdout.ends_with(done)
        },
        String::new,
    );
}

fn rotate(program: Program, agents: &[Agent], at: usize, (old, new): (&str, &str)) {
    change(program, &agents[at], "-install", new, "==> Successfully installed key!\n");
    wait_for_keys(agents, &[old, new]);
    change(program, &agents[at], "-use", new, "==> Successfully changed primary key!\n");
    change(program, &agents[at], "-remove", old, "==> Successfully removed key!\n");
    wait_for_keys(agents, &[new]);
}

fn event_reaches_all(agents: &[Agent], folder: &Folder, from: usize, payload: &str) {
    let printed = client(program(from), &agents[from], &["event", "-coalesce=false", "deploy", payload]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    for name in NAMES {
        wait_until(
            &format!("{name} gets {payload}"),
            || count(&folder.read(name), payload) == 1,
            || folder.read(name),
        );
    }
}

#[test]
fn keys_of_a_mixed_cluster_change_from_either_side() {
    if !serf_is_here() {
        return;
    }
    // Where there is no glommio, all of ours run on smol.
    Runtime::Glommio.is_here();
    let folder = Folder::new("encrypted");
    for name in ["v1", "s1", "s2"] {
        std::fs::write(ring_file(&folder, name), ring(&KEYS[..1])).expect("the keyring can be written");
    }
    let mut agents: Vec<Agent> = (0..4).map(|index| start(index, kind(index), &folder)).collect();
    for (who, whom) in [(1, 0), (2, 1), (3, 2)] {
        let printed = client(program(who + 1), &agents[who], &["join", &ip(whom)]);
        assert_eq!(printed.stdout, "Successfully joined cluster by contacting 1 nodes.\n");
    }
    wait_for_all(&agents);
    strangers_stay_outside(&agents);
    rotate(Program::Villein, &agents, 0, (KEYS[0], KEYS[1]));
    event_reaches_all(&agents, &folder, 1, "after the first change");
    rotate(Program::Serf, &agents, 1, (KEYS[1], KEYS[2]));
    event_reaches_all(&agents, &folder, 0, "after the second change");
    rotate(Program::Serf, &agents, 2, (KEYS[2], KEYS[3]));
    for name in ["v1", "s1", "s2"] {
        assert_eq!(folder.read(&format!("{name}.ring")), ring(&[KEYS[3]]), "the file of {name}");
    }
    failures_are_told_alike(&agents);
    a_restart_reads_the_changed_keys(&mut agents, &folder);
}

fn strangers_stay_outside(agents: &[Agent]) {
    let refused = |index: usize| {
        let info = client(Program::Villein, &agents[index], &["info"]).stdout;
        let line = info.lines().find(|line| line.starts_with("\tpackets = ")).unwrap_or_default().to_owned();
        line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("packets are counted")
    };
    let before = refused(0);
    for (index, like) in NAMES.iter().enumerate().take(3) {
        for (key, name) in [(None, "plain"), (Some("a2V5IG9mIHN0cmFuZ2Vycw=="), "keyed")] {
            let flag = key.map(|key| format!("-encrypt={key}"));
            let arguments: Vec<&str> = flag.iter().map(String::as_str).collect();
            let stranger = Agent::on_loopback(kind(index), &format!("127.61.0.1{index}"), name, &arguments);
            for (whom, member) in NAMES.iter().enumerate().take(2) {
                let printed = client(Program::Villein, &stranger, &["join", &ip(whom)]);
                assert_eq!(printed.status, Some(1), "{name} like {like} at {member}: {printed:?}");
            }
        }
    }
    // A datagram that nobody of the cluster sent.
    let socket = std::net::UdpSocket::bind("127.61.0.13:0").expect("a socket");
    socket.send_to(b"\x00\x82\xa4Node\xa2v1\xa5SeqNo\x01", format!("{}:7946", ip(0))).expect("it is sent");
    wait_until("a packet in plain text is counted", || refused(0) > before, || format!("{before}"));
    for (index, agent) in agents.iter().enumerate() {
        assert_eq!(members(&client(program(index), agent, &["members"]).stdout).len(), 4);
    }
}

fn failures_are_told_alike(agents: &[Agent]) {
    let unknown = "bm9ib2R5IGhhcyB0aGlzIQ==";
    let cases = [
        vec!["keys", "-use", unknown],
        vec!["keys", "-remove", KEYS[3]],
        vec!["keys", "-install", "c2hvcnQ="],
        vec!["keys", "-install", "not base64"],
        vec!["keys", "-remove", "not base64"],
    ];
    for words in cases {
        let told = |program, agent: usize| {
            let printed = client(program, &agents[agent], &words);
            assert_eq!(printed.status, Some(1), "{words:?}: {printed:?}");
            sorted(&printed.stdout)
        };
        let wanted = told(Program::Serf, 1);
        assert!(wanted.len() > 1, "{wanted:?}");
        for (program, agent) in [(Program::Villein, 0), (Program::Serf, 0), (Program::Villein, 1)] {
            let what = format!("{program:?} {words:?} at {}", NAMES[agent]);
            wait_until(
                &what,
                || told(program, agent) == wanted,
                || format!("{:?}, not {wanted:?}", told(program, agent)),
            );
        }
    }
}

fn a_restart_reads_the_changed_keys(agents: &mut [Agent], folder: &Folder) {
    // The file of the first one is read on the other event loop.
    for (index, kind) in [(0, kind(2)), (1, kind(1))] {
        agents[index].signal("KILL");
        agents[index].wait();
        agents[index] = start(index, kind, folder);
        let printed = client(Program::Villein, &agents[index], &["join", &ip(3)]);
        assert_eq!(printed.status, Some(0), "{printed:?}");
    }
    wait_for_all(agents);
    event_reaches_all(agents, folder, 0, "after the restart");
}
