//! Queries between nodes, which no application sees (gossip.md 13.11).
//!
//! They travel like any query; here is what a node answers.

use super::Serf;
use super::answering::Asker;
use super::conflict::{CONFLICT, vote};
use super::keys::{self, KeyOperation};
use crate::cx::Cx;
use crate::note::Note;
use crate::text::Text;
use crate::time::Instant;
use crate::wire::message::Query;

/// The beginning of their names.
pub(super) const PREFIX: &[u8] = b"_serf_";

/// Asks for nothing but an ack.
pub(super) const PING: &str = "_serf_ping";

/// What an internal query wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Internal {
    Ping,
    Conflict,
    Change(KeyOperation),
    ListKeys,
}

impl Internal {
    fn named(name: &[u8]) -> Option<Internal> {
        Some(match name {
            _ if *name == *PING.as_bytes() => Internal::Ping,
            _ if *name == *CONFLICT.as_bytes() => Internal::Conflict,
            b"_serf_install-key" => Internal::Change(KeyOperation::Install),
            b"_serf_use-key" => Internal::Change(KeyOperation::Use),
            b"_serf_remove-key" => Internal::Change(KeyOperation::Remove),
            b"_serf_list-keys" => Internal::ListKeys,
            _ => return None,
        })
    }
}

/// Whether a query must not be passed on: agents of the reference die of a key operation without a request
/// (gossip.md 20.1).
pub(super) fn is_harmful(query: &Query<'_>) -> bool {
    matches!(Internal::named(query.name), Some(Internal::Change(_)))
        && query.payload.unwrap_or_default().is_empty()
}

impl Serf {
    /// Answers an internal query that is meant for this node.
    pub(super) fn on_internal_query(
        &mut self,
        asker: &Asker,
        name: &Text,
        payload: Option<&[u8]>,
        deadline: Instant,
        cx: &mut Cx<'_>,
    ) {
        let payload = payload.unwrap_or_default();
        let answer = match Internal::named(name) {
            None => return cx.note(Note::InternalQueryUnknown { name: name.clone() }),
            // Its ack has been sent.
            Some(Internal::Ping) => return,
            Some(Internal::Conflict) => vote(payload, &self.home.name, self.members.get(payload)),
            Some(Internal::Change(operation)) => {
                return self.change_keys(asker, operation, payload, deadline, cx);
            }
            Some(Internal::ListKeys) => self.list_keys(asker, cx),
        };
        if let Some(answer) = answer
            && let Err(why) = self.answer(asker, &answer, cx)
        {
            cx.note(Note::RespondFailed { name: name.clone(), why });
        }
    }

    fn list_keys(&mut self, asker: &Asker, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        if cx.codec.keyring().is_some() {
            cx.note(Note::KeyQuery { name: "list-keys" });
        }
        let limit = self.settings.query_response_size_limit;
        let fits = |answer: &[u8]| {
            let response = self.response(asker.key, 0, Some(answer));
            let fits = response.len() <= limit;
            self.scratch = response;
            fits
        };
        let (answer, note) = keys::list(cx.codec.keyring(), limit, fits);
        if let Some(note) = note {
            cx.note(note);
        }
        answer
    }
}
