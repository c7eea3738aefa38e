//! JSON as the reference reads it: its own reader, because its leniency and its words are an interface (agent.md 4.2).
//!
//! Files that Serf accepts hold bytes that are not UTF-8, halves of surrogate pairs, and anything at all behind
//! the first value; scripts grep for what it says about the others. So `serde_json` reads nothing here. Lines
//! are kept for messages. Invariant: whatever the bytes are, reading ends with a value or one [`Fault`].

use crate::limits::JSON_DEPTH;
use std::fmt;
use villein_core::gotext::quote;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Item>),
    /// In the order of the text; of equal keys the last one counts.
    Map(Vec<Entry>),
}

/// An element of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Where it begins, from 1.
    pub(crate) line: usize,
    pub(crate) value: Json,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands, from 1.
    pub(crate) line: usize,
    pub(crate) value: Json,
}

/// Why bytes are no JSON; `Display` is what the reference says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// Nothing but white space.
    Empty,
    /// It ends too early.
    Cut,
    Wrong(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.why {
            Why::Empty => "EOF",
            Why::Cut => "unexpected EOF",
            Why::Wrong(text) => text,
        })
    }
}

/// The first value, and the line on which there is more behind it than white space.
pub(crate) fn first(bytes: &[u8]) -> Result<(Json, Option<usize>), Fault> {
    let mut reader = Reader::new(bytes);
    let value = reader.value().map_err(|why| reader.fault(why))?;
    reader.skip_space();
    Ok((value, reader.peek().map(|_| reader.line())))
}

