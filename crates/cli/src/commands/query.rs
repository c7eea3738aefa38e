//! `query`: asks the cluster and prints the answers as they come, or all together as JSON (cli.md 5.2).
//!
//! The agent says when the query is over. A connection that breaks before that is a failure, although what
//! came until then is printed as usual. Expressions that nobody understands are told on stderr: they are no failure
//! to scripts, because stdout and the status stay what they always were.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use villein_core::expression::{Allowance, Extent, Refusal};
use villein_core::gotext::quote;
use villein_rpc::request::Query;
use villein_rpc::response::QueryAnswer;
use villein_rpc::{RpcError, Text};

use super::{Answer, Failure, Format, Outcome, ask, connect, format_named, say, tag_map, words_of};
use crate::args::QueryArgs;
use crate::interrupt::end_on_interrupt;
use crate::json::{self, Lossy};

pub(crate) fn run(args: &QueryArgs, out: &mut impl Write) -> Outcome {
    let query = request(args)?;
    let name = query.name.clone();
    let mut client = connect(&args.rpc)?;
    let unknown = || [&b"Invalid format: "[..], &args.format].concat();
    let format = format_named(&args.format).ok_or_else(unknown)?;
    end_on_interrupt(1, b"")?;
    for remark in expressions_in_vain(&query) {
        // A closed stderr is no reason not to ask.
        let _ = writeln!(io::stderr(), "{remark}");
    }
    let mut answers = ask(&mut client, query)?;
    let lost = match format {
        Format::Text => print_text(&name, !args.no_ack, &mut answers, out)?,
        Format::Json => print_json(&mut answers, out)?,
    };
    match lost {
        None => Ok(()),
        Some(error) => {
            Err(Failure::Remark([b"Error waiting for the query to end: ", &words_of(&error)[..]].concat()))
        }
    }
}

/// Checks what can be checked without an agent, in the order that scripts know.
fn request(args: &QueryArgs) -> Result<Query, Failure> {
    let filter_tags = tag_map(&args.tags)?;
    let (name, payload) = match &args.words[..] {
        [] => return Err(Failure::Misuse(Some("A query name must be specified."))),
        [name] => (name, None),
        [name, payload] => (name, Some(payload)),
        _ => {
            let mistake = "Too many command line arguments. Only a name and payload must be specified.";
            return Err(Failure::Misuse(Some(mistake)));
        }
    };
    let relay_factor = u8::try_from(args.relay_factor)
        .map_err(|_| Failure::Message(b"Relay factor must be between 0 and 255".to_vec()))?;
    Ok(Query {
        filter_nodes: args.nodes.clone(),
        filter_tags,
        request_ack: !args.no_ack,
        relay_factor,
        timeout: args.timeout_ns,
        name: name.clone(),
        payload: payload.map(|payload| payload.as_bytes().to_vec()),
    })
}

/// What is no expression wherever it is read: nodes that are asked so do nothing, and only they say why. What others
/// may find too large is their affair.
fn expressions_in_vain(query: &Query) -> Vec<String> {
    let refused = |(tag, expr): (&Text, &Text)| {
        let mut allowance = Allowance::new(1, expr.len()).expect("one expression is always allowed");
        match allowance.compile(expr, Extent::Part) {
            Err(Refusal::Malformed(why)) => {
                let (tag, expr) = (quote(tag), quote(expr));
                Some(format!("No node will answer: the expression {expr} for tag {tag} is none ({why})."))
            }
            Err(Refusal::TooCostly(_)) | Ok(_) => None,
        }
    };
    query.filter_tags.iter().filter_map(refused).collect()
}

/// Prints each answer when it comes, then the totals. Returns why the connection was lost, if it was.
fn print_text(
    name: &[u8],
    with_acks: bool,
    answers: &mut impl Iterator<Item = Answer>,
    out: &mut impl Write,
) -> Result<Option<RpcError>, Failure> {
    say(out, &[b"Query '", name, b"' dispatched"])?;
    let (mut acks, mut responses, mut lost) = (0, 0, None);
    for answer in answers {
        match answer {
            Ok(QueryAnswer::Ack { from }) => {
                acks += 1;
                say(out, &[b"Ack from '", &from, b"'"])?;
            }
            Ok(QueryAnswer::Response { from, payload }) => {
                responses += 1;
                let payload = payload.unwrap_or_default();
                let text = payload.strip_suffix(b"\n").unwrap_or(&payload);
                say(out, &[b"Response from '", &from, b"': ", text])?;
            }
            Err(error) => lost = Some(error),
        }
    }
    if with_acks {
        writeln!(out, "Total Acks: {acks}")?;
    }
    writeln!(out, "Total Responses: {responses}")?;
    Ok(lost)
}

