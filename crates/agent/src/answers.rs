//! Which handler answers a query: the first of the configuration that says anything (agent.md 12.6).
//!
//! Beside a slow handler others run, and a later one may end before an earlier one. What it said is kept until
//! all earlier ones have ended, so that the answer does not depend on who is faster; a query has no more
//! than one, and the node refuses the others.
//!
//! Invariant: the first handler of an open query has not ended.

use crate::cx::{Cx, Waiter};
use crate::escape;
use crate::script::Asked;
use std::collections::BTreeMap;
use villein_core::command::{Command, CommandError};
use villein_core::member::QueryKey;
use villein_core::note::Level;
use villein_core::text::Text;

/// The queries that handlers work on.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    open: BTreeMap<QueryKey, BTreeMap<usize, Turn>>,
}

/// How far one handler of a query is.
#[derive(Debug)]
enum Turn {
    Awaited,
    /// It has ended and said this; empty for nothing.
    Ended(Vec<u8>),
}

impl Answers {
    /// A query comes to these handlers, which are numbered in the order of the configuration.
    pub(crate) fn open(&mut self, asked: &Asked, handlers: &[usize]) {
        if !handlers.is_empty() {
            let turns = handlers.iter().map(|&handler| (handler, Turn::Awaited)).collect();
            self.open.insert(asked.key, turns);
        }
    }

    /// A handler of a query has ended, or will never run; an empty `output` is no answer.
    pub(crate) fn ended(&mut self, asked: &Asked, handler: usize, output: &[u8], cx: &mut Cx<'_>) {
        let Some(turns) = self.open.get_mut(&asked.key) else { return };
        turns.insert(handler, Turn::Ended(output.to_vec()));
        while let Some(first) = turns.first_entry()
            && let Turn::Ended(output) = first.get()
        {
            if !output.is_empty() {
                respond(asked, output, cx);
            }
            first.remove();
        }
        if turns.is_empty() {
            self.open.remove(&asked.key);
        }
    }
}

fn respond(asked: &Asked, output: &[u8], cx: &mut Cx<'_>) {
    if cx.clock.now >= asked.deadline {
        log_unanswered(&asked.name, &CommandError::PastDeadline, cx);
    } else {
        let command = Command::Respond { key: asked.key, payload: output.into() };
        cx.command(Waiter::Script(asked.name.clone()), command);
    }
}

/// The log line about a handler's answer that was refused (agent.md 12.6).
pub(crate) fn log_unanswered(query: &Text, why: &CommandError, cx: &mut Cx<'_>) {
    let name = escape::line(query);
    // A query that the node has forgotten is one whose time is over.
    let why = if *why == CommandError::UnknownQuery { &CommandError::PastDeadline } else { why };
    let text = format!("Failed to respond to query 'query: {name}': failed to respond to key query: {why}");
    cx.log(Level::Warn, "agent", &text);
}
