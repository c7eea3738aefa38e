//! Key queries: what a member does with its keyring when the cluster is told to (gossip.md 13.11).
//!
//! The answer always goes out, also when there are no keys or the request is no request; if the keys are kept in a
//! file, it goes out when that has been written or could not be. No key bytes reach a note; only the list query
//! hands keys out, to those who hold one already. A ring grows only as far as every member can list it: agents of
//! the reference die of a list query when their list does not fit into an answer (gossip.md 20.1).

use super::Serf;
use super::answering::Asker;
use crate::command::CommandError;
use crate::crypto::{Key, Keyring};
use crate::cx::Cx;
use crate::limits;
use crate::member::Event;
use crate::note::Note;
use crate::time::Instant;
use crate::wire::message::{KeyResponse, Response, SerfMessage};
use crate::wire::serf::{decode_key_request, encode_key_response, encode_serf};
use std::borrow::Cow;
use std::collections::BTreeMap;

const NO_KEYRING: &str = "No keyring to modify (encryption not enabled)";
const EMPTY_KEYRING: &str = "Keyring is empty (encryption not enabled)";
/// Follows the reason why a keyring was not written: the reference does not say this.
const UNKEPT: &str = " (changed in memory, undone by a restart)";
const TOO_MANY_UNKEPT: &str = "Failed to write keyring file: too many changes wait to be written";
/// As many keys are needed to replace one by another, whatever fits into an answer.
const KEYS_LEAST: usize = 2;
/// Bytes that a key takes in a list at least: what the reference divides the room by, to begin with so many keys when
/// it shortens a list (gossip.md 13.11).
const LISTED_KEY: usize = 25;

/// What is to be done with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyOperation {
    Install,
    Use,
    Remove,
}

impl KeyOperation {
    /// The name of its query, without the prefix.
    pub(super) const fn name(self) -> &'static str {
        match self {
            KeyOperation::Install => "install-key",
            KeyOperation::Use => "use-key",
            KeyOperation::Remove => "remove-key",
        }
    }

    /// What is not done when it fails, in the words of the log (agent.md 14).
    const fn purpose(self) -> &'static str {
        match self {
            KeyOperation::Install => "install key",
            KeyOperation::Use => "change primary key",
            KeyOperation::Remove => "remove key",
        }
    }
}

/// Why a member answers that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    /// For the asker.
    message: String,
    /// For the log.
    why: String,
}

/// Answers that wait until a changed keyring is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Unkept {
    held: BTreeMap<u64, (Asker, KeyOperation, Instant)>,
    count: u64,
}

impl Unkept {
    /// A new token, and whether the answer is held until it comes back.
    fn hold(
        &mut self,
        asker: &Asker,
        operation: KeyOperation,
        deadline: Instant,
        now: Instant,
    ) -> (u64, bool) {
        self.held.retain(|_, (.., deadline)| now <= *deadline);
        self.count += 1;
        let has_room = self.held.len() < limits::HELD_KEY_ANSWERS;
        if has_room {
            self.held.insert(self.count, (asker.clone(), operation, deadline));
        }
        (self.count, has_room)
    }
}

/// What a list of all keys must fit into, whichever member gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListRoom {
    /// Bytes of an answer.
    limit: usize,
    /// Bytes of the longest name of a member.
    name: usize,
}

impl ListRoom {
    /// Whether all members can list these keys. Agents of the reference begin to shorten a list at a fixed number of
    /// keys, and die if they have fewer and even those do not fit.
    pub(super) fn check_list(self, keys: &[Key]) -> Result<(), CommandError> {
        if keys.len() >= self.limit / LISTED_KEY || self.holds(keys) {
            return Ok(());
        }
        Err(CommandError::TooManyKeys(keys.len()))
    }

    /// Whether all members could list the keys with one more. One that is there already adds nothing, and for what
    /// is no key there are better words.
    pub(super) fn check_install(self, keyring: &Keyring, more: &[u8]) -> Result<(), CommandError> {
        match Key::from_bytes(more) {
            Ok(more) if keyring.keys().len() >= KEYS_LEAST && !keyring.keys().contains(&more) => {
                self.check_list(&[keyring.keys(), &[more]].concat())
            }
            _ => Ok(()),
        }
    }

