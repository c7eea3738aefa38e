//! What every part of an agent works with: the clock, the node to look at, the log, and two ways to act.
//!
//! A part never calls another part: it leaves an [`Errand`], and the agent carries errands out in their
//! order before the next input. So each part borrows only itself, and the order of effects is one queue.

use crate::config::{Config, LogFormat};
use crate::invoke::HandlerCounts;
use crate::io::{Clock, Outbox};
use crate::join::{Ended, Purpose};
use crate::keeping::TagChange;
use crate::log::Log;
use crate::rpc::{Awaited, Ticket};
use crate::telemetry::Telemetry;
use std::collections::{BTreeMap, VecDeque};
use villein_core::Node;
use villein_core::command::{Command, Reply};
use villein_core::note::Level;
use villein_core::text::Text;

/// Work that one part leaves for another.
#[derive(Debug)]
pub(crate) enum Errand {
    /// For the node; the reply goes to the waiter.
    Command(Waiter, Command),
    /// Resolve and contact these addresses.
    Join { purpose: Purpose, texts: Vec<Text>, replay: bool },
    /// A join came to its end.
    JoinEnded(Ended),
    /// Change the tags of this node, after they were written to the tags file if there is one; the reply goes to
    /// the waiter.
    ChangeTags(Waiter, TagChange),
    /// Write the next file that is to be kept up to date.
    KeepNext,
    /// This is what the waiter gets for a command that the node never saw.
    Reply(Waiter, Reply),
    /// The start is over.
    Running,
    /// Read the configuration again.
    Reload,
    /// That is done, or will not be done.
    Reloaded,
    /// Leave the cluster gracefully; the client, if one asks, is answered at the end.
    Leave(Option<Ticket>),
    /// The leave that this client asked for is over.
    LeaveEnded(Ticket, Result<(), String>),
    /// End the process.
    Exit(u8),
}

/// Who gets the reply to a command.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// The join with this number.
    Join(u64),
    /// The life cycle.
    Leave,
    /// The outcome makes no difference.
    Nobody,
    /// The operator, who had the configuration read again.
    Reload,
    /// A client.
    Rpc(Ticket, Awaited),
    /// A handler's answer to the query with this name.
    Script(Text),
}

/// Numbers about what was refused, and about handlers, for `stats`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// How often each note of the node was heard.
    pub(crate) notes: BTreeMap<&'static str, u64>,
    /// RPC connections that were refused or closed because of what their clients did, or did not do.
    pub(crate) rpc: u64,
    /// Datagrams that were dropped before anybody looked at them.
    pub(crate) overflow: u64,
    /// Events that handlers never saw.
    pub(crate) handlers_dropped: u64,
    /// About each handler, in the order of the configuration; empty before the first event.
    pub(crate) handlers: Vec<HandlerCounts>,
}

/// The surroundings of a part while it handles something.
pub(crate) struct Cx<'a> {
    pub(crate) clock: Clock,
    pub(crate) config: &'a Config,
    pub(crate) node: &'a Node,
    pub(crate) counters: &'a mut Counters,
    pub(crate) log: &'a mut Log,
    pub(crate) telemetry: &'a mut Telemetry,
    pub(crate) errands: &'a mut VecDeque<Errand>,
    pub(crate) out: &'a mut Outbox,
}

impl Cx<'_> {
    /// Appends a line to the log. Foreign parts of `text` are escaped by the caller.
    pub(crate) fn log(&mut self, level: Level, component: &'static str, text: &str) {
        self.log.write(self.clock, (level, component), text, None, self.out);
    }

    /// Appends a line that clients can cause at will, unless there were many of its kind lately.
    pub(crate) fn log_sparingly(
        &mut self,
        kind: &'static str,
        (level, component): (Level, &'static str),
        text: &str,
    ) {
        if self.log.admits(kind, (level, component), self.clock.now) {
            self.log(level, component, text);
        }
    }

    /// Appends a line that is not sent to the monitor of this connection.
    pub(crate) fn log_hidden(&mut self, conn: u64, level: Level, component: &'static str, text: &str) {
        self.log.write(self.clock, (level, component), text, Some(conn), self.out);
    }

    /// Prints a state or an error: `==> text` (agent.md 1.1).
    pub(crate) fn announce(&mut self, text: &str) {
        self.print(&format!("==> {text}\n"));
    }

    /// Prints what is no line of the log. Where the log is for machines it does not stand among its lines.
    pub(crate) fn print(&mut self, text: &str) {
        match self.config.log_format {
            LogFormat::Text => self.out.print(text.as_bytes()),
            LogFormat::Json => self.out.print_error(text.as_bytes()),
        }
    }

    pub(crate) fn errand(&mut self, errand: Errand) {
        self.errands.push_back(errand);
    }

    /// Asks the node for something.
    pub(crate) fn command(&mut self, waiter: Waiter, command: Command) {
        self.errand(Errand::Command(waiter, command));
    }

    /// Asks the node for something that comes before all errands that wait, because it was decided on what the
    /// node shows now.
    pub(crate) fn command_now(&mut self, waiter: Waiter, command: Command) {
        self.errands.push_front(Errand::Command(waiter, command));
    }
}
