//! `info`: numbers about a running agent, by section (cli.md 5.4).

use std::io::Write;

use serde::{Serialize, Serializer};
use villein_rpc::response::Stats;

use super::{Format, Outcome, connect, failed, output_format, say};
use crate::args::InfoArgs;
use crate::json::{self, Lossy, Object};

pub(crate) fn run(args: &InfoArgs, out: &mut impl Write) -> Outcome {
    let stats = connect(&args.rpc)?.stats().map_err(failed("Error querying agent"))?;
    match output_format(&args.format)? {
        Format::Json => say(out, &[&json::pretty(&Sections(&stats))])?,
        Format::Text => {
            for (section, values) in &stats {
                say(out, &[section, b":"])?;
                for (key, value) in values {
                    say(out, &[b"\t", key, b" = ", value])?;
                }
            }
        }
    }
    Ok(())
}

struct Sections<'a>(&'a Stats);

impl Serialize for Sections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(section, values)| (Lossy(section), Object(values))))
    }
}
