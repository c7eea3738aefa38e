//! Running event handlers: which script starts when, and what follows from its end (agent.md 12.2, 12.5).
//!
//! Scripts run one after the other, in the order of events and for one event in that of the configuration,
//! because scripts that share a file rely on it. A script that has become slow, or has run out of its time, gives
//! its turn away: from then on it delays the later events of its own handler and nothing else. Handlers that may
//! run several scripts at once stand outside of this order: nobody waits for them, and they wait for nobody.
//!
//! What waits for a handler is [`lane`]'s, when a script is called slow or is ended [`run`]'s, and what the child
//! gets [`script`](crate::script)'s, when it starts: the tags are those of that moment.
//!
//! Invariant: a job waits for a script that is not slow yet, or for its own handler's.

mod lane;
mod run;

pub(crate) use self::lane::{Exit, HandlerCounts};

use self::lane::{Lane, Waiting};
use self::run::{End, Run};
use crate::answers::Answers;
use crate::cx::Cx;
use crate::handler::Handler;
use crate::io::{ChildId, ChildStatus};
use crate::script::Job;
use std::collections::BTreeMap;
use villein_core::member::Event;
use villein_core::time::Instant;

/// All handlers with their work.
#[derive(Debug)]
pub(crate) struct Invoker {
    /// In the order of the configuration.
    lanes: Vec<Lane>,
    /// In the order of their starts.
    runs: BTreeMap<ChildId, Run>,
    next_lane: u64,
    next_child: u64,
    /// Of the next event.
    next_number: u64,
    answers: Answers,
}

impl Invoker {
    /// Handlers in the order of the configuration.
    pub(crate) fn new(handlers: &[Handler]) -> Invoker {
        let lanes = (0..).zip(handlers).map(|(id, handler)| Lane::new(id, handler)).collect();
        Invoker {
            lanes,
            runs: BTreeMap::new(),
            next_lane: handlers.len() as u64,
            next_child: 0,
            next_number: 0,
            answers: Answers::default(),
        }
    }

