use crate::lab::{Lab, text};
use std::collections::BTreeMap;
use villein_core::command::{Command, CommandError, CommandId, KeyReport, KeyRequest, QueryParams, Reply};
use villein_core::config::Config;
use villein_core::crypto::{Key, Keyring};
use villein_core::limits;
use villein_core::member::{Event, Status};
use villein_core::note::Note;
use villein_core::text::Secret;
use villein_core::time::Duration;

/// Bytes that would be found in a log if they were in one.
const OLD: &[u8] = b"the-old-secret-of-the-cluster-32";
const NEW: &[u8] = b"the-new-secret-of-the-cluster-32";
const SHORT: &[u8] = b"sixteen-bytes-16";

/// The default time of a query in a small cluster.
const WHOLE: Duration = Duration::from_millis(3200);

fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(bytes).expect("the key is as long as keys are")
}

fn secret(bytes: &[u8]) -> Secret {
    bytes.to_vec().into()
}

fn encrypted(_: usize, config: &mut Config) {
    config.keyring = Some(Keyring::new(key(OLD), []).expect("one key is a ring"));
}

fn report(lab: &Lab, id: CommandId) -> KeyReport {
    match lab.reply(0, id) {
        Some(Reply::Keys(report)) => (**report).clone(),
        other => panic!("there is no report: {other:?}"),
    }
}

/// Runs an operation to its end.
fn rotate(lab: &mut Lab, request: KeyRequest) -> KeyReport {
    match lab.command(0, Command::Keys(request)) {
        Reply::Keys(report) => *report,
        other => panic!("there is no report: {other:?}"),
    }
}

fn all_did(nodes: usize) -> KeyReport {
    KeyReport { nodes, responses: nodes, ..KeyReport::default() }
}

fn ring(lab: &Lab, index: usize) -> Vec<Vec<u8>> {
    let keyring = lab.node(index).keyring().expect("the node has keys");
    keyring.keys().iter().map(|key| key.as_bytes().to_vec()).collect()
}

/// The tokens of changes that `index` is to keep, with the keys.
fn unkept(lab: &mut Lab, index: usize) -> Vec<(u64, Vec<Key>)> {
    let changed = |event| match event {
        Event::KeyringChanged { token, keys } => Some((token, keys)),
        _ => None,
    };
    lab.take_events(index).into_iter().filter_map(changed).collect()
}

#[test]
fn a_key_is_replaced_on_every_member() {
    let mut lab = Lab::cluster_with(3, encrypted);
    let begin = lab.now();
    let rows = [
        (KeyRequest::Install(secret(NEW)), vec![OLD, NEW]),
        (KeyRequest::Use(secret(NEW)), vec![NEW, OLD]),
        (KeyRequest::Remove(secret(OLD)), vec![NEW]),
        // What is done already is done.
        (KeyRequest::Remove(secret(OLD)), vec![NEW]),
        (KeyRequest::Install(secret(NEW)), vec![NEW]),
        (KeyRequest::Use(secret(NEW)), vec![NEW]),
    ];
    for (request, expected) in rows {
        assert_eq!(rotate(&mut lab, request.clone()), all_did(3), "{request:?}");
        for index in 0..3 {
            assert_eq!(ring(&lab, index), expected, "{request:?} at node{index}");
        }
    }
    assert!(lab.now().since(begin) < WHOLE, "nobody is waited for who has answered");
    // They still hear each other.
    lab.event(1, "deploy", b"");
    lab.run_for(Duration::from_secs(3));
    assert_eq!(crate::lab::user_events(&lab.take_events(2)).len(), 1);
    // The application hears nothing of it.
    assert!(
        !lab.take_events(0)
            .iter()
            .any(|event| matches!(event, Event::Query { .. } | Event::QueryDone { .. }))
    );
}

#[test]
fn keys_are_listed_with_those_who_have_them() {
    let mut lab = Lab::cluster_with(3, |index, config| {
        let others = if index == 2 { vec![key(SHORT)] } else { vec![] };
        config.keyring = Some(Keyring::new(key(OLD), others).expect("two keys are a ring"));
    });
    let listed = rotate(&mut lab, KeyRequest::List);
    let keys = BTreeMap::from([(key(OLD).to_base64(), 3), (key(SHORT).to_base64(), 1)]);
    let primary_keys = BTreeMap::from([(key(OLD).to_base64(), 3)]);
    assert_eq!(listed, KeyReport { keys, primary_keys, ..all_did(3) });
}

