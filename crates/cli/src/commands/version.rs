//! `version`: two lines that need no agent.

use std::io::Write;

use super::Outcome;

/// Prints the release, and the protocol versions in the words of the reference program.
pub(crate) fn run(out: &mut impl Write) -> Outcome {
    writeln!(out, "{}\nAgent Protocol: 5 (Understands back to: 2)", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
