//! `validate`: reads configuration files as an agent would, and says what is wrong with them.
//!
//! Decides in which file and on which line a mistake stands; what is a mistake is decided where the agent decides
//! it. What depends on the machine, such as interfaces and ports, is left out, but for files of tags and keys that
//! are there. Invariant: files about which nothing is said here are not refused by an agent because of their text.

use std::io::Write;
use std::path::{Path, PathBuf};

use villein_agent::config::File;
use villein_agent::config::decode::{DecodeError, Decoded, Problem, decode};
use villein_agent::config::settings;
use villein_core::text::Text;
use villein_host::address::HostPort;
use villein_host::files;

use super::{Failure, Outcome};
use crate::args::ValidateArgs;

/// One configuration file, or what stands in its place.
#[derive(Default)]
struct Source {
    path: String,
    /// As far as it can be understood.
    decoded: Decoded,
    /// Whether all of it was understood.
    is_complete: bool,
    problems: Vec<Problem>,
    /// What an agent also says, and runs.
    notices: Vec<Problem>,
}

pub(crate) fn run(args: &ValidateArgs, out: &mut impl Write) -> Outcome {
    let given = |path: &&PathBuf| !path.as_os_str().is_empty();
    let paths: Vec<&PathBuf> = args.paths.iter().filter(given).collect();
    if paths.is_empty() {
        return Err(Failure::Misuse(Some("At least one file or directory must be specified.")));
    }
    let mut sources = Vec::new();
    for path in paths {
        match files::config_files(path) {
            Ok(found) if found.is_empty() => {
                writeln!(out, "{}: no file in this directory ends in .json", path.display())?;
            }
            Ok(found) => sources.extend(found.iter().map(|path| source(path))),
            Err(why) => sources.push(unread(path, why)),
        }
    }
    check_together(&mut sources);
    for source in &sources {
        let mut lines: Vec<&Problem> = source.problems.iter().chain(&source.notices).collect();
        lines.sort_by_key(|problem| problem.line);
        for problem in lines {
            writeln!(out, "{}", problem.in_file(&source.path))?;
        }
        if source.problems.is_empty() {
            writeln!(out, "{}: ok", source.path)?;
        }
    }
    if sources.iter().all(|source| source.problems.is_empty()) { Ok(()) } else { Err(Failure::Told) }
}

fn source(path: &Path) -> Source {
    match files::read_existing(path) {
        Ok(bytes) => Source { path: path.display().to_string(), ..checked(&bytes) },
        Err(why) => unread(path, why),
    }
}

fn unread(path: &Path, why: String) -> Source {
    let problem = Problem { line: None, key: String::new(), reason: why };
    Source { path: path.display().to_string(), problems: vec![problem], ..Source::default() }
}

/// What a file of these bytes says, and what is wrong with it alone.
fn checked(bytes: &[u8]) -> Source {
    let read = decode(bytes);
    let is_complete = read.is_ok();
    let (decoded, mut problems) = match read {
        Ok(decoded) => (decoded, Vec::new()),
        Err(DecodeError { problems, understood, .. }) => (*understood, problems),
    };
    // What is empty or zero is the same as nothing, which merging knows.
    let alone = File::merged([decoded.file.clone()], &File::default());
    let placed = |problem: Problem| Problem { line: decoded.line(&problem.key), ..problem };
    problems.extend(settings::problems(&alone).into_iter().chain(addresses(&alone)).map(placed));
    problems.extend(decoded.repeated.iter().cloned());
    problems.extend(decoded.rest.map(|line| Problem {
        line: Some(line),
        key: String::new(),
        reason: "what follows the first JSON value is ignored".to_owned(),
    }));
    Source { decoded, is_complete, problems, ..Source::default() }
}

