//! Which members `members-filtered` gives (rpc.md 6.5).
//!
//! Expressions are anchored as a whole: `a|b` means one or the other, not "begins with a or ends with b".

use crate::limits::FILTER_REGEX;
use regex::{Regex, RegexBuilder};
use villein_core::member::Member;
use villein_core::text::Text;
use villein_rpc::request::MemberFilter;

/// Compiled expressions; a missing one matches everything.
#[derive(Debug)]
pub(super) struct Filter {
    name: Option<Regex>,
    status: Option<Regex>,
    tags: Vec<(Text, Regex)>,
}

impl Filter {
    /// The error is the text for the client.
    pub(super) fn new(request: &MemberFilter) -> Result<Filter, String> {
        let optional =
            |expr: &villein_rpc::Text| if expr.is_empty() { Ok(None) } else { compile(expr).map(Some) };
        Ok(Filter {
            tags: request
                .tags
                .iter()
                .map(|(tag, expr)| Ok((super::records::core_text(tag), compile(expr)?)))
                .collect::<Result<_, String>>()?,
            status: optional(&request.status)?,
            name: optional(&request.name)?,
        })
    }

    /// Whether all expressions match; a missing tag counts as empty.
    pub(super) fn matches(&self, member: &Member) -> bool {
        let is_match = |regex: &Regex, bytes: &[u8]| regex.is_match(&String::from_utf8_lossy(bytes));
        let optional =
            |regex: &Option<Regex>, bytes| regex.as_ref().is_none_or(|regex| is_match(regex, bytes));
        optional(&self.name, &member.name)
            && optional(&self.status, member.status.name().as_bytes())
            && self.tags.iter().all(|(tag, regex)| {
                is_match(regex, member.tags.get(tag).map_or(&[], |value| value.as_bytes()))
            })
    }
}

fn compile(expr: &[u8]) -> Result<Regex, String> {
    let shown = crate::escape::line(expr);
    let failure = |why: &str| format!("Failed to compile regex: error parsing regexp: {why}: `{shown}`");
    let expr = std::str::from_utf8(expr).map_err(|_| failure("invalid UTF-8"))?;
    let build = |text: &str| RegexBuilder::new(text).size_limit(FILTER_REGEX).build();
    // The expression must be whole by itself: "a)(b" is none, although the anchored form would be.
    build(expr).and_then(|_| build(&format!("^(?:{expr})$"))).map_err(|error| failure(&reason(&error)))
}

/// The last line of a parse error names the fault; the lines before point at it with arrows.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::member::{Status, Versions, WireAddr};

    fn member(name: &[u8], tags: &[(&str, &str)]) -> Member {
        Member {
            name: name.into(),
            addr: WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: 7946,
            tags: tags.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            status: Status::Alive,
            versions: Versions::ours(5),
        }
    }

    fn request(name: &str, status: &str, tags: &[(&str, &str)]) -> MemberFilter {
        MemberFilter {
            name: name.into(),
            status: status.into(),
            tags: tags.iter().map(|&(name, expr)| (name.into(), expr.into())).collect(),
        }
    }

    #[test]
    fn expressions_are_anchored_as_a_whole() {
        for (name, status, tags, wanted) in [
            ("", "", &[][..], true),
            ("alp.*", "", &[], true),
            ("alp", "", &[], false),
            ("x|lph", "", &[], false),
            ("alpha|x", "alive|left", &[], true),
            ("", "leav", &[], false),
            ("", "", &[("role", "web")], true),
            ("", "", &[("role", "we")], false),
            ("", "", &[("none", "")], true),
            ("", "", &[("none", ".+")], false),
            ("", "", &[("role", "web"), ("none", "x")], false),
        ] {
            let filter = Filter::new(&request(name, status, tags)).expect("the expressions are valid");
            assert_eq!(
                filter.matches(&member(b"alpha", &[("role", "web")])),
                wanted,
                "{name} {status} {tags:?}"
            );
        }
        let any = Filter::new(&request("a..", "", &[])).expect("the expression is valid");
        assert!(any.matches(&member(b"a\xff\xfe", &[])), "bytes that are not UTF-8 count as characters");
    }

    #[test]
    fn what_is_no_expression_is_said() {
        for expr in ["[", "a)(b", "(", "a{100000}{100000}"] {
            let error = Filter::new(&request(expr, "", &[])).expect_err("this is no expression");
            assert!(error.starts_with("Failed to compile regex: "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
