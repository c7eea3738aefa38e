//! What a handler's process gets: its environment and its standard input (agent.md 12.3, 12.4).
//!
//! Bytes pass through unchanged, whatever they are; only tabs and newlines in the columns of member
//! lines are escaped. Tags stand in the order of their names, so equal events make equal processes.

use crate::handler::Handler;
use crate::io::Spawn;
use std::collections::BTreeMap;
use std::sync::Arc;
use villein_core::member::{Event, Member, QueryKey, Tags};
use villein_core::text::Text;
use villein_core::time::Instant;

/// Variables that depend on the kind of event: those that an event does not set are removed, so that none
/// is inherited from an agent that a handler started.
const EVENT_VARIABLES: [&[u8]; 4] =
    [b"SERF_USER_EVENT", b"SERF_USER_LTIME", b"SERF_QUERY_NAME", b"SERF_QUERY_LTIME"];

/// A query that the handler may answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: QueryKey,
    pub(crate) name: Text,
    pub(crate) deadline: Instant,
}

/// An event as a handler sees it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// `member-join`, `user`, `query` and so on.
    pub(crate) kind: &'static str,
    pub(crate) query: Option<Asked>,
    variables: Vec<(Vec<u8>, Vec<u8>)>,
    stdin: Arc<[u8]>,
}

impl Job {
    /// `None` for events that are not for handlers.
    pub(crate) fn new(event: &Event) -> Option<Job> {
        let variable = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        Some(match event {
            Event::Members { kind, members } => {
                let mut stdin = Vec::new();
                for member in members {
                    put_member(member, &mut stdin);
                }
                Job { kind: kind.name(), query: None, variables: Vec::new(), stdin: stdin.into() }
            }
            Event::User { ltime, name, payload, .. } => Job {
                kind: "user",
                query: None,
                variables: vec![
                    variable(b"SERF_USER_EVENT", name),
                    variable(b"SERF_USER_LTIME", ltime.to_string().as_bytes()),
                ],
                stdin: payload_lines(payload.as_deref()).into(),
            },
            Event::Query { key, name, payload, deadline } => Job {
                kind: "query",
                query: Some(Asked { key: *key, name: name.clone(), deadline: *deadline }),
                variables: vec![
                    variable(b"SERF_QUERY_NAME", name),
                    variable(b"SERF_QUERY_LTIME", key.ltime.to_string().as_bytes()),
                ],
                stdin: payload_lines(payload.as_deref()).into(),
            },
            _ => return None,
        })
    }

    /// Bytes that it holds while it waits.
    pub(crate) fn bytes(&self) -> usize {
        self.variables.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + self.stdin.len()
    }

    /// The process for a handler on a node that is `local` at this moment; in a group of its own if it may have to be
    /// ended, otherwise in the agent's (agent.md 12.2). `None` if a variable would hold a NUL byte, which no
    /// environment can.
    pub(crate) fn spawn(&self, handler: &Handler, local: &Member) -> Option<Spawn> {
        let mut env: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"SERF_EVENT".to_vec(), self.kind.into()),
            (b"SERF_SELF_NAME".to_vec(), local.name.to_vec()),
            (b"SERF_SELF_ROLE".to_vec(), role(&local.tags).to_vec()),
        ];
        env.extend(tag_variables(&local.tags));
        env.extend(self.variables.iter().cloned());
        if env.iter().any(|(name, value)| name.contains(&0) || value.contains(&0)) {
            return None;
        }
        let is_set = |name: &[u8]| self.variables.iter().any(|(set, _)| set == name);
        let unset = EVENT_VARIABLES.iter().filter(|name| !is_set(name)).map(|name| name.to_vec()).collect();
        Some(Spawn {
            command: handler.command.clone(),
            env,
            unset,
            stdin: self.stdin.clone(),
            own_group: handler.timeout.is_some(),
        })
    }
}

