//! Messages of the Serf layer as bytes (gossip.md 13.1, 13.2, 13.13).
//!
//! They travel in user messages and as the user state of a push/pull. A query with an empty filter element
//! does not decode: it brings the reference down, and must not be passed on (gossip.md 13.10).

use super::msgpack::{DecodeError, Fault, Reader, Record, Writer, records};
use crate::wire::message::{
    EventSlot, JoinIntent, LeaveIntent, Query, Relay, Response, SerfMessage, SerfState, UserEvent,
};

/// Type numbers (gossip.md 13.1).
pub(super) mod kind {
    pub(in super::super) const LEAVE: u8 = 0;
    pub(in super::super) const JOIN: u8 = 1;
    pub(in super::super) const PUSH_PULL: u8 = 2;
    pub(in super::super) const USER_EVENT: u8 = 3;
    pub(in super::super) const QUERY: u8 = 4;
    pub(in super::super) const RESPONSE: u8 = 5;
    pub(in super::super) const CONFLICT: u8 = 6;
    pub(in super::super) const KEY_REQUEST: u8 = 7;
    pub(in super::super) const KEY_RESPONSE: u8 = 8;
    pub(in super::super) const RELAY: u8 = 9;
}

records! {
    LeaveIntent<'a> {
        "LTime": uint => ltime,
        "Node": name => node,
        "Prune": flag => prune,
    }
    JoinIntent<'a> {
        "LTime": uint => ltime,
        "Node": name => node,
    }
    SerfState<'a> {
        "EventLTime": uint => event_ltime,
        "Events": slots => events,
        "LTime": uint => ltime,
        "LeftMembers": texts => left_members,
        "QueryLTime": uint => query_ltime,
        "StatusLTimes": times => status_ltimes,
    }
    EventSlot<'a> {
        "Events": events => events,
        "LTime": uint => ltime,
    }
    Event<'a> {
        "Name": text => 0,
        "Payload": payload => 1,
    }
    UserEvent<'a> {
        "CC": flag => coalesce,
        "LTime": uint => ltime,
        "Name": text => name,
        "Payload": payload => payload,
    }
    Query<'a> {
        "Addr": bytes => addr,
        "Filters": filters => filters,
        "Flags": uint => flags,
        "ID": uint => id,
        "LTime": uint => ltime,
        "Name": text => name,
        "Payload": payload => payload,
        "Port": uint => port,
        "RelayFactor": uint => relay_factor,
        "SourceNode": name => source_node,
        "Timeout": int => timeout_ns,
    }
    Response<'a> {
        "Flags": uint => flags,
        "From": name => from,
        "ID": uint => id,
        "LTime": uint => ltime,
        "Payload": payload => payload,
    }
    RelayHeader<'a> {
        "DestAddr": endpoint => address,
        "DestName": name => name,
    }
    Endpoint<'a> {
        "IP": bytes => ip,
        "Port": uint => port,
        "Zone": text => zone,
    }
}

/// The content of a user message, or a user state.
pub fn decode_serf(bytes: &[u8]) -> Result<SerfMessage<'_>, DecodeError> {
    let (&number, body) = bytes.split_first().ok_or(DecodeError::new("Serf message", Fault::Empty))?;
    let mut reader = Reader::new(body);
    Ok(match number {
        kind::LEAVE => SerfMessage::Leave(reader.record("leave intent")?),
        kind::JOIN => SerfMessage::Join(reader.record("join intent")?),
        kind::PUSH_PULL => SerfMessage::PushPull(reader.record("Serf state")?),
        kind::USER_EVENT => SerfMessage::UserEvent(reader.record("user event")?),
        kind::QUERY => SerfMessage::Query(reader.record("query")?),
        kind::RESPONSE => SerfMessage::Response(reader.record("query response")?),
        kind::RELAY => {
            let header: RelayHeader<'_> = reader.record("relay")?;
            let Endpoint { ip: addr, port, .. } = header.address;
            SerfMessage::Relay(Relay { addr, port, name: header.name, inner: reader.rest() })
        }
        other => return Err(DecodeError::new("Serf message", Fault::Kind(other))),
    })
}

