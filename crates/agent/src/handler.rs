//! Which events a handler or a stream wants, and what a handler runs (agent.md 12.1, rpc.md 5.1).
//!
//! Decides the syntax of filters and whether an event matches; does not decide when anything runs. An
//! event matches a filter once, however many of its words name it.

use std::fmt;
use villein_core::member::{Event, MemberEventKind};
use villein_core::text::Text;

/// A set of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    words: Vec<Word>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Any,
    Members(MemberEventKind),
    /// Empty for every name.
    User(Vec<u8>),
    /// Empty for every name.
    Query(Vec<u8>),
}

const MEMBER_KINDS: [MemberEventKind; 5] = [
    MemberEventKind::Join,
    MemberEventKind::Leave,
    MemberEventKind::Failed,
    MemberEventKind::Update,
    MemberEventKind::Reap,
];

impl EventFilter {
    /// A comma separated list without white space; empty for all events. `None` if a word is unknown.
    pub fn parse(text: &[u8]) -> Option<EventFilter> {
        if text.is_empty() {
            return Some(EventFilter { words: vec![Word::Any] });
        }
        let words = text.split(|&byte| byte == b',').map(Word::parse).collect::<Option<Vec<Word>>>()?;
        Some(EventFilter { words })
    }

    /// Whether the event belongs to the set. What belongs to a query of ours never does.
    pub fn matches(&self, event: &Event) -> bool {
        self.words.iter().any(|word| word.matches(event))
    }

    /// The words of the list, as they are written.
    pub fn words(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.words.iter().map(Word::text)
    }
}

impl Word {
    fn parse(text: &[u8]) -> Option<Word> {
        if let Some(name) = text.strip_prefix(b"user:") {
            return Some(Word::User(name.to_vec()));
        }
        if let Some(name) = text.strip_prefix(b"query:") {
            return Some(Word::Query(name.to_vec()));
        }
        match text {
            b"*" => Some(Word::Any),
            b"user" => Some(Word::User(Vec::new())),
            b"query" => Some(Word::Query(Vec::new())),
            _ => MEMBER_KINDS.into_iter().find(|kind| kind.name().as_bytes() == text).map(Word::Members),
        }
    }

    fn matches(&self, event: &Event) -> bool {
        let named = |wanted: &[u8], name: &[u8]| wanted.is_empty() || wanted == name;
        match (self, event) {
            (Word::Any, Event::Members { .. } | Event::User { .. } | Event::Query { .. }) => true,
            (Word::Members(wanted), Event::Members { kind, .. }) => wanted == kind,
            (Word::User(wanted), Event::User { name, .. }) => named(wanted, name),
            (Word::Query(wanted), Event::Query { name, .. }) => named(wanted, name),
            _ => false,
        }
    }

    fn text(&self) -> Vec<u8> {
        let named = |kind: &str, name: &[u8]| match name {
            b"" => kind.as_bytes().to_vec(),
            name => [kind.as_bytes(), b":", name].concat(),
        };
        match self {
            Word::Any => b"*".to_vec(),
            Word::Members(kind) => kind.name().as_bytes().to_vec(),
            Word::User(name) => named("user", name),
            Word::Query(name) => named("query", name),
        }
    }
}

/// A handler as it was configured, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerSpec {
    /// `[FILTER=]COMMAND`, as on the command line.
    Line(Text),
}

/// A command that runs for each event of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// For which events.
    pub filter: EventFilter,
    /// For the shell.
    pub command: Vec<u8>,
}

