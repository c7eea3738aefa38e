//! `members`: the members of the cluster as a table or as JSON (cli.md 5.3), sorted by name.

use std::io::Write;
use std::net::SocketAddr;

use serde::Serialize;
use villein_rpc::Text;
use villein_rpc::request::MemberFilter;
use villein_rpc::response::Member;

use super::{Format, Outcome, connect, failed, format_named, output_format, say, tag_map};
use crate::args::MembersArgs;
use crate::json::{self, Lossy, Object};
use crate::output;

pub(crate) fn run(args: &MembersArgs, out: &mut impl Write) -> Outcome {
    // A line before the JSON would spoil it.
    if !args.role.is_empty() && format_named(&args.format) != Some(Format::Json) {
        writeln!(out, "Deprecation warning: 'Role' has been replaced with 'Tags'")?;
    }
    let mut tags = tag_map(&args.tags)?;
    if !args.role.is_empty() {
        tags.insert(Text::from("role"), args.role.clone());
    }
    let filter = MemberFilter { tags, status: args.status.clone(), name: args.name.clone() };
    let mut client = connect(&args.rpc)?;
    let mut members = client.members_filtered(filter).map_err(failed("Error retrieving members"))?;
    members.sort_by(|a, b| (&a.name, &a.addr, a.port).cmp(&(&b.name, &b.addr, b.port)));
    let text = match output_format(&args.format)? {
        Format::Json => json::pretty(&List::of(&members)),
        Format::Text => {
            let rows: Vec<Vec<u8>> = members.iter().map(|member| row(member, args.detailed)).collect();
            output::trim(&output::table(&rows)).to_vec()
        }
    };
    say(out, &[&text])?;
    Ok(())
}

/// The cells of one member, separated by `|`.
fn row(member: &Member, detailed: bool) -> Vec<u8> {
    let (address, tags) = (address(member), output::tag_list(&member.tags));
    let mut row = [&member.name[..], address.as_bytes(), &member.status, &tags].join(&b'|');
    if detailed {
        let Member { delegate_cur, delegate_min, delegate_max, .. } = member;
        let versions = format!(
            "|Protocol Version: {delegate_cur}|Available Protocol Range: [{delegate_min}, {delegate_max}]"
        );
        row.extend_from_slice(versions.as_bytes());
    }
    row
}

/// `address:port`, with brackets around an IPv6 address.
fn address(member: &Member) -> String {
    match member.ip() {
        Some(ip) => SocketAddr::new(ip, member.port).to_string(),
        None => format!("?:{}", member.port),
    }
}

#[derive(Serialize)]
struct List<'a> {
    /// Nothing, rather than an empty list, when no member matches: scripts know it so.
    members: Option<Vec<Entry<'a>>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: Lossy<'a>,
    addr: String,
    port: u16,
    tags: Object<'a>,
    status: Lossy<'a>,
    protocol: Protocol,
}

#[derive(Serialize)]
struct Protocol {
    max: u8,
    min: u8,
    version: u8,
}

impl<'a> List<'a> {
    fn of(members: &'a [Member]) -> List<'a> {
        let entry = |member: &'a Member| Entry {
            name: Lossy(&member.name),
            addr: address(member),
            port: member.port,
            tags: Object(&member.tags),
            status: Lossy(&member.status),
            protocol: Protocol {
                max: member.delegate_max,
                min: member.delegate_min,
                version: member.delegate_cur,
            },
        };
        List { members: (!members.is_empty()).then(|| members.iter().map(entry).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, addr: &[u8]) -> Member {
        Member {
            name: Text::from(name),
            addr: addr.to_vec(),
            port: 7946,
            status: Text::from("alive"),
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
            ..Member::default()
        }
    }

    #[test]
    fn addresses() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let v6 = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let cases: [(&[u8], &str); 4] = [
            (&[127, 0, 0, 1], "127.0.0.1:7946"),
            (&mapped, "10.0.0.1:7946"),
            (&v6, "[fe80::1]:7946"),
            (&[1], "?:7946"),
        ];
        for (addr, expected) in cases {
            assert_eq!(address(&member("a", addr)), expected);
        }
    }

    #[test]
    fn rows() {
        let mut one = member("a|b", &[127, 0, 0, 1]);
        one.tags.insert(Text::from("k"), Text::from("v"));
        assert_eq!(row(&one, false), b"a|b|127.0.0.1:7946|alive|k=v");
        let detailed = b"a|b|127.0.0.1:7946|alive|k=v|Protocol Version: 4|Available Protocol Range: [2, 5]";
        assert_eq!(row(&one, true), detailed);
    }

    #[test]
    fn no_member_is_null() {
        assert_eq!(json::pretty(&List::of(&[])), b"{\n  \"members\": null\n}");
    }
}