/// Prints everything at the end. Returns why the connection was lost, if it was.
fn print_json(
    answers: &mut impl Iterator<Item = Answer>,
    out: &mut impl Write,
) -> Result<Option<RpcError>, Failure> {
    let (mut acks, mut responses, mut lost) = (Vec::new(), BTreeMap::new(), None);
    for answer in answers {
        match answer {
            Ok(QueryAnswer::Ack { from }) => acks.push(from),
            Ok(QueryAnswer::Response { from, payload }) => {
                responses.insert(from, payload.unwrap_or_default());
            }
            Err(error) => lost = Some(error),
        }
    }
    let names = acks.iter().map(|name| Lossy(name)).collect();
    let total = Totals { acks: (!acks.is_empty()).then_some(names), responses: Responses(&responses) };
    say(out, &[&json::pretty(&total)])?;
    Ok(lost)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Totals<'a> {
    acks: Option<Vec<Lossy<'a>>>,
    responses: Responses<'a>,
}

struct Responses<'a>(&'a BTreeMap<Text, Vec<u8>>);

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, text)| (Lossy(name), Lossy(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(from: &str) -> QueryAnswer {
        QueryAnswer::Ack { from: Text::from(from) }
    }

    fn response(from: &str, payload: &str) -> QueryAnswer {
        let payload = Some(payload.as_bytes().to_vec());
        QueryAnswer::Response { from: Text::from(from), payload }
    }

    #[test]
    fn what_is_no_expression_is_told() {
        let of = |tags: &[(&str, &str)]| {
            let filter_tags = tags.iter().map(|&(tag, expr)| (tag.into(), expr.into())).collect();
            expressions_in_vain(&Query { filter_tags, ..Query::default() })
        };
        let large = "(a|b)".repeat(3000);
        assert_eq!(of(&[("role", "^w"), ("dc", ""), ("big", &large)]), Vec::<String>::new());
        let told = of(&[("dc", "a(\n"), ("role", "[")]);
        let begins = [
            "No node will answer: the expression \"a(\\n\" for tag \"dc\" is none (",
            "No node will answer: the expression \"[\" for tag \"role\" is none (missing closing ]).",
        ];
        assert_eq!(told.len(), 2);
        assert!(told.iter().zip(begins).all(|(told, begins)| told.starts_with(begins)), "{told:?}");
    }

    fn text_of(with_acks: bool, answers: Vec<Answer>) -> (String, bool) {
        let mut out = Vec::new();
        let lost = print_text(b"load", with_acks, &mut answers.into_iter(), &mut out);
        let lost = lost.expect("a vector takes everything").is_some();
        (String::from_utf8(out).expect("the answers are text"), lost)
    }

    #[test]
    fn answers_in_text() {
        let answers = || vec![Ok(ack("alpha")), Ok(response("beta", "a\nb\n\n")), Ok(response("gamma", ""))];
        let lines = "Query 'load' dispatched\nAck from 'alpha'\nResponse from 'beta': a\nb\n\nResponse from 'gamma': \n";
        let expected = format!("{lines}Total Acks: 1\nTotal Responses: 2\n");
        assert_eq!(text_of(true, answers()), (expected.clone(), false));
        let mut broken = answers();
        broken.push(Err(RpcError::Closed));
        assert_eq!(text_of(true, broken), (expected, true));
        let quiet = "Query 'load' dispatched\nTotal Responses: 0\n".to_owned();
        assert_eq!(text_of(false, Vec::new()), (quiet, false));
    }

    #[test]
    fn answers_in_json() {
        let mut out = Vec::new();
        let answers =
            [ack("beta"), ack("alpha"), response("b", "1"), response("a", "\n"), response("b", "2")];
        print_json(&mut answers.into_iter().map(Ok), &mut out).expect("a vector takes everything");
        let expected = "{\n  \"Acks\": [\n    \"beta\",\n    \"alpha\"\n  ],\n  \"Responses\": {\n    \"a\": \"\\n\",\n    \"b\": \"2\"\n  }\n}\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        let mut out = Vec::new();
        print_json(&mut std::iter::empty(), &mut out).expect("a vector takes everything");
        assert_eq!(out, b"{\n  \"Acks\": null,\n  \"Responses\": {}\n}\n");
    }
}