/// So many keys of 32 bytes, the first of them in use.
fn keys(count: u8) -> Keyring {
    Keyring::new(key(&[1; 32]), (2..=count).map(|number| key(&[number; 32]))).expect("they are different")
}

/// Old members die when they are asked for more keys than fit into one answer.
#[test]
fn no_more_keys_are_installed_than_members_can_list() {
    let mut lab = Lab::cluster_with(2, |_, config| config.keyring = Some(keys(1)));
    let install = |number: u8| Command::Keys(KeyRequest::Install(secret(&[number; 32])));
    let refused = (2..40).find_map(|number| match lab.command(0, install(number)) {
        Reply::Keys(_) => None,
        reply => Some((number, reply)),
    });
    // The reference answers with 19 if the query is young and the name of a member short (gossip.md 13.11).
    let too_many = |count| Reply::Failed(CommandError::TooManyKeys(count));
    assert_eq!(refused, Some((19, too_many(19))));
    assert_eq!(rotate(&mut lab, KeyRequest::List).keys.len(), 18);
    // A shorter one fits, and one that is there takes no place.
    assert_eq!(rotate(&mut lab, KeyRequest::Install(secret(SHORT))), all_did(2));
    assert_eq!(rotate(&mut lab, KeyRequest::Install(secret(SHORT))), all_did(2));
    assert_eq!(rotate(&mut lab, KeyRequest::List).keys.len(), 19);
}

/// Nor does a member take one more because somebody else asks it to.
#[test]
fn a_key_that_makes_a_list_too_long_is_refused_whoever_asks() {
    let mut lab = Lab::cluster_with(2, |index, config| config.keyring = Some(keys([1, 18][index])));
    let refused = rotate(&mut lab, KeyRequest::Install(secret(NEW)));
    let said = [(text("node1"), text(&CommandError::TooManyKeys(19).to_string()))].into();
    assert_eq!(refused, KeyReport { failures: 1, messages: said, ..all_did(2) });
    assert_eq!((ring(&lab, 0).len(), ring(&lab, 1).len()), (2, 18));
}

#[test]
fn keys_that_members_cannot_list_are_not_asked_for() {
    for (count, is_refused) in [(18, false), (19, true), (39, true), (40, false)] {
        let mut lab = Lab::cluster_with(2, |_, config| config.keyring = Some(keys(count)));
        let reply = lab.command(0, Command::Keys(KeyRequest::List));
        let refused = Reply::Failed(CommandError::TooManyKeys(count.into()));
        assert_eq!(reply == refused, is_refused, "{count}: {reply:?}");
        // They can always become fewer.
        assert_eq!(rotate(&mut lab, KeyRequest::Remove(secret(&[2; 32]))), all_did(2));
    }
}

#[test]
fn members_say_why_they_fail() {
    let mut lab = Lab::cluster_with(2, encrypted);
    let said =
        |why: &str| -> BTreeMap<_, _> { [(text("node0"), text(why)), (text("node1"), text(why))].into() };
    for (request, why) in [
        (KeyRequest::Remove(secret(OLD)), "Removing the primary key is not allowed"),
        (KeyRequest::Use(secret(NEW)), "Requested key is not in the keyring"),
        (KeyRequest::Install(secret(b"short")), "key size must be 16, 24 or 32 bytes"),
        (KeyRequest::Install(Secret::default()), "key size must be 16, 24 or 32 bytes"),
    ] {
        assert_eq!(rotate(&mut lab, request), KeyReport { failures: 2, messages: said(why), ..all_did(2) });
    }
    let received = lab.notes(1).filter(|note| matches!(note, Note::KeyQuery { .. })).count();
    assert_eq!(received, 4);

    let mut lab = Lab::cluster(2);
    for (request, why) in [
        (KeyRequest::List, "Keyring is empty (encryption not enabled)"),
        (KeyRequest::Install(secret(NEW)), "No keyring to modify (encryption not enabled)"),
        (KeyRequest::Use(Secret::default()), "No keyring to modify (encryption not enabled)"),
    ] {
        assert_eq!(rotate(&mut lab, request), KeyReport { failures: 2, messages: said(why), ..all_did(2) });
        assert!(lab.notes(1).any(|note| note.to_string() == why));
    }
    assert!(!lab.notes(1).any(|note| matches!(note, Note::KeyQuery { .. })), "there was nothing to be done");
    let long = Command::Keys(KeyRequest::Install(secret(&[b'k'; 2000])));
    let refused = lab.command(0, long);
    assert!(matches!(refused, Reply::Failed(CommandError::QueryTooLong { limit: 1024, .. })), "{refused:?}");
    let mut lab = Lab::cluster_with(1, |_, config| config.protocol = 3);
    assert_eq!(lab.command(0, Command::Keys(KeyRequest::List)), Reply::Failed(CommandError::NotSupported));
}

