//! `reachability`: asks every member for an acknowledgement and compares with the list (cli.md 5.12).
//!
//! It does not ask twice: a lost packet shows as an unreachable member.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use villein_rpc::Text;
use villein_rpc::request::Query;
use villein_rpc::response::{Member, QueryAnswer};

use super::{Failure, Outcome, ask, connect, failed, say};
use crate::args::ReachabilityArgs;
use crate::interrupt::end_on_interrupt;

const DUPLICATES: &str =
    "Duplicate responses means there is a misconfiguration. Verify that node names are unique.";

const TIPS: &str = "
Troubleshooting tips:
* Check that other nodes can reach the bind address and port, over UDP and over TCP
* Check that the advertise address, if one is set, leads to the bind address
* Check that firewalls on the way and on the nodes let gossip through
* Check that no node is behind address translation
* Check cables, switches and routes";

pub(crate) fn run(args: &ReachabilityArgs, out: &mut impl Write) -> Outcome {
    let mut client = connect(&args.rpc)?;
    let members = client.members().map_err(failed("Error getting members"))?;
    let is_live = |member: &&Member| member.status == "alive";
    let live: BTreeSet<&Text> = members.iter().filter(is_live).map(|member| &member.name).collect();
    writeln!(out, "Total members: {}, live members: {}", members.len(), live.len())?;
    end_on_interrupt(1, b"Test interrupted\n")?;

    let ping = Query { name: Text::from("_serf_ping"), request_ack: true, ..Query::default() };
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    let mut acked: BTreeSet<Text> = BTreeSet::new();
    let mut duplicated = false;
    let answers = ask(&mut client, ping)?;
    writeln!(out, "Starting reachability test...")?;
    // A lost connection shows in the acknowledgements that are missing.
    for answer in answers.map_while(Result::ok) {
        let QueryAnswer::Ack { from } = answer else { continue };
        last = begin.elapsed();
        if args.verbose {
            say(out, &[b"\tAck from '", &from, b"'"])?;
        }
        if acked.contains(&from) {
            duplicated = true;
            say(out, &[b"Duplicate response from '", &from, b"'"])?;
        }
        acked.insert(from);
    }
    if args.verbose {
        let (total, last) = (begin.elapsed().as_secs_f64(), last.as_secs_f64());
        writeln!(out, "Query time: {total:.2} sec, time to last response: {last:.2} sec")?;
    }
    if duplicated {
        writeln!(out, "{DUPLICATES}")?;
    }
    let reached = verdict(&live, &acked.iter().collect(), out)?;
    if reached && !duplicated { Ok(()) } else { Err(Failure::Told) }
}

/// Prints who is missing or too many; true when each live member acknowledged and nobody else.
fn verdict(live: &BTreeSet<&Text>, acked: &BTreeSet<&Text>, out: &mut impl Write) -> std::io::Result<bool> {
    if live == acked {
        writeln!(out, "Successfully contacted all live nodes")?;
        return Ok(true);
    }
    let too_many = acked.len() > live.len();
    let (first_line, names, cause) = if too_many {
        let first_line = "Received more acks than live nodes! Acks from non-live nodes:";
        (first_line, acked - live, "Serf is detecting false-failures")
    } else {
        let first_line = "Received less acks than live nodes! Missing acks from:";
        (first_line, live - acked, "Serf gossip packets are being lost")
    };
    writeln!(out, "{first_line}")?;
    for name in names {
        say(out, &[b"\t", name])?;
    }
    writeln!(out, "This could mean {cause} due to a misconfiguration or network issue.\n{TIPS}")?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_on(live: &[&str], acked: &[&str]) -> (bool, Vec<String>) {
        let names = |names: &[&str]| names.iter().map(|&name| Text::from(name)).collect::<Vec<Text>>();
        let (live, acked) = (names(live), names(acked));
        let mut out = Vec::new();
        let good = verdict(&live.iter().collect(), &acked.iter().collect(), &mut out);
        let out = String::from_utf8(out).expect("names are text here");
        (good.expect("a vector takes everything"), out.lines().map(str::to_owned).collect())
    }

    #[test]
    fn verdicts() {
        assert_eq!(
            verdict_on(&["a", "b"], &["b", "a"]),
            (true, vec!["Successfully contacted all live nodes".to_owned()])
        );
        let (good, lines) = verdict_on(&["a", "b", "c"], &["b"]);
        assert!(!good);
        assert_eq!(lines[..3], ["Received less acks than live nodes! Missing acks from:", "\ta", "\tc"]);
        let (good, lines) = verdict_on(&["a"], &["a", "z"]);
        assert!(!good);
        assert_eq!(lines[..2], ["Received more acks than live nodes! Acks from non-live nodes:", "\tz"]);
        let (good, lines) = verdict_on(&["a", "b"], &["a", "z"]);
        assert!(!good);
        assert_eq!(lines[..2], ["Received less acks than live nodes! Missing acks from:", "\tb"]);
    }
}
