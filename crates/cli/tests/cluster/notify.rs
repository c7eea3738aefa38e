//! What a service manager and its journal hear of an agent, in their place (`sd_notify(3)`, `sd-daemon(3)`).

use crate::support::{Agent, Folder, PATIENCE, Program, Runtime, client, on_every_runtime, wait_until};
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

on_every_runtime! {
    a_service_manager_hears_of_the_whole_life_of_an_agent,
    an_agent_is_ready_when_it_has_joined_and_not_before,
    the_watchdog_is_fed_while_the_agent_works,
    a_manager_that_cannot_be_told_is_reported_and_not_missed,
    the_journal_learns_the_level_of_each_line,
}

/// The end of the socket where messages arrive.
struct Manager {
    socket: UnixDatagram,
    /// As the agent gets it.
    variable: String,
}

impl Manager {
    fn new(folder: &Folder) -> Manager {
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder can be written");
        Manager { socket, variable: path.display().to_string() }
    }

    /// One whose name is in no folder.
    fn hidden(name: &str) -> Manager {
        let name = format!("villein-{name}-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).expect("it is short");
        let socket = UnixDatagram::bind_addr(&addr).expect("the name is ours");
        Manager { socket, variable: format!("@{name}") }
    }

    /// The next message, if it comes within this time.
    fn message_within(&self, time: Duration) -> Option<String> {
        let mut buffer = [0; 500];
        self.socket.set_read_timeout(Some(time)).expect("a socket takes it");
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    fn message(&self) -> String {
        self.message_within(PATIENCE).expect("the agent says something")
    }

    /// Takes numbers of members until these are told.
    fn wait_for(&self, status: &str) {
        loop {
            let message = self.message();
            assert!(message.starts_with("STATUS="), "{message} instead of {status}");
            if message == status {
                return;
            }
        }
    }

    /// An agent that this manager has started.
    fn start(&self, runtime: Runtime, ip: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Agent {
        let ip = runtime.here(ip);
        let mut command = Command::new("sh");
        // A process gives its number to the program that it becomes.
        command.args(["-c", r#"WATCHDOG_PID=${WATCHDOG_PID:-$$} exec "$0" "$@""#, Program::Villein.path()]);
        let rpc = format!("{ip}:7373");
        command.args([
            "agent",
            &runtime.flag(),
            &format!("-node=n{ip}"),
            &format!("-bind={ip}"),
            &format!("-rpc-addr={rpc}"),
        ]);
        command.arg("-profile=local").args(arguments.iter().map(|argument| runtime.here(argument)));
        command.env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC").env("NOTIFY_SOCKET", &self.variable);
        command.envs(variables.iter().copied());
        Agent::spawn(command, &rpc)
    }
}

fn a_service_manager_hears_of_the_whole_life_of_an_agent(runtime: Runtime) {
    let folder = Folder::new("notify-life");
    let manager = Manager::new(&folder);
    // This watchdog is for another process.
    let variables = [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "100000")];
    let mut agent = manager.start(runtime, "127.72.1.1", &[], &variables);
    assert_eq!(manager.message(), "READY=1\nSTATUS=1 alive, 0 failed\n");
    agent.wait_for(&format!(" Runtime: {}\n", runtime.name()));
    let arguments = ["-profile=local", &runtime.here("-join=127.72.1.1")];
    let mut other = Agent::on_loopback(runtime, &runtime.here("127.72.1.2"), "other", &arguments);
    manager.wait_for("STATUS=2 alive, 0 failed\n");
    other.signal("KILL");
    other.wait();
    manager.wait_for("STATUS=1 alive, 1 failed\n");
    agent.signal("HUP");
    let reloading = manager.message();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time = time.and_then(|time| time.trim_end().parse::<u64>().ok());
    assert!(time.is_some_and(|time| time > 0), "{reloading}");
    assert_eq!(manager.message(), "READY=1\n");
    agent.signal("INT");
    assert_eq!(manager.message(), "STOPPING=1\nSTATUS=leaving the cluster\nEXTEND_TIMEOUT_USEC=18000000\n");
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.output());
    assert_eq!(manager.message_within(Duration::from_millis(1)), None);
}

fn an_agent_is_ready_when_it_has_joined_and_not_before(runtime: Runtime) {
    let folder = Folder::new("notify-join");
    let manager = Manager::new(&folder);
    let silent = TcpListener::bind(runtime.here("127.72.2.9:7946")).expect("it is free");
    let mut agent = manager.start(runtime, "127.72.2.1", &["-join=127.72.2.9"], &[]);
    let (mut stream, _) = silent.accept().expect("it is contacted");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.read_exact(&mut [0]).expect("it begins an exchange");
    drop((stream, silent));
    assert_eq!(agent.wait().code(), Some(1), "{}", agent.output());
    assert_eq!(manager.message(), "STOPPING=1\nSTATUS=stopping\n", "this is the first that it says");

    let _first = Agent::on_loopback(runtime, &runtime.here("127.72.2.2"), "first", &["-profile=local"]);
    let mut agent = manager.start(runtime, "127.72.2.1", &["-join=127.72.2.2"], &[]);
    assert_eq!(manager.message(), "READY=1\nSTATUS=2 alive, 0 failed\n");
    // Without a leave, as by default.
    agent.signal("TERM");
    assert_eq!(manager.message(), "STOPPING=1\nSTATUS=stopping\n");
    assert_eq!(agent.wait().code(), Some(1), "{}", agent.output());
}

fn the_watchdog_is_fed_while_the_agent_works(runtime: Runtime) {
    let folder = Folder::new("notify-watchdog");
    let manager = Manager::hidden(&format!("notify-watchdog-{}", runtime.name()));
    let handler =
        format!("-event-handler=user=env > {0}.part; mv {0}.part {0}", folder.path("env").display());
    let agent = manager.start(
        runtime,
        "127.72.3.1",
        &[&handler],
        &[("WATCHDOG_USEC", "400000"), ("JOURNAL_STREAM", "1:1")],
    );
    assert_eq!(manager.message(), "READY=1\nSTATUS=1 alive, 0 failed\n");
    for _ in 0..5 {
        assert_eq!(manager.message(), "WATCHDOG=1\n");
    }
    agent.signal("STOP");
    let state = || std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it is there");
    wait_until("the agent stands still", || state().contains("State:\tT"), state);
    while manager.message_within(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.message_within(Duration::from_secs(2)), None, "nobody feeds it in its place");
    agent.signal("CONT");
    assert_eq!(manager.message(), "WATCHDOG=1\n");

    let printed = client(Program::Villein, &agent, &["event", "x"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    wait_until("the handler ran", || folder.path("env").exists(), || agent.output());
    let env = folder.read("env");
    assert!(env.contains("SERF_EVENT=user\n"), "{env}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG", "JOURNAL_STREAM"] {
        assert!(!env.contains(name), "{name}: {env}");
    }
}

fn a_manager_that_cannot_be_told_is_reported_and_not_missed(runtime: Runtime) {
    let folder = Folder::new("notify-absent");
    let manager = Manager::new(&folder);
    std::fs::remove_file(&manager.variable).expect("it is ours");
    let mut agent = manager.start(runtime, "127.72.4.1", &[], &[]);
    agent.wait_for(&format!(
        "[WARN] agent: the service manager hears nothing of this agent: {}: no such file or directory",
        manager.variable
    ));
    agent.signal("INT");
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.output());
}

fn the_journal_learns_the_level_of_each_line(runtime: Runtime) {
    let ip = runtime.here("127.72.5.1");
    let rpc = format!("{ip}:7373");
    let output = |stream: &str| {
        let mut command = Command::new("sh");
        // The program that the shell becomes has the same standard output.
        let script = format!(r#"JOURNAL_STREAM={stream} exec "$0" "$@""#);
        command.args(["-c", &script, Program::Villein.path(), "agent", &runtime.flag(), "-profile=local"]);
        command.args([&format!("-bind={ip}"), &format!("-rpc-addr={rpc}")]);
        command.env("NOTIFY_SOCKET", "nowhere");
        let mut agent = Agent::spawn(command, &rpc);
        agent.wait_for("agent: Serf agent starting");
        agent.wait_for(
            "[WARN] agent: the service manager hears nothing of this agent: NOTIFY_SOCKET is 'nowhere'",
        );
        agent.signal("INT");
        assert_eq!(agent.wait().code(), Some(0), "{}", agent.output());
        agent.wait_for("==> Caught signal: interrupt\n");
        agent.output()
    };
    let told = output("$(stat -Lc %d:%i /proc/$$/fd/1)");
    let (lines, others): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| line.starts_with('<'));
    assert!(lines.iter().any(|line| line.contains("[INFO]")), "{told}");
    assert!(lines.iter().any(|line| line.contains("[WARN]")), "{told}");
    for line in lines {
        let prefix = if line.contains(" [WARN] ") { "<4>    2" } else { "<6>    2" };
        assert!(line.starts_with(prefix) && line.contains("] "), "{line}");
    }
    assert!(!others.iter().any(|line| line.contains("[INFO]") || line.contains("[WARN]")), "{told}");
    assert!(others.contains(&"==> Caught signal: interrupt"), "{told}");

    let told = output("$(stat -Lc %d:%i /dev/null)");
    assert!(!told.contains('<'), "{told}");
}
