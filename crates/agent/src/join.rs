//! Joins: from texts to addresses, to the node, to a report (agent.md 5.3 and 8).
//!
//! Every join takes the same way, whoever asks for it: names are looked up, the node tries all addresses
//! at once, and the outcome is logged and handed to the one who asked. When the configuration asks is decided
//! in [`seeds`](crate::seeds).
//!
//! Invariant: each join ends with one `JoinEnded`, and waits for nothing but lookups and the node.

use crate::address::Target;
use crate::cx::{Cx, Errand, Waiter};
use crate::escape;
use crate::io::{Lookup, ResolveId};
use crate::limits::{HEALING_CONTACTS, JOIN_ADDRESSES, JOIN_LOOKUPS, JOINS};
use crate::rpc::Ticket;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::net::SocketAddr;
use villein_core::command::{Command, Reply};
use villein_core::exchange_error::ExchangeError;
use villein_core::member::Status;
use villein_core::note::Level;
use villein_core::text::Text;

/// Who asks for a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The configuration; a failure ends the agent.
    Start,
    /// The configuration; in the background, again and again.
    Retry,
    /// A look at seeds that may be cut off: only addresses where no live member is are contacted, and of those not
    /// all unless the node is alone; chance says which.
    Healing {
        /// The chance.
        draw: u64,
    },
    /// A client.
    Rpc(Ticket),
    /// Multicast discovery.
    Discovery,
}

/// The end of a join.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) purpose: Purpose,
    /// How many addresses answered, or the error text of agent.md 5.3.
    pub(crate) result: Result<usize, String>,
    /// The texts that led to somebody.
    pub(crate) reached: Vec<Text>,
    /// Whether this very node had no room for the attempt.
    pub(crate) refused: bool,
}

/// All joins that are under way.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    running: BTreeMap<u64, Join>,
    next_join: u64,
    lookups: BTreeMap<ResolveId, (u64, usize)>,
    next_lookup: u64,
}

#[derive(Debug)]
struct Join {
    purpose: Purpose,
    replay: bool,
    targets: Vec<Attempt>,
    /// What is still to be looked up: which target, and what.
    to_look_up: VecDeque<(usize, Target)>,
    /// Lookups that run.
    lookups: usize,
    /// How many nodes were alive when the addresses were contacted, this one included.
    live_before: usize,
}

/// One text of a join.
#[derive(Debug)]
struct Attempt {
    text: Text,
    /// Its addresses, or why there are none; empty while it is looked up.
    found: Result<Vec<SocketAddr>, String>,
}

impl Joins {
    /// Starts a join.
    pub(crate) fn begin(&mut self, purpose: Purpose, texts: &[Text], replay: bool, cx: &mut Cx<'_>) {
        let level = if purpose.is_quiet() { Level::Debug } else { Level::Info };
        cx.log(level, "agent", &format!("joining: {} replay: {replay}", shown(texts)));
        if texts.len() > JOIN_ADDRESSES || !self.has_place(purpose) {
            let what =
                if texts.len() > JOIN_ADDRESSES { "addresses in one join" } else { "joins are under way" };
            let result = Err(format!("too many {what}"));
            report(Ended { purpose, result, reached: Vec::new(), refused: false }, cx);
            return;
        }
        let number = self.next_join;
        self.next_join += 1;
        let mut join = Join {
            purpose,
            replay,
            targets: Vec::new(),
            to_look_up: VecDeque::new(),
            lookups: 0,
            live_before: 0,
        };
        for (index, text) in texts.iter().enumerate() {
            let found = match Target::parse(text, cx.config.bind_port) {
                Ok(Target::Address(addr)) => Ok(vec![addr]),
                Ok(target) => {
                    join.to_look_up.push_back((index, target));
                    Ok(Vec::new())
                }
                Err(why) => Err(why),
            };
            join.targets.push(Attempt { text: text.clone(), found });
        }
        self.running.insert(number, join);
        self.go_on(number, cx);
    }

    /// The joins that nobody outside asks for are one at a time and always have a place.
    fn has_place(&self, purpose: Purpose) -> bool {
        let is_own = |purpose| matches!(purpose, Purpose::Start | Purpose::Retry | Purpose::Healing { .. });
        is_own(purpose) || self.running.values().filter(|join| !is_own(join.purpose)).count() < JOINS
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
            && let Some((index, target)) = join.to_look_up.pop_front()
        {
            let (host, port, lookup) = match target {
                Target::Host(host, port) => (host, port, Lookup::Host),
                Target::Service(name, port) => (name, port, Lookup::Service),
                Target::Address(_) => continue,
            };
            let id = ResolveId(self.next_lookup);
            self.next_lookup += 1;
            self.lookups.insert(id, (number, index));
            join.lookups += 1;
            cx.out.resolve(id, host, port, lookup);
        }
        if join.lookups > 0 {
            return;
        }
        join.live_before = cx.node.live_nodes();
        if let Purpose::Healing { draw } = join.purpose {
            join.leave_members_alone(draw, cx);
        }
        let addrs: Vec<SocketAddr> =
            join.targets.iter().filter_map(|target| target.found.as_ref().ok()).flatten().copied().collect();
        let ignore_old = !join.replay;
        cx.command(Waiter::Join(number), Command::Join { addrs, ignore_old });
    }

