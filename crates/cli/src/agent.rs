//! The `agent` command: runs an agent until it leaves.

use crate::args::AgentArgs;

/// Runs an agent with these flags, which were checked; `program` is the name of the caller.
/// Returns the exit status.
pub(crate) fn run(_: AgentArgs, _: &str) -> u8 {
    println!("==> the agent is not built in");
    1
}
