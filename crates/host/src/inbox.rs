//! The one way in: everything that happens outside, in the order in which it is to be handled.
//!
//! Reader tasks and threads hold a [`Sender`], the driver the [`Inbox`]. Datagrams have a queue of their own,
//! and the two are taken from in turn, so that neither a flood of datagrams nor clients with much to say
//! hold up the other. Datagrams never wait: when too many are there already they are dropped and counted.
//! Everything else waits for room; bytes of a connection wait moreover until the agent takes more, so that
//! what one peer sends fills its own pipe and nobody else's. Buffers travel back to the readers through a
//! bounded pool, so that a steady state allocates nothing.
//!
//! Invariants: what one task puts is taken in the order in which it was put; of each connection at most one
//! piece of bytes is on its way.

use crate::limits;
use async_channel::TrySendError;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use villein_agent::io::{ChildId, ChildStatus, ConfigFile, Conn, ResolveId, SaveId, Signal, Sink, Socket};

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
    /// A file was saved, or why not.
    Saved {
        /// Which one.
        id: SaveId,
        /// The operating system's words with the path.
        result: Result<(), String>,
    },
    /// The snapshot could not be written.
    StoreFailed(String),
    /// Configuration files, or the message that says why there are none.
    ConfigRead(Result<Vec<ConfigFile>, String>),
    /// A sink could not be reached.
    SinkFailed {
        /// Which one.
        sink: Sink,
        /// The operating system's words.
        why: String,
    },
    /// A signal.
    Signal(Signal),
    /// Nobody reads standard output any more.
    OutputClosed,
}

/// What can happen to a connection.
#[derive(Debug, PartialEq)]
pub enum ConnArrival {
    /// It was accepted.
    Accepted {
        /// The peer; never an IPv4 address in IPv6 form.
        from: SocketAddr,
    },
    /// A dialled one is connected.
    Connected,
    /// Bytes.
    Data {
        /// All that was read at once.
        bytes: Vec<u8>,
        /// Lets the reader go on when it is dropped.
        credit: Credit,
    },
    /// The peer will send no more.
    End,
    /// Everything written so far has been handed to the operating system; RPC connections only.
    Drained,
    /// It is no more: the operating system's words.
    Failed(String),
}

/// Holds the reader of a connection up for as long as it exists.
#[derive(Debug)]
pub struct Credit {
    /// Nothing is ever sent: the reader waits for the end of the channel.
    _held: async_channel::Sender<Infallible>,
}

impl Credit {
    /// A credit, and what ends when it is dropped.
    fn new() -> (Credit, async_channel::Receiver<Infallible>) {
        let (held, dropped) = async_channel::bounded(1);
        (Credit { _held: held }, dropped)
    }
}

/// It is no part of what arrived.
impl PartialEq for Credit {
    fn eq(&self, _: &Credit) -> bool {
        true
    }
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
    datagrams: async_channel::Sender<Arrival>,
    others: async_channel::Sender<Arrival>,
    shared: Arc<Shared>,
}

/// Holds arrivals until the driver takes them.
#[derive(Debug)]
pub struct Inbox {
    datagrams: async_channel::Receiver<Arrival>,
    others: async_channel::Receiver<Arrival>,
    shared: Arc<Shared>,
    /// Taken from its queue by a wait that it ended.
    first: Option<Arrival>,
    /// Whether the turn of the datagrams is next.
    datagram_next: bool,
}

/// Both ends of a new inbox.
pub fn inbox() -> (Sender, Inbox) {
    let (datagrams, datagrams_out) = async_channel::bounded(limits::INBOX_DATAGRAMS);
    let (others, others_out) = async_channel::bounded(limits::INBOX);
    let shared = Arc::new(Shared::default());
    let inbox = Inbox {
        datagrams: datagrams_out,
        others: others_out,
        shared: shared.clone(),
        first: None,
        datagram_next: true,
    };
    (Sender { datagrams, others, shared }, inbox)
}

