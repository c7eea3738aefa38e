//! Help texts: usage, purpose, flags by group, notes; as wide as the narrowest terminal in use.
//!
//! Names, values, groups and descriptions of flags are read from their definition in `args`; flags are shown as
//! they are typed, `-name=VALUE`. Invariant: no line is longer than [`WIDTH`] characters.

use clap::builder::Str;
use clap::{Arg, Command};

/// Characters of a line.
const WIDTH: usize = 80;

/// Where the descriptions of flags begin.
const COLUMN: usize = 26;

/// Of flags without a group.
const OPTIONS: &str = "Options";

/// What `agent -help` says below its flags.
pub(crate) const AGENT_NOTES: &str = "\
Event handlers:
  -event-handler=SCRIPT                 runs on every event
  -event-handler=TYPE[,TYPE...]=SCRIPT  member-join, member-leave,
                                        member-failed, member-update,
                                        member-reap, user, query, or * for all
  -event-handler=user:NAME=SCRIPT       custom events of this name only
  -event-handler=query:NAME=SCRIPT      queries of this name only; what it
                                        prints is the answer
  -event-handler={OPTIONS}TYPE=SCRIPT   with limits, as in
                             '{timeout=5s,queue=64}user:deploy=deploy.sh'
      timeout=5s     ends a script that still runs then, with all that it
                     started: SIGTERM, and SIGKILL 5s later [default: never]
      queue=64       events that may wait for it; the oldest are dropped and
                     counted [default: 1024]
      concurrency=4  scripts of it at once; with more than one, events lose
                     their order [default: 1]

  A script is a command line for /bin/sh; one that contains '=' needs a TYPE, as
  in '*=LANG=C x.sh'. It finds the event in SERF_EVENT, SERF_USER_EVENT,
  SERF_QUERY_NAME, SERF_SELF_NAME, SERF_TAG_... and on standard input. What it
  prints is logged at -log-level=debug; a script that fails is reported at any
  level. Scripts take turns in the order of events and of the configuration; one
  that runs for more than a second delays only the later events of its own
  handler. 'info' shows how they fare.

Configuration files:
  A file holds one JSON object. Flags count more than files. Most keys are named
  like their flags, with '_' for '-'. These are named otherwise:
      node_name, interface, encrypt_key, start_join, replay_on_join,
      retry_max_attempts, snapshot_path, rejoin_after_leave, enable_syslog,
      enable_compression (-disable-compression is its opposite),
      tags (an object), event_handlers (a list of texts like those above, or of
      objects with filter, command, timeout, queue and concurrency),
      mdns (an object with interface, disable_ipv4 and disable_ipv6)
  And these have no flag:
      rpc_auth                   token that RPC clients must present
      leave_on_terminate         whether SIGTERM leaves the cluster
      skip_leave_on_interrupt    whether SIGINT does not
      user_event_size_limit, query_size_limit, query_response_size_limit
                                 in bytes [default: 512, 1024, 1024]
      reconnect_interval         between attempts to reach failed members
                                 [default: 30s]
      reconnect_timeout, tombstone_timeout
                                 how long members that failed, and that left,
                                 are remembered [default: 24h]
      disable_name_resolution    no vote when two nodes have one name
      validate_node_names        only members with plain names are let in
      statsd_addr, statsite_addr who gets metrics, HOST:PORT
      syslog_facility            [default: LOCAL0]
  'validate' checks files. On SIGHUP an agent reads them again: tags, handlers,
  log_level, leave_on_terminate and skip_leave_on_interrupt count at once.

Flags may be written -flag=value, -flag value or --flag=value, those without a
value also -flag=false; durations are like 500ms, 5s or 1m.";

/// What `validate -help` says.
pub(crate) const VALIDATE_NOTES: &str = "\
Each PATH is a configuration file, or a directory whose *.json files are meant.
They are read in this order and checked as 'agent -config-file=PATH...' does,
first each file, then all of them together. Each mistake is one line,
FILE:LINE: 'KEY': REASON. The exit status is 1 if there are any.";

