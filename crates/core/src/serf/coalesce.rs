//! How events reach the application: merged, or at once (gossip.md 13.8).
//!
//! Member events of a short while become one event per kind, with the latest news of each member; user
//! events that allow it become the latest ones of each name. Everything else passes straight through. The
//! invariant: nothing is held without a deadline for its delivery.

use crate::config::Coalesce;
use crate::io::Outbox;
use crate::limits;
use crate::member::{Event, Member, MemberEventKind};
use crate::text::Text;
use crate::time::Instant;
use std::collections::BTreeMap;

/// The last stage before the application.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    settings: Option<Coalesce>,
    members: MemberNews,
    member_window: Window,
    users: UserNews,
    user_window: Window,
}

impl Delivery {
    pub(super) fn new(settings: Option<Coalesce>) -> Delivery {
        Delivery {
            settings,
            members: MemberNews::default(),
            member_window: Window::default(),
            users: UserNews::default(),
            user_window: Window::default(),
        }
    }

    /// Takes an event; it reaches the application now or by the [`deadline`](Delivery::deadline).
    pub(super) fn deliver(&mut self, event: Event, now: Instant, out: &mut Outbox) {
        let Some(settings) = self.settings else { return out.event(event) };
        match event {
            Event::Members { kind, members } => {
                for member in members {
                    self.members.hold(kind, member);
                }
                self.member_window.extend(settings, now);
            }
            Event::User { ltime, name, payload, coalesce: true } => {
                self.users.hold(ltime, name, payload);
                self.user_window.extend(settings, now);
                if self.users.held >= limits::COALESCED {
                    self.flush_users(out);
                }
            }
            event => out.event(event),
        }
    }

    /// When something that is held must be delivered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.member_window.deadline, self.user_window.deadline].into_iter().flatten().min()
    }

    /// Delivers what is due.
    pub(super) fn on_tick(&mut self, now: Instant, out: &mut Outbox) {
        if self.user_window.deadline.is_some_and(|at| at <= now) {
            self.flush_users(out);
        }
        if self.member_window.deadline.is_some_and(|at| at <= now) {
            self.flush_members(out);
        }
    }

    /// Delivers all that is held.
    pub(super) fn flush(&mut self, out: &mut Outbox) {
        self.flush_users(out);
        self.flush_members(out);
    }

    fn flush_users(&mut self, out: &mut Outbox) {
        self.user_window = Window::default();
        self.users.flush(out);
    }

    fn flush_members(&mut self, out: &mut Outbox) {
        self.member_window = Window::default();
        self.members.flush(out);
    }
}

/// Since when something is held, and until when it may be.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    first: Option<Instant>,
    deadline: Option<Instant>,
}

impl Window {
    /// Something came: the quiescent time begins again, the period goes on.
    fn extend(&mut self, settings: Coalesce, now: Instant) {
        let first = *self.first.get_or_insert(now);
        self.deadline = Some((first + settings.period).min(now + settings.quiescent));
    }
}

/// The latest news of each member.
#[derive(Clone, Debug, Default)]
struct MemberNews {
    latest: BTreeMap<Text, (MemberEventKind, Member)>,
    /// The kind that the application heard last. A member that it does not know is as good as reaped.
    told: BTreeMap<Text, MemberEventKind>,
}

impl MemberNews {
    fn hold(&mut self, kind: MemberEventKind, member: Member) {
        self.latest.insert(member.name.clone(), (kind, member));
    }

    fn flush(&mut self, out: &mut Outbox) {
        let mut by_kind: BTreeMap<MemberEventKind, Vec<Member>> = BTreeMap::new();
        for (name, (kind, member)) in std::mem::take(&mut self.latest) {
            let told = self.told.get(&name).copied().unwrap_or(MemberEventKind::Reap);
            if kind == told && kind != MemberEventKind::Update {
                continue;
            }
            if kind == MemberEventKind::Reap {
                self.told.remove(&name);
            } else {
                self.told.insert(name, kind);
            }
            by_kind.entry(kind).or_default().push(member);
        }
        for (kind, members) in by_kind {
            out.event(Event::Members { kind, members });
        }
    }
}

type Payload = Option<Box<[u8]>>;

/// Per name the events of the highest Lamport time.
#[derive(Clone, Debug, Default)]
struct UserNews {
    latest: BTreeMap<Text, (u64, Vec<Payload>)>,
    held: usize,
}

impl UserNews {
    fn hold(&mut self, ltime: u64, name: Text, payload: Payload) {
        let (latest, payloads) = self.latest.entry(name).or_insert((ltime, Vec::new()));
        if ltime < *latest {
            return;
        }
        if ltime > *latest {
            self.held -= payloads.len();
            *latest = ltime;
            payloads.clear();
        }
        payloads.push(payload);
        self.held += 1;
    }