impl Sender {
    /// Puts a copy of a datagram, or drops and counts it if too many wait.
    pub fn datagram(&self, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        let queued = self.shared.datagram_bytes.load(Ordering::Relaxed);
        if queued + bytes.len() > limits::INBOX_DATAGRAM_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut copy = self.buffer();
        copy.extend_from_slice(bytes);
        let from = canonical(from);
        self.shared.datagram_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        if let Err(TrySendError::Full(_)) =
            self.datagrams.try_send(Arrival::Datagram { socket, from, bytes: copy })
        {
            self.shared.datagram_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts something that is not dropped: waits for room.
    pub async fn put(&self, arrival: Arrival) -> Result<(), Closed> {
        self.others.send(arrival).await.map_err(|_| Closed)
    }

    /// The same for a thread.
    pub fn put_blocking(&self, arrival: Arrival) -> Result<(), Closed> {
        self.others.send_blocking(arrival).map_err(|_| Closed)
    }

    /// Puts what happened to a connection.
    pub async fn conn(&self, conn: Conn, event: ConnArrival) -> Result<(), Closed> {
        let event = match event {
            ConnArrival::Accepted { from } => ConnArrival::Accepted { from: canonical(from) },
            event => event,
        };
        self.put(Arrival::Conn { conn, event }).await
    }

    /// Puts bytes of a connection, and waits until the agent takes more of it.
    pub async fn data(&self, conn: Conn, bytes: Vec<u8>) -> Result<(), Closed> {
        let (credit, dropped) = Credit::new();
        self.conn(conn, ConnArrival::Data { bytes, credit }).await?;
        let Err(async_channel::RecvError) = dropped.recv().await;
        Ok(())
    }

    /// An empty buffer, for bytes that are put.
    pub fn buffer(&self) -> Vec<u8> {
        self.shared.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}

impl Inbox {
    /// Waits until there is something to take. May be dropped at any time without losing anything.
    pub async fn ready(&mut self) {
        if self.is_ready() {
            return;
        }
        let (mut datagram, mut other) = (pin!(self.datagrams.recv()), pin!(self.others.recv()));
        let arrival = poll_fn(|cx| match datagram.as_mut().poll(cx) {
            Poll::Pending => other.as_mut().poll(cx),
            ready @ Poll::Ready(_) => ready,
        });
        match arrival.await {
            Ok(arrival) => self.first = Some(arrival),
            // Without senders nothing ever comes, and a wait that ended at once would spin.
            Err(async_channel::RecvError) => pending().await,
        }
    }

    /// Whether there is something to take.
    pub fn is_ready(&self) -> bool {
        self.first.is_some() || !self.datagrams.is_empty() || !self.others.is_empty()
    }

    /// Takes what came first, of datagrams and of everything else in turn.
    pub fn take(&mut self) -> Option<Arrival> {
        let arrival = self.first.take().or_else(|| {
            let (next, other) = if self.datagram_next {
                (&self.datagrams, &self.others)
            } else {
                (&self.others, &self.datagrams)
            };
            next.try_recv().or_else(|_| other.try_recv()).ok()
        })?;
        self.datagram_next = !matches!(arrival, Arrival::Datagram { .. });
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
    use std::pin::Pin;
    use std::task::{Context, Waker};

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7946))
    }

    fn take_bytes(inbox: &mut Inbox) -> Vec<u8> {
        match inbox.take() {
            Some(Arrival::Datagram { bytes, .. }) => bytes,
            other => panic!("no datagram: {other:?}"),
        }
    }

    /// Polls once.
    fn poll(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn both_kinds_of_arrivals_come_out_in_their_order_and_in_turn() {
        let (sender, mut inbox) = inbox();
        for bytes in [b"one", b"two"] {
            sender.datagram(Socket::Gossip, peer(), bytes);
        }
        for signal in [Signal::Hangup, Signal::Terminate] {
            sender.put_blocking(Arrival::Signal(signal)).expect("the inbox is there");
        }
        assert!(inbox.is_ready());
        assert_eq!(take_bytes(&mut inbox), b"one");
        assert_eq!(inbox.take(), Some(Arrival::Signal(Signal::Hangup)));
        assert_eq!(take_bytes(&mut inbox), b"two");
        assert_eq!(inbox.take(), Some(Arrival::Signal(Signal::Terminate)));
        assert_eq!(inbox.take(), None);
        assert!(!inbox.is_ready());
    }

    #[test]
    fn a_wait_ends_with_either_kind_and_loses_nothing() {
        let (sender, mut inbox) = inbox();
        for _ in 0..3 {
            {
                let mut ready = pin!(inbox.ready());
                assert!(!poll(ready.as_mut()));
                sender.datagram(Socket::Gossip, peer(), b"one");
                assert!(poll(ready.as_mut()));
            }
            assert_eq!(take_bytes(&mut inbox), b"one");
            {
                let mut ready = pin!(inbox.ready());
                assert!(!poll(ready.as_mut()));
                sender.put_blocking(Arrival::OutputClosed).expect("the inbox is there");
                assert!(poll(ready.as_mut()));
            }
            assert!(poll(pin!(inbox.ready())));
            assert_eq!(inbox.take(), Some(Arrival::OutputClosed));
        }
        assert_eq!(inbox.take(), None);
    }

    #[test]
    fn a_flood_of_datagrams_is_counted_and_leaves_room() {
        let (sender, mut inbox) = inbox();
        for _ in 0..limits::INBOX_DATAGRAMS + 9 {
            sender.datagram(Socket::Gossip, peer(), b"x");
        }
        assert_eq!(inbox.take_dropped(), 9);
        assert_eq!(inbox.take_dropped(), 0);
        for _ in 0..limits::INBOX {
            sender.put_blocking(Arrival::Signal(Signal::Interrupt)).expect("there is room for it");
        }
        assert_eq!(take_bytes(&mut inbox), b"x");
        assert_eq!(inbox.take(), Some(Arrival::Signal(Signal::Interrupt)));
    }

    #[test]
    fn datagrams_have_room_whatever_else_waits() {
        let (sender, mut inbox) = inbox();
        for _ in 0..limits::INBOX {
            sender.put_blocking(Arrival::OutputClosed).expect("there is room for it");
        }
        for _ in 0..limits::INBOX_DATAGRAMS {
            sender.datagram(Socket::Gossip, peer(), b"x");
        }
        assert_eq!(inbox.take_dropped(), 0);
        assert_eq!(take_bytes(&mut inbox), b"x");
    }

    #[test]
    fn a_reader_waits_until_its_bytes_are_handled() {
        let (sender, mut inbox) = inbox();
        let mut reader = pin!(sender.data(Conn::Rpc(1), b"bytes".to_vec()));
        assert!(!poll(reader.as_mut()));
        let Some(Arrival::Conn { event: ConnArrival::Data { bytes, credit }, .. }) = inbox.take() else {
            panic!("the bytes are there");
        };
        assert_eq!(bytes, b"bytes");
        assert!(!poll(reader.as_mut()), "they are being handled");
        drop(credit);
        assert!(poll(reader.as_mut()));
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
