//! TCP connections on any event loop: a task each, whose halves read into the inbox and write what the driver gave.
//!
//! Invariants: a connection that is closed or aborted is out of reach at once; what it still does (deliver
//! its last bytes, wait for the peer to take them) is bounded by [`limits::CLOSE_LINGER`], and ends early
//! when a new connection needs the place. A reader has at most one piece of bytes in the inbox.

#[cfg(feature = "conformance")]
pub(crate) mod checks;

use crate::boot::Port;
use crate::inbox::{ConnArrival, Sender};
use crate::limits;
use crate::os_words;
use crate::serve::EventLoop;
use async_channel::{Receiver, RecvError, Sender as Bytes};
use async_executor::{LocalExecutor, Task};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future, io::split};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use villein_agent::io::Conn;

/// All connections that the driver can reach, on one event loop.
pub(crate) struct Links<L> {
    event_loop: PhantomData<L>,
    executor: Rc<LocalExecutor<'static>>,
    inbox: Sender,
    open: RefCell<BTreeMap<Conn, Link>>,
    /// Those that are closed and may still deliver, in the order in which they were closed; by the port
    /// where they were accepted, or `None` if they were dialled.
    lingering: RefCell<BTreeMap<Option<Port>, VecDeque<Task<()>>>>,
    unwritten: Rc<Unwritten>,
}

struct Link {
    bytes: Bytes<Vec<u8>>,
    share: Rc<Share>,
    /// Its end tells the task that the driver wants to hear nothing more.
    _closed: Bytes<Infallible>,
    task: Task<()>,
}

/// A number of accepted connections that exist.
pub(crate) struct Places {
    taken: Rc<()>,
    limit: usize,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Places {
        Places { taken: Rc::new(()), limit }
    }

    /// A place until it is dropped.
    pub(crate) fn take(&self) -> Option<Rc<()>> {
        (Rc::strong_count(&self.taken) <= self.limit).then(|| self.taken.clone())
    }
}

/// Bytes that wait to be written, on all connections.
struct Unwritten {
    bytes: Cell<usize>,
    is_zero: (Bytes<()>, Receiver<()>),
}

/// What driver and task share of one connection; its bytes are given back when the connection is gone.
struct Share {
    bytes: Cell<usize>,
    all: Rc<Unwritten>,
}

impl Share {
    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.all.bytes.set(self.all.bytes.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.all.bytes.set(self.all.bytes.get() - bytes);
        if self.all.bytes.get() == 0 {
            // A signal that is already there does as well.
            let _ = self.all.is_zero.0.try_send(());
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.subtract(self.bytes.get());
    }
}

impl<L: EventLoop> Links<L> {
    pub(crate) fn new(executor: Rc<LocalExecutor<'static>>, inbox: Sender) -> Links<L> {
        let unwritten = Rc::new(Unwritten { bytes: Cell::new(0), is_zero: async_channel::bounded(1) });
        Links {
            event_loop: PhantomData,
            executor,
            inbox,
            open: RefCell::default(),
            lingering: RefCell::default(),
            unwritten,
        }
    }

    /// A place for a connection accepted on `port`. When there is none, the connection that was closed first
    /// and still lingers gives up its own.
    pub(crate) async fn place(&self, port: Port, places: &Places) -> Option<Rc<()>> {
        loop {
            if let Some(place) = places.take() {
                return Some(place);
            }
            let oldest = self.lingering.borrow_mut().get_mut(&Some(port)).and_then(VecDeque::pop_front);
            oldest?.cancel().await;
        }
    }

    /// Serves the stream that `opening` brings, and keeps what comes with it for as long.
    pub(crate) fn open<K: 'static>(
        &self,
        conn: Conn,
        opening: impl Future<Output = io::Result<(L::Stream, K)>> + 'static,
    ) {
        let (bytes, to_write) = async_channel::unbounded();
        let (closed, closing) = async_channel::bounded(1);
        let share = Rc::new(Share { bytes: Cell::new(0), all: self.unwritten.clone() });
        let (inbox, share_of_task) = (self.inbox.clone(), share.clone());
        let task = self.executor.spawn(async move {
            let talk = async {
                let (stream, _kept) = opening.await?;
                // Requests and answers are small and awaited; a system that refuses only makes them slower.
                let _ = L::set_nodelay(&stream);
                let (reader, writer) = split(stream);
                let reading = read(conn, reader, &closing, &inbox);
                let writing = write(conn, writer, &to_write, &share_of_task, &inbox);
                future::try_zip(reading, writing).await
            };
            let said = async {
                if let Err(error) = talk.await {
                    let _ = inbox.conn(conn, ConnArrival::Failed(os_words(&error))).await;
                }
            };
            let too_late = async {
                let Err(RecvError) = closing.recv().await;
                L::sleep(limits::CLOSE_LINGER).await;
            };
            future::or(said, too_late).await;
        });
        self.open.borrow_mut().insert(conn, Link { bytes, share, _closed: closed, task });
    }