    /// Whether these keys fit, with any of them as the primary one, and late in the life of the cluster.
    fn holds(self, keys: &[Key]) -> bool {
        let texts: Vec<String> = keys.iter().map(Key::to_base64).collect();
        let primary_key =
            texts.iter().map(String::as_bytes).max_by_key(|text| text.len()).unwrap_or_default();
        let listed = KeyResponse {
            result: true,
            keys: Some(texts.iter().map(String::as_bytes).collect()),
            primary_key,
            ..KeyResponse::default()
        };
        let (payload, from) = (encoded(&listed), vec![b'n'; self.name]);
        let (ltime, id) = (u64::MAX, u32::MAX);
        let response = Response { ltime, id, from: &from, flags: 0, payload: Some(&payload) };
        let mut answer = Vec::new();
        encode_serf(&SerfMessage::Response(response), &mut answer);
        answer.len() <= self.limit
    }
}

impl Serf {
    /// What a list of the keys must fit into. Other members may have a shorter limit than this one, but no longer
    /// one by default.
    pub(super) fn list_room(&self) -> ListRoom {
        let names = self.members.entries().map(|entry| entry.member.name.len());
        ListRoom {
            limit: self.settings.query_response_size_limit.min(limits::KEY_LIST),
            name: names.fold(self.home.name.len(), usize::max),
        }
    }

    /// Changes the keyring as an asker wants it, and answers: at once, or when the change is kept.
    pub(super) fn change_keys(
        &mut self,
        asker: &Asker,
        operation: KeyOperation,
        request: &[u8],
        deadline: Instant,
        cx: &mut Cx<'_>,
    ) {
        if cx.codec.keyring().is_some() {
            cx.note(Note::KeyQuery { name: operation.name() });
        }
        let mut outcome = change(operation, request, self.list_room(), cx.codec.keyring_mut());
        if outcome.is_ok() && self.settings.keyring_file {
            let (token, is_held) = self.unkept.hold(asker, operation, deadline, cx.now);
            let keys = cx.codec.keyring().map_or_else(Vec::new, |keyring| keyring.keys().to_vec());
            self.delivery.deliver(Event::KeyringChanged { token, keys }, cx.now, cx.out);
            if is_held {
                return;
            }
            let message = format!("{TOO_MANY_UNKEPT}{UNKEPT}");
            outcome = Err(Failure { why: message.clone(), message });
        }
        let outcome = outcome.map_err(|Failure { message, why }| {
            cx.note(Note::KeyQueryFailed { why });
            message
        });
        self.confirm(asker, operation, &outcome, cx);
    }

    /// A changed keyring was kept, or why it was not. The change holds in both cases.
    pub(super) fn on_keyring_kept(&mut self, token: u64, result: Result<(), String>, cx: &mut Cx<'_>) {
        if let Err(why) = &result {
            cx.note(Note::KeyQueryFailed { why: format!("Failed to write keyring file: {why}") });
        }
        let Some((asker, operation, deadline)) = self.unkept.held.remove(&token) else { return };
        if cx.now > deadline {
            let name = operation.name().into();
            return cx.note(Note::RespondFailed { name, why: CommandError::PastDeadline });
        }
        let outcome = result.map_err(|why| format!("{}{UNKEPT}", shortened(&why, limits::KEYRING_REASON)));
        self.confirm(&asker, operation, &outcome, cx);
    }

    fn confirm(
        &mut self,
        asker: &Asker,
        operation: KeyOperation,
        outcome: &Result<(), String>,
        cx: &mut Cx<'_>,
    ) {
        let message = outcome.as_ref().err().map(String::as_bytes).unwrap_or_default();
        let answer = encoded(&KeyResponse { result: outcome.is_ok(), message, ..KeyResponse::default() });
        if let Err(why) = self.answer(asker, &answer, cx) {
            cx.note(Note::RespondFailed { name: operation.name().into(), why });
        }
    }
}

