//! A configuration file from its bytes (agent.md 4.2).
//!
//! Decides which keys and types are accepted and in which words the others are refused; what values mean is
//! decided by [`settings`](super::settings). Keys match without regard to case, of equal ones the last counts,
//! `null` is not given, nothing is converted but fractions, which are cut. A file with mistakes is read to its end,
//! so that all of them are known at once. Invariant: whatever the reference accepts is accepted.

use super::file::{File, Slot};
use crate::escape;
use crate::handler::HandlerSpec;
use crate::json::{self, Entry, Item, Json};
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// What it says.
    pub file: File,
    /// The line on which there is something behind the JSON value, which is not read.
    pub rest: Option<usize>,
    /// Keys that stand again further below.
    pub repeated: Vec<Problem>,
    /// Of keys and of elements of lists and tags.
    lines: BTreeMap<String, usize>,
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

impl Problem {
    /// `FILE:LINE: 'KEY': REASON`, as far as it is known; one line, whatever the file holds.
    pub fn in_file(&self, path: &str) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let key = if self.key.is_empty() { String::new() } else { format!("'{}': ", self.key) };
        escape::line(format!("{path}{line}: {key}{}", self.reason).as_bytes())
    }
}

/// Why a file cannot be used; `Display` is what the agent says after `Error decoding 'PATH': `.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeError {
    text: String,
    /// Each thing that is wrong.
    pub problems: Vec<Problem>,
    /// What is right all the same.
    pub understood: Box<Decoded>,
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
        DecodeError { text, problems, understood: Box::default() }
    };
    let (value, rest) = json::first(bytes).map_err(|fault| alone(Some(fault.line), fault.to_string()))?;
    let mut decoder = Decoder { decoded: Decoded { rest, ..Decoded::default() }, ..Decoder::default() };
    match value {
        Json::Null => {}
        Json::Map(entries) => decoder.take(entries),
        other => return Err(alone(None, format!("'' {}", expected_map(&other)))),
    }
    decoder.finish()
}

impl Decoded {
    /// Where a key stands, or an element such as `tags[a]`; of one that does not stand there itself, the whole.
    pub fn line(&self, name: &str) -> Option<usize> {
        let whole = || self.lines.get(name.split('[').next()?);
        self.lines.get(name).or_else(whole).copied()
    }
}

