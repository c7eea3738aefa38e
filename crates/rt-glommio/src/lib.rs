//! An event loop over io_uring with `glommio`: the whole agent in one thread.
//!
//! Brings what [`villein_host::serve`] asks of an event loop, and decides nothing. glommio waits (for timers, for
//! sockets, for connections to be made) and carries the bytes of connections. It does not accept connections,
//! because children would inherit those that its `accept` makes, and does not receive datagrams, because a
//! receive of its that is given up loses one. Those sockets it never gets to see.

mod machine;

use futures_lite::AsyncRead;
use glommio::net::TcpStream as Stream;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use villein_host::boot::Boot;
use villein_host::serve::{EventLoop, Watched, serve};

/// Bytes of buffers that are shared with the kernel. Nothing of ours uses them; glommio wants this many at least.
const IO_MEMORY: usize = 64 << 10;

/// Entries of each of the three rings: a batch of operations, not a limit to them.
const RING_DEPTH: usize = 32;

/// How long tasks that never run out of work go on before sockets and timers are looked at again. With glommio's own
/// 100 ms one busy client delays each answer to the others by as much.
const TURN: Duration = Duration::from_millis(5);

/// A loop that is ready to run, on the thread that made it.
#[derive(Debug)]
pub struct Glommio(LocalExecutor);

impl Glommio {
    /// Makes the loop; `Err` says in words for an operator why this machine does not have it.
    pub fn new() -> Result<Glommio, String> {
        machine::check(RING_DEPTH as u32)?;
        LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .preempt_timer(TURN)
            .make()
            .map(Glommio)
            .map_err(|error| machine::refused(&error.into()))
    }

    /// Runs an agent until it ends; the exit status. `Err` if the sockets cannot be waited for.
    pub fn run(self, boot: Boot) -> io::Result<u8> {
        self.block_on(serve::<Uring>(boot))
    }

    /// Runs a future that waits for what [`Uring`] brings.
    pub fn block_on<T>(self, future: impl Future<Output = T>) -> T {
        self.0.run(future)
    }
}

/// What the loop brings to those who run inside of it.
#[derive(Debug)]
pub struct Uring;

impl EventLoop for Uring {
    /// An epoll set that holds nothing but the socket, and the socket, which must not be closed before.
    type Watch = (Epoll, Watched);
    type Stream = Stream;

    /// The ring is given the set: it holds on to what it waits for until some time after the process has ended, and
    /// the address of a socket must be free for the next agent at once.
    fn watch(socket: Watched) -> io::Result<(Epoll, Watched)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok((epoll, socket))
    }

    fn readable((epoll, _): &(Epoll, Watched)) -> impl Future<Output = io::Result<()>> {
        readable(epoll)
    }

    fn stream(stream: TcpStream) -> io::Result<Stream> {
        Ok(taken_over(stream.into()))
    }

    fn set_nodelay(stream: &Stream) -> io::Result<()> {
        Ok(stream.set_nodelay(true)?)
    }

    async fn connect(to: SocketAddr) -> io::Result<Stream> {
        Ok(Stream::connect(to).await?)
    }

    async fn sleep_until(then: Instant) {
        Timer::new(then.saturating_duration_since(Instant::now())).await;
    }
}

/// glommio waits for the readiness of a descriptor on behalf of a connection only, and asks the kernel for it as
/// soon as it is given one. So it gets a copy of the descriptor as a connection, which is never read: whatever wakes
/// the task for the first time means that it is worth a look.
async fn readable(epoll: &Epoll) -> io::Result<()> {
    let mut waiting = taken_over(epoll.0.try_clone()?);
    let mut is_asked = false;
    poll_fn(|cx| {
        if is_asked {
            return Poll::Ready(Ok(()));
        }
        is_asked = true;
        match Pin::new(&mut waiting).poll_read(cx, &mut [0]) {
            Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::Other.into())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The descriptor as a connection of the loop that runs.
fn taken_over(socket: OwnedFd) -> Stream {
    #[expect(unsafe_code, reason = "glommio takes nothing but a bare descriptor")]
    // SAFETY: the descriptor is open, and its only owner gives it away here.
    unsafe {
        Stream::from_raw_fd(socket.into_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future;
    use nix::time::{ClockId, clock_gettime};
    use std::net::UdpSocket;
    use std::rc::Rc;

    /// Work of this thread; what other programs take of the machine does not count.
    fn worked() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has it").into()
    }

    #[test]
    fn a_task_that_is_always_busy_does_not_hold_up_the_others() {
        const LONG: Duration = Duration::from_millis(50);
        // Where there is none, the suite of conformance says so, or fails.
        let Ok(event_loop) = Glommio::new() else { return };
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
        socket.send_to(b"x", socket.local_addr().expect("bound")).expect("the loopback takes it");
        let work = event_loop.block_on(async {
            let watch = Uring::watch(socket).expect("a socket");
            let mut other = glommio::spawn_local(async move { Uring::readable(&watch).await });
            let before = worked();
            while future::poll_once(&mut other).await.is_none() {
                future::yield_now().await;
            }
            worked().saturating_sub(before)
        });
        assert!(work < LONG, "{work:?} of other work came first");
    }
}
