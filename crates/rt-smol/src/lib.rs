//! An event loop over `async-io`: the whole agent in one thread, sockets waited for with epoll.
//!
//! Brings what [`villein_host::serve`] asks of an event loop, and decides nothing.

use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncWrite};
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use villein_host::boot::Boot;
use villein_host::serve::{EventLoop, Watched, serve};

/// The loop.
#[derive(Debug)]
pub struct Smol;

/// Runs an agent until it ends; the exit status. `Err` if the sockets cannot be waited for.
pub fn run(boot: Boot) -> io::Result<u8> {
    async_io::block_on(serve::<Smol>(boot))
}

impl EventLoop for Smol {
    type Watch = Async<Watched>;
    type Stream = Connection;

    fn watch(socket: Watched) -> io::Result<Self::Watch> {
        Async::new_nonblocking(socket)
    }

    fn readable(watch: &Self::Watch) -> impl Future<Output = io::Result<()>> {
        watch.readable()
    }

    fn stream(stream: TcpStream) -> io::Result<Self::Stream> {
        Async::new(stream).map(Connection)
    }

    fn set_nodelay(stream: &Self::Stream) -> io::Result<()> {
        stream.0.get_ref().set_nodelay(true)
    }

    async fn connect(to: SocketAddr) -> io::Result<Self::Stream> {
        Async::<TcpStream>::connect(to).await.map(Connection)
    }

    async fn sleep_until(then: Instant) {
        Timer::at(then).await;
    }
}

/// A connection whose end, once it is closed, the peer sees.
#[derive(Debug)]
pub struct Connection(Async<TcpStream>);

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}
