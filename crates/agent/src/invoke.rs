//! Running event handlers: one queue and at most one child for each (agent.md 12.2, 12.5).
//!
//! Scripts run one after the other, in the order of events and for one event in that of the configuration,
//! because scripts that share a file rely on it. A script that has become slow gives its turn away: from
//! then on it delays the later events of its own handler and nothing else. When it hangs for good, its
//! queue fills up and the oldest events are dropped with a log line. What the child gets is decided by
//! [`script`](crate::script), when it starts: the tags are those of that moment.
//!
//! Invariant: a job waits for a script that is not slow yet, or for its own handler's.

use crate::answers::Answers;
use crate::cx::Cx;
use crate::escape;
use crate::handler::Handler;
use crate::io::{ChildId, ChildStatus};
use crate::limits::{HANDLER_QUEUE, HANDLER_QUEUE_BYTES, HANDLER_SLOW};
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
    /// Of the next event.
    next_number: u64,
    answers: Answers,
}

#[derive(Debug)]
struct Lane {
    handler: Handler,
    queue: Queue,
    running: Option<Run>,
    dropped: Throttle,
}

/// Jobs that wait with the numbers of their events, bounded in number and in bytes.
#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<(u64, Job)>,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    kind: &'static str,
    query: Option<Asked>,
    /// When it is called slow; `None` once it is.
    slow_at: Option<Instant>,
}

impl Invoker {
    /// Handlers in the order of the configuration.
    pub(crate) fn new(handlers: &[Handler]) -> Invoker {
        let lane = |handler: &Handler| Lane {
            handler: handler.clone(),
            queue: Queue::default(),
            running: None,
            dropped: Throttle::default(),
        };
        Invoker {
            lanes: handlers.iter().map(lane).collect(),
            children: BTreeMap::new(),
            next_child: 0,
            next_number: 0,
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
        self.next_number += 1;
        for index in wanted {
            for asked in self.lanes[index].push((self.next_number, job.clone()), cx) {
                self.answers.ended(&asked, index, b"", cx);
            }
        }
        self.start_next(cx);
    }

    /// Takes the end of a child, logs it, and starts what is next.
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
        self.start_next(cx);
    }

    /// Says which handlers have become slow; others get their turn.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        for lane in &mut self.lanes {
            let Some(run) = &mut lane.running else { continue };
            if run.slow_at.is_some_and(|slow_at| slow_at <= cx.clock.now) {
                run.slow_at = None;
                let command = escape::line(&lane.handler.command);
                cx.log(Level::Warn, "agent", &format!("Script '{command}' slow, execution exceeding 1s"));
            }
        }
        self.start_next(cx);
    }

    /// When a handler becomes slow next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.running.as_ref()?.slow_at).min()
    }

    /// Starts the first of the jobs whose handler is free, unless a script runs that is not slow yet.
    fn start_next(&mut self, cx: &mut Cx<'_>) {
        while !self.lanes.iter().any(Lane::is_quick)
            && let Some(index) = self.next_lane()
        {
            self.start(index, cx);
        }
    }

    /// The free handler with the first job: of the first event, and of the first handler for it.
    fn next_lane(&self) -> Option<usize> {
        let free = self.lanes.iter().enumerate().filter(|(_, lane)| lane.running.is_none());
        free.filter_map(|(index, lane)| Some((lane.queue.jobs.front()?.0, index)))
            .min()
            .map(|(_, index)| index)
    }

    /// Starts the next job of a free handler.
    fn start(&mut self, index: usize, cx: &mut Cx<'_>) {
        let lane = &mut self.lanes[index];
        let Some(job) = lane.queue.pop() else { return };
        let Some(spawn) = job.spawn(&lane.handler.command, &cx.node.local_member()) else {
            let command = escape::line(&lane.handler.command);
            let why = "exec: environment variable contains NUL";
            cx.log(Level::Err, "agent", &format!("Error invoking script '{command}': {why}"));
            if let Some(asked) = job.query {
                self.answers.ended(&asked, index, b"", cx);
            }
            return;
        };
        let id = ChildId(self.next_child);
        self.next_child += 1;
        self.children.insert(id, index);
        let slow_at = Some(cx.clock.now + HANDLER_SLOW);
        lane.running = Some(Run { kind: job.kind, query: job.query, slow_at });
        cx.out.spawn(id, spawn);
    }
}

impl Lane {
    /// Whether it has a script that is not slow yet.
    fn is_quick(&self) -> bool {
        self.running.as_ref().is_some_and(|run| run.slow_at.is_some())
    }

    /// Appends the job of an event; gives the queries of those that were dropped to make room.
    fn push(&mut self, (number, job): (u64, Job), cx: &mut Cx<'_>) -> Vec<Asked> {
        let dropped = self.queue.push(number, job);
        if !dropped.is_empty()
            && let Some(total) = self.dropped.add(cx.clock.now, dropped.len() as u64)
        {
            let command = escape::line(&self.handler.command);
            let text = format!("Script '{command}' is too slow, dropping its oldest events: {total} so far");
            cx.log(Level::Warn, "agent", &text);
        }
        dropped.into_iter().filter_map(|job| job.query).collect()
    }
}

impl Queue {
    /// Appends a job; gives the oldest ones, which make room for it. A single job always has room.
    fn push(&mut self, number: u64, job: Job) -> Vec<Job> {
        let mut dropped = Vec::new();
        while (self.jobs.len() >= HANDLER_QUEUE || self.bytes + job.bytes() > HANDLER_QUEUE_BYTES)
            && let Some(oldest) = self.pop()
        {
            dropped.push(oldest);
        }
        self.bytes += job.bytes();
        self.jobs.push_back((number, job));
        dropped
    }

    fn pop(&mut self) -> Option<Job> {
        let (_, job) = self.jobs.pop_front()?;
        self.bytes -= job.bytes();
        Some(job)
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
    fn long_events_make_room_for_later_ones() {
        let job = |bytes: usize| {
            let payload = Some(vec![b'\n'; bytes].into_boxed_slice());
            let event = Event::User { ltime: 1, name: "".into(), payload, coalesce: false };
            Job::new(&event).expect("the event is for handlers")
        };
        let mut queue = Queue::default();
        for _ in 0..3 {
            assert!(queue.push(1, job(HANDLER_QUEUE_BYTES / 4)).is_empty());
        }
        assert_eq!(queue.push(1, job(HANDLER_QUEUE_BYTES / 2)).len(), 2);
        assert_eq!(queue.push(1, job(2 * HANDLER_QUEUE_BYTES)).len(), 2, "a single job always has room");
        assert_eq!(queue.push(1, job(1)).len(), 1);
        assert!(queue.pop().is_some() && queue.pop().is_none());
        assert_eq!(queue.bytes, 0);
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