/// The only value. The words about text that ends too early are those of files that are read as a whole.
pub(crate) fn only(bytes: &[u8]) -> Result<Json, Fault> {
    let mut reader = Reader::new(bytes);
    let read = reader.value().and_then(|value| {
        reader.skip_space();
        match reader.peek() {
            None => Ok(value),
            Some(_) => Err(reader.unexpected("after top-level value")),
        }
    });
    read.map_err(|why| match why {
        Why::Empty | Why::Cut => reader.fault(Why::Wrong("unexpected end of JSON input".to_owned())),
        Why::Wrong(_) => reader.fault(why),
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The line of the byte at `counted`.
    line: usize,
    counted: usize,
}

impl Reader<'_> {
    fn new(bytes: &[u8]) -> Reader<'_> {
        Reader { bytes, at: 0, depth: 0, line: 1, counted: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes the next byte if it is this one.
    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The line of the next byte; nothing is gone over twice.
    fn line(&mut self) -> usize {
        let passed = &self.bytes[self.counted..self.at];
        self.line += passed.split(|&byte| byte == b'\n').count() - 1;
        self.counted = self.at;
        self.line
    }

    fn fault(&mut self, why: Why) -> Fault {
        Fault { line: self.line(), why }
    }

    /// The next byte cannot stand here; each is taken for a character of Latin-1, as in the reference.
    fn unexpected(&self, context: &str) -> Why {
        let Some(byte) = self.peek() else { return Why::Cut };
        let shown = match byte {
            b'\'' => "\\'".to_owned(),
            b'"' => "\"".to_owned(),
            _ => quote(char::from(byte).to_string().as_bytes()).trim_matches('"').to_owned(),
        };
        Why::Wrong(format!("invalid character '{shown}' {context}"))
    }

    fn value(&mut self) -> Result<Json, Why> {
        self.skip_space();
        let outermost = self.depth == 0;
        match self.peek() {
            None if outermost => Err(Why::Empty),
            Some(b'{' | b'[') if self.depth == JSON_DEPTH => Err(Why::Wrong("exceeded max depth".to_owned())),
            Some(b'{') => self.nested(Reader::map),
            Some(b'[') => self.nested(Reader::list),
            Some(b'"') => self.text().map(Json::Text),
            Some(b't') => self.word("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, Why>) -> Result<Json, Why> {
        self.at += 1;
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn map(&mut self) -> Result<Json, Why> {
        let mut entries = Vec::new();
        self.skip_space();
        if self.takes(b'}') {
            return Ok(Json::Map(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let line = self.line();
            let key = self.text()?;
            self.skip_space();
            if !self.takes(b':') {
                return Err(self.unexpected("after object key"));
            }
            let value = self.value()?;
            entries.push(Entry { key, line, value });
            self.skip_space();
            if self.takes(b'}') {
                return Ok(Json::Map(entries));
            }
            if !self.takes(b',') {
                return Err(self.unexpected("after object key:value pair"));
            }
        }
    }

    fn list(&mut self) -> Result<Json, Why> {
        let mut items = Vec::new();
        self.skip_space();
        if self.takes(b']') {
            return Ok(Json::List(items));
        }
        loop {
            self.skip_space();
            let line = self.line();
            items.push(Item { line, value: self.value()? });
            self.skip_space();
            if self.takes(b']') {
                return Ok(Json::List(items));
            }
            if !self.takes(b',') {
                return Err(self.unexpected("after array element"));
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Why> {
        for byte in word.bytes() {
            if !self.takes(byte) {
                let wanted = char::from(byte);
                return Err(self.unexpected(&format!("in literal {word} (expecting '{wanted}')")));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Why> {
        let start = self.at;
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits("in numeric literal")?;
        }
        if self.takes(b'.') {
            self.digits("after decimal point in numeric literal")?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _signed = self.takes(b'+') || self.takes(b'-');
            self.digits("in exponent of numeric literal")?;
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Json::Number(number)),
            _ => {
                Err(Why::Wrong(format!("json: cannot unmarshal number {text} into Go value of type float64")))
            }
        }
    }

    /// At least one digit.
    fn digits(&mut self, context: &str) -> Result<(), Why> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected(context));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String, Why> {
        let mut text = String::new();
        self.takes(b'"');
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            push_repaired(&mut text, &self.bytes[start..self.at]);
            if self.takes(b'"') {
                return Ok(text);
            }
            if !self.takes(b'\\') {
                return Err(self.unexpected("in string literal"));
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, Why> {
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code(),
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(character)
    }

    /// Behind a backslash: `u` and four digits, or two of these that make one character; half a pair is U+FFFD.
    fn code(&mut self) -> Result<char, Why> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let behind = self.at;
        if self.takes(b'\\') && self.peek() == Some(b'u') {
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.at = behind;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, Why> {
        self.takes(b'u');
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

/// Each byte that is not UTF-8 becomes a character of its own.
fn push_repaired(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(bytes: &[u8]) -> String {
        first(bytes).expect_err("it is no JSON").to_string()
    }

    /// Each text is what the reference says.
    #[test]
    fn what_is_no_json_is_refused_in_known_words() {
        let cases: [(&[u8], &str); 36] = [
            (b"", "EOF"),
            (b" \n", "EOF"),
            (b"{\"a\"", "unexpected EOF"),
            (b"{\"a\":", "unexpected EOF"),
            (b"{\"a\":1,", "unexpected EOF"),
            (b"{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            (b"{bad", "invalid character 'b' looking for beginning of object key string"),
            (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
            (b"{\"a\" 1}", "invalid character '1' after object key"),
            (b"{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair"),
            (b"[1,]", "invalid character ']' looking for beginning of value"),
            (b"[1", "unexpected EOF"),
            (b"[1 2]", "invalid character '2' after array element"),
            (b"tru", "unexpected EOF"),
            (b"trux", "invalid character 'x' in literal true (expecting 'e')"),
            (b"nulx", "invalid character 'x' in literal null (expecting 'l')"),
            (b"-", "unexpected EOF"),
            (b"-x", "invalid character 'x' in numeric literal"),
            (b"1.", "unexpected EOF"),
            (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
            (b"1ex", "invalid character 'x' in exponent of numeric literal"),
            (b"1e+x", "invalid character 'x' in exponent of numeric literal"),
            (b".5", "invalid character '.' looking for beginning of value"),
            (b"\"abc", "unexpected EOF"),
            (b"\"a\\x", "invalid character 'x' in string escape code"),
            (b"\"a\\u12", "unexpected EOF"),
            (b"\"a\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            (b"\"a\nb\"", "invalid character '\\n' in string literal"),
            (b"\xff", "invalid character 'ÿ' looking for beginning of value"),
            (b"\x00", "invalid character '\\x00' looking for beginning of value"),
            (b"\\", "invalid character '\\\\' looking for beginning of value"),
            (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
            (b"// x\n{}", "invalid character '/' looking for beginning of value"),
            (b"[[[[", "unexpected EOF"),
            (b"[,", "invalid character ',' looking for beginning of value"),
            (b"1e400", "json: cannot unmarshal number 1e400 into Go value of type float64"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(why(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let only = |bytes: &[u8]| only(bytes).expect_err("it is no JSON").to_string();
        assert_eq!(only(b""), "unexpected end of JSON input");
        assert_eq!(only(b"{\"a\""), "unexpected end of JSON input");
        assert_eq!(only(b"{} x"), "invalid character 'x' after top-level value");
        assert_eq!(only(b"x"), "invalid character 'x' looking for beginning of value");
    }

    #[test]
    fn texts_are_repaired() {
        let text = |bytes: &[u8]| match first(bytes) {
            Ok((Json::Text(text), None)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(br#""a\"\\\/\b\f\n\r\t\u00e9""#), "a\"\\/\x08\x0c\n\r\té");
        assert_eq!(text(br#""\ud83d\ude00""#), "\u{1f600}");
        assert_eq!(text(br#""\ud800x\udc00\ud800\u0041""#), "\u{fffd}x\u{fffd}\u{fffd}A");
        // One sign for each byte, not for each character that was cut.
        assert_eq!(text(b"\"\xe2\x82x\xff\""), "\u{fffd}\u{fffd}x\u{fffd}");
    }

    #[test]
    fn lines_are_known_and_the_rest_is_not_read() {
        let (value, rest) =
            first(b"{\"a\":\n 1,\n\"b\": [null\n, true, -1.5e1], \"b\": {}}\n\n !").expect("it is JSON");
        let entry = |key: &str, line, value| Entry { key: key.to_owned(), line, value };
        let item = |line, value| Item { line, value };
        let list =
            Json::List(vec![item(3, Json::Null), item(4, Json::Bool(true)), item(4, Json::Number(-15.0))]);
        let expected =
            vec![entry("a", 1, Json::Number(1.0)), entry("b", 3, list), entry("b", 4, Json::Map(Vec::new()))];
        assert_eq!((value, rest), (Json::Map(expected), Some(6)));
        assert_eq!(first(b" null \n"), Ok((Json::Null, None)));
        assert_eq!(first(b"{\"a\":\n\n?}").expect_err("it is no JSON").line, 3);
    }

    /// The same value as `serde_json` reads.
    fn same(ours: &Json, theirs: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (ours, theirs) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
            (Json::Number(ours), Value::Number(theirs)) => Some(*ours) == theirs.as_f64(),
            (Json::Text(ours), Value::String(theirs)) => ours == theirs,
            (Json::List(ours), Value::Array(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(ours, theirs)| same(&ours.value, theirs))
            }
            (Json::Map(ours), Value::Object(theirs)) => {
                let has =
                    |entry: &Entry| theirs.get(&entry.key).is_some_and(|value| same(&entry.value, value));
                ours.len() == theirs.len() && ours.iter().all(has)
            }
            _ => false,
        }
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            any::<f32>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn good_json_is_read_as_by_others(value in values(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let (ours, rest) = first(text.as_bytes()).expect("it is JSON");
            prop_assert!(same(&ours, &value) && rest.is_none(), "{text}");
        }

        #[test]
        fn what_is_cut_or_changed_ends_with_a_value_or_a_fault(
            value in values(),
            cut in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = value.to_string().into_bytes();
            let at = cut.index(bytes.len());
            let cut_off = first(&bytes[..at]);
            if matches!(value, serde_json::Value::Array(_) | serde_json::Value::Object(_)) {
                prop_assert!(cut_off.is_err(), "a list or map ends with its last byte");
            }
            bytes[at] = byte;
            if let Err(fault) = first(&bytes) {
                prop_assert!(!fault.to_string().is_empty() && fault.line >= 1);
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(first(&deep(JSON_DEPTH)).is_ok());
        assert_eq!(why(&deep(JSON_DEPTH + 1)), "exceeded max depth");
        assert_eq!(why(&b"{\"a\":".repeat(100_000)), "exceeded max depth");
    }
}
