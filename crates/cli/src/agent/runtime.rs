//! Chooses the event loop that runs the agent.
//!
//! smol is always there; glommio is a feature of this crate. Where io_uring is denied, as in many containers, the
//! agent runs all the same.

use std::io;
use villein_agent::config::Runtime;
use villein_host::boot::Boot;

/// An event loop that is ready to run on this thread.
pub(super) enum EventLoop {
    /// Over epoll.
    Smol,
    /// Over io_uring.
    #[cfg(feature = "glommio")]
    Glommio(villein_rt_glommio::Glommio),
}

/// What is wanted, or else smol with a warning for the operator.
pub(super) fn choose(wanted: Runtime) -> (EventLoop, Option<String>) {
    match wanted {
        Runtime::Auto | Runtime::Smol => (EventLoop::Smol, None),
        Runtime::Glommio => glommio().map_or_else(
            |why| (EventLoop::Smol, Some(format!("the agent runs on smol instead of glommio: {why}"))),
            |event_loop| (event_loop, None),
        ),
    }
}

#[cfg(feature = "glommio")]
fn glommio() -> Result<EventLoop, String> {
    villein_rt_glommio::Glommio::new().map(EventLoop::Glommio)
}

#[cfg(not(feature = "glommio"))]
fn glommio() -> Result<EventLoop, String> {
    Err("this program was built without it".to_owned())
}

impl EventLoop {
    /// As it is configured.
    pub(super) fn name(&self) -> &'static str {
        match *self {
            EventLoop::Smol => "smol",
            #[cfg(feature = "glommio")]
            EventLoop::Glommio(_) => "glommio",
        }
    }

    /// Runs the agent until it ends; the exit status.
    pub(super) fn run(self, boot: Boot) -> io::Result<u8> {
        match self {
            EventLoop::Smol => villein_rt_smol::run(boot),
            #[cfg(feature = "glommio")]
            EventLoop::Glommio(event_loop) => event_loop.run(boot),
        }
    }
}
