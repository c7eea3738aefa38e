//! The client commands, one file each: `run` takes what was typed and prints to `out`.
//!
//! This file decides what they share: how they fail, and how they find the agent. Error messages go to
//! stdout like everything else (cli.md 1.4); scripts for the reference program look for them there.

use std::ffi::OsString;
use std::io;

use villein_agent::config::RPC_ADDR;
use villein_core::text::Secret;
use villein_rpc::request::Query;
use villein_rpc::response::{QueryAnswer, TextMap};
use villein_rpc::{Client, RpcError, Text};

use crate::args::{RpcArgs, split_tag};

pub(crate) mod event;
pub(crate) mod force_leave;
pub(crate) mod info;
pub(crate) mod join;
pub(crate) mod keygen;
pub(crate) mod keys;
pub(crate) mod leave;
pub(crate) mod members;
pub(crate) mod monitor;
pub(crate) mod query;
pub(crate) mod reachability;
pub(crate) mod rtt;
pub(crate) mod tags;
pub(crate) mod validate;
pub(crate) mod version;

/// How a command ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This is to be said on stdout, with a newline behind it.
    Message(Vec<u8>),
    /// Everything was said already.
    Told,
    /// This is to be said on stderr, because stdout already has a result that scripts may parse.
    Remark(Vec<u8>),
    /// The words make no sense: what is wrong, if it can be said, and then the help of the command.
    Misuse(Option<&'static str>),
    /// Output or the operating system failed.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Text that the user gets to see, in bytes: names and answers of agents need not be UTF-8.
impl From<Vec<u8>> for Failure {
    fn from(message: Vec<u8>) -> Failure {
        Failure::Message(message)
    }
}

/// Connects to the agent that the flags or the environment name (cli.md 2).
fn connect(rpc: &RpcArgs) -> Result<Client, Failure> {
    let environment = |name| std::env::var_os(name).map(OsString::into_encoded_bytes);
    let addr = match &rpc.rpc_addr {
        Some(typed) => typed.clone(),
        None => environment("SERF_RPC_ADDR")
            .filter(|value| !value.is_empty())
            .map_or_else(|| Text::from(RPC_ADDR), Text::from),
    };
    let token = rpc.rpc_auth.clone().or_else(|| environment("SERF_RPC_AUTH").map(Secret::from));
    let token = token.filter(|token| !token.is_empty());
    Client::connect(&addr.to_string(), token.as_ref().map(Secret::reveal))
        .map_err(|error| Failure::Message(format!("Error connecting to Serf agent: {error}").into_bytes()))
}

/// Puts the words of the command before what the agent or the connection says.
fn failed(what: &str) -> impl FnOnce(RpcError) -> Failure {
    move |error| Failure::Message([what.as_bytes(), b": ", &words_of(&error)].concat())
}

/// What an error says; a refusal in the very bytes of the agent.
fn words_of(error: &RpcError) -> Vec<u8> {
    match error {
        RpcError::Refused(words) => words.as_bytes().to_vec(),
        other => other.to_string().into_bytes(),
    }
}

/// `key=value` words as a map: the last value of a key counts.
fn tag_map(words: &[Text]) -> Result<TextMap, Failure> {
    let split = |word: &Text| split_tag(word).map(|(key, value)| (Text::from(key), Text::from(value)));
    Ok(words.iter().map(split).collect::<Result<_, Vec<u8>>>()?)
}

/// Starts a query; gives the answers as they come.
fn ask(client: &mut Client, query: Query) -> Result<impl Iterator<Item = Answer>, Failure> {
    client.query(query).map_err(failed("Error sending query"))
}

/// One answer to a query, or how the connection was lost.
type Answer = Result<QueryAnswer, RpcError>;

/// The format word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Only two formats exist, in lower case.
fn format_named(word: &[u8]) -> Option<Format> {
    match word {
        b"text" => Some(Format::Text),
        b"json" => Some(Format::Json),
        _ => None,
    }
}

/// The format for a result that the agent already gave.
fn output_format(word: &[u8]) -> Result<Format, Failure> {
    let unknown = || [&b"Encoding error: Invalid output format \""[..], word, b"\""].concat();
    Ok(format_named(word).ok_or_else(unknown)?)
}

/// `text` with a newline, in one piece: a line is never cut by the end of the program.
fn say(out: &mut impl io::Write, parts: &[&[u8]]) -> io::Result<()> {
    let mut line = parts.concat();
    line.push(b'\n');
    out.write_all(&line)
}
