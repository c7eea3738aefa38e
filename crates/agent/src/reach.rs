//! Whether packets get out: an agent whose host has lost the address that it is bound to says so, in one line
//! instead of one per packet.
//!
//! Sending is told to fail, never to work: a send that nothing was heard of for [`SEND_SETTLED`] has worked.
//! Who cannot be reached is not judged here. Invariants: as long as a single destination can be sent to, nothing
//! is said; the end of a silence is said if its beginning was; nothing here wants to be woken.

use crate::config::Config;
use crate::cx::Cx;
use crate::escape;
use crate::limits::{MUTE_PATIENCE, MUTE_REMINDER, SEND_SETTLED};
use std::net::{IpAddr, SocketAddr};
use villein_core::note::Level;
use villein_core::time::Instant;

/// What became of the packets of the gossip socket lately.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The address that is gone if nothing gets out.
    from: IpAddr,
    /// What is sent there stays within the host, and says nothing about the network.
    own: SocketAddr,
    /// When the first of the packets was sent of which no failure was heard, and how many these are; never 0.
    unheard: Option<(Instant, u64)>,
    /// The first failure since a packet got out.
    failing_since: Option<Instant>,
    said_at: Option<Instant>,
}

impl Reach {
    pub(crate) fn new(config: &Config) -> Reach {
        let own = config.advertised();
        let bound = config.bind_text.parse().map(|bound: SocketAddr| bound.ip());
        Reach {
            // Bound to every address, a host sends from the one that the others are told.
            from: bound.ok().filter(|ip| !ip.is_unspecified()).unwrap_or(own.ip()),
            own,
            unheard: None,
            failing_since: None,
            said_at: None,
        }
    }

    /// A packet is on its way.
    pub(crate) fn on_sent(&mut self, now: Instant, to: SocketAddr) {
        if to != self.own {
            let (since, count) = self.unheard.unwrap_or((now, 0));
            self.unheard = Some((since, count + 1));
        }
    }

    /// It is not.
    pub(crate) fn on_failed(&mut self, to: SocketAddr, why: &str, cx: &mut Cx<'_>) {
        let why = escape::line(why.as_bytes());
        cx.log(Level::Debug, "memberlist", &format!("failed to send to {to}: {why}"));
        if self.is_remark_due(cx.clock.now, to) {
            let text = format!(
                "nothing can be sent from {} (last to {to}: {why}): this host may be cut off, or may no longer have \
                 the address; if it has another one for good, restart the agent",
                self.from
            );
            cx.log(Level::Err, "agent", &text);
        }
    }

    /// Sees whether packets get out again. To be called with every input that is no failure, so that all failures
    /// of what was sent before are known.
    pub(crate) fn look(&mut self, cx: &mut Cx<'_>) {
        if let Some(since) = self.end_of_silence(cx.clock.now) {
            let seconds = cx.clock.now.since(since).as_secs();
            let text = format!("packets can be sent from {} again, after {seconds} s", self.from);
            cx.log(Level::Info, "agent", &text);
        }
    }

    fn is_remark_due(&mut self, now: Instant, to: SocketAddr) -> bool {
        if to == self.own {
            return false;
        }
        let others = |(since, count): (Instant, u64)| (count > 1).then(|| (since, count - 1));
        self.unheard = self.unheard.and_then(others);
        let since = *self.failing_since.get_or_insert(now);
        let due = self.said_at.map_or(since + MUTE_PATIENCE, |said_at| said_at + MUTE_REMINDER);
        let is_due = self.unheard.is_none() && now >= due;
        if is_due {
            self.said_at = Some(now);
        }
        is_due
    }

    /// When the silence began that is over now, if anybody was told of it.
    fn end_of_silence(&mut self, now: Instant) -> Option<Instant> {
        self.unheard.take_if(|(since, _)| *since + SEND_SETTLED <= now)?;
        let since = self.failing_since.take();
        self.said_at.take().and(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use std::net::Ipv4Addr;
    use villein_core::config::Config as NodeConfig;
    use villein_core::member::WireAddr;
    use villein_core::time::Duration;

    fn config() -> Config {
        let addr = WireAddr::from_ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let machine = Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 };
        Config::new(NodeConfig::new("alpha".into(), addr, 7946), machine)
    }

    fn peer(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 7946))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Sends to these at once and has it fail; gives how often something is to be said.
    fn fail(reach: &mut Reach, now: Instant, peers: &[SocketAddr]) -> usize {
        for &to in peers {
            reach.on_sent(now, to);
        }
        peers.iter().filter(|&&to| reach.is_remark_due(now, to)).count()
    }

