//! Conversations over streams: push/pull both ways, pings over TCP, messages for the layer above
//! (gossip.md 5, 11.3).
//!
//! Each stream carries one request and at most one answer. A push/pull needs the state of the layer above
//! on both sides, and so it pauses with [`Notice::StateWanted`] until [`Swim::send_state`]. The invariants:
//! each open stream has a deadline; each exchange that was asked for ends in one report; what all streams hold
//! is bounded.

use super::merge::Origin;
use super::rules::State;
use super::verify::verify;
use super::{Notice, Swim, Timer};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::io::{StreamEvent, StreamId};
use crate::limits;
use crate::metric::{Metric, milliseconds};
use crate::note::Note;
use crate::scale;
use crate::text::Text;
use crate::time::{Duration, Instant};
use crate::wire::message::{Ack, Ping, PushNode, PushPull, StreamMessage};
use crate::wire::serf::{Side, StreamReader, StreamRefusal};
use crate::wire::serf::{encode_push_pull, encode_stream_ack, encode_stream_err, encode_stream_ping};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Why the layer above wants an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Part of this join.
    Join(u64),
    /// A failed member may be back.
    Reconnect,
    /// Somebody with this node's name may have given way.
    NameCheck,
    /// A node of the snapshot may be there.
    Rejoin,
}

/// The streams of a node.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<StreamId, Stream>,
    /// How many of them peers opened.
    accepted: usize,
    /// Exchanges without a stream yet.
    waiting: VecDeque<(SocketAddr, Purpose)>,
    /// Streams that this node ever opened.
    dialed_ever: u64,
}

#[derive(Debug)]
struct Stream {
    peer: SocketAddr,
    reader: StreamReader,
    role: Role,
    /// Something arrived, or at least the connection was made.
    begun: bool,
    opened: Instant,
}

#[derive(Debug)]
enum Role {
    /// The peer asks.
    Accepted,
    /// We exchange states; without a purpose it is the periodic exchange.
    PushPull(Option<Purpose>),
    /// We probe.
    Ping { node: Text, sequence: u32 },
}

impl Streams {
    fn has_room(&self) -> bool {
        self.open.len() - self.accepted < limits::DIALED_STREAMS
    }

    /// Whether so many more bytes may be held for a stream.
    fn can_hold(&self, id: StreamId, more: usize) -> bool {
        let alike = self.open.iter().filter(|(other, _)| other.is_dialed() == id.is_dialed());
        let held: usize = alike.map(|(_, stream)| stream.reader.held()).sum();
        held + more <= limits::STREAMS_HELD
    }
}

impl Swim {
    /// Exchanges states with the node at this address, as a join (gossip.md 11.2); ends in
    /// [`Notice::ExchangeDone`]. Waits when many streams are open.
    pub(crate) fn exchange(
        &mut self,
        to: SocketAddr,
        purpose: Purpose,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        if self.streams.has_room() {
            self.dial_push_pull(to, Some(purpose), cx);
        } else if self.streams.waiting.len() < limits::WAITING_EXCHANGES {
            self.streams.waiting.push_back((to, purpose));
        } else {
            notices.push(Notice::ExchangeDone { purpose, to, result: Err(ExchangeError::TooMany) });
        }
    }

