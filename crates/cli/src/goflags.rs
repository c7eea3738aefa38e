//! Go's flag syntax (cli.md 1.3), rewritten into words that clap reads.
//!
//! Decides where flags end and arguments begin, and which value belongs to which flag, from the clap
//! definition of the command. Values themselves are judged by `govalue`, when clap reads them. Invariant:
//! whatever was typed, the rewritten words are `--name=value` for each flag, then `--`, then the arguments
//! byte for byte.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, Command};

/// The words of one command, rewritten.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// `--name=value` for each flag before the fault, then `--`, then the arguments.
    pub(crate) words: Vec<OsString>,
    /// Why reading stopped early. Bad values among `words` come before it on the line.
    pub(crate) fault: Option<Fault>,
}

/// A word that ends the reading of the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `-h` or `-help` among the flags: only the help text is shown.
    HelpWanted,
    /// One line for stderr, without its newline.
    Diagnostic(Vec<u8>),
}

/// Rewrites the `words` behind the name of the command that `definition` describes.
pub(crate) fn rewrite(definition: &Command, words: &[OsString]) -> Rewritten {
    let mut rewritten = Vec::with_capacity(words.len() + 1);
    let mut rest = words.iter();
    let fault = loop {
        let before = rest.clone();
        let Some(word) = rest.next().map(|word| word.as_bytes()) else { break None };
        if word == b"--" {
            break None;
        }
        if word.len() < 2 || word[0] != b'-' {
            rest = before;
            break None;
        }
        match read_flag(definition, word, || rest.next()) {
            Ok(flag) => rewritten.push(flag),
            Err(fault) => break Some(fault),
        }
    };
    if fault.is_none() {
        rewritten.push(OsString::from("--"));
        rewritten.extend(rest.cloned());
    }
    Rewritten { words: rewritten, fault }
}

/// One flag as `--name=value`; `next` gives the word behind it when its value stands there.
fn read_flag<'a>(
    definition: &Command,
    word: &[u8],
    next: impl FnOnce() -> Option<&'a OsString>,
) -> Result<OsString, Fault> {
    let body = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
    if matches!(body.first(), None | Some(b'-' | b'=')) {
        return Err(diagnostic(&[b"bad flag syntax: ", word]));
    }
    let (name, value) = match body.iter().position(|&byte| byte == b'=') {
        Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]))),
        None => (body, None),
    };
    let is_named = |flag: &&Arg| {
        let aliases = flag.get_visible_aliases().unwrap_or_default();
        flag.get_long().into_iter().chain(aliases).any(|long| long.as_bytes() == name)
    };
    let known = definition.get_arguments().find(is_named);
    let Some(flag) = known else {
        return Err(match name {
            b"h" | b"help" => Fault::HelpWanted,
            _ => diagnostic(&[b"flag provided but not defined: -", name]),
        });
    };
    // A value that must follow "=" is a boolean's: it never takes the next word.
    let value = match value {
        Some(value) => value,
        None if flag.is_require_equals_set() => OsStr::new("true"),
        None => next().ok_or_else(|| diagnostic(&[b"flag needs an argument: -", name]))?,
    };
    let mut canonical = [b"--", name, b"="].concat();
    canonical.extend_from_slice(value.as_bytes());
    Ok(OsString::from_vec(canonical))
}

fn diagnostic(parts: &[&[u8]]) -> Fault {
    Fault::Diagnostic(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Command {
        Command::new("query")
            .arg(Arg::new("ack").long("ack").require_equals(true))
            .arg(Arg::new("addr").long("addr").visible_alias("address"))
            .arg(Arg::new("words").num_args(0..))
    }

    fn words(line: &[&[u8]]) -> Vec<OsString> {
        line.iter().map(|&word| OsStr::from_bytes(word).to_owned()).collect()
    }

    #[test]
    fn flags_end_where_arguments_begin() {
        type Line<'a> = &'a [&'a [u8]];
        let cases: [(Line, Line); 13] = [
            (&[], &[b"--"]),
            (&[b"x"], &[b"--", b"x"]),
            (&[b"-"], &[b"--", b"-"]),
            (&[b""], &[b"--", b""]),
            (&[b"--", b"-addr"], &[b"--", b"-addr"]),
            (&[b"--", b"--"], &[b"--", b"--"]),
            (&[b"x", b"-nosuch"], &[b"--", b"x", b"-nosuch"]),
            (&[b"-addr", b"1", b"x"], &[b"--addr=1", b"--", b"x"]),
            (&[b"--addr", b"--", b"x"], &[b"--addr=--", b"--", b"x"]),
            (&[b"-addr=", b"-addr==a=", b"x"], &[b"--addr=", b"--addr==a=", b"--", b"x"]),
            (&[b"-address", b"1"], &[b"--address=1", b"--"]),
            (&[b"-ack", b"false"], &[b"--ack=true", b"--", b"false"]),
            (&[b"--ack=F", b"-addr=\xff", b"\x80"], &[b"--ack=F", b"--addr=\xff", b"--", b"\x80"]),
        ];
        for (line, expected) in cases {
            let expected = Rewritten { words: words(expected), fault: None };
            assert_eq!(rewrite(&definition(), &words(line)), expected, "{line:?}");
        }
    }

    #[test]
    fn faults_keep_the_flags_before_them() {
        let cases: [(&[&[u8]], &str); 8] = [
            (&[b"-ack", b"-nosuch", b"-addr=1"], "flag provided but not defined: -nosuch"),
            (&[b"-ack", b"--nosuch=3"], "flag provided but not defined: -nosuch"),
            (&[b"-ack", b"-words=3"], "flag provided but not defined: -words"),
            (&[b"-ack", b"-addr"], "flag needs an argument: -addr"),
            (&[b"-ack", b"---addr=x"], "bad flag syntax: ---addr=x"),
            (&[b"-ack", b"-=x"], "bad flag syntax: -=x"),
            (&[b"-ack", b"--=x"], "bad flag syntax: --=x"),
            (&[b"-ack", b"---"], "bad flag syntax: ---"),
        ];
        for (line, expected) in cases {
            let fault = Some(Fault::Diagnostic(expected.as_bytes().to_vec()));
            let expected = Rewritten { words: words(&[b"--ack=true"]), fault };
            assert_eq!(rewrite(&definition(), &words(line)), expected, "{line:?}");
        }
        let unknown = rewrite(&definition(), &words(&[b"-\xff"])).fault;
        assert_eq!(unknown, Some(Fault::Diagnostic(b"flag provided but not defined: -\xff".to_vec())));
        assert_eq!(rewrite(&definition(), &words(&[b"-h=3"])).fault, Some(Fault::HelpWanted));
    }
}
