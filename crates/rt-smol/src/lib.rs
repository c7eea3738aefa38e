//! An event loop over `async-io`: the whole agent in one thread.
//!
//! One task reads each UDP socket and is never dropped while the agent runs; one accepts on each listening
//! socket; one serves each connection ([`links`]). They fill the inbox. The main loop gives the driver its
//! turns and waits for nothing but the inbox or the deadline. What is decided, is decided elsewhere.

mod links;

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future;
use links::{Links, Places};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::{Rc, Weak};
use villein_agent::io::{Conn, Socket};
use villein_host::boot::{Boot, Port, Route};
use villein_host::driver::{Driver, Net, Turn};
use villein_host::inbox::{ConnArrival, Sender};
use villein_host::limits;

/// Datagrams read in a row from one socket before other tasks go on.
const DATAGRAMS_IN_A_ROW: usize = 64;

/// Runs an agent until it ends; the exit status. `Err` if the sockets cannot be waited for.
pub fn run(boot: Boot) -> io::Result<u8> {
    let Boot { driver, inbox, sockets } = boot;
    let executor = Rc::new(LocalExecutor::new());
    let links = Rc::new(Links::new(executor.clone(), inbox.clone()));
    let mut udp = Vec::new();
    for (role, socket) in sockets.udp {
        let route = Route::new(role, &socket)?;
        let socket = Rc::new(Async::new_nonblocking(socket)?);
        executor.spawn(read_datagrams(role, socket.clone(), inbox.clone())).detach();
        udp.push((route, socket));
    }
    for (port, listener) in sockets.tcp {
        let listener = Async::new_nonblocking(listener)?;
        executor.spawn(accept(port, listener, Rc::downgrade(&links), inbox.clone())).detach();
    }
    let mut net = SmolNet { udp, links };
    let status = async_io::block_on(executor.run(drive(driver, &mut net)));
    Ok(status)
}

async fn drive(mut driver: Driver, net: &mut SmolNet) -> u8 {
    let mut timer = Timer::never();
    loop {
        if let Turn::Exit(status) = driver.turn(net) {
            net.links.flush().await;
            return status;
        }
        if driver.is_ready() {
            // The readers and writers have their turn too.
            future::yield_now().await;
            continue;
        }
        match driver.deadline() {
            Some(deadline) => timer.set_at(deadline),
            None => timer = Timer::never(),
        }
        let due = async {
            (&mut timer).await;
        };
        future::or(driver.ready(), due).await;
    }
}

async fn read_datagrams(role: Socket, socket: Rc<Async<UdpSocket>>, inbox: Sender) {
    let mut buffer = vec![0; limits::DATAGRAM];
    loop {
        for _ in 0..DATAGRAMS_IN_A_ROW {
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) => inbox.datagram(role, from, &buffer[..length]),
                // An error of an earlier datagram, or no memory: the socket goes on.
                Err(_) => {
                    Timer::after(limits::ACCEPT_BACKOFF.0).await;
                }
            }
        }
        future::yield_now().await;
    }
}

async fn accept(port: Port, listener: Async<TcpListener>, links: Weak<Links>, inbox: Sender) {
    let (shortest, longest) = limits::ACCEPT_BACKOFF;
    let mut pause = shortest;
    let places = Places::new(match port {
        Port::Gossip => limits::GOSSIP_CONNECTIONS,
        Port::Rpc => limits::RPC_CONNECTIONS,
    });
    let mut number = 0;
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            Timer::after(pause).await;
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
            Ok((stream, place))
        });
    }
}

/// The verbs of the driver.
struct SmolNet {
    udp: Vec<(Route, Rc<Async<UdpSocket>>)>,
    links: Rc<Links>,
}

impl Net for SmolNet {
    fn send(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let mut ways = self.udp.iter().filter_map(|(route, udp)| Some((route.takes(socket, to)?, udp)));
        let (to, udp) = ways.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        udp.get_ref().send_to(bytes, to).map(|_| ())
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
