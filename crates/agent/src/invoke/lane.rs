//! What waits for one handler, and what became of its events so far.
//!
//! Invariant: what waits is bounded in number and in bytes; the oldest make room for the latest.

use crate::cx::Cx;
use crate::escape;
use crate::handler::Handler;
use crate::limits::HANDLER_QUEUE_BYTES;
use crate::script::Job;
use crate::throttle::Throttle;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use villein_core::note::Level;
use villein_core::time::Duration;

/// A handler with its events.
#[derive(Debug)]
pub(super) struct Lane {
    /// Never reused, whatever the configuration becomes.
    pub(super) id: u64,
    pub(super) handler: Arc<Handler>,
    queue: Queue,
    counts: HandlerCounts,
    losses: Throttle,
}

/// Numbers about one handler, for `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HandlerCounts {
    /// Scripts that have ended, or could not be started, or were given up.
    pub(crate) runs: u64,
    /// Those of them that did not exit with 0 in time.
    pub(crate) failed: u64,
    /// Those of the failed that ran out of time.
    pub(crate) timeouts: u64,
    /// Events that had to make room for later ones.
    pub(crate) dropped: u64,
    /// Events that wait.
    pub(crate) waiting: usize,
    /// Scripts that run, also of the command that stood here before: they count among those that may run at once.
    pub(crate) running: usize,
    /// How the last script ended, and how long it ran.
    pub(crate) last: Option<(Exit, Duration)>,
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(i32),
    Signal(i32),
    NotStarted,
    TimedOut,
}

/// The job of an event that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Of the event: later ones have larger numbers.
    pub(super) number: u64,
    /// Of the handler in the configuration when the event came.
    pub(super) place: usize,
    pub(super) job: Job,
}

/// Jobs that wait, bounded in number and in bytes.
#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Waiting>,
    bytes: usize,
}

impl Lane {
    pub(super) fn new(id: u64, handler: &Handler) -> Lane {
        Lane {
            id,
            handler: Arc::new(handler.clone()),
            queue: Queue::default(),
            counts: HandlerCounts::default(),
            losses: Throttle::default(),
        }
    }

    /// Whether it is the lane of this handler, perhaps with other options.
    pub(super) fn is_for(&self, handler: &Handler) -> bool {
        self.handler.filter == handler.filter && self.handler.command == handler.command
    }

    /// Whether it has the events that this handler wants.
    pub(super) fn has_filter_of(&self, handler: &Handler) -> bool {
        self.handler.filter == handler.filter
    }

    /// The same lane for `handler`, with what waits and what runs, so that events keep their order. The numbers are
    /// those of a command: another one begins anew.
    pub(super) fn with(self, handler: &Handler) -> Lane {
        let lane = Lane { handler: Arc::new(handler.clone()), ..self };
        if lane.handler.command == self.handler.command {
            return lane;
        }
        let counts = HandlerCounts { running: lane.counts.running, ..HandlerCounts::default() };
        Lane { counts, losses: Throttle::default(), ..lane }
    }

    /// Whether one more of its scripts may run.
    pub(super) fn has_room(&self) -> bool {
        self.counts.running < self.handler.concurrency
    }

    /// Whether its scripts wait for those of other handlers.
    pub(super) fn takes_turns(&self) -> bool {
        self.handler.takes_turns()
    }

    /// Where its oldest job stands among those of all handlers: by its event, then by the configuration.
    pub(super) fn first(&self) -> Option<(u64, usize)> {
        self.queue.jobs.front().map(|waiting| (waiting.number, waiting.place))
    }

    pub(super) fn counts(&self) -> HandlerCounts {
        HandlerCounts { waiting: self.queue.jobs.len(), ..self.counts }
    }

    /// Takes the oldest job, with the handler and the number of the lane: it is about to run.
    pub(super) fn take(&mut self) -> Option<(Waiting, Arc<Handler>, u64)> {
        let waiting = self.queue.pop()?;
        self.counts.running += 1;
        Some((waiting, self.handler.clone(), self.id))
    }

    /// A script that was started for `handler`, as it was then, does not run any more.
    pub(super) fn on_end(&mut self, handler: &Handler, exit: Exit, took: Duration) {
        self.counts.running -= 1;
        if handler.command == self.handler.command {
            self.counts.add(exit, took);
        }
    }

