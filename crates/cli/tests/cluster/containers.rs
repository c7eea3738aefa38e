//! The founding story in containers: three from the image of `cargo xtask image` on Docker's default bridge, with the
//! image's own command line, and the host of the bridge beside them.

use crate::support::{
    Agent, Folder, Printed, Program, available, client, count, exists, members, run, sorted, wait_until,
};
use std::path::{Path, PathBuf};
use std::process::Command;

const GUESTS: [&str; 3] = ["node1", "node2", "node3"];

fn docker(words: &[&str]) -> Printed {
    run(Command::new("docker").args(words))
}

/// What a docker command that must succeed prints.
fn docker_says(words: &[&str]) -> String {
    let printed = docker(words);
    assert_eq!(printed.status, Some(0), "docker {}: {}", words.join(" "), printed.stderr);
    printed.stdout.trim_end().to_owned()
}

/// Containers need Docker and the static program; both are said when absent.
fn can_make_containers() -> bool {
    let daemon = || docker(&["version", "--format={{.Server.Version}}"]).status == Some(0);
    available("Docker (a daemon that answers `docker version`)", exists("docker") && daemon())
        && available(
            "target/dist/villein (made by `cargo xtask dist`)",
            target().join("dist/villein").exists(),
        )
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder").to_owned()
}

/// An image of this program and of nobody else. It is gone after the test.
struct Image {
    name: String,
}

impl Image {
    /// Fails when the program in `target/dist` is older than its sources.
    fn new(test: &str) -> Image {
        let image = Image { name: format!("villein-{test}:test-{}", std::process::id()) };
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["xtask", "image", &image.name]).current_dir(workspace);
        let printed = run(&mut command);
        assert_eq!(printed.status, Some(0), "cargo xtask image: {}{}", printed.stdout, printed.stderr);
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // One that was not made cannot be removed, and need not be.
        let _ = docker(&["image", "rm", "--force", &self.name]);
    }
}

/// A running container with an agent in it. It is gone after the test.
struct Container {
    name: String,
    /// The client of Docker that shows what the agent prints, and ends with its exit code.
    agent: Agent,
}

impl Container {
    /// Runs the image: `flags` are Docker's, `words` take the place of the image's command line if there are any.
    fn start(image: &Image, host: &str, flags: &[&str], words: &[&str]) -> Container {
        let name = format!("villein-{}-{host}", std::process::id());
        let made = ["create", "--rm", "--name", &name, "--hostname", host];
        docker_says(&[&made, flags, &[image.name.as_str()], words].concat());
        let mut command = Command::new("docker");
        command.args(["start", "--attach", &name]);
        Container { agent: Agent::spawn(command, "127.0.0.1:7373"), name }
    }

    /// Of the interface on Docker's default bridge.
    fn address(&self) -> String {
        self.setting("NetworkSettings.IPAddress")
    }

    /// What Docker knows of it.
    fn setting(&self, path: &str) -> String {
        let value = docker_says(&["inspect", &format!("--format={{{{.{path}}}}}"), &self.name]);
        assert_ne!(value, "", "{path} of {}", self.name);
        value
    }

    /// Runs a client command beside the agent.
    fn run(&self, words: &[&str]) -> Printed {
        docker(&[&["exec", &self.name, "villein"], words].concat())
    }

    fn members(&self) -> Vec<String> {
        members(&self.run(&["members"]).stdout)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", &self.name]);
    }
}

/// Three containers on the default bridge, and an agent on the host.
struct Story {
    // In the order in which they go.
    guests: Vec<Container>,
    host: Agent,
    /// The address of the host on the bridge.
    gateway: String,
    /// Those of the guests.
    addresses: Vec<String>,
    _folder: Folder,
    image: Image,
}

impl Story {
    /// The bridge may have nobody on it, and then no carrier, when the agent of the host starts.
    fn begin() -> Story {
        let image = Image::new("story");
        let folder = Folder::new("containers");
        let host = start_host(&folder);
        let health = ["--health-interval=1s"];
        let guests: Vec<Container> =
            GUESTS.iter().map(|guest| Container::start(&image, guest, &health, &[])).collect();
        for guest in &guests {
            guest.agent.wait_for("agent: Serf agent starting");
        }
        let addresses = guests.iter().map(Container::address).collect();
        let gateway = guests[0].setting("NetworkSettings.Gateway");
        Story { guests, host, gateway, addresses, _folder: folder, image }
    }

    /// The member list when these are the states of the guests.
    fn rows(&self, states: [&str; 3]) -> Vec<String> {
        let mut rows = vec![format!("host {}:7946 alive", self.gateway)];
        for ((guest, address), state) in GUESTS.iter().zip(&self.addresses).zip(states) {
            rows.push(format!("{guest} {address}:7946 {state}"));
        }
        rows
    }

