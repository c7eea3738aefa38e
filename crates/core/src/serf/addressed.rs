//! Whom a query of ours is for, as far as the member table knows (gossip.md 13.10).
//!
//! A query whose every addressee has answered need not wait for its time to be over. Who that is is decided once,
//! when the query begins: the live members that its filters match, and named nodes of which nothing is known,
//! because they may be there all the same. Members that failed or left are known not to be. Whoever joins later
//! may hear of the query and answer, but is not waited for; whoever goes is waited for to the end.
//!
//! The invariant: nobody is guessed. Where it cannot be said who matches, the set is empty, and such a query
//! takes its whole time.

use super::members::Members;
use crate::command::QueryParams;
use crate::expression::{Allowance, Extent, Refusal};
use crate::limits;
use crate::member::{Member, Status};
use crate::note::Note;
use crate::text::Text;
use std::collections::BTreeSet;

/// The names of those who are to answer. A note says that an expression is none: no node can match it, wherever
/// the query is sent.
pub(super) fn addressed(params: &QueryParams, members: &Members) -> Result<BTreeSet<Text>, Note> {
    let count = usize::from(!params.nodes.is_empty()) + params.tags.len();
    let Some(mut allowance) = Allowance::new(count, limits::QUERY_EXPRESSIONS_TEXT) else {
        return Ok(BTreeSet::new());
    };
    let mut expressions = Vec::new();
    for (tag, expr) in &params.tags {
        match allowance.compile(expr, Extent::Part) {
            Ok(expression) => expressions.push((tag, expression)),
            Err(Refusal::Malformed(why)) => return Err(Note::FilterInvalid { expr: expr.clone(), why }),
            // Other nodes may have other bounds.
            Err(Refusal::TooCostly(_)) => return Ok(BTreeSet::new()),
        }
    }
    let is_meant = |member: &Member| {
        let value = |tag: &Text| member.tags.get(tag).map(Text::as_bytes).unwrap_or_default();
        matches!(member.status, Status::Alive | Status::Leaving)
            && expressions.iter().all(|(tag, expression)| expression.is_match(value(tag)))
    };
    Ok(if params.nodes.is_empty() {
        let meant = members.entries().map(|entry| &entry.member).filter(|member| is_meant(member));
        meant.map(|member| member.name.clone()).collect()
    } else {
        params.nodes.iter().filter(|name| members.get(name).is_none_or(is_meant)).cloned().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Tags, Versions, WireAddr};
    use crate::time::Instant;

    /// a is a web server, b and c are databases, c has failed, d has no role.
    fn members() -> Members {
        let mut members = Members::new();
        for (name, role) in [("a", "web"), ("b", "db"), ("c", "db"), ("d", "")] {
            let member = Member {
                name: name.into(),
                addr: WireAddr::from_ip([127, 0, 0, 1].into()),
                port: 7946,
                tags: if role.is_empty() { Tags::new() } else { Tags::from([("role".into(), role.into())]) },
                status: Status::Alive,
                versions: Versions::ours(5),
            };
            assert!(members.appear(member));
        }
        assert!(members.vanish(b"c", Instant::ORIGIN).is_some());
        members
    }

    /// Asks `nodes` with `tags` such as `role=web`, each apart by spaces; the names of those who are to answer.
    fn to(nodes: &str, tags: &str) -> Result<String, Note> {
        let pair = |tag: &str| tag.split_once('=').map(|(tag, expr)| (tag.into(), expr.into())).unwrap();
        let params = QueryParams {
            nodes: nodes.split_whitespace().map(Text::from).collect(),
            tags: tags.split_whitespace().map(pair).collect(),
            ..QueryParams::default()
        };
        let names = addressed(&params, &members())?;
        Ok(names.iter().map(Text::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn live_members_that_match_are_meant() {
        let rows = [
            ("", "", "a b d"),
            ("", "role=b", "a b"),
            ("", "role=^b", ""),
            // A missing tag counts as empty.
            ("", "role=^$", "d"),
            ("", "role=web dc=eu", ""),
            // One that failed is known not to answer; of one that nobody has seen nothing is known.
            ("b c", "", "b"),
            ("b x", "", "b x"),
            ("x", "role=web", "x"),
            ("a b", "role=web", "a"),
        ];
        for (nodes, tags, expected) in rows {
            assert_eq!(to(nodes, tags).as_deref(), Ok(expected), "{nodes} {tags}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_for_nobody_in_particular() {
        let long = "x".repeat(limits::QUERY_EXPRESSIONS_TEXT + 1);
        assert_eq!(to("", &format!("role={long}")).as_deref(), Ok(""));
        assert_eq!(to("", &"role=w.b ".repeat(limits::EXPRESSIONS + 1)).as_deref(), Ok(""));
        assert!(matches!(to("a", "role=["), Err(Note::FilterInvalid { expr, .. }) if *expr == *b"["));
    }
}
