//! Signals that the agent acts on, as arrivals.
//!
//! SIGPIPE stays ignored, as Rust's runtime sets it, so that a closed connection or output is an error and not
//! the end of the process. SIGUSR2 and SIGCHLD are caught and have no effect (agent.md 10). They are caught
//! and not ignored, because children inherit what is ignored; and whoever starts the agent with SIGCHLD ignored
//! would otherwise take from it how its children ended.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::{io, thread};
use villein_agent::io::Signal;

/// From now on SIGINT, SIGTERM, SIGHUP and SIGUSR1 do not kill the process, but arrive in the inbox; SIGUSR2
/// does nothing.
pub fn watch(inbox: Sender) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
    let thread = thread::Builder::new().name("signals".to_owned()).stack_size(limits::THREAD_STACK);
    thread.spawn(move || {
        for number in signals.forever() {
            let signal = match number {
                SIGINT => Signal::Interrupt,
                SIGTERM => Signal::Terminate,
                SIGHUP => Signal::Hangup,
                SIGUSR1 => Signal::User1,
                _ => continue,
            };
            if inbox.put_blocking(Arrival::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::inbox;

    #[test]
    fn a_signal_arrives_unless_it_means_nothing() {
        let (sender, mut inbox) = inbox();
        watch(sender).expect("signals can be watched");
        for (raised, signal) in
            [(SIGUSR2, None), (SIGUSR1, Some(Signal::User1)), (SIGCHLD, None), (SIGHUP, Some(Signal::Hangup))]
        {
            signal_hook::low_level::raise(raised).expect("a signal can be raised");
            let Some(signal) = signal else { continue };
            let arrived = loop {
                match inbox.take() {
                    Some(arrival) => break arrival,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(arrived, Arrival::Signal(signal));
        }
    }
}
