//! `rtt`: the round trip time between two members, estimated from their coordinates (cli.md 5.13).

use std::io::Write;

use villein_rpc::response::Coordinate;
use villein_rpc::{Client, Text};

use super::{Failure, Outcome, connect, failed, say};
use crate::args::RttArgs;
use villein_core::gotext::quote;

pub(crate) fn run(args: &RttArgs, out: &mut impl Write) -> Outcome {
    // Scripts know the connection to be tried before the words are counted.
    let mut client = connect(&args.rpc)?;
    let (first, second) = match &args.words[..] {
        [first] => (first.clone(), own_name(&mut client)?),
        [first, second] => (first.clone(), second.clone()),
        _ => return Err(Failure::Misuse(Some("One or two node names must be specified"))),
    };
    let distance = distance_s(&coordinate(&mut client, &first)?, &coordinate(&mut client, &second)?);
    // Whole nanoseconds, as a duration would keep them.
    let milliseconds = (distance * 1e9).trunc() / 1e6;
    let estimate = format!("{milliseconds:.3} ms");
    say(out, &[b"Estimated ", &first, b" <-> ", &second, b" rtt: ", estimate.as_bytes()])?;
    Ok(())
}

fn own_name(client: &mut Client) -> Result<Text, Failure> {
    let stats = client.stats().map_err(failed("Error querying agent"))?;
    let name = stats.get(&b"agent"[..]).and_then(|agent| agent.get(&b"name"[..]));
    Ok(name.cloned().unwrap_or_default())
}

fn coordinate(client: &mut Client, node: &Text) -> Result<Coordinate, Failure> {
    let located = client.get_coordinate(node.clone()).map_err(failed("Error getting coordinates"))?;
    if located.ok {
        Ok(located.coord)
    } else {
        Err(Failure::Message(format!("Could not find a coordinate for node {}", quote(node)).into_bytes()))
    }
}

/// Seconds between two coordinates. The adjustments count only as long as the sum stays positive.
fn distance_s(a: &Coordinate, b: &Coordinate) -> f64 {
    let squares = a.vec.iter().zip(&b.vec).map(|(a, b)| (a - b) * (a - b));
    let raw = squares.sum::<f64>().sqrt() + a.height + b.height;
    let adjusted = raw + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let at = |x: f64, height: f64, adjustment: f64| Coordinate {
            adjustment,
            error: 1.5,
            height,
            vec: vec![x, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0],
        };
        assert_eq!(distance_s(&at(0.0, 0.25, 0.0), &at(3.0, 0.5, 0.0)), 3.75);
        assert_eq!(distance_s(&at(0.0, 0.25, -1.0), &at(3.0, 0.5, 0.5)), 3.25);
        assert_eq!(distance_s(&at(0.0, 0.25, -9.0), &at(3.0, 0.5, 0.5)), 3.75);
        assert_eq!(distance_s(&at(1.0, 0.25, 0.0), &at(1.0, 0.25, 0.0)), 0.5);
    }
}
