//! The one way in: everything that happens outside, in the order in which it is to be handled.
//!
//! Reader tasks and threads hold a [`Sender`], the driver the [`Inbox`]. Datagrams never wait: when too many
//! are there already they are dropped and counted. Everything else waits for room, and datagrams leave
//! some, so that no flood shuts out streams, children or signals. Buffers travel back to the readers
//! through a bounded pool, so that a steady state allocates nothing.
//!
//! Invariant: what one sender puts is taken in the order in which it was put.

use crate::limits;
use async_channel::TrySendError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use villein_agent::io::{ChildId, ChildStatus, Conn, ResolveId, Signal, Socket};

/// One thing that happened, with its bytes.
#[derive(Debug, PartialEq)]
pub enum Arrival {
    /// A datagram.
    Datagram {
        /// Where it arrived.
        socket: Socket,
        /// Its source; never an IPv4 address in IPv6 form.
        from: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// A datagram could not be sent.
    SendFailed {
        /// From where.
        socket: Socket,
        /// Where to.
        to: SocketAddr,
        /// The operating system's words.
        why: String,
    },
    /// Something happened to a connection.
    Conn {
        /// Which one.
        conn: Conn,
        /// What.
        event: ConnArrival,
    },
    /// A name was resolved, or not.
    Resolved {
        /// Which request.
        id: ResolveId,
        /// All its addresses, or why there are none.
        result: Result<Vec<SocketAddr>, String>,
    },
    /// A child ended or was never started.
    ChildExited {
        /// Which one.
        id: ChildId,
        /// How.
        status: ChildStatus,
        /// The last bytes of its output.
        output: Vec<u8>,
        /// Bytes of its output in all.
        output_total: u64,
    },
    /// A signal.
    Signal(Signal),
    /// Nobody reads standard output any more.
    OutputClosed,
}

/// What can happen to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnArrival {
    /// It was accepted.
    Accepted {
        /// The peer; never an IPv4 address in IPv6 form.
        from: SocketAddr,
    },
    /// A dialled one is connected.
    Connected,
    /// Bytes.
    Data(Vec<u8>),
    /// The peer will send no more.
    End,
    /// Everything written so far has been handed to the operating system; RPC connections only.
    Drained,
    /// It is no more: the operating system's words.
    Failed(String),
}

/// The driver is gone, and nothing is taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug, Default)]
struct Shared {
    pool: Mutex<Vec<Vec<u8>>>,
    datagram_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Puts arrivals into the inbox; every reader has one.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: async_channel::Sender<Arrival>,
    shared: Arc<Shared>,
}

/// Holds arrivals until the driver takes them.
#[derive(Debug)]
pub struct Inbox {
    queue: async_channel::Receiver<Arrival>,
    shared: Arc<Shared>,
    /// Taken from the queue by a wait that it ended.
    first: Option<Arrival>,
}

/// Both ends of a new inbox.
pub fn inbox() -> (Sender, Inbox) {
    let (sender, receiver) = async_channel::bounded(limits::INBOX);
    let shared = Arc::new(Shared::default());
    (Sender { queue: sender, shared: shared.clone() }, Inbox { queue: receiver, shared, first: None })
}