/// Addresses, as far as they can be judged without a look at the network.
fn addresses(file: &File) -> Vec<Problem> {
    let given = [
        ("bind", &file.bind, false),
        ("advertise", &file.advertise, false),
        ("rpc_addr", &file.rpc_addr, true),
        ("statsite_addr", &file.statsite_addr, true),
        ("statsd_addr", &file.statsd_addr, true),
    ];
    let check = |(key, addr, needs_port): (&str, &Option<Text>, bool)| {
        let addr = addr.as_ref()?.to_string();
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

/// Finds what is wrong with all files together.
fn check_together(sources: &mut [Source]) {
    let files = sources.iter().map(|source| source.decoded.file.clone());
    let merged = File::merged(files, &File::default());
    // What is missing may stand where it cannot be understood.
    let is_complete = sources.iter().all(|source| source.is_complete);
    let conflicts = settings::conflicts(&merged).into_iter();
    for problem in conflicts.filter(|conflict| is_complete || conflict.key != "mdns.interface") {
        place(problem, sources, |source| &mut source.problems);
    }
    for problem in kept_files(&merged) {
        place(problem, sources, |source| &mut source.problems);
    }
    for (key, reason) in settings::notices(&merged) {
        let notice = Problem { line: None, key: key.to_owned(), reason };
        place(notice, sources, |source| &mut source.notices);
    }
}

/// What is wrong with the files of tags and keys, if they are there and may be read.
fn kept_files(merged: &File) -> Vec<Problem> {
    let bytes = |path: &Option<PathBuf>| path.as_deref().and_then(|path| files::read_existing(path).ok());
    let given = settings::key(merged).ok().flatten();
    let tags = bytes(&merged.tags_file).and_then(|bytes| settings::kept_tags(&bytes).err());
    let keys =
        bytes(&merged.keyring_file).and_then(|bytes| settings::kept_keys(&bytes, given.as_ref()).err());
    let found = [("tags_file", tags), ("keyring_file", keys)];
    let problem = |(key, reason): (&str, Option<String>)| {
        Some(Problem { line: None, key: key.to_owned(), reason: reason? })
    };
    found.into_iter().filter_map(problem).collect()
}

/// Gives what is said of all files together to the last one that has a part in it.
fn place(problem: Problem, sources: &mut [Source], list: fn(&mut Source) -> &mut Vec<Problem>) {
    let at = sources.iter().rposition(|source| source.decoded.line(&problem.key).is_some());
    if let Some(source) = sources.get_mut(at.unwrap_or(sources.len().saturating_sub(1))) {
        let line = source.decoded.line(&problem.key);
        list(source).push(Problem { line, ..problem });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), ..checked(text.as_bytes()) }
    }

    fn shown(source: &Source) -> Vec<String> {
        source.problems.iter().map(|problem| problem.in_file(&source.path)).collect()
    }

    #[test]
    fn mistakes_are_found_where_they_stand() {
        let text = "{\"log_level\": \"x\",\n \"bind\": \"1:2:3\",\n \"rpc_addr\": \"127.0.0.1\", \"bogus\": 1,\n\
                    \"event_handlers\": [\"a.sh\",\n5,\n\"bogus=x\"], \"log_level\": \"y\"} {}";
        let level = "Valid log levels are: [TRACE DEBUG INFO WARN ERR]";
        assert_eq!(
            shown(&named("c.json", text)),
            [
                "c.json:3: 'bogus': is unknown".to_owned(),
                "c.json:5: 'event_handlers[1]': expected type 'string', got unconvertible type 'float64', \
                 value: '5'"
                    .to_owned(),
                "c.json:6: 'event_handlers[2]': Invalid event script: Event 'bogus' invoking 'x'".to_owned(),
                format!("c.json:6: 'log_level': Invalid log level: Y. {level}"),
                "c.json:2: 'bind': address 1:2:3: too many colons in address".to_owned(),
                "c.json:3: 'rpc_addr': address 127.0.0.1: missing port in address".to_owned(),
                "c.json:1: 'log_level': stands again on line 6, where it counts".to_owned(),
                "c.json:6: what follows the first JSON value is ignored".to_owned(),
            ]
        );
        let nothing = "{\"bind\": \"\", \"protocol\": -3, \"log_level\": \"\", \"encrypt_key\": \"\", \"profile\": \"\"}";
        assert_eq!(checked(nothing.as_bytes()).problems, []);
        assert_eq!(shown(&named("c.json", "[]")), ["c.json: '' expected a map, got 'slice'"]);
    }

    #[test]
    fn what_is_wrong_with_all_together_belongs_to_the_last_part() {
        let mut sources = [
            named("a", "{\"tags\": {\"x\": \"y\"}, \"role\": \"r\"}"),
            named("b", "{\n\"tags_file\": \"/none/t\"}"),
            named("c", "{\"bind\": 5}"),
        ];
        check_together(&mut sources);
        let why = "Tags config not allowed while using tag files";
        assert_eq!(shown(&sources[1]), [format!("b:2: 'tags_file': {why}")]);
        assert_eq!(sources[0].notices[0].in_file("a").split(": ").next(), Some("a:1"));
        let problem = Problem { line: None, key: "snapshot_path".to_owned(), reason: "no".to_owned() };
        place(problem, &mut sources, |source| &mut source.problems);
        assert_eq!(shown(&sources[2])[1..], ["c: 'snapshot_path': no"]);
    }

    #[test]
    fn nothing_is_missed_that_may_stand_where_it_cannot_be_read() {
        let found = |text: &str| {
            let mut sources = [named("a", "{\"mdns\": {\"interface\": \"lo\"}}"), named("b", text)];
            check_together(&mut sources);
            sources[0].problems.len()
        };
        assert_eq!(found("{\"discover\": \"x\"}"), 0);
        assert_eq!(found("{\"discover\": 5}"), 0);
        assert_eq!(found("{\"discover\": \"x\""), 0);
        assert_eq!(found("{}"), 1);
    }
}
