//! One script that runs: when it is called slow, when it is told to end, and the lines about its end (agent.md
//! 12.5).
//!
//! A script with a time limit is asked to end when its time is over (SIGTERM), killed when it does not, and given
//! up when even that does not end it; each step waits for [`HANDLER_GRACE`]. Invariant: a script that was asked to
//! end is a failure, whatever it does then.

use super::lane::Exit;
use crate::cx::Cx;
use crate::escape;
use crate::handler::Handler;
use crate::io::{ChildId, ChildStatus, Kill};
use crate::limits::{HANDLER_GRACE, HANDLER_SLOW, HANDLER_STILL_RUNNING};
use crate::script::Asked;
use std::sync::Arc;
use villein_core::gotext::duration;
use villein_core::note::Level;
use villein_core::time::{Duration, Instant};

/// A script that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// The lane, if it is still there.
    pub(super) lane: u64,
    /// As it was at the start.
    pub(super) handler: Arc<Handler>,
    pub(super) kind: &'static str,
    /// The query that it may answer, with the place of the handler.
    pub(super) query: Option<(Asked, usize)>,
    started: Instant,
    /// When it is said next how long it runs.
    warn_after: Duration,
    /// What is done next to end it.
    stop: Option<(Instant, Stop)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Ask,
    Kill,
    GiveUp,
}

/// How a script came to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    /// `None` when it was given up.
    pub(super) status: Option<&'a ChildStatus>,
    pub(super) output: &'a [u8],
    pub(super) output_total: u64,
}

impl Run {
    pub(super) fn new(
        (lane, handler): (u64, Arc<Handler>),
        kind: &'static str,
        query: Option<(Asked, usize)>,
        now: Instant,
    ) -> Run {
        let stop = handler.timeout.map(|timeout| (now + timeout, Stop::Ask));
        Run { lane, handler, kind, query, started: now, warn_after: HANDLER_SLOW, stop }
    }

    /// Whether the scripts of other handlers wait for it: until it is slow.
    pub(super) fn holds_turn(&self) -> bool {
        self.handler.takes_turns() && self.warn_after == HANDLER_SLOW && !self.is_out_of_time()
    }

    /// When there is something to say or to do.
    pub(super) fn deadline(&self) -> Instant {
        let warning = if self.is_out_of_time() { Instant::NEVER } else { self.started + self.warn_after };
        self.stop.map_or(warning, |(at, _)| at.min(warning))
    }

    /// Says or does what is due at the deadline; whether it is given up.
    pub(super) fn on_time(&mut self, id: ChildId, cx: &mut Cx<'_>) -> bool {
        let Some((_, stop)) = self.stop.filter(|&(at, _)| at <= cx.clock.now) else {
            self.warn(cx);
            return false;
        };
        let next = match stop {
            Stop::Ask => {
                cx.out.kill(id, Kill::Politely);
                Stop::Kill
            }
            Stop::Kill => {
                cx.out.kill(id, Kill::AtOnce);
                Stop::GiveUp
            }
            Stop::GiveUp => return true,
        };
        self.stop = Some((cx.clock.now + HANDLER_GRACE, next));
        false
    }

    /// Says how long it runs.
    fn warn(&mut self, cx: &mut Cx<'_>) {
        let ran = cx.clock.now.since(self.started);
        let command = escape::line(&self.handler.command);
        let text = if self.warn_after == HANDLER_SLOW {
            format!("Script '{command}' slow, execution exceeding 1s")
        } else {
            let ran = duration(Duration::from_secs(ran.as_secs()));
            let remedy = if self.handler.timeout.is_none() {
                "; the handler option 'timeout' would end it"
            } else {
                ""
            };
            format!("Script '{command}' still running after {ran}{remedy}")
        };
        self.warn_after = next_warning(ran);
        cx.log(Level::Warn, "agent", &text);
    }

