//! Which events a handler or a stream wants, and what a handler runs (agent.md 12.1, rpc.md 5.1).
//!
//! Decides the syntax of filters and of the options of handlers, and whether an event matches; does not decide
//! when anything runs. An event matches a filter once, however many of its words name it.
//!
//! Options stand in braces before the filter: `{timeout=5s,queue=64,concurrency=4}user:deploy=x.sh`. The
//! reference takes what stands before the first `=` for a filter and refuses one that begins with a brace, so no
//! handler that works there is misunderstood here. Invariant: every number of a [`Handler`] is within its bounds.

use crate::limits::{HANDLER_CONCURRENCY_MAX, HANDLER_QUEUE, HANDLER_QUEUE_MAX};
use std::fmt;
use villein_core::gotext::parse_duration;
use villein_core::member::{Event, MemberEventKind};
use villein_core::text::Text;
use villein_core::time::Duration;

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

    /// Like [`parse`](EventFilter::parse), with white space around the words; `Err` has the word that is unknown.
    fn of_handler(text: &[u8]) -> Result<EventFilter, String> {
        if text.trim_ascii().is_empty() {
            return Ok(EventFilter { words: vec![Word::Any] });
        }
        let words = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let words = words.map(|word| Word::parse(word).ok_or_else(|| shown(word)));
        Ok(EventFilter { words: words.collect::<Result<Vec<Word>, String>>()? })
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
    /// `[{OPTION=VALUE,...}][FILTER=]COMMAND`, as on the command line.
    Line(Text),
    /// An object in a file: [`FORM_IN_FILES`]. Options that were not given are `None`.
    Fields {
        /// As before the `=` of a line; empty for all events.
        filter: Text,
        /// For the shell; it may hold any `=`.
        command: Text,
        /// A duration such as `5s`.
        timeout: Option<Text>,
        /// How many events may wait.
        queue: Option<i64>,
        /// How many of its scripts may run at once.
        concurrency: Option<i64>,
    },
}

/// How the options of a handler are written on the command line.
pub const FORM: &str = "{timeout=5s,queue=64,concurrency=4}FILTER=COMMAND";

/// How the options of a handler are written in a configuration file.
pub const FORM_IN_FILES: &str =
    r#"{"filter": "user", "command": "x.sh", "timeout": "5s", "queue": 64, "concurrency": 4}"#;

/// A command that runs for each event of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// For which events.
    pub filter: EventFilter,
    /// For the shell.
    pub command: Vec<u8>,
    /// When a script that still runs is ended with all that it started; `None` for never.
    pub timeout: Option<Duration>,
    /// How many events may wait for it, from 1 to [`HANDLER_QUEUE_MAX`]; the oldest are dropped.
    pub queue: usize,
    /// How many of its scripts may run at once, from 1 to [`HANDLER_CONCURRENCY_MAX`]. With 1 they take turns with
    /// those of other handlers. With more they run as soon as there is an event, so that neither its own events
    /// nor those of other handlers keep their order.
    pub concurrency: usize,
}

/// Why a handler is refused; `Display` is the message at the start (agent.md 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerError {
    /// A word of the filter names no event.
    Event {
        /// The word.
        word: String,
        /// What follows the first `=`.
        command: String,
        /// What might have been meant, if the filter does not look like one.
        hint: Option<String>,
    },
    /// An option is wrong.
    Option {
        /// The handler, as far as it helps to find it.
        handler: String,
        /// What is wrong, with the name of the option.
        why: String,
        /// How options are written.
        form: &'static str,
    },
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerError::Event { word, command, hint } => {
                write!(f, "Invalid event script: Event '{word}' invoking '{command}'")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
            }
            HandlerError::Option { handler, why, form } => {
                write!(f, "Invalid event script '{handler}': {why} (options are written like {form})")
            }
        }
    }
}

impl std::error::Error for HandlerError {}

impl Handler {
    /// The handler that was configured.
    pub fn from_spec(spec: &HandlerSpec) -> Result<Handler, HandlerError> {
        match spec {
            HandlerSpec::Line(line) => Handler::parse(line),
            HandlerSpec::Fields { filter, command, timeout, queue, concurrency } => {
                let timeout = timeout.as_ref().map(Text::to_string);
                let options = Options { timeout, queue: *queue, concurrency: *concurrency };
                Handler::new(filter, command, &options, FORM_IN_FILES)
            }
        }
    }

