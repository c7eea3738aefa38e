//! `force-leave`: declares a failed member gone (cli.md 5.7). Success is silent.

use villein_rpc::request::ForceLeave;

use super::{Failure, Outcome, connect, failed};
use crate::args::ForceLeaveArgs;

pub(crate) fn run(args: &ForceLeaveArgs) -> Outcome {
    let [node] = &args.words[..] else {
        return Err(Failure::Misuse(Some("A node name must be specified to force leave.")));
    };
    let request = ForceLeave { node: node.clone(), prune: args.prune };
    connect(&args.rpc)?.force_leave(request).map_err(failed("Error force leaving"))
}
