//! Leaving, having others leave, and changing tags: what ends when a broadcast has been gossiped
//! (gossip.md 12, 13.15, 13.16).
//!
//! A leave is three waits: for the intent, for the own death, and for the others to hear of it. The
//! intent comes first, or the others would take the death for a failure. The invariant: what waits for a
//! broadcast also has a timer.

use super::presence::Source;
use super::{Due, Serf};
use crate::broadcast::{SerfQueue, Token};
use crate::command::{CommandError, CommandId, Reply, Size};
use crate::cx::Cx;
use crate::limits;
use crate::member::{Status, Tags};
use crate::note::Note;
use crate::swim::{Notice, Swim};
use crate::text::Text;
use crate::wire::message::{LeaveIntent, SerfMessage};
use crate::wire::serf::encode_meta;
use std::collections::BTreeMap;

/// Whether this node is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Here,
    Leaving,
    Left,
}

/// What goes on when a broadcast has been gossiped.
#[derive(Clone, Copy, Debug)]
enum Wait {
    LeaveIntent,
    OwnDeath,
    Removal(CommandId),
    TagUpdate(CommandId),
}

/// How far the leave is, and who waits for what.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    stage: Stage,
    leavers: Vec<CommandId>,
    waits: BTreeMap<Token, Wait>,
}

impl Leaving {
    pub(super) fn new() -> Leaving {
        Leaving { stage: Stage::Here, leavers: Vec::new(), waits: BTreeMap::new() }
    }

    /// Whether no leave has begun.
    pub(super) fn is_here(&self) -> bool {
        self.stage == Stage::Here
    }
}

impl Serf {
    /// Leaves gracefully. A second command waits for the first, as does everybody who asks later.
    pub(super) fn leave(
        &mut self,
        id: CommandId,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        match self.leaving.stage {
            Stage::Left => {
                cx.out.reply(id, Reply::Done);
                return Ok(());
            }
            Stage::Leaving if self.leaving.leavers.len() >= limits::WAITING_COMMANDS => {
                return Err(CommandError::Busy);
            }
            Stage::Leaving => {
                self.leaving.leavers.push(id);
                return Ok(());
            }
            Stage::Here => {}
        }
        self.leaving.stage = Stage::Leaving;
        self.recording.on_leave(cx.now, cx.out);
        self.leaving.leavers.push(id);
        let name = self.home.name.clone();
        match self.send_leave_intent(&name, false, swim, cx) {
            Some(token) => self.await_broadcast(token, Wait::LeaveIntent, cx),
            None => self.announce_death(swim, notices, cx),
        }
        Ok(())
    }

    /// Declares a failed member as left. One that is alive refutes it.
    pub(super) fn force_leave(
        &mut self,
        id: CommandId,
        name: &Text,
        prune: bool,
        swim: &mut Swim,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        // To forget a member that is there would make the two layers disagree (gossip.md 20.3).
        if prune && self.members.status(name) == Status::Alive {
            return Err(CommandError::MemberAlive(name.clone()));
        }
        if self.leaving.waits.len() >= limits::WAITING_COMMANDS {
            return Err(CommandError::Busy);
        }
        match self.send_leave_intent(name, prune, swim, cx) {
            Some(token) => self.await_broadcast(token, Wait::Removal(id), cx),
            None => cx.out.reply(id, Reply::Done),
        }
        Ok(())
    }

    /// Replaces the tags of this node.
    pub(super) fn set_tags(
        &mut self,
        id: CommandId,
        tags: Tags,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        let meta = self.encode_tags(&tags)?;
        self.home.tags = tags;
        let token = cx.broadcasts.token();
        swim.update_meta(&meta, token, notices, cx);
        if swim.others_live() {
            self.await_broadcast(token, Wait::TagUpdate(id), cx);
        } else {
            cx.out.reply(id, Reply::Done);
        }
        Ok(())
    }

    /// Whether these could be the tags of this node now.
    pub(crate) fn check_tags(&self, tags: &Tags) -> Result<(), CommandError> {
        self.encode_tags(tags).map(drop)
    }

