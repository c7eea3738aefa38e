//! Event handlers from the event to the log line and the answer.

mod lab;

use lab::{Lab, config, handlers};
use villein_agent::io::ChildStatus;
use villein_agent::limits::HANDLER_QUEUE;
use villein_core::note::Level;
use villein_core::time::Duration;
use villein_rpc::Request;
use villein_rpc::request::{Query, UserEvent};

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
fn a_slow_handler_is_called_slow_once() {
    let mut lab = lab(&["user=x.sh"]);
    fire(&mut lab, "a");
    lab.pass(Duration::from_millis(990));
    assert!(!lab.printed.contains("slow"));
    lab.pass(Duration::from_secs(5));
    let line = "[WARN] agent: Script 'x.sh' slow, execution exceeding 1s\n";
    assert_eq!(lab.printed.matches(line).count(), 1, "{}", lab.printed);
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
        lab.log_since(mark).ends_with(&format!("{refused} exceeds limit of 1024 bytes")),
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
