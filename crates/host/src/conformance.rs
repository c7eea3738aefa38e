//! What every runtime must be able to do, tried with real agents, sockets and children.
//!
//! A runtime's tests call [`all`] with its run function. The checks know nothing of the runtime but that
//! function, and of the agent only what an operator, a client or a peer sees: its output, its RPC port, its gossip
//! port, its exit status; and of the process what it holds of the system. They wait for events with generous limits
//! and measure no speed; everything listens on free ports of the loopback address.
//!
//! They count the descriptors and threads of the process, take its signals, and lower its limits for a moment: nothing
//! else may go on in it meanwhile, which [`alone`] sees to.

mod connections;
mod datagrams;
mod endings;
mod lab;
mod others;
mod streams;

use crate::boot::Boot;
#[cfg(test)]
pub(crate) use lab::{Screen, config};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The run function of a runtime.
pub type Run = fn(Boot) -> io::Result<u8>;

/// A name for people, and what panics if the runtime lacks it.
type Check = (&'static str, fn(Run));

/// Holds up whoever else wants the process for itself.
#[derive(Debug)]
pub(crate) struct Alone(#[expect(dead_code, reason = "it is held, not read")] MutexGuard<'static, ()>);

/// Waits until nobody else is.
pub(crate) fn alone() -> Alone {
    static PROCESS: Mutex<()> = Mutex::new(());
    // Whoever has failed is no longer there.
    Alone(PROCESS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Every check, in turn; panics at the first that fails.
pub fn all(run: Run) {
    let _alone = alone();
    // What a process has from its first agent on is no leak.
    lab::Running::ready(run, "first").stop();
    let subjects = [
        endings::CHECKS,
        streams::CHECKS,
        connections::CHECKS,
        datagrams::CHECKS,
        others::CHECKS,
        endings::LAST_CHECKS,
    ];
    for (name, check) in subjects.into_iter().flatten() {
        eprintln!("conformance: {name}");
        check(run);
    }
}
