//! Joining a cluster, and finding failed members again (gossip.md 13.14).
//!
//! A join is one exchange per address; the membership layer bounds how many run at once. The invariant:
//! each join is answered once, when each of its addresses has been answered for.

use super::{Due, Serf};
use crate::command::{CommandError, CommandId, Reply};
use crate::cx::Cx;
use crate::exchange_error::ExchangeError;
use crate::limits;
use crate::note::Note;
use crate::swim::{Notice, Purpose, Swim};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The joins that are under way.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    joins: BTreeMap<u64, Join>,
    begun: u64,
}

#[derive(Clone, Debug)]
struct Join {
    command: CommandId,
    ignore_old: bool,
    attempts: Vec<Attempt>,
}

#[derive(Clone, Debug)]
struct Attempt {
    to: SocketAddr,
    result: Option<Result<(), ExchangeError>>,
}

/// What came of a join.
#[derive(Debug, PartialEq)]
struct Joined {
    command: CommandId,
    contacted: usize,
    failures: Vec<(SocketAddr, ExchangeError)>,
}

impl Joining {
    pub(super) fn new() -> Joining {
        Joining { joins: BTreeMap::new(), begun: 0 }
    }

    /// Whether a join is under way that must not bring events from before it.
    pub(super) fn ignores_old(&self) -> bool {
        self.joins.values().any(|join| join.ignore_old)
    }

    fn begin(&mut self, command: CommandId, addrs: &[SocketAddr], ignore_old: bool) -> u64 {
        self.begun += 1;
        let attempts = addrs.iter().map(|to| Attempt { to: *to, result: None }).collect();
        self.joins.insert(self.begun, Join { command, ignore_old, attempts });
        self.begun
    }

    /// One exchange ended; the whole join if it was the last one.
    fn end_one(&mut self, number: u64, to: SocketAddr, result: Result<(), ExchangeError>) -> Option<Joined> {
        let join = self.joins.get_mut(&number)?;
        let mut open = join.attempts.iter_mut().filter(|attempt| attempt.result.is_none());
        open.find(|attempt| attempt.to == to)?.result = Some(result);
        if join.attempts.iter().any(|attempt| attempt.result.is_none()) {
            return None;
        }
        let Join { command, attempts, .. } = self.joins.remove(&number)?;
        let tried = attempts.len();
        let failures: Vec<_> =
            attempts.into_iter().filter_map(|attempt| Some((attempt.to, attempt.result?.err()?))).collect();
        Some(Joined { command, contacted: tried - failures.len(), failures })
    }
}

impl Serf {
    /// Contacts each address.
    pub(super) fn join(
        &mut self,
        id: CommandId,
        addrs: Vec<SocketAddr>,
        ignore_old: bool,
        swim: &mut Swim,
        notices: &mut Vec<Notice>,
        cx: &mut Cx<'_>,
    ) -> Result<(), CommandError> {
        if !self.leaving.is_here() {
            return Err(CommandError::JoinAfterLeave);
        }
        if addrs.is_empty() {
            cx.out.reply(id, Reply::Joined { contacted: 0, failures: Vec::new() });
            return Ok(());
        }
        if self.joining.joins.len() >= limits::WAITING_COMMANDS {
            return Err(CommandError::Busy);
        }
        let number = self.joining.begin(id, &addrs, ignore_old);
        for to in addrs {
            swim.exchange(to, Purpose::Join(number), notices, cx);
        }
        Ok(())
    }

    /// An exchange of a join ended.
    pub(super) fn on_join_exchange(
        &mut self,
        number: u64,
        to: SocketAddr,
        result: Result<(), ExchangeError>,
        cx: &mut Cx<'_>,
    ) {
        let Some(Joined { command, contacted, failures }) = self.joining.end_one(number, to, result) else {
            return;
        };
        // An announcement after the own leave intent would call the leave off.
        if contacted > 0 && self.leaving.is_here() {
            self.announce(cx);
        }
        cx.out.reply(command, Reply::Joined { contacted, failures });
    }

    /// A member has failed: it is tried again from time to time.
    pub(super) fn expect_return(&mut self, cx: &mut Cx<'_>) {
        if !self.timers.contains(Due::Reconnect) {
            self.timers.set(Due::Reconnect, cx.now + self.settings.reconnect_interval);
        }
    }

    /// Tries one failed member, less likely the smaller a part of the cluster has failed.
    pub(super) fn reconnect(&mut self, swim: &mut Swim, notices: &mut Vec<Notice>, cx: &mut Cx<'_>) {
        let failed = self.members.failed().len();
        if failed == 0 || !self.leaving.is_here() {
            return;
        }
        self.timers.set(Due::Reconnect, cx.now + self.settings.reconnect_interval);
        let present = self.members.len() - failed - self.members.left_count();
        if cx.rng.unit() > failed as f64 / present.max(1) as f64 {
            return cx.note(Note::ReconnectThrottled);
        }
        let chosen = cx.rng.below(failed);
        let name = self.members.failed().nth(chosen).expect("the choice is below the length");
        let member = self.members.get(name).expect("listed names are members");
        let addr = member.socket_addr();
        cx.note(Note::Reconnecting { name: member.name.clone(), addr });
        swim.exchange(addr, Purpose::Reconnect, notices, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 7946))
    }

    #[test]
    fn a_join_ends_with_its_last_exchange() {
        let mut joining = Joining::new();
        let number = joining.begin(CommandId(7), &[addr(1), addr(2), addr(1)], true);
        let other = joining.begin(CommandId(8), &[addr(1)], false);
        assert_ne!(number, other);
        assert_eq!(joining.end_one(number, addr(1), Err(ExchangeError::TimedOut)), None);
        // Neither another address nor another join counts.
        assert_eq!(joining.end_one(number, addr(9), Ok(())), None);
        assert_eq!(joining.end_one(99, addr(1), Ok(())), None);
        assert_eq!(joining.end_one(number, addr(1), Ok(())), None);
        assert!(joining.ignores_old());
        let joined = joining.end_one(number, addr(2), Err(ExchangeError::Closed)).unwrap();
        let failures = vec![(addr(1), ExchangeError::TimedOut), (addr(2), ExchangeError::Closed)];
        assert_eq!(joined, Joined { command: CommandId(7), contacted: 1, failures });
        assert!(!joining.ignores_old());
        assert_eq!(joining.end_one(number, addr(2), Ok(())), None);
        assert_eq!(joining.end_one(other, addr(1), Ok(())).unwrap().contacted, 1);
    }
}
