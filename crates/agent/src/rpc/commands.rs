//! What each request does (rpc.md 4 and 6).
//!
//! A request is answered at once, or it is handed to the node and answered when the node is done. All
//! texts of errors are those that client libraries know.

use super::Awaited;
use super::filter::Filter;
use super::records::{self, core_text};
use super::session::{Outcome, Session};
use super::stats;
use super::streams::{Monitor, Stream};
use crate::cx::{Cx, Errand, Waiter};
use crate::escape;
use crate::handler::EventFilter;
use crate::join::Purpose;
use crate::limits::{RPC_QUERY_TIMEOUT, RPC_STREAMS};
use crate::log::level_named;
use crate::throttle::Throttle;
use villein_core::command::{Command, CommandError, KeyRequest, QueryParams};
use villein_core::note::Level;
use villein_core::time::Duration;
use villein_rpc::request::{Query, Request, Respond, TagChange, UserEvent, VERSION};
use villein_rpc::{Reply as Body, ResponseHeader, request};

impl Session {
    /// Evaluates one request.
    pub(super) fn evaluate(&mut self, seq: u64, request: Request, cx: &mut Cx<'_>) -> Outcome {
        cx.telemetry.count("agent.ipc.command", cx.clock);
        if !self.greeted && !matches!(request, Request::Handshake(_)) {
            self.refuse(seq, "Handshake required", cx);
            return Outcome::Refused("Failed to evaluate request: Handshake required".to_owned());
        }
        let open = self.authenticated || cx.config.rpc_auth.is_empty();
        if !open && !matches!(request, Request::Handshake(_) | Request::Auth(_)) {
            let text = "Client sending commands before auth";
            cx.log_sparingly("commands before auth", (Level::Warn, "agent.ipc"), text);
            return self.refuse(seq, "Authentication required", cx);
        }
        match request {
            Request::Handshake(body) => self.handshake(seq, &body, cx),
            Request::Auth(body) => self.auth(seq, &body.auth_key, cx),
            Request::Event(body) => self.event(seq, body, cx),
            Request::Members => self.members(seq, |_| true, cx),
            Request::MembersFiltered(body) => match Filter::new(&body) {
                Ok(filter) => self.members(seq, |member| filter.matches(member), cx),
                Err(why) => {
                    self.respond(&ResponseHeader::error(seq, why), Some(&Body::Members(Vec::new())), cx);
                    Outcome::Answered
                }
            },
            Request::Join(body) => {
                let texts = body.existing.iter().map(core_text).collect();
                let purpose = Purpose::Rpc(self.wait(seq));
                cx.errand(Errand::Join { purpose, texts, replay: body.replay });
                Outcome::Answered
            }
            Request::ForceLeave(body) => self.force_leave(seq, &body, cx),
            Request::Leave => {
                let ticket = self.wait(seq);
                cx.errand(Errand::Leave(Some(ticket)));
                Outcome::Answered
            }
            Request::Tags(body) => self.tags(seq, &body, cx),
            Request::Stream(body) => self.stream(seq, &body.filter, cx),
            Request::Monitor(body) => self.monitor(seq, &body.log_level, cx),
            Request::Stop(body) => self.stop(seq, body.stop, cx),
            Request::InstallKey(key) => {
                self.change_keys(seq, &key, ("key installation", KeyRequest::Install), cx)
            }
            Request::UseKey(key) => self.change_keys(seq, &key, ("primary key change", KeyRequest::Use), cx),
            Request::RemoveKey(key) => self.change_keys(seq, &key, ("key removal", KeyRequest::Remove), cx),
            Request::ListKeys => self.list_keys(seq, cx),
            Request::Query(body) => self.query(seq, body, cx),
            Request::Respond(body) => self.answer_query(seq, body, cx),
            Request::Stats => {
                let body = Body::Stats(stats::of_agent(cx));
                self.accept(seq, Some(&body), cx)
            }
            Request::GetCoordinate(body) => {
                let body = Body::Coordinate(records::of_coordinate(cx.node.coordinate(&body.node)));
                self.accept(seq, Some(&body), cx)
            }
            Request::Unknown(name) => {
                self.refuse(seq, "Unsupported command", cx);
                Outcome::Refused(format!("Failed to evaluate request: command '{name}' not recognized"))
            }
        }
    }

