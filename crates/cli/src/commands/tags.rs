//! `tags`: changes the tags of the agent itself (cli.md 5.8). A key both set and deleted stays set.

use std::io::Write;

use villein_rpc::request::TagChange;

use super::{Failure, Outcome, connect, failed, tag_map};
use crate::args::TagsArgs;

pub(crate) fn run(args: &TagsArgs, out: &mut impl Write) -> Outcome {
    if args.set.is_empty() && args.delete.is_empty() {
        return Err(Failure::Misuse(None));
    }
    let change = TagChange { tags: tag_map(&args.set)?, delete_tags: args.delete.clone() };
    connect(&args.rpc)?.tags(change).map_err(failed("Error setting tags"))?;
    writeln!(out, "Successfully updated agent tags")?;
    Ok(())
}
