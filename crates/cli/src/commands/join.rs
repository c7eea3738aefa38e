//! `join`: tells the agent to contact other agents (cli.md 5.5).

use std::io::Write;

use villein_rpc::request::Join;

use super::{Failure, Outcome, connect, failed};
use crate::args::JoinArgs;

pub(crate) fn run(args: &JoinArgs, out: &mut impl Write) -> Outcome {
    if args.words.is_empty() {
        return Err(Failure::Misuse(Some("At least one address to join must be specified.")));
    }
    let request = Join { existing: args.words.clone(), replay: args.replay };
    let contacted = connect(&args.rpc)?.join(request).map_err(failed("Error joining the cluster"))?;
    writeln!(out, "Successfully joined cluster by contacting {contacted} nodes.")?;
    Ok(())
}
