//! Whether a query is meant for this node (gossip.md 13.10).
//!
//! All filters of a query must match. Those for nodes are looked at first: they cost next to nothing, and
//! most queries with filters name nodes or are for few. Expressions are compiled, used once and thrown away,
//! within the [`Allowance`] of their query.
//!
//! The invariant: no query occupies a node for more than a few milliseconds.

use crate::expression::{Allowance, Extent, Refusal};
use crate::limits;
use crate::member::Tags;
use crate::note::Note;
use crate::text::Text;
use crate::wire::message::{Filter, Query};
use crate::wire::serf::{Fault, check_filter, decode_filter};

/// What the filters of a query may cost. A note says that there are too many, or that one is broken; such a query
/// is not passed on either, because it is no better for others: agents of the reference reserve memory for as many
/// names as a filter claims to list, and die of it (gossip.md 2.2).
pub(super) fn allowance(query: &Query<'_>) -> Result<Allowance, Note> {
    let count = query.filters.len();
    let allowance = Allowance::new(count, limits::QUERY_EXPRESSIONS_TEXT)
        .ok_or_else(|| Note::FilterLimit { name: query.name.into(), count })?;
    if query.filters.iter().any(|filter| is_broken(filter)) {
        return Err(Note::FilterMalformed);
    }
    Ok(allowance)
}

/// Whether a filter is none of its kind. What an unknown kind looks like only others know.
fn is_broken(filter: &[u8]) -> bool {
    check_filter(filter).is_err_and(|error| !matches!(error.fault, Fault::Kind(_)))
}

/// Whether all filters match. A note says that one cannot be understood, which is as if it did not match.
pub(super) fn accept(
    filters: &[&[u8]],
    mut allowance: Allowance,
    name: &[u8],
    tags: &Tags,
) -> Result<bool, Note> {
    let mut expressions = Vec::new();
    for filter in filters {
        match decode_filter(filter).map_err(|_| Note::FilterMalformed)? {
            Filter::Nodes(names) if !names.contains(&name) => return Ok(false),
            Filter::Nodes(_) => {}
            Filter::Tag { tag, expr } => expressions.push((tag, expr)),
        }
    }
    for (tag, expr) in expressions {
        let invalid = |why: Refusal| Note::FilterInvalid { expr: expr.into(), why: why.to_string() };
        // A missing tag counts as empty.
        let value = tags.get(tag).map(Text::as_bytes).unwrap_or_default();
        if !allowance.compile(expr, Extent::Part).map_err(invalid)?.is_match(value) {
            return Ok(false);
        }
    }
    Ok(true)
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
        let query = Query { filters, name: b"q", ..Query::default() };
        accept(&query.filters, allowance(&query)?, b"alpha", &tags)
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
    fn what_is_broken_is_not_passed_on() {
        let passes = |filter: &[u8]| {
            assert_eq!(check_filter(filter), decode_filter(filter).map(drop));
            let query = Query { filters: vec![&[0, 0x90], filter], ..Query::default() };
            match allowance(&query) {
                Ok(_) => true,
                Err(note) => {
                    assert_eq!(note, Note::FilterMalformed);
                    false
                }
            }
        };
        // Lists that claim more names than there are, up to 2^32 - 1.
        assert!(!passes(b"\x00\xdd\xff\xff\xff\xff"));
        assert!(!passes(b"\x00\xdd\x00\x10\x00\x00"));
        assert!(!passes(b"\x00\x92\xa1a"));
        assert!(!passes(b"\x01\x81\xa4Expr\xdb\xff\xff\xff\xf0"));
        assert!(!passes(&[1]));
        // Others may know this kind, and may compile this expression.
        assert!(passes(&[7, 0x80]));
        assert!(passes(&tag("role", "(web")));
        assert!(passes(&encoded(&Filter::Nodes(vec![b"beta"]))));
    }

    #[test]
    fn what_cannot_be_understood_does_not_match() {
        assert_eq!(ask(&[vec![7, 0x80]]), Err(Note::FilterMalformed));
        let why = |expr: &str| match ask(&[tag("role", expr)]) {
            Err(Note::FilterInvalid { expr: named, why }) => {
                assert_eq!(named, Text::from(expr));
                assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
                why
            }
            other => panic!("{expr}: {other:?}"),
        };
        assert_eq!(why("(web"), "missing closing )");
        why("[z-a]");
        why("(((a{100}){100}){100}){100}");
        why(&"w.b".repeat(limits::QUERY_EXPRESSIONS_TEXT));
        let not_text = encoded(&Filter::Tag { tag: b"role", expr: &[0xff] });
        assert!(matches!(ask(&[not_text]), Err(Note::FilterInvalid { .. })));
    }

    #[test]
    fn what_filters_cost_is_bounded() {
        let many = |count: usize, expr: &str| ask(&vec![tag("role", expr); count]);
        assert_eq!(many(limits::EXPRESSIONS, "w.b"), Ok(true));
        let count = limits::EXPRESSIONS + 1;
        assert_eq!(many(count, "w.b"), Err(Note::FilterLimit { name: "q".into(), count }));
        // All expressions share the allowance.
        assert_eq!(many(1, ".{50}|"), Ok(true));
        assert!(matches!(many(limits::EXPRESSIONS, ".{50}|"), Err(Note::FilterInvalid { .. })));
        let half = format!("w.b|{}", "x".repeat(limits::QUERY_EXPRESSIONS_TEXT / 2));
        assert_eq!(many(1, &half), Ok(true));
        assert!(matches!(many(2, &half), Err(Note::FilterInvalid { .. })));
        // Nothing is compiled for a node that is not meant, wherever that is said.
        let other = encoded(&Filter::Nodes(vec![b"beta"]));
        assert_eq!(ask(&[tag("role", "("), other]), Ok(false));
    }
}
