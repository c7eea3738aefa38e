//! Key operations of the operator: each member is asked, and what they say is added up (gossip.md 13.11).
//!
//! A change waits for the one before it, so that no two members take two changes in different orders; lists run
//! at any time. What a member does with its own keys is said in [`keys`](super::keys). The invariant: each member
//! that was asked is counted once, with its answer or as silent.

use super::asking::Client;
use super::{Due, Serf};
use crate::command::{CommandError, CommandId, KeyReport, KeyRequest, QueryParams, Reply};
use crate::cx::Cx;
use crate::limits;
use crate::swim::Swim;
use crate::text::Text;
use crate::wire::serf::{decode_key_response, encode_key_request};
use std::collections::{BTreeSet, VecDeque};

/// What stands for the reason of a member that gives none.
const NO_REASON: &str = "failed without a reason";

/// The key operations that run, and those that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Rotation {
    running: usize,
    is_changing: bool,
    waiting: VecDeque<(CommandId, KeyRequest)>,
}

/// The answers to one key operation.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    command: CommandId,
    is_change: bool,
    report: KeyReport,
}

impl Tally {
    pub(super) fn new(command: CommandId, is_change: bool) -> Tally {
        Tally { command, is_change, report: KeyReport::default() }
    }

    /// Adds the answer of a member that was asked.
    pub(super) fn count(&mut self, from: Text, payload: &[u8]) {
        let report = &mut self.report;
        report.responses += 1;
        let answer = match decode_key_response(payload) {
            Ok(answer) => answer,
            Err(error) => {
                report.failures += 1;
                report.messages.insert(from, format!("unreadable answer: {error}").into());
                return;
            }
        };
        if !answer.result {
            report.failures += 1;
            let why = if answer.message.is_empty() { NO_REASON.as_bytes() } else { answer.message };
            report.messages.insert(from, why.into());
            return;
        }
        let mut message = Text::from(answer.message);
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        // Old members may fill a list up with nothing, and nobody has a key twice.
        let keys = answer.keys.unwrap_or_default();
        let keys: BTreeSet<String> = keys.into_iter().filter(|key| !key.is_empty()).map(text).collect();
        for key in keys {
            if report.keys.len() < limits::REPORTED_KEYS || report.keys.contains_key(&key) {
                *report.keys.entry(key).or_default() += 1;
            } else {
                message = "more keys than are counted".into();
            }
        }
        // Each member has one, so that there are no more of them than members.
        if !answer.primary_key.is_empty() {
            *report.primary_keys.entry(text(answer.primary_key)).or_default() += 1;
        }
        if !message.is_empty() {
            report.messages.insert(from, message);
        }
    }

    /// What came of it; those who were asked and did not answer are `silent`.
    fn report(mut self, silent: BTreeSet<Text>) -> KeyReport {
        self.report.nodes = self.report.responses + silent.len();
        self.report.silent = silent.into_iter().collect();
        self.report
    }
}

impl Serf {
    /// Asks every live member about its keys, or to change them: now, or when the changes before are through.
    pub(super) fn rotate(
        &mut self,
        command: CommandId,
        request: KeyRequest,
        swim: &mut Swim,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        if self.rotation.running + self.rotation.waiting.len() >= limits::KEY_OPERATIONS {
            return Err(CommandError::Busy);
        }
        if self.rotation.is_changing && request != KeyRequest::List {
            self.rotation.waiting.push_back((command, request));
            return Ok(());
        }
        let (name, key) = match &request {
            KeyRequest::List => ("_serf_list-keys", &[][..]),
            KeyRequest::Install(key) => ("_serf_install-key", key.reveal()),
            KeyRequest::Use(key) => ("_serf_use-key", key.reveal()),
            KeyRequest::Remove(key) => ("_serf_remove-key", key.reveal()),
        };
        self.check_listable(&request, cx)?;
        // Never empty, not even for a list: that would bring members of the reference down (gossip.md 20.1).
        let mut payload = Vec::new();
        encode_key_request(key, &mut payload);
        let params =
            QueryParams { name: name.into(), payload: Some(payload.into()), ..QueryParams::default() };
        let is_change = request != KeyRequest::List;
        self.ask(Client::Keys(Tally::new(command, is_change)), &params, swim, cx)?;
        self.rotation.running += 1;
        self.rotation.is_changing |= is_change;
        Ok(())
    }

