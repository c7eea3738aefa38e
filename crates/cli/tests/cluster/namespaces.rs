//! The founding story in network namespaces: three hosts with names of their own on one bridge, and the
//! host of the bridge beside them. Two of the agents run on each event loop.

use crate::support::{
    Agent, Folder, Kind, PATIENCE, Printed, Program, Runtime, available, count, exists, members, run, sorted,
    wait_until,
};
use std::process::Command;

/// A host is a network namespace; its name is set in a name space of its own when an agent starts.
struct Hosts {
    prefix: String,
}

const GUESTS: [&str; 3] = ["node1", "node2", "node3"];

/// What the agent of a host runs on.
fn runtime(host: &str) -> Runtime {
    match host {
        "node1" | "node3" => Runtime::Smol,
        _ => Runtime::Glommio.or_smol(),
    }
}

pub(crate) fn ip(words: &[&str]) {
    let printed = run(Command::new("ip").args(words));
    assert_eq!(printed.status, Some(0), "ip {}: {}", words.join(" "), printed.stderr);
}

/// Network namespaces need root and `ip`; both are said when absent.
pub(crate) fn can_make_hosts() -> bool {
    let root = run(Command::new("id").arg("-u")).stdout.trim() == "0";
    available("root (for network namespaces)", root)
        && available("`ip` (Debian's package `iproute2`)", exists("ip"))
        && available("`unshare` (Debian's package `util-linux`)", exists("unshare"))
}

impl Hosts {
    /// `host` with the bridge br0 (10.60.0.1), and three guests whose eth0 (10.60.0.11 …) is on it.
    fn new(test: &str) -> Hosts {
        let hosts = Hosts { prefix: format!("villein-{}-{test}", std::process::id()) };
        let bridge = hosts.namespace("host");
        ip(&["netns", "add", &bridge]);
        ip(&["-n", &bridge, "link", "set", "lo", "up"]);
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &bridge, "addr", "add", "10.60.0.1/24", "dev", "br0"]);
        ip(&["-n", &bridge, "link", "set", "br0", "up"]);
        for (index, guest) in GUESTS.iter().enumerate() {
            let namespace = hosts.namespace(guest);
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            let port = format!("port{index}");
            ip(&[
                "-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ]);
            ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
            let address = format!("10.60.0.{}/24", 11 + index);
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        // The second guest has no IPv6 at all, the third none on its interface.
        let setting = "/proc/sys/net/ipv6/conf/";
        hosts.shell("node2", &format!("test ! -d {setting} || echo 1 > {setting}all/disable_ipv6"));
        hosts.shell("node3", &format!("test ! -d {setting} || echo 1 > {setting}eth0/disable_ipv6"));
        hosts
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn shell(&self, host: &str, script: &str) {
        let printed =
            run(Command::new("ip").args(["netns", "exec", &self.namespace(host), "sh", "-c", script]));
        assert_eq!(printed.status, Some(0), "{script} on {host}: {}", printed.stderr);
    }

    /// Starts an agent on a host whose host name is its own.
    fn agent(&self, host: &str, words: &[&str]) -> Agent {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), "unshare", "--uts", "sh", "-c"]);
        command.arg("echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"");
        let kind = Kind::from(runtime(host));
        let agent = kind.command();
        command.arg(host).arg(agent.get_program()).args(agent.get_args()).args(words);
        Agent::start(kind, command, "127.0.0.1:7373")
    }

    /// Runs a client command on a host.
    fn run(&self, host: &str, words: &[&str]) -> Printed {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), Program::Villein.path()]).args(words);
        run(&mut command)
    }

    fn wait_for_members(&self, host: &str, expected: &[&str]) {
        let seen = || members(&self.run(host, &["members"]).stdout);
        wait_until(&format!("{host} sees {expected:?}"), || seen() == expected, || format!("{:?}", seen()));
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in GUESTS.iter().chain(&["host"]) {
            // A host that was never made cannot be deleted, and need not be.
            let _ = run(Command::new("ip").args(["netns", "del", &self.namespace(host)]));
        }
    }
}