    /// `[{OPTION=VALUE,...}][FILTER=]COMMAND`, split at the first `=` behind the options. White space around words
    /// is dropped, in the filter and in the options.
    pub fn parse(text: &[u8]) -> Result<Handler, HandlerError> {
        let refused = |why| HandlerError::Option { handler: shown(text), why, form: FORM };
        let (options, rest) = match options_before(text) {
            None => (Options::default(), text),
            Some(first) => {
                let Some(end) = text.iter().position(|&byte| byte == b'}') else {
                    return Err(refused(format!("no '}}' ends the options that begin with '{first}'")));
                };
                (Options::parse(&text[1..end]).map_err(refused)?, &text[end + 1..])
            }
        };
        let (filter, command) = match rest.iter().position(|&byte| byte == b'=') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (&[][..], rest),
        };
        let before = &text[..text.len() - rest.len()];
        let mut handler = Handler::new(filter, command, &options, FORM);
        match &mut handler {
            Ok(_) => {}
            Err(HandlerError::Event { word, hint, .. }) => *hint = hint_about(word, before, rest),
            Err(HandlerError::Option { handler, .. }) => *handler = shown(text),
        }
        handler
    }

    /// Whether its scripts wait for those of other handlers, and those for its own.
    pub(crate) fn takes_turns(&self) -> bool {
        self.concurrency == 1
    }

    fn new(
        filter: &[u8],
        command: &[u8],
        options: &Options,
        form: &'static str,
    ) -> Result<Handler, HandlerError> {
        let refused = |why| HandlerError::Option { handler: shown(command), why, form };
        Ok(Handler {
            filter: EventFilter::of_handler(filter).map_err(|word| HandlerError::Event {
                word,
                command: shown(command),
                hint: None,
            })?,
            command: command.to_vec(),
            timeout: options.timeout().map_err(refused)?,
            queue: bounded("queue", options.queue, HANDLER_QUEUE, HANDLER_QUEUE_MAX).map_err(refused)?,
            concurrency: bounded("concurrency", options.concurrency, 1, HANDLER_CONCURRENCY_MAX)
                .map_err(refused)?,
        })
    }
}

/// The options of a handler before they are checked.
#[derive(Default)]
struct Options {
    timeout: Option<String>,
    queue: Option<i64>,
    concurrency: Option<i64>,
}

impl Options {
    /// What stands between the braces.
    fn parse(text: &[u8]) -> Result<Options, String> {
        let mut options = Options::default();
        for option in shown(text).split(',') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let (name, value) = (name.trim(), value.trim());
            // What is no number is out of bounds like one that is too small.
            let number = || Some(value.parse().unwrap_or(-1));
            let is_again = match name {
                "timeout" => options.timeout.replace(value.to_owned()).is_some(),
                "queue" => std::mem::replace(&mut options.queue, number()).is_some(),
                "concurrency" => std::mem::replace(&mut options.concurrency, number()).is_some(),
                _ => return Err(format!("there is no option '{name}'")),
            };
            if is_again {
                return Err(format!("option '{name}' is given twice"));
            }
        }
        Ok(options)
    }

    /// Zero is the same as none.
    fn timeout(&self) -> Result<Option<Duration>, String> {
        let Some(text) = &self.timeout else { return Ok(None) };
        let nanos = parse_duration(text).map_err(|why| format!("option 'timeout': {why}"))?;
        let nanos = u64::try_from(nanos).map_err(|_| "option 'timeout' must not be negative".to_owned())?;
        Ok(Some(Duration::from_nanos(nanos)).filter(|timeout| !timeout.is_zero()))
    }
}

fn bounded(name: &str, value: Option<i64>, default: usize, max: usize) -> Result<usize, String> {
    let Some(value) = value else { return Ok(default) };
    let value = usize::try_from(value).ok().filter(|value| (1..=max).contains(value));
    value.ok_or_else(|| format!("option '{name}' must be a number from 1 to {max}"))
}

/// The name of the first option if options stand at the beginning: a brace, a name and `=`, without white space
/// between them. What a shell takes for a group of commands has a space behind its brace.
fn options_before(text: &[u8]) -> Option<String> {
    let inside = text.strip_prefix(b"{")?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let length = inside.iter().take_while(|byte| is_name(byte)).count();
    (length > 0 && inside.get(length) == Some(&b'=')).then(|| shown(&inside[..length]))
}

