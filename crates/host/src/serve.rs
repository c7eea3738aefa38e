//! Runs an agent on an event loop: what is the same whichever loop it is.
//!
//! One task reads each UDP socket, one accepts on each listening socket, one serves each connection
//! ([`links`](crate::links)). They fill the inbox. The main task gives the driver its turns and waits for
//! nothing but the inbox or the deadline. What is decided, is decided elsewhere.
//!
//! Invariant: only the inbox, a timer and the readiness of a socket are ever waited for and given up; no bytes can
//! be lost in a wait.

use crate::boot::{Boot, Port, Route, Sockets};
use crate::driver::{Driver, Net, Turn};
use crate::inbox::{ConnArrival, Sender};
use crate::limits;
use crate::links::{Links, Places};
use crate::multicast::Membership;
use async_executor::LocalExecutor;
use futures_lite::{AsyncRead, AsyncWrite, future};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};
use villein_agent::io::{Conn, Socket};
use villein_core::mdns::Via;

/// Datagrams read, or connections accepted, in a row from one socket before other tasks go on.
const IN_A_ROW: usize = 64;

/// A socket that is read elsewhere, and waited for here.
pub type Watched = Rc<dyn AsFd>;

/// What an event loop brings. Its futures are awaited by tasks of one thread, inside the future that it runs.
pub trait EventLoop: 'static {
    /// A watched, non-blocking socket.
    type Watch: 'static;
    /// A connection; its end, once it is closed, is seen by the peer.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Begins to watch a socket.
    fn watch(socket: Watched) -> io::Result<Self::Watch>;
    /// Waits until there is something to read or accept, or perhaps without a reason. May be dropped at any time.
    fn readable(watch: &Self::Watch) -> impl Future<Output = io::Result<()>>;
    /// Takes a connection over.
    fn stream(stream: TcpStream) -> io::Result<Self::Stream>;
    /// Sends what is written at once, however little it is.
    fn set_nodelay(stream: &Self::Stream) -> io::Result<()>;
    /// Connects; dropped, it gives up.
    fn connect(to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
    /// Waits until then. May be dropped at any time.
    fn sleep_until(then: Instant) -> impl Future<Output = ()>;

    /// Waits so long.
    fn sleep(time: Duration) -> impl Future<Output = ()> {
        Self::sleep_until(Instant::now() + time)
    }
}

/// Runs an agent until it ends; the exit status. `Err` if the sockets cannot be waited for.
pub async fn serve<L: EventLoop>(boot: Boot) -> io::Result<u8> {
    let Boot { driver, inbox, sockets } = boot;
    let executor = Rc::new(LocalExecutor::new());
    let Sockets { udp, tcp, memberships } = sockets;
    let links = Rc::new(Links::new(executor.clone(), inbox.clone()));
    let mut verbs = Verbs::<L> { udp: Vec::new(), memberships, links };
    for (role, socket) in udp {
        let (route, socket) = (Route::new(role, &socket)?, Rc::new(socket));
        let watch = L::watch(socket.clone())?;
        executor.spawn(read_datagrams::<L>(role, socket.clone(), watch, inbox.clone())).detach();
        verbs.udp.push((route, socket));
    }
    for (port, listener) in tcp {
        let listener = Rc::new(listener);
        let watch = L::watch(listener.clone())?;
        let links = Rc::downgrade(&verbs.links);
        executor.spawn(accept(port, listener, watch, links, inbox.clone())).detach();
    }
    Ok(executor.run(drive(driver, &mut verbs)).await)
}

async fn drive<L: EventLoop>(mut driver: Driver, verbs: &mut Verbs<L>) -> u8 {
    loop {
        if let Turn::Exit(status) = driver.turn(verbs) {
            verbs.links.flush().await;
            return status;
        }
        if driver.is_ready() {
            // The readers and writers have their turn too.
            future::yield_now().await;
            continue;
        }
        match driver.deadline() {
            Some(deadline) => future::or(driver.ready(), L::sleep_until(deadline)).await,
            None => driver.ready().await,
        }
    }
}

async fn read_datagrams<L: EventLoop>(role: Socket, socket: Rc<UdpSocket>, watch: L::Watch, inbox: Sender) {
    let mut buffer = vec![0; limits::DATAGRAM];
    loop {
        for _ in 0..IN_A_ROW {
            let error = match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    inbox.datagram(role, from, &buffer[..length]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => L::readable(&watch).await.err(),
                Err(error) => Some(error),
            };
            // An error of an earlier datagram, or no memory: the socket goes on.
            if error.is_some() {
                L::sleep(limits::ACCEPT_BACKOFF.0).await;
            }
        }
        future::yield_now().await;
    }
}

async fn accept<L: EventLoop>(
    port: Port,
    listener: Rc<TcpListener>,
    watch: L::Watch,
    links: Weak<Links<L>>,
    inbox: Sender,
) {
    let (shortest, longest) = limits::ACCEPT_BACKOFF;
    let mut pause = shortest;
    let places = Places::new(match port {
        Port::Gossip => limits::GOSSIP_CONNECTIONS,
        Port::Rpc => limits::RPC_CONNECTIONS,
    });
    let mut number = 0;
    loop {
        let Ok((stream, from)) = accept_one::<L>(&listener, &watch).await else {
            L::sleep(pause).await;
            pause = (pause * 2).min(longest);
            continue;
        };
        pause = shortest;
        // The others have their turn too, among them those that the agent has closed.
        future::yield_now().await;
        let Some(links) = links.upgrade() else { return };
        let Some(place) = links.place(port, &places).await else {
            // As many as there may be: the peer sees its connection closed.
            continue;
        };
        let (conn, inbox) = (port.accepted(number), inbox.clone());
        number += 1;
        links.open(conn, async move {
            // A driver that is gone misses nothing.
            let _ = inbox.conn(conn, ConnArrival::Accepted { from }).await;
            Ok((L::stream(stream)?, place))
        });
    }
}

async fn accept_one<L: EventLoop>(
    listener: &TcpListener,
    watch: &L::Watch,
) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => L::readable(watch).await?,
            accepted => return accepted,
        }
    }
}

/// The verbs of the driver.
struct Verbs<L: EventLoop> {
    udp: Vec<(Route, Rc<UdpSocket>)>,
    memberships: Vec<Membership>,
    links: Rc<Links<L>>,
}

impl<L: EventLoop> Net for Verbs<L> {
    fn send(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        if socket == Socket::Mdns(Via::Query) {
            // Questions are few, and an answer is heard only where the group is.
            self.memberships
                .iter_mut()
                .filter(|membership| membership.is_for(to))
                .for_each(Membership::renew);
        }
        let mut ways = self.udp.iter().filter_map(|(route, udp)| Some((route.takes(socket, to)?, udp)));
        let (to, udp) = ways.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        udp.send_to(bytes, to).map(|_| ())
    }

    fn connect(&mut self, conn: Conn, to: SocketAddr) {
        self.links.connect(conn, to);
    }

    fn write(&mut self, conn: Conn, bytes: &[u8]) {
        self.links.write(conn, bytes);
    }

    fn close(&mut self, conn: Conn) {
        self.links.close(conn);
    }

    fn abort(&mut self, conn: Conn) {
        self.links.abort(conn);
    }
}