impl Sender {
    /// Puts a copy of a datagram, or drops and counts it if too many wait.
    pub fn datagram(&self, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        let queued = self.shared.datagram_bytes.load(Ordering::Relaxed);
        if self.queue.len() >= limits::INBOX_DATAGRAMS || queued + bytes.len() > limits::INBOX_DATAGRAM_BYTES
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut copy = self.buffer();
        copy.extend_from_slice(bytes);
        let from = canonical(from);
        self.shared.datagram_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        if let Err(TrySendError::Full(_)) =
            self.queue.try_send(Arrival::Datagram { socket, from, bytes: copy })
        {
            self.shared.datagram_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts something that is not dropped: waits for room.
    pub async fn put(&self, arrival: Arrival) -> Result<(), Closed> {
        self.queue.send(arrival).await.map_err(|_| Closed)
    }

    /// The same for a thread.
    pub fn put_blocking(&self, arrival: Arrival) -> Result<(), Closed> {
        self.queue.send_blocking(arrival).map_err(|_| Closed)
    }

    /// Puts what happened to a connection.
    pub async fn conn(&self, conn: Conn, event: ConnArrival) -> Result<(), Closed> {
        let event = match event {
            ConnArrival::Accepted { from } => ConnArrival::Accepted { from: canonical(from) },
            event => event,
        };
        self.put(Arrival::Conn { conn, event }).await
    }

    /// An empty buffer, for bytes that are put.
    pub fn buffer(&self) -> Vec<u8> {
        self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}

impl Inbox {
    /// Waits until there is something to take. May be dropped at any time without losing anything.
    pub async fn ready(&mut self) {
        if self.first.is_none() {
            match self.queue.recv().await {
                Ok(arrival) => self.first = Some(arrival),
                // Without senders nothing ever comes, and a wait that ended at once would spin.
                Err(async_channel::RecvError) => std::future::pending().await,
            }
        }
    }

    /// Whether there is something to take.
    pub fn is_ready(&self) -> bool {
        self.first.is_some() || !self.queue.is_empty()
    }

    /// Takes what came first.
    pub fn take(&mut self) -> Option<Arrival> {
        let arrival = self.first.take().or_else(|| self.queue.try_recv().ok())?;
        if let Arrival::Datagram { bytes, .. } = &arrival {
            self.shared.datagram_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        Some(arrival)
    }

    /// Gives a buffer back.
    pub fn recycle(&self, mut bytes: Vec<u8>) {
        let mut pool = self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.capacity() <= limits::POOL_BUFFER && pool.len() < limits::POOL {
            bytes.clear();
            pool.push(bytes);
        }
    }

    /// How many datagrams were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }
}

/// IPv4 addresses in their own form, also those that a socket for both families shows as IPv6.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7946))
    }

    fn take_bytes(inbox: &mut Inbox) -> Vec<u8> {
        match inbox.take() {
            Some(Arrival::Datagram { bytes, .. }) => bytes,
            other => panic!("no datagram: {other:?}"),
        }
    }

    #[test]
    fn arrivals_come_out_in_their_order() {
        let (sender, mut inbox) = inbox();
        sender.datagram(Socket::Gossip, peer(), b"one");
        sender.put_blocking(Arrival::Signal(Signal::Hangup)).expect("the inbox is there");
        assert!(inbox.is_ready());
        assert_eq!(take_bytes(&mut inbox), b"one");
        assert_eq!(inbox.take(), Some(Arrival::Signal(Signal::Hangup)));
        assert_eq!(inbox.take(), None);
        assert!(!inbox.is_ready());
    }

    #[test]
    fn a_flood_of_datagrams_is_counted_and_leaves_room() {
        let (sender, mut inbox) = inbox();
        for _ in 0..limits::INBOX {
            sender.datagram(Socket::Gossip, peer(), b"x");
        }
        assert_eq!(inbox.take_dropped(), (limits::INBOX - limits::INBOX_DATAGRAMS) as u64);
        assert_eq!(inbox.take_dropped(), 0);
        sender.put_blocking(Arrival::Signal(Signal::Interrupt)).expect("there is room for it");
        for _ in 0..limits::INBOX_DATAGRAMS {
            assert_eq!(take_bytes(&mut inbox), b"x");
        }
        assert_eq!(inbox.take(), Some(Arrival::Signal(Signal::Interrupt)));
    }

    #[test]
    fn large_datagrams_are_bounded_by_their_bytes() {
        let (sender, mut inbox) = inbox();
        let large = vec![7; 60_000];
        for _ in 0..limits::INBOX_DATAGRAMS {
            sender.datagram(Socket::Gossip, peer(), &large);
        }
        let kept = (limits::INBOX_DATAGRAM_BYTES / large.len()) as u64;
        assert_eq!(inbox.take_dropped(), limits::INBOX_DATAGRAMS as u64 - kept);
        take_bytes(&mut inbox);
        sender.datagram(Socket::Gossip, peer(), &large);
        assert_eq!(inbox.take_dropped(), 0);
    }

    #[test]
    fn buffers_are_used_again() {
        let (sender, mut inbox) = inbox();
        sender.datagram(Socket::Gossip, peer(), &[1; 1400]);
        let bytes = take_bytes(&mut inbox);
        let place = bytes.as_ptr();
        inbox.recycle(bytes);
        sender.datagram(Socket::Gossip, peer(), &[2; 1400]);
        let bytes = take_bytes(&mut inbox);
        assert_eq!((bytes.as_ptr(), bytes.as_slice()), (place, &[2; 1400][..]));
        inbox.recycle(Vec::with_capacity(limits::POOL_BUFFER + 1));
        assert_eq!(sender.buffer().capacity(), 0);
    }

    #[test]
    fn an_ipv4_peer_is_shown_as_such() {
        let (sender, mut inbox) = inbox();
        let shown: SocketAddr = "[::ffff:10.0.0.1]:9".parse().expect("an address");
        sender.datagram(Socket::Gossip, shown, b"x");
        match inbox.take() {
            Some(Arrival::Datagram { from, .. }) => assert_eq!(from, SocketAddr::from(([10, 0, 0, 1], 9))),
            other => panic!("no datagram: {other:?}"),
        }
    }
}