/// `SERF_TAG_X` by variable name. Of several tags that make one variable the last by name counts.
fn tag_variables(tags: &Tags) -> BTreeMap<Vec<u8>, Vec<u8>> {
    tags.iter().map(|(name, value)| (tag_variable(name), value.to_vec())).collect()
}

/// The tags whose values no handler sees, because a later name makes the same variable.
pub(crate) fn hidden_tags(tags: &Tags) -> Vec<&Text> {
    let mut seen = BTreeMap::new();
    tags.keys().filter_map(|name| seen.insert(tag_variable(name), name)).collect()
}

/// Upper case, and `_` for every character that is not a letter or digit of ASCII.
fn tag_variable(name: &[u8]) -> Vec<u8> {
    let mut variable = b"SERF_TAG_".to_vec();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            // A character that becomes several in upper case has no upper case for the reference.
            let mut upper = character.to_uppercase();
            let single = upper.next().filter(|_| upper.next().is_none()).unwrap_or(character);
            let kept = matches!(single, 'A'..='Z' | '0'..='9' | '_');
            variable.push(if kept { single as u8 } else { b'_' });
        }
        variable.extend(chunk.invalid().iter().map(|_| b'_'));
    }
    variable
}

fn role(tags: &Tags) -> &[u8] {
    tags.get(&b"role"[..]).map_or(&[], |role| role.as_bytes())
}

/// NAME tab ADDRESS tab ROLE tab TAGS newline.
fn put_member(member: &Member, out: &mut Vec<u8>) {
    put_column(&member.name, out);
    out.push(b'\t');
    out.extend_from_slice(member.addr.ip().to_string().as_bytes());
    out.push(b'\t');
    put_column(role(&member.tags), out);
    out.push(b'\t');
    for (index, (name, value)) in member.tags.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_column(name, out);
        out.push(b'=');
        put_column(value, out);
    }
    out.push(b'\n');
}

fn put_column(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
}

