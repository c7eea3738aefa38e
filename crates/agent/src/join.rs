//! Joins: from texts to addresses, to the node, to a report (agent.md 5.3 and 8).
//!
//! Every join takes the same way, whoever asks for it: names are looked up, the node tries all addresses
//! at once, and the outcome is logged and handed to the one who asked. The retry join, which starts over
//! until it works, lives here too.
//!
//! Invariant: each join ends with one `JoinEnded`, and waits for nothing but lookups and the node.

use crate::address::Target;
use crate::cx::{Cx, Errand, Waiter};
use crate::escape;
use crate::io::{Lookup, ResolveId};
use crate::limits::{JOIN_ADDRESSES, JOIN_LOOKUPS, JOINS};
use crate::rpc::Ticket;
use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::net::SocketAddr;
use villein_core::command::{Command, Reply};
use villein_core::exchange_error::ExchangeError;
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::time::Instant;

/// Who asks for a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The configuration; a failure ends the agent.
    Start,
    /// The configuration; in the background, again and again.
    Retry,
    /// A client.
    Rpc(Ticket),
    /// Multicast discovery.
    Discovery,
}

/// All joins that are under way.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    running: BTreeMap<u64, Join>,
    next_join: u64,
    lookups: BTreeMap<ResolveId, (u64, usize)>,
    next_lookup: u64,
    retry: Option<Retry>,
}

#[derive(Debug)]
struct Join {
    purpose: Purpose,
    replay: bool,
    targets: Vec<Attempt>,
    /// What is still to be looked up: which target, and its host and port.
    to_look_up: VecDeque<(usize, String, u16)>,
    /// Lookups that run.
    lookups: usize,
}

/// One text of a join.
#[derive(Debug)]
struct Attempt {
    text: Text,
    /// Its addresses, or why there are none; empty while it is looked up.
    found: Result<Vec<SocketAddr>, String>,
}

#[derive(Debug)]
struct Retry {
    attempts: u32,
    /// When the next attempt starts; `None` while one runs.
    at: Option<Instant>,
    /// Whether this very node had no room for the attempt: then it does not count.
    refused: bool,
}

impl Joins {
    /// Starts a join.
    pub(crate) fn begin(&mut self, purpose: Purpose, texts: &[Text], replay: bool, cx: &mut Cx<'_>) {
        let shown: Vec<String> = texts.iter().map(|text| escape::line(text)).collect();
        cx.log(Level::Info, "agent", &format!("joining: [{}] replay: {replay}", shown.join(" ")));
        if texts.len() > JOIN_ADDRESSES || !self.has_place(purpose) {
            let what =
                if texts.len() > JOIN_ADDRESSES { "addresses in one join" } else { "joins are under way" };
            report(purpose, Err(format!("too many {what}")), cx);
            return;
        }
        let number = self.next_join;
        self.next_join += 1;
        let mut join = Join { purpose, replay, targets: Vec::new(), to_look_up: VecDeque::new(), lookups: 0 };
        for (index, text) in texts.iter().enumerate() {
            let found = match Target::parse(text, cx.config.bind_port) {
                Ok(Target::Address(addr)) => Ok(vec![addr]),
                Ok(Target::Host(host, port)) => {
                    join.to_look_up.push_back((index, host, port));
                    Ok(Vec::new())
                }
                Err(why) => Err(why),
            };
            join.targets.push(Attempt { text: text.clone(), found });
        }
        self.running.insert(number, join);
        self.go_on(number, cx);
    }

    /// The joins of the configuration are one at a time and always have a place.
    fn has_place(&self, purpose: Purpose) -> bool {
        let is_configured = |purpose| matches!(purpose, Purpose::Start | Purpose::Retry);
        is_configured(purpose)
            || self.running.values().filter(|join| !is_configured(join.purpose)).count() < JOINS
    }

    /// Takes the answer to a lookup.
    pub(crate) fn on_resolved(
        &mut self,
        id: ResolveId,
        result: Result<&[SocketAddr], &str>,
        cx: &mut Cx<'_>,
    ) {
        let Some((number, index)) = self.lookups.remove(&id) else { return };
        let Some(join) = self.running.get_mut(&number) else { return };
        join.targets[index].found = result.map(<[SocketAddr]>::to_vec).map_err(str::to_owned);
        join.lookups -= 1;
        self.go_on(number, cx);
    }

