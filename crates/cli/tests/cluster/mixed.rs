//! Two of ours on each event loop and two real `serf` agents in one cluster.

use crate::support::{
    Agent, Folder, Kind, Printed, Program, Runtime, client, count, members, serf_is_here, sorted, wait_until,
};

/// In the order of [`Kind::ALL`].
const NAMES: [&str; 6] = ["v1", "s1", "g1", "v2", "s2", "g2"];

/// Whose command line speaks to an agent.
fn program(index: usize) -> Program {
    Program::BOTH[index % 2]
}

fn kind(index: usize) -> Kind {
    match Kind::ALL[index % 3] {
        Kind::Ours(runtime) => Kind::Ours(runtime.or_smol()),
        Kind::Serf => Kind::Serf,
    }
}

fn ip(index: usize) -> String {
    format!("127.60.0.{}", index + 1)
}

fn start(index: usize, folder: &Folder) -> Agent {
    let name = NAMES[index];
    let log = |file: &str| folder.path(&format!("{name}.{file}")).display().to_string();
    let user = format!(
        "-event-handler=user=(printf '%s %s=' \"$SERF_EVENT\" \"$SERF_USER_EVENT\"; cat) >> {}",
        log("user")
    );
    let member = format!(
        "-event-handler=member-join,member-failed,member-leave=(echo \"$SERF_EVENT\"; cut -f1) >> {}",
        log("member")
    );
    let arguments = [
        &format!("-tag=kind={}", &name[..1]),
        &format!("-tag=number={index}"),
        &user,
        &member,
        "-event-handler=query:whoami=printf %s \"$SERF_SELF_NAME:$(cat)\"",
    ];
    Agent::on_loopback(kind(index), &ip(index), name, &arguments)
}

/// Waits until every agent in `who` shows exactly these statuses.
fn wait_for_statuses(agents: &[Option<Agent>], expected: &[(usize, &str)]) {
    let mut rows: Vec<String> = expected
        .iter()
        .map(|(index, status)| format!("{} {}:7946 {status}", NAMES[*index], ip(*index)))
        .collect();
    rows.sort();
    for (index, agent) in agents.iter().enumerate() {
        let Some(agent) = agent else { continue };
        let seen = || members(&client(program(index), agent, &["members"]).stdout);
        wait_until(&format!("{} sees {rows:?}", NAMES[index]), || seen() == rows, || format!("{:?}", seen()));
    }
}

fn cluster(folder: &Folder) -> Vec<Option<Agent>> {
    let agents: Vec<Option<Agent>> = (0..6).map(|index| Some(start(index, folder))).collect();
    let get = |index: usize| agents[index].as_ref().expect("all were just started");
    // Each kind joins each other, asked by either command line.
    for (who, whom) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 0), (0, 4)] {
        let printed = client(program(who), get(who), &["join", &ip(whom)]);
        assert_eq!(printed.stdout, "Successfully joined cluster by contacting 1 nodes.\n");
        assert_eq!(printed.status, Some(0));
    }
    wait_for_statuses(&agents, &[0, 1, 2, 3, 4, 5].map(|index| (index, "alive")));
    agents
}

#[test]
fn serf_and_villein_live_in_one_cluster() {
    if !serf_is_here() {
        return;
    }
    // Where there is no glommio, all of ours run on smol.
    Runtime::Glommio.is_here();
    let folder = Folder::new("mixed");
    let mut agents = cluster(&folder);
    events_go_both_ways(&agents, &folder);
    queries_go_both_ways(&agents);
    both_command_lines_print_the_same(&agents);
    names_are_unique(&agents);
    failures_are_seen(&mut agents, &folder);
    leaves_are_seen(&mut agents, &folder);
}

fn get(agents: &[Option<Agent>], index: usize) -> &Agent {
    agents[index].as_ref().expect("this agent runs")
}