    /// Appends the job of an event; gives those that were dropped to make room.
    pub(super) fn push(&mut self, waiting: Waiting, cx: &mut Cx<'_>) -> Vec<Waiting> {
        let dropped = self.queue.push(waiting, self.handler.queue);
        let count = dropped.len() as u64;
        self.counts.dropped += count;
        cx.counters.handlers_dropped += count;
        if count > 0
            && let Some(total) = self.losses.add(cx.clock.now, count)
        {
            let command = escape::line(&self.handler.command);
            let text = format!("Script '{command}' is too slow, dropping its oldest events: {total} so far");
            cx.log(Level::Warn, "agent", &text);
        }
        dropped
    }

    /// The handler is no longer wanted; gives what waited for it.
    pub(super) fn give_up(self, cx: &mut Cx<'_>) -> VecDeque<Waiting> {
        let count = self.queue.jobs.len() as u64;
        cx.counters.handlers_dropped += count;
        if count > 0 {
            let command = escape::line(&self.handler.command);
            let text = format!("Script '{command}' is no event handler any more, dropping {count} events");
            cx.log(Level::Warn, "agent", &text);
        }
        self.queue.jobs
    }
}

impl HandlerCounts {
    /// One of the scripts has ended.
    fn add(&mut self, exit: Exit, took: Duration) {
        self.runs += 1;
        self.failed += u64::from(exit != Exit::Status(0));
        self.timeouts += u64::from(exit == Exit::TimedOut);
        self.last = Some((exit, took));
    }
}

/// One word.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "{status}"),
            Exit::Signal(signal) => write!(f, "signal:{signal}"),
            Exit::NotStarted => f.write_str("not-started"),
            Exit::TimedOut => f.write_str("timeout"),
        }
    }
}

impl Queue {
    /// Appends a job; gives the oldest ones, which make room for it. A single job always has room.
    fn push(&mut self, waiting: Waiting, room: usize) -> Vec<Waiting> {
        let bytes = waiting.job.bytes();
        let mut dropped = Vec::new();
        while (self.jobs.len() >= room || self.bytes + bytes > HANDLER_QUEUE_BYTES)
            && let Some(oldest) = self.pop()
        {
            dropped.push(oldest);
        }
        self.bytes += bytes;
        self.jobs.push_back(waiting);
        dropped
    }

    /// Takes the oldest job.
    fn pop(&mut self) -> Option<Waiting> {
        let oldest = self.jobs.pop_front()?;
        self.bytes -= oldest.job.bytes();
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HANDLER_QUEUE;
    use villein_core::member::Event;

    #[test]
    fn long_events_make_room_for_later_ones() {
        let waiting = |bytes: usize| {
            let payload = Some(vec![b'\n'; bytes].into_boxed_slice());
            let event = Event::User { ltime: 1, name: "".into(), payload, coalesce: false };
            Waiting { number: 1, place: 0, job: Job::new(&event).expect("the event is for handlers") }
        };
        let mut queue = Queue::default();
        let mut push = |bytes: usize| queue.push(waiting(bytes), HANDLER_QUEUE).len();
        for _ in 0..3 {
            assert_eq!(push(HANDLER_QUEUE_BYTES / 4), 0);
        }
        assert_eq!(push(HANDLER_QUEUE_BYTES / 2), 2);
        assert_eq!(push(2 * HANDLER_QUEUE_BYTES), 2, "a single job always has room");
        assert_eq!(push(1), 1);
        assert!(queue.pop().is_some() && queue.pop().is_none());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn only_an_exit_with_zero_is_no_failure() {
        let mut counts = HandlerCounts::default();
        for (exit, failed, timeouts) in [
            (Exit::Status(0), 0, 0),
            (Exit::Status(1), 1, 0),
            (Exit::Signal(9), 2, 0),
            (Exit::NotStarted, 3, 0),
            (Exit::TimedOut, 4, 1),
        ] {
            counts.add(exit, Duration::from_millis(7));
            assert_eq!((counts.failed, counts.timeouts), (failed, timeouts));
            assert_eq!(counts.last, Some((exit, Duration::from_millis(7))));
        }
        assert_eq!(counts.runs, 5);
    }
}
