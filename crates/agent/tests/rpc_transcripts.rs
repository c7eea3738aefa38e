//! Recorded conversations: the same requests get the same bytes, and the same ones end the connection.

mod lab;

use lab::{Lab, config};
use villein_agent::io::{Conn, ConnEvent, Input};
use villein_core::time::Duration;

macro_rules! transcripts {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("golden/rpc/", $name, ".txt")).as_slice())),*]
    };
}

const TRANSCRIPTS: [(&str, &[u8]); 45] = transcripts![
    "auth-not-configured",
    "event",
    "event-error",
    "force-leave",
    "get-coordinate-unknown",
    "join-error",
    "leave",
    "query-error",
    "raw-auth-before-handshake",
    "raw-auth-twice",
    "raw-body-array-type",
    "raw-body-missing",
    "raw-body-wrong-type",
    "raw-event-invalid-utf8",
    "raw-event-minimal",
    "raw-event-str-payload",
    "raw-force-leave-empty",
    "raw-garbage-c1",
    "raw-garbage-http",
    "raw-get-coordinate",
    "raw-handshake-no-version",
    "raw-handshake-twice",
    "raw-handshake-version",
    "raw-handshake-version-string",
    "raw-header-array",
    "raw-header-extra",
    "raw-header-int",
    "raw-header-lowercase",
    "raw-header-nil",
    "raw-header-seq-float",
    "raw-header-seq-types",
    "raw-header-string",
    "raw-join-empty",
    "raw-members-filtered-empty",
    "raw-members-filtered-none",
    "raw-no-handshake",
    "raw-no-handshake-auth",
    "raw-pipelined",
    "raw-respond-unknown",
    "raw-stop-unknown",
    "raw-stream-errors",
    "raw-tags-partial",
    "raw-truncated",
    "raw-unknown-command",
    "tags-error",
];

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

#[test]
fn recorded_requests_get_the_recorded_answers() {
    for (name, text) in TRANSCRIPTS {
        let text = String::from_utf8_lossy(text);
        let mut config = config();
        if name.starts_with("raw-auth") {
            config.rpc_auth = "sekret".into();
        }
        if name.starts_with("raw-auth-twice") {
            // This one was recorded without the tag.
            config.node.tags.clear();
        }
        let mut lab = Lab::new(config);
        let (mut said, mut wanted) = (Vec::new(), Vec::new());
        lab.connect(1);
        for line in text.lines() {
            match bytes_of(line) {
                Some(('C', bytes)) if !lab.closed.contains(&1) => lab.client_sends(1, &bytes),
                Some(('A', bytes)) => {
                    wanted.extend(bytes);
                    said.extend(lab.take(1));
                    // Some answers take time: a leave, a tag update, the end of a query.
                    for _ in 0..100 {
                        if said.len() < wanted.len() {
                            lab.pass(Duration::from_millis(100));
                            said.extend(lab.take(1));
                        }
                    }
                }
                _ if line == "client closes its side" => {
                    lab.give(Input::Conn { conn: Conn::Rpc(1), event: ConnEvent::End });
                }
                _ => {}
            }
        }
        said.extend(lab.take(1));
        assert!(!said.is_empty() || wanted.is_empty());
        assert_eq!(said.escape_ascii().to_string(), wanted.escape_ascii().to_string(), "{name}");
        assert_eq!(lab.closed.contains(&1), text.contains("agent closes its side"), "{name}");
    }
}
