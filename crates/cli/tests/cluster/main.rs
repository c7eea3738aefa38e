//! Clusters of real agents: ours alone in network namespaces, and ours with real `serf` agents; on every event loop
//! (`runtime`).

mod bad_input;
mod containers;
mod encrypted;
mod hostile;
mod mixed;
mod namespaces;
mod notify;
#[path = "../runtime/mod.rs"]
mod runtime;
mod runtimes;
mod serfclient;
mod snapshots;
mod support;
#[path = "../transcript/mod.rs"]
mod transcript;
mod transcripts;
mod trip_ups;
