//! From the start to the exit: banner, start join, signals, leave, exit status (agent.md 1, 8.1 and 10).
//!
//! Decides when the agent ends and with which status; the leave itself is the node's. Invariant: after
//! [`Phase::Done`] nothing more is said or done.

use crate::banner;
use crate::cx::{Cx, Errand, Waiter};
use crate::escape;
use crate::io::Signal;
use crate::join::Purpose;
use crate::limits::LEAVE_ALLOWANCE;
use crate::rpc::Ticket;
use crate::script;
use villein_core::command::{Command, Reply};
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::time::{Duration, Instant};

/// What others will take for a failure.
const WITHOUT_LEAVE: &str = "Shutdown without a Leave";

/// Where an agent stands.
#[derive(Debug)]
enum Phase {
    /// The start join may be under way; the log is only collected.
    Starting,
    Running,
    /// The node leaves. All clients that asked for it wait for its end.
    Leaving {
        until: Instant,
        clients: Vec<Ticket>,
    },
    Done,
}

/// The life of one agent.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: Phase,
}

impl Lifecycle {
    pub(crate) fn new() -> Lifecycle {
        Lifecycle { phase: Phase::Starting }
    }

    /// Whether the process ends with the actions given out so far.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Whether the start is over, and the end has not begun.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Prints the banner and says what is odd about the settings.
    pub(crate) fn start(cx: &mut Cx<'_>) {
        cx.print(&banner::text(cx.config));
        for (level, text) in &cx.config.start_lines {
            cx.log(*level, "agent", &escape::line(text.as_bytes()));
        }
        cx.log(Level::Info, "agent", "Serf agent starting");
        for name in script::hidden_tags(&cx.config.node.tags) {
            let text = format!(
                "handlers do not see tag '{}': another tag makes the same variable",
                escape::line(name)
            );
            cx.log(Level::Warn, "agent", &text);
        }
    }

    /// Begins the start join, or, without one, what comes after it.
    pub(crate) fn begin_start_join(&mut self, cx: &mut Cx<'_>) {
        if cx.config.start_join.is_empty() {
            self.run(cx);
            return;
        }
        let replay = cx.config.replay_on_join;
        cx.announce(&format!("Joining cluster...(replay: {replay})"));
        let texts = cx.config.start_join.iter().map(|text| Text::from(text.as_str())).collect();
        cx.errand(Errand::Join { purpose: Purpose::Start, texts, replay });
    }

    /// Takes the outcome of the start join; after a signal it does not matter any more.
    pub(crate) fn on_start_join(&mut self, result: Result<usize, String>, cx: &mut Cx<'_>) {
        if !matches!(self.phase, Phase::Starting) {
            return;
        }
        match result {
            Ok(count) => {
                cx.print(&format!("    Join completed. Synced with {count} initial agents\n"));
                self.run(cx);
            }
            Err(why) => {
                cx.log.open_console(cx.out);
                cx.announce(&why);
                self.end(1, cx);
            }
        }
    }

    fn run(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Running;
        cx.print("\n==> Log data will now stream in as it occurs:\n\n");
        cx.log.open_console(cx.out);
        cx.errand(Errand::Running);
    }

    /// Acts on a signal (agent.md 10). During a leave SIGHUP is ignored; the others end the process at once.
    pub(crate) fn on_signal(&mut self, signal: Signal, cx: &mut Cx<'_>) {
        if matches!(self.phase, Phase::Leaving { .. }) {
            if signal != Signal::Hangup {
                self.shut_down(1, false, cx);
            }
            return;
        }
        let (name, graceful) = match signal {
            Signal::Interrupt => ("interrupt", !cx.config.skip_leave_on_interrupt),
            Signal::Terminate => ("terminated", cx.config.leave_on_terminate),
            Signal::User1 => return,
            Signal::Hangup => {
                cx.announce("Caught signal: hangup");
                cx.announce("Reloading configuration...");
                cx.errand(Errand::Reload);
                return;
            }
        };
        cx.announce(&format!("Caught signal: {name}"));
        if graceful {
            cx.announce("Gracefully shutting down agent...");
            cx.errand(Errand::Leave(None));
        } else {
            self.shut_down(1, false, cx);
        }
    }

