//! The checks that no compiler makes: lengths, forbidden words per crate, left-overs, reasons.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of one file before its tests.
const FILE_LINES: usize = 600;
/// Lines of one function.
const FUNCTION_LINES: usize = 70;
/// Lines of one runtime crate before its tests: more means that something below the line is missing.
const RUNTIME_LINES: usize = 500;

/// What the pure crates must not name: the outside world, and what makes runs differ.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::sync::mpsc",
    "SystemTime",
    "std::time::Instant",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "HashMap",
    "HashSet",
    "RefCell",
    "Mutex",
    "Rc<",
    "dyn ",
    "println!",
    "eprintln!",
    "getrandom",
    "thread_rng",
    "SmallRng",
    "StdRng",
];

const LEFT_OVERS: &[&str] =
    &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "TODO", "XXX", "#[ignore", "#[allow("];

/// Checks the workspace, prints what is wrong, and says whether nothing is.
pub(crate) fn run() -> bool {
    let root = super::root();
    let mut complaints = dependencies_without_reason(&root.join("Cargo.toml"));
    let mut sources = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root.join(folder), &mut sources);
    }
    sources.sort();
    for path in &sources {
        let text = fs::read_to_string(path).expect("a source file is UTF-8 text");
        let name = path.strip_prefix(&root).expect("sources lie in the workspace").display().to_string();
        check(&name, &text, &mut complaints);
    }
    complaints.extend(runtimes(&sources));
    println!("tidy: {} files, {} complaints", sources.len(), complaints.len());
    for complaint in &complaints {
        println!("  {complaint}");
    }
    complaints.is_empty()
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the workspace can be read") {
        let path = entry.expect("the workspace can be read").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

/// The part of a file before its tests.
fn before_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(code, _)| code)
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("tests.rs") || name.contains("/benches/")
}

fn check(name: &str, text: &str, complaints: &mut Vec<String>) {
    if !name.ends_with("tidy.rs") {
        find(LEFT_OVERS, name, text, complaints);
    }
    if is_test(name) {
        return;
    }
    let code = before_tests(text);
    let lines: Vec<&str> = code.lines().collect();
    if lines.len() > FILE_LINES {
        complaints.push(format!("{name}: {} lines before the tests, at most {FILE_LINES}", lines.len()));
    }
    if !text.starts_with("//!") {
        complaints.push(format!("{name}: no module head"));
    }
    for (start, function, length) in functions(&lines) {
        if length > FUNCTION_LINES {
            complaints
                .push(format!("{name}:{start}: {function} has {length} lines, at most {FUNCTION_LINES}"));
        }
    }
    if name.starts_with("crates/core/src") || name.starts_with("crates/agent/src") {
        find(IMPURE, name, code, complaints);
    }
}

/// Complains of each of the words that stands in a line, unless the whole line is a comment that may name it.
fn find(words: &[&str], name: &str, text: &str, complaints: &mut Vec<String>) {
    let comments_count = words == LEFT_OVERS;
    for (number, line) in text.lines().enumerate() {
        if !comments_count && line.trim_start().starts_with("//") {
            continue;
        }
        for word in words.iter().filter(|word| line.contains(**word)) {
            complaints.push(format!("{name}:{}: {word}", number + 1));
        }
    }
}

/// Line number, name and length of each function, told apart by indentation (rustfmt has been run).
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let mut words = body.split_whitespace().skip_while(|word| {
            word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "crate)" | "super)")
        });
        if words.next() != Some("fn") || body.ends_with(';') {
            continue;
        }
        let name = words.next().and_then(|word| word.split(['(', '<']).next()).unwrap_or_default();
        let end = format!("{}}}", &line[..line.len() - body.len()]);
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            found.push((start + 1, name, length + 1));
        }
    }
    found
}

/// Each runtime crate is thin.
fn runtimes(sources: &[PathBuf]) -> Vec<String> {
    let mut lines = std::collections::BTreeMap::<String, usize>::new();
    for path in sources {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let runtime = parts.iter().find(|part| part.starts_with("rt-"));
        if let (Some(runtime), true) = (runtime, parts.iter().any(|part| part == "src")) {
            let text = fs::read_to_string(path).expect("a source file is UTF-8 text");
            *lines.entry(runtime.to_string()).or_default() += before_tests(&text).lines().count();
        }
    }
    lines
        .into_iter()
        .filter(|(_, count)| *count > RUNTIME_LINES)
        .map(|(name, count)| format!("crates/{name}: {count} lines, at most {RUNTIME_LINES}"))
        .collect()
}

/// Each third-party dependency of the workspace says why it is there.
fn dependencies_without_reason(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).expect("the workspace has a manifest");
    let section = text.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter(|line| line.contains(" = ") && !line.contains("path = ") && !line.contains('#'))
        .map(|line| format!("Cargo.toml: no reason beside {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_found() {
        let body = "    let x = 1;\n".repeat(FUNCTION_LINES);
        let text = format!("//! Head.\n\npub(crate) fn long() {{\n{body}}}\n\nfn short() {{}}\n");
        let mut complaints = Vec::new();
        check("crates/host/src/a.rs", &text, &mut complaints);
        assert_eq!(complaints, ["crates/host/src/a.rs:3: long has 72 lines, at most 70"]);
    }

    #[test]
    fn the_outside_world_is_found_in_pure_crates_only() {
        let text = "//! Head.\nuse std::fs;\n// std::fs in a comment\n";
        let found = |name: &str| {
            let mut complaints = Vec::new();
            check(name, text, &mut complaints);
            complaints
        };
        assert_eq!(found("crates/core/src/a.rs"), ["crates/core/src/a.rs:2: std::fs"]);
        assert_eq!(found("crates/host/src/a.rs"), Vec::<String>::new());
    }

    #[test]
    fn left_overs_are_found_in_tests_too() {
        let text = format!("//! Head.\n#[cfg(test)]\nmod tests {{\n    #[ig{}]\n}}\n", "nore]");
        for name in ["crates/core/src/a.rs", "crates/core/tests/a.rs"] {
            let mut complaints = Vec::new();
            check(name, &text, &mut complaints);
            assert_eq!(complaints.len(), 1, "{name}: {complaints:?}");
        }
    }

    #[test]
    fn tests_may_be_long() {
        let text = format!("//! Head.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // a\n".repeat(700));
        let mut complaints = Vec::new();
        check("crates/core/src/a.rs", &text, &mut complaints);
        assert_eq!(complaints, Vec::<String>::new());
    }
}
