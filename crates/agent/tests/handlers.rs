//! Event handlers from the event to the log line and the answer.

mod lab;

use lab::{Lab, config, handlers};
use villein_agent::io::{CHILD_OUTPUT, ChildStatus, Input, Kill, Signal};
use villein_agent::limits::{HANDLER_GRACE, HANDLER_QUEUE};
use villein_core::note::Level;
use villein_core::time::Duration;
use villein_rpc::framing::Limits;
use villein_rpc::request::{Query, Stream, TagChange, UserEvent};
use villein_rpc::response::{FromReply, Stats};
use villein_rpc::{Objects, Request};

fn lab(texts: &[&str]) -> Lab {
    let mut config = config();
    config.handlers = handlers(texts);
    config.log_level = Level::Debug;
    let mut lab = Lab::new(config);
    lab.client(1);
    lab
}

fn fire(lab: &mut Lab, name: &str) {
    let event = UserEvent { name: name.into(), payload: Some(b"p".to_vec()), coalesce: false };
    lab.request(1, 1, &Request::Event(event));
}

fn ask(lab: &mut Lab, name: &str) {
    let query = Query { name: name.into(), timeout: 3_000_000_000, ..Query::default() };
    lab.request(1, 2, &Request::Query(query));
}

fn commands(lab: &Lab) -> Vec<&[u8]> {
    lab.spawned.iter().map(|(_, spawn)| &spawn.command[..]).collect()
}

/// Ends the script that was started last.
fn last_exits(lab: &mut Lab, output: &[u8]) {
    let (id, _) = lab.spawned.last().cloned().expect("a script was started");
    lab.child_exits(id, ChildStatus::Exited(0), output);
}

/// After this a script that runs is slow.
const SLOW: Duration = Duration::from_secs(1);

#[test]
fn scripts_take_turns_in_the_order_of_events_and_of_the_configuration() {
    let mut lab = lab(&["user:a,user,*=first", "user:b=second", "query=never", "user=third"]);
    fire(&mut lab, "a");
    fire(&mut lab, "b");
    let order = [&b"first"[..], b"third", b"first", b"second", b"third"];
    for count in 1..=order.len() {
        assert_eq!(commands(&lab), order[..count], "one at a time; a list of words is one handler");
        last_exits(&mut lab, b"");
    }
    assert_eq!(commands(&lab), order);
    let (_, spawn) = &lab.spawned[2];
    assert!(spawn.env.contains(&(b"SERF_USER_EVENT".to_vec(), b"b".to_vec())));
    assert_eq!(&spawn.stdin[..], b"p\n");
}

#[test]
fn a_slow_script_gives_its_turn_away_and_keeps_its_own_order() {
    let mut lab = lab(&["user=slow", "user=quick"]);
    fire(&mut lab, "a");
    fire(&mut lab, "b");
    assert_eq!(commands(&lab), [b"slow"]);
    lab.pass(SLOW);
    assert_eq!(commands(&lab), [&b"slow"[..], b"quick"]);
    last_exits(&mut lab, b"");
    assert_eq!(commands(&lab), [&b"slow"[..], b"quick", b"quick"], "b does not wait for the slow one either");
    last_exits(&mut lab, b"");
    assert_eq!(lab.spawned.len(), 3, "the slow one has b before it");
    let (id, _) = lab.spawned[0].clone();
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    assert_eq!(commands(&lab), [&b"slow"[..], b"quick", b"quick", b"slow"]);
}

