//! From the words of the command line to one command (cli.md 1.1), and from its ending to an exit status.
//!
//! Decides which command runs, who shows help and where (stderr when asked for, stdout after a mistake).
//! What a command does is its own affair. Invariant: every ending prints at most one help text.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Command, FromArgMatches};

use crate::args::{self, Invocation};
use crate::commands::{self, Failure};
use crate::goflags::{self, Fault, Rewritten};
use crate::{agent, govalue, help};

/// Exit status when no command is named.
const NO_COMMAND: u8 = 127;
/// Exit status when nobody reads the output any more: what a shell shows for SIGPIPE.
const BROKEN_PIPE: u8 = 128 + 13;

/// What the words ask for.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    /// The version, whatever else there is.
    Version,
    /// The list of commands, with this exit status.
    List(u8),
    /// The help of this command.
    Help(&'a str),
    /// Flags stand before this command.
    Misplaced(&'a str),
    /// This command with the words behind its name.
    Run(&'a str, &'a [OsString]),
}

/// Runs the program: `line` is its name and the words behind it. Returns the exit status.
pub fn run(line: &[OsString]) -> u8 {
    let (name, words) = match line.split_first() {
        Some((name, words)) => (Path::new(name).file_name().unwrap_or(name), words),
        None => (OsStr::new(args::PROGRAM), line),
    };
    let shell = Shell { name: name.to_string_lossy().into_owned(), program: args::program() };
    let ended = match plan(&shell.program, words) {
        Plan::Version => shell.execute("version", &[]),
        Plan::List(status) => shell.list(&mut io::stderr()).map(|()| status),
        // The reference program has no help for it, but the empty line.
        Plan::Help("version") => writeln!(io::stderr()).map(|()| 0),
        Plan::Help(command) => writeln!(io::stderr(), "{}", shell.help(command)).map(|()| 0),
        Plan::Misplaced(command) => shell.misplaced(command, &mut io::stderr()).map(|()| 1),
        Plan::Run(command, words) => shell.execute(command, words),
    };
    ended.unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return BROKEN_PIPE;
        }
        // Standard output is what failed most likely, and there is no third place to say so.
        let _ = writeln!(io::stderr(), "Error: {error}");
        1
    })
}

fn plan<'a>(program: &'a Command, words: &'a [OsString]) -> Plan<'a> {
    let is_among = |word: &OsString, among: &[&str]| among.iter().any(|&one| word == one);
    if words.iter().any(|word| is_among(word, &["-v", "--version"])) {
        return Plan::Version;
    }
    let scanned = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let before = &words[..scanned];
    let help_wanted = before.iter().any(|word| is_among(word, &["-h", "-help", "--help"]));
    let is_name = |word: &OsString| !word.is_empty() && !word.as_bytes().starts_with(b"-");
    let Some(at) = before.iter().position(is_name) else {
        return Plan::List(if help_wanted { 0 } else { NO_COMMAND });
    };
    let Some(command) = before[at].to_str().and_then(|name| program.find_subcommand(name)) else {
        return Plan::List(NO_COMMAND);
    };
    let command = command.get_name();
    if help_wanted {
        return Plan::Help(command);
    }
    if before[..at].iter().any(|word| !word.is_empty()) {
        return Plan::Misplaced(command);
    }
    Plan::Run(command, &words[at + 1..])
}

/// The program under the name by which it was called.
struct Shell {
    name: String,
    program: Command,
}

impl Shell {
    fn list(&self, out: &mut impl Write) -> io::Result<()> {
        let mut commands: Vec<&Command> = self.program.get_subcommands().collect();
        commands.sort_by_key(|command| command.get_name());
        let width = commands.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
        writeln!(out, "Usage: {} [--version] [--help] <command> [<args>]\n", self.name)?;
        writeln!(out, "Available commands are:")?;
        for command in commands {
            let synopsis = command.get_about().map(ToString::to_string).unwrap_or_default();
            writeln!(out, "    {:width$}    {synopsis}", command.get_name())?;
        }
        writeln!(out)
    }

