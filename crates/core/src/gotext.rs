//! Text as Go prints it between double quotes (`%q`, and strings inside `%#v`).
//!
//! Log lines that scripts grep, diagnostics of flags and a few error messages show foreign bytes in this
//! notation (agent.md 17.1, cli.md 1). Invariant: the result is printable, whatever the bytes are, so it can
//! be shown on a terminal without harm.

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
    use super::quote;

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
}