#[test]
fn results_are_logged() {
    let mut lab = lab(&["user=x.sh"]);
    for (status, output, wanted) in [
        (
            ChildStatus::Exited(0),
            &b"out\nerr\nnonl"[..],
            "[DEBUG] agent: Event 'user' script output: out\nerr\nnonl",
        ),
        (
            ChildStatus::Exited(3),
            b"before\n\x1b[0m\n",
            "[DEBUG] agent: Event 'user' script output: before\n\\x1b[0m\n\
             [ERR] agent: Error invoking script 'x.sh': exit status 3: \\x1b[0m",
        ),
        (
            ChildStatus::Signaled(9),
            b"",
            "[DEBUG] agent: Event 'user' script output: \n\
             [ERR] agent: Error invoking script 'x.sh': signal: killed",
        ),
        (
            ChildStatus::NotStarted("no more processes".to_owned()),
            b"",
            "[ERR] agent: Error invoking script 'x.sh': no more processes",
        ),
    ] {
        fire(&mut lab, "a");
        let (id, _) = lab.spawned.pop().expect("the handler runs");
        let mark = lab.printed.len();
        lab.child_exits(id, status, output);
        assert_eq!(lab.log_since(mark), wanted);
    }
}

#[test]
fn a_failing_script_says_why_at_the_usual_level() {
    let mut config = config();
    config.handlers = handlers(&["user=nosuchcommand"]);
    let mut lab = Lab::new(config);
    lab.client(1);
    fire(&mut lab, "a");
    let (id, _) = lab.spawned[0].clone();
    let mark = lab.printed.len();
    lab.child_exits(id, ChildStatus::Exited(127), b"/bin/sh: 1: nosuchcommand: not found\n");
    assert_eq!(
        lab.log_since(mark),
        "[ERR] agent: Error invoking script 'nosuchcommand': exit status 127: \
         /bin/sh: 1: nosuchcommand: not found"
    );
}

#[test]
fn a_script_that_hangs_holds_up_no_stream() {
    let mut lab = lab(&["*=hangs"]);
    lab.request(1, 7, &Request::Stream(Stream { filter: "user".into() }));
    for name in ["first", "second"] {
        lab.take(1);
        fire(&mut lab, name);
        let records = lab.take(1);
        assert!(lab::contains(&records, name.as_bytes()), "{}", records.escape_ascii());
    }
    assert_eq!(lab.spawned.len(), 1);
}

#[test]
fn how_long_scripts_take_is_measured() {
    let mut lab = lab(&["user=x.sh --fast"]);
    fire(&mut lab, "a");
    lab.pass(Duration::from_millis(12));
    last_exits(&mut lab, b"");
    lab.pass(Duration::from_secs(10));
    lab.signal(Signal::User1);
    let shown = "[S] 'serf-agent.agent.invoke.x.sh_--fast': Count: 1 Sum: 12.000 ";
    assert!(lab.printed_errors.contains(shown), "{}", lab.printed_errors);
}

#[test]
fn an_agent_that_ends_leaves_its_scripts_alone() {
    let mut lab = lab(&["{timeout=5s}user=x.sh"]);
    fire(&mut lab, "a");
    lab.signal(Signal::Terminate);
    assert_eq!((lab.exit, lab.spawned.len()), (Some(1), 1));
    assert_eq!(lab.killed, []);
}

#[test]
fn output_that_was_cut_is_told() {
    let mut lab = lab(&["user=x.sh"]);
    fire(&mut lab, "a");
    let (id, _) = lab.spawned[0].clone();
    let mark = lab.printed.len();
    let output = [b'x'; CHILD_OUTPUT];
    lab.give(Input::ChildExited {
        id,
        status: ChildStatus::Exited(0),
        output: &output,
        output_total: 100_000,
    });
    let notice = "[WARN] agent: Script 'x.sh' generated 100000 bytes of output, truncated to the last 8192";
    assert!(lab.log_since(mark).ends_with(notice), "{}", lab.log_since(mark));
}