    fn flush(&mut self, out: &mut Outbox) {
        self.held = 0;
        for (name, (ltime, payloads)) in std::mem::take(&mut self.latest) {
            for payload in payloads {
                out.event(Event::User { ltime, name: name.clone(), payload, coalesce: true });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Action;
    use crate::member::{QueryKey, Status, Tags, Versions, WireAddr};
    use crate::time::Duration;
    use MemberEventKind::{Failed, Join, Leave, Reap, Update};

    const PERIOD: Duration = Duration::from_secs(3);
    const QUIET: Duration = Duration::from_secs(1);

    fn at(milliseconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(milliseconds)
    }

    fn news(kind: MemberEventKind, name: &str) -> Event {
        let member = Member {
            name: name.into(),
            addr: WireAddr::from_ip([127, 0, 0, 1].into()),
            port: 1,
            tags: Tags::new(),
            status: Status::Alive,
            versions: Versions::ours(5),
        };
        Event::Members { kind, members: vec![member] }
    }

    fn custom(ltime: u64, name: &str, payload: &str, coalesce: bool) -> Event {
        Event::User { ltime, name: name.into(), payload: Some(payload.as_bytes().into()), coalesce }
    }

    fn bench() -> (Delivery, Outbox) {
        (Delivery::new(Some(Coalesce { period: PERIOD, quiescent: QUIET })), Outbox::new())
    }

    /// What was delivered, in short words; empties the outbox.
    fn delivered(out: &mut Outbox) -> Vec<String> {
        let words = |action| match action {
            Action::Event(Event::Members { kind, members }) => {
                let names: Vec<_> = members.iter().map(|member| member.name.to_string()).collect();
                format!("{}: {}", kind.name(), names.join(" "))
            }
            Action::Event(Event::User { ltime, name, payload, .. }) => {
                format!("{name}@{ltime}: {}", String::from_utf8_lossy(payload.as_ref().unwrap()))
            }
            other => format!("{other:?}"),
        };
        let all = out.actions().map(words).collect();
        out.clear();
        all
    }

    #[test]
    fn a_quiet_second_flushes_and_three_are_the_most() {
        let (mut delivery, mut out) = bench();
        assert_eq!(delivery.deadline(), None);
        delivery.deliver(news(Join, "a"), at(0), &mut out);
        assert_eq!(delivery.deadline(), Some(at(1000)));
        for step in 1..=4 {
            delivery.deliver(news(Join, &format!("b{step}")), at(step * 700), &mut out);
        }
        assert_eq!(delivery.deadline(), Some(at(3000)));
        delivery.on_tick(at(2999), &mut out);
        assert!(out.is_empty());
        delivery.on_tick(at(3000), &mut out);
        assert_eq!(delivered(&mut out), ["member-join: a b1 b2 b3 b4"]);
        assert_eq!(delivery.deadline(), None);
    }

    #[test]
    fn only_the_latest_news_of_a_member_counts() {
        let (mut delivery, mut out) = bench();
        let mut rounds = Vec::new();
        let histories: [&[(MemberEventKind, &str)]; 6] = [
            &[(Join, "b"), (Join, "a"), (Failed, "c"), (Join, "c")],
            // It failed and came back: nothing happened.
            &[(Failed, "b"), (Join, "b"), (Leave, "a")],
            &[(Update, "b"), (Update, "c")],
            // An update is repeated only when there is a new one.
            &[(Update, "b"), (Reap, "a")],
            &[(Failed, "c")],
            // Came and went unseen.
            &[(Join, "x"), (Reap, "x")],
        ];
        for history in histories {
            for (kind, name) in history {
                delivery.deliver(news(*kind, name), at(0), &mut out);
            }
            delivery.flush(&mut out);
            rounds.push(delivered(&mut out).join(", "));
        }
        let expected = [
            "member-join: a b c",
            "member-leave: a",
            "member-update: b c",
            "member-update: b, member-reap: a",
            "member-failed: c",
            "",
        ];
        assert_eq!(rounds, expected);
        assert_eq!(delivery.members.told.len(), 2);
    }

    #[test]
    fn user_events_of_the_highest_time_win() {
        let (mut delivery, mut out) = bench();
        for (ltime, payload) in [(2, "old"), (3, "one"), (1, "older"), (3, "two")] {
            delivery.deliver(custom(ltime, "deploy", payload, true), at(0), &mut out);
        }
        delivery.deliver(custom(1, "alert", "x", true), at(500), &mut out);
        assert!(out.is_empty());
        delivery.on_tick(at(1500), &mut out);
        assert_eq!(delivered(&mut out), ["alert@1: x", "deploy@3: one", "deploy@3: two"]);
        delivery.flush(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_rest_passes_at_once() {
        let (mut delivery, mut out) = bench();
        delivery.deliver(custom(1, "now", "x", false), at(0), &mut out);
        delivery.deliver(Event::QueryDone { key: QueryKey { ltime: 1, id: 2 } }, at(0), &mut out);
        assert_eq!(out.actions().count(), 2);
        let mut plain = Delivery::new(None);
        out.clear();
        plain.deliver(news(Join, "a"), at(0), &mut out);
        plain.deliver(custom(1, "now", "x", true), at(0), &mut out);
        assert_eq!(delivered(&mut out), ["member-join: a", "now@1: x"]);
        assert_eq!(plain.deadline(), None);
    }

    #[test]
    fn a_flood_of_user_events_is_delivered_early() {
        let (mut delivery, mut out) = bench();
        for number in 0..limits::COALESCED {
            assert!(out.is_empty());
            delivery.deliver(custom(1, &number.to_string(), "x", true), at(0), &mut out);
        }
        assert_eq!(out.actions().count(), limits::COALESCED);
        assert_eq!(delivery.deadline(), None);
    }
}
