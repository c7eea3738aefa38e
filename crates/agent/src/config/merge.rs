//! How settings of several sources become one (agent.md 3 and 4).
//!
//! Files count in their order, each key by its rule; then come flags, of which a boolean counts also when it is
//! false: who typed it meant it. Invariant: an empty text, a zero or a false in a file undoes nothing.

use super::file::{File, Slot};

/// Keys that are read again while an agent runs (agent.md 10.2).
pub(crate) const RELOADED: [&str; 6] =
    ["role", "tags", "log_level", "event_handlers", "leave_on_terminate", "skip_leave_on_interrupt"];

impl File {
    /// What these files say together, and then these flags.
    pub fn merged(files: impl IntoIterator<Item = File>, flags: &File) -> File {
        let mut merged = File::default();
        for file in files {
            merged.add(file, false);
        }
        merged.add(flags.clone(), true);
        merged
    }

    /// Keys whose values differ in `other` and count only after a restart.
    pub fn keys_for_a_restart(&self, other: &File) -> Vec<&'static str> {
        let (mut before, mut after) = (self.clone(), other.clone());
        let pairs = before.slots().into_iter().zip(after.slots());
        let changed = pairs.filter(|(before, after)| before != after).map(|((key, _), _)| key);
        changed.filter(|key| !RELOADED.contains(key)).collect()
    }

    fn add(&mut self, mut later: File, typed: bool) {
        for ((_, place), (_, value)) in self.slots().into_iter().zip(later.slots()) {
            match (place, value) {
                (Slot::Text(place), Slot::Text(value)) => {
                    replace(place, value.take().filter(|text| !text.is_empty()));
                }
                (Slot::Secret(place), Slot::Secret(value)) => {
                    replace(place, value.take().filter(|secret| !secret.is_empty()));
                }
                (Slot::Path(place), Slot::Path(value)) => {
                    replace(place, value.take().filter(|path| !path.as_os_str().is_empty()));
                }
                (Slot::Flag(place), Slot::Flag(value)) => {
                    replace(place, value.filter(|&value| value || typed));
                }
                (Slot::Switch(place), Slot::Switch(value)) => replace(place, *value),
                (Slot::Number(place), Slot::Number(value))
                | (Slot::Duration(place), Slot::Duration(value)) => {
                    replace(place, value.filter(|&value| value != 0));
                }
                (Slot::Positive(place), Slot::Positive(value)) => {
                    replace(place, value.filter(|&value| value > 0));
                }
                (Slot::Tags(place), Slot::Tags(value)) => place.append(value),
                (Slot::Texts(place), Slot::Texts(value)) => place.append(value),
                (Slot::Handlers(place), Slot::Handlers(value)) => place.append(value),
                (place, value) => unreachable!("two files have the same table: {place:?} {value:?}"),
            }
        }
    }
}

fn replace<T>(place: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::HandlerSpec;
    use villein_core::text::{Secret, Text};

    #[expect(clippy::unnecessary_wraps, reason = "settings are optional")]
    fn text(text: &str) -> Option<Text> {
        Some(Text::from(text))
    }

    fn tags(tags: &[(&str, &str)]) -> Vec<(Text, Text)> {
        tags.iter().map(|&(name, value)| (Text::from(name), Text::from(value))).collect()
    }

    fn line(line: &str) -> HandlerSpec {
        HandlerSpec::Line(Text::from(line))
    }

    #[test]
    fn later_files_add_to_earlier_ones() {
        let first = File {
            node_name: text("a"),
            rpc_auth: Some(Secret::from("t")),
            tags_file: Some("t.json".into()),
            tags: tags(&[("x", "a"), ("z", "")]),
            protocol: Some(4),
            retry_max_attempts: Some(3),
            retry_interval_ns: Some(5),
            replay_on_join: Some(true),
            enable_compression: Some(false),
            event_handlers: vec![line("a.sh")],
            start_join: vec![Text::from("one")],
            ..File::default()
        };
        let nothing = File {
            node_name: text(""),
            rpc_auth: Some(Secret::from("")),
            tags_file: Some("".into()),
            protocol: Some(-3),
            retry_max_attempts: Some(0),
            retry_interval_ns: Some(0),
            replay_on_join: Some(false),
            ..File::default()
        };
        assert_eq!(File::merged([first.clone(), nothing.clone()], &File::default()), first);
        let second = File {
            node_name: text("b"),
            rpc_auth: Some(Secret::from("u")),
            tags_file: Some("u.json".into()),
            tags: tags(&[("x", "b"), ("y", "b")]),
            protocol: Some(5),
            retry_max_attempts: Some(-1),
            retry_interval_ns: Some(-5),
            rejoin_after_leave: Some(true),
            enable_compression: Some(true),
            event_handlers: vec![line("b.sh")],
            start_join: vec![Text::from("two")],
            ..File::default()
        };
        let expected = File {
            tags: tags(&[("x", "a"), ("z", ""), ("x", "b"), ("y", "b")]),
            replay_on_join: Some(true),
            event_handlers: vec![line("a.sh"), line("b.sh")],
            start_join: vec![Text::from("one"), Text::from("two")],
            ..second.clone()
        };
        assert_eq!(File::merged([first, second], &File::default()), expected);
    }

    #[test]
    fn a_boolean_that_was_typed_counts_also_when_it_is_false() {
        let file = File { replay_on_join: Some(true), enable_syslog: Some(true), ..File::default() };
        let flags = File { replay_on_join: Some(false), enable_compression: Some(true), ..File::default() };
        let packed = File { enable_compression: Some(false), ..File::default() };
        let merged = File::merged([file, packed], &flags);
        assert_eq!(merged.replay_on_join, Some(false));
        assert_eq!(merged.enable_syslog, Some(true));
        assert_eq!(merged.enable_compression, Some(true));
    }

    #[test]
    fn some_keys_need_a_restart() {
        let before = File { bind: text("a"), mdns_disable_ipv6: Some(true), ..File::default() };
        let after = File {
            bind: text("b"),
            log_level: text("debug"),
            tags: tags(&[("x", "y")]),
            role: text("web"),
            event_handlers: vec![line("x")],
            leave_on_terminate: Some(true),
            skip_leave_on_interrupt: Some(true),
            label: text("blue"),
            ..File::default()
        };
        assert_eq!(before.keys_for_a_restart(&after), ["bind", "mdns.disable_ipv6", "label"]);
        assert!(after.keys_for_a_restart(&after).is_empty());
    }
}
