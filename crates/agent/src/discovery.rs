//! Multicast discovery as an operator sees it (agent.md 18): who was found is joined, what fails is said.
//!
//! The protocol is that of [`Mdns`]; here its words become the agent's. Invariant: that discovery cannot
//! work at all is said once, not with every poll.

use crate::config::{Discover, Family};
use crate::cx::{Cx, Errand};
use crate::escape;
use crate::io::Socket;
use crate::join::Purpose;
use std::net::SocketAddr;
use villein_core::config::Config as NodeConfig;
use villein_core::mdns::{self, Action, Input, Mdns, Via};
use villein_core::member::Status;
use villein_core::note::Level;
use villein_core::text::Text;
use villein_core::time::Instant;

/// Discovery of one agent.
#[derive(Debug)]
pub(crate) struct Discovery {
    mdns: Mdns,
    actions: Vec<Action>,
    families: Vec<Family>,
    /// Families whose questions do not get out.
    mute: Vec<Family>,
}

impl Discovery {
    pub(crate) fn new(discover: &Discover, node: &NodeConfig, seed: [u8; 32], now: Instant) -> Discovery {
        let config = mdns::Config {
            discovery: discover.cluster.as_str().into(),
            node: node.name.clone(),
            host: discover.host_name.as_str().into(),
            addr: node.addr.ip(),
            port: node.port,
            ipv4: discover.families.contains(&Family::V4),
            ipv6: discover.families.contains(&Family::V6),
        };
        Discovery {
            mdns: Mdns::new(&config, seed, now),
            actions: Vec::new(),
            families: discover.families.clone(),
            mute: Vec::new(),
        }
    }

    /// Takes one thing that happened on its sockets, or the time.
    pub(crate) fn handle(&mut self, input: Input<'_>, cx: &mut Cx<'_>) {
        self.mdns.handle(cx.clock.now, input, &mut self.actions);
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { via, to, bytes } => cx.out.send(Socket::Mdns(via), to, &bytes),
                Action::Found(hosts) => Discovery::join(&hosts, cx),
                Action::Note(note) => self.on_note(&note, cx),
            }
        }
        self.actions = actions;
    }

    /// When the time is wanted next.
    pub(crate) fn deadline(&self) -> Instant {
        self.mdns.deadline()
    }

    /// Takes the outcome of a join of what was found.
    pub(crate) fn on_joined(result: Result<usize, String>, cx: &mut Cx<'_>) {
        match result {
            Ok(count) => cx.log(Level::Info, "agent.mdns", &format!("Joined {count} hosts")),
            Err(why) => cx.log(Level::Err, "agent.mdns", &format!("Failed to join: {why}")),
        }
    }

    fn join(hosts: &[SocketAddr], cx: &mut Cx<'_>) {
        let is_member = |host: &SocketAddr| {
            cx.node.members().any(|member| member.status == Status::Alive && member.socket_addr() == *host)
        };
        let texts: Vec<Text> =
            hosts.iter().filter(|host| !is_member(host)).map(|host| Text::from(host.to_string())).collect();
        if !texts.is_empty() {
            let replay = cx.config.replay_on_join;
            cx.errand(Errand::Join { purpose: Purpose::Discovery, texts, replay });
        }
    }

    fn on_note(&mut self, note: &mdns::Note, cx: &mut Cx<'_>) {
        let level = match note {
            mdns::Note::Failed { .. } => Level::Err,
            mdns::Note::BadPackets(_) | mdns::Note::TooManyHosts(_) => Level::Warn,
        };
        cx.log(level, "agent.mdns", &escape::line(note.to_string().as_bytes()));
        if let mdns::Note::Failed { via: Via::Query, to, .. } = note {
            let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
            if !self.mute.contains(&family) {
                self.mute.push(family);
                if self.families.iter().all(|family| self.mute.contains(family)) {
                    let text =
                        "No question can be sent: discovery finds nobody until there is a multicast route";
                    cx.log(Level::Err, "agent.mdns", text);
                }
            }
        }
    }
}
