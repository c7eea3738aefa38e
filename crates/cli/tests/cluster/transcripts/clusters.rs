//! What clients print in the cluster of four agents that the transcripts cli/10 to cli/20 describe.

use super::{Host, Running};
use crate::support::{Runtime, wait_until};
use crate::transcript::{Case, Replay};

/// As agent/logs-of-cli-cluster shows them. The first is the one that clients find without being told.
const AGENTS: [&str; 4] = [
    r#"serf agent -node=alpha -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373 -tag role=web -tag dc=east '-event-handler=query:load=printf "0.15\n"' '-event-handler=query:multi=printf "a\nb\n\n"' -event-handler=query:empty=true '-event-handler=query:fail=echo no; exit 3'"#,
    "serf agent -node=beta -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -tag role=db -join=127.0.0.1 '-event-handler=query:load=printf 2.50' '-event-handler=query:multi=echo out; echo err >&2'",
    "serf agent -node=gamma -bind=127.0.0.3 -rpc-addr=127.0.0.3:7373 -join=127.0.0.1",
    "serf agent -node=delta -bind=127.0.0.4 -rpc-addr=127.0.0.4:7373 -join=127.0.0.1",
];

struct Cluster {
    host: Host,
    agents: Vec<Running>,
}

impl Cluster {
    /// All four, who know each other.
    fn new(runtime: Runtime, test: &str) -> Cluster {
        let host = Host::new(runtime, test);
        let agents: Vec<Running> = AGENTS.iter().map(|line| host.agent(line)).collect();
        for number in 1..=4 {
            let line = format!("serf members -status=alive -rpc-addr=127.0.0.{number}:7373");
            let count = || String::from_utf8_lossy(&host.run(&line).stdout).lines().count();
            wait_until("all four know each other", || count() == 4, || format!("{} members", count()));
        }
        Cluster { host, agents }
    }

    fn open(&self, name: &'static str) -> Replay {
        Replay::open(name, &self.host.shell())
    }

    /// Stops gamma where it is; until alpha takes it for failed, and delta, which was told to leave, for left.
    fn lose_two(&self) {
        self.agents[2].signal("STOP");
        self.host.wait_for("serf members -name=delta", "left");
        self.host.wait_for("serf members -name=gamma", "failed");
    }
}

pub(super) fn events_and_queries(runtime: Runtime) -> Vec<String> {
    let cluster = Cluster::new(runtime, "asks");
    let events = cluster.open("cli/10-event").finish();
    let mut queries = cluster.open("cli/11-query");
    while let Some(case) = queries.take() {
        if case.line.contains("-timeout=10s") {
            interrupted_query(&mut queries, &cluster, case);
        } else {
            queries.ask(&case);
        }
    }
    [events, queries.finish()].concat()
}

/// Interrupts a query when everybody has answered.
fn interrupted_query(replay: &mut Replay, cluster: &Cluster, case: Case) {
    const ASKED: &str = "Received event: query: load";
    let alpha = &cluster.agents[0];
    let before = alpha.stdout().matches(ASKED).count();
    let query = Running::start(&replay.shell, case);
    alpha.wait_for_times(ASKED, before + 1);
    if !query.case.expected.stdout.is_empty() {
        for answer in ["Response from 'beta'", "Ack from 'gamma'", "Ack from 'delta'", "Ack from 'beta'"] {
            query.wait_for(answer);
        }
    }
    query.interrupt();
    replay.settle(query);
}

/// What changes nothing.
pub(super) fn views(runtime: Runtime) -> Vec<String> {
    let cluster = Cluster::new(runtime, "views");
    for name in ["beta", "gamma", "delta"] {
        // The time to each is known when alpha has probed it.
        cluster.host.wait_for(&format!("serf rtt {name}"), "Estimated");
    }
    let mut members = cluster.open("cli/12-members");
    // The first command makes delta leave.
    members.play();
    cluster.lose_two();
    let mut problems = members.finish();
    problems.extend(cluster.open("cli/13-info").finish());
    problems.extend(cluster.open("cli/14-rtt").finish());
    let mut reachability = cluster.open("cli/15-reachability");
    while let Some(case) = reachability.take() {
        if String::from_utf8_lossy(&case.expected.stdout).contains("interrupted") {
            let test = Running::start(&reachability.shell, case);
            test.wait_for("Starting reachability test...");
            test.interrupt();
            reachability.settle(test);
        } else {
            reachability.ask(&case);
        }
    }
    problems.extend(reachability.finish());
    problems
}

pub(super) fn changes(runtime: Runtime) -> Vec<String> {
    let cluster = Cluster::new(runtime, "changes");
    cluster.host.run("serf leave -rpc-addr=127.0.0.4:7373");
    cluster.lose_two();
    let files = ["cli/16-force-leave", "cli/17-tags", "cli/18-join", "cli/20-leave"];
    files.into_iter().flat_map(|name| cluster.open(name).finish()).collect()
}