    fn seen_by_host(&self) -> Vec<String> {
        members(&client(Program::Villein, &self.host, &["members"]).stdout)
    }

    fn host_sees(&self, states: [&str; 3]) {
        let expected = self.rows(states);
        let seen = || self.seen_by_host();
        wait_until(&format!("the host sees {states:?}"), || seen() == expected, || format!("{:?}", seen()));
    }

    fn guest_sees(&self, index: usize, states: [&str; 3]) {
        let (guest, expected) = (&self.guests[index], self.rows(states));
        let seen = || guest.members();
        wait_until(
            &format!("{} sees {states:?}", GUESTS[index]),
            || seen() == expected,
            || format!("{:?}", seen()),
        );
    }

    /// Asks all for their uptime: the host acknowledges too, but has no handler.
    fn uptime_is_answered_by(&self, guests: &[&str]) {
        let printed = client(Program::Villein, &self.host, &["query", "shell", "uptime"]);
        assert_eq!(printed.status, Some(0), "{printed:?}");
        let starts = |prefix: &str| -> Vec<String> {
            sorted(&printed.stdout).into_iter().filter(|line| line.starts_with(prefix)).collect()
        };
        let acks = ["host"].iter().chain(guests).map(|name| format!("Ack from '{name}'")).collect::<Vec<_>>();
        assert_eq!(starts("Ack from "), acks, "{}", printed.stdout);
        assert_eq!(
            starts("Total "),
            [format!("Total Acks: {}", guests.len() + 1), format!("Total Responses: {}", guests.len())]
        );
        let answers = starts("Response from ");
        assert_eq!(answers.len(), guests.len(), "{}", printed.stdout);
        for (answer, guest) in answers.iter().zip(guests) {
            assert!(answer.starts_with(&format!("Response from '{guest}': ")), "{answer}");
            assert_eq!(count(answer, "load average:"), 1, "{answer}");
        }
    }
}

/// What an operator types on the host, and one key besides: how soon a failed member is tried again is a matter of
/// luck with the usual 30 s.
fn start_host(folder: &Folder) -> Agent {
    let config = folder.path("host.json");
    std::fs::write(&config, "{\"reconnect_interval\": \"2s\"}").expect("the file can be written");
    let rpc = "127.66.0.1:7373";
    let mut command = Command::new(Program::Villein.path());
    command.args(["agent", "-node=host", "-iface=docker0", "-discover=villein"]);
    command.args([&format!("-rpc-addr={rpc}"), &format!("-config-file={}", config.display())]);
    let host = Agent::spawn(command, rpc);
    host.wait_for("agent: Serf agent starting");
    host
}

const ALIVE: [&str; 3] = ["alive"; 3];

#[test]
fn containers_and_their_host_find_each_other() {
    if !can_make_containers() {
        return;
    }
    let mut story = Story::begin();
    story.host_sees(ALIVE);
    for guest in 0..GUESTS.len() {
        story.guest_sees(guest, ALIVE);
    }
    story.uptime_is_answered_by(&GUESTS);
    a_guest_is_healthy(&story.guests[0]);
    what_a_handler_leaves_behind_is_reaped(&story.guests[0]);
    a_paused_guest_fails_and_returns(&story);
    a_guest_without_network_fails_and_heals(&story);
    a_stopped_guest_leaves(&mut story);
    story.uptime_is_answered_by(&GUESTS[..2]);
    story.host.signal("INT");
    assert_eq!(story.host.wait().code(), Some(0));
    a_guest_that_was_connected_anew_is_found(&story);
}

fn a_guest_is_healthy(guest: &Container) {
    let health = || guest.setting("State.Health.Status");
    wait_until("the health check passes", || health() == "healthy", health);
}

/// The agent is the first process of its container: nobody else can do it.
fn what_a_handler_leaves_behind_is_reaped(guest: &Container) {
    let script = "sleep 0.1 >/dev/null 2>&1 & echo pid=$!";
    let printed = guest.run(&["query", "-node=node1", "shell", script]);
    let pid = printed.stdout.lines().find_map(|line| line.split_once("pid=")).map(|(_, pid)| pid);
    let process = format!("/proc/{}", pid.unwrap_or_else(|| panic!("{printed:?}")));
    let stat = || docker(&["exec", &guest.name, "cat", &format!("{process}/stat")]);
    wait_until("nothing is left of it", || stat().status == Some(1), || format!("{:?}", stat()));
}

