//! `force-leave`: declares a failed member gone (cli.md 5.7). Success is silent, but for a name that nobody has.

use std::io::{self, Write};

use villein_core::gotext::quote;
use villein_rpc::RpcError;
use villein_rpc::request::ForceLeave;

use super::{Failure, Outcome, connect, failed};
use crate::args::ForceLeaveArgs;

pub(crate) fn run(args: &ForceLeaveArgs) -> Outcome {
    let [node] = &args.words[..] else {
        return Err(Failure::Misuse(Some("A node name must be specified to force leave.")));
    };
    let mut client = connect(&args.rpc)?;
    // Asked first, because a prune forgets the member. A refusal is repeated for the command itself.
    let is_known = match client.members() {
        Ok(members) => members.iter().any(|member| member.name == *node),
        Err(RpcError::Refused(_)) => true,
        Err(error) => return Err(failed("Error force leaving")(error)),
    };
    let request = ForceLeave { node: node.clone(), prune: args.prune };
    client.force_leave(request).map_err(failed("Error force leaving"))?;
    if !is_known {
        // Scripts take a name that is not there for a success, and may look at what stdout says.
        writeln!(io::stderr(), "This agent knows no member named {}.", quote(node))?;
    }
    Ok(())
}
