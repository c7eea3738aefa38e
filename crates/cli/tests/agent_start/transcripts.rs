//! Golden transcripts of agents that start: with which flags and files, and what they say when they do not.
//!
//! Each is replayed on a loopback address of its own, which stands for the one of the transcript. An agent that
//! runs is killed when the next one starts, as by the recorder.

use crate::runtime::{Runtime, on_every_runtime};
use crate::transcript::{Case, Printed, Replay, Shell, Step};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where the agents of the transcripts are.
const RECORDED: &str = "127.0.0.1";

/// How long a slow machine may take for a line.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transcript on an address of its own.
struct Stage {
    replay: Replay,
    folder: PathBuf,
    address: String,
    running: Option<Running>,
}

/// An agent that goes on. It is killed when dropped.
struct Running {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    printed: Printed,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    fn new(runtime: Runtime, name: &'static str, address: &str) -> Stage {
        let address = runtime.here(address);
        let folder = format!("{}-{}", name.replace('/', "-"), runtime.name());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        // What an earlier run has left, if there was one.
        let _ = std::fs::remove_dir_all(&folder);
        // That of agents that are not told one is smol.
        let runtime = (runtime != Runtime::Smol).then_some(runtime.name());
        let mut shell = Shell { runtime, ..Shell::new(&folder, &[]) };
        shell.variables.push(("SERF_RPC_ADDR", format!("{address}:7373")));
        let mut replay = Replay::open(name, &shell);
        for step in &mut replay.steps {
            if let Step::Write { content, .. } = step {
                *content = swapped(content, RECORDED, &address);
            }
        }
        Stage { replay, folder, address, running: None }
    }

    fn write(&self, path: &str, content: &str) {
        std::fs::write(self.folder.join(path), content).expect("the folder is ours");
    }

    /// As the transcript shows it.
    fn as_recorded(&self, printed: &Printed) -> Printed {
        let back = |bytes: &[u8]| swapped(bytes, &self.address, RECORDED);
        Printed { stdout: back(&printed.stdout), stderr: back(&printed.stderr), exit: printed.exit.clone() }
    }

    fn here(&self, case: &Case) -> Case {
        let mut here = case.clone();
        here.line = case.line.replace(RECORDED, &self.address);
        here
    }

    /// How many commands are left.
    fn left(&self) -> usize {
        self.replay.steps.iter().filter(|step| matches!(step, Step::Run(_))).count()
    }

    /// Sees the next command through.
    fn play(&mut self) {
        let case = self.replay.take().expect("a command is left");
        if !case.line.starts_with("serf agent") {
            let printed = self.replay.shell.run(&self.here(&case));
            return self.replay.judge(&case, &self.as_recorded(&printed));
        }
        self.start(&case);
        if case.expected.exit == "running" {
            self.watch(&case);
        } else {
            self.await_end(&case);
        }
    }

    fn start(&mut self, case: &Case) {
        self.running = None;
        let mut command = self.replay.shell.command(&self.here(case));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = pieces(child.stdout.take().expect("it is piped"));
        let stderr = pieces(child.stderr.take().expect("it is piped"));
        let printed = Printed { exit: "running".to_owned(), ..Printed::default() };
        self.running = Some(Running { child, stdout, stderr, printed });
    }

    /// Judges an agent that ends by itself; one that does not is left to be killed.
    fn await_end(&mut self, case: &Case) {
        let deadline = Instant::now() + PATIENCE;
        while self.hear(deadline) {}
        let running = self.running.as_mut().expect("an agent was started");
        if Instant::now() < deadline {
            let output = running.child.wait().expect("the child is ours");
            let stderr = running.stderr.iter().collect::<Vec<_>>().concat();
            let stdout = std::mem::take(&mut running.printed.stdout);
            running.printed = Printed::from(Output { status: output, stdout, stderr });
        }
        let printed = running.printed.clone();
        self.running = None;
        let printed = self.as_recorded(&printed);
        self.replay.judge(case, &printed);
    }

    /// Judges an agent that goes on, as soon as it has printed everything that it should.
    fn watch(&mut self, case: &Case) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.running.as_ref().expect("an agent was started");
            let printed = self.as_recorded(&running.printed);
            if self.replay.agree(case, &case.expected, &printed) || !self.hear(deadline) {
                return self.replay.judge(case, &printed);
            }
        }
    }

    /// Takes the next piece that the agent prints; false if there is none.
    fn hear(&mut self, deadline: Instant) -> bool {
        let running = self.running.as_mut().expect("an agent was started");
        let left = deadline.saturating_duration_since(Instant::now());
        let piece = running.stdout.recv_timeout(left);
        let is_there = piece.is_ok();
        running.printed.stdout.extend(piece.unwrap_or_default());
        is_there
    }

    fn finish(mut self) {
        while self.left() > 0 {
            self.play();
        }
        self.running = None;
        let problems = self.replay.finish();
        assert!(problems.is_empty(), "{}", problems.concat());
    }
}

/// What is written to a pipe, as it comes.
fn pieces(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if sender.send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn swapped(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from.as_bytes()) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

on_every_runtime! {
    configuration_files_are_read_as_by_the_reference,
    flags_are_read_as_by_the_reference,
    keys_that_the_reference_ignores_have_an_effect,
}

fn configuration_files_are_read_as_by_the_reference(runtime: Runtime) {
    let mut stage = Stage::new(runtime, "agent/config-files", "127.41.1.1");
    stage.play();
    // The recorder has left out that this file is empty, that this entry is a directory, and the last file.
    stage.write("c.json", "");
    std::fs::create_dir_all(stage.folder.join("d/sub.json")).expect("the folder is ours");
    while stage.left() > 1 {
        stage.play();
    }
    stage.write("d/z.json", "{bad");
    stage.finish();
}

fn flags_are_read_as_by_the_reference(runtime: Runtime) {
    Stage::new(runtime, "agent/start-flags", "127.41.1.2").finish();
}

fn keys_that_the_reference_ignores_have_an_effect(runtime: Runtime) {
    let mut stage = Stage::new(runtime, "agent/no-effect-keys", "127.41.1.3");
    let is_file = |step: &Step| matches!(step, Step::Check { .. });
    let at = stage.replay.steps.iter().position(is_file).expect("it has a file");
    if let Some(Step::Check { path, content, .. }) = stage.replay.steps.remove(at) {
        std::fs::write(stage.folder.join(path), content).expect("the folder is ours");
    }
    // What the agent printed stands at the end.
    let Some(Step::Run(case)) = stage.replay.steps.pop_back() else {
        panic!("the agent is the last command")
    };
    let case = stage.replay.with_difference(case);
    stage.start(&case);
    let deadline = Instant::now() + PATIENCE;
    let heard = |stage: &Stage| {
        let running = stage.running.as_ref().expect("an agent was started");
        String::from_utf8_lossy(&running.printed.stdout).contains("script output: run")
    };
    while !heard(&stage) && stage.hear(deadline) {}
    while stage.left() > 0 {
        stage.play();
    }
    stage.watch(&case);
    stage.finish();
}