#[test]
fn who_is_silent_is_named() {
    let mut lab = Lab::cluster_with(3, encrypted);
    lab.pause(2);
    let begin = lab.now();
    let id = lab.start(0, Command::Keys(KeyRequest::Install(secret(NEW))));
    lab.run_for(WHOLE + Duration::from_millis(1));
    let expected = KeyReport { nodes: 3, responses: 2, silent: vec![text("node2")], ..KeyReport::default() };
    assert_eq!(report(&lab, id), expected);
    assert!(lab.now().since(begin) >= WHOLE);
    // One that failed is not asked any more.
    lab.run_for(Duration::from_mins(1));
    assert_eq!(rotate(&mut lab, KeyRequest::Install(secret(NEW))), all_did(2));
}

#[test]
fn a_change_waits_for_the_one_before() {
    let mut lab = Lab::cluster_with(3, encrypted);
    lab.pause(2);
    let install = lab.start(0, Command::Keys(KeyRequest::Install(secret(NEW))));
    let primary = lab.start(0, Command::Keys(KeyRequest::Use(secret(NEW))));
    let list = lab.start(0, Command::Keys(KeyRequest::List));
    lab.run_for(Duration::from_secs(1));
    assert_eq!(ring(&lab, 1), [OLD, NEW], "the second change has not begun");
    assert!([install, primary, list].iter().all(|id| lab.reply(0, *id).is_none()));
    lab.resume(2);
    lab.run_for(Duration::from_secs(2));
    assert_eq!(report(&lab, install), all_did(3));
    assert_eq!(report(&lab, primary), all_did(3));
    assert_eq!(report(&lab, list).keys[&key(NEW).to_base64()], 3);
    assert_eq!(ring(&lab, 2), [NEW, OLD]);

    // There is an end to what may wait, and everything that waits gets its turn.
    lab.pause(2);
    let begun: Vec<CommandId> = (0..limits::KEY_OPERATIONS)
        .map(|_| lab.start(0, Command::Keys(KeyRequest::Install(secret(NEW)))))
        .collect();
    for request in [KeyRequest::List, KeyRequest::Install(secret(NEW))] {
        assert_eq!(lab.command(0, Command::Keys(request)), Reply::Failed(CommandError::Busy));
    }
    lab.run_for(Duration::from_mins(2));
    assert!(begun.iter().all(|id| report(&lab, *id).responses == 2));
    assert_eq!(rotate(&mut lab, KeyRequest::List).nodes, 2);
}

