//! The command line as a person types it: the definition of the program, retold for generators.
//!
//! The program's own definition serves its parser, which takes raw bytes, hides positional words and reads booleans in
//! Go's way. Here each flag has the kind that a shell or a page can show: a switch, a value, one of a few words, a
//! path. Names, order, groups, defaults and help are the definition's; what values a flag takes is said
//! here, because to the program they are just text. Invariant: nothing is offered that the program does not take.

use clap::{Arg, ArgAction, Command, ValueHint};

/// Flags that take one of a few words.
const WORDS: &[(&str, &[&str])] = &[
    ("format", &["text", "json"]),
    ("log-format", &["text", "json"]),
    ("log-level", &["trace", "debug", "info", "warn", "err"]),
    ("profile", &["lan", "wan", "local"]),
    ("protocol", &["2", "3", "4", "5"]),
    ("runtime", &["auto", "smol", "glommio"]),
    ("status", &["alive", "leaving", "left", "failed"]),
];

/// Flags that take the path of a file, or begin with one.
const FILES: &[&str] = &["config-file", "event-handler", "keyring-file", "snapshot", "tags-file"];

/// Flags that take the path of a folder.
const FOLDERS: &[&str] = &["config-dir"];

/// How much help flags carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Help {
    /// What fits beside a flag in a list of candidates.
    Short,
    /// All of it.
    Full,
}

/// The whole program, with its commands in the order of their names.
pub(super) fn of(program: &Command, help: Help) -> Command {
    let mut commands: Vec<&Command> = program.get_subcommands().collect();
    commands.sort_by_key(|command| command.get_name());
    Command::new(program.get_name().to_owned())
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(switch("help").long("help").help("Shows the commands"))
        .arg(switch("version").short('v').help("Prints the version"))
        .subcommands(commands.into_iter().map(|command| subcommand(command, help)))
}

fn subcommand(command: &Command, help: Help) -> Command {
    let name = command.get_name();
    let mut usage = format!("villein {name}");
    let mut retold = Command::new(name.to_owned()).disable_help_flag(true);
    if let Some(about) = command.get_about() {
        retold = retold.about(about.to_string());
    }
    if command.get_opts().next().is_some() {
        usage.push_str(" [flags]");
        retold = retold.arg(switch("help").long("help").help("Shows the help").display_order(usize::MAX));
    }
    for flag in command.get_opts() {
        for name in flag.get_long_and_visible_aliases().unwrap_or_default() {
            retold = retold.arg(retell(flag, name, help));
        }
    }
    let words = command.get_positionals().filter_map(|words| words.get_value_names()?.first());
    for words in words.filter(|words| !words.is_empty()) {
        usage = format!("{usage} {words}");
        if words.contains("PATH") {
            retold = retold.arg(Arg::new("paths").num_args(0..).value_hint(ValueHint::AnyPath).hide(true));
        }
    }
    retold.override_usage(usage)
}

fn switch(name: &str) -> Arg {
    Arg::new(name.to_owned()).action(ArgAction::SetTrue)
}

/// One flag under one of its names.
fn retell(flag: &Arg, name: &str, help: Help) -> Arg {
    let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let text = match help {
        Help::Short => shortened(&text).to_owned(),
        Help::Full => text,
    };
    let retold = Arg::new(name.to_owned()).long(name.to_owned()).help(text);
    let retold = match flag.get_help_heading() {
        Some(heading) => retold.help_heading(heading.to_owned()),
        None => retold,
    };
    let value = flag.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    if flag.is_require_equals_set() && value != "BOOL" {
        return retold.action(ArgAction::SetTrue);
    }
    let is_list = matches!(flag.get_action(), ArgAction::Append);
    let action = if is_list { ArgAction::Append } else { ArgAction::Set };
    // Zsh takes what stands behind a colon for a command.
    let shown = match help {
        Help::Short => value.split([':', '[']).find(|part| !part.is_empty()).unwrap_or_default(),
        Help::Full => value,
    };
    let retold = retold.action(action).value_name(shown.to_owned()).require_equals(true);
    if value == "BOOL" {
        return retold.value_parser(["false", "true"]).hide_possible_values(true);
    }
    if let Some((_, words)) = WORDS.iter().find(|(flag, _)| *flag == name) {
        return retold.value_parser(words.to_vec()).hide_possible_values(true);
    }
    retold.value_hint(match name {
        name if FILES.contains(&name) => ValueHint::FilePath,
        name if FOLDERS.contains(&name) => ValueHint::DirPath,
        _ => ValueHint::Other,
    })
}

/// The beginning of a help text, up to its first detail.
fn shortened(help: &str) -> &str {
    let ends = ["; ", ". ", ": ", " [default"].into_iter().filter_map(|end| help.find(end));
    // A lead word before a colon says nothing without what follows.
    &help[..ends.filter(|&end| end > 12).min().unwrap_or(help.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_cli::args::program;

    fn flags(command: &Command) -> Vec<String> {
        let longs = command.get_opts().filter_map(Arg::get_long_and_visible_aliases).flatten();
        longs.map(ToOwned::to_owned).collect()
    }

    #[test]
    fn every_flag_of_every_command_is_retold_once() {
        let (program, mut found) = (program(), 0);
        let surface = of(&program, Help::Short);
        for command in program.get_subcommands() {
            let retold = surface.find_subcommand(command.get_name()).expect("no command is left out");
            let mut retold: Vec<String> =
                retold.get_arguments().filter_map(Arg::get_long).map(ToOwned::to_owned).collect();
            retold.retain(|name| name != "help");
            assert_eq!(retold, flags(command), "{}", command.get_name());
            found += retold.len();
        }
        assert!(found > 60, "only {found} flags were found");
        surface.clone().debug_assert();
    }

    #[test]
    fn what_flags_take_is_what_their_help_says() {
        let program = program();
        let commands = || program.get_subcommands();
        for (name, words) in WORDS {
            let flags = commands().flat_map(Command::get_opts).filter(|flag| flag.get_long() == Some(name));
            let mut found = 0;
            for help in flags.filter_map(Arg::get_help).map(ToString::to_string) {
                found += 1;
                for word in [words[0], words[words.len() - 1]] {
                    assert!(help.contains(word), "-{name} does not say {word}: {help}");
                }
            }
            assert!(found > 0, "nothing has the flag -{name}");
        }
        for name in FILES.iter().chain(FOLDERS) {
            assert!(commands().any(|command| flags(command).iter().any(|flag| flag == name)), "-{name}");
        }
    }

    #[test]
    fn short_help_ends_before_details() {
        let cases = [
            ("Name of this node; must be unique [default: host name]", "Name of this node"),
            ("Timing: lan, wan, local [default: lan]", "Timing: lan, wan, local"),
            ("Also send the log to syslog", "Also send the log to syslog"),
            ("Send it. If it is there, no", "Send it. If it is there, no"),
            ("Deprecated: sets the tag \"role\"", "Deprecated: sets the tag \"role\""),
        ];
        for (help, short) in cases {
            assert_eq!(shortened(help), short);
        }
    }
}
