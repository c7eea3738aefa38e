//! Everything worth saying.
//!
//! A [`Note`] is the log line, the drop counter, the simulator's coverage and what tests assert on. Each
//! early return of the core names its note; none holds key bytes.

use crate::command::CommandError;
use crate::exchange_error::ExchangeError;
use crate::text::Text;
use crate::time::Duration;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How loud a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who debug the protocol.
    Trace,
    /// For those who debug a cluster.
    Debug,
    /// Normal life.
    Info,
    /// Something is odd.
    Warn,
    /// Something does not work.
    Err,
}

/// Which part of a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Gossip layer.
    Memberlist,
    /// Members, events and queries.
    Serf,
}

macro_rules! notes {
    ($( $(#[$doc:meta])* $variant:ident $({ $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? })? => $level:ident, $component:ident, $text:literal $(, $arg:expr)*;)*) => {
        /// One thing worth saying.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the fields of a note are explained by its text")]
        pub enum Note { $( $(#[$doc])* $variant $({ $($(#[$fdoc])* $field : $ty),* })?, )* }

        impl Note {
            /// How loud it is.
            pub const fn level(&self) -> Level {
                match self { $( Note::$variant { .. } => Level::$level, )* }
            }

            /// Who says it.
            pub const fn component(&self) -> Component {
                match self { $( Note::$variant { .. } => Component::$component, )* }
            }

            /// Its kind in a word, for counters.
            pub const fn name(&self) -> &'static str {
                match self { $( Note::$variant { .. } => stringify!($variant), )* }
            }
        }

        impl fmt::Display for Note {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Note::$variant $({ $($field),* })? => write!(f, $text $(, $arg)*), )* }
            }
        }
    };
}

notes! {
    // What is dropped because a peer is at fault.

    /// A datagram, or a part of it, could not be unwrapped.
    PacketRefused { from: SocketAddr, why: &'static str } => Debug, Memberlist, "dropped a packet from {from}: {why}";
    /// A message could not be decoded.
    MessageMalformed { from: SocketAddr, why: String } => Debug, Memberlist, "dropped a message from {from}: {why}";
    /// A stream brought something else than a message.
    StreamRefused { from: SocketAddr, why: String } => Err, Memberlist, "failed to receive: {why} from={from}";
    /// More streams than allowed were open.
    StreamLimit { from: SocketAddr } => Warn, Memberlist, "closed a connection from={from}: too many are open";
    /// A ping meant another node.
    PingMisdirected { from: SocketAddr, node: Text } => Warn, Memberlist, "got a ping for unexpected node '{node}' from={from}";
    /// An ack or nack that nothing waits for.
    AckUnexpected { from: SocketAddr, seq: u32 } => Trace, Memberlist, "late or unknown ack {seq} from={from}";
    /// More probes are relayed than allowed.
    RelayLimit { from: SocketAddr } => Warn, Memberlist, "ignoring an indirect ping from={from}: too many are under way";
    /// A message is too long for a datagram.
    DatagramTooLong { to: SocketAddr, length: usize } => Warn, Memberlist, "dropped a message to {to}: {length} bytes do not fit a datagram";
    /// An alive message with an impossible address or version vector.
    AliveRefused { node: Text, why: &'static str } => Warn, Memberlist, "ignoring an alive message for '{node}': {why}";
    /// The node table is full.
    TableFull { node: Text } => Warn, Memberlist, "ignoring node '{node}': the table is full";

    /// Notes that are not repeated for each entry of a message.
    MoreAlike { name: &'static str, count: usize } => Warn, Memberlist, "{count} more of the same: {name}";

    // Failure detection.

    /// A probe got no answer.
    ProbeFailed { node: Text } => Info, Memberlist, "Suspect {node} has failed, no acks received";
    /// Only TCP reached the node.
    ProbeOnlyTcp { node: Text } => Warn, Memberlist, "Was able to connect to {node} but other probes failed, network may be misconfigured";
    /// The probe over TCP could not connect.
    ProbeTcpUnreachable { node: Text, why: ExchangeError } => Debug, Memberlist, "No fallback ping: {why} ({node})";
    /// The probe over TCP connected and failed.
    ProbeTcpFailed { node: Text, why: ExchangeError } => Err, Memberlist, "Failed fallback ping: {why} ({node})";
    /// Another node confirmed a suspicion.
    SuspicionConfirmed { node: Text, from: Text } => Debug, Memberlist, "suspicion of {node} confirmed by {from}";
    /// A suspicion ran out.
    SuspicionTimeout { node: Text, confirmations: u32 } => Info, Memberlist, "Marking {node} as failed, suspect timeout reached ({confirmations} peer confirmations)";
    /// This node was suspected and says no.
    RefutedSuspect { from: Text } => Warn, Memberlist, "Refuting a suspect message (from: {from})";
    /// This node was declared dead and says no.
    RefutedDead { from: Text } => Warn, Memberlist, "Refuting a dead message (from: {from})";
    /// Somebody else's idea of this node is wrong.
    RefutedAlive { node: Text } => Warn, Memberlist, "Refuting an alive message for '{node}'";
    /// This node is spoken of in the last incarnation, and cannot speak up.
    Irrefutable { incarnation: u32 } => Warn, Memberlist, "cannot refute a message about this node: there is no incarnation after {incarnation}";
    /// This node did not run for a while.
    Overslept { late: Duration } => Warn, Memberlist, "did not run for {:.1} s; not judging who was silent meanwhile", late.as_secs_f64();
    /// The local health score changed.
    HealthChanged { score: u32 } => Debug, Memberlist, "local health score is {score}";
    /// A name is used at two addresses.
    AddressConflict { node: Text, ours: SocketAddr, theirs: SocketAddr, state: u8 } => Err, Memberlist, "Conflicting address for {node}. Mine: {ours} Theirs: {theirs} Old state: {state}";

    // Streams.

    /// A full exchange begins.
    PushPullStarted { with: SocketAddr } => Debug, Memberlist, "Initiating push/pull sync with: {with}";
    /// A peer began a full exchange.
    StreamAccepted { from: SocketAddr } => Debug, Memberlist, "Stream connection from={from}";
    /// A full exchange failed.
    PushPullFailed { with: SocketAddr, why: ExchangeError } => Err, Memberlist, "Push/Pull with {with} failed: {why}";

    // Members.

    /// A member joined or came back.
    MemberJoined { name: Text, ip: IpAddr } => Info, Serf, "EventMemberJoin: {name} {ip}";
    /// A member left.
    MemberLeft { name: Text, ip: IpAddr } => Info, Serf, "EventMemberLeave: {name} {ip}";
    /// A failed member was declared as left.
    MemberForcedLeft { name: Text, ip: IpAddr } => Info, Serf, "EventMemberLeave (forced): {name} {ip}";
    /// A member failed.
    MemberFailed { name: Text, ip: IpAddr } => Info, Serf, "EventMemberFailed: {name} {ip}";
    /// A member changed.
    MemberUpdated { name: Text } => Info, Serf, "EventMemberUpdate: {name}";
    /// A member was forgotten.
    MemberReaped { name: Text } => Info, Serf, "EventMemberReap: {name}";
    /// A member was forgotten on demand.
    MemberForcedReaped { name: Text, ip: IpAddr } => Info, Serf, "EventMemberReap (forced): {name} {ip}";
    /// A failed member is tried again.
    Reconnecting { name: Text, addr: SocketAddr } => Info, Serf, "attempting reconnect to {name} {addr}";
    /// This time no failed member is tried.
    ReconnectThrottled => Debug, Serf, "forgoing reconnect for random throttling";
    /// This node refutes a leave intent.
    RefutedLeave => Debug, Serf, "Refuting an older leave intent";
    /// Another node knows a time about this node that is not its own, perhaps that of a leave.
    RefutedTime { ltime: u64 } => Debug, Serf, "Announcing this node again: its last intent is said to be of time {ltime}";
    /// Another node's name is used twice.
    NameConflict { name: Text, ours: SocketAddr, theirs: SocketAddr } => Warn, Serf, "Name conflict for '{name}' both {ours} and {theirs} are claiming";
    /// This node's name is used twice.
    OwnNameConflict { theirs: SocketAddr, resolution: bool } => Err, Serf, "Node name conflicts with another node at {theirs}. Names must be unique! (Resolution enabled: {resolution})";
    /// The vote about the name was won.
    NameConflictWon { matching: usize, responses: usize } => Info, Serf, "majority in name conflict resolution [{matching} / {responses}]";
    /// The vote about the name was lost.
    NameConflictLost { matching: usize, responses: usize } => Warn, Serf, "minority in name conflict resolution, quitting [{matching} / {responses}]";
    /// The vote about the name ended in a tie; 0 / 0 when nobody voted.
    NameConflictUndecided { matching: usize, responses: usize } => Warn, Serf, "no majority in name conflict resolution [{matching} / {responses}], staying for now";
    /// The other node with this node's name is gone, or has another name.
    NameConflictOver { theirs: SocketAddr } => Info, Serf, "the node at {theirs} has given up our name";

    // Events and queries.

    /// A Serf message that cannot be understood.
    SerfMalformed { why: String } => Warn, Serf, "dropped a message: {why}";
    /// A Lamport time that would move a clock too far.
    ClockJump { clock: &'static str, ltime: u64, ours: u64 } => Warn, Serf, "ignoring {clock} time {ltime}: too far from {ours}";
    /// An event is older than the buffer reaches.
    EventTooOld { name: Text, ltime: u64, now: u64 } => Warn, Serf, "received old event {name} from time {ltime} (current: {now})";
    /// A query is older than the buffer reaches.
    QueryTooOld { name: Text, ltime: u64, now: u64 } => Warn, Serf, "received old query {name} from time {ltime} (current: {now})";
    /// More events or queries at one Lamport time than are remembered.
    SlotFull { what: &'static str, ltime: u64 } => Warn, Serf, "too many {what} at time {ltime}, dropping";
    /// A response to a query that is over or not ours.
    ResponseUnexpected { ltime: u64, id: u32, from: Text } => Warn, Serf, "reply for non-running query (LTime: {ltime}, ID: {id}) From: {from}";
    /// A response to a query of ours that has ended because nobody was waited for any more.
    ResponseLate { from: Text } => Trace, Serf, "late query response from {from}";
    /// A node answered twice.
    ResponseDuplicate { from: Text } => Trace, Serf, "duplicate query response from {from}";
    /// A tag filter is no regular expression.
    FilterInvalid { expr: Text, why: String } => Warn, Serf, "failed to compile filter regex ({expr}): {why}";
    /// A query with more filters than any honest one.
    FilterLimit { name: Text, count: usize } => Warn, Serf, "dropped query '{name}': {count} filters are too many";
    /// A query filter cannot be understood.
    FilterMalformed => Warn, Serf, "dropped a query: malformed filter";
    /// A relay request for an address that is no member, or with something else than a response.
    RelayRefused { to: SocketAddr, why: &'static str } => Warn, Serf, "refused to relay to {to}: {why}";
    /// An internal query that is not known.
    InternalQueryUnknown { name: Text } => Warn, Serf, "Unhandled internal query '{name}'";
    /// A key query arrived.
    KeyQuery { name: &'static str } => Info, Serf, "Received {name} query";
    /// A key query could not be carried out.
    KeyQueryFailed { why: String } => Err, Serf, "{why}";
    /// An answer of our own could not be sent.
    RespondFailed { name: Text, why: CommandError } => Warn, Serf, "Failed to respond to query '{name}': {why}";
    /// A queue is long.
    QueueDepth { queue: &'static str, depth: usize } => Warn, Serf, "{queue} queue depth: {depth}";
    /// A queue was full; so many of the most transmitted messages were dropped since the last look.
    QueueFull { queue: &'static str, dropped: usize } => Warn, Serf, "{queue} queue is full, dropping {dropped} oldest messages";
    /// A message that only full exchanges can carry.
    TooLongToGossip { queue: &'static str, length: usize } => Warn, Serf, "{queue} message of {length} bytes is too long to be gossiped";
    /// A member is not forgotten on demand because it is still there.
    PruneDropped { name: Text } => Warn, Serf, "not pruning '{name}': it has not left";
    /// The vote about this node's name could not be started.
    VoteFailed { why: CommandError } => Err, Serf, "failed to start name conflict resolution query: {why}";
    /// More names than are remembered have intents.
    IntentsFull { name: Text } => Warn, Serf, "ignoring an intent for '{name}': too many are remembered";
    /// The member table is full.
    MembersFull { name: Text } => Warn, Serf, "ignoring member '{name}': the table is full";
    /// A leave step took too long and is skipped.
    LeaveTimeout { after: Duration } => Warn, Serf, "leave was not gossiped to everybody within {:.1} s", after.as_secs_f64();
    // The snapshot.

    /// A line of the snapshot means nothing.
    SnapshotLineUnknown { line: Text } => Warn, Serf, "Unrecognized snapshot line: {line}";
    /// A member of the snapshot has no address.
    SnapshotAddressBad { line: Text } => Warn, Serf, "Failed to parse address: {line}";
    /// A Lamport time of the snapshot is no number.
    SnapshotTimeBad { clock: &'static str, why: String } => Warn, Serf, "Failed to convert {clock} time: {why}";
    /// A Lamport time of the snapshot that no cluster can have reached.
    SnapshotTimeAbsurd { clock: &'static str, time: u64 } => Warn, Serf, "ignoring the {clock} time {time} of the snapshot: no cluster has counted so far";
    /// More members than the snapshot keeps.
    SnapshotMembersFull { name: Text } => Warn, Serf, "not keeping member '{name}' in the snapshot: it is full";
    /// A joined text that no address can be.
    SnapshotSeedOdd { seed: Text } => Warn, Serf, "not keeping the join address '{seed}' in the snapshot: it is empty or too long";
    /// This node had left, and comes back nevertheless.
    SnapshotLeaveIgnored => Info, Serf, "Ignoring previous leave in snapshot";
    /// The snapshot could not be written.
    SnapshotFailed { why: String } => Err, Serf, "Failed to update snapshot: {why}";
    /// A node of the snapshot is tried.
    Rejoining { name: Text, addr: SocketAddr } => Info, Serf, "Attempting re-join to previously known node: {name}: {addr}";
    /// Nodes of the snapshot are tried again.
    RejoiningAgain { count: usize } => Info, Serf, "Attempting re-join to {count} previously known nodes again";
    /// A node of the snapshot does not answer.
    RejoinRefused { addr: SocketAddr, why: ExchangeError } => Debug, Memberlist, "Failed to join {addr}: {why}";
    /// A node of the snapshot answered.
    Rejoined { name: Text, addr: SocketAddr } => Info, Serf, "Re-joined to previously known node: {name}: {addr}";
    /// No node of the snapshot answers.
    RejoinFailed => Warn, Serf, "Failed to re-join any previously known node";

    /// A coordinate was refused.
    CoordinateRefused { name: Text, why: String } => Trace, Serf, "Rejected coordinate from {name}: {why}";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_a_log_line_and_a_counter() {
        let note = Note::MemberJoined { name: "alpha".into(), ip: IpAddr::from([127, 0, 0, 1]) };
        assert_eq!(note.to_string(), "EventMemberJoin: alpha 127.0.0.1");
        assert_eq!(
            (note.level(), note.component(), note.name()),
            (Level::Info, Component::Serf, "MemberJoined")
        );
    }
}