fn a_paused_guest_fails_and_returns(story: &Story) {
    docker_says(&["pause", &story.guests[1].name]);
    let failed = ["alive", "failed", "alive"];
    story.host_sees(failed);
    story.guest_sees(0, failed);
    docker_says(&["unpause", &story.guests[1].name]);
    story.host_sees(ALIVE);
    for guest in 0..GUESTS.len() {
        story.guest_sees(guest, ALIVE);
    }
}

/// Its interface is gone, and comes back as another one with the same address.
fn a_guest_without_network_fails_and_heals(story: &Story) {
    let guest = &story.guests[0];
    docker_says(&["network", "disconnect", "bridge", &guest.name]);
    let failed = ["failed", "alive", "alive"];
    story.host_sees(failed);
    story.guest_sees(1, failed);
    docker_says(&["network", "connect", "bridge", &guest.name]);
    // Docker gives the lowest address that is free, and nobody else has come or gone.
    assert_eq!(guest.address(), story.addresses[0]);
    story.host_sees(ALIVE);
    for guest in 0..GUESTS.len() {
        story.guest_sees(guest, ALIVE);
    }
    story.uptime_is_answered_by(&GUESTS);
}

/// Nobody but it is there to tell of it.
fn a_guest_that_was_connected_anew_is_found(story: &Story) {
    docker_says(&["stop", &story.guests[1].name]);
    let late = Container::start(&story.image, "late", &[], &[]);
    late.agent.wait_for("agent: Serf agent starting");
    let row = format!("node1 {}:7946 alive", story.addresses[0]);
    let seen = || late.members();
    wait_until(&format!("{row:?} is seen"), || seen().contains(&row), || format!("{:?}", seen()));
}

fn a_stopped_guest_leaves(story: &mut Story) {
    let guest = &mut story.guests[2];
    docker_says(&["stop", &guest.name]);
    assert_eq!(guest.agent.wait().code(), Some(0), "{}", guest.agent.output());
    let output = guest.agent.output();
    assert!(output.contains("==> Gracefully shutting down agent...\n"), "{output}");
    let left = ["alive", "alive", "left"];
    story.host_sees(left);
    story.guest_sees(0, left);
    story.guest_sees(1, left);
}

/// Docker's profile of today forbids io_uring, that of yesterday does not.
const WITHOUT_IO_URING: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO",
    "names": ["io_uring_setup", "io_uring_enter", "io_uring_register"]}]}"#;

#[test]
fn an_agent_runs_whatever_the_seccomp_profile_says_of_io_uring() {
    if !can_make_containers() {
        return;
    }
    let image = Image::new("seccomp");
    let folder = Folder::new("seccomp");
    let profile = folder.path("profile.json");
    std::fs::write(&profile, WITHOUT_IO_URING).expect("the file can be written");
    let denied = format!("--security-opt=seccomp={}", profile.display());
    // Kernels without the switch may have io_uring or not.
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let open = "--security-opt=seccomp=unconfined";
    // Of Docker's own profile it is only known that the agent starts, and says so if it cannot do as it is told.
    let cases = [
        ("own", None, None),
        ("open", Some(open), switch.map(|switch| switch.trim() == "0")),
        ("denied", Some(&*denied), Some(false)),
    ];
    for (host, flag, expected) in cases {
        let mut guest = start_on_glommio(&image, host, flag);
        let output = guest.agent.output();
        let is_on_glommio = output.contains("Runtime: glommio\n");
        assert_eq!(output.contains("Runtime: smol\n"), !is_on_glommio, "{output}");
        let warning = "[WARN] agent: the agent runs on smol instead of glommio: io_uring";
        assert_eq!(output.contains(warning), !is_on_glommio, "{output}");
        assert_eq!(is_on_glommio, expected.unwrap_or(is_on_glommio), "{output}");
        let printed = guest.run(&["query", "-timeout=1s", "shell", "echo $((6 * 7))"]);
        assert!(printed.stdout.contains(&format!("Response from '{host}': 42\n")), "{printed:?}");
        docker_says(&["stop", &guest.name]);
        assert_eq!(guest.agent.wait().code(), Some(0), "{}", guest.agent.output());
    }
}

/// Alone with itself.
fn start_on_glommio(image: &Image, host: &str, flag: Option<&str>) -> Container {
    let flags: Vec<&str> = flag.into_iter().chain(["--network=none"]).collect();
    let handler = "-event-handler=query:shell=/bin/bash";
    let guest =
        Container::start(image, host, &flags, &["agent", "-bind=127.0.0.1", "-runtime=glommio", handler]);
    guest.agent.wait_for("agent: Serf agent starting");
    guest
}
