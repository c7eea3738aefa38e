//! Key queries: what a member does with its keyring when the cluster is told to (gossip.md 13.11).
//!
//! The answer always goes out, also when there are no keys or the request is no request. No key bytes
//! reach a note; only the list query hands keys out, to those who hold one already.

use crate::crypto::{Key, Keyring};
use crate::note::Note;
use crate::wire::message::KeyResponse;
use crate::wire::serf::{decode_key_request, encode_key_response};

const NO_KEYRING: &str = "No keyring to modify (encryption not enabled)";
const EMPTY_KEYRING: &str = "Keyring is empty (encryption not enabled)";

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
}

/// Changes the keyring; the encoded answer, and what went wrong.
pub(super) fn change(
    operation: KeyOperation,
    request: &[u8],
    keyring: Option<&mut Keyring>,
) -> (Vec<u8>, Option<Note>) {
    let outcome = match (decode_key_request(request), keyring) {
        // The asker learns only that it failed, as with the reference.
        (Err(error), _) => Err((String::new(), format!("Failed to decode key request: {error}"))),
        (Ok(_), None) => Err((NO_KEYRING.to_owned(), NO_KEYRING.to_owned())),
        (Ok(key), Some(keyring)) => {
            let result = match operation {
                KeyOperation::Install => keyring.install(key),
                KeyOperation::Use => keyring.make_primary(key),
                KeyOperation::Remove => keyring.remove(key),
            };
            result.map_err(|error| (error.to_string(), format!("Failed to {}: {error}", operation.name())))
        }
    };
    let (message, note) = match &outcome {
        Ok(()) => ("", None),
        Err((message, why)) => (message.as_str(), Some(Note::KeyQueryFailed { why: why.clone() })),
    };
    let answer =
        KeyResponse { result: outcome.is_ok(), message: message.as_bytes(), ..KeyResponse::default() };
    (encoded(&answer), note)
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
    // An encoded key takes at least 25 bytes, so that many at most are worth trying.
    let most = (limit / 25).min(total);
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
    use crate::wire::message::{Response, SerfMessage};
    use crate::wire::serf::{decode_key_response, encode_key_request, encode_serf};

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

    fn ask(operation: KeyOperation, bytes: &[u8], keyring: Option<&mut Keyring>) -> (bool, String) {
        let (answer, note) = change(operation, bytes, keyring);
        let answer = decode_key_response(&answer).unwrap();
        assert_eq!(answer.result, note.is_none());
        assert_eq!((answer.keys, answer.primary_key), (None, &b""[..]));
        (answer.result, String::from_utf8(answer.message.to_vec()).unwrap())
    }

    #[test]
    fn keys_are_installed_used_and_removed() {
        let mut keyring = ring(1);
        let done = (true, String::new());
        assert_eq!(ask(KeyOperation::Install, &request(&[9; 32]), Some(&mut keyring)), done);
        assert_eq!(keyring.keys().len(), 2);
        assert_eq!(keyring.primary(), &key(0));
        assert_eq!(ask(KeyOperation::Use, &request(&[9; 32]), Some(&mut keyring)), done);
        assert_eq!(keyring.primary(), &key(9));
        assert_eq!(ask(KeyOperation::Remove, &request(&[0; 32]), Some(&mut keyring)), done);
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
            let (result, message) = ask(operation, &bytes, Some(&mut keyring));
            assert!(!result && !message.is_empty(), "{operation:?}: {message:?}");
        }
        assert_eq!(keyring.keys(), before);
        for operation in [KeyOperation::Install, KeyOperation::Use, KeyOperation::Remove] {
            // An empty payload brings the reference down.
            for bytes in [&b""[..], b"\x07\xff"] {
                assert_eq!(ask(operation, bytes, Some(&mut keyring)), (false, String::new()));
            }
            assert_eq!(ask(operation, &request(&[1; 32]), None), (false, NO_KEYRING.to_owned()));
        }
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
