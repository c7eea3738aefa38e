//! The node's words in the form of the RPC protocol.

use std::net::IpAddr;
use villein_core::coordinate::Coordinate;
use villein_core::member::{Event, Member};
use villein_core::text::Text;
use villein_rpc::Record;
use villein_rpc::response as rpc;

/// A member record (rpc.md 6.4). Every IPv4 address has 4 bytes here, also one that its owner announces
/// with 16: clients understand both.
pub(super) fn of_member(member: &Member) -> rpc::Member {
    let addr = match member.addr.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let [protocol_min, protocol_max, protocol_cur, delegate_min, delegate_max, delegate_cur] =
        member.versions.0;
    rpc::Member {
        name: text(&member.name),
        addr,
        port: member.port,
        tags: member.tags.iter().map(|(name, value)| (text(name), text(value))).collect(),
        status: member.status.name().into(),
        protocol_min,
        protocol_max,
        protocol_cur,
        delegate_min,
        delegate_max,
        delegate_cur,
    }
}

/// The record of a stream; `id` names a query. `None` for events that are not for streams.
pub(super) fn of_event(event: &Event, id: u64) -> Option<Record> {
    let bytes = |payload: &Option<Box<[u8]>>| payload.as_deref().map(<[u8]>::to_vec);
    Some(match event {
        Event::Members { kind, members } => Record::Members(rpc::MemberEvent {
            event: kind.name().into(),
            members: members.iter().map(of_member).collect(),
        }),
        Event::User { ltime, name, payload, coalesce } => Record::User(rpc::UserEvent {
            ltime: *ltime,
            name: text(name),
            payload: bytes(payload),
            coalesce: *coalesce,
        }),
        Event::Query { key, name, payload, .. } => {
            Record::Query(rpc::QueryEvent { id, ltime: key.ltime, name: text(name), payload: bytes(payload) })
        }
        _ => return None,
    })
}

/// The answer to `get-coordinate`.
pub(super) fn of_coordinate(coordinate: Option<&Coordinate>) -> rpc::Located {
    let coord = coordinate.map(|coordinate| rpc::Coordinate {
        adjustment: coordinate.adjustment,
        error: coordinate.error,
        height: coordinate.height,
        vec: coordinate.vec.to_vec(),
    });
    rpc::Located { ok: coord.is_some(), coord: coord.unwrap_or_default() }
}

/// Text keeps its bytes.
pub(super) fn text(text: &Text) -> villein_rpc::Text {
    text.as_bytes().into()
}

/// Text keeps its bytes.
pub(super) fn core_text(text: &villein_rpc::Text) -> Text {
    text.as_bytes().into()
}
