//! A configuration file from its bytes (agent.md 4.2).
//!
//! Decides which keys and types are accepted and in which words the others are refused; what values mean is
//! decided by [`settings`](super::settings). Keys match without regard to case, of equal ones the last counts,
//! `null` is not given, nothing is converted but fractions, which are cut. Invariant: whatever the reference
//! accepts is accepted.

use super::file::{File, Slot};
use crate::handler::HandlerSpec;
use crate::json::{self, Entry, Json};
use std::collections::BTreeMap;
use std::fmt;
use villein_core::gotext::parse_duration;
use villein_core::text::Text;

/// A key that another program's configuration has, and that means nothing here.
const IGNORED: &str = "MsgpackUseNewTimeFormat";

/// What an object may say about an event handler.
const HANDLER_OPTIONS: [&str; 5] = ["filter", "command", "timeout", "queue", "concurrency"];

/// Keys that are further apart are not taken for each other.
const TYPING_ERRORS: usize = 2;

/// A file with what is worth saying about its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What it says.
    pub file: File,
    /// The line on which there is something behind the JSON value, which is not read.
    pub rest: Option<usize>,
    lines: BTreeMap<&'static str, usize>,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, from 1, if it can be known.
    pub line: Option<usize>,
    /// Which key; empty if it is not about one.
    pub key: String,
    /// What.
    pub reason: String,
}

/// Why a file cannot be used; `Display` is what the agent says after `Error decoding 'PATH': `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    text: String,
    /// Each thing that is wrong.
    pub problems: Vec<Problem>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DecodeError {}

/// Values by the known keys that they belong to.
type Known = BTreeMap<&'static str, (usize, Json)>;

/// Reads a file.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let alone = |line, text: String| {
        let problems = vec![Problem { line, key: String::new(), reason: text.clone() }];
        DecodeError { text, problems }
    };
    let (value, rest) = json::first(bytes).map_err(|fault| alone(Some(fault.line), fault.to_string()))?;
    let mut decoder = Decoder::default();
    match value {
        Json::Null => {}
        Json::Map(entries) => decoder.take(entries),
        other => return Err(alone(None, format!("'' expected a map, got '{}'", kind(&other)))),
    }
    decoder.finish(rest)
}

impl Decoded {
    /// Where the key stands of which `name` is the whole or an element, such as `tags[a]`.
    pub fn line(&self, name: &str) -> Option<usize> {
        let key = name.split('[').next().unwrap_or(name);
        self.lines.get(key).copied()
    }
}

#[derive(Default)]
struct Decoder {
    file: File,
    lines: BTreeMap<&'static str, usize>,
    /// In the words of the reference.
    bullets: Vec<String>,
    problems: Vec<Problem>,
    /// What is to be said about unknown keys besides.
    hints: Vec<String>,
    /// The first duration that is none: the reference looks at them last.
    bad_duration: Option<String>,
}

impl Decoder {
    fn take(&mut self, entries: Vec<Entry>) {
        let mut names: Vec<&'static str> = self.file.slots().into_iter().map(|(name, _)| name).collect();
        let inner: Vec<&'static str> = names.iter().filter_map(|name| name.strip_prefix("mdns.")).collect();
        names.retain(|name| !name.contains('.'));
        names.push("mdns");
        let mut known = self.sort_out("", entries, &names);
        match known.remove("mdns") {
            None | Some((_, Json::Null)) => {}
            Some((_, Json::Map(entries))) => {
                let own = self.sort_out("mdns", entries, &inner);
                let slots = self.file.slots().into_iter().map(|(name, _)| name);
                let mut full: BTreeMap<&str, &'static str> =
                    slots.filter_map(|name| Some((name.strip_prefix("mdns.")?, name))).collect();
                known.extend(own.into_iter().filter_map(|(name, value)| Some((full.remove(name)?, value))));
            }
            Some((line, other)) => self.refuse(line, "mdns", &expected_map(&other)),
        }
        self.lines = known.iter().map(|(name, (line, _))| (*name, *line)).collect();
        let mut file = std::mem::take(&mut self.file);
        for (name, slot) in file.slots() {
            if let Some((line, value)) = known.remove(name) {
                self.put((line, name), slot, value);
            }
        }
        self.file = file;
    }

