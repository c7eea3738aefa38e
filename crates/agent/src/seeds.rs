//! Seeds: the addresses that lead to the cluster, joined until it works and looked after for ever (agent.md 8.2,
//! 20.3 and 20.4).
//!
//! The retry join is the reference's, until its first success. From then on, and from the start for addresses that
//! were joined in other ways or before a restart, the seeds are looked up again from time to time, and those that
//! are no live members are contacted: so the parts of a cluster find each other again, and a seed that moved is
//! found. A node that sees nobody does that as often as it would retry, others seldom.
//!
//! Invariant: only the retry join can end the agent; healing says nothing at INFO unless it brought members.

use crate::cx::{Cx, Errand, Waiter};
use crate::join::{Ended, Purpose};
use crate::limits::HEALING_PATIENCE;
use villein_core::command::Command;
use villein_core::gotext;
use villein_core::limits::{SEED, SEEDS};
use villein_core::note::Level;
use villein_core::rng::Rng;
use villein_core::text::Text;
use villein_core::time::{Duration, Instant};

/// The seeds of one agent.
#[derive(Debug)]
pub(crate) struct Seeds {
    rng: Rng,
    /// Those that were joined by clients, and before a restart; the latest last.
    learned: Vec<Text>,
    retry: Option<Retry>,
    healing: Healing,
}

#[derive(Debug)]
struct Retry {
    attempts: u32,
    /// When the next attempt starts; `None` while one runs.
    at: Option<Instant>,
}

/// When seeds are contacted that may be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Healing {
    /// There are no seeds, or the agent does not run yet or any more.
    Off,
    Waits(Instant),
    Runs,
}

impl Seeds {
    /// `learned` are the texts that were joined before a restart.
    pub(crate) fn new(learned: &[Text], seed: [u8; 32]) -> Seeds {
        let rng = Rng::new(seed);
        let mut seeds = Seeds { rng, learned: Vec::new(), retry: None, healing: Healing::Off };
        for text in learned {
            seeds.learn(text);
        }
        seeds
    }

    /// The agent runs: starts the retry join, if there is one, and looks after the other seeds from now on.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>) {
        if !cx.config.retry_join.is_empty() {
            self.retry = Some(Retry { attempts: 0, at: Some(cx.clock.now) });
        }
        self.wait(cx);
        self.on_tick(cx);
    }

    /// Contacts nobody any more.
    pub(crate) fn stop(&mut self) {
        self.retry = None;
        self.healing = Healing::Off;
    }

    /// Starts what is due.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        if let Some(retry) = &mut self.retry
            && retry.at.take_if(|at| *at <= cx.clock.now).is_some()
        {
            let replay = cx.config.replay_on_join;
            cx.log(Level::Info, "agent", &format!("Joining cluster...(replay: {replay})"));
            let texts = texts(&cx.config.retry_join).collect();
            cx.errand(Errand::Join { purpose: Purpose::Retry, texts, replay });
        }
        let Healing::Waits(at) = &mut self.healing else { return };
        let soon = cx.clock.now + cx.config.retry_interval;
        if *at > soon && !cx.node.others_live() {
            *at = soon;
        }
        if *at <= cx.clock.now {
            self.heal(cx);
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let healing = match self.healing {
            Healing::Waits(at) => Some(at),
            Healing::Off | Healing::Runs => None,
        };
        let retry = self.retry.as_ref().and_then(|retry| retry.at);
        [retry, healing].into_iter().flatten().min()
    }

    /// Takes the outcome of an attempt of the retry join; gives whether no attempt is left.
    pub(crate) fn on_retried(&mut self, ended: &Ended, cx: &mut Cx<'_>) -> bool {
        let Some(retry) = &mut self.retry else { return false };
        match &ended.result {
            Ok(count) => {
                cx.log(Level::Info, "agent", &format!("Join completed. Synced with {count} initial agents"));
                self.retry = None;
                self.wait(cx);
                false
            }
            Err(_) if cx.config.retry_max > 0 && retry.attempts >= cx.config.retry_max && !ended.refused => {
                cx.log(Level::Err, "agent", "maximum retry join attempts made, exiting");
                self.retry = None;
                true
            }
            Err(why) => {
                retry.attempts = retry.attempts.saturating_add((!ended.refused).into());
                let interval = cx.config.retry_interval;
                retry.at = Some(cx.clock.now + interval);
                let interval = gotext::duration(interval);
                cx.log(Level::Warn, "agent", &format!("Join failed: {why}, retrying in {interval}"));
                false
            }
        }
    }

    /// A round of healing is over.
    pub(crate) fn on_healed(&mut self, cx: &mut Cx<'_>) {
        if self.healing == Healing::Runs {
            self.wait(cx);
        }
    }

    /// Remembers the texts that led to somebody, for healing and for after a restart.
    pub(crate) fn on_reached(&mut self, reached: &[Text], cx: &mut Cx<'_>) {
        let seeds: Vec<Text> = reached.iter().filter(|text| text.len() <= SEED).cloned().collect();
        if seeds.is_empty() {
            return;
        }
        for text in &seeds {
            self.learn(text);
        }
        if self.healing == Healing::Off {
            self.wait(cx);
        }
        cx.command(Waiter::Nobody, Command::RememberSeeds(seeds));
    }

    fn learn(&mut self, text: &Text) {
        self.learned.retain(|known| known != text);
        self.learned.push(text.clone());
        let surplus = self.learned.len().saturating_sub(SEEDS);
        self.learned.drain(..surplus);
    }

    /// Contacts the seeds that are no live members. Those that the retry join still tries are its own.
    fn heal(&mut self, cx: &mut Cx<'_>) {
        let retried: &[String] = if self.retry.is_none() { &cx.config.retry_join } else { &[] };
        let mut seeds: Vec<Text> = Vec::new();
        for text in texts(retried).chain(texts(&cx.config.start_join)).chain(self.learned.iter().cloned()) {
            if !seeds.contains(&text) && seeds.len() < SEEDS {
                seeds.push(text);
            }
        }
        if seeds.is_empty() {
            self.healing = Healing::Off;
            return;
        }
        self.healing = Healing::Runs;
        let (purpose, replay) = (Purpose::Healing { draw: self.rng.u64() }, cx.config.replay_on_join);
        cx.errand(Errand::Join { purpose, texts: seeds, replay });
    }

    /// Sets the time of the next round: the more at random the longer it is, so that nodes that started together do
    /// not stay together.
    fn wait(&mut self, cx: &Cx<'_>) {
        let interval = cx.config.retry_interval;
        let wait = if cx.node.others_live() {
            let longest = interval.saturating_mul(HEALING_PATIENCE);
            longest / 2 + self.rng.duration_below((longest / 2).max(Duration::from_nanos(1)))
        } else {
            interval
        };
        self.healing = Healing::Waits(cx.clock.now + wait);
    }
}

fn texts(configured: &[String]) -> impl Iterator<Item = Text> {
    configured.iter().map(|text| Text::from(text.as_str()))
}
