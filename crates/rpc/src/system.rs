//! What the operating system knows and says, in the forms that operators and scripts know (agent.md 5.1, cli.md 2):
//! ports by number or name, and the words of a failure.
//!
//! Clients and agents read addresses alike because both do it here; splitting host from port differs
//! between them, as it does in the reference, and is theirs.

use std::fs;
use std::io;

/// Where the numbers of named ports are.
const SERVICES: &str = "/etc/services";

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

/// A port as a number, or as the name of a TCP service in any case. An empty text is 0.
///
/// # Errors
/// The reason, such as `address 99999: invalid port`.
pub fn port_number(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("address {text}: invalid port"));
    }
    let services = fs::read(SERVICES).unwrap_or_default();
    service_port(&String::from_utf8_lossy(&services), text)
        .ok_or_else(|| format!("address tcp/{text}: unknown port"))
}

/// Looks up `name` in the text of services(5): lines of name, port/protocol and aliases.
fn service_port(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let official = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?.parse().ok()?;
        let named = std::iter::once(official).chain(words).any(|word| word.eq_ignore_ascii_case(name));
        named.then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_services() {
        for (text, port) in [("7373", 7373), ("", 0), ("+80", 80), ("65535", 65535)] {
            assert_eq!(port_number(text).ok(), Some(port), "{text}");
        }
        for text in ["99999", "-1", "99999999999999999999"] {
            let words = format!("address {text}: invalid port");
            assert_eq!(port_number(text).expect_err(text), words);
        }
        let words = "address tcp/no-such-service: unknown port";
        assert_eq!(port_number("no-such-service").expect_err("unknown"), words);
    }

    #[test]
    fn services_are_found_by_name_and_alias_for_tcp_only() {
        let services = "# comment\n\ntftp 69/udp\nhttp\t\t80/tcp\t\twww # WorldWideWeb\nbroken\nodd x/tcp\n";
        assert_eq!(service_port(services, "http"), Some(80));
        assert_eq!(service_port(services, "WWW"), Some(80));
        for name in ["tftp", "WorldWideWeb", "broken", "odd", "#"] {
            assert_eq!(service_port(services, name), None, "{name}");
        }
    }

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
