//! What an operator sees of a node: log, event handlers, joins, signals, and the RPC port.
//!
//! An [`Agent`] is a pure state machine like the [`Node`](villein_core::Node) inside it, one level up:
//! everything that happens is an [`io::Input`], everything to be done an [`io::Action`]. Sockets, clocks,
//! processes and name resolution belong to the driver, so a recording of inputs replays an agent.

mod address;
mod agent;
mod answers;
mod banner;
pub mod config;
mod cx;
mod discovery;
mod escape;
pub mod handler;
mod invoke;
pub mod io;
mod join;
mod json;
mod keeping;
mod lifecycle;
pub mod limits;
mod log;
mod notify;
mod reach;
mod reload;
mod rpc;
mod script;
mod seeds;
mod telemetry;
mod throttle;

pub use agent::Agent;
