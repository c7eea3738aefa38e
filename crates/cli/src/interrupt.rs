//! What Ctrl-C does to commands that wait: they end at once, with a status of their own choice.
//!
//! A thread waits for the signal, because the command itself is blocked in a read. Lines that were
//! printed stay; nothing else is printed but the farewell.

use std::io::{self, Write};
use std::{process, thread};

use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

/// From now on, SIGINT prints `farewell` and ends the program with `status`.
pub(crate) fn end_on_interrupt(status: i32, farewell: &'static [u8]) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT])?;
    thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody may be reading any more; the program ends all the same.
            let _ = io::stdout().write_all(farewell);
            process::exit(status);
        }
    })?;
    Ok(())
}