#[derive(Default)]
struct Decoder {
    decoded: Decoded,
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
        let mut file = File::default();
        let slots = file.slots();
        let mut names: Vec<&'static str> = slots.iter().map(|(name, _)| *name).collect();
        let inner: Vec<&'static str> = names.iter().filter_map(|name| name.strip_prefix("mdns.")).collect();
        names.retain(|name| !name.contains('.'));
        names.push("mdns");
        let mut known = self.sort_out("", entries, &names);
        let mut own = match known.remove("mdns") {
            None | Some((_, Json::Null)) => Known::new(),
            Some((_, Json::Map(entries))) => self.sort_out("mdns", entries, &inner),
            Some((line, other)) => {
                self.refuse(line, "mdns", expected_map(&other));
                Known::new()
            }
        };
        for (name, slot) in slots {
            let value = match name.strip_prefix("mdns.") {
                Some(inner) => own.remove(inner),
                None => known.remove(name),
            };
            if let Some((line, value)) = value {
                self.put((line, name), slot, value);
            }
        }
        self.decoded.file = file;
    }

    /// The value of each key, and where it stands.
    fn last_of_each(
        &mut self,
        entries: Vec<Entry>,
        named: impl Fn(&str) -> String,
    ) -> BTreeMap<String, (usize, Json)> {
        let mut last = BTreeMap::new();
        for Entry { key, line, value } in entries {
            let name = named(&key);
            if let Some((earlier, _)) = last.insert(key, (line, value)) {
                let reason = format!("stands again on line {line}, where it counts");
                self.decoded.repeated.push(Problem { line: Some(earlier), key: name, reason });
            }
        }
        last
    }

    /// Which values belong to which of these keys of the object `parent`; says which keys are none of them.
    fn sort_out(&mut self, parent: &str, entries: Vec<Entry>, names: &[&'static str]) -> Known {
        let full = |key: &str| if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        let mut known = Known::new();
        let mut others = Vec::new();
        for (key, value) in self.last_of_each(entries, full) {
            match names.iter().find(|name| **name == key) {
                Some(name) => drop(known.insert(name, value)),
                None => others.push((key, value)),
            }
        }
        let mut unknown = Vec::new();
        for (key, value) in others {
            let folded = fold(&key);
            let reason = match names.iter().find(|name| fold(name) == folded) {
                Some(name) if known.contains_key(name) => {
                    Some(format!("is '{name}' in another spelling, which is there too"))
                }
                Some(name) => {
                    known.insert(name, value);
                    continue;
                }
                None if parent.is_empty() && folded == fold(IGNORED) => continue,
                None => nearest(&key, names).map(|near| format!("is unknown; did you mean '{near}'?")),
            };
            let line = value.0;
            self.hints.extend(reason.iter().map(|reason| format!("line {line}: '{key}' {reason}")));
            let reason = reason.unwrap_or_else(|| "is unknown".to_owned());
            self.problems.push(Problem { line: Some(line), key: full(&key), reason });
            unknown.push(key);
        }
        if !unknown.is_empty() {
            self.bullets.push(format!("'{parent}' has invalid keys: {}", unknown.join(", ")));
        }
        known
    }

    fn put(&mut self, (line, name): (usize, &str), slot: Slot<'_>, value: Json) {
        if value == Json::Null {
            return;
        }
        self.decoded.lines.insert(name.to_owned(), line);
        match (slot, value) {
            (Slot::Text(place), Json::Text(text)) => *place = Some(text.into()),
            (Slot::Secret(place), Json::Text(text)) => *place = Some(text.into_bytes().into()),
            (Slot::Path(place), Json::Text(text)) => *place = Some(text.into()),
            (Slot::Flag(place) | Slot::Switch(place), Json::Bool(value)) => *place = Some(value),
            (Slot::Number(place) | Slot::Positive(place), Json::Number(number)) => {
                *place = Some(number as i64);
            }
            // Empty is not given.
            (Slot::Duration(_), Json::Text(text)) if text.is_empty() => {}
            (Slot::Duration(place), Json::Text(text)) => match parse_duration(&text) {
                Ok(nanos) => *place = Some(nanos),
                Err(why) => {
                    self.bad_duration.get_or_insert_with(|| why.clone());
                    self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why });
                }
            },
            (Slot::Tags(place), Json::Map(entries)) => {
                let full = |tag: &str| format!("{name}[{tag}]");
                for (tag, (line, value)) in self.last_of_each(entries, full) {
                    let value = self.text((line, &full(&tag)), value);
                    place.extend(value.map(|value| (Text::from(tag), value)));
                }
            }
            (Slot::Texts(place), Json::List(items)) => {
                for (index, Item { line, value }) in items.into_iter().enumerate() {
                    place.extend(self.text((line, &format!("{name}[{index}]")), value));
                }
            }
            (Slot::Handlers(place), Json::List(items)) => {
                for (index, Item { line, value }) in items.into_iter().enumerate() {
                    let handler = self.handler((line, &format!("{name}[{index}]")), value);
                    // One that is wrong keeps its place, so that the others keep their numbers.
                    place.push(handler.unwrap_or(HandlerSpec::Line(Text::default())));
                }
            }
            (slot, other) => self.refuse_kind((line, name), &slot, &other),
        }
    }

    /// The value is of a kind that this place does not take.
    fn refuse_kind(&mut self, (line, name): (usize, &str), slot: &Slot<'_>, value: &Json) {
        let wanted = match slot {
            Slot::Tags(_) => return self.refuse(line, name, expected_map(value)),
            Slot::Texts(_) | Slot::Handlers(_) => {
                let why = format!("source data must be an array or slice, got {}", kind(value));
                self.bullets.push(format!("'{name}': {why}"));
                return self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why });
            }
            // What was meant as a key or a token is not shown.
            Slot::Secret(_) => return self.refuse(line, name, expected("string", value, "hidden")),
            Slot::Text(_) | Slot::Path(_) | Slot::Duration(_) => "string",
            Slot::Flag(_) | Slot::Switch(_) => "bool",
            Slot::Number(_) | Slot::Positive(_) => "int",
        };
        self.refuse(line, name, expected(wanted, value, &shown(value)));
    }

    /// One of several texts, of which `null` is an empty one.
    fn text(&mut self, (line, name): (usize, &str), value: Json) -> Option<Text> {
        self.decoded.lines.insert(name.to_owned(), line);
        match value {
            Json::Null => Some(Text::default()),
            Json::Text(text) => Some(Text::from(text)),
            other => {
                self.refuse(line, name, expected("string", &other, &shown(&other)));
                None
            }
        }
    }

    /// A text as on the command line, or an object.
    fn handler(&mut self, (line, name): (usize, &str), value: Json) -> Option<HandlerSpec> {
        let Json::Map(entries) = value else { return self.text((line, name), value).map(HandlerSpec::Line) };
        self.decoded.lines.insert(name.to_owned(), line);
        let faults = self.problems.len();
        let mut known = self.sort_out(name, entries, &HANDLER_OPTIONS);
        known.retain(|_, (_, value)| *value != Json::Null);
        // Of two names for one thing the wrong one has been told.
        if !known.contains_key("command") && self.problems.len() == faults {
            self.refuse(line, name, "has no 'command'".to_owned());
        }
        let mut text = |decoder: &mut Decoder, option: &'static str| {
            let (line, value) = known.remove(option)?;
            decoder.text((line, &format!("{name}.{option}")), value)
        };
        let (filter, command) = (text(self, "filter"), text(self, "command"));
        let timeout = text(self, "timeout");
        let mut number = |decoder: &mut Decoder, option: &'static str| match known.remove(option)? {
            (_, Json::Number(number)) => Some(number as i64),
            (line, other) => {
                decoder.refuse(line, &format!("{name}.{option}"), expected("int", &other, &shown(&other)));
                None
            }
        };
        let (queue, concurrency) = (number(self, "queue"), number(self, "concurrency"));
        let (filter, command) = (filter.unwrap_or_default(), command.unwrap_or_default());
        Some(HandlerSpec::Fields { filter, command, timeout, queue, concurrency })
    }

    fn refuse(&mut self, line: usize, name: &str, why: String) {
        self.bullets.push(format!("'{name}' {why}"));
        self.problems.push(Problem { line: Some(line), key: name.to_owned(), reason: why });
    }

    fn finish(mut self) -> Result<Decoded, DecodeError> {
        self.problems.sort_by_key(|problem| problem.line);
        let text = if !self.bullets.is_empty() {
            self.bullets.sort();
            let mut text =
                format!("{} error(s) decoding:\n\n* {}", self.bullets.len(), self.bullets.join("\n* "));
            if !self.hints.is_empty() {
                text = format!("{text}\n\n{}", self.hints.join("\n"));
            }
            text
        } else if let Some(text) = self.bad_duration {
            text
        } else {
            return Ok(self.decoded);
        };
        Err(DecodeError { text, problems: self.problems, understood: Box::new(self.decoded) })
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
        Json::List(items) => {
            format!("[{}]", items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join(" "))
        }
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
            r#"{"event_handlers":["user=x",{"Filter":"user:a","command":"x --y=z","timeout":"5s","queue":6.5},{"command":""}]}"#,
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
        assert_eq!(
            refused(r#"{"event_handlers":[{"filter":"user"}, {"command":null}]}"#),
            "2 error(s) decoding:\n\n* 'event_handlers[0]' has no 'command'\n* 'event_handlers[1]' has no 'command'"
        );
    }

    #[test]
    fn of_two_spellings_the_exact_one_is_meant() {
        assert_eq!(
            refused(r#"{"NODE_NAME":5,"node_name":"b"}"#),
            "1 error(s) decoding:\n\n* '' has invalid keys: NODE_NAME\n\n\
             line 1: 'NODE_NAME' is 'node_name' in another spelling, which is there too"
        );
        let error = decode(br#"{"NODE_NAME":"a","Node_Name":"b"}"#).expect_err("one is too many");
        assert_eq!(error.understood.file.node_name, Some(Text::from("a")));
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
        let text = "{\n\"bogus\": 1,\n\"tags\": {\n\"a\": 1},\n\"retry_interval\": \"x\",\n\"start_join\": [\"a\",\n2]\n}";
        let problems = decode(text.as_bytes()).expect_err("it is wrong").problems;
        let found: Vec<(Option<usize>, &str)> =
            problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
        let expected = [(2, "bogus"), (4, "tags[a]"), (5, "retry_interval"), (7, "start_join[1]")];
        assert_eq!(found, expected.map(|(line, key)| (Some(line), key)));
        let decoded = decode(b"{\n\n\"TAGS\": {\n\"a\": \"b\"}, \"role\": null}\n\n x").expect("it is right");
        let lines = ["tags", "tags[a]", "tags[b]", "role"].map(|name| decoded.line(name));
        assert_eq!((lines, decoded.rest), ([Some(3), Some(4), Some(3), None], Some(6)));
        assert_eq!(decode(b"{\n]").expect_err("it is wrong").problems[0].line, Some(2));
    }

    #[test]
    fn a_problem_is_one_line() {
        let problems = decode(b"{\"a\\u001b[1m\\n\": 1}").expect_err("it is wrong").problems;
        assert_eq!(problems[0].in_file("x\ny"), "x\\ny:1: 'a\\x1b[1m\\n': is unknown");
        let problem = Problem { line: None, key: String::new(), reason: "r".to_owned() };
        assert_eq!(problem.in_file("c.json"), "c.json: r");
    }

    #[test]
    fn what_is_right_beside_a_mistake_is_understood() {
        let text =
            "{\"bogus\": 1, \"tags\": {\"a\": 1, \"b\": \"c\"},\n\"log_format\": \"json\",\n\"bind\": 5} x";
        let understood = decode(text.as_bytes()).expect_err("it is wrong").understood;
        let expected =
            File { tags: vec![("b".into(), "c".into())], log_format: Some("json".into()), ..File::default() };
        assert_eq!(
            (understood.file.clone(), understood.rest, understood.line("log_format")),
            (expected, Some(3), Some(2))
        );
        assert_eq!(*decode(b"{\"bind\": \"x\"").expect_err("it is cut").understood, Decoded::default());
    }

    #[test]
    fn what_stands_twice_is_known() {
        let text = "{\"bind\": \"a\",\n\"bind\": \"b\",\n\"bind\": \"c\", \"mdns\": {\"interface\": \"x\",\n\"interface\": \"y\"},\n\
                    \"tags\": {\"x\": \"1\",\n\"x\": \"2\"}}";
        let decoded = decode(text.as_bytes()).expect("the last one counts");
        let problem = |line, key: &str, again| Problem {
            line: Some(line),
            key: key.to_owned(),
            reason: format!("stands again on line {again}, where it counts"),
        };
        let expected = [
            problem(1, "bind", 2),
            problem(2, "bind", 3),
            problem(3, "mdns.interface", 4),
            problem(5, "tags[x]", 6),
        ];
        assert_eq!(decoded.repeated, expected);
        assert_eq!((decoded.file.bind, decoded.file.tags.len()), (Some("c".into()), 1));
    }
}