    /// Starts as many lookups as may run, or contacts everybody when there are no more.
    fn go_on(&mut self, number: u64, cx: &mut Cx<'_>) {
        let Some(join) = self.running.get_mut(&number) else { return };
        while join.lookups < JOIN_LOOKUPS
            && let Some((index, host, port)) = join.to_look_up.pop_front()
        {
            let id = ResolveId(self.next_lookup);
            self.next_lookup += 1;
            self.lookups.insert(id, (number, index));
            join.lookups += 1;
            cx.out.resolve(id, host, port, Lookup::Host);
        }
        if join.lookups > 0 {
            return;
        }
        let addrs: Vec<SocketAddr> =
            join.targets.iter().filter_map(|target| target.found.as_ref().ok()).flatten().copied().collect();
        let ignore_old = !join.replay;
        cx.command(Waiter::Join(number), Command::Join { addrs, ignore_old });
    }

    /// Takes the node's answer.
    pub(crate) fn on_reply(&mut self, number: u64, reply: &Reply, cx: &mut Cx<'_>) {
        let Some(join) = self.running.remove(&number) else { return };
        let result = match reply {
            Reply::Joined { contacted, failures } => {
                if join.purpose == Purpose::Retry
                    && let Some(retry) = &mut self.retry
                {
                    retry.refused = failures.iter().any(|(_, error)| *error == ExchangeError::TooMany);
                }
                let bullets = join.bullets(failures);
                if *contacted > 0 || bullets.is_empty() { Ok(*contacted) } else { Err(error_list(&bullets)) }
            }
            Reply::Failed(why) => Err(why.to_string()),
            Reply::Done | Reply::QueryStarted { .. } | Reply::Keys(_) => {
                Err("the node gave no answer to the join".to_owned())
            }
        };
        report(join.purpose, result, cx);
    }

    /// Starts the retry join, if there is one.
    pub(crate) fn begin_retry(&mut self, cx: &mut Cx<'_>) {
        if !cx.config.retry_join.is_empty() {
            self.retry = Some(Retry { attempts: 0, at: Some(cx.clock.now), refused: false });
            self.on_tick(cx);
        }
    }

    /// Gives up the retry join.
    pub(crate) fn stop_retry(&mut self) {
        self.retry = None;
    }

    /// Starts an attempt of the retry join that is due.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        let Some(retry) = &mut self.retry else { return };
        if retry.at.is_some_and(|at| at <= cx.clock.now) {
            retry.at = None;
            let replay = cx.config.replay_on_join;
            cx.log(Level::Info, "agent", &format!("Joining cluster...(replay: {replay})"));
            let texts = cx.config.retry_join.iter().map(|text| Text::from(text.as_str())).collect();
            cx.errand(Errand::Join { purpose: Purpose::Retry, texts, replay });
        }
    }

    /// When an attempt of the retry join is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry.as_ref()?.at
    }

    /// Takes the outcome of an attempt of the retry join; gives whether no attempt is left.
    pub(crate) fn on_retried(&mut self, result: Result<usize, String>, cx: &mut Cx<'_>) -> bool {
        let Some(retry) = &mut self.retry else { return false };
        match result {
            Ok(count) => {
                cx.log(Level::Info, "agent", &format!("Join completed. Synced with {count} initial agents"));
                self.retry = None;
                false
            }
            Err(_) if cx.config.retry_max > 0 && retry.attempts >= cx.config.retry_max && !retry.refused => {
                cx.log(Level::Err, "agent", "maximum retry join attempts made, exiting");
                self.retry = None;
                true
            }
            Err(why) => {
                let counts = !std::mem::take(&mut retry.refused);
                retry.attempts = retry.attempts.saturating_add(counts.into());
                retry.at = Some(cx.clock.now + cx.config.retry_interval);
                let interval = cx.config.retry_interval;
                cx.log(Level::Warn, "agent", &format!("Join failed: {why}, retrying in {interval:?}"));
                false
            }
        }
    }
}

