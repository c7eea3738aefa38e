//! SIGHUP: the configuration is read again.

use crate::lab::{Lab, config, contains};
use villein_agent::config::settings::{self, Merged};
use villein_agent::config::{Config, File, Sources};
use villein_agent::io::{ChildStatus, ConfigFile, Input, Signal, Spawn};
use villein_core::text::Text;
use villein_core::time::Duration;
use villein_rpc::Request;
use villein_rpc::request::{Query, TagChange, UserEvent};
use villein_rpc::response::TextMap;

const FILE: &str = "h.json";

fn files(text: &str) -> Vec<ConfigFile> {
    vec![ConfigFile { path: FILE.to_owned(), bytes: text.as_bytes().to_vec() }]
}

/// Settings as the start makes them of a file and the flags `-node=alpha -tag dc=east`.
fn started_with(text: &str) -> Config {
    let flags = File {
        node_name: Some(Text::from("alpha")),
        tags: vec![(Text::from("dc"), Text::from("east"))],
        ..File::default()
    };
    let Merged { file, .. } = settings::merge(&files(text), &flags).expect("the file is right");
    let mut config = config();
    config.node.tags = settings::tags(&file).expect("the tags are right");
    config.handlers = settings::handlers(&file).expect("the handlers are right");
    config.log_level = settings::log_level(&file).expect("the level is right");
    config.sources = Sources { paths: vec![FILE.into()], flags, merged: file };
    config
}

/// What is printed when this is found in the file, after the two lines that always are.
fn reload(lab: &mut Lab, text: &str) -> String {
    let mark = lab.printed.len();
    lab.signal(Signal::Hangup);
    assert_eq!(lab.config_wanted.pop(), Some(vec![FILE.into()]));
    lab.give(Input::ConfigRead(Ok(&files(text))));
    let printed = lab.log_since(mark);
    let always = "==> Caught signal: hangup\n==> Reloading configuration...";
    let rest = printed.strip_prefix(always).unwrap_or_else(|| panic!("{printed}"));
    without_outcome(rest, !rest.contains("==> Failed to reload configs"))
}

/// What is printed besides the line of the log that tells the outcome.
fn without_outcome(printed: &str, worked: bool) -> String {
    let outcome = if worked {
        "[INFO] agent: configuration read again"
    } else {
        "[ERR] agent: configuration not read again: "
    };
    let (told, rest): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with(outcome));
    assert_eq!(told.len(), 1, "{printed}");
    rest.join("\n").trim_start_matches('\n').to_owned()
}

fn tags(lab: &Lab) -> String {
    let tags = lab.agent.node().local_member().tags;
    tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether `info` names this.
fn info_has(lab: &mut Lab, part: &str) -> bool {
    lab.request(1, 7, &Request::Stats);
    contains(&lab.take(1), part.as_bytes())
}

/// The command that runs on a user event, if any.
fn ran(lab: &mut Lab, event: &str) -> Option<String> {
    let before = lab.spawned.len();
    lab.request(1, 8, &Request::Event(UserEvent { name: event.into(), payload: None, coalesce: false }));
    lab.take(1);
    let (id, spawn) = lab.spawned.get(before)?.clone();
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    Some(String::from_utf8_lossy(&spawn.command).into_owned())
}

fn fire(lab: &mut Lab, payload: &str) {
    let event = UserEvent { name: "x".into(), payload: Some(payload.into()), coalesce: false };
    lab.request(1, 8, &Request::Event(event));
}

/// Each script that was started, with the payload of its event.
fn started(lab: &Lab) -> Vec<String> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let line = |spawn: &Spawn| format!("{} {}", shown(&spawn.command), shown(&spawn.stdin));
    lab.spawned.iter().map(|(_, spawn)| line(spawn)).collect()
}

fn set_tag(lab: &mut Lab, name: &str, value: &str) {
    let tags = TextMap::from([(name.into(), value.into())]);
    lab.request(1, 9, &Request::Tags(TagChange { tags, delete_tags: Vec::new() }));
    lab.take(1);
}

