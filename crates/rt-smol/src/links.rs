//! TCP connections: a task each, whose halves read into the inbox and write what the driver gave.
//!
//! Invariant: a connection that is closed or aborted is out of reach at once; what it still does (deliver
//! its last bytes, wait for the peer to take them) is bounded by [`limits::CLOSE_LINGER`].

use async_channel::{Receiver, Sender as Bytes};
use async_executor::{LocalExecutor, Task};
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use villein_agent::io::Conn;
use villein_host::inbox::{ConnArrival, Sender};
use villein_host::limits;
use villein_host::words::os_words;

/// All connections that the driver can reach.
pub(crate) struct Links {
    executor: Rc<LocalExecutor<'static>>,
    inbox: Sender,
    open: RefCell<BTreeMap<Conn, Link>>,
    unwritten: Rc<Unwritten>,
}

struct Link {
    bytes: Bytes<Vec<u8>>,
    share: Rc<Share>,
    task: Task<()>,
}

/// A number of accepted connections.
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

/// The part of one connection; given back when the connection is gone.
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

impl Links {
    pub(crate) fn new(executor: Rc<LocalExecutor<'static>>, inbox: Sender) -> Links {
        let unwritten = Rc::new(Unwritten { bytes: Cell::new(0), is_zero: async_channel::bounded(1) });
        Links { executor, inbox, open: RefCell::default(), unwritten }
    }

    /// Serves the stream that `opening` brings, and keeps what comes with it for as long.
    pub(crate) fn open<K: 'static>(
        &self,
        conn: Conn,
        opening: impl Future<Output = io::Result<(Async<TcpStream>, K)>> + 'static,
    ) {
        let (bytes, to_write) = async_channel::unbounded();
        let share = Rc::new(Share { bytes: Cell::new(0), all: self.unwritten.clone() });
        let (inbox, share_of_task) = (self.inbox.clone(), share.clone());
        let task = self.executor.spawn(async move {
            let talk = async {
                let (stream, _kept) = opening.await?;
                // Requests and answers are small and awaited; a system that refuses only makes them slower.
                let _ = stream.get_ref().set_nodelay(true);
                let reading = read(conn, &stream, &inbox);
                let writing = write(conn, &stream, &to_write, &share_of_task, &inbox);
                future::try_zip(reading, writing).await
            };
            if let Err(error) = talk.await {
                let _ = inbox.conn(conn, ConnArrival::Failed(os_words(&error))).await;
            }
        });
        self.open.borrow_mut().insert(conn, Link { bytes, share, task });
    }

    pub(crate) fn connect(&self, conn: Conn, to: SocketAddr) {
        let inbox = self.inbox.clone();
        self.open(conn, async move {
            let stream = Async::<TcpStream>::connect(to).await?;
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
        let Some(Link { bytes, share, task }) = self.open.borrow_mut().remove(&conn) else { return };
        // The end of the bytes ends the writing half; the share belongs to the task alone from now on.
        drop((bytes, share));
        let too_late = async {
            Timer::after(limits::CLOSE_LINGER).await;
        };
        self.executor.spawn(future::or(task, too_late)).detach();
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
            Timer::after(limits::EXIT_LINGER).await;
        };
        future::or(written, too_late).await;
    }
}

async fn read(conn: Conn, mut stream: &Async<TcpStream>, inbox: &Sender) -> io::Result<()> {
    let mut chunk = vec![0; limits::READ];
    loop {
        let event = match stream.read(&mut chunk).await? {
            0 => ConnArrival::End,
            length => {
                let mut bytes = inbox.buffer();
                bytes.extend_from_slice(&chunk[..length]);
                ConnArrival::Data(bytes)
            }
        };
        let is_end = event == ConnArrival::End;
        if inbox.conn(conn, event).await.is_err() || is_end {
            return Ok(());
        }
    }
}

async fn write(
    conn: Conn,
    mut stream: &Async<TcpStream>,
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
    stream.get_ref().shutdown(Shutdown::Write)
}
