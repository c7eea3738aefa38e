use crate::lab::{Lab, addr, config};
use std::collections::{BTreeMap, BTreeSet};
use villein_core::command::{Command, CommandId};
use villein_core::config::Config;
use villein_core::member::{Status, Tags};
use villein_core::note::Level;
use villein_core::rng::Rng;
use villein_core::snapshot::Restored;
use villein_core::time::Duration;

const NODES: usize = 12;

/// Fewer than these are never up, so that gossip reaches everybody.
const UP_LEAST: usize = 6;

/// A cluster to which things happen.
struct Town {
    lab: Lab,
    rng: Rng,
    /// Where in the lab each node runs, or ran last.
    hosts: Vec<usize>,
    up: Vec<bool>,
    left: Vec<bool>,
    leaving: Vec<(usize, CommandId)>,
}

impl Town {
    fn new(seed: u8) -> Town {
        let lab = Lab::cluster_with(NODES, |_, config| config.snapshot = true);
        Town {
            lab,
            rng: Rng::new([seed; 32]),
            hosts: (0..NODES).collect(),
            up: vec![true; NODES],
            left: vec![false; NODES],
            leaving: Vec::new(),
        }
    }

    fn any(&mut self, is_up: bool) -> Option<usize> {
        let is_free = |node: &usize| self.leaving.iter().all(|(leaving, _)| leaving != node);
        let nodes: Vec<usize> = (0..NODES).filter(|node| self.up[*node] == is_up).filter(is_free).collect();
        let chosen = self.rng.below(nodes.len());
        nodes.get(chosen).copied()
    }

    fn tell(&mut self, node: usize, command: Command) -> CommandId {
        self.lab.start(self.hosts[node], command)
    }

    fn stop(&mut self, node: usize, has_left: bool) {
        self.lab.kill(self.hosts[node]);
        (self.up[node], self.left[node]) = (false, has_left);
    }

    /// Who crashed finds the others by itself; who left is told to join somebody.
    fn start(&mut self, node: usize) {
        let config = Config { snapshot: true, ..config(&format!("node{node}"), node) };
        let friend = self.any(true).expect("some are always up");
        self.hosts[node] = self.lab.restart(self.hosts[node], config);
        self.up[node] = true;
        if self.left[node] {
            self.tell(node, Command::Join { addrs: vec![addr(friend)], ignore_old: true });
        }
    }

    fn something_happens(&mut self) {
        let kind = self.rng.below(7);
        let can_go = self.up.iter().filter(|up| **up).count() - self.leaving.len() > UP_LEAST;
        match (kind, self.any(true), self.any(false)) {
            (0, Some(up), _) if can_go => self.stop(up, false),
            (1, Some(up), _) if can_go => {
                let leave = self.tell(up, Command::Leave);
                self.leaving.push((up, leave));
            }
            (2 | 3, _, Some(down)) => self.start(down),
            (4, Some(up), Some(down)) => {
                let prune = self.rng.below(2) == 0;
                self.tell(up, Command::ForceLeave { name: format!("node{down}").into(), prune });
            }
            (5, Some(up), _) => {
                let tags = Tags::from([("version".into(), self.rng.below(100).to_string().into())]);
                self.tell(up, Command::SetTags(tags));
            }
            (_, Some(up), _) => {
                self.tell(up, Command::UserEvent { name: "deploy".into(), payload: None, coalesce: false });
            }
            _ => {}
        }
    }

    fn pass(&mut self, duration: Duration) {
        self.lab.run_for(duration);
        let (lab, hosts) = (&self.lab, &self.hosts);
        let (done, leaving) =
            self.leaving.drain(..).partition(|(node, leave)| lab.reply(hosts[*node], *leave).is_some());
        self.leaving = leaving;
        let done: Vec<(usize, CommandId)> = done;
        for (node, _) in done {
            self.stop(node, true);
        }
    }

    /// What those who are up think of each node.
    fn views(&self) -> BTreeMap<usize, BTreeSet<Status>> {
        let mut views: BTreeMap<usize, BTreeSet<Status>> = BTreeMap::new();
        for watcher in (0..NODES).filter(|node| self.up[*node]) {
            for node in 0..NODES {
                let status = self.lab.status(self.hosts[watcher], &format!("node{node}"));
                views.entry(node).or_default().insert(status);
            }
        }
        views
    }

    /// Whether who is up is alive for everybody, and who is not has failed or left for everybody who has seen it.
    fn agrees(&self) -> bool {
        self.leaving.is_empty()
            && self.views().into_iter().all(|(node, mut views)| {
                if self.up[node] {
                    return views == [Status::Alive].into();
                }
                views.remove(&Status::None);
                views.len() <= 1 && views.iter().all(|view| matches!(view, Status::Failed | Status::Left))
            })
    }

    /// Nothing waits to be said any more, and all that is sent are probes and their acks.
    fn check_peace(&mut self) {
        let up: Vec<usize> = (0..NODES).filter(|node| self.up[*node]).map(|node| self.hosts[node]).collect();
        let sent = |lab: &Lab| up.iter().map(|host| lab.sent(*host)).sum::<usize>();
        let before = sent(&self.lab);
        self.lab.run_for(Duration::from_secs(60));
        let rate = (sent(&self.lab) - before) as f64 / (60 * up.len()) as f64;
        assert!((1.5..2.2).contains(&rate), "{rate} packets of each node in a second");
        for host in up {
            let stats = self.lab.node(host).stats();
            assert_eq!((stats.intent_queue, stats.event_queue, stats.query_queue), (0, 0, 0));
            assert_eq!(stats.health_score, 0);
        }
    }

    /// The file of each node names those that it sees.
    fn check_files(&mut self) {
        self.lab.run_for(Duration::from_mins(11));
        for node in (0..NODES).filter(|node| self.up[*node]) {
            let host = self.hosts[node];
            let known = Restored::parse(&self.lab.disk(host).bytes, false);
            let statuses = self.lab.statuses(host);
            for (places, status) in [(known.alive, Status::Alive), (known.failed, Status::Failed)] {
                let named: Vec<String> = places.iter().map(|(name, _)| name.to_string()).collect();
                let seen: Vec<&String> =
                    statuses.iter().filter(|(_, s)| **s == status).map(|(name, _)| name).collect();
                assert!(named.iter().eq(seen.iter().copied()), "{status:?}: {named:?} and not {seen:?}");
            }
            assert_eq!(known.oddities, []);
        }
    }

    /// Errors are about those that were killed, and nothing else.
    fn check_notes(&self) {
        for host in 0..=*self.hosts.iter().max().expect("there are nodes") {
            for note in self.lab.notes(host).filter(|note| note.level() == Level::Err) {
                let name = note.name();
                assert!(["ProbeTcpFailed", "PushPullFailed", "StreamRefused"].contains(&name), "{note}");
            }
        }
    }
}

#[test]
fn crashes_leaves_and_returns() {
    for seed in 0..4 {
        let mut town = Town::new(seed);
        for _ in 0..60 {
            town.something_happens();
            let pause = town.rng.duration_below(Duration::from_secs(6));
            town.pass(pause);
        }
        for _ in 0..90 {
            if town.agrees() {
                break;
            }
            town.pass(Duration::from_secs(1));
        }
        assert!(town.agrees(), "seed {seed}: {:?} are up, and {:?}", town.up, town.views());
        town.lab.run_for(Duration::from_secs(40));
        town.check_peace();
        town.check_files();
        town.check_notes();
    }
}