/// Changes the keyring.
fn change(
    operation: KeyOperation,
    request: &[u8],
    room: ListRoom,
    keyring: Option<&mut Keyring>,
) -> Result<(), Failure> {
    // The asker learns only that it failed, as with the reference.
    let key = decode_key_request(request).map_err(|error| Failure {
        message: String::new(),
        why: format!("Failed to decode key request: {error}"),
    })?;
    let keyring =
        keyring.ok_or_else(|| Failure { message: NO_KEYRING.to_owned(), why: NO_KEYRING.to_owned() })?;
    let result = match operation {
        KeyOperation::Install => room
            .check_install(keyring, key)
            .map_err(|error| error.to_string())
            .and_then(|()| keyring.install(key).map_err(|error| error.to_string())),
        KeyOperation::Use => keyring.make_primary(key).map_err(|error| error.to_string()),
        KeyOperation::Remove => keyring.remove(key).map_err(|error| error.to_string()),
    };
    result
        .map_err(|message| Failure { why: format!("Failed to {}: {message}", operation.purpose()), message })
}

/// At most `most` bytes and an ellipsis: the beginning says what failed, the end says why.
fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let head = &text[..text.floor_char_boundary(most / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - most / 2)..];
    Cow::Owned(format!("{head}...{tail}"))
}

/// All keys, or as many as leave the answer `fits`; `None` if not even none do. `limit` is the size in
/// bytes that `fits` enforces: it decides where the shortening begins.
pub(super) fn list(
    keyring: Option<&Keyring>,
    limit: usize,
    mut fits: impl FnMut(&[u8]) -> bool,
) -> (Option<Vec<u8>>, Option<Note>) {
    let Some(keyring) = keyring else {
        let answer = KeyResponse { message: EMPTY_KEYRING.as_bytes(), ..KeyResponse::default() };
        return (Some(encoded(&answer)), Some(Note::KeyQueryFailed { why: EMPTY_KEYRING.to_owned() }));
    };
    let texts: Vec<String> = keyring.keys().iter().map(Key::to_base64).collect();
    let primary = keyring.primary().to_base64();
    let answer = |count: usize, message: &str| {
        encoded(&KeyResponse {
            result: true,
            message: message.as_bytes(),
            keys: Some(texts[..count].iter().map(String::as_bytes).collect()),
            primary_key: primary.as_bytes(),
        })
    };
    let total = texts.len();
    let whole = answer(total, "");
    if fits(&whole) {
        return (Some(whole), None);
    }
    let most = (limit / LISTED_KEY).min(total);
    let shorter =
        |count| answer(count, &format!("truncated key list response, showing first {count} of {total} keys"));
    (((0..=most).rev().map(shorter)).find(|bytes| fits(bytes)), None)
}