    fn is_out_of_time(&self) -> bool {
        self.stop.is_some_and(|(_, stop)| stop != Stop::Ask)
    }

    /// Writes the lines about its end; gives how it ended and how long it ran.
    pub(super) fn report(&self, end: End<'_>, cx: &mut Cx<'_>) -> (Exit, Duration) {
        let command = escape::line(&self.handler.command);
        let took = cx.clock.now.since(self.started);
        let (exit, failure) = self.judge(end.status);
        if !matches!(end.status, None | Some(ChildStatus::NotStarted(_))) {
            let text = format!("Event '{}' script output: {}", self.kind, escape::block(end.output));
            cx.log(Level::Debug, "agent", &text);
        }
        if let Some(failure) = failure {
            let mut text = format!("Error invoking script '{command}': {failure}");
            if let Some(last) = last_line(end.output) {
                text.push_str(": ");
                text.push_str(&escape::line(last));
            }
            cx.log(Level::Err, "agent", &text);
        }
        if end.output_total > end.output.len() as u64 {
            let (total, kept) = (end.output_total, end.output.len());
            let text =
                format!("Script '{command}' generated {total} bytes of output, truncated to the last {kept}");
            cx.log(Level::Warn, "agent", &text);
        }
        cx.telemetry.sample(&format!("agent.invoke.{command}"), took.as_secs_f64() * 1000.0, cx.clock);
        (exit, took)
    }

    /// How it ended, and what is to be said if that is a failure.
    fn judge(&self, status: Option<&ChildStatus>) -> (Exit, Option<String>) {
        let limit = self.handler.timeout.filter(|_| self.is_out_of_time());
        let late = limit.map(|limit| format!("timed out after {}", duration(limit)));
        match (status, late) {
            (Some(ChildStatus::NotStarted(why)), _) => (Exit::NotStarted, Some(escape::line(why.as_bytes()))),
            (Some(_), Some(late)) => (Exit::TimedOut, Some(late)),
            (None, late) => {
                let late = late.expect("only a script that ran out of time is given up");
                (Exit::TimedOut, Some(late + " and cannot be ended; nobody waits for it any more"))
            }
            (Some(ChildStatus::Exited(0)), None) => (Exit::Status(0), None),
            (Some(&ChildStatus::Exited(status)), None) => {
                (Exit::Status(status), Some(format!("exit status {status}")))
            }
            (Some(&ChildStatus::Signaled(signal)), None) => {
                (Exit::Signal(signal), Some(format!("signal: {}", signal_name(signal))))
            }
        }
    }
}

/// After `ran`, when it is said next that a script still runs.
fn next_warning(ran: Duration) -> Duration {
    const HOUR: u64 = 3600;
    let step = HANDLER_STILL_RUNNING.into_iter().find(|&step| step > ran);
    step.unwrap_or(Duration::from_secs((ran.as_secs() / HOUR + 1) * HOUR))
}

/// What a failing script said last, which is mostly the reason.
fn last_line(output: &[u8]) -> Option<&[u8]> {
    output.rsplit(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())
}

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_become_rare() {
        let mut ran = HANDLER_SLOW;
        let mut minutes = Vec::new();
        for _ in 0..5 {
            ran = next_warning(ran);
            minutes.push(ran.as_secs() / 60);
        }
        assert_eq!(minutes, [1, 10, 60, 120, 180]);
        assert_eq!(next_warning(Duration::from_secs(5 * 3600 + 7)), Duration::from_secs(6 * 3600));
    }

    #[test]
    fn the_last_line_is_the_reason() {
        assert_eq!(last_line(b"one\ntwo\r\n\n"), Some(&b"two"[..]));
        assert_eq!(last_line(b"\n \n"), None);
        assert_eq!(last_line(b""), None);
    }

    #[test]
    fn signals_have_the_names_that_scripts_grep() {
        assert_eq!(signal_name(9), "killed");
        assert_eq!(signal_name(34), "signal 34");
    }
}
