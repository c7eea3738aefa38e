//! Golden transcripts that need agents, replayed with agents of ours, each group on a host of its own.
//!
//! A host is a network namespace, so that the addresses and ports of the transcripts are free and nothing has to be
//! rewritten. The files of one test are replayed at the same time. Which file is replayed where, and what is left
//! out, stands in golden/README.md.

mod agents;
mod clusters;
mod files;
mod keys;
mod pairs;
mod single;

use crate::namespaces::{can_make_hosts, ip};
use crate::support::{Folder, PATIENCE, Runtime, on_every_runtime, wait_until};
use crate::transcript::{Case, Printed, Replay, Shell, Step};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// What the transcripts show as the host's name.
const HOST_NAME: &str = "vm";

/// How often a question is asked at least.
const ATTEMPTS: usize = 4;

/// A host of its own. It is gone after the test.
struct Host {
    namespace: String,
    folder: Folder,
    runtime: Runtime,
}

impl Host {
    fn new(runtime: Runtime, test: &str) -> Host {
        let namespace = format!("villein-{}-{test}-{}", std::process::id(), runtime.name());
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        Host { namespace, folder: Folder::new(test), runtime }
    }

    /// Adds the interface dum0 with this address. It is one end of a cable whose other end hangs loose.
    fn add_interface(&self, address: &str) {
        let on_host = |words: &[&str]| ip(&[&["-n", &self.namespace], words].concat());
        on_host(&["link", "add", "dum0", "type", "veth", "peer", "name", "loose"]);
        on_host(&["addr", "add", address, "dev", "dum0"]);
        // A link-local address that nobody has to confirm, so that multicast works at once.
        on_host(&["link", "set", "dum0", "addrgenmode", "none"]);
        on_host(&["link", "set", "dum0", "up"]);
        on_host(&["addr", "add", "fe80::77/64", "dev", "dum0", "nodad"]);
        on_host(&["link", "set", "loose", "up"]);
    }

    fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// Writes a file that the transcript does not show.
    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path(name), content).expect("the folder is ours");
    }

    /// Runs command lines on this host.
    fn shell(&self) -> Shell {
        self.shell_after("true")
    }

    /// Runs command lines on this host, each behind a command in its own view of the file system.
    fn shell_after(&self, command: &str) -> Shell {
        let script = format!("echo {HOST_NAME} > /proc/sys/kernel/hostname && {command} && exec \"$@\"");
        let words = ["ip", "netns", "exec", &self.namespace, "unshare", "--uts", "sh", "-c", &script, "sh"];
        // That of agents that are not told one is smol.
        let runtime = (self.runtime != Runtime::Smol).then_some(self.runtime.name());
        Shell { runtime, ..Shell::new(self.folder(), &words) }
    }

    /// Starts a command that the transcript does not show.
    fn start(&self, line: &str) -> Running {
        Running::start(&self.shell(), Case::of(line))
    }

    /// Runs a command that the transcript does not show.
    fn run(&self, line: &str) -> Printed {
        self.shell().run(&Case::of(line))
    }

    /// Starts an agent that the transcript does not show, and waits until it runs.
    fn agent(&self, line: &str) -> Running {
        let agent = self.start(line);
        agent.wait_for("agent: Serf agent starting");
        agent
    }

    /// A connection of a client on this host.
    fn connect(&self, address: &str) -> TcpStream {
        self.within(|| TcpStream::connect(address).expect("somebody listens"))
    }

    /// Listens on this host, for servers that are no agents.
    fn listen(&self, address: &str) -> TcpListener {
        self.within(|| TcpListener::bind(address).expect("the port is free"))
    }

    /// Opens a socket on this host, in a thread that does nothing else.
    fn within<T: Send>(&self, open: impl FnOnce() -> T + Send) -> T {
        let namespace =
            File::open(format!("/var/run/netns/{}", self.namespace)).expect("the namespace has a name");
        let enter = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may go there");
            open()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().expect("the socket is open"))
    }

    /// Waits until this command prints that.
    fn wait_for(&self, line: &str, text: &str) {
        let seen = || String::from_utf8_lossy(&self.run(line).stdout).into_owned();
        wait_until(&format!("{line} prints {text:?}"), || seen().contains(text), seen);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whatever is left of it would be in nobody's way.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A command of a transcript that has not ended. It is killed when dropped.
struct Running {
    case: Case,
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(shell: &Shell, case: Case) -> Running {
        let mut command = shell.command(&case);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("it is piped"), &stdout),
            collect(child.stderr.take().expect("it is piped"), &stderr),
        ];
        Running { case, child, stdout, stderr, readers }
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().expect("no reader panics")).into_owned()
    }

    fn printed(&self, exit: &str) -> Printed {
        let of = |output: &Mutex<Vec<u8>>| output.lock().expect("no reader panics").clone();
        Printed { stdout: of(&self.stdout), stderr: of(&self.stderr), exit: exit.to_owned() }
    }

    fn wait_for(&self, text: &str) {
        self.wait_for_times(text, 1);
    }

    fn wait_for_times(&self, text: &str, times: usize) {
        let what = format!("{} prints {text:?} {times} times", self.case.line);
        wait_until(&what, || self.stdout().matches(text).count() >= times, || self.stdout());
    }

    /// Interrupts a command that has prepared for it.
    fn interrupt(&self) {
        self.wait_until_interruptible();
        self.signal("INT");
    }

    fn wait_until_interruptible(&self) {
        let path = format!("/proc/{}/status", self.child.id());
        let caught = || {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            // The shells on the way to the program catch it too.
            let status = status.strip_prefix("Name:\tserf\n").unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap_or("0");
            u64::from_str_radix(mask, 16).unwrap_or(0)
        };
        let sigint = 1 << (2 - 1);
        wait_until(
            "the command catches SIGINT",
            || caught() & sigint != 0,
            || format!("it catches {:x}", caught()),
        );
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(status.expect("kill can be run").success(), "SIG{signal} reaches {pid}");
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// Waits until the process has ended.
    fn wait(&mut self) -> String {
        use std::os::unix::process::ExitStatusExt;
        let what = format!("{} ends", self.case.line);
        let mut status = None;
        let output = Arc::clone(&self.stdout);
        let shown = || String::from_utf8_lossy(&output.lock().expect("no reader panics")).into_owned();
        wait_until(
            &what,
            || {
                status = self.child.try_wait().expect("the child is ours");
                status.is_some()
            },
            shown,
        );
        let status = status.expect("it was waited for");
        // Somebody that it started may still hold its output; what it printed itself is there.
        status.code().map_or_else(|| format!("-{}", status.signal().unwrap_or(0)), |code| code.to_string())
    }

    /// Waits for the end; gives what was printed.
    fn end(mut self) -> (Case, Printed) {
        let exit = self.wait();
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panics");
        }
        (self.case.clone(), self.printed(&exit))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Each look at the cluster is a client.
            let output = self.stdout();
            let lines: Vec<&str> = output.lines().filter(|line| !line.contains("Accepted client")).collect();
            eprintln!("--- {} printed:\n{}", self.case.line, lines.join("\n"));
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            into.lock().expect("no reader panics").extend_from_slice(&bytes[..length]);
        }
    })
}

impl Replay {
    /// Starts the next command.
    fn start(&mut self) -> Running {
        let case = self.take().expect("a command is left");
        Running::start(&self.shell, case)
    }

    /// Starts the next command with this line, which stands further on.
    fn start_early(&mut self, line: &str) -> Running {
        let is_it = |step: &Step| matches!(step, Step::Run(case) if case.line == line);
        let at = self.steps.iter().position(is_it).unwrap_or_else(|| panic!("no command {line}"));
        let Some(Step::Run(case)) = self.steps.remove(at) else { unreachable!("a command was found") };
        let case = self.with_difference(case);
        Running::start(&self.shell, case)
    }

