//! Regular expressions of others: the tag filters of queries, the member filters of clients.
//!
//! They have RE2 syntax and meaning, as the reference has them (gossip.md 13.10, rpc.md 6.5), and are matched
//! against bytes: each byte that is not UTF-8 counts as the character U+FFFD. Compiling one takes far longer
//! than sending it, so whoever compiles for others does so within an [`Allowance`].
//!
//! The invariant: what an allowance can be spent on takes a few milliseconds at most, whatever the
//! expressions are, and a match takes time linear in the value.

mod translate;

use crate::limits;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::fmt;

/// How much of a value an expression must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Any part of it.
    Part,
    /// All of it: `a|b` means one or the other, not "begins with a or ends with b".
    Whole,
}

/// What the expressions of one request may cost together.
#[derive(Debug)]
pub struct Allowance {
    /// Bytes of expressions that are left.
    text: usize,
    /// Bytes that each compiled expression may take.
    program: usize,
}

impl Allowance {
    /// For `count` expressions of `text` bytes together; `None` if they are more than
    /// [`limits::EXPRESSIONS`]. The more there are, the smaller each must be.
    pub fn new(count: usize, text: usize) -> Option<Allowance> {
        let program = (limits::EXPRESSIONS_PROGRAM / count.max(1)).min(limits::EXPRESSION_PROGRAM);
        (count <= limits::EXPRESSIONS).then_some(Allowance { text, program })
    }

    /// The error says why `expr` is no expression, or that it costs too much.
    pub fn compile(&mut self, expr: &[u8], extent: Extent) -> Result<Expression, Refusal> {
        let expr = std::str::from_utf8(expr).map_err(|_| Refusal::Malformed("invalid UTF-8".to_owned()))?;
        self.spend(expr.len())?;
        if translate::is_literal(expr) {
            return Ok(Expression(Matcher::Literal { text: expr.to_owned(), extent }));
        }
        let translated = translate::translate(expr).map_err(|why| match why {
            translate::TOO_DEEP => Refusal::TooCostly(why),
            _ => Refusal::Malformed(why.to_owned()),
        })?;
        self.spend(translated.wide_sets * limits::EXPRESSION_WIDE_SET)?;
        // Anchored at its beginning in any case: the compiler would otherwise spend several times as long on
        // ways to find where a match may begin, which pay only in long texts.
        let pattern = match extent {
            Extent::Part => format!("^(?s:.*?)(?:{})", translated.pattern),
            Extent::Whole => format!("^(?:{})$", translated.pattern),
        };
        let compiled = RegexBuilder::new(&pattern).size_limit(self.program).build();
        compiled.map(|regex| Expression(Matcher::Regex(regex))).map_err(|error| refusal(&error))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.text = self.text.checked_sub(bytes).ok_or(Refusal::TooCostly("expressions are too long"))?;
        Ok(())
    }
}

