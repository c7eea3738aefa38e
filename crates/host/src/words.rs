//! The operating system's words about a failure, as operators and scripts know them.

use std::io;

/// `connection refused`, `address already in use`: the system's text without its number, and with a small
/// first letter.
pub fn os_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // An abbreviation keeps its capitals.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            let rest = &text[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_system() {
        let cases = [
            (io::Error::from_raw_os_error(111), "connection refused"),
            (io::Error::from_raw_os_error(98), "address already in use"),
            (io::Error::from_raw_os_error(99), "cannot assign requested address"),
            (io::Error::from_raw_os_error(101), "network is unreachable"),
            (io::Error::from_raw_os_error(110), "connection timed out"),
            (io::Error::other("DNS is off"), "DNS is off"),
            (io::Error::other(""), ""),
        ];
        for (error, expected) in cases {
            assert_eq!(os_words(&error), expected);
        }
    }
}
