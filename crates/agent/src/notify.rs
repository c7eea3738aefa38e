//! What the service manager hears of the agent, and when (`sd_notify(3)`).
//!
//! Decides when the agent counts as started, reloading and stopping, how often the numbers of its members are told,
//! and when the watchdog is fed. Invariants: nobody who has not started, or who stops, says that it is ready; each
//! "reloading" is followed by "ready" or "stopping"; the watchdog is fed only by a tick that leaves the node nothing
//! overdue, so that whatever keeps an agent from its probes and its gossip also keeps it from feeding.

use crate::config::ServiceManager;
use crate::io::{Outbox, ServiceState};
use crate::lifecycle::Lifecycle;
use crate::limits::{EXIT_ALLOWANCE, STATUS_INTERVAL, WATCHDOG_INTERVAL_MIN};
use villein_core::Node;
use villein_core::time::{Duration, Instant};

/// How the agent fares, in the eyes of the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// Tells the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    stage: Stage,
    /// Configurations that were asked for and did not come yet.
    reloads: u32,
    /// Members that are there, and that failed, as they were told last.
    told: (usize, usize),
    /// No other numbers are told before.
    quiet_until: Instant,
    /// Whether there are other numbers to tell.
    is_behind: bool,
    /// Between two meals of the watchdog.
    feed_every: Option<Duration>,
    /// When it is fed next.
    feed_at: Option<Instant>,
}

impl Notifier {
    /// Of an agent that has not started.
    pub(crate) fn new(manager: ServiceManager) -> Notifier {
        // Twice in the time in which it must be fed once, as `sd_watchdog_enabled(3)` advises.
        let feed_every = manager.watchdog.map(|time| (time / 2).max(WATCHDOG_INTERVAL_MIN));
        Notifier {
            stage: Stage::Starting,
            reloads: 0,
            told: (0, 0),
            quiet_until: Instant::ORIGIN,
            is_behind: false,
            feed_every,
            feed_at: None,
        }
    }

    /// Looks at the agent after something was handled, and says what is new.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        is_tick: bool,
        (lifecycle, node): (&Lifecycle, &Node),
        out: &mut Outbox,
    ) {
        if let Some(until) = lifecycle.deadline() {
            self.stop(Some(until.since(now)), out);
        }
        let mut news = Vec::new();
        match self.stage {
            Stage::Starting if lifecycle.is_running() => {
                self.stage = Stage::Ready;
                self.feed_at = self.feed_every.map(|pause| now + pause);
                news.push(ServiceState::Ready);
            }
            Stage::Reloading if self.reloads == 0 => {
                self.stage = Stage::Ready;
                news.push(ServiceState::Ready);
            }
            _ => {}
        }
        if matches!(self.stage, Stage::Ready | Stage::Reloading) {
            news.extend(self.members(node, now));
        }
        if is_tick && self.feed_at.is_some_and(|at| at <= now) && !is_overdue(node, now) {
            self.feed_at = self.feed_every.map(|pause| now + pause);
            news.push(ServiceState::Watchdog);
        }
        if !news.is_empty() {
            out.notify(news);
        }
    }

    /// The configuration is about to be read again.
    pub(crate) fn begin_reload(&mut self, out: &mut Outbox) {
        self.reloads += 1;
        if matches!(self.stage, Stage::Ready | Stage::Reloading) {
            self.stage = Stage::Reloading;
            out.notify(vec![ServiceState::Reloading]);
        }
    }

    /// It was read, or could not be, and everything that follows from it is done.
    pub(crate) fn end_reload(&mut self) {
        self.reloads = self.reloads.saturating_sub(1);
    }

    /// The end begins, with a leave that may take so long, or at once.
    pub(crate) fn stop(&mut self, leave: Option<Duration>, out: &mut Outbox) {
        if self.stage == Stage::Stopping {
            return;
        }
        self.stage = Stage::Stopping;
        self.is_behind = false;
        let patience = leave.map(|leave| ServiceState::Patience(leave + EXIT_ALLOWANCE));
        let stopping = ServiceState::Stopping { leaves: leave.is_some() };
        out.notify([stopping].into_iter().chain(patience).collect());
    }

    /// When there is something to say although nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let members = self.is_behind.then_some(self.quiet_until);
        [members, self.feed_at].into_iter().flatten().min()
    }

    /// The members, if they are other ones than before and may be told.
    fn members(&mut self, node: &Node, now: Instant) -> Option<ServiceState> {
        let stats = node.stats();
        let (alive, failed) = (stats.members.saturating_sub(stats.failed + stats.left), stats.failed);
        let is_new = (alive, failed) != self.told;
        self.is_behind = is_new && now < self.quiet_until;
        if !is_new || self.is_behind {
            return None;
        }
        self.told = (alive, failed);
        self.quiet_until = now + STATUS_INTERVAL;
        Some(ServiceState::Members { alive, failed })
    }
}

/// Whether the node should have done something by now.
fn is_overdue(node: &Node, now: Instant) -> bool {
    node.deadline().is_some_and(|deadline| deadline <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Action;
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::config::Config;
    use villein_core::io as node_io;
    use villein_core::member::WireAddr;
    use villein_core::snapshot::Restored;

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    fn node() -> Node {
        let addr = WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Node::new(Config::new("alpha".into(), addr, 7946), [1; 32], Restored::default(), at(0))
    }

    /// What is said on a tick.
    fn said(notifier: &mut Notifier, now: Instant, node: &Node) -> Vec<ServiceState> {
        let mut out = Outbox::new();
        notifier.look(now, true, (&Lifecycle::new(), node), &mut out);
        let states = out.actions().map(|action| match action {
            Action::Notify(states) => states.to_vec(),
            other => panic!("it only talks: {other:?}"),
        });
        states.flatten().collect()
    }

    #[test]
    fn a_node_that_does_not_do_what_is_due_starves_the_watchdog() {
        let mut node = node();
        let mut notifier = Notifier::new(ServiceManager { watchdog: Some(Duration::from_secs(2)) });
        notifier.feed_at = Some(at(1_000));
        let late = at(100_000);
        assert!(node.deadline().is_some_and(|deadline| deadline < late));
        assert_eq!(said(&mut notifier, late, &node), []);
        node.handle(late, node_io::Input::Tick, &mut node_io::Outbox::new());
        assert_eq!(said(&mut notifier, late, &node), [ServiceState::Watchdog]);
    }

    #[test]
    fn numbers_that_come_too_soon_are_told_when_their_time_comes() {
        let mut node = node();
        node.handle(at(0), node_io::Input::Tick, &mut node_io::Outbox::new());
        let mut notifier = Notifier::new(ServiceManager { watchdog: None });
        notifier.stage = Stage::Ready;
        notifier.told = (5, 0);
        notifier.quiet_until = at(1_000);
        assert_eq!(notifier.deadline(), None);
        assert_eq!(said(&mut notifier, at(500), &node), []);
        assert_eq!(notifier.deadline(), Some(at(1_000)));
        assert_eq!(said(&mut notifier, at(1_000), &node), [ServiceState::Members { alive: 1, failed: 0 }]);
        assert_eq!(notifier.deadline(), None);
    }
}