/// Why something is not used as an expression, in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is none, wherever it is read.
    Malformed(String),
    /// It costs more than its request may here; others may have other bounds.
    TooCostly(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(why) => f.write_str(why),
            Refusal::TooCostly(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

/// The last line of a parse error names the fault; the lines before point at it with arrows.
fn refusal(error: &regex::Error) -> Refusal {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return Refusal::TooCostly("expression is too large");
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    Refusal::Malformed(last.strip_prefix("error: ").unwrap_or(last).to_owned())
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Expression(Matcher);

#[derive(Clone, Debug)]
enum Matcher {
    /// Most expressions are plain words, which need no program.
    Literal { text: String, extent: Extent },
    /// Anchored already.
    Regex(Regex),
}

impl Expression {
    /// Whether it matches; an absent value counts as empty.
    pub fn is_match(&self, value: &[u8]) -> bool {
        let value = characters(value);
        match &self.0 {
            Matcher::Literal { text, extent: Extent::Part } => value.contains(text),
            Matcher::Literal { text, extent: Extent::Whole } => value == *text,
            Matcher::Regex(regex) => regex.is_match(&value),
        }
    }
}

/// The characters of a value as RE2 sees them.
fn characters(value: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(value) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Extent::{Part, Whole};

    fn compile(expr: &[u8], extent: Extent) -> Result<Expression, Refusal> {
        Allowance::new(1, 4096).expect("one is allowed").compile(expr, extent)
    }

    fn is_match(expr: &[u8], extent: Extent, value: &[u8]) -> bool {
        compile(expr, extent).expect("the expression is valid").is_match(value)
    }

    #[test]
    fn a_part_or_all_of_a_value_matches() {
        for (expr, value, part, whole) in [
            ("web", "web-1", true, false),
            ("web", "web", true, true),
            ("", "", true, true),
            ("", "web", true, false),
            ("^web$", "web", true, true),
            ("a|web", "web-1", true, false),
            ("a|web", "web", true, true),
            (".+", "", false, false),
            ("(?i)WEB", "web", true, true),
        ] {
            assert_eq!(is_match(expr.as_bytes(), Part, value.as_bytes()), part, "part {expr} {value}");
            assert_eq!(is_match(expr.as_bytes(), Whole, value.as_bytes()), whole, "whole {expr} {value}");
        }
    }

    #[test]
    fn classes_are_ascii_and_the_rest_is_unicode() {
        for (expr, value, expected) in [
            (r"\w", "é", false),
            (r"\W", "é", true),
            (r"\w+", "a_9", true),
            (r"\d", "٣", false),
            (r"[\d]", "3", true),
            (r"[^\d]", "٣", true),
            (r"\s", "\u{a0}", false),
            (r"\s", "\x0b", false),
            (r"\S", "\x0b", true),
            (r"a\bé", "aé", true),
            (r"é\B€", "é€", true),
            (r"a\Bé", "aé", false),
            (".", "é", true),
            ("[à-ü]", "é", true),
            (r"\pL", "é", true),
            (r"[&&a]", "&", true),
            (r"\Q.*\E", ".*", true),
            ("a{", "a{", true),
            ("a{,2}", "aa", false),
        ] {
            assert_eq!(is_match(expr.as_bytes(), Whole, value.as_bytes()), expected, "{expr} {value}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_count_as_characters() {
        // The last two begin a character of three bytes; they are two all the same.
        for (expr, value, expected) in [
            ("a..", &b"a\xff\xfe"[..], true),
            ("a..", b"a\xe2\x82", true),
            ("a.", b"a\xe2\x82", false),
            ("a\u{fffd}", b"a\xff", true),
            ("a\u{fffd}+b", b"a\xff\xe9b", true),
        ] {
            assert_eq!(is_match(expr.as_bytes(), Whole, value), expected, "{expr} {value:?}");
        }
        assert_eq!(compile(b"\xff", Part).unwrap_err(), Refusal::Malformed("invalid UTF-8".to_owned()));
    }

    #[test]
    fn what_is_no_expression_is_said_in_a_line() {
        for expr in ["[", "a)(b", "(", "*", "|*", "a{3,2}", "[z-a]", r"\C", r"\p{Klingon}", "a{99999999999}"]
        {
            let Err(Refusal::Malformed(error)) = compile(expr.as_bytes(), Whole) else {
                panic!("{expr} is taken for an expression");
            };
            assert!(!error.is_empty() && !error.contains('\n'), "{expr}: {error:?}");
        }
    }

    #[test]
    fn the_cost_of_a_request_is_bounded() {
        assert!(Allowance::new(limits::EXPRESSIONS, 1).is_some());
        assert!(Allowance::new(limits::EXPRESSIONS + 1, 1).is_none());
        let too_large = Refusal::TooCostly("expression is too large");
        assert_eq!(compile(br"(((a{100}){100}){100}){100}", Part).unwrap_err(), too_large);
        let deep = "(".repeat(limits::EXPRESSION_DEPTH + 1);
        assert!(matches!(compile(deep.as_bytes(), Part), Err(Refusal::TooCostly(_))));
        // The length is that of all expressions.
        let mut allowance = Allowance::new(2, 10).expect("two are allowed");
        assert!(allowance.compile(b"abcd.", Part).is_ok());
        assert!(allowance.compile(b"abcdef", Part).is_err());
        assert!(allowance.compile(b"abcde", Part).is_ok());
        assert!(allowance.compile(b"a", Part).is_err());
        // A large set counts as much as a long text.
        let sets = |count: usize| {
            let mut allowance = Allowance::new(1, 2 * limits::EXPRESSION_WIDE_SET).expect("one is allowed");
            allowance.compile(r"\p{Nd}".repeat(count).as_bytes(), Part)
        };
        assert!(sets(1).is_ok());
        assert!(sets(2).is_err());
        // Of many, each must be smaller.
        let alone = Allowance::new(1, 1024).expect("one is allowed").compile(b".{50}", Part);
        let among_many =
            Allowance::new(limits::EXPRESSIONS, 1024).expect("they are allowed").compile(b".{50}", Part);
        assert!(alone.is_ok() && among_many.is_err());
    }
}
