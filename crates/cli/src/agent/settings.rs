//! Flags of `agent` as settings: defaults, checks and their messages (agent.md 2 and 4.3).
//!
//! Pure. An empty text is the same as none, and so is a duration of zero. Errors are
//! for the operator; whoever calls knows in which step of the start they count.

use crate::args::{AgentArgs, split_tag};
use std::time::Duration;
use villein_agent::handler::Handler;
use villein_core::config::Profile;
use villein_core::crypto::{Key, KeyError, Keyring};
use villein_core::limits;
use villein_core::member::Tags;
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::wire::serf::encode_meta;

/// Where clients find an agent whose operator says nothing.
pub(super) const RPC_ADDR: &str = "127.0.0.1:7373";

const RETRY_INTERVAL: Duration = Duration::from_secs(30);
const BROADCAST_TIMEOUT: Duration = Duration::from_secs(5);
/// Durations below this are raised to it.
const LEAST: Duration = Duration::from_secs(1);
const DEPRECATED_ROLE: &str = "Deprecation warning: 'Role' has been replaced with 'Tags'";

/// The text of a flag that was given and is not empty.
pub(super) fn given(flag: Option<&Text>) -> Option<String> {
    flag.filter(|text| !text.is_empty()).map(Text::to_string)
}

/// The texts of a flag that was given several times.
pub(super) fn words(flags: &[Text]) -> Vec<String> {
    flags.iter().map(Text::to_string).collect()
}

/// What runs on events.
pub(super) fn handlers(args: &AgentArgs) -> Result<Vec<Handler>, String> {
    args.event_handlers.iter().map(|text| Handler::parse(text).map_err(|error| error.to_string())).collect()
}

/// What is said and does not hinder the start.
pub(super) fn notices(args: &AgentArgs) -> Vec<String> {
    let is_low = |flag: Result<Option<i64>, String>| {
        flag.is_ok_and(|nanos| nanos.is_some_and(|nanos| nanos != 0 && nanos < LEAST.as_nanos() as i64))
    };
    let low = |name: &str| format!("Warning: '{name}' is too low. Setting to 1s");
    let role = given(args.role.as_ref()).map(|_| DEPRECATED_ROLE.to_owned());
    let retry = is_low(args.retry_interval_ns()).then(|| low("RetryInterval"));
    let broadcast = is_low(args.broadcast_timeout_ns()).then(|| low("BroadcastTimeout"));
    [role, retry, broadcast].into_iter().flatten().collect()
}

/// Between two attempts of the retry join.
pub(super) fn retry_interval(args: &AgentArgs) -> Result<Duration, String> {
    Ok(at_least_a_second(args.retry_interval_ns()?, RETRY_INTERVAL))
}

/// How long a message of this node may take to reach the cluster.
pub(super) fn broadcast_timeout(args: &AgentArgs) -> Result<Duration, String> {
    Ok(at_least_a_second(args.broadcast_timeout_ns()?, BROADCAST_TIMEOUT))
}

fn at_least_a_second(nanos: Option<i64>, default: Duration) -> Duration {
    match nanos {
        None | Some(0) => default,
        Some(nanos) => Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)).max(LEAST),
    }
}

/// The lowest level that is printed, in any case.
pub(super) fn log_level(args: &AgentArgs) -> Result<Level, String> {
    let name = given(args.log_level.as_ref()).map_or_else(|| "INFO".to_owned(), |name| name.to_uppercase());
    match name.as_str() {
        "TRACE" => Ok(Level::Trace),
        "DEBUG" => Ok(Level::Debug),
        "INFO" => Ok(Level::Info),
        "WARN" | "WARNING" => Ok(Level::Warn),
        "ERR" | "ERROR" => Ok(Level::Err),
        _ => Err(format!("Invalid log level: {name}. Valid log levels are: [TRACE DEBUG INFO WARN ERR]")),
    }
}

/// The key, or why its bytes are none, which the reference finds out only when it needs it.
pub(super) fn key(args: &AgentArgs) -> Result<Option<Result<Key, KeyError>>, String> {
    let typed = args.encrypt.as_ref().filter(|key| !key.is_empty());
    match typed.map(|key| Key::from_base64(&String::from_utf8_lossy(key.reveal()))) {
        Some(Err(error @ KeyError::Base64 { .. })) => Err(format!("Invalid encryption key: {error}")),
        key => Ok(key),
    }
}

/// The ring of one key.
pub(super) fn keyring(key: Result<Key, KeyError>) -> Result<Keyring, String> {
    let key = key.map_err(|error| error.to_string())?;
    Keyring::new(key, []).map_err(|error| error.to_string())
}

/// Name and timing of the network.
pub(super) fn profile(args: &AgentArgs) -> Result<(String, Profile), String> {
    let name = given(args.profile.as_ref()).unwrap_or_else(|| "lan".to_owned());
    match Profile::named(&name) {
        Some(profile) => Ok((name, profile)),
        None => Err(format!("Unknown profile: {name}")),
    }
}

/// The Serf protocol to speak.
pub(super) fn protocol(args: &AgentArgs) -> Result<u8, String> {
    let version = args.protocol.filter(|&version| version > 0).unwrap_or(5);
    let refused = |why: &str| Err(format!("Protocol version '{version}' {why}. Must be in range: [2, 5]"));
    match u8::try_from(version) {
        Ok(version @ 2..=5) => Ok(version),
        Ok(0..2) => refused("too low"),
        _ => refused("too high"),
    }
}