    fn misplaced(&self, command: &str, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Invalid flags before the subcommand. If these flags are for")?;
        writeln!(out, "the subcommand, please put them after the subcommand.\n")?;
        writeln!(out, "{}", self.help(command))
    }

    /// The help text without a newline at its end.
    fn help(&self, command: &str) -> String {
        help::of(self.definition(command), &self.name)
    }

    fn definition(&self, command: &str) -> &Command {
        self.program.find_subcommand(command).expect("the plan names only known commands")
    }

    fn execute(&self, command: &str, words: &[OsString]) -> io::Result<u8> {
        let mut out = io::stdout();
        match self.parse(command, words) {
            Ok(invocation) => match self.perform(invocation, &mut out) {
                Ok(status) => Ok(status),
                Err(failure) => self.fail(command, failure, &mut out).map(|()| 1),
            },
            Err(fault) => {
                if let Fault::Diagnostic(line) = fault {
                    io::stderr().write_all(&[&line[..], b"\n"].concat())?;
                }
                // The agent marks everything that it prints by itself.
                let mark = if command == "agent" { "==> " } else { "" };
                writeln!(out, "{mark}{}", self.help(command))?;
                Ok(1)
            }
        }
    }

    fn perform(&self, invocation: Invocation, out: &mut impl Write) -> Result<u8, Failure> {
        match invocation {
            Invocation::Agent(flags) => return Ok(agent::run(&flags, &self.name)),
            Invocation::Event(args) => commands::event::run(&args, out),
            Invocation::ForceLeave(args) => commands::force_leave::run(&args),
            Invocation::Info(args) => commands::info::run(&args, out),
            Invocation::Join(args) => commands::join::run(&args, out),
            Invocation::Keygen => commands::keygen::run(out),
            Invocation::Keys(args) => commands::keys::run(&args, out),
            Invocation::Leave(args) => commands::leave::run(&args, out),
            Invocation::Members(args) => commands::members::run(&args, out),
            Invocation::Monitor(args) => commands::monitor::run(&args, out),
            Invocation::Query(args) => commands::query::run(&args, out),
            Invocation::Reachability(args) => commands::reachability::run(&args, out),
            Invocation::Rtt(args) => commands::rtt::run(&args, out),
            Invocation::Tags(args) => commands::tags::run(&args, out),
            Invocation::Validate(args) => commands::validate::run(&args, out),
            Invocation::Version => commands::version::run(out),
        }?;
        Ok(0)
    }

    /// Reads the flags of the command. Commands without any do not look at their words.
    fn parse(&self, command: &str, words: &[OsString]) -> Result<Invocation, Fault> {
        let definition = self.definition(command);
        let mut line = vec![OsString::from(args::PROGRAM), OsString::from(command)];
        let mut fault = None;
        if definition.get_arguments().next().is_some() {
            let rewritten: Rewritten = goflags::rewrite(definition, words);
            line.extend(rewritten.words);
            fault = rewritten.fault;
        }
        let invocation = self
            .program
            .clone()
            .try_get_matches_from(line)
            .and_then(|matches| Invocation::from_arg_matches(&matches))
            .map_err(|error| match govalue::diagnostic(&error) {
                Some(message) => Fault::Diagnostic(message.as_bytes().to_vec()),
                None => unreachable!("the flags were rewritten for clap, which refuses: {error}"),
            })?;
        fault.map_or(Ok(invocation), Err)
    }

