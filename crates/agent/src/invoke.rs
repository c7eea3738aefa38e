//! Running event handlers: one queue and at most one child for each (agent.md 12.2, 12.5).
//!
//! A slow script delays the later events of its own handler and nothing else; when it hangs for good, its
//! queue fills up and the oldest events are dropped with a log line. What the child gets is decided by
//! [`script`](crate::script), when it starts: the tags are those of that moment.
//!
//! Invariant: a lane has a child or an empty queue.

use crate::answers::Answers;
use crate::cx::Cx;
use crate::escape;
use crate::handler::Handler;
use crate::io::{ChildId, ChildStatus};
use crate::limits::{HANDLER_QUEUE, HANDLER_SLOW};
use crate::script::{Asked, Job};
use crate::throttle::Throttle;
use std::collections::{BTreeMap, VecDeque};
use villein_core::member::Event;
use villein_core::note::Level;
use villein_core::time::Instant;

/// All handlers with their work.
#[derive(Debug)]
pub(crate) struct Invoker {
    lanes: Vec<Lane>,
    /// Which lane a child belongs to.
    children: BTreeMap<ChildId, usize>,
    next_child: u64,
    answers: Answers,
}

#[derive(Debug)]
struct Lane {
    handler: Handler,
    queue: VecDeque<Job>,
    running: Option<Run>,
    dropped: Throttle,
}

#[derive(Debug)]
struct Run {
    kind: &'static str,
    query: Option<Asked>,
    /// When it is called slow; `None` once that was said.
    slow_at: Option<Instant>,
}

impl Invoker {
    /// Handlers in the order of the configuration.
    pub(crate) fn new(handlers: &[Handler]) -> Invoker {
        let lane = |handler: &Handler| Lane {
            handler: handler.clone(),
            queue: VecDeque::new(),
            running: None,
            dropped: Throttle::default(),
        };
        Invoker {
            lanes: handlers.iter().map(lane).collect(),
            children: BTreeMap::new(),
            next_child: 0,
            answers: Answers::default(),
        }
    }

    /// Gives an event to every handler that wants it.
    pub(crate) fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) {
        let Some(job) = Job::new(event) else { return };
        let wanted = |index: &usize| self.lanes[*index].handler.filter.matches(event);
        let wanted: Vec<usize> = (0..self.lanes.len()).filter(wanted).collect();
        if let Some(asked) = &job.query {
            self.answers.open(asked, &wanted);
        }
        for index in wanted {
            if let Some(asked) = self.lanes[index].push(job.clone(), cx).and_then(|dropped| dropped.query) {
                self.answers.ended(&asked, index, b"", cx);
            }
            self.start_next(index, cx);
        }
    }

    /// Takes the end of a child, logs it, and starts the handler's next one.
    pub(crate) fn on_child(
        &mut self,
        (id, status): (ChildId, &ChildStatus),
        output: &[u8],
        output_total: u64,
        cx: &mut Cx<'_>,
    ) {
        let Some(index) = self.children.remove(&id) else { return };
        let lane = &mut self.lanes[index];
        let command = escape::line(&lane.handler.command);
        let Some(run) = lane.running.take() else { return };
        log_result(&command, run.kind, status, output, cx);
        if output_total > output.len() as u64 {
            let text = format!(
                "Script '{command}' generated {output_total} bytes of output, truncated to the last {}",
                output.len()
            );
            cx.log(Level::Warn, "agent", &text);
        }
        if let Some(asked) = run.query {
            let answer = if *status == ChildStatus::Exited(0) { output } else { b"" };
            self.answers.ended(&asked, index, answer, cx);
        }
        self.start_next(index, cx);
    }

    /// Says which handlers have become slow.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        for lane in &mut self.lanes {
            let Some(run) = &mut lane.running else { continue };
            if run.slow_at.is_some_and(|slow_at| slow_at <= cx.clock.now) {
                run.slow_at = None;
                let command = escape::line(&lane.handler.command);
                cx.log(Level::Warn, "agent", &format!("Script '{command}' slow, execution exceeding 1s"));
            }
        }
    }

    /// When a handler becomes slow next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.running.as_ref()?.slow_at).min()
    }

    fn start_next(&mut self, index: usize, cx: &mut Cx<'_>) {
        let lane = &mut self.lanes[index];
        while lane.running.is_none()
            && let Some(job) = lane.queue.pop_front()
        {
            let Some(spawn) = job.spawn(&lane.handler.command, &cx.node.local_member()) else {
                let command = escape::line(&lane.handler.command);
                let why = "exec: environment variable contains NUL";
                cx.log(Level::Err, "agent", &format!("Error invoking script '{command}': {why}"));
                if let Some(asked) = job.query {
                    self.answers.ended(&asked, index, b"", cx);
                }
                continue;
            };
            let id = ChildId(self.next_child);
            self.next_child += 1;
            self.children.insert(id, index);
            let slow_at = Some(cx.clock.now + HANDLER_SLOW);
            lane.running = Some(Run { kind: job.kind, query: job.query, slow_at });
            cx.out.spawn(id, spawn);
        }
    }
}

impl Lane {
    /// Appends a job; gives the one that was dropped to make room.
    fn push(&mut self, job: Job, cx: &mut Cx<'_>) -> Option<Job> {
        let mut dropped = None;
        if self.queue.len() == HANDLER_QUEUE {
            dropped = self.queue.pop_front();
            if let Some(total) = self.dropped.add(cx.clock.now, 1) {
                let command = escape::line(&self.handler.command);
                let text =
                    format!("Script '{command}' is too slow, dropping its oldest events: {total} so far");
                cx.log(Level::Warn, "agent", &text);
            }
        }
        self.queue.push_back(job);
        dropped
    }
}

fn log_result(command: &str, kind: &str, status: &ChildStatus, output: &[u8], cx: &mut Cx<'_>) {
    let failure = match status {
        ChildStatus::NotStarted(why) => {
            cx.log(
                Level::Err,
                "agent",
                &format!("Error invoking script '{command}': {}", escape::line(why.as_bytes())),
            );
            return;
        }
        ChildStatus::Exited(0) => None,
        ChildStatus::Exited(status) => Some(format!("exit status {status}")),
        ChildStatus::Signaled(signal) => Some(format!("signal: {}", signal_name(*signal))),
    };
    cx.log(Level::Debug, "agent", &format!("Event '{kind}' script output: {}", escape::block(output)));
    if let Some(failure) = failure {
        let mut text = format!("Error invoking script '{command}': {failure}");
        if let Some(last) = last_line(output) {
            text.push_str(": ");
            text.push_str(&escape::line(last));
        }
        cx.log(Level::Err, "agent", &text);
    }
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