    #[test]
    fn the_address_is_the_one_that_packets_come_from() {
        let cases = [
            ("192.0.2.1:7946", "192.0.2.1"),
            ("10.0.0.5:7946", "10.0.0.5"),
            ("0.0.0.0:7946", "192.0.2.1"),
            (":7946", "192.0.2.1"),
            ("[::]:7946", "192.0.2.1"),
            ("[2001:db8::1]:7946", "2001:db8::1"),
        ];
        for (bind_text, from) in cases {
            let config = Config { bind_text: bind_text.to_owned(), ..config() };
            assert_eq!(Reach::new(&config).from.to_string(), from, "{bind_text}");
        }
    }

    #[test]
    fn a_silence_is_said_after_a_while_and_then_rarely() {
        let mut reach = Reach::new(&config());
        let start = at(500);
        let mut said = Vec::new();
        for step in 0..72_000_u32 {
            let now = start + Duration::from_millis(100) * step;
            assert_eq!(reach.end_of_silence(now), None);
            if fail(&mut reach, now, &[peer(2), peer(3), peer(2)]) > 0 {
                said.push(now);
            }
        }
        let first = start + MUTE_PATIENCE;
        assert_eq!(said, [first, first + MUTE_REMINDER]);
    }

    #[test]
    fn a_packet_that_gets_out_ends_a_silence() {
        let mut reach = Reach::new(&config());
        assert_eq!(fail(&mut reach, at(0), &[peer(2)]), 0);
        assert_eq!(fail(&mut reach, at(3000), &[peer(2), peer(3)]), 1);
        reach.on_sent(at(4000), peer(2));
        assert_eq!(reach.end_of_silence(at(4999)), None, "it may still fail");
        assert_eq!(reach.end_of_silence(at(5000)), Some(at(0)));
        reach.on_sent(at(5000), peer(2));
        assert_eq!(reach.end_of_silence(at(6000)), None, "it is said once");
        assert_eq!(fail(&mut reach, at(6000), &[peer(2)]), 0, "the next silence begins anew");
        assert_eq!(fail(&mut reach, at(9000), &[peer(2)]), 1);
    }

    #[test]
    fn a_short_silence_is_not_worth_a_line() {
        let mut reach = Reach::new(&config());
        for round in 0..100 {
            let start = round * 5000;
            assert_eq!(fail(&mut reach, at(start), &[peer(2)]), 0);
            assert_eq!(fail(&mut reach, at(start + 2900), &[peer(2), peer(3)]), 0);
            reach.on_sent(at(start + 2950), peer(3));
            assert_eq!(fail(&mut reach, at(start + 3000), &[peer(2)]), 0, "another one was just sent");
            assert_eq!(reach.end_of_silence(at(start + 3950)), None);
        }
    }

    #[test]
    fn while_one_destination_can_be_sent_to_nothing_is_said() {
        let mut reach = Reach::new(&config());
        for second in 0..10_000 {
            assert_eq!(reach.end_of_silence(at(second * 1000)), None);
            assert_eq!(fail(&mut reach, at(second * 1000), &[peer(2), peer(3)]), 0, "after {second} s");
            if second % 2 == 0 {
                reach.on_sent(at(second * 1000 + 500), peer(4));
            }
        }
    }

    /// An interface that is down still has its address, so that the host reaches itself.
    #[test]
    fn what_a_node_sends_to_itself_makes_no_difference() {
        let mut reach = Reach::new(&config());
        assert_eq!(fail(&mut reach, at(0), &[peer(1), peer(2)]), 0);
        reach.on_sent(at(1000), peer(1));
        assert_eq!(reach.end_of_silence(at(3000)), None);
        assert_eq!(fail(&mut reach, at(3000), &[peer(1)]), 0);
        assert_eq!(fail(&mut reach, at(3000), &[peer(2)]), 1);
        reach.on_sent(at(4000), peer(1));
        assert_eq!(reach.end_of_silence(at(9000)), None);
    }
}