#[test]
fn level_handlers_and_tags_are_taken_over() {
    let first = r#"{"log_level": "info", "tags": {"role": "web"}, "event_handlers": ["user:one=echo one"]}"#;
    let mut lab = Lab::new(started_with(first));
    lab.client(1);
    set_tag(&mut lab, "rt", "1");
    assert_eq!(tags(&lab), "dc=east,role=web,rt=1");

    let second = r#"{"log_level": "debug", "tags": {"role": "db"}, "event_handlers": ["user:two=echo two"],
        "node_name": "ignored"}"#;
    assert_eq!(reload(&mut lab, second), "[INFO] serf: EventMemberUpdate: alpha");
    assert_eq!(tags(&lab), "dc=east,role=db,rt=1", "what no configuration mentions was set on purpose");
    assert_eq!((ran(&mut lab, "one"), ran(&mut lab, "two")), (None, Some("echo two".to_owned())));
    assert!(lab.printed.contains("[DEBUG] agent: Requesting user event send: two."), "{}", lab.printed);
    assert!(info_has(&mut lab, "echo two") && !info_has(&mut lab, "echo one"));

    // A handler that is gone is gone; a tag too, and one that a flag gave stays.
    assert_eq!(reload(&mut lab, "{}"), "[INFO] serf: EventMemberUpdate: alpha");
    assert_eq!(tags(&lab), "dc=east,rt=1");
    assert_eq!(ran(&mut lab, "two"), None);
    assert_eq!(reload(&mut lab, "{}"), "", "nothing has changed");
}