    /// Gives an event to every handler that wants it.
    pub(crate) fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) {
        let Some(job) = Job::new(event) else { return };
        let wanted = |place: &usize| self.lanes[*place].handler.filter.matches(event);
        let wanted: Vec<usize> = (0..self.lanes.len()).filter(wanted).collect();
        if let Some(asked) = &job.query {
            self.answers.open(asked, &wanted);
        }
        self.next_number += 1;
        for place in wanted {
            let waiting = Waiting { number: self.next_number, place, job: job.clone() };
            let dropped = self.lanes[place].push(waiting, cx);
            self.forget(dropped, cx);
        }
        self.go_on(cx);
    }

    /// Takes the end of a child, logs it, and starts what is next.
    pub(crate) fn on_child(
        &mut self,
        (id, status): (ChildId, &ChildStatus),
        output: &[u8],
        output_total: u64,
        cx: &mut Cx<'_>,
    ) {
        let Some(run) = self.runs.remove(&id) else { return };
        self.end(run, End { status: Some(status), output, output_total }, cx);
        self.go_on(cx);
    }

    /// Says which scripts are slow, ends those whose time is over; others get their turn.
    pub(crate) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        let is_due = |run: &Run| run.deadline() <= cx.clock.now;
        let due: Vec<ChildId> = self.runs.iter().filter(|(_, run)| is_due(run)).map(|(id, _)| *id).collect();
        if due.is_empty() {
            return;
        }
        for id in due {
            if self.runs.get_mut(&id).is_some_and(|run| run.on_time(id, cx))
                && let Some(run) = self.runs.remove(&id)
            {
                self.end(run, End { status: None, output: b"", output_total: 0 }, cx);
            }
        }
        self.go_on(cx);
    }

    /// When a script becomes slow, or runs out of its time, next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.runs.values().map(Run::deadline).min()
    }

    /// The configuration was read again: from now on these are the handlers. One that was there before, with the same
    /// filter and command, keeps what waits for it. Of the others, a new one stands in for an old one with its
    /// filter, so that a changed command loses no event and runs after the script that it replaces. What waits for
    /// those that are left is dropped. Scripts that run go on as they were started.
    pub(crate) fn replace_handlers(&mut self, handlers: &[Handler], cx: &mut Cx<'_>) {
        let mut before = std::mem::take(&mut self.lanes);
        let mut take = |handler: &Handler, is_wanted: fn(&Lane, &Handler) -> bool| {
            let at = before.iter().position(|lane| is_wanted(lane, handler))?;
            Some(before.remove(at).with(handler))
        };
        let same: Vec<Option<Lane>> = handlers.iter().map(|handler| take(handler, Lane::is_for)).collect();
        for (handler, same) in handlers.iter().zip(same) {
            let lane = same.or_else(|| take(handler, Lane::has_filter_of));
            self.lanes.push(lane.unwrap_or_else(|| Lane::new(self.next_lane, handler)));
            self.next_lane += 1;
        }
        for lane in before {
            let dropped = lane.give_up(cx);
            self.forget(dropped, cx);
        }
        self.go_on(cx);
    }

    /// These jobs will never run; whoever waits for their answers need not wait.
    fn forget(&mut self, dropped: impl IntoIterator<Item = Waiting>, cx: &mut Cx<'_>) {
        for waiting in dropped {
            if let Some(asked) = waiting.job.query {
                self.answers.ended(&asked, waiting.place, b"", cx);
            }
        }
    }

    /// Starts every script whose turn it is, and shows how things stand.
    fn go_on(&mut self, cx: &mut Cx<'_>) {
        while let Some(index) = self.next_lane() {
            self.start(index, cx);
        }
        cx.counters.handlers.clear();
        cx.counters.handlers.extend(self.lanes.iter().map(Lane::counts));
    }

    /// Whose turn it is: of those that may start a script, the one with the first event, and of these the first in
    /// the configuration.
    fn next_lane(&self) -> Option<usize> {
        let is_taken = self.runs.values().any(Run::holds_turn);
        let may_start = |lane: &Lane| lane.has_room() && !(is_taken && lane.takes_turns());
        let lanes = self.lanes.iter().enumerate().filter(|(_, lane)| may_start(lane));
        lanes.filter_map(|(index, lane)| Some((lane.first()?, index))).min().map(|(_, index)| index)
    }

    /// Starts the next job of a handler.
    fn start(&mut self, index: usize, cx: &mut Cx<'_>) {
        let Some((waiting, handler, lane)) = self.lanes[index].take() else { return };
        let Waiting { place, job, .. } = waiting;
        let spawn = job.spawn(&handler, &cx.node.local_member());
        let run = Run::new((lane, handler), job.kind, job.query.map(|asked| (asked, place)), cx.clock.now);
        let Some(spawn) = spawn else {
            let status = ChildStatus::NotStarted("exec: environment variable contains NUL".to_owned());
            self.end(run, End { status: Some(&status), output: b"", output_total: 0 }, cx);
            return;
        };
        let id = ChildId(self.next_child);
        self.next_child += 1;
        self.runs.insert(id, run);
        cx.out.spawn(id, spawn);
    }

    /// A script has ended, was given up, or could not be started.
    fn end(&mut self, run: Run, end: End<'_>, cx: &mut Cx<'_>) {
        let (exit, took) = run.report(end, cx);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == run.lane) {
            lane.on_end(&run.handler, exit, took);
        }
        if let Some((asked, place)) = run.query {
            let answer = if exit == Exit::Status(0) { end.output } else { b"" };
            self.answers.ended(&asked, place, answer, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Machine};
    use crate::cx::{Counters, Errand};
    use crate::io::{Action, Clock, Outbox, Spawn};
    use crate::log::Log;
    use crate::telemetry::Telemetry;
    use std::collections::VecDeque;
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::Node;
    use villein_core::command::Command;
    use villein_core::config::Config as NodeConfig;
    use villein_core::member::{QueryKey, WireAddr};
    use villein_core::snapshot::Restored;

    /// An invoker with everything around it, and what it did last.
    struct Bench {
        config: Config,
        node: Node,
        counters: Counters,
        log: Log,
        telemetry: Telemetry,
        errands: VecDeque<Errand>,
        invoker: Invoker,
        started: Vec<(ChildId, Spawn)>,
        printed: String,
    }

    fn handlers(texts: &[&str]) -> Vec<Handler> {
        texts.iter().map(|text| Handler::parse(text.as_bytes()).expect("the handler is valid")).collect()
    }

    impl Bench {
        fn new(texts: &[&str]) -> Bench {
            let addr = WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let machine = Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 2, pid: 7 };
            let config = Config::new(NodeConfig::new("n".into(), addr, 7946), machine);
            Bench {
                node: Node::new(config.node.clone(), [1; 32], Restored::default(), Instant::ORIGIN),
                counters: Counters::default(),
                log: Log::new(&config),
                telemetry: Telemetry::new(&config),
                errands: VecDeque::new(),
                invoker: Invoker::new(&handlers(texts)),
                started: Vec::new(),
                printed: String::new(),
                config,
            }
        }

        fn with(&mut self, act: impl FnOnce(&mut Invoker, &mut Cx<'_>)) {
            let mut out = Outbox::new();
            let mut cx = Cx {
                clock: Clock { now: Instant::ORIGIN, unix_seconds: 0, offset_seconds: 0 },
                config: &self.config,
                node: &self.node,
                counters: &mut self.counters,
                telemetry: &mut self.telemetry,
                log: &mut self.log,
                errands: &mut self.errands,
                out: &mut out,
            };
            cx.log.open_console(cx.out);
            act(&mut self.invoker, &mut cx);
            for action in out.actions() {
                match action {
                    Action::Spawn { id, spawn } => self.started.push((id, spawn.clone())),
                    Action::Print(bytes) => self.printed.push_str(&String::from_utf8_lossy(bytes)),
                    other => panic!("nothing else is done: {other:?}"),
                }
            }
        }

        fn fire(&mut self, name: &str) {
            let event = Event::User { ltime: 1, name: name.into(), payload: None, coalesce: false };
            self.with(|invoker, cx| invoker.on_event(&event, cx));
        }

        fn ask(&mut self) {
            let key = QueryKey { ltime: 1, id: 1 };
            let event = Event::Query { key, name: "q".into(), payload: None, deadline: Instant::NEVER };
            self.with(|invoker, cx| invoker.on_event(&event, cx));
        }

        /// The script that was started in this place ends with 0.
        fn ends(&mut self, index: usize, output: &[u8]) {
            let (id, _) = self.started[index];
            let total = output.len() as u64;
            self.with(|invoker, cx| invoker.on_child((id, &ChildStatus::Exited(0)), output, total, cx));
        }

        fn replace(&mut self, texts: &[&str]) {
            self.with(|invoker, cx| invoker.replace_handlers(&handlers(texts), cx));
        }

        /// The commands that were started, with the events that they were started for.
        fn started(&self) -> Vec<String> {
            let shown = |spawn: &Spawn| {
                let event = spawn.env.iter().find(|(name, _)| name == b"SERF_USER_EVENT");
                let event = event.map_or(&b"query"[..], |(_, event)| event);
                format!("{} {}", String::from_utf8_lossy(&spawn.command), String::from_utf8_lossy(event))
            };
            self.started.iter().map(|(_, spawn)| shown(spawn)).collect()
        }

        /// What was answered to queries.
        fn answers(&self) -> Vec<&[u8]> {
            let answer = |errand| match errand {
                &Errand::Command(_, Command::Respond { ref payload, .. }) => Some(&payload[..]),
                _ => None,
            };
            self.errands.iter().filter_map(answer).collect()
        }
    }

    #[test]
    fn only_scripts_that_run_are_looked_after() {
        let mut bench = Bench::new(&["{timeout=1m}user=x", "{concurrency=9,timeout=300ms}user=y"]);
        assert_eq!(bench.invoker.deadline(), None);
        bench.fire("a");
        let at = |millis: u64| Some(Instant::from_nanos(millis * 1_000_000));
        assert_eq!(bench.invoker.deadline(), at(300), "the time of one is over");
        bench.ends(1, b"");
        assert_eq!(bench.invoker.deadline(), at(1000), "the other becomes slow");
        bench.ends(0, b"");
        assert_eq!(bench.invoker.deadline(), None);
    }

    #[test]
    fn a_handler_that_stays_keeps_its_queue_and_its_numbers() {
        let mut bench = Bench::new(&["user=goes", "{queue=2}user=stays"]);
        for name in ["a", "b", "c", "d"] {
            bench.fire(name);
        }
        bench.ends(0, b"");
        assert_eq!(bench.started(), ["goes a", "goes b"]);
        bench.replace(&["user:e=new", "{queue=3}user=stays"]);
        let dropping = "[WARN] agent: Script 'goes' is no event handler any more, dropping 2 events\n";
        assert!(bench.printed.ends_with(dropping), "{}", bench.printed);
        assert_eq!(bench.counters.handlers_dropped, 4);
        let [new, stays] = bench.counters.handlers[..] else { panic!("there are two handlers") };
        assert_eq!(new, HandlerCounts::default());
        assert_eq!((stays.dropped, stays.waiting, stays.running), (2, 2, 0));
        bench.fire("e");
        assert_eq!(bench.counters.handlers[1].waiting, 3, "the new options count");
        assert_eq!(bench.started().len(), 2, "the script of the handler that is gone has its turn");
        for index in 1..=5 {
            bench.ends(index, b"");
        }
        assert_eq!(bench.started()[2..], ["stays c", "stays d", "new e", "stays e"]);
        let [new, stays] = bench.counters.handlers[..] else { panic!("there are two handlers") };
        assert_eq!((new.runs, stays.runs, stays.waiting), (1, 3, 0));
    }

    #[test]
    fn of_handlers_with_one_filter_those_that_stay_are_found_first() {
        let mut bench = Bench::new(&["user=old", "user=stays", "user=older"]);
        bench.fire("a");
        bench.fire("b");
        bench.replace(&["user=stays", "user=new"]);
        let dropping = "[WARN] agent: Script 'older' is no event handler any more, dropping 2 events\n";
        assert!(bench.printed.ends_with(dropping), "{}", bench.printed);
        for index in 0..4 {
            bench.ends(index, b"");
        }
        assert_eq!(bench.started(), ["old a", "stays a", "new b", "stays b"], "in the order of events");
        let [stays, new] = bench.counters.handlers[..] else { panic!("there are two handlers") };
        assert_eq!((stays.runs, new.runs), (2, 1), "what the old command did is not the new one's");
        assert_eq!((stays.running, new.running), (0, 0));
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let texts = ["user=x", "user=x", "query=y"];
        let mut bench = Bench::new(&texts);
        bench.fire("a");
        bench.fire("b");
        let before = bench.counters.handlers.clone();
        bench.replace(&texts);
        assert_eq!(bench.counters.handlers, before);
        for index in 0..4 {
            bench.ends(index, b"");
        }
        assert_eq!(bench.started(), ["x a", "x a", "x b", "x b"]);
        assert_eq!(bench.printed, "");
    }

    #[test]
    fn a_script_of_a_handler_that_is_gone_may_answer() {
        let mut bench = Bench::new(&["query=goes", "query=stays"]);
        bench.ask();
        bench.replace(&["query=stays"]);
        bench.ends(0, b"goes");
        assert_eq!(bench.answers(), [b"goes"]);
        assert_eq!(bench.started(), ["goes query", "stays query"]);
    }

    #[test]
    fn nobody_waits_for_the_answer_of_a_handler_that_is_gone() {
        let mut bench = Bench::new(&["user=busy", "query=goes", "{concurrency=2}query=quick"]);
        bench.fire("a");
        bench.ask();
        assert_eq!(bench.started(), ["busy a", "quick query"]);
        bench.ends(1, b"quick");
        assert!(bench.answers().is_empty(), "an earlier handler might answer");
        bench.replace(&["{concurrency=2}query=quick"]);
        assert_eq!(bench.answers(), [b"quick"]);
    }
}