#[test]
fn a_slow_handler_is_called_slow_once_and_then_reminded_of_ever_less_often() {
    let mut lab = lab(&["user=x.sh", "{timeout=9h}user=y.sh"]);
    fire(&mut lab, "a");
    lab.pass(Duration::from_millis(990));
    assert!(!lab.printed.contains("slow"));
    let mark = lab.printed.len();
    lab.pass(Duration::from_secs(3 * 3600));
    let lines = lab.log_since(mark);
    let lines = |script: &str| -> Vec<String> {
        let start = format!("[WARN] agent: Script '{script}' ");
        lines.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    };
    let slow = "slow, execution exceeding 1s";
    let still = ["1m0s", "10m0s", "1h0m0s", "2h0m0s"].map(|ran| format!("still running after {ran}"));
    assert_eq!(lines("y.sh"), [&[slow.to_owned()][..], &still].concat());
    let remedy = "; the handler option 'timeout' would end it";
    assert_eq!(lines("x.sh")[1], format!("{}{remedy}", still[0]));
    assert_eq!(lines("x.sh").len(), 6, "it was started a second earlier");
}

/// The log lines since `mark` that hold `part`.
fn printed_lines(lab: &Lab, mark: usize, part: &str) -> Vec<String> {
    lab.log_since(mark).lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[test]
fn a_script_that_runs_out_of_time_is_asked_to_end_and_then_killed() {
    let mut lab = lab(&["{timeout=5s}user=x.sh"]);
    let mark = lab.printed.len();
    for (name, exits_after, killed) in
        [("a", Duration::ZERO, &[Kill::Politely][..]), ("b", HANDLER_GRACE, &[Kill::Politely, Kill::AtOnce])]
    {
        fire(&mut lab, name);
        fire(&mut lab, "next");
        let (id, spawn) = lab.spawned.last().cloned().expect("the script runs");
        assert!(spawn.own_group);
        lab.pass(Duration::from_millis(4990));
        assert_eq!(lab.killed, []);
        lab.pass(Duration::from_millis(10) + exits_after);
        assert_eq!(lab.killed, killed.iter().map(|how| (id, *how)).collect::<Vec<_>>());
        lab.child_exits(id, ChildStatus::Signaled(9), b"working\nstill working\n");
        let (id, spawn) = lab.spawned.last().cloned().expect("the next event goes on");
        assert!(spawn.env.contains(&(b"SERF_USER_EVENT".to_vec(), b"next".to_vec())));
        lab.child_exits(id, ChildStatus::Exited(0), b"");
        lab.killed.clear();
    }
    let line = "[ERR] agent: Error invoking script 'x.sh': timed out after 5s: still working";
    assert_eq!(printed_lines(&lab, mark, "Error"), [line, line]);
    lab.pass(HANDLER_GRACE + HANDLER_GRACE);
    assert_eq!(lab.killed, [], "who has ended is left alone");
}

#[test]
fn a_script_that_cannot_be_ended_holds_up_nobody() {
    let mut lab = lab(&["{timeout=500ms}user=x.sh", "user=other"]);
    fire(&mut lab, "a");
    fire(&mut lab, "b");
    assert_eq!(commands(&lab), [b"x.sh"]);
    lab.pass(Duration::from_millis(500));
    assert_eq!(commands(&lab), [&b"x.sh"[..], b"other"], "it has no turn any more");
    last_exits(&mut lab, b"");
    last_exits(&mut lab, b"");
    let (stuck, _) = lab.spawned[0].clone();
    let mark = lab.printed.len();
    lab.pass(HANDLER_GRACE);
    assert_eq!(lab.killed, [(stuck, Kill::Politely), (stuck, Kill::AtOnce)]);
    assert_eq!(lab.spawned.len(), 3);
    lab.pass(HANDLER_GRACE);
    assert_eq!(commands(&lab), [&b"x.sh"[..], b"other", b"other", b"x.sh"]);
    let line = "[ERR] agent: Error invoking script 'x.sh': timed out after 500ms and cannot be ended; \
                nobody waits for it any more";
    assert_eq!(printed_lines(&lab, mark, "x.sh"), [line], "it was never called slow");
    last_exits(&mut lab, b"");
    let mark = lab.printed.len();
    lab.child_exits(stuck, ChildStatus::Signaled(9), b"late");
    assert_eq!(lab.log_since(mark), "", "what comes later is of no interest");
}

#[test]
fn who_is_out_of_time_does_not_answer() {
    let mut lab = lab(&["{timeout=1s}query=late", "query=quick"]);
    ask(&mut lab, "a");
    lab.pass(Duration::from_secs(1));
    assert_eq!(commands(&lab), [&b"late"[..], b"quick"]);
    assert!(!lab.printed.contains("slow"), "it has no time to be slow");
    last_exits(&mut lab, b"quick");
    let (late, _) = lab.spawned[0].clone();
    assert!(!lab::contains(&lab.take(1), b"response"));
    lab.child_exits(late, ChildStatus::Exited(0), b"late");
    let records = lab.take(1);
    assert!(lab::contains(&records, b"\xc4\x05quick\xa4Type\xa8response"), "{}", records.escape_ascii());
    assert!(!lab::contains(&records, b"late"));
}

#[test]
fn a_handler_says_how_many_events_may_wait_for_it() {
    let mut lab = lab(&["{queue=2}user=x.sh"]);
    let mark = lab.printed.len();
    for number in 0..6 {
        fire(&mut lab, &format!("e{number}"));
    }
    lab.pass(Duration::from_secs(2));
    fire(&mut lab, "e6");
    let dropping = |total: u64| {
        format!("[WARN] agent: Script 'x.sh' is too slow, dropping its oldest events: {total} so far")
    };
    assert_eq!(printed_lines(&lab, mark, "dropping"), [dropping(1), dropping(4)], "one line in a second");
    for _ in 0..3 {
        last_exits(&mut lab, b"");
    }
    let events: Vec<_> = lab.spawned.iter().map(|(_, spawn)| event_of(&spawn.env)).collect();
    assert_eq!(events, ["e0", "e5", "e6"]);
}

/// The name of the user event that a script was started for.
fn event_of(env: &[(Vec<u8>, Vec<u8>)]) -> String {
    let (_, name) = env.iter().find(|(name, _)| name == b"SERF_USER_EVENT").expect("it is a user event");
    String::from_utf8_lossy(name).into_owned()
}

#[test]
fn a_handler_that_may_run_several_scripts_stands_outside_of_the_order() {
    let mut lab = lab(&["user=first", "{concurrency=2}user=many", "user=last"]);
    fire(&mut lab, "a");
    assert_eq!(commands(&lab), [&b"first"[..], b"many"], "it does not wait for its turn");
    fire(&mut lab, "b");
    fire(&mut lab, "c");
    assert_eq!(commands(&lab), [&b"first"[..], b"many", b"many"], "two at once, and no more");
    let (id, _) = lab.spawned[0].clone();
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    assert_eq!(commands(&lab)[3..], [b"last"], "nobody waits for it");
    let (id, _) = lab.spawned[2].clone();
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    let (_, spawn) = lab.spawned.last().expect("the next event follows");
    assert_eq!((&spawn.command[..], &*event_of(&spawn.env)), (&b"many"[..], "c"));
}

#[test]
fn an_answer_goes_out_with_the_end_of_its_script() {
    let mut lab = lab(&["query=echo answer; sleep 60 &", "user=next"]);
    ask(&mut lab, "a");
    fire(&mut lab, "b");
    lab.take(1);
    last_exits(&mut lab, b"answer\n");
    let records = lab.take(1);
    assert!(lab::contains(&records, b"answer\n"), "{}", records.escape_ascii());
    assert_eq!(commands(&lab)[1], b"next", "and what comes next is started");
}

#[test]
fn scripts_see_the_tags_of_the_moment_at_which_they_start() {
    let mut lab = lab(&["user=first", "user=second"]);
    fire(&mut lab, "a");
    let tags = [(b"role".as_slice().into(), b"db".as_slice().into())].into();
    lab.request(1, 3, &Request::Tags(TagChange { tags, delete_tags: Vec::new() }));
    last_exits(&mut lab, b"");
    let role = |index: usize| {
        let (_, spawn) = &lab.spawned[index];
        spawn.env.iter().find(|(name, _)| name == b"SERF_SELF_ROLE").map(|(_, role)| role.clone())
    };
    assert_eq!((role(0), role(1)), (Some(b"web".to_vec()), Some(b"db".to_vec())));
}

#[test]
fn a_hanging_handler_loses_its_oldest_events_and_nobody_elses() {
    let mut lab = lab(&["user=hangs", "user=runs"]);
    for number in 0..HANDLER_QUEUE + 3 {
        fire(&mut lab, &format!("e{number}"));
        if number == 0 {
            lab.pass(SLOW);
        }
        let (id, spawn) = lab.spawned.last().cloned().expect("one handler keeps running");
        assert_eq!(spawn.command, b"runs");
        lab.child_exits(id, ChildStatus::Exited(0), b"");
    }
    let dropping = "[WARN] agent: Script 'hangs' is too slow, dropping its oldest events: 1 so far\n";
    assert_eq!(lab.printed.matches(dropping).count(), 1);
    let (id, _) = lab.spawned[0].clone();
    lab.child_exits(id, ChildStatus::Exited(0), b"");
    let (_, spawn) = lab.spawned.last().expect("the next event follows");
    // e0 has run; of the others the two oldest are lost.
    assert!(spawn.env.contains(&(b"SERF_USER_EVENT".to_vec(), b"e3".to_vec())), "{:?}", spawn.env);
}

#[test]
fn what_a_handler_writes_answers_a_query_once() {
    let mut lab = lab(&["query:a=one", "query:a=two", "query:a=fails", "query:a=silent"]);
    ask(&mut lab, "a");
    last_exits(&mut lab, b"one\n");
    let mark = lab.printed.len();
    last_exits(&mut lab, b"two\n");
    assert!(
        lab.log_since(mark).ends_with(
            "[WARN] agent: Failed to respond to query 'query: a': \
             failed to respond to key query: response already sent"
        ),
        "{}",
        lab.log_since(mark)
    );
    let (id, _) = lab.spawned.last().cloned().expect("the third runs");
    lab.child_exits(id, ChildStatus::Exited(1), b"no\n");
    last_exits(&mut lab, b"");
    assert_eq!(lab.spawned.len(), 4);
    let records = lab.take(1);
    assert!(lab::contains(&records, b"\xc4\x04one\n\xa4Type\xa8response"), "{}", records.escape_ascii());
    assert!(!lab::contains(&records, b"two") && !lab::contains(&records, b"no\n"));
}

#[test]
fn the_first_handler_that_says_anything_answers_however_long_it_takes() {
    let mut lab = lab(&["query=silent", "*=slow", "query:a=quick", "query:b=never"]);
    ask(&mut lab, "a");
    last_exits(&mut lab, b"");
    lab.pass(SLOW);
    assert_eq!(commands(&lab), [&b"silent"[..], b"slow", b"quick"]);
    lab.take(1);
    last_exits(&mut lab, b"quick\n");
    assert!(!lab::contains(&lab.take(1), b"response"), "a handler that comes first still runs");
    let mark = lab.printed.len();
    let (slow, _) = lab.spawned[1].clone();
    lab.child_exits(slow, ChildStatus::Exited(0), b"slow\n");
    let records = lab.take(1);
    assert!(lab::contains(&records, b"\xc4\x05slow\n\xa4Type\xa8response"), "{}", records.escape_ascii());
    assert!(lab.log_since(mark).ends_with("response already sent"), "{}", lab.log_since(mark));
}

#[test]
fn a_handler_that_will_never_answer_holds_up_nobody() {
    let mut lab = lab(&["query=fails", "*=hangs", "query=quick"]);
    fire(&mut lab, "first");
    lab.pass(SLOW);
    ask(&mut lab, "a");
    let (id, _) = lab.spawned.last().cloned().expect("the first handler runs");
    lab.child_exits(id, ChildStatus::Exited(1), b"no");
    assert_eq!(commands(&lab), [&b"hangs"[..], b"fails", b"quick"]);
    last_exits(&mut lab, b"quick");
    for _ in 0..HANDLER_QUEUE - 1 {
        fire(&mut lab, "more");
    }
    assert!(!lab::contains(&lab.take(1), b"response"), "the query waits in the queue of the one that hangs");
    fire(&mut lab, "too much");
    let records = lab.take(1);
    assert!(lab::contains(&records, b"\xc4\x05quick\xa4Type\xa8response"), "{}", records.escape_ascii());
}

#[test]
fn late_and_long_answers_are_refused() {
    let mut lab = lab(&["query=x"]);
    ask(&mut lab, "a");
    let (id, _) = lab.spawned[0].clone();
    let mark = lab.printed.len();
    lab.child_exits(id, ChildStatus::Exited(0), &[b'x'; 1100]);
    let refused = "Failed to respond to query 'query: a': failed to respond to key query: response";
    assert!(
        lab.log_since(mark).contains(&format!("{refused} exceeds limit of 1024 bytes")),
        "{}",
        lab.log_since(mark)
    );
    ask(&mut lab, "a");
    let (id, _) = lab.spawned[1].clone();
    lab.pass(Duration::from_secs(4));
    let mark = lab.printed.len();
    lab.child_exits(id, ChildStatus::Exited(0), b"late");
    assert!(
        lab.log_since(mark).ends_with(&format!("{refused} is past the deadline")),
        "{}",
        lab.log_since(mark)
    );
}

#[test]
fn a_name_with_a_nul_byte_starts_nothing() {
    let mut lab = lab(&["user=x"]);
    let mark = lab.printed.len();
    fire(&mut lab, "a\0b");
    assert!(lab.spawned.is_empty());
    let log = lab.log_since(mark);
    assert!(log.contains("[INFO] agent: Received event: user-event: a\\x00b\n"), "{log}");
    assert!(
        log.ends_with("[ERR] agent: Error invoking script 'x': exec: environment variable contains NUL"),
        "{log}"
    );
}

/// A section of the numbers that `info` shows.
fn section(lab: &mut Lab, name: &str) -> Vec<(String, String)> {
    lab.take(1);
    lab.request(1, 9, &Request::Stats);
    let mut objects = Objects::new(Limits::RESPONSE);
    objects.push(&lab.take(1));
    objects.next_object().expect("the agent writes MessagePack").expect("there is a header");
    let body = objects.next_object().expect("the agent writes MessagePack").expect("there is a body");
    let stats = Stats::from_reply(body).expect("these are numbers");
    stats[name.as_bytes()].iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn numbers_about_each_handler_stand_in_the_order_of_the_configuration() {
    let mut lab = lab(&["{queue=1,timeout=2s}user:a, query=x y", "user=fails"]);
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let fresh = "runs=0 failed=0 timeouts=0 dropped=0 waiting=0 running=0 last_exit=- last_ms=-";
    assert_eq!(
        section(&mut lab, "handlers"),
        [
            entry("1 user:a,query", &format!("{fresh} command=x y")),
            entry("2 user", &format!("{fresh} command=fails")),
        ]
    );
    for _ in 0..3 {
        fire(&mut lab, "a");
    }
    lab.pass(Duration::from_millis(12));
    last_exits(&mut lab, b"");
    let (id, _) = lab.spawned.last().cloned().expect("the next handler runs");
    lab.child_exits(id, ChildStatus::Exited(7), b"");
    lab.pass(Duration::from_secs(2));
    let mut handlers = section(&mut lab, "handlers");
    assert_eq!(
        handlers.remove(0).1,
        "runs=1 failed=0 timeouts=0 dropped=1 waiting=0 running=1 last_exit=0 last_ms=12 command=x y"
    );
    assert_eq!(
        handlers.remove(0).1,
        "runs=1 failed=1 timeouts=0 dropped=0 waiting=1 running=1 last_exit=7 last_ms=0 command=fails"
    );
    let dropped = section(&mut lab, "dropped");
    assert!(dropped.contains(&entry("handlers", "1")), "{dropped:?}");
    for (status, last) in [
        (
            ChildStatus::Signaled(9),
            "runs=2 failed=2 timeouts=0 dropped=0 waiting=0 running=1 last_exit=signal:9",
        ),
        (
            ChildStatus::NotStarted("no more processes".to_owned()),
            "runs=3 failed=3 timeouts=0 dropped=0 waiting=0 running=0 last_exit=not-started",
        ),
    ] {
        last_ends(&mut lab, "fails", status);
        let (_, shown) = section(&mut lab, "handlers").remove(1);
        assert!(shown.starts_with(last), "{shown}");
    }
    lab.pass(Duration::from_secs(1));
    last_ends(&mut lab, "x y", ChildStatus::Signaled(15));
    let (_, shown) = section(&mut lab, "handlers").remove(0);
    assert!(shown.starts_with("runs=2 failed=1 timeouts=1 dropped=1 "), "{shown}");
    assert!(shown.contains(" running=0 last_exit=timeout last_ms=2"), "{shown}");
}

/// Ends the last script with this command.
fn last_ends(lab: &mut Lab, command: &str, status: ChildStatus) {
    let mut scripts = lab.spawned.iter().rev();
    let (id, _) = scripts.find(|(_, spawn)| spawn.command == command.as_bytes()).expect("it was started");
    let id = *id;
    lab.child_exits(id, status, b"");
}

#[test]
fn keys_of_many_handlers_are_in_order_too() {
    let texts: Vec<String> = (1..=11).map(|number| format!("user=x{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut lab = lab(&texts);
    let keys: Vec<String> = section(&mut lab, "handlers").into_iter().map(|(key, _)| key).collect();
    assert_eq!((&*keys[0], &*keys[1], &*keys[10]), ("01 user", "02 user", "11 user"));
}

/// One part of a recording of the reference: its handlers, and what its agent printed, entry by entry.
struct Recording<'a> {
    handlers: Vec<&'a str>,
    responses: usize,
    entries: Vec<String>,
}

/// The parts of a recording, without the times of its lines.
fn recordings(text: &str) -> Vec<Recording<'_>> {
    let part = |part| {
        let (head, log): (&str, &str) =
            str::split_once(part, "@@ agent output from here on\n").expect("a log");
        let (handlers, commands) = head.split_once("\n\n").expect("a part begins with handlers");
        let log = log.split("\n\n@@ note").next().expect("a text has a first part");
        let mut entries: Vec<String> = Vec::new();
        for line in log.trim_end_matches('\n').lines() {
            match (line.strip_prefix("    2026/11/22 "), entries.last_mut()) {
                (Some(line), _) => entries.push(line[9..].to_owned()),
                (None, Some(entry)) => continue_entry(entry, line),
                (None, None) => panic!("a log begins with a time: {line}"),
            }
        }
        let responses = commands.matches("\nResponse from ").count();
        Recording { handlers: handlers.lines().collect(), responses, entries }
    };
    text.split("@@ event_handlers\n").skip(1).map(part).collect()
}

fn continue_entry(entry: &mut String, line: &str) {
    entry.push('\n');
    entry.push_str(line);
}

/// Whether a line tells what became of a script.
fn is_about_scripts(entry: &str) -> bool {
    [
        "[DEBUG] agent: Event '",
        "[ERR] agent: Error invoking",
        "[WARN] agent: Script",
        "[WARN] agent: Failed to",
    ]
    .iter()
    .any(|start| entry.starts_with(start))
}

/// The word behind `start`, up to `end`.
fn between<'a>(entry: &'a str, start: &str, end: &str) -> Option<&'a str> {
    entry.strip_prefix(start)?.split(end).next()
}

