//! Which hosts answered, and when each is worth telling again.
//!
//! Time is counted in polls, so that a host that answers a little earlier than the last time is not put
//! off by a whole round. Invariant: at most [`MDNS_HOSTS`] hosts are kept.

use crate::limits::MDNS_HOSTS;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The longest pause between two reports of a host: about an hour.
const PAUSE_MAX: u64 = 64;
/// A host that does not answer for so many polls is forgotten, so that it is new when it comes back.
const SILENCE_MAX: u64 = 4;

/// The hosts that answered lately.
#[derive(Debug)]
pub(super) struct Hosts {
    poll: u64,
    known: BTreeMap<SocketAddr, Host>,
}

#[derive(Debug)]
struct Host {
    heard: u64,
    due: u64,
    pause: u64,
}

/// What to do with a host that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Tell it.
    Due,
    /// It has been told lately.
    Known,
    /// There is no room for it.
    Full,
}

impl Hosts {
    pub(super) fn new() -> Hosts {
        Hosts { poll: 0, known: BTreeMap::new() }
    }

    /// Forgets the hosts that fell silent.
    pub(super) fn begin_poll(&mut self) {
        self.poll += 1;
        let poll = self.poll;
        self.known.retain(|_, host| poll - host.heard <= SILENCE_MAX);
    }

    /// Takes note that `addr` answered in this poll.
    pub(super) fn hear(&mut self, addr: SocketAddr) -> Heard {
        let poll = self.poll;
        if let Some(host) = self.known.get_mut(&addr) {
            host.heard = poll;
            if poll < host.due {
                return Heard::Known;
            }
            host.pause = (host.pause * 2).min(PAUSE_MAX);
            host.due = poll + host.pause;
            return Heard::Due;
        }
        if self.known.len() >= MDNS_HOSTS {
            return Heard::Full;
        }
        self.known.insert(addr, Host { heard: poll, due: poll + 1, pause: 1 });
        Heard::Due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_host_that_keeps_answering_is_told_less_and_less_often() {
        let mut hosts = Hosts::new();
        let mut told = Vec::new();
        for poll in 1..400 {
            hosts.begin_poll();
            if hosts.hear(addr(1)) == Heard::Due {
                told.push(poll);
            }
            assert_eq!(hosts.hear(addr(1)), Heard::Known, "twice in poll {poll}");
        }
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384]);
    }

    #[test]
    fn a_host_that_fell_silent_is_new_when_it_comes_back() {
        let mut hosts = Hosts::new();
        for _ in 0..3 {
            hosts.begin_poll();
            hosts.hear(addr(1));
        }
        for _ in 0..SILENCE_MAX {
            hosts.begin_poll();
        }
        assert_eq!(hosts.known.len(), 1);
        hosts.begin_poll();
        assert!(hosts.known.is_empty());
        assert_eq!(hosts.hear(addr(1)), Heard::Due);
    }

    #[test]
    fn the_table_has_an_end() {
        let mut hosts = Hosts::new();
        for port in 0..MDNS_HOSTS as u16 {
            assert_eq!(hosts.hear(addr(port)), Heard::Due);
        }
        assert_eq!(hosts.hear(addr(65535)), Heard::Full);
        assert_eq!(hosts.hear(addr(0)), Heard::Known);
    }
}
