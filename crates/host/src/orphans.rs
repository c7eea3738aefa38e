//! Orphans: processes that outlive the scripts which started them.
//!
//! As the first process of a container the agent inherits every process whose parent has ended, and nobody else can
//! reap it: without that, each leaves an entry in the table of processes for as long as the container runs.
//! Elsewhere this has nothing to do.
//!
//! Invariant: a child that [`Waited`] has started is reaped by [`Waited`] alone, for whoever waits for it. Until then it
//! is known, and nobody else gets its number.

use crate::worker::thread_named;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The children of ours that are waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waited {
    /// `None` where orphans are the business of others.
    known: Option<Arc<Mutex<BTreeSet<u32>>>>,
}

impl Waited {
    /// From now on all other children are reaped when they have ended, if that is up to us.
    pub(crate) fn new() -> Waited {
        if std::process::id() != 1 {
            return Waited::default();
        }
        let waited = Waited { known: Some(Arc::default()) };
        let reaper = waited.clone();
        let started = Signals::new([SIGCHLD]).and_then(|mut signals| {
            thread_named("orphans").spawn(move || {
                // Several ends may make one signal.
                for _ in signals.forever() {
                    reaper.reap_others();
                }
            })
        });
        // Without it orphans stay, which is no reason not to run.
        let _ = started;
        waited
    }

    /// Starts a child that is to be reaped with [`reap`](Waited::reap).
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let Some(mut known) = self.lock() else { return command.spawn() };
        let child = command.spawn()?;
        known.insert(child.id());
        Ok(child)
    }

    /// Takes the status of a child that has exited.
    pub(crate) fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let Some(mut known) = self.lock() else { return child.wait() };
        let status = child.wait();
        known.remove(&child.id());
        status
    }

    fn lock(&self) -> Option<MutexGuard<'_, BTreeSet<u32>>> {
        self.known.as_ref().map(|known| known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reap_others(&self) {
        let Some(known) = self.lock() else { return };
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.filter_map(Result::ok) {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            if is_dead_child_of(std::process::id(), &stat) && !known.contains(&pid) {
                // How it ended is of interest to nobody.
                let _ = waitpid(Pid::from_raw(pid.cast_signed()), Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

/// What `/proc/PID/stat` shows of a process: `PID (NAME) STATE PARENT ...`, with anything in the name.
fn is_dead_child_of(parent: u32, stat: &str) -> bool {
    let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    words.next() == Some("Z") && words.next().and_then(|word| word.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_child_of_ours() {
        let cases = [
            ("41 (bash) Z 1 1 1 0", true),
            ("41 (a) Z 1) (b) Z 1 1", true),
            ("41 (bash) S 1 1 1 0", false),
            ("41 (bash) Z 12 1 1 0", false),
            ("41 (bash) Z", false),
            ("", false),
        ];
        for (stat, expected) in cases {
            assert_eq!(is_dead_child_of(1, stat), expected, "{stat}");
        }
    }

    #[test]
    fn what_is_known_is_left_to_whoever_waits() {
        let waited = Waited { known: Some(Arc::default()) };
        let mut child = waited.start(Command::new("/bin/sh").args(["-c", "exit 3"])).expect("it starts");
        let stat = format!("/proc/{}/stat", child.id());
        while !is_dead_child_of(std::process::id(), &fs::read_to_string(&stat).expect("it is not reaped")) {
            std::thread::yield_now();
        }
        // Children of other tests are not known here: those would be taken from them.
        assert!(waited.lock().is_some_and(|known| known.contains(&child.id())));
        assert_eq!(waited.reap(&mut child).expect("its status is there").code(), Some(3));
        assert!(waited.lock().is_some_and(|known| known.is_empty()));
    }
}
