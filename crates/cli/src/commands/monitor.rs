//! `monitor`: log lines and events of an agent as they occur (cli.md 5.11).
//!
//! Events are shown in the notation of Go's `%#v`, one field per line, sorted by name. That is for
//! people who diagnose; programs subscribe over RPC.

use std::fmt::Write as _;
use std::io::Write;

use villein_rpc::response::{Member, MemberEvent, QueryEvent, Record, TextMap, UserEvent};

use super::{Failure, Outcome, connect, failed, say};
use crate::args::MonitorArgs;
use crate::interrupt::end_on_interrupt;
use villein_core::gotext::quote;

const ENDED: &str =
    "\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.";

pub(crate) fn run(args: &MonitorArgs, out: &mut impl Write) -> Outcome {
    let mut client = connect(&args.rpc)?;
    end_on_interrupt(0, b"")?;
    client.stream("*").map_err(failed("Error starting stream"))?;
    client.monitor(args.log_level.clone()).map_err(failed("Error starting monitor"))?;
    loop {
        let (_, record) = client.next_record().map_err(|_| Failure::Message(ENDED.as_bytes().to_vec()))?;
        match record {
            Record::Log(line) => say(out, &[&line])?,
            Record::User(event) => show(&user_fields(&event), out)?,
            Record::Query(event) => show(&query_fields(&event), out)?,
            Record::Members(event) => show(&member_fields(&event), out)?,
            // No query was asked on this connection.
            Record::Answer(_) => {}
        }
    }
}

type Fields = Vec<(&'static str, String)>;

fn show(fields: &Fields, out: &mut impl Write) -> Outcome {
    let mut text = String::from("Event Info:");
    for (name, value) in fields {
        text.push_str("\n\t");
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
    }
    say(out, &[text.as_bytes()])?;
    Ok(())
}

fn user_fields(event: &UserEvent) -> Fields {
    vec![
        ("Coalesce", event.coalesce.to_string()),
        ("Event", quote(b"user")),
        ("LTime", number(event.ltime)),
        ("Name", quote(&event.name)),
        ("Payload", payload(event.payload.as_deref())),
    ]
}

fn query_fields(event: &QueryEvent) -> Fields {
    vec![
        ("Event", quote(b"query")),
        ("ID", number(event.id)),
        ("LTime", number(event.ltime)),
        ("Name", quote(&event.name)),
        ("Payload", payload(event.payload.as_deref())),
    ]
}

fn member_fields(event: &MemberEvent) -> Fields {
    let members: Vec<String> = event.members.iter().map(member).collect();
    vec![("Event", quote(&event.event)), ("Members", format!("[]interface {{}}{{{}}}", members.join(", ")))]
}

fn member(member: &Member) -> String {
    let byte = |value: u8| number(u64::from(value));
    let fields = [
        ("Addr", bytes("uint8", &member.addr)),
        ("DelegateCur", byte(member.delegate_cur)),
        ("DelegateMax", byte(member.delegate_max)),
        ("DelegateMin", byte(member.delegate_min)),
        ("Name", quote(&member.name)),
        ("Port", number(u64::from(member.port))),
        ("ProtocolCur", byte(member.protocol_cur)),
        ("ProtocolMax", byte(member.protocol_max)),
        ("ProtocolMin", byte(member.protocol_min)),
        ("Status", quote(&member.status)),
        ("Tags", tags(&member.tags)),
    ];
    map(fields.map(|(name, value)| (quote(name.as_bytes()), value)))
}

fn tags(tags: &TextMap) -> String {
    map(tags.iter().map(|(key, value)| (quote(key), quote(value))))
}

fn map(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[interface {{}}]interface {{}}{{{}}}", entries.join(", "))
}

/// Numbers that the wire keeps in one byte are signed and decimal, wider ones unsigned and hexadecimal.
fn number(value: u64) -> String {
    if value < 0x80 { value.to_string() } else { format!("{value:#x}") }
}

fn payload(payload: Option<&[u8]>) -> String {
    payload.map_or_else(|| "<nil>".to_owned(), |payload| bytes("byte", payload))
}

/// A list of bytes, whose element Go names `byte` at the outermost level and `uint8` inside.
fn bytes(element: &str, bytes: &[u8]) -> String {
    let mut text = format!("[]{element}{{");
    for (at, byte) in bytes.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        write!(text, "{comma}{byte:#x}").expect("writing to a String cannot fail");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_rpc::Text;

    fn shown(fields: &Fields) -> String {
        let mut out = Vec::new();
        show(fields, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("the notation is text")
    }

    #[test]
    fn user_events() {
        let event = UserEvent {
            ltime: 1,
            name: Text::from("deploy"),
            payload: Some(b"1.2".to_vec()),
            coalesce: true,
        };
        let expected = "Event Info:\n\tCoalesce: true\n\tEvent: \"user\"\n\tLTime: 1\n\tName: \"deploy\"\n\tPayload: []byte{0x31, 0x2e, 0x32}\n";
        assert_eq!(shown(&user_fields(&event)), expected);
    }

    #[test]
    fn queries() {
        let event = QueryEvent { id: 2, ltime: 128, name: Text::from(&b"\xff"[..]), payload: None };
        let expected =
            "Event Info:\n\tEvent: \"query\"\n\tID: 2\n\tLTime: 0x80\n\tName: \"\\xff\"\n\tPayload: <nil>\n";
        assert_eq!(shown(&query_fields(&event)), expected);
    }

    #[test]
    fn member_events() {
        let alpha = Member {
            name: Text::from("alpha"),
            addr: vec![127, 0, 0, 1],
            port: 7946,
            tags: [(Text::from("m"), Text::from("1"))].into(),
            status: Text::from("alive"),
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 5,
        };
        let event = MemberEvent { event: Text::from("member-update"), members: vec![alpha] };
        let expected = concat!(
            "Event Info:\n\tEvent: \"member-update\"\n",
            "\tMembers: []interface {}{map[interface {}]interface {}{",
            "\"Addr\":[]uint8{0x7f, 0x0, 0x0, 0x1}, \"DelegateCur\":5, \"DelegateMax\":5, \"DelegateMin\":2, ",
            "\"Name\":\"alpha\", \"Port\":0x1f0a, \"ProtocolCur\":2, \"ProtocolMax\":5, \"ProtocolMin\":1, ",
            "\"Status\":\"alive\", \"Tags\":map[interface {}]interface {}{\"m\":\"1\"}}}\n",
        );
        assert_eq!(shown(&member_fields(&event)), expected);
    }
}
