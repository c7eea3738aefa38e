//! The words between a client and an agent.
//!
//! [`request`] and [`response`] are typed messages with their bytes, [`framing`] finds the messages in
//! a byte stream: both are free of input and output, so an agent that is a pure state machine speaks
//! through them. [`client`] is the other end for programs that may block: the command line, tests.
//! What a message does is decided elsewhere, by the agent; how it is shown, by the command line.
//!
//! The invariant: bytes that came from outside cost at most what [`framing::Limits`] says, and text
//! that is not UTF-8 passes through unchanged in both directions.

pub mod client;
pub mod framing;
pub mod request;
pub mod response;
pub mod system;
pub mod text;

mod decode;
mod dial;
mod encode;

pub use client::{Client, QueryAnswers, RpcError};
pub use dial::ConnectError;
pub use framing::{Decoder, FrameError, Limits, Objects};
pub use request::{Request, RequestHeader};
pub use response::{Record, Reply, ResponseHeader};
pub use text::Text;
