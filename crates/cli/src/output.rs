//! Tables and tag lists as commands print them (cli.md 4.1).
//!
//! Decides columns, padding and trimming. All text is bytes, counted in code points; a byte that is not
//! UTF-8 counts as one. Invariant: cells keep their bytes, only white space at their ends is dropped.

use villein_rpc::response::TextMap;

/// Aligns the columns of `rows`, whose cells are separated by `|`. No newline at the end.
///
/// A `|` inside a value begins a new column: tables have always looked so.
pub(crate) fn table(rows: &[Vec<u8>]) -> Vec<u8> {
    let rows: Vec<Vec<&[u8]>> =
        rows.iter().map(|row| row.split(|&byte| byte == b'|').map(trim).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(code_points(cell).count());
        }
    }
    let mut text = Vec::new();
    for (line, row) in rows.iter().enumerate() {
        if line > 0 {
            text.push(b'\n');
        }
        for (column, cell) in row.iter().enumerate() {
            text.extend_from_slice(cell);
            if column + 1 < row.len() {
                let padding = widths[column] - code_points(cell).count() + 2;
                text.extend(std::iter::repeat_n(b' ', padding));
            }
        }
    }
    text
}

/// `bytes` without white space, also that of Unicode, at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let (mut at, mut start, mut end) = (0, None, 0);
    for (length, is_space) in code_points(bytes) {
        if !is_space {
            start.get_or_insert(at);
            end = at + length;
        }
        at += length;
    }
    &bytes[start.unwrap_or(0)..end]
}

/// `key=value` pairs in the order of the keys, with commas between them.
pub(crate) fn tag_list(tags: &TextMap) -> Vec<u8> {
    let pairs: Vec<Vec<u8>> = tags.iter().map(|(key, value)| [key, &b"="[..], value].concat()).collect();
    pairs.join(&b',')
}

/// The length in bytes of each code point, and whether it is white space.
fn code_points(bytes: &[u8]) -> impl Iterator<Item = (usize, bool)> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| (c.len_utf8(), c.is_whitespace()));
        valid.chain(chunk.invalid().iter().map(|_| (1, false)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(rows: &[&[u8]]) -> Vec<u8> {
        table(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_are_padded_except_the_last_of_a_row() {
        let cases: [(&[&[u8]], &[u8]); 7] = [
            (&[], b""),
            (&[b"a"], b"a"),
            (&[b"alpha|1|x", b"b|22|"], b"alpha  1   x\nb      22  "),
            (&[b"a|b|c", b"long|d"], b"a     b  c\nlong  d"),
            (&[b" a |\xc2\xa0b\xe2\x80\xa8|\t"], b"a  b  "),
            (
                &["ä✓|x".as_bytes(), b"\xff\xfe\xfd|y", b"ab|z"],
                b"\xc3\xa4\xe2\x9c\x93   x\n\xff\xfe\xfd  y\nab   z",
            ),
            (&[b"a|p=1|2,q=\n3|v", b"b|w"], b"a  p=1  2,q=\n3  v\nb  w"),
        ];
        for (rows, expected) in cases {
            assert_eq!(table_of(rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn trimming() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b" \t\n", b""),
            (b"  a b\n", b"a b"),
            (b"\xc2\x85x\xe3\x80\x80", b"x"),
            (b"\xa0x\x85", b"\xa0x\x85"),
            (b"x", b"x"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(trim(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn tags_are_sorted_by_key() {
        let tags = [("role", "web"), ("dc", "east"), ("v", "1=2")];
        let tags: TextMap = tags.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        assert_eq!(tag_list(&tags), b"dc=east,role=web,v=1=2");
        assert_eq!(tag_list(&TextMap::new()), b"");
    }
}
