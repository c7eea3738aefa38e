//! Real processes, watched.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use crate::runtime::{Runtime, available, on_every_runtime};

/// How long anything may take that is expected to happen. Generous: machines are slow, hangs are for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Villein,
    Serf,
}

impl Program {
    pub(crate) const BOTH: [Program; 2] = [Program::Villein, Program::Serf];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Program::Villein => env!("CARGO_BIN_EXE_villein"),
            Program::Serf => "serf",
        }
    }
}

/// What runs an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours(Runtime),
    Serf,
}

impl Kind {
    /// Of all that a cluster can have.
    pub(crate) const ALL: [Kind; 3] = [Kind::Ours(Runtime::Smol), Kind::Serf, Kind::Ours(Runtime::Glommio)];

    /// The program of such an agent, with the words that make it one.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(Program::from(self).path());
        command.arg("agent");
        if let Kind::Ours(runtime) = self {
            command.arg(runtime.flag());
        }
        command
    }
}

impl Runtime {
    /// Itself, or else one that is here: for clusters whose members are of every kind.
    pub(crate) fn or_smol(self) -> Runtime {
        if self.found().is_ok() { self } else { Runtime::Smol }
    }
}

impl From<Runtime> for Kind {
    fn from(runtime: Runtime) -> Kind {
        Kind::Ours(runtime)
    }
}

/// Where the event loop does not matter.
impl From<Program> for Kind {
    fn from(program: Program) -> Kind {
        match program {
            Program::Villein => Kind::Ours(Runtime::Smol),
            Program::Serf => Kind::Serf,
        }
    }
}

impl From<Kind> for Program {
    fn from(kind: Kind) -> Program {
        match kind {
            Kind::Ours(_) => Program::Villein,
            Kind::Serf => Program::Serf,
        }
    }
}

pub(crate) fn serf_is_here() -> bool {
    let present = Command::new("serf").arg("version").output().is_ok_and(|output| output.status.success());
    available("the real serf (Debian's package `serf`)", present)
}

/// A folder that is gone after the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("villein-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder can be made");
        Folder(path)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// What a handler wrote; empty before it ran.
    pub(crate) fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(file)).unwrap_or_default()).into_owned()
    }

    pub(crate) fn script(&self, file: &str, body: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(file);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("the script can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("it can be executable");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running agent. It is killed when dropped.
pub(crate) struct Agent {
    child: Child,
    output: Arc<Mutex<String>>,
    pub(crate) rpc: String,
}

impl Agent {
    /// Starts `command`, which runs an agent whose RPC address is `rpc`.
    pub(crate) fn spawn(mut command: Command, rpc: &str) -> Agent {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        collect(stdout, Arc::clone(&output));
        collect(stderr, Arc::clone(&output));
        Agent { child, output, rpc: rpc.to_owned() }
    }

    /// An agent on a loopback address of its own.
    pub(crate) fn on_loopback(kind: impl Into<Kind>, ip: &str, name: &str, arguments: &[&str]) -> Agent {
        let (kind, rpc) = (kind.into(), format!("{ip}:7373"));
        let mut command = kind.command();
        command.args([&format!("-node={name}"), &format!("-bind={ip}"), &format!("-rpc-addr={rpc}")]);
        command.args(arguments);
        Agent::start(kind, command, &rpc)
    }

    /// Starts `command`, which runs such an agent, and waits until it does.
    pub(crate) fn start(kind: impl Into<Kind>, command: Command, rpc: &str) -> Agent {
        let agent = Agent::spawn(command, rpc);
        agent.wait_for("agent: Serf agent starting");
        if let Kind::Ours(runtime) = kind.into() {
            runtime.check(&agent.output());
        }
        agent
    }

    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("no reader panics").clone()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(&format!("the agent prints {text:?}"), || self.output().contains(text), || self.output());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A number of `/proc/PID/status`, such as `VmRSS`, which is in KiB.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or_else(|| panic!("{name} in {status}"))
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(status.expect("kill can be run").success(), "SIG{signal} reaches {pid}");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the agent does not end: {}", self.output());
            pause();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of the agent with RPC {}:\n{}", self.rpc, self.output());
        }
    }
}

fn collect(from: impl Read + Send + 'static, output: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            output.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// Between two looks at something that other processes do.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(100));
}

/// Looks again and again until it is so.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool, state: impl Fn() -> String) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; now:\n{}", state());
        pause();
    }
}

/// What a command printed, and its exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

pub(crate) fn run(command: &mut Command) -> Printed {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Printed {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        status: output.status.code(),
    }
}

/// Runs a client command against an agent.
pub(crate) fn client(program: Program, agent: &Agent, words: &[&str]) -> Printed {
    let mut command = Command::new(program.path());
    command.arg(words[0]).arg(format!("-rpc-addr={}", agent.rpc)).args(&words[1..]);
    run(&mut command)
}

/// The lines of a text in byte order: what both programs print in an order of their own.
pub(crate) fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

/// Name, address and status of each member, as an agent's list shows them, sorted.
pub(crate) fn members(list: &str) -> Vec<String> {
    let mut rows: Vec<String> = list
        .lines()
        .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
        .filter(|row| !row.is_empty())
        .collect();
    rows.sort();
    rows
}

/// How often `needle` is in `text`.
pub(crate) fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
    })
}
