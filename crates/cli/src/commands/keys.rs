//! `keys`: lists and changes the encryption keys of all members (cli.md 5.9).

use std::io::Write;

use villein_rpc::client::KeyAnswer;
use villein_rpc::response::KeyReport;
use villein_rpc::{Client, RpcError, Text};

use super::{Failure, Outcome, connect, say, words_of};
use crate::args::KeysArgs;
use crate::output;

/// One of the four actions, with the words around it.
struct Action {
    begins: &'static str,
    succeeds: &'static str,
    fails: &'static str,
    ask: Ask,
}

type Ask = fn(&mut Client, &KeysArgs) -> Result<KeyAnswer, RpcError>;

pub(crate) fn run(args: &KeysArgs, out: &mut impl Write) -> Outcome {
    let action = action(args)?;
    let mut client = connect(&args.rpc)?;
    writeln!(out, "==> {}", action.begins)?;
    let (error, report) = match (action.ask)(&mut client, args) {
        Ok(KeyAnswer { error, report }) => (error.map(Text::into_bytes), report),
        Err(error) => (Some(words_of(&error)), KeyReport::default()),
    };
    if let Some(error) = error {
        let failed = |(node, message): (&Text, &Text)| [b"failed:", &node[..], &message[..]].join(&b'|');
        let rows: Vec<Vec<u8>> = report.messages.iter().map(failed).collect();
        if !rows.is_empty() {
            say(out, &[&output::table(&rows)])?;
        }
        return Err(Failure::Message([b"\n", action.fails.as_bytes(), b": ", &error[..]].concat()));
    }
    writeln!(out, "==> {}", action.succeeds)?;
    if args.list {
        let count = |(key, count): (&Text, &u64)| {
            [&key[..], format!("|[{count}/{}]", report.num_nodes).as_bytes()].concat()
        };
        let rows: Vec<Vec<u8>> = report.keys.iter().flatten().map(count).collect();
        say(out, &[b"\n", &output::table(&rows)])?;
    }
    Ok(())
}

/// Exactly one action must be named.
fn action(args: &KeysArgs) -> Result<Action, Failure> {
    let named = [args.list, !args.install.is_empty(), !args.primary.is_empty(), !args.remove.is_empty()];
    match named {
        [false, false, false, false] => Err(Failure::Misuse(None)),
        [true, false, false, false] => Ok(Action {
            begins: "Asking all members for installed keys...",
            succeeds: "Keys gathered, listing cluster keys...",
            fails: "Failed to gather member keys",
            ask: |client, _| client.list_keys(),
        }),
        [false, true, false, false] => Ok(Action {
            begins: "Installing key on all members...",
            succeeds: "Successfully installed key!",
            fails: "Error installing key",
            ask: |client, args| client.install_key(args.install.reveal()),
        }),
        [false, false, true, false] => Ok(Action {
            begins: "Changing primary key on all members...",
            succeeds: "Successfully changed primary key!",
            fails: "Error changing primary key",
            ask: |client, args| client.use_key(args.primary.reveal()),
        }),
        [false, false, false, true] => Ok(Action {
            begins: "Removing key on all members...",
            succeeds: "Successfully removed key!",
            fails: "Error removing key",
            ask: |client, args| client.remove_key(args.remove.reveal()),
        }),
        _ => Err(Failure::Message(b"Only one of -install, -use, -remove, or -list allowed".to_vec())),
    }
}