    fn accept(&mut self, seq: u64, body: Option<&Body>, cx: &mut Cx<'_>) -> Outcome {
        self.respond(&ResponseHeader::ok(seq), body, cx);
        Outcome::Answered
    }

    fn refuse(&mut self, seq: u64, why: &str, cx: &mut Cx<'_>) -> Outcome {
        self.respond(&ResponseHeader::error(seq, why), None, cx);
        Outcome::Answered
    }

    fn handshake(&mut self, seq: u64, body: &request::Handshake, cx: &mut Cx<'_>) -> Outcome {
        if self.greeted {
            return self.refuse(seq, "Handshake already performed", cx);
        }
        if body.version != VERSION {
            return self.refuse(seq, "Unsupported IPC version", cx);
        }
        self.greeted = true;
        self.accept(seq, None, cx)
    }

    fn auth(&mut self, seq: u64, token: &[u8], cx: &mut Cx<'_>) -> Outcome {
        if !equal_in_constant_time(token, cx.config.rpc_auth.reveal()) {
            return self.refuse(seq, "Invalid authentication token", cx);
        }
        self.authenticated = true;
        self.accept(seq, None, cx)
    }

    fn event(&mut self, seq: u64, body: UserEvent, cx: &mut Cx<'_>) -> Outcome {
        let (name, payload) =
            (escape::line(&body.name), escape::quoted(body.payload.as_deref().unwrap_or_default()));
        let coalesced = body.coalesce;
        cx.log(
            Level::Debug,
            "agent",
            &format!("Requesting user event send: {name}. Coalesced: {coalesced}. Payload: {payload}"),
        );
        let command = Command::UserEvent {
            name: core_text(&body.name),
            payload: if_any(body.payload),
            coalesce: body.coalesce,
        };
        self.hand_over(seq, Awaited::Event, command, cx)
    }

    pub(super) fn hand_over(
        &mut self,
        seq: u64,
        awaited: Awaited,
        command: Command,
        cx: &mut Cx<'_>,
    ) -> Outcome {
        let ticket = self.wait(seq);
        cx.command(Waiter::Rpc(ticket, awaited), command);
        Outcome::Answered
    }

    fn members(
        &mut self,
        seq: u64,
        wanted: impl Fn(&villein_core::member::Member) -> bool,
        cx: &mut Cx<'_>,
    ) -> Outcome {
        let members = cx.node.members().filter(wanted).map(|member| records::of_member(&member)).collect();
        self.accept(seq, Some(&Body::Members(members)), cx)
    }

    fn force_leave(&mut self, seq: u64, body: &request::ForceLeave, cx: &mut Cx<'_>) -> Outcome {
        let prune = if body.prune { " (prune)" } else { "" };
        cx.log(Level::Info, "agent", &format!("Force leaving node{prune}: {}", escape::line(&body.node)));
        let command = Command::ForceLeave { name: core_text(&body.node), prune: body.prune };
        self.hand_over(seq, Awaited::Plain, command, cx)
    }

    fn tags(&mut self, seq: u64, body: &TagChange, cx: &mut Cx<'_>) -> Outcome {
        let change = crate::keeping::TagChange {
            delete: body.delete_tags.iter().map(core_text).collect(),
            set: body.tags.iter().map(|(name, value)| (core_text(name), core_text(value))).collect(),
        };
        let waiter = Waiter::Rpc(self.wait(seq), Awaited::Plain);
        cx.errand(Errand::ChangeTags(waiter, change));
        Outcome::Answered
    }

    fn stream(&mut self, seq: u64, filter: &[u8], cx: &mut Cx<'_>) -> Outcome {
        let Some(filter) = EventFilter::parse(filter) else {
            return self.refuse(seq, "Invalid event filter", cx);
        };
        if self.streams.contains_key(&seq) {
            return self.refuse(seq, "Stream with given sequence exists", cx);
        }
        if self.streams.len() >= RPC_STREAMS {
            return self.refuse(seq, "Too many streams on this connection", cx);
        }
        self.streams.insert(seq, Stream::new(filter));
        self.accept(seq, None, cx)
    }