fn events_go_both_ways(agents: &[Option<Agent>], folder: &Folder) {
    let long = "x".repeat(400);
    let payloads = ["1234567890", "from serf", &long, "", "=,\t", "from glommio"];
    let mut expected = Vec::new();
    for (index, payload) in payloads.into_iter().enumerate() {
        let name = format!("event{index}");
        let printed =
            client(program(index), get(agents, index), &["event", "-coalesce=false", &name, payload]);
        assert_eq!(printed.stdout, format!("Event '{name}' dispatched! Coalescing enabled: false\n"));
        expected.push(format!("user {name}={payload}{}", if payload.is_empty() { "" } else { "\n" }));
    }
    for name in NAMES {
        let file = format!("{name}.user");
        for event in &expected {
            wait_until(
                &format!("{name} gets {event:?}"),
                || folder.read(&file).contains(event),
                || folder.read(&file),
            );
        }
        for event in &expected {
            assert_eq!(count(&folder.read(&file), event.trim_end()), 1, "{name} gets {event:?} once");
        }
    }
}

fn query(agents: &[Option<Agent>], index: usize, words: &[&str]) -> Vec<String> {
    let words: Vec<&str> = [&["query"], words].concat();
    let printed = client(program(index), get(agents, index), &words);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    sorted(&printed.stdout)
}

fn queries_go_both_ways(agents: &[Option<Agent>]) {
    let expected = |names: &[&str], acks: bool| {
        let mut lines =
            vec!["Query 'whoami' dispatched".to_owned(), format!("Total Responses: {}", names.len())];
        lines.extend(names.iter().map(|name| format!("Response from '{name}': {name}:hello")));
        if acks {
            lines.push(format!("Total Acks: {}", names.len()));
            lines.extend(names.iter().map(|name| format!("Ack from '{name}'")));
        }
        lines.sort();
        lines
    };
    let ask = |asker: usize| {
        let check = |flags: &[&str], names: &[&str]| {
            let wanted = expected(names, !flags.contains(&"-no-ack"));
            ask_until(agents, asker, &[flags, &["whoami", "hello"]].concat(), &wanted);
        };
        check(&[], &NAMES);
        check(&["-relay-factor=2"], &NAMES);
        check(&["-no-ack"], &NAMES);
        check(&["-tag=kind=^v$"], &["v1", "v2"]);
        check(&["-tag=kind=s"], &["s1", "s2"]);
        check(&["-tag=number=[345]", "-tag=kind=s|g"], &["s2", "g2"]);
        check(&["-node=g2", "-node=s2"], &["g2", "s2"]);
        check(&["-node=nobody"], &[]);
    };
    std::thread::scope(|scope| {
        for asker in [0, 1, 2] {
            scope.spawn(move || ask(asker));
        }
    });
}

/// Asks until everybody has answered. Gossip may miss a node within the time of one query (each node sends
/// a query four times, to nodes drawn at random); what comes must be right and come once even so.
fn ask_until(agents: &[Option<Agent>], asker: usize, words: &[&str], wanted: &[String]) {
    for _ in 0..4 {
        let lines = query(agents, asker, words);
        if lines == wanted {
            return;
        }
        eprintln!("{} asked {words:?} and missed somebody: {lines:?}", NAMES[asker]);
        let surplus = |line: &&String| {
            !line.starts_with("Total") && count(&lines.join("\n"), line) > count(&wanted.join("\n"), line)
        };
        assert_eq!(lines.iter().find(surplus), None, "an answer too many to {words:?}");
    }
    panic!("{} asked {words:?} four times, and each time gossip missed somebody", NAMES[asker]);
}

/// What a command prints, without the order of lines and of tags, which is random with the real program.
fn unordered(program: Program, agent: &Agent, words: &[&str]) -> (Vec<String>, Vec<String>, Option<i32>) {
    let Printed { stdout, stderr, status } = client(program, agent, words);
    let mut rows: Vec<String> = stdout
        .lines()
        .map(|line| {
            let mut parts: Vec<&str> = line.trim_end_matches([' ', ',']).split([',', ' ']).collect();
            parts.sort_unstable();
            parts.join(" ")
        })
        .collect();
    rows.sort();
    (rows, sorted(&stderr), status)
}

fn both_command_lines_print_the_same(agents: &[Option<Agent>]) {
    std::thread::scope(|scope| {
        for index in [0, 1, 2] {
            scope.spawn(move || command_lines_print_the_same(get(agents, index), NAMES[index]));
        }
    });
}

