//! Signals that the agent acts on, as arrivals.
//!
//! SIGPIPE stays ignored, as Rust's runtime sets it, so that a closed connection or output is an error and not
//! the end of the process. SIGUSR1 and SIGUSR2 are caught and have no effect (agent.md 10): Serf prints its
//! metrics on the first, and who sends it to ask for them does not mean to kill the agent. They are caught
//! and not ignored, because children inherit what is ignored.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::{io, thread};
use villein_agent::io::Signal;

/// From now on SIGINT, SIGTERM and SIGHUP do not kill the process, but arrive in the inbox; SIGUSR1 and
/// SIGUSR2 do nothing.
pub fn watch(inbox: Sender) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let thread = thread::Builder::new().name("signals".to_owned()).stack_size(limits::THREAD_STACK);
    thread.spawn(move || {
        for number in signals.forever() {
            let signal = match number {
                SIGINT => Signal::Interrupt,
                SIGTERM => Signal::Terminate,
                SIGHUP => Signal::Hangup,
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
        for signal in [SIGUSR1, SIGUSR2, SIGHUP] {
            signal_hook::low_level::raise(signal).expect("a signal can be raised");
        }
        let arrived = loop {
            match inbox.take() {
                Some(arrival) => break arrival,
                None => thread::yield_now(),
            }
        };
        assert_eq!(arrived, Arrival::Signal(Signal::Hangup));
    }
}
