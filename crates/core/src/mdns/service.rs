//! The names and records of the service, and the DNS messages made of them (gossip.md 16).
//!
//! This decides which questions are answered with what, and which hosts an answer names. It keeps no
//! state between messages: an answer counts only if one message holds both the service record (SRV) and
//! the address, as every responder sends them. Names are compared exactly, as the reference compares them.
//!
//! Invariant: every name made here fits DNS (labels of 1 to 63 bytes, 255 bytes in all).

use super::Config;
use super::writer::{self, Writer};
use crate::limits::MDNS_MESSAGE;
use simple_dns::rdata::RData;
use simple_dns::{Label, Name, OPCODE, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TTL_SECONDS: u32 = 120;
const PRIORITY: u16 = 10;
const WEIGHT: u16 = 1;
/// A response, with authority.
const ANSWER_FLAGS: u16 = 0x8400;
const LABEL_MAX: usize = 63;
/// Bytes of a name on the wire without the root.
const NAME_MAX: usize = 254;
/// Bytes that the labels of the discovery name may take; leaves as much for the node name.
const DISCOVERY_MAX: usize = 120;
/// Bytes of one string of a TXT record.
const STRING_MAX: usize = 255;

/// What this node offers.
#[derive(Debug)]
pub(super) struct Service {
    name: Name<'static>,
    instance: Name<'static>,
    host: Name<'static>,
    enumeration: Name<'static>,
    text: Vec<u8>,
    addr: IpAddr,
    port: u16,
}

/// What a datagram means to this node.
#[derive(Debug)]
pub(super) enum Message {
    /// Hosts that offer the service, in the order of their records.
    Answer(Vec<SocketAddr>),
    /// Complete messages for whoever asked; none if the question is about something else.
    Question(Vec<Vec<u8>>),
    /// Nothing: another kind of message, an error, or a truncated one.
    Other,
}

/// The records of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Enumeration,
    Pointer,
    Server,
    Address,
    Text,
}

impl Service {
    pub(super) fn new(config: &Config) -> Service {
        let mut name = labels(&[b"_serf_", &config.discovery[..]].concat(), DISCOVERY_MAX);
        name.extend(labels(b"_tcp.local", NAME_MAX));
        let name = Name::new_with_labels(&name);
        let mut instance = labels(&config.node, NAME_MAX - wire_len(&name));
        if instance.is_empty() {
            instance.push(Label::new_unchecked(&b"-"[..]));
        }
        instance.extend_from_slice(name.get_labels());
        let mut text = [b"Serf '", &config.discovery[..]].concat();
        text.truncate(STRING_MAX - b"' cluster".len());
        text.extend_from_slice(b"' cluster");
        Service {
            instance: Name::new_with_labels(&instance),
            name,
            host: Name::new_with_labels(&labels(&config.host, NAME_MAX)),
            enumeration: Name::new_with_labels(&labels(b"_services._dns-sd._udp.local", NAME_MAX)),
            text,
            addr: config.addr.to_canonical(),
            port: config.port,
        }
    }

    /// Asks who offers the service.
    pub(super) fn question(&self, id: u16) -> Vec<u8> {
        let mut message = Writer::new(id, 0, 1, 0);
        message.question(&self.name, TYPE::PTR);
        message.finish()
    }

