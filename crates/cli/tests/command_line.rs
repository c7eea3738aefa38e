//! Command lines that need no agent print, byte for byte, what the reference program prints.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// Nothing listens here: it is loopback, and the port is never handed out by the system.
const AGENT: &str = "127.77.255.254:7373";

fn run(variables: &[&str], words: &[&str]) -> io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_villein"));
    command.arg0("/usr/bin/serf").args(words).env_remove("SERF_RPC_AUTH").env("SERF_RPC_ADDR", AGENT);
    for variable in variables {
        let (name, value) = variable.split_once('=').expect("a variable has a value");
        command.env(name, value);
    }
    command.output()
}

fn stderr_of(words: &[&str]) -> String {
    let output = run(&[], words).expect("the program starts");
    String::from_utf8(output.stderr).expect("help is text").trim_end().to_owned()
}

/// The words of one line that stand for themselves; the command is the first of them that is no flag.
fn parse(line: &str) -> (Vec<&str>, Vec<&str>) {
    let mut parts = line.split(' ').map(|word| if word == "''" { "" } else { word });
    let variables = parts.by_ref().take_while(|&word| word != "serf").collect();
    (variables, parts.collect())
}

fn expected(lines: &str, stream: char, list: &str, help: &str) -> String {
    let of_stream = lines.lines().filter_map(|line| line.strip_prefix(stream));
    let text: String =
        of_stream.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect();
    text.replace("<list>", &format!("{list}\n"))
        .replace("<help>", help)
        .replace("<agent>", AGENT)
        .replace("<version>", env!("CARGO_PKG_VERSION"))
}

fn check(file: &str) {
    let list = stderr_of(&["--help"]);
    assert!(
        list.starts_with("Usage: serf [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n")
    );
    let mut cases = 0;
    for case in file.split("$ ").skip(1) {
        let (line, rest) = case.split_once('\n').expect("a case has more than its command line");
        let (variables, words) = parse(line);
        let help = if rest.contains("<help>") {
            let command = words.iter().find(|word| !word.starts_with('-')).expect("help is about a command");
            let help = stderr_of(&[command, "--help"]);
            assert!(help.starts_with(&format!("Usage: serf {command}")), "{help}");
            help
        } else {
            String::new()
        };
        let output = run(&variables, &words).expect("the program starts");
        let mut stdout = String::from_utf8(output.stdout).expect("the output is text");
        if rest.contains("<key>") {
            assert_eq!((stdout.len(), &stdout[43..]), (45, "=\n"), "{stdout}");
            "<key>\n".clone_into(&mut stdout);
        }
        assert_eq!(stdout, expected(rest, '1', &list, &help), "stdout of {line}");
        let stderr = String::from_utf8(output.stderr).expect("the output is text");
        assert_eq!(stderr, expected(rest, '2', &list, &help), "stderr of {line}");
        let status = rest.lines().find_map(|line| line.strip_prefix("= ")).expect("a case has a status");
        assert_eq!(output.status.code().map(|code| code.to_string()).as_deref(), Some(status), "{line}");
        cases += 1;
    }
    assert!(cases > 10, "only {cases} cases were found");
}

#[test]
fn the_top_level() {
    check(include_str!("golden/top-level.txt"));
}

#[test]
fn the_syntax_of_flags() {
    check(include_str!("golden/flag-syntax.txt"));
}

#[test]
fn requests_for_help() {
    check(include_str!("golden/help.txt"));
}

#[test]
fn arguments_that_are_missing() {
    check(include_str!("golden/missing-arguments.txt"));
}