impl Join {
    /// What went wrong, in the order of the texts and of their addresses.
    fn bullets(&self, failures: &[(SocketAddr, ExchangeError)]) -> Vec<String> {
        let mut failures = failures.iter().peekable();
        let mut bullets = Vec::new();
        for target in &self.targets {
            match &target.found {
                Err(why) => {
                    let (text, why) = (escape::line(&target.text), escape::line(why.as_bytes()));
                    bullets.push(format!("Failed to resolve {text}: {why}"));
                }
                Ok(addrs) => take_failures(addrs, &mut failures, &mut bullets),
            }
        }
        bullets.extend(failures.map(|(addr, error)| failed_join(*addr, error)));
        bullets
    }
}

/// The failures of `addrs`, which come in the order of all addresses.
fn take_failures<'a>(
    addrs: &[SocketAddr],
    failures: &mut Peekable<impl Iterator<Item = &'a (SocketAddr, ExchangeError)>>,
    bullets: &mut Vec<String>,
) {
    for addr in addrs {
        if let Some((_, error)) = failures.next_if(|(failed, _)| failed == addr) {
            bullets.push(failed_join(*addr, error));
        }
    }
}

fn failed_join(addr: SocketAddr, error: &ExchangeError) -> String {
    let why = match error {
        ExchangeError::Connect(why) => format!("dial tcp {addr}: connect: {}", escape::line(why.as_bytes())),
        ExchangeError::Broken(why) => format!("read tcp {addr}: {}", escape::line(why.as_bytes())),
        ExchangeError::ConnectTimedOut => format!("dial tcp {addr}: i/o timeout"),
        ExchangeError::TimedOut => format!("read tcp {addr}: i/o timeout"),
        other => escape::line(other.to_string().as_bytes()),
    };
    format!("Failed to join {}: {why}", addr.ip())
}

/// `2 errors occurred:` and a bullet for each (cli.md 5.5).
fn error_list(bullets: &[String]) -> String {
    let noun = if bullets.len() == 1 { "error" } else { "errors" };
    let mut text = format!("{} {noun} occurred:\n", bullets.len());
    for bullet in bullets {
        text.push_str("\t* ");
        text.push_str(bullet);
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Logs the outcome and hands it to the one who asked (agent.md 8.3).
fn report(purpose: Purpose, result: Result<usize, String>, cx: &mut Cx<'_>) {
    match &result {
        Ok(0) => {}
        Ok(count) => cx.log(Level::Info, "agent", &format!("joined: {count} nodes")),
        Err(why) => cx.log(Level::Warn, "agent", &format!("error joining: {why}")),
    }
    cx.errand(Errand::JoinEnded(purpose, result));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("the address is valid")
    }

    #[test]
    fn bullets_stand_in_the_order_of_the_texts() {
        let attempt = |text: &str, found| Attempt { text: text.into(), found };
        let join = Join {
            purpose: Purpose::Start,
            replay: false,
            to_look_up: VecDeque::new(),
            lookups: 0,
            targets: vec![
                attempt("127.0.0.9", Ok(vec![addr("127.0.0.9:7946")])),
                attempt("nobody", Err("lookup nobody: no such host".to_owned())),
                attempt("two", Ok(vec![addr("10.0.0.1:1"), addr("10.0.0.2:1")])),
            ],
        };
        let refused = || ExchangeError::Connect("connection refused".to_owned());
        let failures = [
            (addr("127.0.0.9:7946"), refused()),
            (addr("10.0.0.1:1"), ExchangeError::ConnectTimedOut),
            (addr("10.0.0.2:1"), ExchangeError::TimedOut),
        ];
        assert_eq!(
            error_list(&join.bullets(&failures)),
            "4 errors occurred:\n\
             \t* Failed to join 127.0.0.9: dial tcp 127.0.0.9:7946: connect: connection refused\n\
             \t* Failed to resolve nobody: lookup nobody: no such host\n\
             \t* Failed to join 10.0.0.1: dial tcp 10.0.0.1:1: i/o timeout\n\
             \t* Failed to join 10.0.0.2: read tcp 10.0.0.2:1: i/o timeout\n\n"
        );
    }

    #[test]
    fn one_error_is_singular() {
        assert_eq!(error_list(&["x".to_owned()]), "1 error occurred:\n\t* x\n\n");
    }
}