const ALL_ALIVE: [&str; 3] =
    ["node1 10.60.0.11:7946 alive", "node2 10.60.0.12:7946 alive", "node3 10.60.0.13:7946 alive"];

#[test]
fn agents_find_each_other_by_hand() {
    if !can_make_hosts() {
        return;
    }
    Runtime::Glommio.is_here();
    let hosts = Hosts::new("hand");
    let _agents: Vec<Agent> = GUESTS.iter().map(|guest| hosts.agent(guest, &["-iface=eth0"])).collect();
    let printed = hosts.run("node1", &["members"]);
    assert_eq!(printed.stdout.trim_end(), "node1  10.60.0.11:7946  alive");
    for guest in ["node2", "node3"] {
        let printed = hosts.run(guest, &["join", "10.60.0.11"]);
        assert_eq!(printed.stdout, "Successfully joined cluster by contacting 1 nodes.\n");
        assert_eq!(printed.status, Some(0));
    }
    for guest in GUESTS {
        hosts.wait_for_members(guest, &ALL_ALIVE);
    }
}

/// As in a container that is taken off its network: the interface stays, its address does not.
#[test]
fn an_agent_whose_address_is_gone_says_so_and_when_it_is_back() {
    if !can_make_hosts() {
        return;
    }
    let hosts = Hosts::new("lost");
    let (lost, other) = ("node1", "node3");
    let agents = [lost, other].map(|guest| hosts.agent(guest, &["-iface=eth0"]));
    assert_eq!(hosts.run(lost, &["join", "10.60.0.13"]).status, Some(0));
    hosts.wait_for_members(other, &[ALL_ALIVE[0], ALL_ALIVE[2]]);

    hosts.shell(lost, "ip address del 10.60.0.11/24 dev eth0");
    agents[0].wait_for("[ERR] agent: nothing can be sent from 10.60.0.11 (last to 10.60.0.13:7946: ");
    hosts.wait_for_members(other, &["node1 10.60.0.11:7946 failed", ALL_ALIVE[2]]);
    hosts.shell(lost, "ip address add 10.60.0.11/24 dev eth0");
    agents[0].wait_for("[INFO] agent: packets can be sent from 10.60.0.11 again, after ");
    for guest in [lost, other] {
        hosts.wait_for_members(guest, &[ALL_ALIVE[0], ALL_ALIVE[2]]);
    }
    assert_eq!(count(&agents[0].output(), "nothing can be sent"), 1);
    assert_eq!(count(&agents[1].output(), "can be sent"), 0, "the other host has its address");
}

/// A handler that appends its environment and its input to `file`, in one piece.
fn recorder(folder: &Folder, file: &str) -> String {
    let target = folder.path(file).display().to_string();
    let body = format!(
        "{{ env | grep ^SERF_ | sort; echo --; cat; echo ==; }} > {target}.$$\ncat {target}.$$ >> {target}"
    );
    folder.script(&format!("{file}.sh"), &body)
}

fn start_discovering(hosts: &Hosts, folder: &Folder, guest: &str) -> Agent {
    let all = format!("-event-handler={}", recorder(folder, &format!("{guest}.all")));
    let some =
        format!("-event-handler=member-leave,member-failed={}", recorder(folder, &format!("{guest}.gone")));
    let hoge = format!("-event-handler=user:hoge={}", recorder(folder, &format!("{guest}.hoge")));
    let role = format!("-tag=role={guest}");
    let words = ["-iface=eth0", "-discover=oreore", &role, &all, &some, &hoge];
    hosts.agent(guest, &[&words[..], &["-event-handler=query:shell=/bin/bash"]].concat())
}

