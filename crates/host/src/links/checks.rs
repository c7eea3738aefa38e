//! What the connections of every event loop do, each tried with a real peer.

use super::{Links, Places};
use crate::boot::Port;
use crate::inbox::{Arrival, ConnArrival, Inbox, inbox};
use crate::limits;
use crate::serve::EventLoop;
use async_executor::LocalExecutor;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::thread;
use villein_agent::io::{Conn, StreamId};

const CONN: Conn = Conn::Rpc(1);

/// Every check, in turn, on the event loop that runs this future; panics at the first that fails.
pub async fn connections<L: EventLoop>() {
    let _alone = crate::conformance::alone();
    a_closed_connection_delivers_what_was_written::<L>().await;
    a_closed_connection_does_not_listen_for_ever::<L>().await;
    everything_written_is_said_once::<L>().await;
    an_aborted_connection_forgets_what_was_written::<L>().await;
    too_much_for_one_peer_is_a_failure::<L>().await;
    a_connection_that_cannot_be_made_is_a_failure::<L>().await;
    a_reader_has_one_piece_of_bytes_on_its_way::<L>().await;
    the_connection_closed_first_makes_room::<L>().await;
}

struct Lab<L: EventLoop> {
    executor: Rc<LocalExecutor<'static>>,
    links: Links<L>,
    inbox: Inbox,
    peer: TcpStream,
}

fn connection<L: EventLoop>() -> (L::Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    (L::stream(listener.accept().expect("a peer").0).expect("a socket"), peer)
}

fn lab<L: EventLoop>() -> Lab<L> {
    let (stream, peer) = connection::<L>();
    let executor = Rc::new(LocalExecutor::new());
    let (sender, inbox) = inbox();
    let links = Links::new(executor.clone(), sender);
    links.open(CONN, async { Ok((stream, ())) });
    Lab { executor, links, inbox, peer }
}

impl<L: EventLoop> Lab<L> {
    async fn next(&mut self) -> ConnArrival {
        self.executor.run(self.inbox.ready()).await;
        match self.inbox.take() {
            Some(Arrival::Conn { event, .. }) => event,
            other => panic!("not of a connection: {other:?}"),
        }
    }

    async fn flush(&self) {
        self.executor.run(self.links.flush()).await;
    }
}

fn read_to_end(mut peer: TcpStream) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).expect("an orderly end");
        bytes.len()
    })
}

async fn a_closed_connection_delivers_what_was_written<L: EventLoop>() {
    let lab = lab::<L>();
    let large = vec![1; 8 << 20];
    lab.links.write(CONN, &large);
    lab.links.write(CONN, b"end");
    lab.links.close(CONN);
    lab.links.write(CONN, b"never");
    let reader = read_to_end(lab.peer.try_clone().expect("a socket can be shared"));
    lab.flush().await;
    assert_eq!(reader.join().expect("it only reads"), large.len() + 3);
    assert_eq!(lab.links.unwritten.bytes.get(), 0);
}

async fn a_closed_connection_does_not_listen_for_ever<L: EventLoop>() {
    let mut lab = lab::<L>();
    lab.links.close(CONN);
    let mut peer = lab.peer.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || while peer.write_all(&[1; 4096]).is_ok() {});
    assert_eq!(lab.next().await, ConnArrival::Failed("connection aborted".to_owned()));
    writer.join().expect("its connection ends");
}

async fn everything_written_is_said_once<L: EventLoop>() {
    let mut lab = lab::<L>();
    lab.links.write(CONN, b"one");
    lab.links.write(CONN, b"two");
    assert_eq!(lab.next().await, ConnArrival::Drained);
    lab.peer.shutdown(Shutdown::Write).expect("the connection is there");
    assert_eq!(lab.next().await, ConnArrival::End);
}

async fn an_aborted_connection_forgets_what_was_written<L: EventLoop>() {
    let lab = lab::<L>();
    lab.links.write(CONN, &vec![1; 8 << 20]);
    lab.links.abort(CONN);
    assert!(lab.links.open.borrow().is_empty());
    lab.flush().await;
    assert_eq!(lab.links.unwritten.bytes.get(), 0);
}

async fn too_much_for_one_peer_is_a_failure<L: EventLoop>() {
    let mut lab = lab::<L>();
    lab.links.write(CONN, &vec![1; limits::WRITE_BUFFER]);
    lab.links.write(CONN, b"x");
    assert_eq!(lab.next().await, ConnArrival::Failed("too much is waiting to be written".to_owned()));
}

async fn a_connection_that_cannot_be_made_is_a_failure<L: EventLoop>() {
    let mut lab = lab::<L>();
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    lab.links.connect(Conn::Gossip(StreamId::dialed(1)), nobody);
    assert_eq!(lab.next().await, ConnArrival::Failed("connection refused".to_owned()));
}

async fn a_reader_has_one_piece_of_bytes_on_its_way<L: EventLoop>() {
    let mut lab = lab::<L>();
    lab.peer.write_all(&vec![1; 2 * limits::READ]).expect("the connection is there");
    let ConnArrival::Data { bytes, credit } = lab.next().await else { panic!("bytes come first") };
    lab.links.write(CONN, b"answer");
    assert_eq!(lab.next().await, ConnArrival::Drained, "no more bytes come before these are handled");
    drop(credit);
    let mut length = bytes.len();
    while length < 2 * limits::READ {
        let ConnArrival::Data { bytes, .. } = lab.next().await else { panic!("the rest follows") };
        length += bytes.len();
    }
    assert_eq!(length, 2 * limits::READ);
}

async fn the_connection_closed_first_makes_room<L: EventLoop>() {
    let mut lab = lab::<L>();
    let places = Places::new(2);
    lab.links.close(CONN);
    let mut peers = Vec::new();
    for number in 2..=5 {
        let place = lab.executor.run(lab.links.place(Port::Rpc, &places)).await;
        let place = place.expect("only closed connections are in the way");
        let (stream, peer) = connection::<L>();
        lab.links.open(Conn::Rpc(number), async move { Ok((stream, place)) });
        lab.links.write(Conn::Rpc(number), b"bye");
        if number > 3 {
            lab.links.close(Conn::Rpc(number));
        }
        let mut said = [0; 3];
        assert_eq!(lab.next().await, ConnArrival::Drained);
        (&peer).read_exact(&mut said).expect("it was written");
        peers.push(peer);
        if number == 3 {
            let none = lab.executor.run(lab.links.place(Port::Rpc, &places)).await;
            assert!(none.is_none(), "open connections keep their places");
            lab.links.close(Conn::Rpc(2));
        }
    }
    // The third is open, the fifth lingers.
    assert_eq!(Rc::strong_count(&places.taken) - 1, 2);
    for number in [0, 2] {
        assert_eq!(peers[number].read(&mut [0]).expect("nothing was unread"), 0);
    }
}