    /// Begins the leave, or joins the client to the one that is under way.
    pub(crate) fn leave(&mut self, client: Option<Ticket>, cx: &mut Cx<'_>) {
        match &mut self.phase {
            Phase::Leaving { clients, .. } => clients.extend(client),
            Phase::Done => {}
            Phase::Starting | Phase::Running => {
                cx.log.open_console(cx.out);
                if client.is_some() {
                    cx.log(Level::Info, "agent.ipc", "Graceful leave triggered");
                }
                cx.log(Level::Info, "agent", "requesting graceful leave from Serf");
                let until = cx.clock.now + allowance(client.is_some(), cx);
                self.phase = Phase::Leaving { until, clients: client.into_iter().collect() };
                cx.command(Waiter::Leave, Command::Leave);
            }
        }
    }

    /// Takes the node's answer to the leave.
    pub(crate) fn on_left(&mut self, reply: &Reply, cx: &mut Cx<'_>) {
        let result = match reply {
            Reply::Failed(why) => Err(why.to_string()),
            _ => Ok(()),
        };
        self.end_leave(result, cx);
    }

    /// Gives up a leave that takes too long.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        if let Phase::Leaving { until, clients } = &mut self.phase
            && *until <= cx.clock.now
        {
            let why = "timeout while waiting for graceful leave";
            for client in clients.drain(..) {
                cx.errand(Errand::LeaveEnded(client, Err(why.to_owned())));
            }
            self.shut_down(1, false, cx);
        }
    }

    /// When a leave takes too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Another node has this node's name, and the cluster's vote: the agent must go without a leave.
    pub(crate) fn on_name_lost(&mut self, (matching, responses): (usize, usize), cx: &mut Cx<'_>) {
        cx.log.open_console(cx.out);
        cx.log(Level::Warn, "serf", WITHOUT_LEAVE);
        cx.log(Level::Warn, "agent", "Serf shutdown detected, quitting");
        let name = escape::line(&cx.config.node.name);
        cx.announce(&format!(
            "Error: another node has the name '{name}', and {matching} of {responses} members voted for this one. \
             Names must be unique."
        ));
        self.shut_down(1, true, cx);
    }

    /// Ends the process without a leave, as a failure.
    pub(crate) fn fail(&mut self, cx: &mut Cx<'_>) {
        self.shut_down(1, false, cx);
    }

    fn end_leave(&mut self, result: Result<(), String>, cx: &mut Cx<'_>) {
        let Phase::Leaving { clients, .. } = &mut self.phase else { return };
        let from_signal = clients.is_empty();
        for client in clients.drain(..) {
            cx.errand(Errand::LeaveEnded(client, result.clone()));
        }
        match result {
            Ok(()) => self.shut_down(0, true, cx),
            Err(why) => {
                if from_signal {
                    cx.announce(&format!("Error: {why}"));
                }
                self.shut_down(1, false, cx);
            }
        }
    }

    fn shut_down(&mut self, status: u8, left: bool, cx: &mut Cx<'_>) {
        cx.log.open_console(cx.out);
        cx.log(Level::Info, "agent", "requesting serf shutdown");
        if !left {
            cx.log(Level::Warn, "serf", WITHOUT_LEAVE);
        }
        cx.log(Level::Info, "agent", "shutdown complete");
        self.end(status, cx);
    }

    /// Ends the process, once the node has put into the snapshot what is worth keeping.
    fn end(&mut self, status: u8, cx: &mut Cx<'_>) {
        self.phase = Phase::Done;
        cx.command(Waiter::Nobody, Command::Stop);
        cx.errand(Errand::Exit(status));
    }
}

/// How long a leave may take. Signals wait as long as init systems expect, except where gossip is so slow
/// that an honest leave needs longer (agent.md 20.4); clients wait as long as the node can need.
fn allowance(for_client: bool, cx: &Cx<'_>) -> Duration {
    let node = &cx.config.node;
    let needed = node.broadcast_timeout * 2 + node.leave_propagate_delay + Duration::from_secs(1);
    let slow = cx.config.profile_name == "wan";
    if for_client || slow { needed.max(LEAVE_ALLOWANCE) } else { LEAVE_ALLOWANCE }
}