/// Why a handler is refused; `Display` is the message at the start (agent.md 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    word: String,
    command: String,
    /// Whether what stands before the `=` looks like a command instead of a filter.
    filter_missing: Option<String>,
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid event script: Event '{}' invoking '{}'", self.word, self.command)?;
        match &self.filter_missing {
            Some(whole) => write!(f, " (a command that contains '=' needs a filter: '*={whole}')"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HandlerError {}

impl Handler {
    /// `[FILTER=]COMMAND`, split at the first `=`. White space around the words of the filter is dropped.
    pub fn parse(text: &[u8]) -> Result<Handler, HandlerError> {
        let (filter, command) = match text.iter().position(|&byte| byte == b'=') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (&[][..], text),
        };
        if filter.trim_ascii().is_empty() {
            return Ok(Handler { filter: EventFilter { words: vec![Word::Any] }, command: command.to_vec() });
        }
        let mut words = Vec::new();
        for word in filter.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let like_a_command = filter.iter().any(|byte| matches!(byte, b' ' | b'/' | b'\t'));
            words.push(Word::parse(word).ok_or_else(|| HandlerError {
                word: shown(word),
                command: shown(command),
                filter_missing: like_a_command.then(|| shown(text)),
            })?);
        }
        Ok(Handler { filter: EventFilter { words }, command: command.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_core::member::QueryKey;
    use villein_core::time::Instant;

    fn user(name: &str) -> Event {
        Event::User { ltime: 1, name: name.into(), payload: None, coalesce: false }
    }

    fn query(name: &str) -> Event {
        let key = QueryKey { ltime: 1, id: 1 };
        Event::Query { key, name: name.into(), payload: None, deadline: Instant::NEVER }
    }

    fn members(kind: MemberEventKind) -> Event {
        Event::Members { kind, members: Vec::new() }
    }

    #[test]
    fn filters_choose_events() {
        let matches = |filter: &str, event: &Event| {
            EventFilter::parse(filter.as_bytes()).expect("the filter is valid").matches(event)
        };
        for (filter, event, wanted) in [
            ("", user("a"), true),
            ("*", members(MemberEventKind::Reap), true),
            ("*", query("a"), true),
            ("user", user("a"), true),
            ("user", query("a"), false),
            ("user:", user("a"), true),
            ("user:a", user("a"), true),
            ("user:a", user("ab"), false),
            ("user:A", user("a"), false),
            ("query:a:b", query("a:b"), true),
            ("query", members(MemberEventKind::Join), false),
            ("member-join,member-leave", members(MemberEventKind::Leave), true),
            ("member-join,member-leave", members(MemberEventKind::Failed), false),
            ("*", Event::QueryDone { key: QueryKey { ltime: 1, id: 1 } }, false),
        ] {
            assert_eq!(matches(filter, &event), wanted, "{filter} {event:?}");
        }
    }

    #[test]
    fn unknown_words_make_no_filter() {
        for filter in ["bogus", "user,", ",", "user, query", " user", "User", "member-join:x", "member_join"]
        {
            assert_eq!(EventFilter::parse(filter.as_bytes()), None, "{filter}");
        }
    }

    #[test]
    fn a_handler_is_a_filter_and_a_command() {
        for (text, words, command) in [
            ("x.sh", &["*"][..], "x.sh"),
            ("=x.sh", &["*"], "x.sh"),
            ("user:a=x.sh --b=c", &["user:a"], "x.sh --b=c"),
            ("user:=x", &["user"], "x"),
            ("member-join,query=x", &["member-join", "query"], "x"),
            ("member-join, query =x", &["member-join", "query"], "x"),
            ("user=", &["user"], ""),
        ] {
            let handler = Handler::parse(text.as_bytes()).expect("the handler is valid");
            let shown: Vec<Vec<u8>> = handler.filter.words().collect();
            assert_eq!(
                shown,
                words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>(),
                "{text}"
            );
            assert_eq!(handler.command, command.as_bytes());
        }
    }

    #[test]
    fn a_refused_handler_says_what_to_write() {
        let error = |text: &str| Handler::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("bogus=x.sh"), "Invalid event script: Event 'bogus' invoking 'x.sh'");
        assert_eq!(error("user,bogus:n=x.sh"), "Invalid event script: Event 'bogus:n' invoking 'x.sh'");
        assert_eq!(
            error("x.sh --opt=1"),
            "Invalid event script: Event 'x.sh --opt' invoking '1' \
             (a command that contains '=' needs a filter: '*=x.sh --opt=1')"
        );
    }
}