    /// Takes the node's answer.
    pub(crate) fn on_reply(&mut self, number: u64, reply: &Reply, cx: &mut Cx<'_>) {
        let Some(join) = self.running.remove(&number) else { return };
        let mut ended = Ended { purpose: join.purpose, result: Ok(0), reached: Vec::new(), refused: false };
        match reply {
            Reply::Joined { contacted, failures } => {
                ended.refused = failures.iter().any(|(_, error)| *error == ExchangeError::TooMany);
                let (reached, bullets) = join.outcome(failures);
                ended.reached = reached;
                ended.result = if *contacted > 0 || bullets.is_empty() {
                    Ok(*contacted)
                } else {
                    Err(error_list(&bullets))
                };
            }
            Reply::Failed(why) => ended.result = Err(why.to_string()),
            Reply::Done | Reply::QueryStarted { .. } | Reply::Keys(_) => {
                ended.result = Err("the node gave no answer to the join".to_owned());
            }
        }
        if join.purpose.is_quiet() {
            let brought = cx.node.live_nodes().saturating_sub(join.live_before);
            if brought > 0 && !ended.reached.is_empty() {
                let members = if brought == 1 { "live member" } else { "live members" };
                let text = format!("seeds {} brought {brought} more {members}", shown(&ended.reached));
                cx.log(Level::Info, "agent", &text);
            }
        }
        report(ended, cx);
    }
}

impl Purpose {
    /// Whether the join goes on in the background for ever, so that only what it changes is news.
    fn is_quiet(self) -> bool {
        matches!(self, Purpose::Healing { .. })
    }
}

impl Join {
    /// Forgets the addresses of live members, and of this node; and those above the number that one round of healing
    /// contacts, which is enough for finding the members behind them.
    fn leave_members_alone(&mut self, draw: u64, cx: &Cx<'_>) {
        let mut known: BTreeSet<SocketAddr> = cx
            .node
            .members()
            .filter(|member| member.status == Status::Alive)
            .map(|member| member.socket_addr())
            .collect();
        known.insert(cx.config.advertised());
        for found in self.targets.iter_mut().filter_map(|target| target.found.as_mut().ok()) {
            found.retain(|addr| known.insert(*addr));
        }
        let lists = || self.targets.iter().filter_map(|target| target.found.as_ref().ok());
        let total: usize = lists().map(Vec::len).sum();
        if total <= HEALING_CONTACTS || !cx.node.others_live() {
            return;
        }
        // A window over all addresses that begins anywhere, and goes on at the front behind the end.
        let first = (draw % total as u64) as usize;
        let mut position = 0;
        for found in self.targets.iter_mut().filter_map(|target| target.found.as_mut().ok()) {
            found.retain(|_| {
                let distance = (position + total - first) % total;
                position += 1;
                distance < HEALING_CONTACTS
            });
        }
    }

    /// The texts that led to somebody; and what went wrong, in the order of the texts and of their addresses.
    fn outcome(&self, failures: &[(SocketAddr, ExchangeError)]) -> (Vec<Text>, Vec<String>) {
        let mut failures = failures.iter().peekable();
        let (mut reached, mut bullets) = (Vec::new(), Vec::new());
        for target in &self.targets {
            match &target.found {
                Err(why) => {
                    let (text, why) = (escape::line(&target.text), escape::line(why.as_bytes()));
                    bullets.push(format!("Failed to resolve {text}: {why}"));
                }
                Ok(addrs) => {
                    let before = bullets.len();
                    take_failures(addrs, &mut failures, &mut bullets);
                    if bullets.len() - before < addrs.len() {
                        reached.push(target.text.clone());
                    }
                }
            }
        }
        bullets.extend(failures.map(|(addr, error)| failed_join(*addr, error)));
        (reached, bullets)
    }
}

/// `[A B]`
fn shown(texts: &[Text]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| escape::line(text)).collect();
    format!("[{}]", texts.join(" "))
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
fn report(ended: Ended, cx: &mut Cx<'_>) {
    let (said, failed) =
        if ended.purpose.is_quiet() { (Level::Debug, Level::Debug) } else { (Level::Info, Level::Warn) };
    match &ended.result {
        Ok(0) => {}
        Ok(count) => cx.log(said, "agent", &format!("joined: {count} nodes")),
        Err(why) => cx.log(failed, "agent", &format!("error joining: {why}")),
    }
    cx.errand(Errand::JoinEnded(ended));
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
            live_before: 0,
            targets: vec![
                attempt("127.0.0.9", Ok(vec![addr("127.0.0.9:7946")])),
                attempt("nobody", Err("lookup nobody: no such host".to_owned())),
                attempt("three", Ok(vec![addr("10.0.0.3:1")])),
                attempt("two", Ok(vec![addr("10.0.0.1:1"), addr("10.0.0.2:1")])),
                attempt("some", Ok(vec![addr("10.0.0.4:1"), addr("10.0.0.5:1")])),
            ],
        };
        let refused = || ExchangeError::Connect("connection refused".to_owned());
        let failures = [
            (addr("127.0.0.9:7946"), refused()),
            (addr("10.0.0.1:1"), ExchangeError::ConnectTimedOut),
            (addr("10.0.0.2:1"), ExchangeError::TimedOut),
            (addr("10.0.0.5:1"), ExchangeError::Closed),
        ];
        let (reached, bullets) = join.outcome(&failures);
        assert_eq!(reached, [Text::from("three"), Text::from("some")]);
        assert_eq!(
            error_list(&bullets),
            "5 errors occurred:\n\
             \t* Failed to join 127.0.0.9: dial tcp 127.0.0.9:7946: connect: connection refused\n\
             \t* Failed to resolve nobody: lookup nobody: no such host\n\
             \t* Failed to join 10.0.0.1: dial tcp 10.0.0.1:1: i/o timeout\n\
             \t* Failed to join 10.0.0.2: read tcp 10.0.0.2:1: i/o timeout\n\
             \t* Failed to join 10.0.0.5: the peer closed the connection without an answer (is its label or key another?)\n\n"
        );
    }

    #[test]
    fn one_error_is_singular() {
        assert_eq!(error_list(&["x".to_owned()]), "1 error occurred:\n\t* x\n\n");
    }
}