/// The help of a command of the program that was called as `program`; no newline at its end.
pub(crate) fn of(command: &Command, program: &str) -> String {
    let mut usage = vec![program, command.get_name()];
    usage.extend(command.get_opts().next().map(|_| "[flags]"));
    let words = command.get_positionals().filter_map(|words| words.get_value_names()?.first());
    usage.extend(words.map(Str::as_str).filter(|name| !name.is_empty()));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("Usage: {}\n\n  {about}\n", usage.join(" "));
    let mut groups: Vec<&str> = Vec::new();
    for flag in command.get_opts() {
        if !groups.contains(&group(flag)) {
            groups.push(group(flag));
        }
    }
    for name in groups {
        text = format!("{text}\n{name}:\n");
        for flag in command.get_opts().filter(|flag| group(flag) == name) {
            text.push_str(&entry(flag));
        }
    }
    if let Some(notes) = command.get_after_help() {
        text = format!("{text}\n{notes}\n");
    }
    text.trim_end().to_owned()
}

fn group(flag: &Arg) -> &str {
    flag.get_help_heading().unwrap_or(OPTIONS)
}

/// `-name=VALUE` under each of its names. The value of a boolean is shown only where it has to be given.
fn label(flag: &Arg) -> String {
    let value = flag.get_value_names().and_then(|names| names.first()).map(|name| format!("={name}"));
    let is_switch = flag.is_require_equals_set() && value.as_deref() != Some("=BOOL");
    let value = value.filter(|_| !is_switch).unwrap_or_default();
    let aliases = flag.get_visible_aliases().unwrap_or_default();
    let names = flag.get_long().into_iter().chain(aliases);
    names.map(|name| format!("-{name}{value}")).collect::<Vec<_>>().join(", ")
}

/// The description stands beside the label, or below it if that is too long.
fn entry(flag: &Arg) -> String {
    let mut text = format!("  {}", label(flag));
    let description = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let room = COLUMN.checked_sub(text.chars().count() + 2);
    let mut beside = room.map(|room| " ".repeat(room + 2));
    for line in wrapped(&description, WIDTH - COLUMN) {
        let before = beside.take().unwrap_or_else(|| format!("\n{}", " ".repeat(COLUMN)));
        text = format!("{text}{before}{line}");
    }
    text.push('\n');
    text
}

/// Lines of at most `width` characters, unless a word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::program;
    use villein_agent::config::File;

    #[test]
    fn help_fits_a_terminal_and_describes_every_flag() {
        for command in program().get_subcommands() {
            let help = of(command, "villein");
            for line in help.lines() {
                assert!(line.chars().count() <= WIDTH && line.trim_end() == line, "{line}");
            }
            for flag in command.get_opts() {
                let described = flag.get_help().is_some_and(|help| help.to_string().len() > 10);
                assert!(described && help.contains(&format!("\n  {}", label(flag))), "{}", label(flag));
            }
        }
    }

    #[test]
    fn help_is_laid_out_in_groups() {
        let command = Command::new("do")
            .about("Does it")
            .arg(Arg::new("a").long("a").value_name("NAME").help("The first"))
            .arg(Arg::new("b").long("b").require_equals(true).value_name("B").help("x ".repeat(30)))
            .arg(
                Arg::new("c")
                    .long("c")
                    .require_equals(true)
                    .value_name("BOOL")
                    .help_heading("More")
                    .help("The last"),
            )
            .arg(Arg::new("long").long("long").visible_alias("alias").value_name("SOMETHING").help("Long"))
            .arg(Arg::new("words").hide(true).value_name("WORD..."))
            .after_help("Notes.");
        let (wide, column) = ("x ".repeat(27), " ".repeat(COLUMN));
        let expected = format!(
            "Usage: v do [flags] WORD...\n\n  Does it\n\n\
             Options:\n  -a=NAME                 The first\n  -b                      {}\n{column}x x x\n\
             \u{20} -long=SOMETHING, -alias=SOMETHING\n{column}Long\n\n\
             More:\n  -c=BOOL                 The last\n\nNotes.",
            wide.trim_end()
        );
        assert_eq!(of(&command, "v"), expected);
    }

    #[test]
    fn the_help_of_the_agent_names_every_key_of_files() {
        let program = program();
        let help = of(program.find_subcommand("agent").expect("it is a command"), "villein");
        for key in File::keys() {
            let (inner, flag) =
                (key.rsplit('.').next().unwrap_or(key), format!("\n  -{}", key.replace('_', "-")));
            assert!(help.contains(&flag) || help.contains(inner), "{key}");
        }
    }
}
