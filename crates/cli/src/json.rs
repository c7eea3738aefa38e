//! JSON as Go's encoder writes it (cli.md 4.2): layout by `serde_json`, escapes by Go's rules.
//!
//! Decides bytes only; which fields a record has, and in which order, its command says. Invariant: the
//! output is valid JSON whatever bytes names and values hold.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};
use villein_rpc::response::TextMap;

/// `value` with an indentation of two spaces, without a newline at the end.
pub(crate) fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, GoFormatter::default());
    value.serialize(&mut serializer).expect("records with text keys always have a JSON form");
    text
}

/// Text as a JSON string: each byte that is not UTF-8 becomes U+FFFD.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lossy<'a>(pub(crate) &'a [u8]);

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        serializer.serialize_str(&text)
    }
}

/// Text to text as a JSON object whose keys are sorted by bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a>(pub(crate) &'a TextMap);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (Lossy(key), Lossy(value))))
    }
}

/// The layout of [`PrettyFormatter`], with the strings of Go.
#[derive(Default)]
struct GoFormatter(PrettyFormatter<'static>);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped_by_go) {
            out.write_all(&rest.as_bytes()[..at])?;
            let mut behind = rest[at..].chars();
            let escaped = behind.next().map_or(0, u32::from);
            write!(out, "\\u{escaped:04x}")?;
            rest = behind.as_str();
        }
        out.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => out.write_all(b"\\u0008"),
            CharEscape::FormFeed => out.write_all(b"\\u000c"),
            usual => self.0.write_char_escape(out, usual),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

/// Characters that `serde_json` writes as they are and Go escapes: those that matter inside HTML and
/// JavaScript. U+FFFD stands for a byte that was not UTF-8.
fn is_escaped_by_go(character: char) -> bool {
    matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> String {
        String::from_utf8(pretty(&Lossy(bytes))).expect("JSON is UTF-8")
    }

    #[test]
    fn strings_are_escaped_as_by_go() {
        let cases: [(&[u8], &str); 8] = [
            (b"", r#""""#),
            (
                "<a&b>\"q\"\\ \u{2028}\u{2029} \x07".as_bytes(),
                r#""\u003ca\u0026b\u003e\"q\"\\ \u2028\u2029 \u0007""#,
            ),
            (b"\n\r\t\x08\x0c\x1b\x7f", "\"\\n\\r\\t\\u0008\\u000c\\u001b\x7f\""),
            (b"\xff\xfe", r#""\ufffd\ufffd""#),
            (b"a\xf0\x9f\x98b", r#""a\ufffd\ufffd\ufffdb""#),
            ("pä ✓".as_bytes(), "\"pä ✓\""),
            (b"&", r#""\u0026""#),
            (b"a/b'", r#""a/b'""#),
        ];
        for (bytes, expected) in cases {
            assert_eq!(string(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn layout() {
        #[derive(Serialize)]
        struct Record<'a> {
            zulu: Object<'a>,
            list: Option<Vec<u8>>,
            empty: [u8; 0],
            alpha: Vec<u8>,
        }
        let none = TextMap::new();
        let record = Record { zulu: Object(&none), list: None, empty: [], alpha: vec![1, 2] };
        let expected =
            "{\n  \"zulu\": {},\n  \"list\": null,\n  \"empty\": [],\n  \"alpha\": [\n    1,\n    2\n  ]\n}";
        assert_eq!(String::from_utf8_lossy(&pretty(&record)), expected);
        let two: TextMap = [("b", "<"), ("A", "")].map(|(key, value)| (key.into(), value.into())).into();
        let expected = "{\n  \"A\": \"\",\n  \"b\": \"\\u003c\"\n}";
        assert_eq!(String::from_utf8_lossy(&pretty(&Object(&two))), expected);
    }
}
