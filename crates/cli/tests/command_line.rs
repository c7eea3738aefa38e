//! Command lines that need no agent print, byte for byte, what the reference program prints.

mod transcript;

use std::fs;
use std::path::{Path, PathBuf};
use transcript::{Case, Replay, Shell, Step};
use villein_agent::config::File;

/// Nothing listens here: it is loopback, and the port is never handed out by the system.
const AGENT: &str = "127.77.255.254:7373";

/// The transcripts were made where nothing listened on the default address, which cannot be said of this machine.
fn replay(name: &'static str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace('/', "-"));
    let mut shell = Shell::new(&folder, &[]);
    shell.variables.push(("SERF_RPC_ADDR", AGENT.to_owned()));
    let mut replay = Replay::open(name, &shell);
    assert!(replay.steps.len() > 10, "only {} commands were found", replay.steps.len());
    for step in &mut replay.steps {
        if let Step::Run(case) = step {
            let text = String::from_utf8(case.expected.stdout.clone()).expect("these outputs are text");
            case.expected.stdout = text.replace("127.0.0.1:7373", AGENT).into_bytes();
        }
    }
    let problems = replay.finish();
    assert!(problems.is_empty(), "{}", problems.concat());
}

#[test]
fn the_top_level() {
    replay("cli/00-top-level");
}

#[test]
fn the_syntax_of_flags() {
    replay("cli/01-flag-syntax");
}

#[test]
fn requests_for_help() {
    replay("cli/02-help");
}

#[test]
fn arguments_that_are_missing() {
    replay("cli/03-missing-arguments");
}

#[test]
fn more_mistakes() {
    replay("cli/04-more-mistakes");
}

/// A file of the repository.
fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Standard error of a command line that asks for help.
fn help(words: &str) -> String {
    let shell = Shell::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("help"), &[]);
    String::from_utf8(shell.run(&Case::of(&format!("serf {words}"))).stderr).expect("help is text")
}

/// What stands between this heading and the next one of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("\n{heading}\n"))?;
    let level = heading.split(' ').next().unwrap_or_default().len();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    Some(&rest[..ends.min().unwrap_or(rest.len())])
}

/// What the rows are about that begin with a name in backticks, without what stands before all of them.
fn rows<'a>(section: &'a str, before: &str) -> Vec<&'a str> {
    let start = format!("| `{before}");
    section.lines().filter_map(|line| line.strip_prefix(&start)?.split('`').next()).collect()
}

/// The flags that a help text lists, without dashes.
fn flags(help: &str) -> Vec<&str> {
    let labels = help.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next());
    let names = labels.flat_map(|label| label.split(", ")).filter_map(|name| name.strip_prefix('-'));
    let mut names: Vec<&str> = names.map(|name| name.split('=').next().unwrap_or(name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn the_page_on_compatibility_names_every_flag() {
    let page = page("docs/compatibility.md");
    let common = section(&page, "### Every client command").expect("flags that all have stand in one place");
    let common = rows(common, "-");
    let list = help("--help");
    let commands: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("    ")?.split(' ').next()).collect();
    assert!(commands.contains(&"agent") && commands.len() > 14, "{commands:?}");
    let mut seen = 0;
    for command in commands {
        let own = section(&page, &format!("### `{command}`"));
        let own = rows(own.unwrap_or_else(|| panic!("no section about {command}")), "-");
        let help = help(&format!("{command} -help"));
        let flags = flags(&help);
        for flag in &flags {
            let is_common = command != "agent" && common.contains(flag);
            assert!(own.contains(flag) || is_common, "no row about {command} -{flag}");
        }
        for flag in own {
            assert!(flags.contains(&flag), "{command} has no flag -{flag}");
        }
        seen += flags.len();
    }
    assert!(seen > 80, "only {seen} flags were found");
}

#[test]
fn the_page_on_compatibility_names_every_key() {
    let page = page("docs/compatibility.md");
    let files = section(&page, "## Configuration files").expect("there is a section about files");
    let rows = rows(files, "");
    assert!(File::keys().len() > 40);
    for key in File::keys() {
        assert!(rows.contains(&key), "no row about {key}");
    }
    // One means nothing, here and elsewhere.
    let unknown = rows.iter().filter(|row| !File::keys().contains(row));
    assert_eq!(unknown.collect::<Vec<_>>(), [&"MsgpackUseNewTimeFormat"]);
}

#[test]
fn every_recording_is_replayed_somewhere() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = page("crates/cli/tests/golden/README.md");
    let replayed = section(&table, "## Where each is replayed").expect("the page has a table");
    let mut recordings = 0;
    for folder in ["agent", "cli"] {
        let files = fs::read_dir(tests.join("golden").join(folder)).expect("the folder is there");
        let names = files.map(|file| PathBuf::from(file.expect("it can be read").file_name()));
        for name in names.filter_map(|name| Some(name.to_str()?.strip_suffix(".txt")?.to_owned())) {
            let recording = format!("{folder}/{}", name.strip_suffix(".ours").unwrap_or(&name));
            let row = replayed.split(&format!("\n| {recording} | `")).nth(1);
            let row = row.unwrap_or_else(|| panic!("no row about {recording}"));
            let source = page(&format!("crates/cli/tests/{}", row.split('`').next().unwrap_or_default()));
            assert!(
                source.contains(&format!("\"{recording}\"")),
                "{recording} is not replayed where the table says"
            );
            recordings += 1;
        }
    }
    assert!(recordings > 60, "only {recordings} files were found");
}
