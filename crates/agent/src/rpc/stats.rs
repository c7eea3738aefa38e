//! The answer to `stats`: numbers about the agent, all as text (rpc.md 6.19).

use super::records::text;
use crate::cx::Cx;
use crate::escape;
use crate::handler::Handler;
use crate::invoke::HandlerCounts;
use villein_rpc::Text;
use villein_rpc::response::{Stats, TextMap};

/// Notes of the node about what it refused from the network, by what was refused.
const REFUSALS: [(&str, &[&str]); 3] = [
    ("packets", &["PacketRefused"]),
    (
        "messages",
        &[
            "MessageMalformed",
            "SerfMalformed",
            "PingMisdirected",
            "AliveRefused",
            "ClockJump",
            "EventTooOld",
            "QueryTooOld",
            "SlotFull",
            "FilterLimit",
            "FilterMalformed",
            "FilterInvalid",
            "RelayRefused",
            "CoordinateRefused",
            "IntentsFull",
            "MembersFull",
            "TableFull",
        ],
    ),
    ("streams", &["StreamRefused", "StreamLimit"]),
];

/// All sections.
pub(super) fn of_agent(cx: &Cx<'_>) -> Stats {
    let local = cx.node.local_member();
    let machine = &cx.config.machine;
    let cpus = machine.cpu_count.to_string();
    let agent = section([("name", text(&local.name))]);
    let runtime = section([
        ("os", machine.os.as_str().into()),
        ("arch", machine.arch.as_str().into()),
        ("version", concat!("villein ", env!("CARGO_PKG_VERSION")).into()),
        ("event_loop", cx.config.runtime_name.as_str().into()),
        ("max_procs", cpus.as_str().into()),
        ("goroutines", "1".into()),
        ("cpu_count", cpus.as_str().into()),
    ]);
    let tags = local.tags.iter().map(|(name, value)| (text(name), text(value))).collect();
    Stats::from([
        ("agent".into(), agent),
        ("dropped".into(), dropped(cx)),
        ("event_handlers".into(), event_handlers(cx)),
        ("handlers".into(), handlers(cx)),
        ("runtime".into(), runtime),
        ("serf".into(), serf(cx)),
        ("tags".into(), tags),
    ])
}

fn serf(cx: &Cx<'_>) -> TextMap {
    let stats = cx.node.stats();
    let number = |number: u64| Text::from(number.to_string());
    let mut section = section([
        ("members", number(stats.members as u64)),
        ("failed", number(stats.failed as u64)),
        ("left", number(stats.left as u64)),
        ("health_score", number(stats.health_score.into())),
        ("member_time", number(stats.member_time)),
        ("event_time", number(stats.event_time)),
        ("query_time", number(stats.query_time)),
        ("intent_queue", number(stats.intent_queue as u64)),
        ("event_queue", number(stats.event_queue as u64)),
        ("query_queue", number(stats.query_queue as u64)),
        ("encrypted", stats.encrypted.to_string().into()),
    ]);
    if cx.config.node.coordinates {
        section.insert("coordinate_resets".into(), number(stats.coordinate_resets));
    }
    section
}

/// The five sums are always there; what makes them up only when there is any.
fn dropped(cx: &Cx<'_>) -> TextMap {
    let count = |note: &str| cx.counters.notes.get(note).copied().unwrap_or(0);
    let number = |number: u64| Text::from(number.to_string());
    let mut section =
        section([("handlers", number(cx.counters.handlers_dropped)), ("rpc", number(cx.counters.rpc))]);
    for (sum, notes) in REFUSALS {
        let total: u64 = notes.iter().map(|note| count(note)).sum();
        let total = if sum == "packets" { total + cx.counters.overflow } else { total };
        section.insert(sum.into(), total.to_string().into());
        for note in notes.iter().filter(|note| count(note) > 0) {
            section.insert((*note).into(), count(note).to_string().into());
        }
    }
    if cx.counters.overflow > 0 {
        section.insert("Overflow".into(), cx.counters.overflow.to_string().into());
    }
    section
}

/// `EVENT:NAME` to command, with an empty name for all. Commands that share a filter are listed in their order.
fn event_handlers(cx: &Cx<'_>) -> TextMap {
    let mut section = TextMap::new();
    for handler in &cx.config.handlers {
        for mut word in handler.filter.words() {
            if !word.contains(&b':') {
                word.push(b':');
            }
            let commands = section.entry(Text::from(word)).or_default();
            let separator: &[u8] = if commands.is_empty() { b"" } else { b", " };
            *commands = [commands.as_bytes(), separator, &handler.command].concat().into();
        }
    }
    section
}

/// One line about each handler. Keys begin with its number, with as many digits for all, so that they stand in the
/// order of the configuration; the command comes last, because it may hold anything.
fn handlers(cx: &Cx<'_>) -> TextMap {
    let handlers = &cx.config.handlers;
    let digits = handlers.len().to_string().len();
    let counts = cx.counters.handlers.iter().copied().chain(std::iter::repeat_with(HandlerCounts::default));
    let entry = |((number, handler), counts): ((usize, &Handler), HandlerCounts)| {
        let words: Vec<Vec<u8>> = handler.filter.words().collect();
        let key = format!("{number:0digits$} {}", escape::line(&words.join(&b','))).into();
        let command = escape::line(&handler.command);
        (key, format!("{} command={command}", shown(&counts)).into())
    };
    (1..).zip(handlers).zip(counts).map(entry).collect()
}

fn shown(counts: &HandlerCounts) -> String {
    let HandlerCounts { runs, failed, timeouts, dropped, waiting, running, last } = counts;
    let (exit, took) = match last {
        None => ("-".to_owned(), "-".to_owned()),
        Some((exit, took)) => (exit.to_string(), took.as_millis().to_string()),
    };
    format!(
        "runs={runs} failed={failed} timeouts={timeouts} dropped={dropped} waiting={waiting} running={running} \
         last_exit={exit} last_ms={took}"
    )
}

fn section<const N: usize>(entries: [(&str, Text); N]) -> TextMap {
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
}
