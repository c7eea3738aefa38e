//! What ends agents of the reference, or harms them, neither ends nor harms ours.

mod clients;
mod disks;
mod gossip;
mod wire;
