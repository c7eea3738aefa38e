//! Values of flags in Go's syntax: integers, durations and booleans (cli.md 1.3), as parsers for clap.
//!
//! A refused value carries Go's complete diagnostic in the clap error, where [`diagnostic`] finds it. The
//! parsers are pure: the same word gives the same value or the same message everywhere.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};

use villein_core::gotext::quote;

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

/// Nanoseconds of a duration, or Go's words about why it is none (`time: missing unit in duration "5"`).
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = split_sign(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = split_while(rest, |byte| byte.is_ascii_digit());
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(behind) => split_while(behind, |byte| byte.is_ascii_digit()),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after_unit) = split_while(after_number, |byte| byte != b'.' && !byte.is_ascii_digit());
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let nanos = unit_nanos(unit).ok_or_else(|| {
            format!("time: unknown unit {} in duration {}", quote(unit.as_bytes()), quoted())
        })?;
        total =
            amount(whole, fraction, nanos).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
        rest = after_unit;
    }
    let signed = if negative { 0i64.checked_sub_unsigned(total) } else { total.try_into().ok() };
    signed.ok_or_else(invalid)
}

fn split_while(text: &str, keep: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !keep(byte)).unwrap_or(text.len());
    text.split_at(end)
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter look alike, and both are typed.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction` units of `nanos` each, cut to whole nanoseconds; `None` when it does not fit.
fn amount(whole: &str, fraction: &str, nanos: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // An hour has 3.6e12 nanoseconds: what stands behind the 18th decimal cannot be seen.
    let digits = &fraction[..fraction.len().min(18)];
    let numerator: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let part = numerator * u128::from(nanos) / 10u128.pow(digits.len() as u32);
    whole.checked_mul(nanos)?.checked_add(u64::try_from(part).ok()?)
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
    fn durations() {
        let cases = [
            ("1h15m", 4_500_000_000_000),
            ("1.5s", 1_500_000_000),
            ("-1s", -1_000_000_000),
            ("+1s", 1_000_000_000),
            ("0", 0),
            ("-0", 0),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn durations_that_are_none() {
        let cases = [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("abc", "time: invalid duration \"abc\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1.5", "time: missing unit in duration \"1.5\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1s ", "time: unknown unit \"s \" in duration \"1s \""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999h", "time: invalid duration \"99999999h\""),
            ("99999999999999999999999s", "time: invalid duration \"99999999999999999999999s\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Err(expected.to_owned()), "{text}");
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