    /// Which values belong to which of these keys of the object `parent`; says which keys are none of them.
    fn sort_out(&mut self, parent: &str, entries: Vec<Entry>, names: &[&'static str]) -> Known {
        let last: BTreeMap<String, (usize, Json)> =
            entries.into_iter().map(|entry| (entry.key, (entry.line, entry.value))).collect();
        let mut known = Known::new();
        let mut others = Vec::new();
        for (key, value) in last {
            match names.iter().find(|name| **name == key) {
                Some(name) => drop(known.insert(name, value)),
                None => others.push((key, value)),
            }
        }
        let mut unknown = Vec::new();
        for (key, value) in others {
            let folded = fold(&key);
            match names.iter().find(|name| fold(name) == folded && !known.contains_key(*name)) {
                Some(name) => drop(known.insert(name, value)),
                None if parent.is_empty() && folded == fold(IGNORED) => {}
                None => unknown.push((key, value.0)),
            }
        }
        if !unknown.is_empty() {
            let keys: Vec<&str> = unknown.iter().map(|(key, _)| key.as_str()).collect();
            self.bullets.push(format!("'{parent}' has invalid keys: {}", keys.join(", ")));
        }
        for (key, line) in unknown {
            let mut reason = "is unknown".to_owned();
            if let Some(near) = nearest(&key, names) {
                reason = format!("is unknown; did you mean '{near}'?");
                self.hints.push(format!("line {line}: '{key}' {reason}"));
            }
            let key = if parent.is_empty() { key } else { format!("{parent}.{key}") };
            self.problems.push(Problem { line: Some(line), key, reason });
        }
        known
    }

    fn put(&mut self, (line, name): (usize, &str), slot: Slot<'_>, value: Json) {
        match (slot, value) {
            (_, Json::Null) => {}
            (Slot::Text(place), Json::Text(text)) => *place = Some(text.into()),
            (Slot::Secret(place), Json::Text(text)) => *place = Some(text.into_bytes().into()),
            (Slot::Path(place), Json::Text(text)) => *place = Some(text.into()),
            (Slot::Flag(place) | Slot::Switch(place), Json::Bool(value)) => *place = Some(value),
            (Slot::Number(place) | Slot::Positive(place), Json::Number(number)) => {
                *place = Some(number as i64);
            }
            (Slot::Duration(place), Json::Text(text)) => match parse_duration(&text) {
                Ok(nanos) => *place = Some(nanos),
                // Empty is not given.
                Err(_) if text.is_empty() => {}
                Err(why) => {
                    self.bad_duration.get_or_insert_with(|| why.clone());
                    self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why });
                }
            },
            (Slot::Tags(place), Json::Map(entries)) => {
                let last: BTreeMap<String, Json> =
                    entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
                for (tag, value) in last {
                    place.extend(
                        self.text((line, &format!("{name}[{tag}]")), value)
                            .map(|value| (Text::from(tag), value)),
                    );
                }
            }
            (Slot::Texts(place), Json::List(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    place.extend(self.text((line, &format!("{name}[{index}]")), item));
                }
            }
            (Slot::Handlers(place), Json::List(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    place.extend(self.handler((line, &format!("{name}[{index}]")), item));
                }
            }
            (Slot::Tags(_), other) => self.refuse(line, name, &expected_map(&other)),
            (Slot::Texts(_) | Slot::Handlers(_), other) => {
                let why = format!("source data must be an array or slice, got {}", kind(&other));
                self.bullets.push(format!("'{name}': {why}"));
                self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why });
            }
            (Slot::Text(_) | Slot::Path(_) | Slot::Duration(_), other) => {
                self.refuse(line, name, &expected("string", &other, &shown(&other)));
            }
            // What was meant as a key or a token is not shown.
            (Slot::Secret(_), other) => self.refuse(line, name, &expected("string", &other, "hidden")),
            (Slot::Flag(_) | Slot::Switch(_), other) => {
                self.refuse(line, name, &expected("bool", &other, &shown(&other)));
            }
            (Slot::Number(_) | Slot::Positive(_), other) => {
                self.refuse(line, name, &expected("int", &other, &shown(&other)));
            }
        }
    }

    /// One of several texts, of which `null` is an empty one.
    fn text(&mut self, (line, name): (usize, &str), value: Json) -> Option<Text> {
        match value {
            Json::Null => Some(Text::default()),
            Json::Text(text) => Some(Text::from(text)),
            other => {
                self.refuse(line, name, &expected("string", &other, &shown(&other)));
                None
            }
        }
    }

    /// A text as on the command line, or an object.
    fn handler(&mut self, (line, name): (usize, &str), value: Json) -> Option<HandlerSpec> {
        let Json::Map(entries) = value else { return self.text((line, name), value).map(HandlerSpec::Line) };
        let mut known = self.sort_out(name, entries, &HANDLER_OPTIONS);
        known.retain(|_, (_, value)| *value != Json::Null);
        let mut text = |decoder: &mut Decoder, option: &'static str| {
            let (line, value) = known.remove(option)?;
            decoder.text((line, &format!("{name}.{option}")), value)
        };
        let (filter, command) = (text(self, "filter"), text(self, "command"));
        let timeout = text(self, "timeout");
        let mut number = |decoder: &mut Decoder, option: &'static str| match known.remove(option)? {
            (_, Json::Number(number)) => Some(number as i64),
            (line, other) => {
                decoder.refuse(line, &format!("{name}.{option}"), &expected("int", &other, &shown(&other)));
                None
            }
        };
        let (queue, concurrency) = (number(self, "queue"), number(self, "concurrency"));
        let (filter, command) = (filter.unwrap_or_default(), command.unwrap_or_default());
        Some(HandlerSpec::Fields { filter, command, timeout, queue, concurrency })
    }

    fn refuse(&mut self, line: usize, name: &str, why: &str) {
        self.bullets.push(format!("'{name}' {why}"));
        self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why.to_owned() });
    }

    fn finish(mut self, rest: Option<usize>) -> Result<Decoded, DecodeError> {
        self.problems.sort_by_key(|problem| problem.line);
        if !self.bullets.is_empty() {
            self.bullets.sort();
            let mut text = format!("{} error(s) decoding:\n", self.bullets.len());
            for bullet in &self.bullets {
                text = format!("{text}\n* {bullet}");
            }
            for (index, hint) in self.hints.iter().enumerate() {
                text = format!("{text}{}{hint}", if index == 0 { "\n\n" } else { "\n" });
            }
            return Err(DecodeError { text, problems: self.problems });
        }
        if let Some(text) = self.bad_duration {
            return Err(DecodeError { text, problems: self.problems });
        }
        Ok(Decoded { file: self.file, rest, lines: self.lines })
    }
}

