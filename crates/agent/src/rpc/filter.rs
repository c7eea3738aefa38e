//! Which members `members-filtered` gives (rpc.md 6.5).
//!
//! Expressions are anchored as a whole: `a|b` means one or the other, not "begins with a or ends with b".

use crate::limits::FILTER_EXPRESSIONS_TEXT;
use villein_core::expression::{Allowance, Expression, Extent};
use villein_core::limits::EXPRESSIONS;
use villein_core::member::Member;
use villein_core::text::Text;
use villein_rpc::request::MemberFilter;

/// Compiled expressions; a missing one matches everything.
#[derive(Debug)]
pub(super) struct Filter {
    name: Option<Expression>,
    status: Option<Expression>,
    tags: Vec<(Text, Expression)>,
}

impl Filter {
    /// The error is the text for the client.
    pub(super) fn new(request: &MemberFilter) -> Result<Filter, String> {
        let count = [&request.name, &request.status].into_iter().filter(|expr| !expr.is_empty()).count();
        let mut allowance = Allowance::new(count + request.tags.len(), FILTER_EXPRESSIONS_TEXT)
            .ok_or_else(|| format!("Failed to compile regex: more than {EXPRESSIONS} expressions"))?;
        let mut compile = |expr: &[u8]| {
            allowance.compile(expr, Extent::Whole).map_err(|why| {
                let shown = crate::escape::line(expr);
                format!("Failed to compile regex: error parsing regexp: {why}: `{shown}`")
            })
        };
        let mut optional = |expr: &[u8]| if expr.is_empty() { Ok(None) } else { compile(expr).map(Some) };
        Ok(Filter {
            name: optional(&request.name)?,
            status: optional(&request.status)?,
            tags: request
                .tags
                .iter()
                .map(|(tag, expr)| Ok((super::records::core_text(tag), compile(expr)?)))
                .collect::<Result<_, String>>()?,
        })
    }

    /// Whether all expressions match; a missing tag counts as empty.
    pub(super) fn matches(&self, member: &Member) -> bool {
        let optional =
            |expr: &Option<Expression>, value: &[u8]| expr.as_ref().is_none_or(|expr| expr.is_match(value));
        optional(&self.name, &member.name)
            && optional(&self.status, member.status.name().as_bytes())
            && self
                .tags
                .iter()
                .all(|(tag, expr)| expr.is_match(member.tags.get(tag).map_or(&[], |value| value.as_bytes())))
    }
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

    #[test]
    fn what_a_filter_costs_is_bounded() {
        let tags: Vec<String> = (0..EXPRESSIONS).map(|number| number.to_string()).collect();
        let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), "a|")).collect();
        let filter = Filter::new(&request("", "", &tags)).expect("so many are allowed");
        assert!(filter.matches(&member(b"alpha", &[])));
        let error = Filter::new(&request("a", "", &tags)).expect_err("one is too many");
        assert_eq!(error, "Failed to compile regex: more than 32 expressions");
        let long = "a".repeat(FILTER_EXPRESSIONS_TEXT);
        assert!(Filter::new(&request(&long, "", &[])).is_ok());
        let error = Filter::new(&request(&long, "a", &[])).expect_err("they are too long together");
        assert!(error.contains("expressions are too long"), "{error}");
    }
}