/// Lets the same events come and the same scripts end in the same way; the log says the same about them.
fn replay(recording: &Recording<'_>) {
    let mut lab = lab(&recording.handlers);
    let mark = lab.printed.len();
    let mut ended = 0;
    let mut responses = 0;
    for (index, entry) in recording.entries.iter().enumerate() {
        if let Some(name) = between(entry, "[DEBUG] agent: Requesting user event send: ", ". ") {
            let (_, payload) = entry.split_once("Payload: \"").expect("the payload is shown");
            let payload = Some(payload.trim_end_matches('"').into());
            let event = UserEvent { name: name.into(), payload, coalesce: false };
            lab.request(1, 1, &Request::Event(event));
        } else if let Some(name) = between(entry, "[DEBUG] agent: Requesting query send: ", ". ") {
            let query = Query { name: name.into(), timeout: 800_000_000, ..Query::default() };
            lab.request(1, 2, &Request::Query(query));
        } else if entry.ends_with(" slow, execution exceeding 1s") {
            lab.pass(SLOW);
        } else if let Some((_, output)) = entry.split_once(" script output: ") {
            let (id, spawn) = lab.spawned.get(ended).cloned().expect("as many scripts are started");
            ended += 1;
            let next = recording.entries.get(index + 1).map_or("", String::as_str);
            let status = match next.rsplit_once("exit status ") {
                _ if next.ends_with("signal: killed") => ChildStatus::Signaled(9),
                Some((_, status)) => ChildStatus::Exited(status.parse().expect("a number")),
                None => ChildStatus::Exited(0),
            };
            if spawn.command.ends_with(b"; echo $SERF_USER_EVENT") {
                assert_eq!(event_of(&spawn.env), output);
            }
            let output = if output.is_empty() { String::new() } else { format!("{output}\n") };
            assert!(output.len() <= CHILD_OUTPUT);
            lab.child_exits(id, status, output.as_bytes());
            let records = lab.take(1);
            responses += records.windows(9).filter(|window| window == b"\xa8response").count();
        }
    }
    assert_eq!(lab.spawned.len(), ended, "{:?}", recording.handlers);
    assert_eq!(responses, recording.responses, "{:?}", recording.handlers);
    let mut entries: Vec<String> = Vec::new();
    for line in lab.log_since(mark).lines() {
        match entries.last_mut() {
            Some(entry) if !line.starts_with('[') => continue_entry(entry, line),
            _ => entries.push(line.to_owned()),
        }
    }
    let printed: Vec<&String> = entries.iter().filter(|entry| is_about_scripts(entry)).collect();
    let recorded: Vec<&String> = recording.entries.iter().filter(|entry| is_about_scripts(entry)).collect();
    assert_eq!(printed.len(), recorded.len(), "{printed:?}");
    for (printed, recorded) in printed.iter().zip(&recorded) {
        // Some lines say more here: why a script failed, and how long an answer was.
        let is_same = if recorded.starts_with("[DEBUG]") {
            printed == recorded
        } else {
            printed.starts_with(recorded.as_str())
        };
        assert!(is_same, "{printed} is not {recorded}");
    }
}

#[test]
fn what_the_reference_says_about_scripts_is_said_here() {
    for (text, parts) in [
        (include_str!("golden/handlers/behaviour.txt"), 16),
        (include_str!("golden/handlers/query-response.txt"), 4),
    ] {
        let recordings = recordings(text);
        assert_eq!(recordings.len(), parts);
        recordings.iter().for_each(replay);
    }
}
