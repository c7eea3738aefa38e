//! Clusters of real agents: ours alone in network namespaces, and ours with real `serf` agents.

mod bad_input;
mod encrypted;
mod hostile;
mod mixed;
mod namespaces;
mod serfclient;
mod snapshots;
mod support;
#[path = "../transcript/mod.rs"]
mod transcript;
mod transcripts;
mod trip_ups;
