//! `event`: fires a user event (cli.md 5.1).

use std::io::Write;

use villein_rpc::request::UserEvent;

use super::{Failure, Outcome, connect, failed, say};
use crate::args::EventArgs;

pub(crate) fn run(args: &EventArgs, out: &mut impl Write) -> Outcome {
    let (name, payload) = match &args.words[..] {
        [] => return Err(Failure::Misuse(Some("An event name must be specified."))),
        [name] => (name, None),
        [name, payload] => (name, Some(payload)),
        _ => {
            let mistake = "Too many command line arguments. Only a name and payload must be specified.";
            return Err(Failure::Misuse(Some(mistake)));
        }
    };
    let event = UserEvent {
        name: name.clone(),
        payload: payload.map(|payload| payload.as_bytes().to_vec()),
        coalesce: args.coalesce,
    };
    connect(&args.rpc)?.event(event).map_err(failed("Error sending event"))?;
    let coalescing = if args.coalesce { "true" } else { "false" };
    say(out, &[b"Event '", name, b"' dispatched! Coalescing enabled: ", coalescing.as_bytes()])?;
    Ok(())
}
