//! A thread with a bounded queue of jobs, taken in order.
//!
//! Decides nothing about the jobs; whoever gives them hears at once when there is no room. Invariant: giving
//! never waits, and closing lets the thread finish what it was given.

use crate::limits;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Instant;

/// Gives jobs to its thread.
#[derive(Debug)]
pub(crate) struct Worker<J> {
    jobs: SyncSender<J>,
    done: Receiver<()>,
}

impl<J: Send + 'static> Worker<J> {
    /// Starts a thread that does `work` with up to `room` jobs waiting; the jobs end when the worker is closed.
    pub(crate) fn start(
        thread: thread::Builder,
        room: usize,
        work: impl FnOnce(Receiver<J>) + Send + 'static,
    ) -> io::Result<Worker<J>> {
        let (jobs, to_do) = sync_channel(room);
        let (finished, done) = channel();
        thread.spawn(move || {
            work(to_do);
            // Nobody may be waiting for the end, which is fine.
            let _ = finished.send(());
        })?;
        Ok(Worker { jobs, done })
    }

    /// Hands a job over, or back when there is no room or the work is over.
    pub(crate) fn give(&self, job: J) -> Result<(), J> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// Takes no more jobs; those that it has are done.
    pub(crate) fn close(self) -> Ending {
        Ending(self.done)
    }
}

/// Of a worker that was closed.
#[derive(Debug)]
pub(crate) struct Ending(Receiver<()>);

impl Ending {
    /// Waits for it, at most until then.
    pub(crate) fn wait(&self, until: Instant) {
        // Late or gone: either way there is nothing more to wait for.
        let _ = self.0.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// A thread that only waits and copies.
pub(crate) fn thread_named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(limits::THREAD_STACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_beyond_the_room_come_back_and_the_others_are_done_in_order() {
        let (go, wait) = channel::<()>();
        let (done, results) = channel();
        let worker = Worker::start(thread_named("test"), 2, move |jobs| {
            wait.recv().expect("it is told");
            for job in jobs {
                done.send(job).expect("the test listens");
            }
        })
        .expect("a thread");
        assert_eq!((1..=4).map(|job| worker.give(job)).collect::<Vec<_>>(), [Ok(()), Ok(()), Err(3), Err(4)]);
        let ending = worker.close();
        go.send(()).expect("it waits");
        ending.wait(Instant::now() + std::time::Duration::from_mins(1));
        assert_eq!(results.try_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
