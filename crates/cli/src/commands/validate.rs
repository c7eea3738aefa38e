//! `validate`: reads configuration files as an agent would, and says what is wrong with them.
//!
//! Decides in which file and on which line a mistake stands; what is a mistake is decided where the agent decides
//! it. What depends on the machine, such as interfaces and ports, is left out. Invariant: files about which
//! nothing is said here are not refused by an agent because of their text.

use std::io::Write;
use std::path::{Path, PathBuf};

use villein_agent::config::File;
use villein_agent::config::decode::{Decoded, Problem, decode};
use villein_agent::config::settings;
use villein_core::text::Text;
use villein_host::address::HostPort;
use villein_host::files;

use super::{Failure, Outcome};
use crate::args::ValidateArgs;

/// One configuration file.
struct Source {
    path: String,
    /// Unless it cannot be read as such.
    decoded: Option<Decoded>,
    problems: Vec<Problem>,
}

pub(crate) fn run(args: &ValidateArgs, out: &mut impl Write) -> Outcome {
    let given = |path: &&PathBuf| !path.as_os_str().is_empty();
    let paths: Vec<PathBuf> = args.paths.iter().filter(given).cloned().collect();
    if paths.is_empty() {
        return Err(Failure::Misuse(Some("At least one file or directory must be specified.")));
    }
    let mut sources = Vec::new();
    let mut failed = false;
    for path in &paths {
        match files::read_config(std::slice::from_ref(path)) {
            Ok(files) => sources.extend(files.into_iter().map(|file| source(file.path, &file.bytes))),
            Err(message) => {
                failed = true;
                writeln!(out, "{message}")?;
            }
        }
    }
    let decoded = sources.iter().filter_map(|source| Some(source.decoded.as_ref()?.file.clone()));
    let merged = File::merged(decoded, &File::default());
    for conflict in settings::conflicts(&merged).into_iter().chain(kept_files(&merged)) {
        attribute(conflict, &mut sources);
    }
    for source in &mut sources {
        source.problems.sort_by_key(|problem| problem.line);
        for problem in &source.problems {
            failed = true;
            writeln!(out, "{}", shown(&source.path, problem))?;
        }
        if source.problems.is_empty() {
            writeln!(out, "{}: ok", source.path)?;
        }
    }
    for notice in settings::notices(&merged) {
        writeln!(out, "{notice}")?;
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

fn source(path: String, bytes: &[u8]) -> Source {
    let decoded = match decode(bytes) {
        Ok(decoded) => decoded,
        Err(error) => return Source { path, decoded: None, problems: error.problems },
    };
    // What is empty or zero is the same as nothing, which merging knows.
    let alone = File::merged([decoded.file.clone()], &File::default());
    let mut problems = settings::problems(&alone);
    problems.extend(addresses(&alone));
    for problem in &mut problems {
        problem.line = decoded.line(&problem.key);
    }
    problems.extend(decoded.rest.map(|line| Problem {
        line: Some(line),
        key: String::new(),
        reason: "what follows the first JSON value is ignored".to_owned(),
    }));
    Source { path, decoded: Some(decoded), problems }
}

/// Addresses to listen on, as far as they can be judged without a look at the network.
fn addresses(file: &File) -> Vec<Problem> {
    let text = |addr: &Option<Text>| addr.as_ref().map(Text::to_string);
    let given = [
        ("bind", text(&file.bind), false),
        ("advertise", text(&file.advertise), false),
        ("rpc_addr", text(&file.rpc_addr), true),
    ];
    let check = |(key, addr, needs_port): (&str, Option<String>, bool)| {
        let addr = addr?;
        let reason = match HostPort::parse(&addr) {
            Ok(parsed) if parsed.port.is_none() && needs_port => {
                format!("address {addr}: missing port in address")
            }
            Ok(_) => return None,
            Err(why) => why,
        };
        Some(Problem { line: None, key: key.to_owned(), reason })
    };
    given.into_iter().filter_map(check).collect()
}

/// What is wrong with the files of tags and keys, if they are there and may be read.
fn kept_files(merged: &File) -> Vec<Problem> {
    let bytes = |path: Option<&Path>| path.and_then(|path| files::read(path).ok().flatten());
    let tags = bytes(merged.tags_file.as_deref()).and_then(|bytes| settings::kept_tags(&bytes).err());
    let keys = bytes(merged.keyring_file.as_deref()).and_then(|bytes| settings::kept_keys(&bytes).err());
    let found = [("tags_file", tags), ("keyring_file", keys)];
    let problem = |(key, reason): (&str, Option<String>)| {
        Some(Problem { line: None, key: key.to_owned(), reason: reason? })
    };
    found.into_iter().filter_map(problem).collect()
}

/// Gives a problem of all files together to the last one that has a part in it.
fn attribute(mut problem: Problem, sources: &mut [Source]) {
    let line = |source: &Source| source.decoded.as_ref()?.line(&problem.key);
    let at = sources.iter().rposition(|source| line(source).is_some());
    let last = sources.len().checked_sub(1);
    let Some(source) = at.or(last).map(|at| &mut sources[at]) else { return };
    problem.line = source.decoded.as_ref().and_then(|decoded| decoded.line(&problem.key));
    source.problems.push(problem);
}

/// `FILE:LINE: 'KEY': REASON`, as far as it is known.
fn shown(path: &str, problem: &Problem) -> String {
    let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
    let key = if problem.key.is_empty() { String::new() } else { format!("'{}': ", problem.key) };
    format!("{path}{line}: {key}{}", problem.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_where_they_stand() {
        let text = "{\"log_level\": \"x\",\n \"bind\": \"1:2:3\",\n \"rpc_addr\": \"127.0.0.1\",\n\
                    \"event_handlers\": [\"a.sh\", \"bogus=x\"]} {}";
        let found = source("c.json".to_owned(), text.as_bytes());
        let shown: Vec<String> = found.problems.iter().map(|problem| shown("c.json", problem)).collect();
        assert_eq!(
            shown,
            [
                "c.json:4: 'event_handlers[1]': Invalid event script: Event 'bogus' invoking 'x'",
                "c.json:1: 'log_level': Invalid log level: X. Valid log levels are: [TRACE DEBUG INFO WARN ERR]",
                "c.json:2: 'bind': address 1:2:3: too many colons in address",
                "c.json:3: 'rpc_addr': address 127.0.0.1: missing port in address",
                "c.json:4: what follows the first JSON value is ignored",
            ]
        );
        let nothing = b"{\"bind\": \"\", \"protocol\": -3, \"log_level\": \"\", \"encrypt_key\": \"\", \"profile\": \"\"}";
        assert_eq!(source("c.json".to_owned(), nothing).problems, []);
        let undecoded = source("c.json".to_owned(), b"[]");
        assert_eq!(shown_all(&undecoded), ["c.json: '' expected a map, got 'slice'"]);
    }

    fn shown_all(source: &Source) -> Vec<String> {
        source.problems.iter().map(|problem| shown(&source.path, problem)).collect()
    }

    #[test]
    fn what_is_wrong_with_all_together_belongs_to_the_last_part() {
        let mut sources = [
            source("a".to_owned(), b"{\"tags\": {\"x\": \"y\"}}"),
            source("b".to_owned(), b"{\n\"tags_file\": \"t\"}"),
            source("c".to_owned(), b"{}"),
        ];
        let problem = |key: &str| Problem { line: None, key: key.to_owned(), reason: "no".to_owned() };
        attribute(problem("tags_file"), &mut sources);
        attribute(problem("role"), &mut sources);
        assert_eq!(shown_all(&sources[1]), ["b:2: 'tags_file': no"]);
        assert_eq!(shown_all(&sources[2]), ["c: 'role': no"]);
    }
}
