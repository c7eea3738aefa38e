//! Command lines that need no agent print, byte for byte, what the reference program prints.

mod transcript;

use std::path::Path;
use transcript::{Replay, Shell, Step};

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
