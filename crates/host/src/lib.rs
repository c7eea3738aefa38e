//! What an agent needs of an operating system, without an event loop.
//!
//! The [`Driver`](driver::Driver) gives inputs to an [`Agent`](villein_agent::Agent) and performs what it
//! asks for. Everything that happens outside comes through one bounded [`Inbox`](inbox::Inbox), which
//! reader tasks and plain threads (children, names, signals) fill. [`serve`] runs all tasks on whatever
//! [`EventLoop`](serve::EventLoop) a runtime brings.
//!
//! Invariant: nothing here ever makes the driver wait; what takes time happens on threads and comes back.

pub mod address;
pub mod bind;
pub mod boot;
pub mod child;
pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod console;
pub mod driver;
pub mod files;
pub mod inbox;
pub mod interface;
pub mod limits;
mod links;
pub mod machine;
pub mod multicast;
pub mod notify;
mod orphans;
pub mod outlets;
pub mod resolve;
pub mod serve;
mod service;
pub mod signals;
pub mod sinks;
pub mod snapshot;
mod worker;

#[cfg(feature = "conformance")]
pub use links::checks::connections;
pub use villein_rpc::system::os_words;
