//! Recorded conversations: the same requests get the same bytes, and the same ones end the connection.
//!
//! Every recording has a row. Those whose answers hold what no second run gives again, and those from which this
//! agent differs on purpose, name the tests that stand for them instead.

mod lab;

use lab::cluster::{Cluster, config_of};
use lab::contains;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use villein_agent::config::Config;
use villein_agent::handler::Handler;
use villein_agent::io::{Conn, ConnEvent, Input};
use villein_core::crypto::{Key as CoreKey, Keyring};
use villein_core::snapshot::Restored;
use villein_core::time::Duration;
use villein_rpc::Objects;
use villein_rpc::framing::Limits;
use villein_rpc::request::{Key, Query, Request, TagChange, UserEvent};
use villein_rpc::response::{FromReply, KeyReport, Member, ResponseHeader};

use Row::{Elsewhere, Exact, Longer, Unordered, Without};

/// The place of the agent that is asked, and of the other one.
const ALPHA: usize = 0;
const BETA: usize = 1;
/// The client of the recording, and the one that makes things happen meanwhile.
const CLIENT: u64 = 1;
const OTHER: u64 = 2;

/// How a recording is checked.
enum Row {
    /// The same bytes.
    Exact,
    /// The same objects; their order is random in the reference, or that of the network.
    Unordered,
    /// The same objects, but that errors say more behind the words that are known.
    Longer,
    /// The same bytes without the object with this number, which the reference sends by mistake.
    Without(usize),
    /// Not here: why, and the tests in `rpc_sessions.rs` that say what holds.
    Elsewhere(&'static str, &'static [&'static str]),
}

/// What happens to the cluster before the answer with this number is awaited, counted from 0.
type Cue = (usize, fn(&mut Cluster));

/// Name, check, and what happens meanwhile.
const RECORDINGS: &[(&str, Row, &[Cue])] = &[
    ("auth-not-configured", Exact, &[]),
    ("blocking-order", Exact, &[]),
    ("event", Exact, &[]),
    ("event-error", Longer, &[]),
    ("event-no-payload", Exact, &[]),
    ("force-leave", Exact, &[]),
    ("force-leave-prune", Exact, &[]),
    ("get-coordinate-unknown", Exact, &[]),
    ("install-key", Exact, &[]),
    ("install-key-error", Exact, &[]),
    ("join", Exact, &[]),
    ("join-error", Exact, &[]),
    ("leave", Exact, &[]),
    (
        "leave-with-streams",
        Elsewhere(TIMES, &["all_clients_that_ask_for_a_leave_are_answered_before_the_end"]),
        &[],
    ),
    (
        "limits-and-pressure",
        Elsewhere(
            "it holds several conversations, and measurements of the reference",
            &[
                "a_client_that_closes_its_side_gets_its_answers",
                "a_client_that_does_not_read_loses_the_latest_events_and_gets_the_rest_later",
                "a_monitor_that_is_not_read_does_not_feed_itself",
                "sizes_that_are_not_sent_cost_nothing",
            ],
        ),
        &[],
    ),
    ("list-keys", Unordered, &[(0, |cluster| install(cluster, SHORT_KEY))]),
    ("list-keys-error", Exact, &[]),
    ("members-filtered", Unordered, &[]),
    ("members-filtered-2", Exact, &[]),
    (
        "members-filtered-bad-regex",
        Elsewhere(BETTER, &["a_bad_member_filter_is_an_error_with_an_empty_list"]),
        &[],
    ),
    ("monitor", Elsewhere(TIMES, &["a_monitor_sees_its_own_level_of_what_was_and_what_comes"]), &[]),
    (
        "monitor-backlog",
        Elsewhere("it holds numbers", &["a_monitor_that_comes_late_gets_the_last_lines"]),
        &[],
    ),
    ("query", Exact, &[]),
    ("query-concurrent", Unordered, &[]),
    ("query-error", Exact, &[]),
    ("query-filters", Exact, &[]),
    ("query-same-seq", Unordered, &[]),
    ("query-stop", Exact, &[]),
    ("raw-auth-before-handshake", Exact, &[]),
    ("raw-auth-required", Without(3), &[]),
    ("raw-auth-twice", Exact, &[]),
    ("raw-body-array-type", Exact, &[]),
    ("raw-body-missing", Exact, &[]),
    ("raw-body-wrong-type", Exact, &[]),
    ("raw-empty-command", Elsewhere(STALE, &["a_header_stands_for_itself"]), &[]),
    ("raw-event-invalid-utf8", Exact, &[]),
    ("raw-event-minimal", Exact, &[]),
    ("raw-event-str-payload", Exact, &[]),
    ("raw-force-leave-empty", Exact, &[]),
    ("raw-garbage-c1", Exact, &[]),
    ("raw-garbage-http", Exact, &[]),
    ("raw-get-coordinate", Exact, &[]),
    ("raw-handshake-no-version", Exact, &[]),
    ("raw-handshake-twice", Exact, &[]),
    ("raw-handshake-version", Exact, &[]),
    ("raw-handshake-version-string", Exact, &[]),
    ("raw-header-array", Exact, &[]),
    (
        "raw-header-binkeys",
        Elsewhere("later releases understand it, as this agent does", &["keys_and_texts_may_be_bytes"]),
        &[],
    ),
    ("raw-header-extra", Exact, &[]),
    ("raw-header-int", Exact, &[]),
    ("raw-header-lowercase", Exact, &[]),
    ("raw-header-nil", Exact, &[]),
    ("raw-header-seq-float", Exact, &[]),
    ("raw-header-seq-types", Exact, &[]),
    ("raw-header-string", Exact, &[]),
    ("raw-header-without-seq", Elsewhere(STALE, &["a_header_stands_for_itself"]), &[]),
    ("raw-join-empty", Exact, &[]),
    ("raw-keys-errors", Exact, &[]),
    ("raw-members-default-bind", Elsewhere(SHORT, &["an_address_of_ipv4_has_four_bytes"]), &[]),
    ("raw-members-default-bind-remote", Elsewhere(SHORT, &["an_address_of_ipv4_has_four_bytes"]), &[]),
    ("raw-members-filtered-empty", Exact, &[]),
    ("raw-members-filtered-none", Exact, &[]),
    ("raw-monitor-errors", Elsewhere(TIMES, &["a_monitor_is_one_and_can_be_stopped"]), &[]),
    ("raw-no-handshake", Exact, &[]),
    ("raw-no-handshake-auth", Exact, &[]),
    ("raw-pipelined", Exact, &[]),
    ("raw-query-internal", Exact, &[]),
    ("raw-respond-unknown", Exact, &[]),
    ("raw-seq-reuse", Elsewhere(NUMBERS, &["a_number_may_be_used_again"]), &[]),
    ("raw-stop-unknown", Exact, &[]),
    ("raw-stream-errors", Exact, &[]),
    ("raw-tags-partial", Exact, &[]),
    ("raw-truncated", Exact, &[]),
    ("raw-unknown-command", Exact, &[]),
    ("reachability", Unordered, &[(0, |cluster| ask(cluster, &set_tag("a", "1", &["dc"])))]),
    ("remove-key", Exact, &[(0, change_the_primary_key)]),
    ("remove-key-primary-error", Exact, &[(0, change_the_primary_key)]),
    (
        "rtt",
        Elsewhere(NUMBERS, &["stats_name_everything_that_scripts_read", "coordinates_are_told_or_not"]),
        &[],
    ),
    ("stats", Elsewhere(NUMBERS, &["stats_name_everything_that_scripts_read"]), &[]),
    (
        "stop-race-crash",
        Elsewhere(
            "it is about a crash of the reference",
            &["streams_can_be_stopped_and_started_in_any_order_with_events"],
        ),
        &[],
    ),
    (
        "stream-member-events",
        Exact,
        &[
            (2, |cluster| {
                let mut beta = config_of("beta", 2);
                beta.node.tags.insert("role".into(), "db".into());
                let beta = cluster.start(beta, Restored::default());
                cluster.join(beta, ALPHA);
            }),
            (4, |cluster| {
                cluster.client(BETA, OTHER);
                cluster.request(BETA, OTHER, 1, &set_tag("v", "2", &[]));
            }),
            (6, |cluster| cluster.request(BETA, OTHER, 2, &Request::Leave)),
        ],
    ),
    ("stream-query-respond", Exact, &[(2, |cluster| query(cluster, Duration::from_secs(5)))]),
    (
        "stream-query-respond-late",
        Longer,
        &[
            (0, |cluster| query(cluster, Duration::from_millis(1))),
            (2, |cluster| query(cluster, Duration::from_millis(400))),
            (3, |cluster| cluster.pass(Duration::from_millis(400))),
            (5, |cluster| query(cluster, Duration::from_secs(5))),
        ],
    ),
    (
        "stream-stop",
        Exact,
        &[
            (0, |cluster| (0..5).for_each(|_| event(cluster, "before", None, false))),
            (2, |cluster| event(cluster, "one", None, false)),
            (5, |cluster| event(cluster, "two", None, false)),
        ],
    ),
    (
        "stream-two-filters-match",
        Unordered,
        &[
            (0, |cluster| (0..4).for_each(|_| event(cluster, "before", None, false))),
            (3, |cluster| event(cluster, "deploy", Some(b"x"), false)),
        ],
    ),
    (
        "stream-user-events",
        Exact,
        &[(2, |cluster| {
            event(cluster, "deploy", Some(b"1.2.3"), true);
            cluster.pass(Duration::from_secs(5));
            event(cluster, "other", None, false);
            event(cluster, "deploy", None, false);
            event(cluster, "stop", Some(b"now"), true);
        })],
    ),
    ("tags", Exact, &[]),
    ("tags-error", Longer, &[]),
    ("use-key", Exact, &[(0, |cluster| install(cluster, NEW_KEY))]),
    ("use-key-bad-base64", Exact, &[]),
    (
        "use-key-unknown-error",
        Exact,
        &[(0, |cluster| {
            change_the_primary_key(cluster);
            ask(cluster, &Request::RemoveKey(Key { key: OLD_KEY.into() }));
        })],
    ),
];

const TIMES: &str = "it holds times, and lines from before it";
const NUMBERS: &str = "it holds numbers that change from run to run";
const BETTER: &str = "this agent answers where the reference closes the connection";
const STALE: &str = "the reference takes what a header leaves out from the one before";
const SHORT: &str = "this agent shows every IPv4 address with four bytes";

const NEW_KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
/// The one that all agents have at first.
const OLD_KEY: &str = "T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s=";
const SHORT_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// Another client of alpha asks for something, and everybody has the time to answer.
fn ask(cluster: &mut Cluster, request: &Request) {
    cluster.request(ALPHA, OTHER, 1, request);
    cluster.pass(Duration::from_secs(5));
}

fn event(cluster: &mut Cluster, name: &str, payload: Option<&[u8]>, coalesce: bool) {
    let payload = payload.map(<[u8]>::to_vec);
    cluster.request(ALPHA, OTHER, 1, &Request::Event(UserEvent { name: name.into(), payload, coalesce }));
}

/// Beta asks everybody.
fn query(cluster: &mut Cluster, timeout: Duration) {
    let timeout = timeout.as_nanos() as i64;
    let query = Query { name: "load".into(), payload: Some(b"arg".to_vec()), timeout, ..Query::default() };
    cluster.client(BETA, OTHER);
    cluster.request(BETA, OTHER, 1, &Request::Query(query));
    cluster.pass(Duration::from_millis(250));
}

fn set_tag(name: &str, value: &str, delete: &[&str]) -> Request {
    let delete_tags = delete.iter().map(|&name| name.into()).collect();
    Request::Tags(TagChange { tags: [(name.into(), value.into())].into(), delete_tags })
}

fn install(cluster: &mut Cluster, key: &str) {
    ask(cluster, &Request::InstallKey(Key { key: key.into() }));
}

fn change_the_primary_key(cluster: &mut Cluster) {
    install(cluster, NEW_KEY);
    ask(cluster, &Request::UseKey(Key { key: NEW_KEY.into() }));
}

/// The bytes of a line `C> HEX (remark)` or `A> HEX`.
fn bytes_of(line: &str) -> Option<(char, Vec<u8>)> {
    let (who, hex) = line.split_once("> ")?;
    let hex = hex.split(' ').next()?;
    let pairs = hex.as_bytes().chunks_exact(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some((
        who.chars().next()?,
        bytes.filter(|_| who.len() == 1 && hex.len().is_multiple_of(2) && hex != "=")?,
    ))
}

/// The agents that a recording was made with, as it says itself.
fn scene(name: &str, text: &str) -> Cluster {
    let setup = text.split("@@ setup\n").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let tagged = |mut config: Config, tags: &[(&str, &str)]| {
        config.node.tags = tags.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        config
    };
    let handling = |mut config: Config, handler: &str| {
        config.handlers = vec![Handler::parse(handler.as_bytes()).expect("the handler is valid")];
        config
    };
    let (alpha, beta) = (|| config_of("alpha", 1), || config_of("beta", 2));
    let mut cluster = if setup.starts_with("agent alpha 127.0.0.1, log level debug, tags role=web") {
        Cluster::new([tagged(alpha(), &[("role", "web")])])
    } else if setup.starts_with("agent alpha 127.0.0.1 with rpc_auth") {
        Cluster::new([Config { rpc_auth: "sekret".into(), ..alpha() }])
    } else if name == "stream-member-events" {
        // Beta joins while it is recorded.
        Cluster::new([tagged(alpha(), &[("role", "web")])])
    } else if setup.starts_with("agents alpha 127.0.0.1 (role=web) and beta") {
        Cluster::new([tagged(alpha(), &[("role", "web")]), beta()])
    } else if setup.starts_with("agent beta, alone") {
        Cluster::new([beta()])
    } else if setup.starts_with("two agents: alpha") {
        let alpha =
            tagged(handling(alpha(), "query:load=printf '0.15\\n'"), &[("role", "web"), ("dc", "east")]);
        Cluster::new([alpha, handling(beta(), "query:load=printf 2.50")])
    } else if setup.starts_with("Encrypted cluster") {
        Cluster::new([alpha(), beta(), config_of("gamma", 3)].map(|mut config| {
            let key = CoreKey::from_base64(OLD_KEY).expect("it is a key");
            config.node.keyring = Some(Keyring::new(key, []).expect("one key is a ring"));
            config
        }))
    } else {
        panic!("no scene for '{setup}'");
    };
    cluster.prints.insert(b"printf '0.15\\n'".to_vec(), b"0.15\n".to_vec());
    cluster.prints.insert(b"printf 2.50".to_vec(), b"2.50".to_vec());
    for other in 1..cluster.nodes.len() {
        cluster.join(other, ALPHA);
    }
    cluster.client(ALPHA, OTHER);
    // The events of the start are over.
    cluster.pass(Duration::from_secs(5));
    cluster
}
/// What the agent said and what was recorded, each object by itself; and whether each closed the connection.
fn replay(name: &str, text: &str, skipped: Option<usize>, cues: &[Cue]) -> ([Vec<Vec<u8>>; 2], [bool; 2]) {
    let mut cluster = scene(name, text);
    let (mut said, mut wanted, mut heard) = (Vec::new(), Vec::new(), 0);
    let mut answers = 0;
    cluster.connect(ALPHA, CLIENT);
    for line in text.lines() {
        match bytes_of(line) {
            Some(('C', bytes)) if !cluster.nodes[ALPHA].closed.contains(&CLIENT) => {
                cluster.client_sends(ALPHA, CLIENT, &bytes);
            }
            Some(('A', bytes)) => {
                cues.iter().filter(|(at, _)| *at == answers).for_each(|(_, cue)| cue(&mut cluster));
                answers += 1;
                if skipped == Some(answers - 1) {
                    continue;
                }
                heard += bytes.len();
                wanted.push(bytes);
                said.extend(cluster.take(ALPHA, CLIENT));
                // Some answers take time: a leave, a tag update, the end of a query.
                for _ in 0..100 {
                    if said.len() < heard {
                        cluster.pass(Duration::from_millis(100));
                        said.extend(cluster.take(ALPHA, CLIENT));
                    }
                }
            }
            _ if line == "client closes its side" => {
                cluster.give(ALPHA, Input::Conn { conn: Conn::Rpc(CLIENT), event: ConnEvent::End });
            }
            _ => {}
        }
    }
    said.extend(cluster.take(ALPHA, CLIENT));
    let closed = cluster.nodes[ALPHA].closed.contains(&CLIENT);
    ([objects(&said), wanted], [closed, text.contains("agent closes its side")])
}

fn objects(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut objects = Objects::new(Limits::RESPONSE);
    objects.push(bytes);
    std::iter::from_fn(|| objects.next_object().expect("the agent writes MessagePack").map(<[u8]>::to_vec))
        .collect()
}

/// What an object says, if it is one whose own order may differ.
fn meaning(object: &[u8]) -> String {
    if contains(object, b"\xa7Members") {
        format!("{:?}", Vec::<Member>::from_reply(object))
    } else if contains(object, b"\xa4Keys") {
        format!("{:?}", KeyReport::from_reply(object))
    } else {
        object.escape_ascii().to_string()
    }
}

/// Both conversations in a form in which they must be equal.
fn comparable(row: &Row, [mut said, mut wanted]: [Vec<Vec<u8>>; 2]) -> [Vec<String>; 2] {
    if let Longer = row {
        for (ours, recorded) in said.iter_mut().zip(&wanted) {
            let headers = [&*ours, recorded].map(|object| ResponseHeader::decode(object).ok());
            if let [Some(ours_header), Some(header)] = headers
                && !header.error.is_empty()
                && ours_header.seq == header.seq
                && ours_header.error.starts_with(&header.error)
            {
                ours.clone_from(recorded);
            }
        }
    }
    if let Unordered = row {
        said.sort_by_key(|object| meaning(object));
        wanted.sort_by_key(|object| meaning(object));
        return [said, wanted].map(|objects| objects.iter().map(|object| meaning(object)).collect());
    }
    [said, wanted].map(|objects| objects.iter().map(|object| object.escape_ascii().to_string()).collect())
}

#[test]
fn recorded_requests_get_the_recorded_answers() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rpc");
    let files = fs::read_dir(&directory).expect("the recordings are there");
    let files: BTreeSet<String> = files
        .map(|file| file.expect("the directory can be read").file_name().to_string_lossy().into_owned())
        .collect();
    let rows: BTreeSet<String> = RECORDINGS.iter().map(|(name, ..)| format!("{name}.txt")).collect();
    assert_eq!(files, rows, "each recording has a row");
    for (name, row, cues) in RECORDINGS {
        if let Elsewhere(why, tests) = row {
            for test in *tests {
                let defined = include_str!("rpc_sessions.rs").contains(&format!("#[test]\nfn {test}() {{"));
                assert!(defined, "{name} ({why}): there is no test {test}");
            }
            assert!(!tests.is_empty() && !why.is_empty(), "{name}");
            continue;
        }
        let text = fs::read(directory.join(format!("{name}.txt"))).expect("the recording can be read");
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("\nC> "), "{name} says something");
        let skipped = if let Without(number) = row { Some(*number) } else { None };
        let (objects, [closed, wanted_closed]) = replay(name, &text, skipped, cues);
        let [said, wanted] = comparable(row, objects);
        assert_eq!(said, wanted, "{name}");
        assert_eq!(closed, wanted_closed, "{name}");
    }
}