    /// Waits until a command that goes on has printed what it should, and the files that follow are as they should
    /// be; not for ever.
    fn watch(&mut self, running: &mut Running) {
        let start = Instant::now();
        let expected = running.case.expected.clone();
        while start.elapsed() < PATIENCE / 3 {
            let printed = running.printed(&expected.exit);
            if self.agree(&running.case, &expected, &printed) && self.files_agree() || running.has_ended() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn files_agree(&self) -> bool {
        let checks = self.steps.iter().map_while(|step| match step {
            Step::Check { path, content, .. } => Some((path, content)),
            _ => None,
        });
        let mut differs = checks.filter(|&(path, content)| {
            std::fs::read(self.shell.folder.join(path)).ok().as_deref() != Some(self.wanted(path, content))
        });
        differs.next().is_none()
    }

    /// Sees a command through: one that goes on until it has printed everything, another until it ends.
    fn settle(&mut self, mut running: Running) {
        if running.case.expected.exit == "running" {
            self.check(&mut running);
        } else {
            let (case, printed) = running.end();
            self.judge(&case, &printed);
        }
    }

    /// Judges a command that goes on, when it has printed everything.
    fn check(&mut self, running: &mut Running) {
        self.watch(running);
        let exit = if running.has_ended() { running.wait() } else { "running".to_owned() };
        self.judge(&running.case, &running.printed(&exit));
    }

    /// Sees the next command through.
    fn play(&mut self) {
        let running = self.start();
        self.settle(running);
    }

    /// Runs a question, and again if the answers are not those expected: a packet may be lost, or late on a busy
    /// machine, and what was changed takes a moment to be seen.
    fn ask(&mut self, case: &Case) {
        let start = Instant::now();
        let mut printed = self.shell.run(case);
        let mut asked = 1;
        while !self.agree(case, &case.expected, &printed)
            && (asked < ATTEMPTS || start.elapsed() < PATIENCE / 6)
        {
            std::thread::park_timeout(Duration::from_millis(100));
            printed = self.shell.run(case);
            asked += 1;
        }
        self.judge(case, &printed);
    }

    /// Checks the next file.
    fn check_file(&mut self) {
        let step = self.steps.pop_front().expect("a file is next");
        assert!(self.perform(step).is_none(), "a file is next");
    }

    /// Writes the next file, which the format cannot tell from one that is to be checked.
    fn put_file(&mut self) {
        match self.steps.pop_front() {
            Some(Step::Check { path, content, .. } | Step::Write { path, content }) => {
                std::fs::write(self.shell.folder.join(path), content).expect("the folder is ours");
            }
            other => panic!("a file was to be next: {other:?}"),
        }
    }

    /// What the next command should print.
    fn expected(&self) -> String {
        let of = |step: &Step| match step {
            Step::Run(case) => Some(String::from_utf8_lossy(&case.expected.stdout).into_owned()),
            _ => None,
        };
        self.steps.iter().find_map(of).unwrap_or_default()
    }

    /// The line of the next command.
    fn line(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| match step {
            Step::Run(case) => Some(&*case.line),
            _ => None,
        })
    }
}

/// Each replays files on hosts of its own, and gives what was not as it should be.
const GROUPS: [fn(Runtime) -> Vec<String>; 26] = [
    agents::addresses,
    agents::names,
    agents::joins,
    agents::ipv6,
    agents::no_flags,
    agents::discovery,
    agents::discovery_without_ipv6,
    agents::old_events,
    agents::signals,
    agents::name_conflict,
    agents::silence,
    agents::odd_values,
    clusters::events_and_queries,
    clusters::views,
    clusters::changes,
    files::files,
    files::reload,
    files::trip_ups,
    files::syslog,
    keys::keys,
    pairs::monitor,
    pairs::forced_leave,
    single::tokens,
    single::bad_connections,
    single::odd_input,
    single::lost_connection,
];

on_every_runtime!(programs_print_what_the_reference_prints);

/// All at the same time: what they do is mostly waiting.
fn programs_print_what_the_reference_prints(runtime: Runtime) {
    if !can_make_hosts() {
        return;
    }
    let problems: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = GROUPS.iter().map(|group| scope.spawn(move || group(runtime))).collect();
        let problems = |thread: ScopedJoinHandle<'_, Vec<String>>| {
            thread.join().unwrap_or_else(|_| vec!["a replay broke off; see above\n".to_owned()])
        };
        threads.into_iter().flat_map(problems).collect()
    });
    assert!(problems.is_empty(), "{}", problems.concat());
}
