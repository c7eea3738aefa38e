//! Foreign bytes as harmless text: nothing from outside reaches a terminal as a control character, and
//! no name can fake a log line (agent.md 20.4).

use std::fmt::Write as _;

/// One line: control characters become `\n`, `\t`, `\x1b` and the like, bytes that are not UTF-8 U+FFFD.
pub(crate) fn line(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(bytes), |_| false)
}

/// Several lines: newlines and tabs stay.
pub(crate) fn block(bytes: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(bytes), |character| matches!(character, '\n' | '\t'))
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
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                character if character.is_control() => put_control(&mut out, character),
                character => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            put(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
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
    fn quoted_text_is_that_of_go() {
        assert_eq!(quoted(b""), "\"\"");
        assert_eq!(quoted("a\"\\\n\u{e9}".as_bytes()), "\"a\\\"\\\\\\n\u{e9}\"");
        assert_eq!(quoted(b"\x00\x01\xff"), "\"\\x00\\x01\\xff\"");
    }
}