    /// Refuses to ask for a list of keys of which members could die, and to make it as long: one look at the keys
    /// would end all members of an old release. Others are taken to have the keys that this node has.
    fn check_listable(&self, request: &KeyRequest, cx: &Cx<'_>) -> Result<(), CommandError> {
        let Some(keyring) = cx.codec.keyring() else { return Ok(()) };
        match request {
            KeyRequest::List => self.list_room().check_list(keyring.keys()),
            KeyRequest::Install(key) => self.list_room().check_install(keyring, key.reveal()),
            KeyRequest::Use(_) | KeyRequest::Remove(_) => Ok(()),
        }
    }

    /// All have answered, or their time is over.
    pub(super) fn on_rotated(&mut self, tally: Tally, silent: BTreeSet<Text>, cx: &mut Cx<'_>) {
        self.rotation.running -= 1;
        if tally.is_change {
            self.rotation.is_changing = false;
            if !self.rotation.waiting.is_empty() {
                self.timers.set(Due::Rotation, cx.now);
            }
        }
        cx.out.reply(tally.command, Reply::Keys(Box::new(tally.report(silent))));
    }

    /// Goes on with the change that has waited longest.
    pub(super) fn rotate_on(&mut self, swim: &mut Swim, cx: &mut Cx<'_>) {
        while !self.rotation.is_changing
            && let Some((command, request)) = self.rotation.waiting.pop_front()
        {
            if let Err(error) = self.rotate(command, request, swim, cx) {
                cx.out.reply(command, Reply::Failed(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::KeyResponse;
    use crate::wire::serf::encode_key_response;
    use std::collections::BTreeMap;

    fn answer(response: &KeyResponse<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_key_response(response, &mut bytes);
        bytes
    }

    fn listed<'a>(keys: &[&'a [u8]], primary_key: &'a [u8]) -> KeyResponse<'a> {
        KeyResponse { result: true, keys: Some(keys.to_vec()), primary_key, ..KeyResponse::default() }
    }

    fn tally(answers: &[(&str, Vec<u8>)], silent: &[&str]) -> KeyReport {
        let mut tally = Tally::new(CommandId(1), true);
        for (from, payload) in answers {
            tally.count((*from).into(), payload);
        }
        tally.report(silent.iter().map(|&name| name.into()).collect())
    }

    #[test]
    fn lists_are_added_up() {
        let cut = KeyResponse { message: b"truncated", ..listed(&[b"new"], b"new") };
        let report = tally(
            &[
                ("a", answer(&listed(&[b"old", b"new"], b"old"))),
                ("b", answer(&listed(&[b"new", b"old", b"new", b""], b"new"))),
                ("c", answer(&cut)),
            ],
            &[],
        );
        assert_eq!((report.nodes, report.responses, report.failures), (3, 3, 0));
        assert_eq!(report.keys, BTreeMap::from([("new".to_owned(), 3), ("old".to_owned(), 2)]));
        assert_eq!(report.primary_keys, BTreeMap::from([("new".to_owned(), 2), ("old".to_owned(), 1)]));
        assert_eq!(report.messages, BTreeMap::from([("c".into(), "truncated".into())]));
    }

    #[test]
    fn failures_and_silence_are_counted_apart() {
        let refused = KeyResponse { message: b"no room", ..KeyResponse::default() };
        let report = tally(
            &[
                ("a", answer(&KeyResponse { result: true, ..KeyResponse::default() })),
                ("b", answer(&refused)),
                ("c", answer(&KeyResponse::default())),
                ("d", b"\x05\x80".to_vec()),
                ("e", Vec::new()),
            ],
            &["x", "y"],
        );
        assert_eq!((report.nodes, report.responses, report.failures), (7, 5, 4));
        assert_eq!(report.silent, ["x".into(), "y".into()]);
        let said: Vec<String> =
            report.messages.iter().map(|(name, message)| format!("{name}: {message}")).collect();
        assert_eq!(said[..2], ["b: no room", "c: failed without a reason"]);
        assert!(
            said[2].starts_with("d: unreadable answer: ") && said[3].starts_with("e: unreadable answer: ")
        );
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn a_report_is_bounded() {
        let texts: Vec<String> = (0..=limits::REPORTED_KEYS).map(|number| format!("{number:04}")).collect();
        let keys: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let report =
            tally(&[("a", answer(&listed(&keys, b""))), ("b", answer(&listed(&keys[..1], b"")))], &[]);
        assert_eq!(report.keys.len(), limits::REPORTED_KEYS);
        assert_eq!(report.keys["0000"], 2);
        assert_eq!(report.messages, BTreeMap::from([("a".into(), "more keys than are counted".into())]));
    }
}