/// A crash costs the time of one query; done again, the change is complete, and nobody is left behind.
#[test]
fn a_rotation_is_finished_while_members_start_again() {
    let mut lab = Lab::cluster_with(4, encrypted);
    let start_again = |lab: &mut Lab, index: usize, keys: &[&[u8]]| {
        let mut config = crate::lab::config("node3", 3);
        let others = keys[1..].iter().map(|bytes| key(bytes));
        config.keyring = Some(Keyring::new(key(keys[0]), others).expect("the keys are different"));
        let again = lab.restart(index, config);
        lab.join(again, &[1]);
        again
    };
    let mut node3 = 3;
    for (request, keys) in [
        (KeyRequest::Install(secret(NEW)), &[OLD][..]),
        (KeyRequest::Use(secret(NEW)), &[OLD, NEW]),
        (KeyRequest::Remove(secret(OLD)), &[NEW, OLD]),
    ] {
        lab.kill(node3);
        let id = lab.start(0, Command::Keys(request.clone()));
        lab.run_for(WHOLE + Duration::from_millis(1));
        assert_eq!((report(&lab, id).responses, report(&lab, id).silent.len()), (3, 1), "{request:?}");
        // It is started with the keys from before.
        node3 = start_again(&mut lab, node3, keys);
        lab.run_for(Duration::from_secs(1));
        assert_eq!(rotate(&mut lab, request.clone()), all_did(4), "{request:?}");
    }
    lab.run_for(Duration::from_mins(1));
    for index in [0, 1, 2, node3] {
        assert_eq!(ring(&lab, index), [NEW]);
        assert!(lab.statuses(index).values().all(|status| *status == Status::Alive), "at {index}");
    }
}

#[test]
fn the_application_cannot_end_it() {
    let mut lab = Lab::cluster_with(2, encrypted);
    lab.pause(1);
    let time = lab.node(0).stats().query_time;
    let id = lab.start(0, Command::Keys(KeyRequest::List));
    // Whatever it may guess.
    let params = QueryParams { name: text("x"), ..QueryParams::default() };
    let other = lab.query(0, params);
    assert_eq!(other.ltime, time + 1, "two queries of one node never share a time");
    for ltime in [time, other.ltime] {
        let key = villein_core::member::QueryKey { ltime, ..other };
        assert_eq!(lab.command(0, Command::EndQuery(key)), Reply::Done);
    }
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.reply(0, id), None);
    lab.resume(1);
    lab.run_for(Duration::from_secs(1));
    assert_eq!(report(&lab, id).responses, 2);
}

fn with_files(index: usize, config: &mut Config) {
    encrypted(index, config);
    config.keyring_file = index > 0;
}

#[test]
fn the_answer_waits_until_the_keyring_is_kept() {
    let mut lab = Lab::cluster_with(3, with_files);
    for request in
        [KeyRequest::Install(secret(NEW)), KeyRequest::Use(secret(NEW)), KeyRequest::Remove(secret(OLD))]
    {
        let id = lab.start(0, Command::Keys(request.clone()));
        lab.run_for(Duration::from_millis(1000));
        assert_eq!(lab.reply(0, id), None, "{request:?}");
        for index in 1..3 {
            let changes = unkept(&mut lab, index);
            let [(token, keys)] = &changes[..] else { panic!("{request:?} at node{index}: {changes:?}") };
            // It is in force already, and what is to be written is all of it.
            assert_eq!(keys.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>(), ring(&lab, index));
            let kept = Command::KeyringKept { token: *token, result: Ok(()) };
            assert_eq!(lab.command(index, kept.clone()), Reply::Done);
            // Twice is as good as once.
            assert_eq!(lab.command(index, kept), Reply::Done);
        }
        assert!(unkept(&mut lab, 0).is_empty(), "node0 has no file");
        lab.run_for(Duration::from_millis(10));
        assert_eq!(report(&lab, id), all_did(3), "{request:?}");
    }
    // What fails, and what only looks, changes nothing that could be kept.
    assert_eq!(rotate(&mut lab, KeyRequest::Remove(secret(NEW))).failures, 3);
    assert_eq!(rotate(&mut lab, KeyRequest::List), {
        let one = || BTreeMap::from([(key(NEW).to_base64(), 3)]);
        KeyReport { keys: one(), primary_keys: one(), ..all_did(3) }
    });
    assert!(unkept(&mut lab, 1).is_empty());
}

