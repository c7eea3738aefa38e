//! Golden transcripts: command lines, and everything that the reference program printed for them.
//!
//! This module knows the format (golden/README.md), runs a command line as the program `serf`, and compares. What
//! varies from run to run is made equal on both sides (`vary.rs`). What differs on purpose stands with its reason
//! in a second file, `NAME.ours.txt`. Invariant: such a difference must show, so that none outlives its reason.

mod vary;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a command printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The exit status; behind a minus sign the signal that killed it; or a word of the format.
    pub(crate) exit: String,
}

/// One command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub(crate) line: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) expected: Printed,
    /// In files of differences: which of the commands with this line is meant, from 1.
    nth: usize,
    /// In files of differences: the reason.
    why: String,
}

/// One step of a transcript.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Run(Case),
    /// A file that the next command finds.
    Write {
        path: String,
        content: Vec<u8>,
    },
    /// What a file holds now.
    Check {
        path: String,
        content: Vec<u8>,
        /// In files of differences: which look at this file is meant, from 1.
        nth: usize,
    },
    /// Who may read and write a file: octal digits.
    Mode {
        path: String,
        digits: String,
    },
}

/// Where command lines run: behind which program, with which variables, in which folder.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    /// A program and its words that run the words behind them; may be empty.
    pub(crate) wrapper: Vec<String>,
    /// Variables that a case can override.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The event loop that agents are told to use; without one their command lines are as recorded.
    pub(crate) runtime: Option<&'static str>,
    /// The working directory, which also holds the program under the name `serf`.
    pub(crate) folder: PathBuf,
}

