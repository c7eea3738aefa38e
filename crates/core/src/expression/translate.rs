//! RE2 syntax, as Go has it, in the words of the `regex` crate.
//!
//! The two differ in what a class letter means (`\w` is ASCII here, Unicode there), in which operators exist
//! (`[a&&b]` is a set of three characters here, an intersection there), and in what is taken literally (`a{`).
//! Everything is read by the rules of RE2 and written in forms that mean one thing only: what RE2 does not know
//! is an error, and each literal is written so that it cannot be anything else. Whether the rest makes sense,
//! such as the ends of a count or the name of a property, is left to the compiler.
//!
//! The invariant: a translation is whole by itself, so that anchors can be put around it.

use crate::limits;
use std::fmt::Write;
use std::str::Chars;

/// An expression that the `regex` crate understands.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) pattern: String,
    /// How many large sets of characters it names: each costs the compiler as much as a long text.
    pub(super) wide_sets: usize,
}

/// The error says what is wrong in a few words.
pub(super) fn translate(expr: &str) -> Result<Translation, &'static str> {
    let translation = Translation { pattern: String::with_capacity(expr.len()), wide_sets: 0 };
    let mut translator = Translator { rest: expr.chars(), out: translation, depth: 0 };
    translator.sequence()?;
    Ok(translator.out)
}

/// Whether an expression is its own only match.
pub(super) fn is_literal(expr: &str) -> bool {
    !expr.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'])
}

/// Names of ASCII sets within brackets: `[[:alpha:]]`.
const ASCII_SETS: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// The only error of an expression that others may understand.
pub(super) const TOO_DEEP: &str = "expression nests too deeply";

const UNCLOSED_GROUP: &str = "missing closing )";
const UNCLOSED_SET: &str = "missing closing ]";
const BAD_ESCAPE: &str = "invalid escape sequence";
const TRAILING_BACKSLASH: &str = "trailing backslash at end of expression";

struct Translator<'a> {
    rest: Chars<'a>,
    out: Translation,
    /// Open groups.
    depth: usize,
}

