//! Whether a query is meant for this node (gossip.md 13.10).
//!
//! All filters of a query must match. An expression is compiled, used once and thrown away; its compiled
//! size is bounded, and matching takes time linear in the value, so that no query can occupy a node.

use crate::limits;
use crate::member::Tags;
use crate::note::Note;
use crate::text::Text;
use crate::wire::message::Filter;
use crate::wire::serf::decode_filter;
use regex::bytes::{Regex, RegexBuilder};

/// Whether all filters match. A note says that one cannot be understood, which is as if it did not match.
pub(super) fn accept(filters: &[&[u8]], name: &[u8], tags: &Tags) -> Result<bool, Note> {
    for filter in filters {
        let matches = match decode_filter(filter).map_err(|_| Note::FilterMalformed)? {
            Filter::Nodes(names) => names.contains(&name),
            Filter::Tag { tag, expr } => {
                let value = tags.get(tag).map(Text::as_bytes).unwrap_or_default();
                compile(expr)?.is_match(value)
            }
        };
        if !matches {
            return Ok(false);
        }
    }
    Ok(true)
}

fn compile(expr: &[u8]) -> Result<Regex, Note> {
    let invalid = |why: &str| Note::FilterInvalid { expr: expr.into(), why: why.to_owned() };
    let text = std::str::from_utf8(expr).map_err(|_| invalid("it is not UTF-8"))?;
    RegexBuilder::new(text).size_limit(limits::FILTER_REGEX).build().map_err(|error| {
        // Syntax errors draw the place over several lines; the last one says what is wrong.
        let full = error.to_string();
        invalid(full.lines().last().unwrap_or_default().trim_start_matches("error: "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::serf::encode_filter;

    fn encoded(filter: &Filter<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_filter(filter, &mut bytes);
        bytes
    }

    fn tag(tag: &str, expr: &str) -> Vec<u8> {
        encoded(&Filter::Tag { tag: tag.as_bytes(), expr: expr.as_bytes() })
    }

    fn ask(filters: &[Vec<u8>]) -> Result<bool, Note> {
        let tags = Tags::from([("role".into(), "web-42".into()), ("dc".into(), "eu".into())]);
        let filters: Vec<&[u8]> = filters.iter().map(Vec::as_slice).collect();
        accept(&filters, b"alpha", &tags)
    }

    #[test]
    fn all_filters_must_match() {
        let me = encoded(&Filter::Nodes(vec![b"beta", b"alpha"]));
        let other = encoded(&Filter::Nodes(vec![b"beta"]));
        let nobody = encoded(&Filter::Nodes(vec![]));
        let rows = [
            (vec![], true),
            (vec![me.clone()], true),
            (vec![other.clone()], false),
            (vec![nobody], false),
            // Unanchored.
            (vec![tag("role", "eb-")], true),
            (vec![tag("role", "^web$")], false),
            (vec![tag("role", "^web-[0-9]+$")], true),
            // A missing tag counts as empty.
            (vec![tag("rack", ".*")], true),
            (vec![tag("rack", ".+")], false),
            (vec![tag("rack", "")], true),
            (vec![me.clone(), tag("dc", "eu|us")], true),
            (vec![me, tag("dc", "us")], false),
            (vec![other, tag("dc", "eu")], false),
        ];
        for (filters, expected) in rows {
            assert_eq!(ask(&filters), Ok(expected), "{filters:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_does_not_match() {
        assert_eq!(ask(&[vec![7, 0x80]]), Err(Note::FilterMalformed));
        assert_eq!(ask(&[vec![1]]), Err(Note::FilterMalformed));
        let why = |expr: &str| match ask(&[tag("role", expr)]) {
            Err(Note::FilterInvalid { expr: named, why }) => {
                assert_eq!(named, Text::from(expr));
                assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
                why
            }
            other => panic!("{expr}: {other:?}"),
        };
        assert_eq!(why("(web"), "unclosed group");
        why("[z-a]");
        // Compiles to more than the bound.
        why("(((a{100}){100}){100}){100}");
        let not_text = encoded(&Filter::Tag { tag: b"role", expr: &[0xff] });
        assert!(matches!(ask(&[not_text]), Err(Note::FilterInvalid { .. })));
    }
}
