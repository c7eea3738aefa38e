//! Foreign bytes as harmless text: nothing from outside reaches a terminal as a control character, and
//! no name can fake a log line (agent.md 20.4). What a log line has no room for is not looked at, so that
//! the cost of a line does not depend on how much somebody sent.

use crate::limits::LOG_LINE_BYTES;
use std::fmt::Write as _;
use villein_core::gotext::quote;

/// One line: control characters become `\n`, `\t`, `\x1b` and the like, bytes that are not UTF-8 U+FFFD.
pub(crate) fn line(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(shown(bytes)), |_| false)
}

/// Several lines: newlines and tabs stay.
pub(crate) fn block(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(shown(bytes)), |character| matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !kept(character) {
            put_control(&mut out, character);
        } else {
            out.push(character);
        }
    }
    out
}

/// In double quotes, with the escapes of a Go string (agent.md 17.1: lines that scripts grep).
pub(crate) fn quoted(bytes: &[u8]) -> String {
    quote(shown(bytes))
}

/// What a log line has room for: escaping makes nothing shorter.
fn shown(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(LOG_LINE_BYTES)]
}

fn put_control(out: &mut String, character: char) {
    match character {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        character if character.is_ascii() => put(out, format_args!("\\x{:02x}", u32::from(character))),
        character => put(out, format_args!("\\u{:04x}", u32::from(character))),
    }
}

fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(line(b"a\nb\x1b[31m\xffc\tz\xc2\x85"), "a\\nb\\x1b[31m\u{fffd}c\\tz\\u0085");
        assert_eq!(block(b"a\n\tb\x1b"), "a\n\tb\\x1b");
    }

    #[test]
    fn no_more_is_escaped_than_a_line_holds() {
        let endless = vec![0; 100 * LOG_LINE_BYTES];
        assert_eq!(line(&endless).len(), 4 * LOG_LINE_BYTES);
        assert_eq!(quoted(&endless).len(), 4 * LOG_LINE_BYTES + 2);
    }
}