impl Translator<'_> {
    fn sequence(&mut self) -> Result<(), &'static str> {
        let mut after_repetition = false;
        while let Some(next) = self.rest.next() {
            let is_repetition = match next {
                '*' | '+' | '?' => {
                    self.out.pattern.push(next);
                    true
                }
                '{' => self.count(),
                _ => {
                    self.element(next)?;
                    false
                }
            };
            if is_repetition && after_repetition {
                return Err("invalid nested repetition operator");
            }
            if is_repetition && self.eat('?') {
                self.out.pattern.push('?');
            }
            after_repetition = is_repetition;
        }
        if self.depth == 0 { Ok(()) } else { Err(UNCLOSED_GROUP) }
    }

    fn element(&mut self, first: char) -> Result<(), &'static str> {
        match first {
            '.' | '^' | '$' | '|' => self.out.pattern.push(first),
            '(' => self.open()?,
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or("unexpected )")?;
                self.out.pattern.push(')');
            }
            '[' => self.set()?,
            '\\' => self.escape()?,
            _ => self.literal(first),
        }
        Ok(())
    }

    /// What follows a brace: a count, or the brace is one to match.
    fn count(&mut self) -> bool {
        let rest = self.rest.as_str();
        let number = |digits: &str| {
            digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'))
        };
        let is_count = |text: &str| {
            let (least, most) = text.split_once(',').unwrap_or((text, ""));
            !least.is_empty() && number(least) && number(most)
        };
        match rest.split_once('}') {
            Some((text, after)) if is_count(text) => {
                self.write(format_args!("{{{text}}}"));
                self.rest = after.chars();
                true
            }
            _ => {
                self.literal('{');
                false
            }
        }
    }

    /// What follows an opening parenthesis. Nobody asks what a group has matched, so none captures.
    fn open(&mut self) -> Result<(), &'static str> {
        self.depth += 1;
        if self.depth > limits::EXPRESSION_DEPTH {
            return Err(TOO_DEEP);
        }
        let Some(rest) = self.rest.as_str().strip_prefix('?') else {
            self.out.pattern.push_str("(?:");
            return Ok(());
        };
        if let Some(named) = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<')) {
            let (name, after) = named.split_once('>').unwrap_or_default();
            if !is_name(name) {
                return Err("invalid named capture");
            }
            self.out.pattern.push_str("(?:");
            self.rest = after.chars();
            return Ok(());
        }
        let (flags, after) = rest.split_at(rest.find([':', ')']).ok_or(UNCLOSED_GROUP)?);
        if !flags.bytes().all(|flag| b"imsU-".contains(&flag)) {
            return Err("invalid or unsupported Perl syntax");
        }
        self.write(format_args!("(?{flags}"));
        self.rest = after.chars();
        if self.eat(':') {
            self.out.pattern.push(':');
        }
        Ok(())
    }

    /// What follows an opening bracket.
    fn set(&mut self) -> Result<(), &'static str> {
        self.out.pattern.push('[');
        if self.eat('^') {
            self.out.pattern.push('^');
        }
        let mut is_first = true;
        loop {
            let next = self.rest.next().ok_or(UNCLOSED_SET)?;
            match next {
                ']' if !is_first => {
                    self.out.pattern.push(']');
                    return Ok(());
                }
                '[' if self.ascii_set()? => {}
                '\\' if self.rest.as_str().starts_with(is_set_letter) => {
                    let letter = self.rest.next().ok_or(TRAILING_BACKSLASH)?;
                    self.named_set(letter)?;
                }
                _ => self.range(next)?,
            }
            is_first = false;
        }
    }

    /// One character of a set, or two and all between them.
    fn range(&mut self, first: char) -> Result<(), &'static str> {
        let low = self.member(first)?;
        self.literal(low);
        let rest = self.rest.as_str();
        if !rest.starts_with('-') || rest.starts_with("-]") {
            return Ok(());
        }
        self.rest.next();
        let last = self.rest.next().ok_or(UNCLOSED_SET)?;
        let high = self.member(last)?;
        self.out.pattern.push('-');
        self.literal(high);
        self.out.wide_sets += usize::from(!high.is_ascii());
        if low <= high { Ok(()) } else { Err("invalid character class range") }
    }

    fn member(&mut self, first: char) -> Result<char, &'static str> {
        if first == '\\' { self.escaped() } else { Ok(first) }
    }

    /// Within a set and behind an opening bracket: `:alpha:]`, or the bracket is one to match.
    fn ascii_set(&mut self) -> Result<bool, &'static str> {
        let named = self.rest.as_str().strip_prefix(':').and_then(|rest| rest.split_once(":]"));
        let Some((name, after)) = named else { return Ok(false) };
        if !ASCII_SETS.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err("invalid character class range");
        }
        self.write(format_args!("[:{name}:]"));
        self.rest = after.chars();
        Ok(true)
    }

    /// What follows a backslash outside of a set.
    fn escape(&mut self) -> Result<(), &'static str> {
        let rest = self.rest.as_str();
        match rest.chars().next().ok_or(TRAILING_BACKSLASH)? {
            letter if is_set_letter(letter) => {
                self.rest.next();
                self.named_set(letter)?;
            }
            'A' | 'z' => {
                self.rest.next();
                self.write(format_args!("\\{}", &rest[..1]));
            }
            'b' | 'B' => {
                self.rest.next();
                self.write(format_args!("(?-u:\\{})", &rest[..1]));
            }
            'Q' => {
                let (quoted, after) = rest[1..].split_once("\\E").unwrap_or((&rest[1..], ""));
                quoted.chars().for_each(|quoted| self.literal(quoted));
                self.rest = after.chars();
            }
            _ => {
                let escaped = self.escaped()?;
                self.literal(escaped);
            }
        }
        Ok(())
    }

    /// A set that a letter behind a backslash names; capitals mean all other characters.
    fn named_set(&mut self, letter: char) -> Result<(), &'static str> {
        let set = match letter.to_ascii_lowercase() {
            'd' => "0-9",
            's' => r"\t\n\x{c}\r\x{20}",
            'w' => "0-9A-Za-z_",
            _ => return self.property(letter == 'P'),
        };
        self.write(format_args!("[{}{set}]", if letter.is_ascii_uppercase() { "^" } else { "" }));
        Ok(())
    }

    /// A Unicode property: a letter, or a name in braces.
    fn property(&mut self, mut negated: bool) -> Result<(), &'static str> {
        let rest = self.rest.as_str();
        let (mut name, after) = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or_default(),
            None => rest.split_at_checked(1).unwrap_or_default(),
        };
        if let Some(others) = name.strip_prefix('^') {
            (name, negated) = (others, !negated);
        }
        if !is_name(name) {
            return Err("invalid character class range");
        }
        self.write(format_args!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }));
        self.rest = after.chars();
        self.out.wide_sets += 1;
        Ok(())
    }

    /// What follows a backslash: a character.
    fn escaped(&mut self) -> Result<char, &'static str> {
        let rest = self.rest.as_str();
        let first = self.rest.next().ok_or(TRAILING_BACKSLASH)?;
        match first {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => {
                let (digits, after) = match rest[1..].strip_prefix('{') {
                    Some(braced) => braced.split_once('}').unwrap_or_default(),
                    None => rest[1..].split_at_checked(2).unwrap_or_default(),
                };
                self.rest = after.chars();
                number(digits, 16)
            }
            // One digit alone, unless zero, is a reference to a group, which RE2 has not.
            '0'..='7' => {
                let length = rest.bytes().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
                self.rest = rest[length..].chars();
                if length == 1 && first != '0' { Err(BAD_ESCAPE) } else { number(&rest[..length], 8) }
            }
            _ if first.is_ascii() && !first.is_ascii_alphanumeric() => Ok(first),
            _ => Err(BAD_ESCAPE),
        }
    }

    fn literal(&mut self, literal: char) {
        if literal.is_ascii_punctuation() {
            self.write(format_args!("\\x{{{:x}}}", u32::from(literal)));
        } else {
            self.out.pattern.push(literal);
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.pattern.write_fmt(text).expect("a text takes everything");
    }

    fn eat(&mut self, wanted: char) -> bool {
        let after = self.rest.as_str().strip_prefix(wanted);
        if let Some(after) = after {
            self.rest = after.chars();
        }
        after.is_some()
    }
}

