//! Standard output, written by a thread: whoever reads it slowly, or not at all, does not stop the agent.
//!
//! Invariant: what is printed appears whole and in order; when too much waits, the newest is dropped,
//! and the next piece that finds room says how many were.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

/// Prints pieces of text in order.
#[derive(Debug)]
pub struct Console {
    pieces: Option<SyncSender<Vec<u8>>>,
    done: Receiver<()>,
    dropped: u64,
}

impl Console {
    /// Prints to `out`; when its reader has gone, [`Arrival::OutputClosed`] is put into the inbox once.
    pub fn new(out: impl Write + Send + 'static, inbox: Sender) -> io::Result<Console> {
        let (pieces, to_write) = sync_channel(limits::CONSOLE);
        let (finished, done) = channel();
        thread::Builder::new().name("console".to_owned()).stack_size(limits::THREAD_STACK).spawn(
            move || {
                write_all(out, &to_write, &inbox);
                // Nobody may be waiting for the end, which is fine.
                let _ = finished.send(());
            },
        )?;
        Ok(Console { pieces: Some(pieces), done, dropped: 0 })
    }

    /// Prints these bytes.
    pub fn print(&mut self, bytes: &[u8]) {
        let Some(pieces) = &self.pieces else { return };
        let mut piece = Vec::new();
        if self.dropped > 0 {
            piece =
                format!("==> Output was not read in time: {} pieces are missing here\n", self.dropped).into();
        }
        piece.extend_from_slice(bytes);
        match pieces.try_send(piece) {
            Ok(()) => self.dropped = 0,
            Err(TrySendError::Full(_)) => self.dropped += 1,
            // Nobody reads: the driver has been told.
            Err(TrySendError::Disconnected(_)) => self.pieces = None,
        }
    }

    /// Waits until everything is written, for [`limits::EXIT_LINGER`] at most.
    pub fn finish(&mut self) {
        self.pieces = None;
        // Late or gone: either way there is nothing more to wait for.
        let _ = self.done.recv_timeout(limits::EXIT_LINGER);
    }
}

fn write_all(mut out: impl Write, pieces: &Receiver<Vec<u8>>, inbox: &Sender) {
    for piece in pieces {
        let written = write_whole(&mut out, &piece);
        // A full disk may have room again; a reader that is gone does not come back.
        if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            let _ = inbox.put_blocking(Arrival::OutputClosed);
            return;
        }
    }
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
        let (sender, _inbox) = inbox();
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut console = Console::new(writer, sender).expect("a thread");
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
        assert!(text.ends_with(b"pieces are missing here\nlast\n"));
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
