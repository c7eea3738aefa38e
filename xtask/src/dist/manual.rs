//! Manual pages: one for the program and one for each command.
//!
//! Titles, synopses and flags come from the definition of the command line, through clap's generator; everything else
//! is written by hand in `xtask/dist/man`, one snippet per page, in which what stands before the first heading after
//! DESCRIPTION comes before the flags. Invariant: a page says what the help of its command says, in more words: a
//! test looks for every key of configuration files.

use super::surface::{self, Help};
use clap::Command;
use clap_mangen::Man;
use std::path::Path;

/// What commands that talk to an agent have in common.
const CLIENT: &str = "client.roff";
/// What stands at the end of each page but the first: other pages to see, one in a line.
const END: &str = "end.roff";
/// Where the first page lists the commands.
const COMMANDS: &str = ".\\\" COMMANDS\n";
/// Makes apostrophes that are apostrophes on paper too; each generated part brings it along.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// File name and text of each page; `date` is like 2026-01-31.
///
/// # Errors
/// Names the snippet that is missing.
pub(super) fn all(
    program: &Command,
    snippets: &Path,
    version: &str,
    date: &str,
) -> Result<Vec<(String, String)>, String> {
    let read = |name: &str| {
        let path = snippets.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let usage = "villein COMMAND [flags] [words]\nvillein COMMAND -help\nvillein -help\nvillein -v";
    let mut surface = surface::of(program, Help::Full)
        .about("cluster agent with failure detection, events and queries")
        .override_usage(usage);
    surface.build();
    let (client, end) = (read(CLIENT)?, read(END)?);
    let source = format!("villein {version}");
    let page = |command: &Command, text: &str| {
        let man = Man::new(command.clone()).date(date).source(&source).manual("Villein Manual");
        written(&man, text, command.get_opts().next().is_some())
    };
    let commands = surface.get_subcommands().map(|command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n.BR villein\\-{} (1)\n{about}\n", command.get_name().replace('-', "\\-"))
    });
    let text = read("villein.roff")?.replace(COMMANDS, &commands.collect::<String>());
    let mut pages = vec![("villein.1".to_owned(), page(&surface, &text)?)];
    for command in surface.get_subcommands() {
        let name = command.get_name();
        let mut text = read(&format!("{name}.roff"))?;
        if command.get_arguments().any(|flag| flag.get_long() == Some("rpc-auth")) {
            text.push_str(&client);
        }
        text.push_str(&others(&end, name));
        pages.push((format!("villein-{name}.1"), page(command, &text)?));
    }
    Ok(pages)
}

/// The `end` of the page of this command, which does not name itself.
fn others(end: &str, command: &str) -> String {
    let own = format!(".BR villein\\-{} (1)", command.replace('-', "\\-"));
    let mut lines = end.lines().map(|line| line.trim_end_matches(',')).filter(|line| *line != own);
    let heading = lines.next().unwrap_or_default();
    format!("{heading}\n{}\n", lines.collect::<Vec<_>>().join(",\n"))
}

/// A page of what is generated and the `text` that is written by hand.
fn written(man: &Man, text: &str, has_flags: bool) -> Result<String, String> {
    let (mut head, mut flags) = (Vec::new(), Vec::new());
    man.render_title(&mut head)
        .and_then(|()| man.render_name_section(&mut head))
        .and_then(|()| man.render_synopsis_section(&mut head))
        .and_then(|()| if has_flags { man.render_options_section(&mut flags) } else { Ok(()) })
        .map_err(|error| format!("a manual page: {error}"))?;
    let (head, flags) = (String::from_utf8_lossy(&head), String::from_utf8_lossy(&flags));
    let second = text.match_indices("\n.SH ").next().map_or(text.len(), |(at, _)| at + 1);
    let (before, after) = text.split_at(second);
    let generated = [head.replace(PREAMBLE, ""), before.to_owned(), go_flags(&flags.replace(PREAMBLE, ""))];
    Ok(format!("{PREAMBLE}{}{after}", generated.concat()))
}

