//! Clusters of real agents: ours alone in network namespaces, and ours with real `serf` agents.

mod bad_input;
mod mixed;
mod namespaces;
mod serfclient;
mod support;