#[test]
fn agents_find_each_other_by_multicast_and_handle_events() {
    if !can_make_hosts() {
        return;
    }
    Runtime::Glommio.is_here();
    let hosts = Hosts::new("mdns");
    let folder = Folder::new("story");
    let mut agents: Vec<Agent> =
        GUESTS.iter().map(|guest| start_discovering(&hosts, &folder, guest)).collect();
    let mut other = hosts.agent("host", &["-iface=br0", "-discover=another", "-node=other"]);
    for guest in GUESTS {
        hosts.wait_for_members(guest, &ALL_ALIVE);
    }
    assert_eq!(members(&hosts.run("host", &["members"]).stdout), ["other 10.60.0.1:7946 alive"]);
    other.signal("INT");
    assert_eq!(other.wait().code(), Some(0));

    joins_were_handled(&folder);
    custom_events_are_handled_once(&hosts, &folder);
    queries_are_answered(&hosts, "node1", &GUESTS);
    the_host_takes_part(&hosts);
    a_suspended_agent_fails_and_returns(&hosts, &folder, &agents[1]);
    a_stopped_agent_leaves(&hosts, &folder, &mut agents[2]);
}

fn joins_were_handled(folder: &Folder) {
    let record = || folder.read("node1.all");
    for guest in GUESTS {
        let address = format!("{guest}\t10.60.0.1{}\t{guest}\trole={guest}\n", &guest[4..]);
        wait_until(&format!("node1 handles the join of {guest}"), || count(&record(), &address) == 1, record);
    }
    let expected =
        "SERF_EVENT=member-join\nSERF_SELF_NAME=node1\nSERF_SELF_ROLE=node1\nSERF_TAG_ROLE=node1\n--\n";
    assert!(record().starts_with(expected), "{}", record());
}

fn custom_events_are_handled_once(hosts: &Hosts, folder: &Folder) {
    let printed = hosts.run("node2", &["event", "hoge", "1234567890"]);
    assert_eq!(printed.stdout, "Event 'hoge' dispatched! Coalescing enabled: true\n");
    for guest in GUESTS {
        let record = || folder.read(&format!("{guest}.hoge"));
        wait_until(&format!("{guest} handles the event"), || record().ends_with("==\n"), record);
        let lines: Vec<String> = record().lines().map(str::to_owned).collect();
        let ltime =
            lines.iter().find(|line| line.starts_with("SERF_USER_LTIME=")).expect("the time is given");
        let expected = [
            "SERF_EVENT=user",
            &format!("SERF_SELF_NAME={guest}"),
            &format!("SERF_SELF_ROLE={guest}"),
            &format!("SERF_TAG_ROLE={guest}"),
            "SERF_USER_EVENT=hoge",
            ltime,
            "--",
            "1234567890",
            "==",
        ];
        assert_eq!(lines, expected);
        assert_eq!(count(&folder.read(&format!("{guest}.all")), "1234567890\n"), 1);
        assert_eq!(folder.read(&format!("{guest}.gone")), "");
    }
}