/// Flags as they are typed: one dash, the value behind `=`; their groups as parts of one section.
fn go_flags(section: &str) -> String {
    let mut text = String::new();
    for line in section.lines() {
        let line = match line.strip_prefix(".SH ") {
            Some(group) if group != "OPTIONS" => {
                let group = group.trim_matches('"');
                let (first, rest) = group.split_at(group.len().min(1));
                format!(".SS {first}{}", rest.to_lowercase())
            }
            _ => line.replace("\\fB\\-\\-", "\\fB\\-").replace("\\fI<", "\\fI").replace(">\\fR", "\\fR"),
        };
        text = format!("{text}{line}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_cli::args::program;

    fn pages() -> Vec<(String, String)> {
        let snippets = crate::root().join("xtask/dist/man");
        all(&program(), &snippets, "1.2.3", "2026-01-31").expect("every page has its snippet")
    }

    #[test]
    fn a_page_has_its_parts_in_order() {
        let parts = ["\n.TH ", "\n.SH NAME", "\n.SH SYNOPSIS", "\n.SH DESCRIPTION", "\n.SH OPTIONS"];
        for (name, text) in pages() {
            let mut rest = &text[..];
            let ends = ["\n.SH \"EXIT STATUS\"", "\n.SH \"SEE ALSO\""];
            for part in parts.iter().chain(&ends) {
                if *part == "\n.SH OPTIONS" && !text.contains(part) {
                    continue;
                }
                let (_, behind) = rest.split_once(part).unwrap_or_else(|| panic!("{name}: no {part:?}"));
                rest = behind;
            }
            assert_eq!(text.matches(PREAMBLE).count(), 1, "{name}");
            assert!(!text.contains("\\fB\\-\\-"), "{name} shows two dashes");
        }
    }

    #[test]
    fn a_page_names_other_pages_and_not_itself() {
        for (name, text) in pages() {
            let (_, others) = text.split_once("\n.SH \"SEE ALSO\"\n").expect("each page names others");
            let page = |name: &str| format!(".BR {} (1)", name.replace('-', "\\-"));
            let named: Vec<&str> = others.lines().take_while(|line| line.starts_with(".BR")).collect();
            let (last, before) = named.split_last().unwrap_or_else(|| panic!("{name} names none"));
            assert!(
                last.ends_with(')') && before.iter().all(|line| line.ends_with("),")),
                "{name}: {named:?}"
            );
            let names = |wanted: &str| named.iter().any(|line| line.trim_end_matches(',') == page(wanted));
            let own = name.strip_suffix(".1").expect("all are of section 1");
            for wanted in ["villein", "villein-agent"] {
                assert_eq!(names(wanted), wanted != own, "{name}: {wanted}");
            }
            assert!(!names(own), "{name}");
        }
    }

    #[test]
    fn every_flag_is_on_its_page() {
        let pages = pages();
        let mut flags = 0;
        for command in program().get_subcommands() {
            let name = format!("villein-{}.1", command.get_name());
            let (_, text) = pages.iter().find(|(page, _)| *page == name).expect("each command has a page");
            for flag in command.get_opts().filter_map(clap::Arg::get_long_and_visible_aliases).flatten() {
                flags += 1;
                assert!(
                    text.contains(&format!("\n\\fB\\-{}\\fR", flag.replace('-', "\\-"))),
                    "{name}: -{flag}"
                );
            }
        }
        assert!(flags > 60, "only {flags} flags were found");
    }

    #[test]
    fn what_help_says_of_files_and_handlers_is_on_the_page_of_the_agent() {
        let program = program();
        let agent = program.find_subcommand("agent").expect("it is a command");
        let notes = agent.get_after_help().expect("it has notes").to_string();
        let (_, text) =
            pages().into_iter().find(|(name, _)| name == "villein-agent.1").expect("it has a page");
        let is_key = |word: &&str| word.contains('_') && !word.contains("__") && !word.ends_with('_');
        let words = notes.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let keys: Vec<&str> = words.filter(is_key).collect();
        assert!(keys.len() > 20, "the notes name only {keys:?}");
        for key in keys {
            assert!(text.contains(key), "{key}");
        }
    }

    #[test]
    fn groups_of_flags_are_parts_of_one_section() {
        let section = ".SH OPTIONS\n.TP\n\\fB\\-\\-a\\fR=\\fI<B>\\fR\nIt\n.SH \"FINDING OTHERS\"\n";
        let expected = ".SH OPTIONS\n.TP\n\\fB\\-a\\fR=\\fIB\\fR\nIt\n.SS Finding others\n";
        assert_eq!(go_flags(section), expected);
    }
}
