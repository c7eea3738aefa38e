//! `leave`: makes the agent leave the cluster and exit (cli.md 5.6).

use std::io::Write;

use super::{Outcome, connect, failed};
use crate::args::LeaveArgs;

pub(crate) fn run(args: &LeaveArgs, out: &mut impl Write) -> Outcome {
    connect(&args.rpc)?.leave().map_err(failed("Error leaving"))?;
    writeln!(out, "Graceful leave complete")?;
    Ok(())
}