fn is_set_letter(letter: char) -> bool {
    matches!(letter, 'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn number(digits: &str, radix: u32) -> Result<char, &'static str> {
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| is_number);
    number.and_then(char::from_u32).ok_or(BAD_ESCAPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(expr: &str) -> Result<String, &'static str> {
        translate(expr).map(|translation| translation.pattern)
    }

    #[test]
    fn what_means_the_same_stays() {
        for expr in
            ["", "abc", "^a|b$", "a*b+?c??", "(?:a.)", "(?i)a(?s-m:b)", "a{2}b{2,}c{2,3}?", "[a-z]", "é"]
        {
            assert_eq!(pattern(expr).as_deref(), Ok(expr));
        }
    }

    #[test]
    fn what_means_something_else_is_written_differently() {
        for (expr, expected) in [
            ("(a)(?P<x>b)(?<y>c)", "(?:a)(?:b)(?:c)"),
            (r"\w\D", "[0-9A-Za-z_][^0-9]"),
            (r"[\s\Wx]", r"[[\t\n\x{c}\r\x{20}][^0-9A-Za-z_]x]"),
            (r"\b\B\A\z", r"(?-u:\b)(?-u:\B)\A\z"),
            (r"\Qa.*\Eb\Q(", r"a\x{2e}\x{2a}b\x{28}"),
            ("a{}{,2}{01}", r"a\x{7b}\x{7d}\x{7b}\x{2c}2\x{7d}\x{7b}01\x{7d}"),
            ("]-&&", r"\x{5d}\x{2d}\x{26}\x{26}"),
            ("[]a&&[+--]", r"[\x{5d}a\x{26}\x{26}\x{5b}\x{2b}-\x{2d}]"),
            ("[^]-a]", r"[^\x{5d}-a]"),
            ("[[:alpha:][:^digit:]]", "[[:alpha:][:^digit:]]"),
            (r"\<\_\ ", r"\x{3c}\x{5f} "),
            (r"\012\x41\x{e9}\07", "\nAé\x07"),
            (r"\pL\P{Greek}\p{^L}", r"\p{L}\P{Greek}\P{L}"),
        ] {
            assert_eq!(pattern(expr).as_deref(), Ok(expected), "{expr}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expr in [
            "(",
            "a)(b",
            ")",
            "(?i",
            "(?x)",
            "(?=a)",
            "(?<=a)",
            "(?P<>a)",
            "(?P<a",
            "[",
            "[]",
            "[a",
            "[z-a]",
            r"[a-\d]",
            "[[:loop:]]",
            r"\",
            r"[\",
            r"\C",
            r"\Z",
            r"\h",
            r"\1",
            r"\8",
            r"\x4",
            r"\x{}",
            r"\x{+41}",
            r"\x{110000}",
            r"\x",
            r"\xé",
            r"\p",
            r"\p{",
            r"\p{sc=Greek}",
            r"\pé",
            r"\é",
            r"[\b]",
            r"[\Q]",
            "a**",
            "a+*",
            "a{2}{3}",
            "a*??",
        ] {
            assert!(pattern(expr).is_err(), "{expr}");
        }
        let nested = |depth: usize| "(".repeat(depth) + &")".repeat(depth);
        assert!(pattern(&nested(limits::EXPRESSION_DEPTH)).is_ok());
        assert!(pattern(&nested(limits::EXPRESSION_DEPTH + 1)).is_err());
    }

    #[test]
    fn large_sets_are_counted() {
        for (expr, expected) in
            [(r"\w[a-z].[^é]", 0), (r"\pL[\pN\PL]", 3), ("[a-é]", 1), (r"[é-\x{10ffff}]", 1)]
        {
            assert_eq!(translate(expr).map(|translation| translation.wide_sets), Ok(expected), "{expr}");
        }
    }
}