fn expected_map(value: &Json) -> String {
    format!("expected a map, got '{}'", kind(value))
}

fn expected(wanted: &str, value: &Json, shown: &str) -> String {
    let found = match value {
        Json::List(_) => "[]interface {}",
        Json::Map(_) => "map[string]interface {}",
        other => kind(other),
    };
    format!("expected type '{wanted}', got unconvertible type '{found}', value: '{shown}'")
}

/// What the reference calls a kind of value.
fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "nil",
        Json::Bool(_) => "bool",
        Json::Number(_) => "float64",
        Json::Text(_) => "string",
        Json::List(_) => "slice",
        Json::Map(_) => "map",
    }
}

/// A value as Go prints it (`%v`).
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "<nil>".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => shown_number(*number),
        Json::Text(text) => text.clone(),
        Json::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Json::Map(entries) => {
            let last: BTreeMap<&str, &Json> =
                entries.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
            let pairs: Vec<String> =
                last.into_iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// The shortest text of the number; large and small ones with an exponent of at least two digits.
fn shown_number(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("an exponent was asked for");
    let exponent: i32 = exponent.parse().expect("the exponent is a small number");
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The same for keys that differ in their case only.
fn fold(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

/// The known key that somebody may have meant.
fn nearest(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let typed: Vec<char> = fold(key).chars().collect();
    let near = names.iter().map(|name| (distance(&typed, name), *name));
    near.filter(|&(distance, _)| distance <= TYPING_ERRORS && distance < typed.len())
        .min()
        .map(|(_, name)| name)
}

/// How many characters must be put in, left out or changed.
fn distance(from: &[char], to: &str) -> usize {
    // What is much longer is not near, and would only take time.
    if from.len() > to.len() + TYPING_ERRORS {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (index, character) in to.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for at in 1..row.len() {
            let changed = diagonal + usize::from(from[at - 1] != character);
            diagonal = row[at];
            row[at] = changed.min(row[at] + 1).min(row[at - 1] + 1);
        }
    }
    row[from.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        decode(text.as_bytes()).expect_err(text).to_string()
    }

    fn file(text: &str) -> File {
        decode(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why}")).file
    }

    /// Each text is what the reference says.
    #[test]
    fn what_cannot_be_used_is_refused_in_known_words() {
        let string = "expected type 'string', got unconvertible type";
        let cases = [
            ("[1]", "'' expected a map, got 'slice'".to_owned()),
            ("\"x\"", "'' expected a map, got 'string'".to_owned()),
            ("true", "'' expected a map, got 'bool'".to_owned()),
            ("1.5", "'' expected a map, got 'float64'".to_owned()),
            (
                r#"{"bogus":1,"Alpha":2}"#,
                "1 error(s) decoding:\n\n* '' has invalid keys: Alpha, bogus".to_owned(),
            ),
            (
                r#"{"tags":{"b":1,"a":[],"c":{"x":1}}}"#,
                format!(
                    "3 error(s) decoding:\n\n* 'tags[a]' {string} '[]interface {{}}', value: '[]'\n\
                     * 'tags[b]' {string} 'float64', value: '1'\n\
                     * 'tags[c]' {string} 'map[string]interface {{}}', value: 'map[x:1]'"
                ),
            ),
            (
                r#"{"bogus":1,"node_name":5,"protocol":"x","replay_on_join":1,"start_join":"x"}"#,
                format!(
                    "5 error(s) decoding:\n\n* '' has invalid keys: bogus\n\
                     * 'node_name' {string} 'float64', value: '5'\n\
                     * 'protocol' expected type 'int', got unconvertible type 'string', value: 'x'\n\
                     * 'replay_on_join' expected type 'bool', got unconvertible type 'float64', value: '1'\n\
                     * 'start_join': source data must be an array or slice, got string"
                ),
            ),
            (
                r#"{"event_handlers":["a",1,true]}"#,
                format!(
                    "2 error(s) decoding:\n\n* 'event_handlers[1]' {string} 'float64', value: '1'\n\
                     * 'event_handlers[2]' {string} 'bool', value: 'true'"
                ),
            ),
            (r#"{"tags":["a"]}"#, "1 error(s) decoding:\n\n* 'tags' expected a map, got 'slice'".to_owned()),
            (
                r#"{"mdns":{"disable_ipv4":"x","bogus":1}}"#,
                "2 error(s) decoding:\n\n* 'mdns' has invalid keys: bogus\n\
                 * 'mdns.disable_ipv4' expected type 'bool', got unconvertible type 'string', value: 'x'"
                    .to_owned(),
            ),
            (r#"{"mdns":1}"#, "1 error(s) decoding:\n\n* 'mdns' expected a map, got 'float64'".to_owned()),
            (
                r#"{"broadcast_timeout":"x","retry_interval":"5"}"#,
                "time: missing unit in duration \"5\"".to_owned(),
            ),
            (
                r#"{"reconnect_interval":"abc","bogus":1}"#,
                "1 error(s) decoding:\n\n* '' has invalid keys: bogus".to_owned(),
            ),
            (
                r#"{"retry_interval":5}"#,
                format!("1 error(s) decoding:\n\n* 'retry_interval' {string} 'float64', value: '5'"),
            ),
            ("{bad", "invalid character 'b' looking for beginning of object key string".to_owned()),
        ];
        for (text, expected) in cases {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    #[test]
    fn values_are_shown_as_in_go() {
        for (value, expected) in [
            ("100000", "100000"),
            ("1234567", "1.234567e+06"),
            ("1e20", "1e+20"),
            ("0.0001", "0.0001"),
            ("-0.00001", "-1e-05"),
            ("12.5e3", "12500"),
            (r#"[1,"a",null]"#, "[1 a <nil>]"),
            (r#"{"b":1,"a":[1.5,true]}"#, "map[a:[1.5 true] b:1]"),
        ] {
            let text = refused(&format!("{{\"node_name\": {value}}}"));
            assert!(text.ends_with(&format!(" value: '{expected}'")), "{text}");
        }
        let text = refused(r#"{"encrypt_key": ["sekret"], "rpc_auth": {"sekret": 1}}"#);
        assert!(!text.contains("sekret") && text.contains("'encrypt_key'"), "{text}");
    }

    #[test]
    fn what_the_reference_accepts_is_accepted() {
        let same = File { node_name: Some(Text::from("b")), ..File::default() };
        for text in [
            r#"{"NODE_NAME":"b"}"#,
            r#"{"node_name":"a","node_name":"b"}"#,
            r#"{"node_name":"b","protocol":null,"tags":null,"start_join":null,"retry_interval":""}"#,
            r#"{"node_name":"b","MsgpackUseNewTimeFormat":true,"mdns":null}"#,
            r#"{"node_name":"b","start_join":[],"tags":{},"mdns":{}} {"bogus":1}"#,
        ] {
            assert_eq!(file(text), same, "{text}");
        }
        for text in ["{}", "null", " {} trailing"] {
            assert_eq!(file(text), File::default(), "{text}");
        }
        let cut = file(r#"{"protocol":5.7,"query_size_limit":-1.9,"retry_max_attempts":1e300}"#);
        assert_eq!((cut.protocol, cut.query_size_limit), (Some(5), Some(-1)));
        assert_eq!(cut.retry_max_attempts, Some(i64::MAX));
        let tags = file(r#"{"tags":{"a":null,"A":"2","\ud800":"x","a":"3"}}"#).tags;
        let expected = [("A", "2"), ("a", "3"), ("\u{fffd}", "x")];
        assert_eq!(tags, expected.map(|(name, value)| (Text::from(name), Text::from(value))));
        assert_eq!(file(r#"{"event_handlers":[null]}"#).event_handlers, [HandlerSpec::Line(Text::default())]);
        let seconds = file(r#"{"tombstone_timeout":"-5s","reclaim_time":"1m"}"#);
        assert_eq!(seconds.tombstone_timeout_ns, Some(-5_000_000_000));
        assert_eq!(seconds.reclaim_time_ns, Some(60_000_000_000));
        let mdns = file(r#"{"mdns":{"Interface":"lo","disable_ipv6":true}}"#);
        assert_eq!((mdns.mdns_interface, mdns.mdns_disable_ipv6), (Some(Text::from("lo")), Some(true)));
    }

    #[test]
    fn a_handler_may_be_an_object() {
        let handlers = file(
            r#"{"event_handlers":["user=x",{"Filter":"user:a","command":"x --y=z","timeout":"5s","queue":6.5},{}]}"#,
        )
        .event_handlers;
        let fields = |filter: &str, command: &str, timeout: Option<&str>, queue| HandlerSpec::Fields {
            filter: Text::from(filter),
            command: Text::from(command),
            timeout: timeout.map(Text::from),
            queue,
            concurrency: None,
        };
        let expected = [
            HandlerSpec::Line(Text::from("user=x")),
            fields("user:a", "x --y=z", Some("5s"), Some(6)),
            fields("", "", None, None),
        ];
        assert_eq!(handlers, expected);
        assert_eq!(
            refused(r#"{"event_handlers":[{"comand":"x","queue":"6","timeout":5}]}"#),
            "3 error(s) decoding:\n\n* 'event_handlers[0]' has invalid keys: comand\n\
             * 'event_handlers[0].queue' expected type 'int', got unconvertible type 'string', value: '6'\n\
             * 'event_handlers[0].timeout' expected type 'string', got unconvertible type 'float64', value: '5'\n\n\
             line 1: 'comand' is unknown; did you mean 'command'?"
        );
    }

    #[test]
    fn of_two_spellings_the_exact_one_is_meant() {
        assert_eq!(
            refused(r#"{"NODE_NAME":5,"node_name":"b"}"#),
            "1 error(s) decoding:\n\n* '' has invalid keys: NODE_NAME\n\n\
             line 1: 'NODE_NAME' is unknown; did you mean 'node_name'?"
        );
    }

    #[test]
    fn near_keys_are_named_with_their_lines() {
        assert_eq!(
            refused("{\n \"ReconnectInterval\": 5,\n \"tag\": 1, \"leave_on_interrupt\": true}"),
            "1 error(s) decoding:\n\n* '' has invalid keys: ReconnectInterval, leave_on_interrupt, tag\n\n\
             line 2: 'ReconnectInterval' is unknown; did you mean 'reconnect_interval'?\n\
             line 3: 'tag' is unknown; did you mean 'tags'?"
        );
        let near = |key: &str| nearest(key, &["bind", "tags", "role", "enable_syslog"]);
        assert_eq!(near("EnableSyslog"), Some("enable_syslog"));
        assert_eq!(near("a"), None);
        assert_eq!(near("bnid"), Some("bind"));
        assert_eq!(near(&"x".repeat(1_000_000)), None);
    }

    #[test]
    fn problems_know_their_lines() {
        let text = "{\n\"bogus\": 1,\n\"tags\": {\n\"a\": 1},\n\"retry_interval\": \"x\"\n}";
        let problems = decode(text.as_bytes()).expect_err("it is wrong").problems;
        let found: Vec<(Option<usize>, &str)> =
            problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
        assert_eq!(found, [(Some(2), "bogus"), (Some(3), "tags[a]"), (Some(5), "retry_interval")]);
        let decoded = decode(b"{\n\n\"TAGS\": {\"a\": \"b\"}}\n\n x").expect("it is right");
        assert_eq!((decoded.line("tags[a]"), decoded.line("role"), decoded.rest), (Some(3), None, Some(5)));
        assert_eq!(decode(b"{\n]").expect_err("it is wrong").problems[0].line, Some(2));
    }
}
