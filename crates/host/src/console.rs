//! Standard output, and standard error, written by a thread: whoever reads it slowly, or not at all, does not stop
//! the agent.
//!
//! Invariant: what is printed appears whole and in order; when too much waits, the newest is dropped,
//! and the next piece that finds room says how many were.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::worker::{Ending, Worker, thread_named};
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;
use villein_agent::config::LogFormat;

/// Prints pieces of text in order.
#[derive(Debug)]
pub struct Console {
    writer: Option<Worker<Vec<u8>>>,
    format: LogFormat,
    dropped: u64,
}

impl Console {
    /// Prints to `out`; when its reader has gone, [`Arrival::OutputClosed`] is put into the inbox once.
    pub fn new(out: impl Write + Send + 'static, inbox: Sender) -> io::Result<Console> {
        Console::start(out, Some(inbox))
    }

    /// Prints to `out`, which may have no reader.
    pub(crate) fn unheard(out: impl Write + Send + 'static) -> io::Result<Console> {
        Console::start(out, None)
    }

    fn start(out: impl Write + Send + 'static, inbox: Option<Sender>) -> io::Result<Console> {
        let writer = Worker::start(thread_named("console"), limits::CONSOLE, move |pieces| {
            if write_all(out, &pieces).is_err()
                && let Some(inbox) = inbox
            {
                // The driver may have gone, which is fine.
                let _ = inbox.put_blocking(Arrival::OutputClosed);
            }
        })?;
        Ok(Console { writer: Some(writer), format: LogFormat::Text, dropped: 0 })
    }

    /// What is said here besides is in the form of the log that is printed.
    #[must_use]
    pub fn with_format(self, format: LogFormat) -> Console {
        Console { format, ..self }
    }

    /// Prints these bytes.
    pub fn print(&mut self, bytes: &[u8]) {
        let Some(writer) = &self.writer else { return };
        let mut piece = Vec::new();
        if self.dropped > 0 {
            let what = format!("Output was not read in time: {} pieces are missing here", self.dropped);
            let line = match self.format {
                LogFormat::Text => format!("==> {what}"),
                LogFormat::Json => format!(r#"{{"level":"WARN","component":"agent","message":"{what}"}}"#),
            };
            piece = (line + "\n").into();
        }
        piece.extend_from_slice(bytes);
        match writer.give(piece) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += 1,
        }
    }

    /// Waits until everything is written, for [`limits::EXIT_LINGER`] at most.
    pub fn finish(&mut self) {
        let until = Instant::now() + limits::EXIT_LINGER;
        self.close().inspect(|ending| ending.wait(until));
    }

    /// Takes no more; what was taken is written.
    pub(crate) fn close(&mut self) -> Option<Ending> {
        self.writer.take().map(Worker::close)
    }
}

/// Writes until the end, or until the reader has gone.
fn write_all(mut out: impl Write, pieces: &Receiver<Vec<u8>>) -> io::Result<()> {
    for piece in pieces {
        match write_whole(&mut out, &piece) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(error),
            // A full disk may have room again; a reader that is gone does not come back.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn write_whole(out: &mut impl Write, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match insist(|| out.write(piece))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            length => piece = &piece[length..],
        }
    }
    insist(|| out.flush())
}

/// Tries again whatever an output refuses to wait for: others who share it may have made it so.
fn insist<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(limits::CONSOLE_RETRY),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::inbox;
    use std::io::Read;
    use std::sync::{Arc, Mutex};

    #[test]
    fn everything_is_written_before_the_end() {
        let (sender, _inbox) = inbox();
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut console = Console::new(writer, sender).expect("a thread");
        console.print(b"one\n");
        console.print(b"two\n");
        console.finish();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("it was text");
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_reader_that_sleeps_costs_output_and_nothing_else() {
        for (format, said) in
            [(LogFormat::Text, " pieces are missing here\n"), (LogFormat::Json, " here\"}\n")]
        {
            let (sender, _inbox) = inbox();
            let (mut reader, writer) = io::pipe().expect("a pipe");
            let mut console = Console::new(writer, sender).expect("a thread").with_format(format);
            // More than the queue and any pipe hold.
            for _ in 0..3 * limits::CONSOLE {
                console.print(&[b'x'; 2000]);
            }
            assert!(console.dropped > 0);
            let drain = thread::spawn(move || {
                let mut text = Vec::new();
                reader.read_to_end(&mut text).expect("a pipe can be read");
                text
            });
            while console.dropped > 0 {
                thread::yield_now();
                console.print(b"last\n");
            }
            console.finish();
            let text = drain.join().expect("it only reads");
            assert!(text.ends_with(format!("{said}last\n").as_bytes()));
        }
    }

    /// Takes three bytes at a time, and refuses every second attempt.
    #[derive(Clone, Default)]
    struct Reluctant {
        taken: Arc<Mutex<Vec<u8>>>,
        attempts: u32,
    }

    impl Reluctant {
        fn refuse(&mut self) -> io::Result<()> {
            self.attempts += 1;
            if self.attempts % 2 == 1 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.refuse()?;
            let length = bytes.len().min(3);
            self.taken.lock().expect("nobody panics").extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.refuse()
        }
    }

    #[test]
    fn an_output_that_does_not_wait_is_tried_again() {
        let (sender, mut inbox) = inbox();
        let out = Reluctant::default();
        let mut console = Console::new(out.clone(), sender).expect("a thread");
        console.print(b"one\n");
        console.print(b"two\n");
        console.finish();
        assert_eq!(out.taken.lock().expect("nobody panics").as_slice(), b"one\ntwo\n");
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_reader_that_is_gone_is_told_once() {
        let (sender, mut inbox) = inbox();
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut console = Console::new(writer, sender).expect("a thread");
        console.print(b"one\n");
        console.print(b"two\n");
        console.finish();
        assert_eq!(inbox.take(), Some(Arrival::OutputClosed));
        assert_eq!(inbox.take(), None);
    }
}
