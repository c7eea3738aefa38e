//! Key commands: what is asked of the members, and what they did, as clients know it (rpc.md 6.13 to 6.16).
//!
//! Text that is no base64 fails here; whether it is a key is for each member to say. The body comes also with an
//! error. Members that did not answer are named besides those that failed (cli.md 7).

use super::session::{Outcome, Session};
use super::{Awaited, records};
use crate::cx::Cx;
use villein_core::command::{Command, KeyReport, KeyRequest};
use villein_core::crypto::decode_base64;
use villein_core::note::Level;
use villein_core::text::Secret;
use villein_rpc::request::Key;
use villein_rpc::response::KeyReport as KeyBody;
use villein_rpc::{Reply as Body, ResponseHeader, Text};

/// What is said of a member that did not answer.
const SILENT: &str = "no answer in time";

impl Session {
    /// Answers `install-key`, `use-key` or `remove-key`; `what` is for the log.
    pub(super) fn change_keys(
        &mut self,
        seq: u64,
        key: &Key,
        (what, request): (&str, fn(Secret) -> KeyRequest),
        cx: &mut Cx<'_>,
    ) -> Outcome {
        cx.log(Level::Info, "agent", &format!("Initiating {what}"));
        match decode_base64(&key.key) {
            Ok(bytes) => {
                self.hand_over(seq, Awaited::KeyChange, Command::Keys(request(Secret::from(bytes))), cx)
            }
            Err(why) => {
                let body = body_without_answers(Awaited::KeyChange);
                self.respond(&ResponseHeader::error(seq, why.to_string()), body.as_ref(), cx);
                Outcome::Answered
            }
        }
    }

    /// Answers `list-keys`.
    pub(super) fn list_keys(&mut self, seq: u64, cx: &mut Cx<'_>) -> Outcome {
        cx.log(Level::Info, "agent", "Initiating key listing");
        self.hand_over(seq, Awaited::KeyList, Command::Keys(KeyRequest::List), cx)
    }
}

/// The body that a client reads although nobody was asked; `None` for commands without one.
pub(super) fn body_without_answers(awaited: Awaited) -> Option<Body> {
    let keys = match awaited {
        Awaited::KeyList => Some([].into()),
        Awaited::KeyChange => None,
        Awaited::Event | Awaited::Plain | Awaited::Query | Awaited::Respond => return None,
    };
    Some(Body::Keys(KeyBody { keys, ..KeyBody::default() }))
}

/// Whether it worked everywhere, or the error text; and the body.
pub(super) fn answer(awaited: Awaited, report: &KeyReport) -> (Result<(), String>, Body) {
    let KeyReport { nodes, responses, failures, .. } = *report;
    let outcome = if failures > 0 {
        Err(format!("{failures}/{nodes} nodes reported failure"))
    } else if responses < nodes {
        Err(format!("{responses}/{nodes} nodes reported success"))
    } else {
        Ok(())
    };
    let silent = report.silent.iter().map(|name| (records::text(name), Text::from(SILENT)));
    let said = report.messages.iter().map(|(name, message)| (records::text(name), records::text(message)));
    let counted = |(key, count): (&String, &usize)| (Text::from(key.as_str()), *count as u64);
    let body = KeyBody {
        messages: silent.chain(said).collect(),
        keys: (awaited == Awaited::KeyList).then(|| report.keys.iter().map(counted).collect()),
        num_nodes: nodes as u64,
        num_err: failures as u64,
        num_resp: responses as u64,
    };
    (outcome, Body::Keys(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_members_are_named_and_the_error_stays() {
        let mut report = KeyReport {
            nodes: 3,
            responses: 2,
            silent: vec!["beta".into()],
            keys: [("a2V5".to_owned(), 2)].into(),
            ..KeyReport::default()
        };
        let (outcome, body) = answer(Awaited::KeyList, &report);
        assert_eq!(outcome, Err("2/3 nodes reported success".to_owned()));
        let Body::Keys(body) = body else { panic!("this is the body of keys") };
        assert_eq!(body.messages, [(Text::from("beta"), Text::from(SILENT))].into());
        assert_eq!(body.keys, Some([(Text::from("a2V5"), 2)].into()));
        assert_eq!((body.num_nodes, body.num_resp, body.num_err), (3, 2, 0));

        report.failures = 1;
        report.messages.insert("gamma".into(), "key size must be 16, 24 or 32 bytes".into());
        let (outcome, body) = answer(Awaited::KeyChange, &report);
        assert_eq!(outcome, Err("1/3 nodes reported failure".to_owned()));
        let Body::Keys(body) = body else { panic!("this is the body of keys") };
        assert_eq!((body.messages.len(), body.keys), (2, None));

        let report = KeyReport { nodes: 2, responses: 2, ..KeyReport::default() };
        assert_eq!(answer(Awaited::KeyChange, &report).0, Ok(()));
    }
}