/// What to write instead, if what stands before the first `=` looks like anything but the name of an event.
fn hint_about(word: &str, before: &[u8], rest: &[u8]) -> Option<String> {
    let kind = word.split(':').next().unwrap_or_default();
    if !kind.is_empty() && kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-' | b'_')) {
        return None;
    }
    let mut hint = format!(
        "a command that contains '=' needs a filter: '{}*={}'",
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(rest)
    );
    if word.starts_with('{') {
        hint.push_str("; options are written like ");
        hint.push_str(FORM);
    }
    Some(hint)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
    fn options_stand_before_the_filter() {
        let parse = |text: &str| Handler::parse(text.as_bytes()).expect("the handler is valid");
        let plain = parse("user:a=x.sh --b=c");
        assert_eq!((plain.timeout, plain.queue, plain.concurrency), (None, HANDLER_QUEUE, 1));
        for text in [
            "{timeout=1m30s,queue=64,concurrency=4}user:a=x.sh --b=c",
            "{concurrency=4, queue = 64 ,timeout=90s }user:a=x.sh --b=c",
        ] {
            let timeout = Some(Duration::from_secs(90));
            assert_eq!(parse(text), Handler { timeout, queue: 64, concurrency: 4, ..plain.clone() });
        }
        assert_eq!(parse("{timeout=0}user:a=x.sh --b=c"), plain);
        assert_eq!(parse("{queue=1}x.sh"), Handler { queue: 1, ..parse("x.sh") });
        assert_eq!(parse("{queue=1}{ x; }"), Handler { queue: 1, ..parse("{ x; }") });
        assert_eq!(parse("user:a={timeout=5s}x").command, b"{timeout=5s}x");
    }

    #[test]
    fn a_group_of_commands_is_no_option() {
        for text in ["{ echo a; }", "{}", "{", "{timeout}", "{timeout:5s}x.sh", "{ x; } | { y; }"] {
            let handler = Handler::parse(text.as_bytes()).expect("the command is valid");
            assert_eq!(handler.command, text.as_bytes());
        }
        let refused = Handler::parse(b"{ A=b x; }").unwrap_err().to_string();
        assert!(refused.contains("needs a filter: '*={ A=b x; }'"), "{refused}");
    }

    #[test]
    fn a_refused_option_is_named_with_the_right_form() {
        for (text, why) in [
            ("{timeout=5}x", "option 'timeout': time: missing unit in duration \"5\""),
            ("{timeout=-5s}x", "option 'timeout' must not be negative"),
            ("{timeout=5s,tiemout=5s}x", "there is no option 'tiemout'"),
            ("{timeout=5s,}x", "there is no option ''"),
            ("{FOO=bar}x", "there is no option 'FOO'"),
            ("{queue=0}x", "option 'queue' must be a number from 1 to 16384"),
            ("{timeout=5s,queue}x", "option 'queue' must be a number from 1 to 16384"),
            ("{queue=many}x", "option 'queue' must be a number from 1 to 16384"),
            ("{queue=16385}x", "option 'queue' must be a number from 1 to 16384"),
            ("{concurrency=65}x", "option 'concurrency' must be a number from 1 to 64"),
            ("{concurrency=2,concurrency=3}x", "option 'concurrency' is given twice"),
            ("{timeout=5s user=x.sh", "no '}' ends the options that begin with 'timeout'"),
        ] {
            let message = Handler::parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("Invalid event script '{text}': {why} (options are written like {FORM})")
            );
        }
    }

    #[test]
    fn fields_of_a_file_mean_what_the_line_means() {
        let fields = |filter: &str, timeout: Option<&str>, queue: Option<i64>| HandlerSpec::Fields {
            filter: filter.into(),
            command: "x.sh --b=c".into(),
            timeout: timeout.map(Text::from),
            queue,
            concurrency: None,
        };
        for (spec, line) in [
            (fields("", None, None), "*=x.sh --b=c"),
            (fields("user:a, query", Some("5s"), Some(7)), "{timeout=5s,queue=7}user:a,query=x.sh --b=c"),
            (HandlerSpec::Line("user=y".into()), "user=y"),
        ] {
            assert_eq!(Handler::from_spec(&spec), Handler::parse(line.as_bytes()));
        }
        let error = |spec: &HandlerSpec| Handler::from_spec(spec).unwrap_err().to_string();
        assert_eq!(
            error(&fields("bogus", None, None)),
            "Invalid event script: Event 'bogus' invoking 'x.sh --b=c'"
        );
        assert_eq!(
            error(&fields("user", None, Some(-1))),
            format!(
                "Invalid event script 'x.sh --b=c': option 'queue' must be a number from 1 to 16384 \
                 (options are written like {FORM_IN_FILES})"
            )
        );
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
        for (text, instead) in [
            ("FOO=bar x.sh", "'*=FOO=bar x.sh'"),
            ("user,/x/y.sh --opt=1", "'*=user,/x/y.sh --opt=1'"),
            ("{queue=1}x.sh --opt=1", "'{queue=1}*=x.sh --opt=1'"),
        ] {
            let message = error(text);
            assert!(message.ends_with(&format!(" needs a filter: {instead})")), "{message}");
        }
        for text in ["{ timeout=5s}user=x", "{timeout:5s}user=x"] {
            let message = error(text);
            assert!(message.ends_with(&format!("; options are written like {FORM})")), "{message}");
        }
    }
}