fn encoded(response: &KeyResponse<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key_response(response, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::serf::{decode_key_response, encode_key_request};

    fn key(number: u8) -> Key {
        Key::from_bytes(&[number; 32]).unwrap()
    }

    fn ring(count: u8) -> Keyring {
        Keyring::new(key(0), (1..count).map(key)).unwrap()
    }

    fn request(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key_request(bytes, &mut out);
        out
    }

    const ROOM: ListRoom = ListRoom { limit: 1024, name: 1 };

    /// What an asker is told.
    fn ask(operation: KeyOperation, bytes: &[u8], keyring: Option<&mut Keyring>) -> Result<(), String> {
        change(operation, bytes, ROOM, keyring).map_err(|failure| failure.message)
    }

    #[test]
    fn keys_are_installed_used_and_removed() {
        let mut keyring = ring(1);
        assert_eq!(ask(KeyOperation::Install, &request(&[9; 32]), Some(&mut keyring)), Ok(()));
        assert_eq!(keyring.keys().len(), 2);
        assert_eq!(keyring.primary(), &key(0));
        assert_eq!(ask(KeyOperation::Use, &request(&[9; 32]), Some(&mut keyring)), Ok(()));
        assert_eq!(keyring.primary(), &key(9));
        assert_eq!(ask(KeyOperation::Remove, &request(&[0; 32]), Some(&mut keyring)), Ok(()));
        assert_eq!(keyring.keys(), [key(9)]);
    }

    #[test]
    fn failures_are_answered_too() {
        let mut keyring = ring(2);
        let before = keyring.keys().to_vec();
        let rows = [
            (KeyOperation::Install, request(&[1; 5])),
            (KeyOperation::Use, request(&[7; 32])),
            (KeyOperation::Remove, request(&[0; 32])),
        ];
        for (operation, bytes) in rows {
            let message = ask(operation, &bytes, Some(&mut keyring)).unwrap_err();
            assert!(!message.is_empty(), "{operation:?}");
        }
        assert_eq!(keyring.keys(), before);
        for operation in [KeyOperation::Install, KeyOperation::Use, KeyOperation::Remove] {
            // An empty payload brings the reference down.
            for bytes in [&b""[..], b"\x07\xff"] {
                assert_eq!(ask(operation, bytes, Some(&mut keyring)), Err(String::new()));
            }
            assert_eq!(ask(operation, &request(&[1; 32]), None), Err(NO_KEYRING.to_owned()));
        }
    }

    /// Scripts look for these lines (agent.md 14).
    #[test]
    fn the_log_names_what_failed() {
        let mut keyring = ring(2);
        let rows = [
            (KeyOperation::Install, [7; 5].to_vec(), "install key: key size must be 16, 24 or 32 bytes"),
            (KeyOperation::Use, [7; 32].to_vec(), "change primary key: Requested key is not in the keyring"),
            (KeyOperation::Remove, [0; 32].to_vec(), "remove key: Removing the primary key is not allowed"),
        ];
        for (operation, key, expected) in rows {
            let failure = change(operation, &request(&key), ROOM, Some(&mut keyring)).unwrap_err();
            assert_eq!(failure.why, format!("Failed to {expected}"));
        }
    }

    #[test]
    fn a_ring_grows_as_far_as_it_can_be_listed() {
        let mut keyring = ring(1);
        let mut install = |bytes: &[u8]| ask(KeyOperation::Install, &request(bytes), Some(&mut keyring));
        assert_eq!((1..=u8::MAX).find(|more| install(&[*more; 32]).is_err()), Some(18));
        assert_eq!(install(&[18; 32]), Err(CommandError::TooManyKeys(19).to_string()));
        // What is there already needs no room, and for what is no key there are better words.
        assert_eq!(install(&[17; 32]), Ok(()));
        assert_eq!(install(&[18; 31]), Err("key size must be 16, 24 or 32 bytes".to_owned()));
        assert_eq!(ask(KeyOperation::Remove, &request(&[17; 32]), Some(&mut keyring)), Ok(()));
        assert_eq!(ask(KeyOperation::Install, &request(&[18; 32]), Some(&mut keyring)), Ok(()));
    }

    #[test]
    fn every_member_can_list_the_ring_with_any_primary_key() {
        let most = |limit, name, sizes: [usize; 2], more: usize| {
            let key = |number: u8, size| Key::from_bytes(&vec![number; size]).unwrap();
            let mut keyring = Keyring::new(key(0, sizes[0]), [key(1, sizes[1])]).unwrap();
            let room = ListRoom { limit, name };
            let full = (2..=u8::MAX).find(|number| {
                let key = vec![*number; more];
                room.check_install(&keyring, &key).is_err() || keyring.install(&key).is_err()
            });
            full.map(usize::from)
        };
        assert_eq!(most(1024, 1, [32, 32], 32), Some(18));
        assert_eq!(most(1024, 200, [32, 32], 32), Some(14));
        assert_eq!(most(1024, 1, [16, 16], 16), Some(36));
        assert_eq!(most(1024, 1, [16, 32], 16), most(1024, 1, [32, 16], 16));
        // Without a second key none could be replaced.
        assert_eq!(most(100, 1, [32, 32], 32), Some(2));
        let narrow = ListRoom { limit: 100, name: 1 };
        assert_eq!(narrow.check_install(&ring(1), &[9; 32]), Ok(()));
    }

    /// The reference dies of 19 to 39 keys, and shows some of those of a longer ring.
    #[test]
    fn lists_that_end_members_are_told_apart() {
        let refused: Vec<u8> =
            (1..50).filter(|count| ROOM.check_list(ring(*count).keys()).is_err()).collect();
        assert_eq!((refused[0], refused.len(), refused.last()), (19, 21, Some(&39)));
    }

    #[test]
    fn answers_are_held_until_their_time_is_over() {
        let at = Instant::from_nanos;
        let asker = Asker {
            key: crate::member::QueryKey { ltime: 1, id: 1 },
            addr: crate::member::WireAddr::from_ip([127, 0, 0, 1].into()),
            port: 7946,
            node: "a".into(),
            relay_factor: 0,
        };
        let mut unkept = Unkept::default();
        for token in 1..=limits::HELD_KEY_ANSWERS as u64 {
            assert_eq!(unkept.hold(&asker, KeyOperation::Use, at(10), at(1)), (token, true));
        }
        let (last, is_held) = unkept.hold(&asker, KeyOperation::Use, at(10), at(10));
        assert_eq!((last, is_held), (limits::HELD_KEY_ANSWERS as u64 + 1, false));
        assert_eq!(unkept.hold(&asker, KeyOperation::Use, at(20), at(11)), (last + 1, true));
        assert_eq!(unkept.held.len(), 1);
    }

    #[test]
    fn a_long_reason_keeps_both_its_ends() {
        assert_eq!(shortened("open ring.json: is a directory", 256), "open ring.json: is a directory");
        assert_eq!(shortened("open /aaaaaaaaaaaaa: full", 10), "open ... full");
        assert_eq!(shortened("ééééé", 7), "é...é");
    }

    #[test]
    fn the_list_is_cut_to_the_limit() {
        let show = |count, limit| {
            let (answer, note) = list(Some(&ring(count)), limit, |bytes| bytes.len() <= limit);
            assert_eq!(note, None);
            answer.map(|bytes| {
                let answer = decode_key_response(&bytes).unwrap();
                assert!(answer.result);
                assert_eq!(answer.primary_key, key(0).to_base64().as_bytes());
                let keys = answer.keys.unwrap();
                assert!(keys.first().is_none_or(|first| *first == key(0).to_base64().as_bytes()));
                (keys.len(), String::from_utf8(answer.message.to_vec()).unwrap())
            })
        };
        assert_eq!(show(3, 1024), Some((3, String::new())));
        let (shown, message) = show(30, 1024).unwrap();
        assert!((10..30).contains(&shown));
        assert_eq!(message, format!("truncated key list response, showing first {shown} of 30 keys"));
        let none = "truncated key list response, showing first 0 of 3 keys".to_owned();
        assert_eq!(show(3, 170), Some((0, none)));
        assert_eq!(show(3, 20), None);
    }

    /// What the reference makes of 30 keys on a node named "a" (gossip.md 13.11).
    #[test]
    fn the_list_is_as_long_as_the_reference_one() {
        let fits = |answer: &[u8]| {
            let response = Response { ltime: 5, id: 1 << 30, from: b"a", flags: 0, payload: Some(answer) };
            let mut bytes = Vec::new();
            encode_serf(&SerfMessage::Response(response), &mut bytes);
            bytes.len() <= 1024
        };
        let (answer, _) = list(Some(&ring(30)), 1024, fits);
        assert_eq!(decode_key_response(&answer.unwrap()).unwrap().keys.unwrap().len(), 17);
    }

    #[test]
    fn without_keys_there_is_no_list() {
        let (answer, note) = list(None, 1024, |_| true);
        let answer = answer.unwrap();
        let answer = decode_key_response(&answer).unwrap();
        assert_eq!((answer.result, answer.message), (false, EMPTY_KEYRING.as_bytes()));
        assert_eq!((answer.keys, answer.primary_key), (None, &b""[..]));
        assert_eq!(note, Some(Note::KeyQueryFailed { why: EMPTY_KEYRING.to_owned() }));
    }
}