    pub(crate) fn connect(&self, conn: Conn, to: SocketAddr) {
        let inbox = self.inbox.clone();
        self.open(conn, async move {
            let stream = L::connect(to).await?;
            let _ = inbox.conn(conn, ConnArrival::Connected).await;
            Ok((stream, ()))
        });
    }

    pub(crate) fn write(&self, conn: Conn, bytes: &[u8]) {
        let mut open = self.open.borrow_mut();
        let Some(link) = open.get_mut(&conn) else { return };
        if link.share.bytes.get() + bytes.len() > limits::WRITE_BUFFER {
            let inbox = self.inbox.clone();
            link.task = self.executor.spawn(async move {
                let why = "too much is waiting to be written".to_owned();
                let _ = inbox.conn(conn, ConnArrival::Failed(why)).await;
            });
            return;
        }
        link.share.add(bytes.len());
        // The task may have ended: it has told the driver, who has not got to it yet.
        let _ = link.bytes.try_send(bytes.to_vec());
    }

    pub(crate) fn close(&self, conn: Conn) {
        // The end of the bytes, which is dropped here, ends the writing half.
        let Some(Link { task, .. }) = self.open.borrow_mut().remove(&conn) else { return };
        let port = port(conn);
        let mut lingering = self.lingering.borrow_mut();
        let lingering = lingering.entry(port).or_default();
        lingering.retain(|task| !task.is_finished());
        if port.is_none() && lingering.len() >= limits::DIALED_LINGERING {
            lingering.pop_front();
        }
        lingering.push_back(task);
    }

    pub(crate) fn abort(&self, conn: Conn) {
        self.open.borrow_mut().remove(&conn);
    }

    /// Waits until everything is written, for [`limits::EXIT_LINGER`] at most.
    pub(crate) async fn flush(&self) {
        let written = async {
            while self.unwritten.bytes.get() > 0 && self.unwritten.is_zero.1.recv().await.is_ok() {}
        };
        let too_late = async {
            L::sleep(limits::EXIT_LINGER).await;
        };
        future::or(written, too_late).await;
    }
}

/// Where a connection was accepted, if it was.
fn port(conn: Conn) -> Option<Port> {
    match conn {
        Conn::Gossip(id) if id.is_dialed() => None,
        Conn::Gossip(_) => Some(Port::Gossip),
        Conn::Rpc(_) => Some(Port::Rpc),
    }
}

async fn read(
    conn: Conn,
    mut stream: impl AsyncRead + Unpin,
    closing: &Receiver<Infallible>,
    inbox: &Sender,
) -> io::Result<()> {
    let mut chunk = vec![0; limits::READ];
    let mut discarded = 0;
    loop {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            // A driver that is gone misses nothing.
            let _ = inbox.conn(conn, ConnArrival::End).await;
            return Ok(());
        }
        if closing.is_closed() {
            discarded += length;
            if discarded > limits::CLOSE_DISCARD {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            future::yield_now().await;
            continue;
        }
        let mut bytes = inbox.buffer();
        bytes.extend_from_slice(&chunk[..length]);
        if inbox.data(conn, bytes).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    conn: Conn,
    mut stream: impl AsyncWrite + Unpin,
    to_write: &Receiver<Vec<u8>>,
    share: &Share,
    inbox: &Sender,
) -> io::Result<()> {
    while let Ok(bytes) = to_write.recv().await {
        stream.write_all(&bytes).await?;
        share.subtract(bytes.len());
        if to_write.is_empty() && matches!(conn, Conn::Rpc(_)) {
            let _ = inbox.conn(conn, ConnArrival::Drained).await;
        }
    }
    // The peer reads to the end before it sees the connection dropped.
    stream.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }
}
