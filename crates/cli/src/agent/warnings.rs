//! What an operator should know about settings that are allowed (agent.md 20.2, 20.5).
//!
//! Every warning is one line for the log; none of them changes anything.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use villein_agent::config::File;
use villein_agent::handler::Handler;
use villein_core::limits;
use villein_core::text::Text;
use villein_host::bind::Rpc;
use villein_host::files;

/// All warnings about these settings.
pub(super) fn all(file: &File, name: &Text, handlers: &[Handler], rpc: &Rpc) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(why) = name_trouble(name) {
        warnings.push(format!("the node name {why}; other programs may trip over it"));
    }
    if !rpc.is_local && file.rpc_auth.is_none() {
        let shown = &rpc.shown;
        warnings.push(format!(
            "RPC listens on '{shown}' without rpc_auth: anybody who reaches this address controls this agent"
        ));
    }
    let encrypts = file.encrypt_key.is_some() || file.keyring_file.is_some();
    let verified = [
        ("gossip_verify_outgoing", file.gossip_verify_outgoing, "this agent sends in plain text"),
        ("gossip_verify_incoming", file.gossip_verify_incoming, "this agent accepts plain text"),
    ];
    for (setting, verified, effect) in verified {
        if encrypts && verified == Some(false) {
            warnings.push(format!("{setting} is false: {effect} although it has keys"));
        }
    }
    let kept = [("tags", &file.tags_file), ("keyring", &file.keyring_file)];
    for (what, path) in kept {
        if let Some(why) = path.as_deref().and_then(|path| files::check_savable(path).err()) {
            warnings.push(format!("the {what} file cannot be written: {why}"));
        }
    }
    for handler in handlers {
        if let Some(why) = script_trouble(&handler.command) {
            let command = String::from_utf8_lossy(&handler.command);
            warnings.push(format!("event handler '{command}' cannot run: {why}"));
        }
    }
    warnings
}

fn name_trouble(name: &[u8]) -> Option<&'static str> {
    let has = |odd: fn(&u8) -> bool| name.iter().any(odd);
    if std::str::from_utf8(name).is_err() {
        Some("is not UTF-8")
    } else if has(u8::is_ascii_control) {
        Some("contains control characters")
    } else if has(u8::is_ascii_whitespace) {
        Some("contains white space")
    } else if has(|byte| matches!(byte, b'/' | b'|')) {
        Some("contains '/' or '|'")
    } else if name.len() > limits::PLAIN_NAME {
        Some("is longer than 128 bytes, which strict members refuse")
    } else {
        None
    }
}

/// Why the first word of a command cannot be run, if it is a plain path; what else a shell makes of a command
/// only the shell knows.
fn script_trouble(command: &[u8]) -> Option<String> {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let path = words.next()?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,@%".contains(byte);
    if !path.contains(&b'/') || !path.iter().all(is_plain) {
        return None;
    }
    let path = Path::new(OsStr::from_bytes(path));
    let shown = path.display();
    match fs::metadata(path) {
        Err(_) => Some(format!("{shown} does not exist")),
        Ok(file) if file.is_dir() => Some(format!("{shown} is a directory")),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => Some(format!("{shown} is not executable")),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_insisted_on() {
        let rpc = villein_host::bind::rpc("127.0.0.1:0").expect("there is a free port");
        let open = File {
            gossip_verify_outgoing: Some(false),
            gossip_verify_incoming: Some(false),
            ..File::default()
        };
        let name = Text::from("a");
        assert_eq!(all(&open, &name, &[], &rpc), [""; 0], "without keys there is nothing to insist on");
        let keyed = File { encrypt_key: Some("key".into()), ..open };
        let wanted = [
            "gossip_verify_outgoing is false: this agent sends in plain text although it has keys",
            "gossip_verify_incoming is false: this agent accepts plain text although it has keys",
        ];
        assert_eq!(all(&keyed, &name, &[], &rpc), wanted);
    }

    #[test]
    fn names_that_cause_trouble() {
        let long = "x".repeat(200);
        let cases: [(&[u8], bool); 10] = [
            (b"alpha-1.example", false),
            ("ünï".as_bytes(), false),
            (b"-x", false),
            (b"quote'd", false),
            (b"with space", true),
            (b"new\nline", true),
            (b"a/b", true),
            (b"a|b", true),
            (b"\xff", true),
            (long.as_bytes(), true),
        ];
        for (name, expected) in cases {
            assert_eq!(name_trouble(name).is_some(), expected, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn scripts_that_cannot_run() {
        let cases = [
            ("", None),
            ("true", None),
            ("/bin/sh -c true", None),
            ("$HOME/none.sh", None),
            ("'/none such/x.sh'", None),
            ("/etc/passwd x", Some("/etc/passwd is not executable")),
            ("  /none/x.sh --opt", Some("/none/x.sh does not exist")),
            ("/etc/", Some("/etc/ is a directory")),
        ];
        for (command, expected) in cases {
            assert_eq!(script_trouble(command.as_bytes()).as_deref(), expected, "{command}");
        }
    }
}