fn command_lines_print_the_same(agent: &Agent, name: &str) {
    for words in [
        &["members", "-status=alive", "-name=v.*"][..],
        &["members", "-detailed", "-name=s1", "-tag=number=1"],
        &["members", "-name=g2", "-format=json"],
        &["members", "-status=left"],
        &["members", "-format=xml"],
        &["event", "same", "payload"],
        &["event"],
        &["query", "-timeout=1s", "nobody-answers"],
        &["query", "-timeout=1s", "-format=json", "-node=v1", "whoami", "x"],
        &["query", "-format=xml", "whoami"],
        &["reachability"],
        &["force-leave", "no-such-node"],
        &["join", "127.60.0.99"],
        &["query", "_serf_list-keys"],
        &["event", "long", &"x".repeat(600)],
    ] {
        let both = Program::BOTH.map(|program| unordered(program, agent, words));
        // What is asked of everybody may miss somebody, in either run.
        let again = || Program::BOTH.map(|program| unordered(program, agent, words));
        let asks = matches!(words[0], "query" | "reachability");
        let both = if asks && both[0] != both[1] { again() } else { both };
        let both = if asks && both[0] != both[1] { again() } else { both };
        let help = |printed: &(Vec<String>, Vec<String>, Option<i32>)| {
            printed.0.iter().any(|line| line.contains("Options:")).then_some(printed.2)
        };
        if let [Some(ours), Some(theirs)] = [help(&both[0]), help(&both[1])] {
            // The wording of help is free.
            assert_eq!(ours, theirs, "{words:?} against {name}");
            continue;
        }
        let [mut ours, theirs] = both;
        if words[0] == "force-leave" {
            // The reference is silent about names that nobody has.
            assert!(ours.1[0].contains("no-such-node"), "{ours:?}");
            ours.1.clear();
        }
        assert_eq!(ours, theirs, "{words:?} against {name}");
    }
}

fn names_are_unique(agents: &[Option<Agent>]) {
    // A newcomer of any kind that takes a name of another kind gives way.
    for (newcomer, name, last) in [(1, "v1", 50), (0, "g1", 51), (2, "s1", 52)] {
        let join = format!("-join={}", ip(2));
        let mut newcomer = Agent::on_loopback(kind(newcomer), &format!("127.60.0.{last}"), name, &[&join]);
        newcomer.wait();
        assert!(newcomer.output().contains("minority in name conflict resolution"), "{}", newcomer.output());
    }
    wait_for_statuses(agents, &[0, 1, 2, 3, 4, 5].map(|index| (index, "alive")));
}

fn failures_are_seen(agents: &mut [Option<Agent>], folder: &Folder) {
    for index in [3, 4, 5] {
        get(agents, index).signal("KILL");
        agents[index] = None;
    }
    wait_for_statuses(
        agents,
        &[(0, "alive"), (1, "alive"), (2, "alive"), (3, "failed"), (4, "failed"), (5, "failed")],
    );
    for index in [3, 4, 5] {
        agents[index] = Some(start(index, folder));
    }
    let join = |index: usize, to: usize| {
        let printed = client(Program::Villein, get(agents, index), &["join", &ip(to)]);
        assert_eq!(printed.status, Some(0), "{printed:?}");
    };
    join(3, 0);
    join(4, 2);
    join(5, 1);
    wait_for_statuses(agents, &[0, 1, 2, 3, 4, 5].map(|index| (index, "alive")));
}

fn leaves_are_seen(agents: &mut [Option<Agent>], folder: &Folder) {
    // One of each kind leaves, asked by the other's command line.
    for (index, by) in [(3, Program::Serf), (4, Program::Villein), (5, Program::Serf)] {
        let printed = client(by, get(agents, index), &["leave"]);
        assert_eq!((printed.stdout.as_str(), printed.status), ("Graceful leave complete\n", Some(0)));
        let status = agents[index].take().expect("this agent runs").wait();
        assert_eq!(status.code(), Some(0));
    }
    wait_for_statuses(
        agents,
        &[(0, "alive"), (1, "alive"), (2, "alive"), (3, "left"), (4, "left"), (5, "left")],
    );
    for name in ["v1", "s1", "g1"] {
        let log = || folder.read(&format!("{name}.member"));
        wait_until(&format!("{name} is told of the leaves"), || count(&log(), "member-leave") > 0, log);
    }
}