#[test]
fn a_keyring_that_cannot_be_kept_is_reported_with_what_holds() {
    let mut lab = Lab::cluster_with(2, with_files);
    let id = lab.start(0, Command::Keys(KeyRequest::Install(secret(NEW))));
    lab.run_for(Duration::from_secs(1));
    let (token, _) = unkept(&mut lab, 1)[0];
    let why = "Failed to write keyring file: open ring-b.json: is a directory";
    lab.command(1, Command::KeyringKept { token, result: Err(why.to_owned()) });
    lab.run_for(Duration::from_millis(10));
    let said = text(&format!("{why} (changed in memory, undone by a restart)"));
    let expected = KeyReport { failures: 1, messages: [(text("node1"), said)].into(), ..all_did(2) };
    assert_eq!(report(&lab, id), expected);
    assert_eq!(ring(&lab, 1), [OLD, NEW]);
    let logged = format!("Failed to write keyring file: {why}");
    assert!(lab.notes(1).any(|note| note.to_string() == logged));

    // However long the reason is, the answer arrives.
    let id = lab.start(0, Command::Keys(KeyRequest::Use(secret(NEW))));
    lab.run_for(Duration::from_secs(1));
    let (token, _) = unkept(&mut lab, 1)[0];
    let why = format!("Failed to write keyring file: open {}/ring-b.json: no such file", "/d".repeat(2000));
    lab.command(1, Command::KeyringKept { token, result: Err(why) });
    lab.run_for(Duration::from_millis(10));
    let said = report(&lab, id).messages[&text("node1")].to_string();
    assert!(said.starts_with("Failed to write keyring file: open /d/d"), "{said}");
    assert!(said.ends_with("ring-b.json: no such file (changed in memory, undone by a restart)"), "{said}");
}

#[test]
fn an_answer_that_is_held_too_long_is_not_given() {
    let mut lab = Lab::cluster_with(2, with_files);
    let id = lab.start(0, Command::Keys(KeyRequest::Install(secret(NEW))));
    lab.run_for(Duration::from_secs(5));
    assert_eq!(report(&lab, id).silent, [text("node1")]);
    let (token, _) = unkept(&mut lab, 1)[0];
    assert_eq!(lab.command(1, Command::KeyringKept { token, result: Ok(()) }), Reply::Done);
    lab.run_for(Duration::from_secs(1));
    assert!(!lab.notes(0).any(|note| matches!(note, Note::ResponseUnexpected { .. })));
    let late = Note::RespondFailed { name: text("install-key"), why: CommandError::PastDeadline };
    assert!(lab.notes(1).any(|note| *note == late));
}

/// House rule: no note, reply or event shows a key, however it is printed.
#[test]
fn nothing_that_is_said_holds_a_key() {
    let mut lab = Lab::cluster_with(2, with_files);
    for request in [
        KeyRequest::List,
        KeyRequest::Install(secret(NEW)),
        KeyRequest::Install(secret(&NEW[..20])),
        KeyRequest::Use(secret(NEW)),
        KeyRequest::Use(secret(SHORT)),
        KeyRequest::Remove(secret(NEW)),
        KeyRequest::Remove(secret(OLD)),
        KeyRequest::List,
    ] {
        let mut said = vec![format!("{request:?}")];
        let id = lab.start(0, Command::Keys(request));
        lab.run_for(Duration::from_secs(1));
        let changes = unkept(&mut lab, 1);
        said.push(format!("{changes:?}"));
        for (token, _) in changes {
            lab.command(1, Command::KeyringKept { token, result: Err("open ring.json: full".to_owned()) });
        }
        lab.run_for(Duration::from_secs(5));
        said.push(format!("{:?}", lab.reply(0, id)));
        for index in 0..2 {
            said.extend(lab.notes(index).map(|note| format!("{note} {note:?}")));
            said.extend(lab.take_events(index).iter().map(|event| format!("{event:?}")));
        }
        let decimal = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
        for secret in [OLD, &NEW[..20], SHORT] {
            let plain = String::from_utf8_lossy(secret).into_owned();
            // The last symbols of base64 depend on what follows.
            let base64 = key(&[secret, &[0; 32]].concat()[..32]).to_base64()[..20].to_owned();
            for shown in [plain, base64, decimal(&secret[..8])] {
                assert!(said.iter().all(|text| !text.contains(&shown)), "{shown} in {said:#?}");
            }
        }
    }
    assert!(lab.notes(1).count() > 8);
}