/// Appends a Serf message.
pub fn encode_serf(message: &SerfMessage<'_>, out: &mut Vec<u8>) {
    match message {
        SerfMessage::Leave(intent) => put(kind::LEAVE, intent, out),
        SerfMessage::Join(intent) => put(kind::JOIN, intent, out),
        SerfMessage::PushPull(state) => put(kind::PUSH_PULL, state, out),
        SerfMessage::UserEvent(event) => put(kind::USER_EVENT, event, out),
        SerfMessage::Query(query) => {
            assert!(query.filters.iter().all(|filter| !filter.is_empty()), "no filter of ours is empty");
            put(kind::QUERY, query, out);
        }
        SerfMessage::Response(response) => put(kind::RESPONSE, response, out),
        SerfMessage::Relay(relay) => {
            let address = Endpoint { ip: relay.addr, port: relay.port, zone: &[] };
            put(kind::RELAY, &RelayHeader { address, name: relay.name }, out);
            out.extend_from_slice(relay.inner);
        }
    }
}

/// Name and payload.
type Event<'a> = (&'a [u8], Option<&'a [u8]>);

#[derive(Default)]
struct RelayHeader<'a> {
    address: Endpoint<'a>,
    name: &'a [u8],
}

/// Where a relay is to send to; the zone of IPv6 scopes means nothing to another host.
#[derive(Default)]
struct Endpoint<'a> {
    ip: &'a [u8],
    port: u16,
    zone: &'a [u8],
}

impl<'a> Reader<'a> {
    fn endpoint(&mut self, field: &'static str) -> Result<Endpoint<'a>, DecodeError> {
        self.record(field)
    }

    pub(super) fn texts(&mut self, field: &'static str) -> Result<Vec<&'a [u8]>, DecodeError> {
        self.list(field, |reader| reader.text(field))
    }

    fn filters(&mut self, field: &'static str) -> Result<Vec<&'a [u8]>, DecodeError> {
        let filters = self.texts(field)?;
        let any_empty = filters.iter().any(|filter| filter.is_empty());
        if any_empty { Err(DecodeError::new(field, Fault::Empty)) } else { Ok(filters) }
    }

    fn times(&mut self, field: &'static str) -> Result<Vec<(&'a [u8], u64)>, DecodeError> {
        self.pairs(field, |reader| reader.uint(field))
    }

    fn events(&mut self, field: &'static str) -> Result<Vec<Event<'a>>, DecodeError> {
        self.list(field, |reader| reader.record(field))
    }

    /// The reference sends its whole ring, mostly nils (gossip.md 13.13).
    fn slots(&mut self, field: &'static str) -> Result<Vec<EventSlot<'a>>, DecodeError> {
        let mut slots = Vec::new();
        for _ in 0..self.list_length(field)?.unwrap_or(0) {
            if !self.nil() {
                slots.push(self.record(field)?);
            }
        }
        Ok(slots)
    }
}

impl Writer<'_> {
    fn endpoint(&mut self, endpoint: &Endpoint<'_>) {
        self.record(endpoint);
    }

    pub(super) fn texts(&mut self, texts: &[&[u8]]) {
        self.list(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    /// No filters are nil, as the reference has it.
    fn filters(&mut self, filters: &[&[u8]]) {
        if filters.is_empty() { self.nil() } else { self.texts(filters) }
    }

    fn times(&mut self, times: &[(&[u8], u64)]) {
        self.map(times.len());
        for (name, time) in times {
            self.text(name);
            self.uint(time);
        }
    }

    fn events(&mut self, events: &[Event<'_>]) {
        self.list(events.len());
        for event in events {
            self.record(event);
        }
    }

    fn slots(&mut self, slots: &[EventSlot<'_>]) {
        self.list(slots.len());
        for slot in slots {
            self.record(slot);
        }
    }
}

fn put<'a>(number: u8, record: &impl Record<'a>, out: &mut Vec<u8>) {
    out.push(number);
    Writer::new(out).record(record);
}