#[test]
fn a_changed_command_runs_for_the_events_that_wait() {
    let file = |name: &str| format!(r#"{{"event_handlers": ["user:x={name}", "query:q=ask-{name}"]}}"#);
    let mut lab = Lab::new(started_with(&file("old")));
    lab.client(1);
    fire(&mut lab, "e1");
    fire(&mut lab, "e2");
    let payload = Some(b"q1".to_vec());
    let query = Query { name: "q".into(), payload, timeout: 9_000_000_000, ..Query::default() };
    lab.request(1, 2, &Request::Query(query));
    fire(&mut lab, "e3");

    assert_eq!(reload(&mut lab, &file("new")), "", "nothing is dropped");
    fire(&mut lab, "e4");
    let counts = "timeouts=0 dropped=0 waiting=3 running=1 last_exit=- last_ms=- command=new";
    assert!(info_has(&mut lab, &format!("runs=0 failed=0 {counts}")), "the old script is waited for");
    let expected = ["old e1", "new e2", "ask-new q1", "new e3", "new e4"];
    for count in 1..=expected.len() {
        assert_eq!(started(&lab), expected[..count], "one at a time");
        let (id, _) = lab.spawned[count - 1];
        let output = if count == 3 { &b"of the new one"[..] } else { b"" };
        lab.take(1);
        lab.child_exits(id, ChildStatus::Exited(0), output);
        assert_eq!(contains(&lab.take(1), b"of the new one"), count == 3, "the query is answered");
    }
    assert_eq!(lab.spawned.len(), expected.len());
    let counts = "timeouts=0 dropped=0 waiting=0 running=0 last_exit=0 last_ms=0 command=new";
    assert!(info_has(&mut lab, &format!("runs=3 failed=0 {counts}")), "the old script is not the new one's");
}

#[test]
fn a_slow_script_is_not_overtaken_by_the_command_that_replaces_it() {
    let file = |handler: &str| format!(r#"{{"event_handlers": ["{handler}"]}}"#);
    let mut lab = Lab::new(started_with(&file("user=old")));
    lab.client(1);
    fire(&mut lab, "e1");
    lab.pass(Duration::from_secs(2));
    assert_eq!(reload(&mut lab, &file("user=new")), "");
    fire(&mut lab, "e2");
    assert_eq!(reload(&mut lab, &file("user=newer")), "");
    fire(&mut lab, "e3");
    assert_eq!(started(&lab), ["old e1"], "it has no turn any more, and is waited for");
    let (id, _) = lab.spawned[0];
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    assert_eq!(started(&lab), ["old e1", "newer e2"]);
    let dropping = "[WARN] agent: Script 'newer' is no event handler any more, dropping 1 events";
    assert_eq!(reload(&mut lab, &file("user:y=newer")), dropping, "other events are wanted");
}

#[test]
fn what_the_start_would_refuse_changes_nothing() {
    let first = r#"{"tags": {"role": "web"}, "event_handlers": ["user:one=echo one"]}"#;
    let mut lab = Lab::new(started_with(first));
    lab.client(1);
    let failed = "==> Failed to reload configs";
    let refused = [
        (
            "{bad",
            "==> Error decoding 'h.json': invalid character 'b' looking for beginning of object key string",
        ),
        (r#"{"event_handlers": ["bogus=x"]}"#, "==> Invalid event script: Event 'bogus' invoking 'x'"),
        (r#"{"mdns": {"interface": "lo"}}"#, "==> mDNS interface specified without enabling mDNS discovery"),
    ];
    for (text, message) in refused {
        assert_eq!(reload(&mut lab, text), format!("{message}\n{failed}"));
    }
    lab.signal(Signal::Hangup);
    let mark = lab.printed.len();
    let why = "Error reading 'h.json': open h.json: no such file or directory";
    lab.give(Input::ConfigRead(Err(why)));
    assert_eq!(without_outcome(&lab.log_since(mark), false), format!("==> {why}\n{failed}"));
    assert_eq!(tags(&lab), "dc=east,role=web");
    assert_eq!(ran(&mut lab, "one"), Some("echo one".to_owned()));
}

#[test]
fn a_bad_level_or_bad_tags_hold_up_nothing_else() {
    let mut lab = Lab::new(started_with("{}"));
    lab.client(1);
    let text = r#"{"role": "x", "log_level": "bogus", "event_handlers": ["user:a=x"]}"#;
    let expected = "==> Deprecation warning: 'Role' has been replaced with 'Tags'
==> Invalid log level: BOGUS. Valid log levels are: [TRACE DEBUG INFO WARN ERR]
[INFO] serf: EventMemberUpdate: alpha";
    assert_eq!(reload(&mut lab, text), expected);
    assert_eq!((tags(&lab).as_str(), ran(&mut lab, "a")), ("dc=east,role=x", Some("x".to_owned())));

    let long = format!(r#"{{"tags": {{"big": "{}"}}, "leave_on_terminate": true}}"#, "x".repeat(510));
    let printed = reload(&mut lab, &long);
    let wanted = "==> Failed to update tags: Encoded length of tags exceeds limit of 512 bytes";
    assert!(printed.starts_with(wanted) && printed.lines().count() == 1, "{printed}");
    assert_eq!(tags(&lab), "dc=east,role=x");
    lab.signal(Signal::Terminate);
    lab.pass(Duration::from_secs(3));
    assert_eq!(lab.exit, Some(0), "leave_on_terminate counts nevertheless");
}

#[test]
fn signals_mean_what_the_last_configuration_says() {
    let mut lab = Lab::new(started_with("{}"));
    assert_eq!(reload(&mut lab, r#"{"skip_leave_on_interrupt": true}"#), "");
    lab.signal(Signal::Interrupt);
    assert_eq!(lab.exit, Some(1));
}

#[test]
fn what_needs_a_restart_is_named() {
    let mut lab = Lab::new(started_with(r#"{"bind": "10.0.0.1", "discover": "x"}"#));
    let text = r#"{"bind": "10.0.0.2", "rpc_addr": ":7374", "discover": "x"}"#;
    let line = "[WARN] agent: only a restart changes these settings: bind, rpc_addr";
    assert_eq!(reload(&mut lab, text), line);
    assert_eq!(reload(&mut lab, text), line, "they still wait for it");
    assert_eq!(reload(&mut lab, r#"{"bind": "10.0.0.1", "discover": "x"}"#), "");
    let line = "[WARN] agent: what follows the first JSON value of 'h.json' on line 1 is ignored";
    assert_eq!(reload(&mut lab, r#"{"bind": "10.0.0.1", "discover": "x"} {}"#), line);
}

#[test]
fn what_the_next_start_would_refuse_is_told() {
    let mut lab = Lab::new(started_with("{}"));
    let text = r#"{"profile": "fast", "label": "blue", "syslog_facility": "bogus"}"#;
    let lines = "[WARN] agent: a restart would be refused: 'profile': Unknown profile: fast\n\
                 [WARN] agent: only a restart changes these settings: profile, syslog_facility, label";
    assert_eq!(reload(&mut lab, text), lines);
    let refused = "==> Failed to update tags: Tags config not allowed while using tag files\n\
                   [WARN] agent: only a restart changes these settings: tags_file";
    assert_eq!(reload(&mut lab, r#"{"tags_file": "x", "tags": {"a": "b"}}"#), refused);
}

#[test]
fn tags_of_a_tags_file_stay() {
    let mut config = started_with("{}");
    config.tags_file = Some("tags.json".into());
    config.sources.flags = File { tags_file: Some("tags.json".into()), ..File::default() };
    config.sources.merged = config.sources.flags.clone();
    config.node.tags = [("kept".into(), "1".into())].into();
    let mut lab = Lab::new(config);
    assert_eq!(reload(&mut lab, "{}"), "");
    let refused = "==> Failed to update tags: Tags config not allowed while using tag files";
    assert_eq!(reload(&mut lab, r#"{"tags": {"a": "b"}}"#), refused);
    assert_eq!((tags(&lab).as_str(), lab.saving.len()), ("kept=1", 0));
}