/// A payload that is there and does not end in a newline gets one.
fn payload_lines(payload: Option<&[u8]>) -> Vec<u8> {
    let mut lines = payload.unwrap_or_default().to_vec();
    if lines.last().is_some_and(|&last| last != b'\n') {
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_core::member::MemberEventKind;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|&(name, value)| (Text::from(name), Text::from(value))).collect()
    }

    #[test]
    fn tag_names_become_variables() {
        for (name, variable) in [
            (&b"role"[..], "SERF_TAG_ROLE"),
            (b"my-tag.x", "SERF_TAG_MY_TAG_X"),
            (b"9lives", "SERF_TAG_9LIVES"),
            (b"", "SERF_TAG_"),
            ("\u{e9}".as_bytes(), "SERF_TAG__"),
            ("stra\u{df}e".as_bytes(), "SERF_TAG_STRA_E"),
            (b"a\xff\xfeb", "SERF_TAG_A__B"),
        ] {
            assert_eq!(tag_variable(name), variable.as_bytes(), "{name:?}");
        }
    }

    #[test]
    fn of_tags_that_share_a_variable_the_last_counts() {
        let tags = tags(&[("a-b", "1"), ("a.b", "2"), ("a_b", "3"), ("c", "4")]);
        let variables: Vec<_> = tag_variables(&tags).into_iter().collect();
        assert_eq!(
            variables,
            [(b"SERF_TAG_A_B".to_vec(), b"3".to_vec()), (b"SERF_TAG_C".to_vec(), b"4".to_vec())]
        );
        assert_eq!(hidden_tags(&tags), [&Text::from("a-b"), &Text::from("a.b")]);
    }

    fn handler(text: &str) -> Handler {
        Handler::parse(text.as_bytes()).expect("the handler is valid")
    }

    /// One recorded run of a handler: its `SERF_` variables and its standard input.
    struct Recorded {
        env: Vec<(Vec<u8>, Vec<u8>)>,
        stdin: Vec<u8>,
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks_exact(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex")).collect()
    }

    fn recorded(text: &[u8]) -> Vec<Recorded> {
        let text = String::from_utf8_lossy(text);
        let invocations = text.split("@@ invocation\n").skip(1);
        invocations
            .map(|invocation| {
                let (env, rest) = invocation.split_once("@@ stdin ").expect("each run has an input");
                let variable = |line: &str| match line.strip_prefix("(hex) ") {
                    Some(hex) => unhex(hex),
                    None => line.as_bytes().to_vec(),
                };
                let mut env: Vec<_> = env
                    .lines()
                    .map(variable)
                    // The recorded agent had inherited this one, and left it to all handlers.
                    .filter(|line| line.starts_with(b"SERF_") && line != b"SERF_QUERY_NAME=inherited")
                    .map(|line| {
                        let at = line.iter().position(|&byte| byte == b'=').expect("a variable has a value");
                        (line[..at].to_vec(), line[at + 1..].to_vec())
                    })
                    .collect();
                env.sort();
                let is_empty = rest.starts_with("(0 bytes)");
                let stdin = if is_empty {
                    Vec::new()
                } else {
                    unhex(rest.lines().nth(1).expect("the input stands in hex"))
                };
                Recorded { env, stdin }
            })
            .collect()
    }

    /// The reference writes tags in any order.
    fn sorted_tags(stdin: &[u8]) -> Vec<Vec<u8>> {
        let sorted = |line: &[u8]| {
            let mut parts: Vec<&[u8]> = line.split(|byte| matches!(byte, b'\t' | b',')).collect();
            let fixed = parts.len().min(3);
            parts[fixed..].sort_unstable();
            parts.join(&b'|')
        };
        stdin.split(|&byte| byte == b'\n').map(sorted).collect()
    }

    fn alpha() -> Member {
        member(
            "alpha",
            1,
            &[("role", "web"), ("my-tag.x", "1"), ("9lives", "cat"), ("UPPER", "u"), ("v", "1=2")],
        )
    }

    fn member(name: &str, host: u8, pairs: &[(&str, &str)]) -> Member {
        Member {
            name: name.into(),
            addr: villein_core::member::WireAddr::from_ip([127, 0, 0, host].into()),
            port: 7946,
            tags: tags(pairs),
            status: villein_core::member::Status::Alive,
            versions: villein_core::member::Versions::ours(5),
        }
    }

    fn members(kind: MemberEventKind, members: Vec<Member>) -> Event {
        Event::Members { kind, members }
    }

    fn user(ltime: u64, name: &[u8], payload: Option<&[u8]>) -> Event {
        Event::User { ltime, name: name.into(), payload: payload.map(Into::into), coalesce: false }
    }

    fn query(ltime: u64, payload: Option<&[u8]>) -> Event {
        let key = QueryKey { ltime, id: 9 };
        Event::Query { key, name: "load".into(), payload: payload.map(Into::into), deadline: Instant::NEVER }
    }

    #[test]
    fn processes_get_what_the_reference_gives_them() {
        let beta = |pairs: &[(&str, &str)]| member("beta", 2, pairs);
        let changed = || vec![beta(&[("role", "db"), ("v", "2")])];
        let gamma = || member("ga\tm\nma", 3, &[("a", "x\ty"), ("b", "l1\nl2"), ("c", "p,q=r")]);
        let cases: [(&[u8], Vec<Event>); 10] = [
            (
                include_bytes!("../tests/golden/handlers/user.txt"),
                vec![
                    user(1, b"deploy", Some(b"1.2.3")),
                    user(2, b"deploy", None),
                    user(3, b"name with spaces", Some(b"two\nlines\n")),
                    user(4, b"x", Some(b"\n")),
                ],
            ),
            (
                include_bytes!("../tests/golden/handlers/user-binary.txt"),
                vec![user(5, b"bin\x01\xff", Some(b"\x00\xff\xfe\r\n\x80"))],
            ),
            (
                include_bytes!("../tests/golden/handlers/user-coalesced.txt"),
                vec![user(8, b"burst", Some(b"p2"))],
            ),
            (
                include_bytes!("../tests/golden/handlers/query.txt"),
                vec![query(1, Some(b"arg")), query(2, None)],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-join.txt"),
                vec![members(MemberEventKind::Join, vec![beta(&[("role", "db")]), gamma()])],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-join-self.txt"),
                vec![members(MemberEventKind::Join, vec![alpha()])],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-update.txt"),
                vec![members(MemberEventKind::Update, changed())],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-leave.txt"),
                vec![members(MemberEventKind::Leave, changed())],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-failed-and-reap.txt"),
                vec![
                    members(MemberEventKind::Reap, changed()),
                    members(MemberEventKind::Failed, vec![gamma()]),
                ],
            ),
            (
                include_bytes!("../tests/golden/handlers/member-reap.txt"),
                vec![members(MemberEventKind::Reap, vec![gamma()])],
            ),
        ];
        for (text, events) in cases {
            let recorded = recorded(text);
            assert_eq!(recorded.len(), events.len());
            for (recorded, event) in recorded.iter().zip(&events) {
                let job = Job::new(event).expect("the event is for handlers");
                let spawn = job.spawn(&handler("x"), &alpha()).expect("no variable holds a NUL byte");
                let mut env = spawn.env.clone();
                env.sort();
                assert_eq!(env, recorded.env, "{event:?}");
                assert_eq!(sorted_tags(&spawn.stdin), sorted_tags(&recorded.stdin), "{event:?}");
                assert_eq!(spawn.stdin.len(), recorded.stdin.len());
                assert!(spawn.unset.iter().all(|name| env.iter().all(|(set, _)| set != name)));
                assert_eq!(spawn.unset.len() + job.variables.len(), EVENT_VARIABLES.len());
            }
        }
    }

    /// The recorded agent was gone before it had written its own line; the environment is complete.
    #[test]
    fn the_own_leave_is_an_event_like_others() {
        let recorded = recorded(include_bytes!("../tests/golden/handlers/member-leave-self.txt"));
        let job = Job::new(&members(MemberEventKind::Leave, vec![alpha()])).expect("it is for handlers");
        let spawn = job.spawn(&handler("x"), &alpha()).expect("no variable holds a NUL byte");
        let mut env = spawn.env.clone();
        env.sort();
        assert_eq!([&env], [&recorded[0].env]);
        let line = b"alpha\t127.0.0.1\tweb\t9lives=cat,UPPER=u,my-tag.x=1,role=web,v=1=2\n";
        assert_eq!((&spawn.stdin[..], &recorded[0].stdin[..]), (&line[..], &b""[..]));
    }

    #[test]
    fn only_what_may_have_to_be_ended_leaves_the_group_of_the_agent() {
        let job = Job::new(&user(1, b"a", None)).expect("the event is for handlers");
        let spawn = |text: &str| job.spawn(&handler(text), &alpha()).expect("no variable holds a NUL byte");
        assert!(!spawn("x.sh").own_group && !spawn("{concurrency=2}x.sh").own_group);
        let limited = spawn("{timeout=5s}x.sh");
        assert!(limited.own_group);
        assert_eq!(Spawn { own_group: false, ..limited }, spawn("x.sh"));
    }

    #[test]
    fn a_nul_byte_fits_no_environment() {
        let spawn = |event: &Event, local: &Member| {
            Job::new(event).expect("the event is for handlers").spawn(&handler("x"), local)
        };
        assert_eq!(spawn(&user(1, b"a\0b", None), &alpha()), None);
        assert_eq!(spawn(&user(1, b"a", None), &member("a", 1, &[("t", "\0")])), None);
        assert!(spawn(&user(1, b"a", Some(b"\0")), &alpha()).is_some(), "a payload may hold any byte");
    }

    #[test]
    fn payloads_end_in_a_newline() {
        for (payload, stdin) in [
            (None, &b""[..]),
            (Some(&b""[..]), b""),
            (Some(b"x"), b"x\n"),
            (Some(b"x\n"), b"x\n"),
            (Some(b"\n"), b"\n"),
        ] {
            assert_eq!(payload_lines(payload), stdin);
        }
    }
}
