use crate::lab::{Lab, text};
use villein_core::command::{Command, QueryParams, Reply};
use villein_core::config::Config;
use villein_core::member::{Event, QueryKey};
use villein_core::note::Note;
use villein_core::time::{Duration, Instant};

/// The default time of a query in a small cluster.
const WHOLE: Duration = Duration::from_millis(3200);

fn params() -> QueryParams {
    QueryParams { name: text("load"), ack: true, ..QueryParams::default() }
}

/// Asks at node0; as soon as the query is heard, `answering` nodes answer. Returns the key, when the query began
/// and when it was over.
fn ask(lab: &mut Lab, params: QueryParams, answering: &[usize]) -> (QueryKey, Instant, Instant) {
    lab.clear_records();
    let begin = lab.now();
    let key = lab.query(0, params);
    let mut unanswered = answering.to_vec();
    let (mut events, mut done) = (Vec::new(), None);
    while done.is_none() {
        lab.run_for(Duration::from_millis(1));
        unanswered.retain(|&node| {
            let heard = lab.take_events(node);
            let is_asked =
                heard.iter().any(|event| matches!(event, Event::Query { key: of, .. } if *of == key));
            if node == 0 {
                events.extend(heard);
            }
            if is_asked {
                assert_eq!(lab.command(node, Command::Respond { key, payload: (*b"1").into() }), Reply::Done);
            }
            !is_asked
        });
        events.extend(lab.take_events(0));
        assert!(lab.now() < begin + WHOLE + WHOLE, "the query is never over");
        done = events.iter().any(|event| *event == Event::QueryDone { key }).then_some(lab.now());
    }
    (key, begin, done.expect("the loop ends when it is"))
}

fn is_early((_, begin, end): (QueryKey, Instant, Instant)) -> bool {
    assert!(end >= begin && end.since(begin) <= WHOLE + Duration::from_millis(2));
    end.since(begin) < WHOLE
}

fn roles(index: usize, config: &mut Config) {
    config.tags.insert(text("role"), text(["web", "db", "db"][index]));
}

#[test]
fn it_ends_with_the_last_answer() {
    for relay_factor in [0, 2] {
        let mut lab = Lab::cluster(3);
        let asked = ask(&mut lab, QueryParams { relay_factor, ..params() }, &[0, 1, 2]);
        assert!(is_early(asked), "{relay_factor}");
        // What is relayed, or was sent twice, comes late and disturbs nobody. There is one end.
        lab.run_for(Duration::from_secs(10));
        let after = lab.take_events(0);
        assert!(!after.iter().any(|event| matches!(event, Event::QueryDone { .. })), "{after:?}");
        assert!(!lab.notes(0).any(|note| matches!(note, Note::ResponseUnexpected { .. })));
        let late = lab.notes(0).filter(|note| matches!(note, Note::ResponseLate { .. })).count();
        assert_eq!(late > 0, relay_factor > 0, "{late}");
    }
}

#[test]
fn an_ack_alone_is_no_answer() {
    let mut lab = Lab::cluster(3);
    assert!(!is_early(ask(&mut lab, params(), &[0, 1])));
    // Without an ack, an answer is enough.
    assert!(is_early(ask(&mut lab, QueryParams { ack: false, ..params() }, &[0, 1, 2])));
}

#[test]
fn only_those_are_waited_for_whom_it_is_for() {
    let mut lab = Lab::cluster_with(3, roles);
    let databases = QueryParams { tags: vec![(text("role"), text("^d"))], ..params() };
    assert!(is_early(ask(&mut lab, databases.clone(), &[1, 2])));
    assert!(!is_early(ask(&mut lab, databases.clone(), &[1])));
    let one = QueryParams { nodes: vec![text("node2")], ..params() };
    assert!(is_early(ask(&mut lab, one.clone(), &[2])));
    assert!(is_early(ask(&mut lab, QueryParams { tags: databases.tags.clone(), ..one }, &[2])));
    // Who failed is known not to answer.
    lab.kill(2);
    lab.run_for(Duration::from_mins(1));
    assert!(is_early(ask(&mut lab, databases, &[1])));
    let both = QueryParams { nodes: vec![text("node1"), text("node2")], ..params() };
    assert!(is_early(ask(&mut lab, both, &[1])));
}

#[test]
fn nobody_in_particular_is_waited_for_to_the_end() {
    let mut lab = Lab::cluster_with(2, roles);
    // Somebody whom this node does not know may match.
    let caches = QueryParams { tags: vec![(text("role"), text("cache"))], ..params() };
    assert!(!is_early(ask(&mut lab, caches, &[])));
    let unknown = QueryParams { nodes: vec![text("node1"), text("elsewhere")], ..params() };
    assert!(!is_early(ask(&mut lab, unknown, &[1])));
    // A ping is never answered.
    let ping = QueryParams { name: text("_serf_ping"), ..params() };
    assert!(!is_early(ask(&mut lab, ping, &[])));
}

#[test]
fn what_is_no_expression_is_over_at_once() {
    let mut lab = Lab::cluster_with(2, roles);
    let broken = QueryParams { tags: vec![(text("role"), text("["))], ..params() };
    let (key, begin, end) = ask(&mut lab, broken, &[]);
    assert!(end.since(begin) <= Duration::from_millis(1));
    assert!(lab.notes(0).any(|note| matches!(note, Note::FilterInvalid { expr, .. } if *expr == text("["))));
    lab.run_for(Duration::from_secs(5));
    assert!(!lab.notes(1).any(|note| matches!(note, Note::FilterInvalid { .. })), "nobody else hears of it");
    let (next, ..) = ask(&mut lab, params(), &[]);
    assert!(next.ltime > key.ltime);
}