/// Tags, of which the deprecated role beats one of the same name; they must fit into an announcement.
pub(super) fn tags(args: &AgentArgs, protocol: u8) -> Result<Tags, String> {
    let mut tags = Tags::new();
    for word in &args.tags {
        let (key, value) =
            split_tag(word).map_err(|message| String::from_utf8_lossy(&message).into_owned())?;
        tags.insert(Text::from(key), Text::from(value));
    }
    if let Some(role) = args.role.clone().filter(|role| !role.is_empty()) {
        tags.insert(Text::from("role"), role);
    }
    let mut encoded = Vec::new();
    encode_meta(&tags, protocol, &mut encoded);
    if encoded.len() > limits::META {
        return Err(format!("Encoded length of tags exceeds limit of {} bytes", limits::META));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use villein_core::text::Secret;

    #[test]
    fn nothing_given_is_the_default() {
        let empty = AgentArgs {
            log_level: Some(Text::from("")),
            profile: Some(Text::from("")),
            encrypt: Some(Secret::from("")),
            role: Some(Text::from("")),
            retry_interval: Some(Text::from("0")),
            protocol: Some(0),
            ..AgentArgs::default()
        };
        for args in [AgentArgs::default(), empty] {
            assert_eq!(log_level(&args), Ok(Level::Info));
            assert_eq!(profile(&args), Ok(("lan".to_owned(), Profile::LAN)));
            assert_eq!(key(&args), Ok(None));
            assert_eq!(protocol(&args), Ok(5));
            assert_eq!(tags(&args, 5), Ok(Tags::new()));
            assert_eq!(retry_interval(&args), Ok(Duration::from_secs(30)));
            assert_eq!(broadcast_timeout(&args), Ok(Duration::from_secs(5)));
            assert_eq!(notices(&args), [""; 0]);
        }
    }

    #[test]
    fn levels_have_aliases() {
        let level =
            |name| log_level(&AgentArgs { log_level: Some(Text::from(name)), ..AgentArgs::default() });
        assert_eq!(level("Debug"), Ok(Level::Debug));
        assert_eq!(level("error"), Ok(Level::Err));
        assert_eq!(level("warning"), Ok(Level::Warn));
        let refused = "Invalid log level: BOGUS. Valid log levels are: [TRACE DEBUG INFO WARN ERR]";
        assert_eq!(level("bogus"), Err(refused.to_owned()));
    }

    #[test]
    fn protocols_are_a_range() {
        let version = |number| protocol(&AgentArgs { protocol: Some(number), ..AgentArgs::default() });
        let refused =
            |number: i64, why| Err(format!("Protocol version '{number}' {why}. Must be in range: [2, 5]"));
        let cases = [
            (-3, Ok(5)),
            (0, Ok(5)),
            (1, refused(1, "too low")),
            (2, Ok(2)),
            (5, Ok(5)),
            (6, refused(6, "too high")),
            (260, refused(260, "too high")),
            (i64::MAX, refused(i64::MAX, "too high")),
        ];
        for (number, expected) in cases {
            assert_eq!(version(number), expected, "{number}");
        }
    }

    #[test]
    fn short_durations_are_raised_with_a_word() {
        let args = AgentArgs {
            retry_interval: Some(Text::from("10ms")),
            broadcast_timeout: Some(Text::from("-1s")),
            role: Some(Text::from("web")),
            tags: vec![Text::from("role=db"), Text::from("a="), Text::from("b=c=d"), Text::from("a=2")],
            ..AgentArgs::default()
        };
        assert_eq!(
            notices(&args),
            [
                "Deprecation warning: 'Role' has been replaced with 'Tags'",
                "Warning: 'RetryInterval' is too low. Setting to 1s",
                "Warning: 'BroadcastTimeout' is too low. Setting to 1s",
            ]
        );
        assert_eq!(retry_interval(&args), Ok(LEAST));
        assert_eq!(broadcast_timeout(&args), Ok(LEAST));
        let expected = [("a", "2"), ("b", "c=d"), ("role", "web")];
        let expected: Tags =
            expected.iter().map(|&(key, value)| (Text::from(key), Text::from(value))).collect();
        assert_eq!(tags(&args, 5), Ok(expected));
    }

    #[test]
    fn tags_fit_into_an_announcement() {
        let of = |length| AgentArgs {
            tags: vec![Text::from(format!("big={}", "x".repeat(length)))],
            ..AgentArgs::default()
        };
        assert_eq!(tags(&of(400), 5).map(|tags| tags.len()), Ok(1));
        assert_eq!(tags(&of(510), 5), Err("Encoded length of tags exceeds limit of 512 bytes".to_owned()));
    }

    #[test]
    fn keys_are_base64_first_and_long_enough_later() {
        let of = |word| key(&AgentArgs { encrypt: Some(Secret::from(word)), ..AgentArgs::default() });
        assert_eq!(of("!!"), Err("Invalid encryption key: illegal base64 data at input byte 0".to_owned()));
        let short = of("YWJj").expect("it is base64").expect("it was given");
        assert_eq!(keyring(short), Err("key size must be 16, 24 or 32 bytes".to_owned()));
        let good = of("AAAAAAAAAAAAAAAAAAAAAA==").expect("it is base64").expect("it was given");
        assert_eq!(keyring(good).map(|ring| ring.keys().len()), Ok(1));
    }
}
