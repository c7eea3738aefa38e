//! Files that the agent keeps up to date: tags and keys (agent.md 13 and 14).
//!
//! What is kept counts only once it is written: a change of tags waits for the file, and so does the answer to
//! a key query. Each change is made to what the one before it left, so that none is lost. Invariant: one file is
//! written at a time, in the order of the changes.

use crate::cx::{Cx, Errand, Waiter};
use crate::escape;
use crate::io::SaveId;
use crate::limits::KEPT_CHANGES;
use std::collections::VecDeque;
use std::path::PathBuf;
use villein_core::command::{Command, CommandError, Reply};
use villein_core::crypto::Key;
use villein_core::member::Tags;
use villein_core::note::Level;
use villein_core::text::Text;

/// What is to be different about the tags. A name that is both deleted and set is set.
#[derive(Debug)]
pub(crate) struct TagChange {
    pub(crate) delete: Vec<Text>,
    pub(crate) set: Tags,
}

/// Changes on their way to a file.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// What waits, each with its file, in order.
    changes: VecDeque<(PathBuf, Change)>,
    /// What is being written.
    saving: Option<(SaveId, Saving)>,
    next_save: u64,
}

#[derive(Debug)]
enum Change {
    Tags(Waiter, TagChange),
    Keys { token: u64, keys: Vec<Key> },
}

/// What comes next, once a file is written.
#[derive(Debug)]
enum Saving {
    Tags(Waiter, Tags),
    Keys { token: u64 },
}

impl Keeping {
    /// Changes the tags, first in the file.
    pub(crate) fn change_tags(&mut self, waiter: Waiter, change: TagChange, cx: &mut Cx<'_>) {
        let Some(path) = cx.config.tags_file.clone() else {
            let tags = change.applied_to(cx.node.local_member().tags);
            cx.command_now(waiter, Command::SetTags(tags));
            return;
        };
        if self.changes.len() >= KEPT_CHANGES {
            cx.errand(Errand::Reply(waiter, Reply::Failed(CommandError::Busy)));
            return;
        }
        self.changes.push_back((path, Change::Tags(waiter, change)));
        self.go_on(cx);
    }

    /// Writes changed keys to the file.
    pub(crate) fn keep_keyring(&mut self, token: u64, keys: &[Key], cx: &mut Cx<'_>) {
        let Some(path) = cx.config.keyring_file.clone() else {
            cx.command(Waiter::Nobody, Command::KeyringKept { token, result: Ok(()) });
            return;
        };
        if self.changes.len() >= KEPT_CHANGES {
            keys_not_kept(token, "too many changes wait to be written", cx);
            return;
        }
        self.changes.push_back((path, Change::Keys { token, keys: keys.to_vec() }));
        self.go_on(cx);
    }

    /// Writes the file of the next change, unless one is being written. Tags that the node would not take are
    /// refused before they are written.
    pub(crate) fn go_on(&mut self, cx: &mut Cx<'_>) {
        while self.saving.is_none()
            && let Some((path, change)) = self.changes.pop_front()
        {
            match change {
                Change::Tags(waiter, change) => {
                    let tags = change.applied_to(cx.node.local_member().tags);
                    match cx.node.check_tags(&tags) {
                        Ok(()) => self.save(path, &tags_text(&tags), Saving::Tags(waiter, tags), cx),
                        Err(why) => cx.errand(Errand::Reply(waiter, Reply::Failed(why))),
                    }
                }
                Change::Keys { token, keys } => {
                    self.save(path, &keys_text(&keys), Saving::Keys { token }, cx);
                }
            }
        }
    }

    fn save(&mut self, path: PathBuf, text: &str, saving: Saving, cx: &mut Cx<'_>) {
        let id = SaveId(self.next_save);
        self.next_save += 1;
        self.saving = Some((id, saving));
        cx.out.save(id, path, text.as_bytes());
    }

    /// Takes the outcome of a write.
    pub(crate) fn on_saved(&mut self, id: SaveId, result: Result<(), &str>, cx: &mut Cx<'_>) {
        let Some((_, saved)) = self.saving.take_if(|(saving, _)| *saving == id) else { return };
        // The next change is made to what this one leaves, once the node has it.
        cx.errand(Errand::KeepNext);
        match (saved, result) {
            (Saving::Tags(waiter, tags), Ok(())) => cx.command_now(waiter, Command::SetTags(tags)),
            (Saving::Tags(waiter, _), Err(why)) => {
                let text = format!("Failed to write tags file: {}", escape::line(why.as_bytes()));
                cx.log(Level::Err, "agent", &text);
                cx.errand(Errand::Reply(waiter, Reply::Failed(CommandError::TagsNotKept(text))));
            }
            (Saving::Keys { token }, Ok(())) => {
                cx.command(Waiter::Nobody, Command::KeyringKept { token, result: Ok(()) });
            }
            (Saving::Keys { token }, Err(why)) => keys_not_kept(token, why, cx),
        }
    }
}

impl TagChange {
    fn applied_to(&self, mut tags: Tags) -> Tags {
        for name in &self.delete {
            tags.remove(name);
        }
        tags.extend(self.set.clone());
        tags
    }
}

/// The node knows the keys all the same: it tells so to the node that asked.
fn keys_not_kept(token: u64, why: &str, cx: &mut Cx<'_>) {
    let why = format!("Failed to write keyring file: {}", escape::line(why.as_bytes()));
    cx.command(Waiter::Nobody, Command::KeyringKept { token, result: Err(why) });
}

/// A JSON object, by name.
fn tags_text(tags: &Tags) -> String {
    let text = |text: &Text| String::from_utf8_lossy(text).into_owned();
    pretty(
        tags.iter().map(|(name, value)| (text(name), text(value).into())).collect::<serde_json::Map<_, _>>(),
    )
}

/// A JSON list, the primary key first.
pub(crate) fn keys_text(keys: &[Key]) -> String {
    pretty(keys.iter().map(Key::to_base64).collect::<Vec<_>>())
}

/// As other programs that read these files write them: two spaces, no final newline, and no character that HTML or
/// JavaScript would stumble over. Outside of texts JSON has none of these.
fn pretty(value: impl Into<serde_json::Value>) -> String {
    let mut text = format!("{:#}", value.into());
    for (character, escaped) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        text = text.replace(character, escaped);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_as_the_reference_does() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
        };
        assert_eq!(tags_text(&Tags::new()), "{}");
        let sorted = tags(&[("v", "1"), ("role", "web")]);
        assert_eq!(tags_text(&sorted), "{\n  \"role\": \"web\",\n  \"v\": \"1\"\n}");
        let odd = tags(&[("html", "<&>"), ("q\"\n", "\u{2028}ä\u{7f}")]);
        assert_eq!(
            tags_text(&odd),
            "{\n  \"html\": \"\\u003c\\u0026\\u003e\",\n  \"q\\\"\\n\": \"\\u2028ä\u{7f}\"\n}"
        );
    }

    #[test]
    fn keys_are_written_with_the_primary_one_first() {
        let keys = [2, 1].map(|byte| Key::from_bytes(&[byte; 16]).expect("16 bytes are a key"));
        let wanted = "[\n  \"AgICAgICAgICAgICAgICAg==\",\n  \"AQEBAQEBAQEBAQEBAQEBAQ==\"\n]";
        assert_eq!(keys_text(&keys), wanted);
    }
}
