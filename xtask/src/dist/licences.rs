//! The libraries that are linked into the program, and the texts of their licences.
//!
//! Which they are, and what licence they name, is cargo's knowledge; the texts are the files of the packages. Most
//! licences ask that their text goes along with the program. Invariant: each library is listed; the text of two
//! libraries that is the same is printed once.

use super::tools;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the names of files with licences begin with.
const BEGINNINGS: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

/// The list, and behind it the texts.
///
/// # Errors
/// Says what cargo says, or names the file that cannot be read.
pub(super) fn text(target: &str) -> Result<String, String> {
    let linked = linked(target)?;
    let metadata = cargo(&["metadata", "--format-version=1", "--locked", "--filter-platform", target])?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", field("name"), field("version"));
        // What has no source is of this workspace.
        if package["source"].is_null() || !linked.contains(&name) {
            continue;
        }
        writeln!(list, "    {name}: {}", field("license")).expect("a string takes everything");
        for text in of(Path::new(&field("manifest_path")))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    if list.is_empty() {
        return Err("cargo metadata: no library is known".to_owned());
    }
    let mut shown = format!("Libraries of others in the program villein, and their licences:\n\n{list}");
    for (text, names) in &texts {
        write!(shown, "\n\n{}\n{}:\n\n{text}", "=".repeat(80), names.join(", "))
            .expect("a string takes everything");
    }
    Ok(shown)
}

/// Name and version of what is linked, rather than run by the compiler.
fn linked(target: &str) -> Result<BTreeSet<String>, String> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package=villein-cli",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
        "--target",
        target,
    ])?;
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
    };
    Ok(tree.lines().filter_map(name).collect())
}

fn cargo(arguments: &[&str]) -> Result<String, String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    tools::output(Command::new(program).args(arguments).current_dir(crate::root()))
}

/// The texts beside this manifest, sorted by the names of their files.
fn of(manifest: &Path) -> Result<Vec<String>, String> {
    let folder = manifest.parent().unwrap_or(manifest);
    let failed = |path: &Path, error: &std::io::Error| format!("{}: {error}", path.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read(path).map_err(|error| failed(path, &error))?;
        Ok(format!("{}\n", String::from_utf8_lossy(&text).replace("\r\n", "\n").trim_end()))
    };
    paths.iter().map(read).collect()
}