    /// Says why the command failed. An error of the output itself is handed on.
    fn fail(&self, command: &str, failure: Failure, out: &mut impl Write) -> io::Result<()> {
        match failure {
            Failure::Message(text) => out.write_all(&[&text[..], b"\n"].concat()),
            Failure::Told => Ok(()),
            Failure::Remark(text) => io::stderr().write_all(&[&text[..], b"\n"].concat()),
            Failure::Misuse(None) => writeln!(out, "{}", self.help(command)),
            Failure::Misuse(Some(mistake)) => writeln!(out, "{mistake}\n\n{}", self.help(command)),
            Failure::Io(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("''", "").into()).collect()
    }

    #[test]
    fn plans() {
        let cases = [
            ("", Plan::List(127)),
            ("--help", Plan::List(0)),
            ("-h", Plan::List(0)),
            ("help", Plan::List(127)),
            ("nosuch --help", Plan::List(127)),
            ("''", Plan::List(127)),
            ("-foo", Plan::List(127)),
            ("-version", Plan::List(127)),
            ("-- members", Plan::List(127)),
            ("-- -h", Plan::List(127)),
            ("member", Plan::List(127)),
            ("event deploy -- -v", Plan::Version),
            ("-foo nosuch --version", Plan::Version),
            ("members -rpc-addr -v", Plan::Version),
            ("members -v=1", Plan::Run("members", &[])),
            ("-h members", Plan::Help("members")),
            ("-foo members -help", Plan::Help("members")),
            ("event deploy x y -h", Plan::Help("event")),
            ("-foo members", Plan::Misplaced("members")),
            ("- members", Plan::Misplaced("members")),
            ("'' members", Plan::Run("members", &[])),
        ];
        let program = args::program();
        for (line, expected) in cases {
            let words = words(line);
            let planned = match plan(&program, &words) {
                Plan::Run(command, _) => Plan::Run(command, &[]),
                other => other,
            };
            assert_eq!(planned, expected, "{line}");
        }
    }

    #[test]
    fn the_command_gets_the_words_behind_its_name() {
        let program = args::program();
        let words = words("event deploy -- -h");
        assert_eq!(plan(&program, &words), Plan::Run("event", &words[1..]));
    }

    #[test]
    fn clap_takes_every_flag_with_any_value_or_diagnoses_it() {
        let shell = Shell { name: "serf".to_owned(), program: args::program() };
        let mut flags = 0;
        for command in shell.program.get_subcommands() {
            let name = command.get_name();
            for flag in command.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases).flatten()
            {
                flags += 1;
                for value in [&b""[..], b"1", b"-", b"--", b"-x", b"a,b", b"=", b"\xff", b"\n"] {
                    let word = OsStr::from_bytes(&[b"-", flag.as_bytes(), b"=", value].concat()).to_owned();
                    match shell.parse(name, &[word.clone(), word, OsString::from("-"), OsString::new()]) {
                        Ok(_) => {}
                        Err(Fault::Diagnostic(line)) => assert!(line.starts_with(b"invalid "), "{line:?}"),
                        Err(Fault::HelpWanted) => panic!("{name} -{flag} asked for no help"),
                    }
                }
            }
        }
        assert!(flags > 60, "only {flags} flags were found");
    }

    #[test]
    fn help_begins_with_the_name_of_the_caller() {
        let shell = Shell { name: "serf".to_owned(), program: args::program() };
        let begins = [
            ("event", "Usage: serf event [flags] NAME [PAYLOAD]\n\n  Sends a custom event"),
            ("keygen", "Usage: serf keygen\n\n  Generates"),
            ("members", "Usage: serf members [flags]\n\n  Lists the members"),
        ];
        for (command, expected) in begins {
            let help = shell.help(command);
            assert!(help.starts_with(expected), "{help}");
            assert!(!help.ends_with('\n'));
        }
    }

    #[test]
    fn commands_are_listed_in_columns() {
        let shell = Shell { name: "serf".to_owned(), program: args::program() };
        let mut listed = Vec::new();
        shell.list(&mut listed).expect("a vector takes everything");
        let listed = String::from_utf8(listed).expect("synopses are text");
        assert!(listed.starts_with("Usage: serf [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n    agent           Runs"), "{listed}");
        assert!(listed.contains("\n    reachability    Tests"), "{listed}");
        assert!(listed.ends_with("\n    version         Prints the version\n\n"), "{listed}");
    }
}