/// Asks from `host` what every node calls itself; the guests answer, and all of `acking` acknowledge.
fn queries_are_answered(hosts: &Hosts, host: &str, acking: &[&str]) {
    let ask = |flags: &[&str]| {
        let printed = hosts.run(host, &[&["query"], flags, &["shell", "uname -n; echo $((6 * 7))"]].concat());
        assert_eq!(printed.status, Some(0), "{printed:?}");
        sorted(&printed.stdout)
    };
    let expected = |acks: Option<&[&str]>, answers: &[&str]| {
        let mut lines =
            vec!["Query 'shell' dispatched".to_owned(), format!("Total Responses: {}", answers.len())];
        for name in answers {
            lines.extend([format!("Response from '{name}': {name}"), "42".to_owned()]);
        }
        if let Some(names) = acks {
            lines.push(format!("Total Acks: {}", names.len()));
            lines.extend(names.iter().map(|name| format!("Ack from '{name}'")));
        }
        lines.sort();
        lines
    };
    assert_eq!(ask(&[]), expected(Some(acking), &GUESTS));
    assert_eq!(ask(&["-no-ack"]), expected(None, &GUESTS));
    assert_eq!(ask(&["-relay-factor=2"]), expected(Some(acking), &GUESTS));
    assert_eq!(ask(&["-tag=role=node[23]", "-timeout=1s"]), expected(Some(&GUESTS[1..]), &GUESTS[1..]));
    assert_eq!(ask(&["-node=node1", "-timeout=500ms"]), expected(Some(&GUESTS[..1]), &GUESTS[..1]));
    let printed =
        hosts.run(host, &["query", "-format=json", "-node=node3", "-timeout=1s", "shell", "echo hi"]);
    assert_eq!(
        printed.stdout,
        "{\n  \"Acks\": [\n    \"node3\"\n  ],\n  \"Responses\": {\n    \"node3\": \"hi\\n\"\n  }\n}\n"
    );
}

fn the_host_takes_part(hosts: &Hosts) {
    let words = ["-iface=br0", "-discover=oreore", "-node=host"];
    let mut agent = hosts.agent("host", &words);
    let mut expected = vec!["host 10.60.0.1:7946 alive"];
    expected.extend(ALL_ALIVE);
    for host in GUESTS.iter().chain(&["host"]) {
        hosts.wait_for_members(host, &expected);
    }
    // Four acknowledge, three answer: the host has no handler.
    queries_are_answered(hosts, "host", &["host", "node1", "node2", "node3"]);
    agent.signal("INT");
    assert_eq!(agent.wait().code(), Some(0));
    let mut expected = vec!["host 10.60.0.1:7946 left"];
    expected.extend(ALL_ALIVE);
    hosts.wait_for_members("node1", &expected);
}

fn a_suspended_agent_fails_and_returns(hosts: &Hosts, folder: &Folder, agent: &Agent) {
    agent.signal("STOP");
    let gone = || folder.read("node1.gone");
    wait_until("node2 is handled as failed", || gone().contains("SERF_EVENT=member-failed"), gone);
    assert!(gone().contains("node2\t10.60.0.12\tnode2\trole=node2\n"), "{}", gone());
    let rows = |status| ["host 10.60.0.1:7946 left", ALL_ALIVE[0], status, ALL_ALIVE[2]];
    hosts.wait_for_members("node1", &rows("node2 10.60.0.12:7946 failed"));
    let joins = count(&folder.read("node1.all"), "node2\t10.60.0.12\tnode2");
    agent.signal("CONT");
    hosts.wait_for_members("node1", &rows(ALL_ALIVE[1]));
    hosts.wait_for_members("node3", &rows(ALL_ALIVE[1]));
    let all = || folder.read("node1.all");
    wait_until("node1 handles the return", || count(&all(), "node2\t10.60.0.12\tnode2") > joins, all);
}

fn a_stopped_agent_leaves(hosts: &Hosts, folder: &Folder, agent: &mut Agent) {
    agent.signal("INT");
    assert_eq!(agent.wait().code(), Some(0));
    assert!(agent.output().contains("==> Caught signal: interrupt\n"), "{}", agent.output());
    assert!(agent.output().contains("==> Gracefully shutting down agent...\n"), "{}", agent.output());
    for guest in ["node1", "node2"] {
        let gone = || folder.read(&format!("{guest}.gone"));
        wait_until(
            &format!("{guest} handles the leave within {PATIENCE:?}"),
            || gone().contains("SERF_EVENT=member-leave") && gone().contains("node3\t10.60.0.13"),
            gone,
        );
    }
    hosts.wait_for_members(
        "node1",
        &["host 10.60.0.1:7946 left", ALL_ALIVE[0], ALL_ALIVE[1], "node3 10.60.0.13:7946 left"],
    );
}