    fn encode_tags(&self, tags: &Tags) -> Result<Vec<u8>, CommandError> {
        if !self.leaving.is_here() {
            return Err(CommandError::TagsAfterLeave);
        }
        let mut meta = Vec::new();
        encode_meta(tags, self.settings.protocol, &mut meta);
        if meta.len() > limits::META {
            let size = Size::of_tags(tags, meta.len());
            return Err(CommandError::TagsTooLong { limit: limits::META, size });
        }
        if self.leaving.waits.len() >= limits::WAITING_COMMANDS {
            return Err(CommandError::Busy);
        }
        Ok(meta)
    }

    /// A broadcast was gossiped often enough, or displaced.
    pub(crate) fn on_broadcast_finished(
        &mut self,
        token: Token,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        self.timers.cancel(Due::Broadcast(token));
        self.end_wait(token, true, swim, notices, cx);
    }

    /// A broadcast took too long.
    pub(super) fn on_broadcast_timeout(
        &mut self,
        token: Token,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        self.end_wait(token, false, swim, notices, cx);
    }

    /// Somebody went. When nobody is left to hear a broadcast, there is nothing to wait for.
    pub(super) fn wait_for_nobody(&self, swim: &Swim, cx: &mut Cx<'_>) {
        if !self.leaving.waits.is_empty() && !swim.others_live() {
            for token in self.leaving.waits.keys() {
                cx.broadcasts.finish(*token);
            }
        }
    }

    /// The others have had the time to hear of the leave.
    pub(super) fn on_left(&mut self, cx: &mut Cx<'_>) {
        self.leaving.stage = Stage::Left;
        self.delivery.flush(cx.out);
        for id in std::mem::take(&mut self.leaving.leavers) {
            cx.out.reply(id, Reply::Done);
        }
    }

    /// Applies a leave intent of our own and gossips it; `None` if there is nobody to hear it.
    ///
    /// Whoever is there hears it, also the subject: if it is alive it must be able to refute.
    fn send_leave_intent(
        &mut self,
        name: &Text,
        prune: bool,
        swim: &mut Swim,
        cx: &mut Cx<'_>,
    ) -> Option<Token> {
        let intent = LeaveIntent { ltime: self.members.clock.tick(), node: name, prune };
        self.on_leave_intent(&intent, Source::Own, cx);
        if !swim.others_live() {
            return None;
        }
        let token = cx.broadcasts.token();
        let bytes = self.encode(&SerfMessage::Leave(intent));
        self.spread(SerfQueue::Intents, &bytes, Some(token), cx);
        self.scratch = bytes;
        Some(token)
    }

    fn await_broadcast(&mut self, token: Token, wait: Wait, cx: &mut Cx<'_>) {
        self.leaving.waits.insert(token, wait);
        self.timers.set(Due::Broadcast(token), cx.now + self.settings.broadcast_timeout);
    }

    fn end_wait(
        &mut self,
        token: Token,
        in_time: bool,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        let Some(wait) = self.leaving.waits.remove(&token) else { return };
        let reply = |error| if in_time { Reply::Done } else { Reply::Failed(error) };
        match wait {
            Wait::Removal(id) => cx.out.reply(id, reply(CommandError::RemovalTimedOut)),
            Wait::TagUpdate(id) => cx.out.reply(id, reply(CommandError::UpdateTimedOut)),
            Wait::LeaveIntent | Wait::OwnDeath => {
                if !in_time {
                    cx.note(Note::LeaveTimeout { after: self.settings.broadcast_timeout });
                }
                match wait {
                    Wait::LeaveIntent => self.announce_death(swim, notices, cx),
                    _ => self.let_it_propagate(cx),
                }
            }
        }
    }

    fn announce_death(&mut self, swim: &mut Swim, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let token = cx.broadcasts.token();
        swim.leave(token, notices, cx);
        if swim.others_live() {
            self.await_broadcast(token, Wait::OwnDeath, cx);
        } else {
            self.let_it_propagate(cx);
        }
    }

    fn let_it_propagate(&mut self, cx: &mut Cx<'_>) {
        self.timers.set(Due::Left, cx.now + self.settings.leave_propagate_delay);
    }
}
