//! Values as Go prints and reads them: text between double quotes (`%q`, and strings inside `%#v`), and durations.
//!
//! Log lines that scripts grep, diagnostics of flags and a few error messages show foreign bytes and intervals
//! in this notation (agent.md 8.2 and 17.1, cli.md 1). Invariant: the result is printable, whatever the bytes
//! are, so it can be shown on a terminal without harm.

use crate::time::Duration;
use std::fmt::Write;

/// `bytes` in double quotes, with Go's escapes; bytes that are not UTF-8 become `\xNN`.
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut quoted, character);
        }
        for byte in chunk.invalid() {
            write!(quoted, "\\x{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    quoted.push('"');
    quoted
}

/// `1h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`: hours are the largest unit, and below a second there is one unit only.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 | 1_000_000_000.. => (1_000_000_000, "s"),
        1_000_000.. => (1_000_000, "ms"),
        1_000.. => (1_000, "µs"),
        _ => (1, "ns"),
    };
    let (whole, rest) = (nanos / unit, nanos % unit);
    let (minutes, hours) = (whole / 60 % 60, whole / 3600);
    let mut text = String::new();
    // Units are at most a second here, so that only seconds reach sixty.
    if name == "s" && whole >= 3600 {
        write!(text, "{hours}h").expect("writing to a String cannot fail");
    }
    if name == "s" && whole >= 60 {
        write!(text, "{minutes}m").expect("writing to a String cannot fail");
    }
    let whole = if name == "s" { whole % 60 } else { whole };
    let digits = unit.ilog10() as usize;
    let fraction = if rest > 0 { format!(".{rest:0digits$}") } else { String::new() };
    write!(text, "{whole}{}{name}", fraction.trim_end_matches('0')).expect("writing to a String cannot fail");
    text
}

/// Nanoseconds of a duration such as `1h15m`, `1.5s`, `-1s` or `0`; or Go's words about why it is none
/// (`time: missing unit in duration "5"`).
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || quote_bytes(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
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
            format!("time: unknown unit {} in duration {}", quote_bytes(unit.as_bytes()), quoted())
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

/// As Go's durations quote: of what is not printable ASCII every byte is shown as `\xNN`.
fn quote_bytes(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' | 0x7f => quoted.push(char::from(byte)),
            _ => write!(quoted, "\\x{byte:02x}").expect("writing to a String cannot fail"),
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ => "",
    };
    let code = u32::from(character);
    let written = if !short.is_empty() {
        quoted.push_str(short);
        Ok(())
    } else if is_printable(character) {
        quoted.push(character);
        Ok(())
    } else if code < 0x80 {
        write!(quoted, "\\x{code:02x}")
    } else if code < 0x1_0000 {
        write!(quoted, "\\u{code:04x}")
    } else {
        write!(quoted, "\\U{code:08x}")
    };
    written.expect("writing to a String cannot fail");
}

/// Whether the character is a letter, mark, number, punctuation, symbol, or the ASCII space.
///
/// The standard library keeps that table for its own escapes. A character behind another one is asked
/// for, because marks are escaped only at the beginning of a text.
fn is_printable(character: char) -> bool {
    let behind: [char; 2] = ['a', character];
    matches!(character, '\'' | ' ') || String::from_iter(behind).escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::{duration, parse_duration, quote};
    use crate::time::Duration;

    #[test]
    fn durations() {
        for (nanos, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (999_999_999, "999.999999ms"),
            (1_000_000_000, "1s"),
            (1_050_000_000, "1.05s"),
            (90_000_000_000, "1m30s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_000_000_001, "25h1m1.000000001s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn quoting() {
        let cases: [(&[u8], &str); 9] = [
            (b"", r#""""#),
            (b"it's \"x\" \\ y", r#""it's \"x\" \\ y""#),
            (b"\x07\x08\x0c\n\r\t\x0b\0\x1f\x7f", r#""\a\b\f\n\r\t\v\x00\x1f\x7f""#),
            (b"a\xffb", r#""a\xffb""#),
            (b"\xc3(", r#""\xc3(""#),
            ("pä ✓".as_bytes(), "\"pä ✓\""),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            ("\u{a0}\u{2028}\u{feff}".as_bytes(), r#""\u00a0\u2028\ufeff""#),
            ("\u{10ffff}".as_bytes(), r#""\U0010ffff""#),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quote(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn durations_that_are_read() {
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
            ("5µ\n\"", "time: unknown unit \"\\xc2\\xb5\\x0a\\\"\" in duration \"5\\xc2\\xb5\\x0a\\\"\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999h", "time: invalid duration \"99999999h\""),
            ("99999999999999999999999s", "time: invalid duration \"99999999999999999999999s\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Err(expected.to_owned()), "{text}");
        }
    }
}
