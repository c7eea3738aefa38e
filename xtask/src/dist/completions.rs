//! Completions for bash, zsh and fish: clap's generators, and what they do not know of Go's flags.
//!
//! The generators write `--flag`; people type `-flag`. Each script is patched in a few places that are named
//! here: single dashes, `-flag=VALUE` in bash, which takes that for three words, and flags that must be written with
//! `=`. Invariant: a patch that finds nothing to do is an error, so that a change of the generators is noticed.

use super::surface::{self, Help};
use clap::Command;
use clap_complete::Shell;

/// The name and the text of each script.
///
/// # Errors
/// Names the script that its generator writes differently from what is expected here.
pub(super) fn all(program: &Command) -> Result<[(&'static str, String); 3], String> {
    let surface = surface::of(program, Help::Short);
    let script = |shell, patch: fn(&str) -> Result<String, String>| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut surface.clone(), program.get_name(), &mut text);
        let text = String::from_utf8(text).map_err(|error| format!("{shell}: {error}"))?;
        patch(&text).map_err(|missing| format!("the generator for {shell} writes no {missing:?} any more"))
    };
    Ok([
        ("villein.bash", script(Shell::Bash, bash)?),
        ("_villein", script(Shell::Zsh, zsh)?),
        ("villein.fish", script(Shell::Fish, fish)?),
    ])
}

/// The text with every `from` replaced; an error if there is none.
fn replaced(text: &str, from: &str, to: &str) -> Result<String, String> {
    if text.contains(from) { Ok(text.replace(from, to)) } else { Err(from.to_owned()) }
}

/// Who has typed two dashes is offered two dashes.
const BASH_DASHES: &str = r#"            if [[ ${cur} == --* ]] ; then
                opts="${opts// -/ --}"
            fi
            if [[ ${cur} == -* ||"#;

/// Readline hands over `-flag=VALUE` as three words.
const BASH_VALUES: &str = r#"    prev="$3"
    if [[ ${COMP_WORDS[COMP_CWORD]} == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-1]}"
    elif [[ ${prev} == "=" && ${COMP_CWORD} -ge 2 ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    if [[ ${prev} == --* ]]; then
        prev="${prev#-}"
    fi
"#;

fn bash(text: &str) -> Result<String, String> {
    let text = replaced(text, "    prev=\"$3\"\n", BASH_VALUES)?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        let is_label = body.starts_with("--") && body.ends_with(')');
        match body.strip_prefix("opts=\"") {
            // The leading space is for the dashes to be found.
            Some(flags) if !flags.starts_with('"') => {
                let flags = format!(" {flags}").replace(" --", " -");
                lines.push(line.replace(body, &format!("opts=\"{}", with_values(&flags))));
            }
            _ if is_label => lines.push(line.replacen("--", "-", 1)),
            _ => lines.push(line.to_owned()),
        }
    }
    let text = lines.join("\n") + "\n";
    replaced(&text, "            if [[ ${cur} == -* ||", BASH_DASHES)
}

/// Flags that are on unless `=false` is said are offered with it: alone they change nothing.
fn with_values(flags: &str) -> String {
    let mut text = flags.to_owned();
    for flag in ["-coalesce", "-gossip-verify-incoming", "-gossip-verify-outgoing"] {
        text = text.replace(&format!(" {flag} "), &format!(" {flag}=false "));
    }
    text
}

fn zsh(text: &str) -> Result<String, String> {
    // Stacked letters (-s) would take "-join" for five flags.
    let text = replaced(text, "(-s -S -C)", "(-S -C)")?;
    let text = replaced(&text, "(-s -C)", "(-C)")?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = match line.strip_prefix("'--") {
            Some(rest) => format!("'-{rest}"),
            None => line.replacen("'*--", "'*-", 1),
        };
        // The value of a boolean stands behind "=" or nowhere.
        lines.push(if line.contains(":BOOL:") { line.replacen("=[", "=-[", 1) } else { line });
    }
    let text = lines.join("\n") + "\n";
    replaced(&text, "=-[", "=-[")
}

/// What the generator writes behind a flag that is `false` or `true`.
const FISH_BOOLEAN: &str = " -r -f -a \"false\\t''\ntrue\\t''\"";
/// What it writes for folders, which repeats the flag in `-flag=FOLDER`.
const FISH_FOLDERS: &str = " -f -a \"(__fish_complete_directories)\"";

fn fish(text: &str) -> Result<String, String> {
    let text = replaced(text, FISH_FOLDERS, " -F")?;
    // The value of a boolean stands behind "=" or nowhere, so that flag and value are one word.
    let text = replaced(&text, FISH_BOOLEAN, " -f -a BOOLEAN")?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_rule = line.starts_with("complete -c villein ");
        let line = if is_rule { line.replacen(" -l ", " -o ", 1) } else { line.to_owned() };
        let flag = line.split_once(" -o ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
        lines.push(match line.strip_suffix("BOOLEAN") {
            Some(rule) => format!("{}'-{flag}=false'", rule.replacen(&format!(" -o {flag}"), "", 1)),
            None => line,
        });
    }
    let text = replaced(&lines.join("\n"), " -o ", " -o ")?;
    // Only validate takes paths that belong to no flag.
    Ok(text + "\ncomplete -c villein -n \"not __fish_villein_using_subcommand validate\" -f\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_cli::args::program;

    #[test]
    fn flags_are_offered_with_one_dash() {
        for (name, text) in all(&program()).expect("the generators write what is expected") {
            for line in text.lines() {
                let offered = line.replace("opts=\"${opts// -/ --}\"", "").replace("== --* ", "");
                let dashes = offered.matches("--").count() - offered.matches("\" -- \"").count();
                assert!(!offered.contains("--node") && !offered.contains("--rpc-addr"), "{name}: {line}");
                assert!(dashes == 0 || !offered.contains("opts="), "{name}: {line}");
            }
            for word in ["rpc-addr", "log-level", "trace", "force-leave", "config-dir"] {
                assert!(text.contains(word), "{name} does not know {word}");
            }
        }
    }

    #[test]
    fn a_generator_that_writes_otherwise_is_noticed() {
        for patch in [bash, zsh, fish] {
            assert!(patch("echo\n").is_err());
        }
    }
}
