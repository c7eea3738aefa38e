//! Values of flags in Go's syntax: integers, durations and booleans (cli.md 1.3), as parsers for clap.
//!
//! A refused value carries Go's complete diagnostic in the clap error, where [`diagnostic`] finds it. The
//! parsers are pure: the same word gives the same value or the same message everywhere.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};

use villein_core::gotext::{parse_duration, quote};

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not of the expected form.
    Syntax,
    /// It is a number beyond 64 bits.
    Range,
}

/// A parser of one kind of value, for `#[arg(value_parser = ...)]`.
#[derive(Clone)]
pub(crate) struct GoValue<T> {
    parse: fn(&str) -> Result<T, Refusal>,
    /// How the diagnostic speaks of the value and its flag.
    words: (&'static str, &'static str),
}

/// `true` and `false` in Go's twelve spellings.
pub(crate) fn boolean() -> GoValue<bool> {
    GoValue { parse: parse_bool, words: ("boolean value", "") }
}

/// A signed integer of 64 bits: `10`, `-1`, `0x1F`, `0b11`, `0o17`, `017`, `1_000`.
pub(crate) fn integer() -> GoValue<i64> {
    GoValue { parse: parse_int, words: ("value", "flag ") }
}

/// A duration in nanoseconds: `1h15m`, `1.5s`, `-1s`, `0`.
pub(crate) fn duration() -> GoValue<i64> {
    GoValue { parse: |text| parse_duration(text).map_err(|_| Refusal::Syntax), words: ("value", "flag ") }
}

/// Any bytes, as they were typed.
pub(crate) fn text<T>() -> impl TypedValueParser<Value = T>
where
    T: From<Vec<u8>> + Clone + Send + Sync + 'static,
{
    OsStringValueParser::new().map(|word| T::from(word.into_vec()))
}

/// Go's diagnostic in an error that came from a [`GoValue`].
pub(crate) fn diagnostic(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::Custom) {
        Some(ContextValue::String(message)) => Some(message),
        _ => None,
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for GoValue<T> {
    type Value = T;

    fn parse_ref(
        &self,
        _: &clap::Command,
        flag: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parsed = value.to_str().ok_or(Refusal::Syntax).and_then(self.parse);
        parsed.map_err(|refusal| {
            let reason = match refusal {
                Refusal::Syntax => "parse error",
                Refusal::Range => "value out of range",
            };
            let (what, of) = self.words;
            let quoted = quote(value.as_bytes());
            let name = flag.and_then(clap::Arg::get_long).unwrap_or_default();
            let message = format!("invalid {what} {quoted} for {of}-{name}: {reason}");
            let mut error = clap::Error::raw(ErrorKind::ValueValidation, &message);
            error.insert(ContextKind::Custom, ContextValue::String(message));
            error
        })
    }
}

fn parse_bool(text: &str) -> Result<bool, Refusal> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Refusal::Syntax),
    }
}

fn parse_int(text: &str) -> Result<i64, Refusal> {
    let (negative, unsigned) = split_sign(text);
    if unsigned.is_empty() {
        return Err(Refusal::Syntax);
    }
    let (base, digits) = split_base(unsigned);
    let mut magnitude: u64 = 0;
    for digit in digits.chars().filter(|&c| c != '_') {
        let digit = digit.to_digit(base).ok_or(Refusal::Syntax)?;
        magnitude = magnitude
            .checked_mul(u64::from(base))
            .and_then(|shifted| shifted.checked_add(u64::from(digit)))
            .ok_or(Refusal::Range)?;
    }
    if !underscores_separate_digits(unsigned) {
        return Err(Refusal::Syntax);
    }
    let signed = if negative { 0i64.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() };
    signed.ok_or(Refusal::Range)
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// The base that a prefix names, and what follows the prefix. A lone `0` is a digit, not a prefix.
fn split_base(text: &str) -> (u32, &str) {
    match text.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &text[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &text[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    }
}

/// Each underscore stands between two digits, where a base prefix counts as one; only numbers whose
/// base is part of the text may have them at all, which in base zero all have.
fn underscores_separate_digits(unsigned: &str) -> bool {
    let is_digit = |at: usize| unsigned.as_bytes().get(at).is_some_and(|&byte| byte != b'_');
    unsigned.bytes().enumerate().all(|(at, byte)| {
        let follows = at.checked_sub(1).is_some_and(is_digit);
        byte != b'_' || (follows && is_digit(at + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let cases = [
            ("10", Ok(10)),
            ("-1", Ok(-1)),
            ("+5", Ok(5)),
            ("0", Ok(0)),
            ("0x1F", Ok(31)),
            ("0X1f_f", Ok(511)),
            ("0b11", Ok(3)),
            ("-0b11", Ok(-3)),
            ("0o17", Ok(15)),
            ("010", Ok(8)),
            ("0_5", Ok(5)),
            ("0x_5", Ok(5)),
            ("1_000", Ok(1000)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("9223372036854775808", Err(Refusal::Range)),
            ("99999999999999999999", Err(Refusal::Range)),
            ("", Err(Refusal::Syntax)),
            ("-", Err(Refusal::Syntax)),
            ("abc", Err(Refusal::Syntax)),
            ("0x", Err(Refusal::Syntax)),
            ("08", Err(Refusal::Syntax)),
            ("_5", Err(Refusal::Syntax)),
            ("5_", Err(Refusal::Syntax)),
            ("1__0", Err(Refusal::Syntax)),
            (" 1", Err(Refusal::Syntax)),
            ("1.0", Err(Refusal::Syntax)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_int(text), expected, "{text}");
        }
    }

    #[test]
    fn booleans() {
        for word in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(parse_bool(word), Ok(true), "{word}");
        }
        for word in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(parse_bool(word), Ok(false), "{word}");
        }
        for word in ["", "maybe", "tRUE", "yes", "2"] {
            assert_eq!(parse_bool(word), Err(Refusal::Syntax), "{word}");
        }
    }
}