    fn monitor(&mut self, seq: u64, level: &[u8], cx: &mut Cx<'_>) -> Outcome {
        let name = String::from_utf8_lossy(level).to_uppercase();
        let Some(level) = level_named(&name) else {
            return self.refuse(seq, &format!("Unknown log level: {name}"), cx);
        };
        if self.monitor.is_some() {
            return self.refuse(seq, "Monitor already exists", cx);
        }
        let outcome = self.accept(seq, None, cx);
        self.monitor = Some(Monitor { seq, level, next: cx.log.first(), missed: Throttle::default() });
        self.pump_monitor(cx);
        outcome
    }

    fn stop(&mut self, seq: u64, stopped: u64, cx: &mut Cx<'_>) -> Outcome {
        self.streams.remove(&stopped);
        self.monitor.take_if(|monitor| monitor.seq == stopped);
        self.accept(seq, None, cx)
    }

    fn query(&mut self, seq: u64, body: Query, cx: &mut Cx<'_>) -> Outcome {
        let (name, payload) =
            (escape::line(&body.name), escape::quoted(body.payload.as_deref().unwrap_or_default()));
        cx.log(Level::Debug, "agent", &format!("Requesting query send: {name}. Payload: {payload}"));
        let Ok(nanoseconds) = u64::try_from(body.timeout) else {
            return self.refuse(seq, "The timeout of a query cannot be negative", cx);
        };
        let params = QueryParams {
            name: core_text(&body.name),
            payload: if_any(body.payload),
            nodes: body.filter_nodes.iter().map(core_text).collect(),
            tags: body.filter_tags.iter().map(|(tag, expr)| (core_text(tag), core_text(expr))).collect(),
            ack: body.request_ack,
            relay_factor: body.relay_factor,
            timeout: (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds).min(RPC_QUERY_TIMEOUT)),
        };
        self.hand_over(seq, Awaited::Query, Command::Query(params), cx)
    }

    fn answer_query(&mut self, seq: u64, body: Respond, cx: &mut Cx<'_>) -> Outcome {
        let Some(key) = self.open_query(body.id, cx.clock.now) else {
            return self.refuse(seq, &CommandError::UnknownQuery.to_string(), cx);
        };
        let payload = body.payload.unwrap_or_default().into_boxed_slice();
        self.hand_over(seq, Awaited::Respond, Command::Respond { key, payload }, cx)
    }
}

/// The error for the client when the node refused, and the log line about it (agent.md 17.1).
pub(super) fn refusal(awaited: Awaited, why: &CommandError, cx: &mut Cx<'_>) -> String {
    match awaited {
        Awaited::Event => cx.log(Level::Warn, "agent", &format!("failed to send user event: {why}")),
        Awaited::Query => {
            let why = escape::line(why.to_string().as_bytes());
            cx.log(Level::Warn, "agent", &format!("failed to start user query: {why}"));
        }
        Awaited::Respond if *why != CommandError::UnknownQuery => {
            return format!("failed to respond to key query: {why}");
        }
        Awaited::Respond | Awaited::Plain | Awaited::KeyChange | Awaited::KeyList => {}
    }
    why.to_string()
}

/// An empty payload is none: between nodes there is no difference, and the reference makes none here.
fn if_any(payload: Option<Vec<u8>>) -> Option<Box<[u8]>> {
    payload.filter(|payload| !payload.is_empty()).map(Vec::into_boxed_slice)
}

/// Takes as long for a token that is nearly right as for one that is all wrong. The length is no secret.
fn equal_in_constant_time(given: &[u8], wanted: &[u8]) -> bool {
    let difference = given.iter().zip(wanted).fold(0, |bits, (left, right)| bits | (left ^ right));
    given.len() == wanted.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_when_all_bytes_are() {
        assert!(equal_in_constant_time(b"", b""));
        assert!(equal_in_constant_time(b"sekret", b"sekret"));
        for wrong in [&b"sekre"[..], b"sekret1", b"sekres", b""] {
            assert!(!equal_in_constant_time(wrong, b"sekret"));
        }
    }
}