impl Shell {
    /// Puts the program into `folder`.
    pub(crate) fn new(folder: &Path, wrapper: &[&str]) -> Shell {
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).expect("the folder is ours");
        let link = bin.join("serf");
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_villein"), link).expect("the folder is ours");
        }
        let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        Shell { wrapper, variables: Vec::new(), runtime: None, folder: folder.to_owned() }
    }

    /// The process of the command is the one that is started: every program on the way replaces itself.
    pub(crate) fn command(&self, case: &Case) -> Command {
        let shell = if case.line.contains("$'") { "bash" } else { "sh" };
        let mut line = format!("exec {}", case.line);
        if let Some(runtime) = self.runtime {
            line = line.replacen("exec serf agent", &format!("exec serf agent -runtime={runtime}"), 1);
        }
        let inner = [shell, "-c", &line];
        let mut words = self.wrapper.iter().map(String::as_str).chain(inner);
        let mut command = Command::new(words.next().expect("there is a shell at least"));
        let path = format!("{}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.display());
        command.args(words).env_clear().env("PATH", path).env("LANG", "C.UTF-8").current_dir(&self.folder);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.envs(case.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end, which must not be far.
    pub(crate) fn run(&self, case: &Case) -> Printed {
        let mut limited = self.clone();
        limited.wrapper.splice(0..0, ["timeout", "--foreground", "--signal=KILL", "60"].map(str::to_owned));
        let mut command = limited.command(case);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that does not read may be gone by now.
        let _ = std::io::Write::write_all(&mut stdin, &case.stdin);
        drop(stdin);
        Printed::from(child.wait_with_output().expect("it is our child"))
    }
}

impl Case {
    /// A command that no transcript shows.
    pub(crate) fn of(line: &str) -> Case {
        Case { line: line.to_owned(), ..Case::default() }
    }
}

impl From<Output> for Printed {
    fn from(output: Output) -> Printed {
        use std::os::unix::process::ExitStatusExt;
        let exit = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("-{}", signal.unwrap_or(0)),
        };
        Printed { stdout: output.stdout, stderr: output.stderr, exit }
    }
}

/// A transcript that is being replayed.
pub(crate) struct Replay {
    pub(crate) name: &'static str,
    pub(crate) steps: VecDeque<Step>,
    pub(crate) shell: Shell,
    differences: Vec<Step>,
    /// How often each line was taken.
    taken: HashMap<String, usize>,
    /// Help texts by command.
    help: HashMap<String, String>,
    problems: Vec<String>,
}

impl Replay {
    /// Opens `golden/NAME.txt`, and the differences beside it.
    pub(crate) fn open(name: &'static str, shell: &Shell) -> Replay {
        let runtime = shell.runtime.unwrap_or("smol");
        let steps = |text: String| {
            let mut steps = parse(&text);
            for step in &mut steps {
                if let Step::Run(Case { expected, .. }) = step {
                    expected.stdout = vary::with_runtime(&expected.stdout, runtime);
                }
            }
            steps
        };
        let differences = read(&format!("{name}.ours")).map(steps).unwrap_or_default();
        let text = read(name).unwrap_or_else(|| panic!("no golden file {name}.txt"));
        Replay {
            name,
            steps: steps(text).into(),
            shell: shell.clone(),
            differences,
            taken: HashMap::new(),
            help: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// The next command; the files before it are written or checked.
    pub(crate) fn take(&mut self) -> Option<Case> {
        loop {
            let step = self.steps.pop_front()?;
            if let Some(case) = self.perform(step) {
                return Some(case);
            }
        }
    }

    /// Writes or checks a file; gives back a command.
    pub(crate) fn perform(&mut self, step: Step) -> Option<Case> {
        match step {
            Step::Run(case) => return Some(self.with_difference(case)),
            Step::Write { path, content } => {
                std::fs::write(self.shell.folder.join(path), content).expect("the folder is ours");
            }
            Step::Check { path, content, .. } => self.check_content(&path, &content),
            Step::Mode { path, digits } => {
                use std::os::unix::fs::PermissionsExt;
                let mode =
                    std::fs::metadata(self.shell.folder.join(&path)).map(|file| file.permissions().mode());
                let found = format!("{:o}", mode.unwrap_or(0) & 0o777);
                if found != digits {
                    self.problems.push(format!("the mode of {path} should be {digits} and is {found}"));
                }
            }
        }
        None
    }

    /// What a file should hold when it is looked at next.
    pub(crate) fn wanted<'a>(&'a self, file: &str, recorded: &'a [u8]) -> &'a [u8] {
        self.difference_in(file).map_or(recorded, |at| match &self.differences[at] {
            Step::Check { content, .. } => content,
            _ => recorded,
        })
    }

    fn difference_in(&self, file: &str) -> Option<usize> {
        let looks = 1 + self.taken.get(&format!("the file {file}")).copied().unwrap_or(0);
        let is_meant =
            |step: &Step| matches!(step, Step::Check { path, nth, .. } if path == file && *nth == looks);
        self.differences.iter().position(is_meant)
    }

    fn check_content(&mut self, path: &str, recorded: &[u8]) {
        let found = std::fs::read(self.shell.folder.join(path)).unwrap_or_default();
        let wanted = self.wanted(path, recorded).to_vec();
        if found != wanted {
            let (wanted, found) = (vary::shown(&wanted), vary::shown(&found));
            self.problems.push(format!("the file {path}\nshould be:\n{wanted}\nis:\n{found}"));
        }
        if let Some(at) = self.difference_in(path) {
            self.differences.remove(at);
            if wanted == recorded {
                self.problems.push(format!("the file {path}: the intended difference is none any more"));
            }
        }
        *self.taken.entry(format!("the file {path}")).or_default() += 1;
    }

    /// Puts what is intended in the place of what the reference printed.
    pub(crate) fn with_difference(&mut self, mut case: Case) -> Case {
        let nth = self.taken.entry(case.line.clone()).or_default();
        *nth += 1;
        let is_meant =
            |step: &Step| matches!(step, Step::Run(other) if other.line == case.line && other.nth == *nth);
        let at = self.differences.iter().position(is_meant);
        if let Some(Step::Run(intended)) = at.map(|at| self.differences.remove(at)) {
            if case.expected == intended.expected || self.agree(&case, &case.expected, &intended.expected) {
                self.problems.push(format!("{}: the intended difference is none any more", case.line));
            }
            case.expected = intended.expected;
            case.why = intended.why;
        }
        case
    }

    /// Whether a command printed what it should.
    pub(crate) fn agree(&mut self, case: &Case, expected: &Printed, printed: &Printed) -> bool {
        let [expected, printed] = self.comparable(case, expected, printed);
        expected == printed
    }

    /// Both as text: standard output, standard error, end.
    fn comparable(&mut self, case: &Case, expected: &Printed, printed: &Printed) -> [[String; 3]; 2] {
        let text = |printed: &Printed| {
            [vary::shown(&printed.stdout), vary::shown(&printed.stderr), printed.exit.clone()]
        };
        let (mut expected, mut printed) = (text(expected), text(printed));
        for (wanted, got) in expected.iter_mut().zip(&mut printed).take(2) {
            *wanted = self.with_help(wanted);
            if wanted != got {
                (*wanted, *got) = vary::settled(&case.line, wanted, got);
            }
        }
        [expected, printed]
    }

    /// Help is ours; the transcript says where it stands.
    fn with_help(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some((before, rest)) = text.split_once("<<help text of \"") {
            let (command, after) = rest.split_once("\">>").expect("the marker ends");
            let shell = &self.shell;
            let help = self.help.entry(command.to_owned()).or_insert_with(|| {
                let help = vary::shown(&shell.run(&Case::of(&format!("serf {command} --help"))).stderr);
                assert!(help.starts_with(&format!("Usage: serf {command}")), "{help}");
                help.trim_end().to_owned()
            });
            text = format!("{before}{help}{after}");
        }
        text
    }

    /// Notes it when a command did not print what it should.
    pub(crate) fn judge(&mut self, case: &Case, printed: &Printed) {
        let [expected, printed] = self.comparable(case, &case.expected, printed);
        if expected != printed {
            let show = |[stdout, stderr, exit]: &[String; 3]| {
                format!("@@ stdout\n{stdout}@@ stderr\n{stderr}@@ exit {exit}")
            };
            let why = if case.why.is_empty() { String::new() } else { format!(" ({})", case.why) };
            let (expected, printed) = (show(&expected), show(&printed));
            self.problems.push(format!("{}{why}\nshould print:\n{expected}\nprints:\n{printed}", case.line));
        }
    }

    /// Runs the next command, which ends by itself; false when none is left.
    pub(crate) fn next(&mut self) -> bool {
        let Some(case) = self.take() else { return false };
        let printed = self.shell.run(&case);
        self.judge(&case, &printed);
        true
    }

    /// Runs what is left, and gives everything that was not as it should be.
    pub(crate) fn finish(mut self) -> Vec<String> {
        while self.next() {}
        for step in &self.differences {
            self.problems.push(format!("an intended difference never occurred: {step:?}"));
        }
        self.problems.into_iter().map(|problem| format!("{}: {}\n", self.name, folded(&problem))).collect()
    }
}

fn read(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    std::fs::read_to_string(path).ok()
}

/// A line `@@ WORD rest` and the lines up to the next one.
struct Block<'a> {
    word: &'a str,
    rest: &'a str,
    body: &'a str,
}

impl Block<'_> {
    /// The bytes that the body stands for.
    fn bytes(&self) -> Vec<u8> {
        if self.word.ends_with("-hex") {
            let digits = self.body.trim_end();
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("the digits are hexadecimal");
            return (0..digits.len()).step_by(2).map(byte).collect();
        }
        let is_cut = self.rest.ends_with("(no final newline)");
        self.body.strip_suffix('\n').filter(|_| is_cut).unwrap_or(self.body).as_bytes().to_vec()
    }

    /// The body without the empty line that separates it from the next block.
    fn without_separator(mut self) -> Self {
        if self.body == "\n" || self.body.ends_with("\n\n") {
            self.body = &self.body[..self.body.len() - 1];
        }
        self
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let starts = text.match_indices("@@ ").map(|(at, _)| at);
    let starts: Vec<usize> = starts.filter(|&at| at == 0 || text[..at].ends_with('\n')).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let block = |(&start, end): (&usize, usize)| {
        let (head, body) = text[start + 3..end].split_once('\n').expect("a block has a first line");
        let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
        Block { word, rest, body }
    };
    starts.iter().zip(ends).map(block).collect()
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut case: Option<Case> = None;
    let mut why = String::new();
    for block in blocks(text) {
        const ORPHAN: &str = "the block belongs to a command";
        match block.word {
            "title" | "setup" | "note" => {}
            "packets" => {
                let content = block.without_separator().bytes();
                steps.push(Step::Check { path: "packets".to_owned(), content, nth: 1 });
            }
            "mode" => {
                let path = block.rest.trim_start_matches("of ").to_owned();
                steps.push(Step::Mode { path, digits: block.body.trim().to_owned() });
            }
            "why" => why = block.body.split_whitespace().collect::<Vec<_>>().join(" "),
            "cmd" => {
                let nth = block.rest.parse().unwrap_or(1);
                let line = unfolded(block.body.strip_suffix('\n').unwrap_or(block.body));
                case = Some(Case { line, nth, why: std::mem::take(&mut why), ..Case::default() });
            }
            "env" => {
                let pairs = block.body.lines().filter_map(|line| line.split_once('='));
                let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
                case.as_mut().expect(ORPHAN).env = pairs.collect();
            }
            "stdin" => case.as_mut().expect(ORPHAN).stdin = block.bytes(),
            "stdout" | "stdout-hex" => case.as_mut().expect(ORPHAN).expected.stdout = block.bytes(),
            "stderr" => case.as_mut().expect(ORPHAN).expected.stderr = block.bytes(),
            "exit" => {
                let mut case = case.take().expect(ORPHAN);
                block.rest.split(' ').next().unwrap_or_default().clone_into(&mut case.expected.exit);
                steps.push(Step::Run(case));
            }
            "file" => {
                let mut words = block.rest.split([' ', ',']);
                let path = words.next().unwrap_or_default().to_owned();
                let nth = words.find_map(|word| word.parse().ok()).unwrap_or(1);
                let is_input = !block.body.ends_with("\n\n");
                let content = block.without_separator().bytes();
                steps.push(if is_input {
                    Step::Write { path, content }
                } else {
                    Step::Check { path, content, nth }
                });
            }
            other => panic!("unknown block @@ {other}"),
        }
    }
    steps
}

/// Long runs of one letter are abbreviated, as in the transcripts.
fn folded(text: &str) -> String {
    let Some(at) = text.find("xxxxxxxxxxxxxxxxxxxx") else { return text.to_owned() };
    let length = text[at..].bytes().take_while(|&byte| byte == b'x').count();
    format!("{}<<x repeated {length} times>>{}", &text[..at], folded(&text[at + length..]))
}

/// Long runs of one letter are abbreviated.
fn unfolded(line: &str) -> String {
    let Some((before, rest)) = line.split_once("<<x repeated ") else { return line.to_owned() };
    let (count, after) = rest.split_once(" times>>").expect("the marker ends");
    format!("{before}{}{after}", "x".repeat(count.parse().expect("it says how often")))
}
