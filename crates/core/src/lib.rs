//! The gossip protocol as a pure state machine: packets, ticks and commands in, actions out.
//!
//! No sockets, clocks, threads or entropy: see [`Node`] for the contract. What a node does is decided
//! here; what an operator sees of it, and how bytes reach it, is decided by the crates above.

mod broadcast;
pub mod command;
pub mod config;
pub mod coordinate;
pub mod crypto;
mod cx;
pub mod exchange_error;
pub mod expression;
pub mod gotext;
pub mod io;
pub mod limits;
pub mod mdns;
pub mod member;
pub mod metric;
mod node;
pub mod note;
pub mod rng;
mod scale;
mod serf;
pub mod snapshot;
mod swim;
pub mod text;
pub mod time;
mod timers;
pub mod wire;

pub use node::{Node, Stats};