    /// Reads a datagram; `None` if it is not understood.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Message> {
        if !is_plausible(bytes) {
            return None;
        }
        let packet = Packet::parse(bytes).ok()?;
        let is_plain = packet.opcode() == OPCODE::StandardQuery
            && packet.rcode() == RCODE::NoError
            && !packet.has_flags(PacketFlag::TRUNCATION);
        Some(if !is_plain {
            Message::Other
        } else if packet.has_flags(PacketFlag::RESPONSE) {
            Message::Answer(self.hosts(&packet))
        } else {
            Message::Question(self.answers(&packet))
        })
    }

    /// The hosts that an answer names. Incomplete entries and impossible addresses are left out; of
    /// several addresses of one host the last counts.
    fn hosts(&self, packet: &Packet<'_>) -> Vec<SocketAddr> {
        let records = || packet.answers.iter().chain(&packet.additional_records);
        let address_of = |target: &Name<'_>| {
            records().rev().filter(|record| is_same(&record.name, target)).find_map(|record| {
                match &record.rdata {
                    RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(Ipv6Addr::from(aaaa.address)).to_canonical()),
                    _ => None,
                }
            })
        };
        records()
            .filter(|record| is_below(&record.name, &self.name))
            .filter_map(|record| match &record.rdata {
                RData::SRV(srv) => Some(SocketAddr::new(address_of(&srv.target)?, srv.port)),
                _ => None,
            })
            .filter(|host| host.port() != 0 && !host.ip().is_unspecified() && !host.ip().is_multicast())
            .collect()
    }

    /// Up to two answers: questions that prefer a unicast answer get one with the id of the question,
    /// the others get one with id 0. (Both go to whoever asked.)
    fn answers(&self, packet: &Packet<'_>) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for unicast in [false, true] {
            // Each record is sent once, however often it is asked for: a question must not be worth a flood.
            let mut records: Vec<Record> = Vec::new();
            for question in packet.questions.iter().filter(|question| question.unicast_response == unicast) {
                for record in self.records_for(question) {
                    if !records.contains(record) {
                        records.push(*record);
                    }
                }
            }
            if !records.is_empty() {
                let id = if unicast { packet.id() } else { 0 };
                let mut answer = Writer::new(id, ANSWER_FLAGS, 0, records.len() as u16);
                for record in records {
                    self.write(record, &mut answer);
                }
                answers.push(answer.finish());
            }
        }
        answers
    }

    fn records_for(&self, question: &Question<'_>) -> &'static [Record] {
        use Record::{Address, Enumeration, Pointer, Server, Text};
        let address_type = if self.addr.is_ipv4() { TYPE::A } else { TYPE::AAAA };
        let asks_for_address = question.qtype == QTYPE::TYPE(address_type);
        let is_about = |name| is_same(&question.qname, name);
        match question.qtype {
            QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY if is_about(&self.name) => &[Pointer, Server, Address, Text],
            QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY if is_about(&self.enumeration) => &[Enumeration],
            QTYPE::ANY if is_about(&self.instance) => &[Server, Address, Text],
            QTYPE::TYPE(TYPE::SRV) if is_about(&self.instance) => &[Server, Address],
            QTYPE::TYPE(TYPE::TXT) if is_about(&self.instance) => &[Text],
            _ if asks_for_address && (is_about(&self.instance) || is_about(&self.host)) => &[Address],
            _ => &[],
        }
    }

    fn write<'a>(&'a self, record: Record, message: &mut Writer<'a>) {
        match record {
            Record::Enumeration => {
                message.record(&self.enumeration, TYPE::PTR, TTL_SECONDS, |data| data.name(&self.name));
            }
            Record::Pointer => {
                message.record(&self.name, TYPE::PTR, TTL_SECONDS, |data| data.name(&self.instance));
            }
            Record::Server => message.record(&self.instance, TYPE::SRV, TTL_SECONDS, |data| {
                data.u16(PRIORITY);
                data.u16(WEIGHT);
                data.u16(self.port);
                data.full_name(&self.host);
            }),
            Record::Address => match self.addr {
                IpAddr::V4(addr) => {
                    message.record(&self.host, TYPE::A, TTL_SECONDS, |data| data.put(&addr.octets()));
                }
                IpAddr::V6(addr) => {
                    message.record(&self.host, TYPE::AAAA, TTL_SECONDS, |data| data.put(&addr.octets()));
                }
            },
            Record::Text => {
                message.record(&self.instance, TYPE::TXT, TTL_SECONDS, |data| data.string(&self.text));
            }
        }
    }
}

/// Whether the message is small enough, and long enough for the entries that its header announces: the
/// decoder reserves room for all of them.
fn is_plausible(bytes: &[u8]) -> bool {
    const HEADER: usize = 12;
    const QUESTION_MIN: usize = 5;
    const RECORD_MIN: usize = 11;
    if !(HEADER..=MDNS_MESSAGE).contains(&bytes.len()) {
        return false;
    }
    let count = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let records = count(6) + count(8) + count(10);
    HEADER + count(4) * QUESTION_MIN + records * RECORD_MIN <= bytes.len()
}

/// Splits `text` at its dots, as the reference does. Too long labels are shortened, empty ones left out,
/// and what does not fit into `room` bytes on the wire is dropped.
fn labels(text: &[u8], mut room: usize) -> Vec<Label<'static>> {
    let mut labels = Vec::new();
    for label in text.split(|byte| *byte == b'.') {
        let len = label.len().min(LABEL_MAX).min(room.saturating_sub(1));
        if len > 0 {
            labels.push(Label::new_unchecked(label[..len].to_vec()));
            room -= len + 1;
        }
    }
    labels
}

fn wire_len(name: &Name<'_>) -> usize {
    name.iter().map(|label| label.len() + 1).sum()
}

fn is_same(a: &Name<'_>, b: &Name<'_>) -> bool {
    writer::is_same(a.get_labels(), b.get_labels())
}

fn is_below(name: &Name<'_>, parent: &Name<'_>) -> bool {
    let (labels, parents) = (name.get_labels(), parent.get_labels());
    labels.len() > parents.len() && writer::is_same(&labels[labels.len() - parents.len()..], parents)
}