    /// Takes what happened to a stream.
    pub(crate) fn on_stream(
        &mut self,
        id: StreamId,
        event: StreamEvent<'_>,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        if let StreamEvent::Accepted { from } = event {
            return self.on_accepted(id, from, cx);
        }
        let Some(stream) = self.streams.open.get_mut(&id) else { return };
        let begun = std::mem::replace(&mut stream.begun, true);
        match event {
            StreamEvent::Accepted { .. } => {}
            StreamEvent::Connected => self.on_connected(id, notices, cx),
            StreamEvent::Data(bytes) => self.on_data(id, bytes, notices, cx),
            StreamEvent::End => {
                cx.out.close(id);
                let quiet = !id.is_dialed() && !begun;
                let result = if quiet { Ok(()) } else { Err(ExchangeError::Closed) };
                self.finish(id, result, notices, cx);
            }
            StreamEvent::Failed(why) => {
                let error = if begun { ExchangeError::Broken } else { ExchangeError::Connect };
                self.finish(id, Err(error(why.into())), notices, cx);
            }
        }
    }

    /// Goes on with a push/pull, now that the state of the layer above is there. Our state goes out before
    /// that of an asking peer is verified and merged (gossip.md 11.3).
    pub(crate) fn send_state(
        &mut self,
        id: StreamId,
        user_state: &[u8],
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        match self.streams.open.get(&id).map(|stream| &stream.role) {
            None | Some(Role::Ping { .. }) => {}
            Some(Role::PushPull(purpose)) => {
                self.write_state(id, purpose.is_some(), user_state, cx);
                self.timers.set(Timer::Stream(id), cx.now + self.profile.tcp_timeout);
            }
            Some(Role::Accepted) => {
                let stream = self.streams.open.remove(&id).expect("the stream was just found");
                let result = match stream.reader.message() {
                    Ok(StreamMessage::PushPull(theirs)) => {
                        self.write_state(id, theirs.join, user_state, cx);
                        self.take_state(&theirs, Origin::Peer, notices, cx)
                    }
                    _ => Err(ExchangeError::Malformed("not a push/pull".into())),
                };
                self.streams.open.insert(id, stream);
                cx.out.close(id);
                self.finish(id, result, notices, cx);
            }
        }
    }

    /// Probes over TCP, beside the indirect pings. There is at most one such stream per probe, and so it
    /// does not wait for a place.
    pub(super) fn ping_by_stream(
        &mut self,
        to: SocketAddr,
        node: Text,
        sequence: u32,
        end: Instant,
        cx: &mut Cx<'_>,
    ) {
        self.dial(to, Role::Ping { node, sequence }, end, cx);
    }

    /// Exchanges states with a random live node (gossip.md 11.1).
    pub(super) fn on_push_pull_due(&mut self, cx: &mut Cx<'_>) {
        self.timers.set(Timer::PushPull, cx.now + self.push_pull_interval());
        let me = &self.name;
        self.table
            .choose(1, cx.rng, &mut self.chosen, |entry| entry.state == State::Alive && entry.name != *me);
        let Some(idx) = self.chosen.first() else { return };
        let with = self.table.get(*idx).socket_addr();
        if self.streams.has_room() {
            self.dial_push_pull(with, None, cx);
        } else {
            cx.note(Note::PushPullFailed { with, why: ExchangeError::TooMany });
        }
    }

    /// Who has just joined asks somebody else within one interval. When many join at the same time, the first one
    /// that is asked knows few of them yet, and gossip alone misses some.
    fn ask_another_soon(&mut self, cx: &mut Cx<'_>) {
        let base = self.profile.push_pull_interval;
        if !base.is_zero() {
            self.timers.set(Timer::PushPull, cx.now + cx.rng.duration_below(base));
        }
    }

    pub(super) fn push_pull_interval(&self) -> Duration {
        scale::push_pull_interval(self.profile.push_pull_interval, self.table.len())
    }

    /// A stream took too long.
    pub(super) fn on_stream_due(&mut self, id: StreamId, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        cx.out.abort(id);
        let begun = self.streams.open.get(&id).is_some_and(|stream| stream.begun);
        let error =
            if id.is_dialed() && !begun { ExchangeError::ConnectTimedOut } else { ExchangeError::TimedOut };
        self.finish(id, Err(error), notices, cx);
    }

    fn dial_push_pull(&mut self, to: SocketAddr, purpose: Option<Purpose>, cx: &mut Cx<'_>) {
        cx.note(Note::PushPullStarted { with: to });
        self.dial(to, Role::PushPull(purpose), cx.now + self.profile.tcp_timeout, cx);
    }

    fn dial(&mut self, peer: SocketAddr, role: Role, deadline: Instant, cx: &mut Cx<'_>) {
        self.streams.dialed_ever += 1;
        let id = StreamId::dialed(self.streams.dialed_ever);
        let reader = StreamReader::new(Side::Dialed);
        self.streams.open.insert(id, Stream { peer, reader, role, begun: false, opened: cx.now });
        self.timers.set(Timer::Stream(id), deadline);
        cx.out.connect(id, peer);
    }

    fn on_accepted(&mut self, id: StreamId, from: SocketAddr, cx: &mut Cx<'_>) {
        if self.streams.accepted >= limits::ACCEPTED_STREAMS {
            cx.note(Note::StreamLimit { from });
            return cx.out.abort(id);
        }
        cx.note(Note::StreamAccepted { from });
        cx.count(Metric::TcpAccept, 1.0);
        let reader = StreamReader::new(Side::Accepted);
        let stream = Stream { peer: from, reader, role: Role::Accepted, begun: false, opened: cx.now };
        if self.streams.open.insert(id, stream).is_none() {
            self.streams.accepted += 1;
        }
        self.timers.set(Timer::Stream(id), cx.now + self.profile.tcp_timeout);
    }

    fn on_connected(&mut self, id: StreamId, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        cx.count(Metric::TcpConnect, 1.0);
        match &self.streams.open[&id].role {
            Role::Accepted => {}
            Role::PushPull(_) => notices.push(Notice::StateWanted { stream: id }),
            Role::Ping { node, sequence } => {
                let ping = Ping { seq: *sequence, node, source: self.source() };
                write(id, cx, |plain| encode_stream_ping(&ping, plain));
            }
        }
    }

    fn on_data(&mut self, id: StreamId, bytes: &[u8], notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        if !self.streams.can_hold(id, bytes.len()) {
            cx.out.abort(id);
            return self.finish(id, Err(ExchangeError::NoRoom), notices, cx);
        }
        let Some(stream) = self.streams.open.get_mut(&id) else { return };
        match stream.reader.push(bytes).and_then(|()| stream.reader.poll(cx.codec)) {
            Ok(true) => self.on_whole_message(id, notices, cx),
            Ok(false) => {}
            Err(refusal) => self.refuse(id, refusal, notices, cx),
        }
    }

    /// Gives up a stream that cannot be read; a peer that asked is told why, where that is due.
    fn refuse(&mut self, id: StreamId, refusal: StreamRefusal, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let why = refusal.to_string();
        if !id.is_dialed() && refusal.is_answered() {
            write(id, cx, |plain| encode_stream_err(why.as_bytes(), plain));
        }
        cx.out.close(id);
        self.finish(id, Err(ExchangeError::Malformed(why)), notices, cx);
    }

    fn on_whole_message(&mut self, id: StreamId, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        // The message borrows from the stream, while the rest of the node learns from it.
        let stream = self.streams.open.remove(&id).expect("a message came on an open stream");
        let result = match (stream.reader.message(), &stream.role) {
            (Ok(StreamMessage::PushPull(_)), Role::Accepted) => {
                self.streams.open.insert(id, stream);
                return notices.push(Notice::StateWanted { stream: id });
            }
            (Ok(StreamMessage::PushPull(theirs)), Role::PushPull(_)) => {
                self.take_state(&theirs, Origin::Asked(stream.peer), notices, cx)
            }
            (Ok(StreamMessage::User(body)), Role::Accepted) => {
                if !body.is_empty() {
                    notices.push(Notice::User(body.to_vec()));
                }
                Ok(())
            }
            (Ok(StreamMessage::Ping(ping)), Role::Accepted) => {
                self.answer_stream_ping(id, stream.peer, &ping, cx);
                Ok(())
            }
            (Ok(StreamMessage::Ack(ack)), Role::Ping { sequence, .. }) if ack.seq == *sequence => Ok(()),
            (Ok(StreamMessage::Err(text)), Role::PushPull(_) | Role::Ping { .. }) => {
                Err(ExchangeError::Remote(Text::from(text).to_string()))
            }
            (Ok(_), _) => Err(ExchangeError::Malformed("unexpected message".into())),
            (Err(error), _) => Err(ExchangeError::Malformed(error.to_string())),
        };
        self.streams.open.insert(id, stream);
        cx.out.close(id);
        self.finish(id, result, notices, cx);
    }

    fn answer_stream_ping(&self, id: StreamId, from: SocketAddr, ping: &Ping<'_>, cx: &mut Cx<'_>) {
        if !self.is_meant(ping) {
            return cx.note(Note::PingMisdirected { from, node: ping.node.into() });
        }
        write(id, cx, |plain| encode_stream_ack(&Ack { seq: ping.seq, payload: None }, plain));
    }

    fn write_state(&self, id: StreamId, join: bool, user_state: &[u8], cx: &mut Cx<'_>) {
        let nodes = self.table.iter().map(|(_, entry)| PushNode::from(entry));
        write(id, cx, |plain| encode_push_pull(join, nodes, user_state, plain));
    }

    /// Verifies and merges the state of a peer.
    fn take_state(
        &mut self,
        theirs: &PushPull<'_>,
        origin: Origin,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) -> Result<(), ExchangeError> {
        verify(&theirs.nodes, &self.table)?;
        self.merge(&theirs.nodes, origin, notices, cx);
        if !theirs.user_state.is_empty() {
            notices.push(Notice::RemoteState { state: theirs.user_state.to_vec(), join: theirs.join });
        }
        Ok(())
    }

    /// Forgets a stream, reports how it went, and gives its place to the next exchange.
    fn finish(
        &mut self,
        id: StreamId,
        result: Result<(), ExchangeError>,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) {
        self.timers.cancel(Timer::Stream(id));
        let Some(Stream { peer, role, opened, .. }) = self.streams.open.remove(&id) else { return };
        if matches!(role, Role::PushPull(_)) {
            cx.count(Metric::PushPullNode, milliseconds(cx.now.since(opened)));
        }
        match (role, result) {
            (Role::Accepted, result) => {
                self.streams.accepted -= 1;
                if let Err(error) = result {
                    cx.note(Note::StreamRefused { from: peer, why: error.to_string() });
                }
            }
            (Role::PushPull(Some(purpose)), result) => {
                if result.is_ok() && matches!(purpose, Purpose::Join(_) | Purpose::Rejoin) {
                    self.ask_another_soon(cx);
                }
                notices.push(Notice::ExchangeDone { purpose, to: peer, result });
            }
            (Role::PushPull(None), Err(why)) => cx.note(Note::PushPullFailed { with: peer, why }),
            (Role::PushPull(None), Ok(())) => {}
            (Role::Ping { node, sequence }, result) => self.on_stream_ping_done(node, sequence, result, cx),
        }
        while self.streams.has_room() {
            let Some((to, purpose)) = self.streams.waiting.pop_front() else { return };
            self.dial_push_pull(to, Some(purpose), cx);
        }
    }
}

/// Writes one message to a stream. Only who opened it sends the label header.
fn write(id: StreamId, cx: &mut Cx<'_>, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut plain = Vec::new();
    encode(&mut plain);
    let Cx { codec, rng, out, .. } = cx;
    let length = out.write(id, |bytes| codec.seal_stream(&plain, id.is_dialed(), rng, bytes));
    cx.count(Metric::TcpSent, length as f64);
}
