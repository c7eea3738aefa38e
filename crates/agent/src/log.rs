//! The log: lines with time, level and component; the last of them are kept for monitors.
//!
//! The ring is the queue of every reader: a monitor remembers the number of the line that it wants
//! next, and sees by the number of the oldest one what it has missed. The console gets lines at once,
//! from the moment on when it is opened (agent.md 1, step 15).
//!
//! Invariant: a line is numbered once, kept among the last [`LOG_LINES`], and holds no control character
//! that its writer did not mean.

use crate::config::{Config, Facility, LogFormat};
use crate::io::{Clock, Outbox, Sink};
use crate::limits::{LOG_LINE_BYTES, LOG_LINES};
use crate::throttle::{Bursts, Hidden, Repeats, Speaker};
use std::collections::VecDeque;
use villein_core::note::Level;
use villein_core::time::Instant;

/// One line of the log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// `YYYY/MM/DD HH:MM:SS [LEVEL] component: text`, without the newline at its end.
    pub(crate) text: String,
    component: &'static str,
    /// Where the text after the component begins.
    message: usize,
    /// Of the local time in the text.
    offset_seconds: i32,
    /// The RPC connection that this line is about and must not be sent to, lest it feeds on itself.
    pub(crate) hidden_from: Option<u64>,
}

/// All lines that are kept, and those who read them at once.
#[derive(Debug)]
pub(crate) struct Log {
    lines: VecDeque<Line>,
    /// Number of the line that is written next.
    end: u64,
    console_level: Level,
    console_format: LogFormat,
    console_is_journal: bool,
    console_open: bool,
    syslog: Option<Syslog>,
    bursts: Bursts,
    repeats: Repeats,
}

impl Log {
    /// An empty log whose console is still closed.
    pub(crate) fn new(config: &Config) -> Log {
        Log {
            lines: VecDeque::new(),
            end: 0,
            console_level: config.log_level,
            console_format: config.log_format,
            console_is_journal: config.journal,
            console_open: false,
            syslog: config.syslog.map(|facility| Syslog { facility, pid: config.machine.pid }),
            bursts: Bursts::default(),
            repeats: Repeats::default(),
        }
    }

    /// From now on the console and syslog show lines of this level and above.
    pub(crate) fn set_level(&mut self, level: Level) {
        self.console_level = level;
    }

    /// Appends a line, unless it is the same again and again; `hidden_from` as in [`Line`].
    pub(crate) fn write(
        &mut self,
        clock: Clock,
        speaker: Speaker,
        text: &str,
        hidden_from: Option<u64>,
        out: &mut Outbox,
    ) {
        let text = clipped(text.strip_suffix('\n').unwrap_or(text));
        let (admitted, hidden) = self.repeats.admit(speaker, text, clock.now);
        if let Some(hidden) = hidden {
            self.tell(&hidden, clock, out);
        }
        if admitted {
            self.append(clock, speaker, text, hidden_from, out);
        }
    }

    /// Writes what was held back and is due: how many lines were left out of bursts that are over, and how often
    /// the last line was repeated. To be called before lines are written.
    pub(crate) fn end_bursts(&mut self, clock: Clock, out: &mut Outbox) {
        self.tell_hidden(clock.now, clock, out);
    }

    /// The end is near: writes all that was held back.
    pub(crate) fn finish(&mut self, clock: Clock, out: &mut Outbox) {
        self.tell_hidden(Instant::NEVER, clock, out);
    }

    /// When something that was held back is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.bursts.deadline(), self.repeats.deadline()].into_iter().flatten().min()
    }

    /// Says what was left out of bursts that are over by then.
    fn tell_hidden(&mut self, until: Instant, clock: Clock, out: &mut Outbox) {
        while let Some(hidden) = self.repeats.end(until).or_else(|| self.bursts.end_one(until)) {
            self.tell(&hidden, clock, out);
        }
    }

    fn tell(&mut self, hidden: &Hidden, clock: Clock, out: &mut Outbox) {
        self.append(clock, hidden.speaker, &hidden.to_string(), None, out);
    }

    /// Whether another line of a kind that strangers can cause may be written now.
    pub(crate) fn admits(&mut self, kind: &'static str, speaker: Speaker, now: Instant) -> bool {
        self.bursts.admit(kind, speaker, now)
    }

    /// Shows the lines that were collected, and from now on every line as it comes.
    pub(crate) fn open_console(&mut self, out: &mut Outbox) {
        if !std::mem::replace(&mut self.console_open, true) {
            for line in self.lines.iter().filter(|line| line.level >= self.console_level) {
                self.print(line, out);
            }
        }
    }

    /// Number of the oldest line that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.end - self.lines.len() as u64
    }

    /// Number of the line that is written next.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The line with this number, if it is kept.
    pub(crate) fn line(&self, number: u64) -> Option<&Line> {
        self.lines.get(usize::try_from(number.checked_sub(self.first())?).ok()?)
    }

    fn append(
        &mut self,
        clock: Clock,
        (level, component): Speaker,
        text: &str,
        hidden_from: Option<u64>,
        out: &mut Outbox,
    ) {
        let said = format!("{component}: {text}");
        if level >= self.console_level
            && let Some(syslog) = &self.syslog
        {
            out.report(Sink::Syslog, syslog.packet(clock, level, &said).as_bytes());
        }
        let prefix = format!("{} [{}] ", time_text(clock), level_name(level));
        let line = Line {
            level,
            message: prefix.len() + component.len() + 2,
            component,
            offset_seconds: clock.offset_seconds,
            text: prefix + &said,
            hidden_from,
        };
        if self.console_open && level >= self.console_level {
            self.print(&line, out);
        }
        if self.lines.len() == LOG_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.end += 1;
    }

    fn print(&self, line: &Line, out: &mut Outbox) {
        let text = match self.console_format {
            LogFormat::Json => format!("{}\n", json(line)),
            LogFormat::Text => {
                let text = format!("    {}\n", line.text);
                if self.console_is_journal { with_priority(line.level, &text) } else { text }
            }
        };
        out.print(text.as_bytes());
    }
}

/// Who the lines for syslog are from.
#[derive(Debug)]
struct Syslog {
    facility: Facility,
    pid: u32,
}

impl Syslog {
    /// `<PRI>Mon DD HH:MM:SS serf[PID]: TEXT` (agent.md 17). The name is the one that log collectors look for.
    fn packet(&self, clock: Clock, level: Level, said: &str) -> String {
        let severity = match level {
            Level::Trace => 7,
            Level::Debug => 6,
            Level::Info => 5,
            Level::Warn => 4,
            Level::Err => 3,
        };
        let time = LocalTime::of(clock);
        let month = MONTHS[usize::try_from(time.month - 1).expect("months begin with 1")];
        format!(
            "<{}>{month} {:2} {} serf[{}]: {said}",
            u32::from(self.facility.0) * 8 + severity,
            time.day,
            time.of_day(),
            self.pid
        )
    }
}

/// `<N>` before each line of the text, which the journal takes off (`sd-daemon(3)`): a prefix counts for one line only,
/// and one that stands in the text of a stranger does not count behind another.
fn with_priority(level: Level, text: &str) -> String {
    let prefix = match level {
        Level::Trace | Level::Debug => "<7>",
        Level::Info => "<6>",
        Level::Warn => "<4>",
        Level::Err => "<3>",
    };
    text.split_inclusive('\n').flat_map(|line| [prefix, line]).collect()
}

/// One object in one line: `time` (RFC 3339), `level`, `component`, `message`.
fn json(line: &Line) -> serde_json::Value {
    let (date, of_day) = (line.text[..10].replace('/', "-"), &line.text[11..19]);
    let minutes = line.offset_seconds / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
    serde_json::json!({
        "time": format!("{date}T{of_day}{sign}{hours:02}:{minutes:02}"),
        "level": level_name(line.level),
        "component": line.component,
        "message": &line.text[line.message..],
    })
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_LINE_BYTES)]
}

/// The word in the brackets.
pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Err => "ERR",
    }
}

/// The level with this name in upper case; these are all that operators may choose (agent.md 17).
pub(crate) fn level_named(name: &str) -> Option<Level> {
    [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Err]
        .into_iter()
        .find(|&level| level_name(level) == name)
}

/// What clocks on the wall show.
pub(crate) struct LocalTime {
    year: i64,
    month: i64,
    day: i64,
    /// Of the day.
    second: i64,
}

impl LocalTime {
    pub(crate) fn of(clock: Clock) -> LocalTime {
        let local = clock.unix_seconds.saturating_add(i64::from(clock.offset_seconds));
        let (year, month, day) = civil_date(local.div_euclid(86_400));
        LocalTime { year, month, day, second: local.rem_euclid(86_400) }
    }

    /// `YYYY-MM-DD HH:MM:SS`.
    pub(crate) fn dashed(&self) -> String {
        format!("{:04}-{:02}-{:02} {}", self.year, self.month, self.day, self.of_day())
    }

    /// `HH:MM:SS`.
    fn of_day(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn time_text(clock: Clock) -> String {
    let time = LocalTime::of(clock);
    format!("{:04}/{:02}/{:02} {}", time.year, time.month, time.day, time.of_day())
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01.
///
/// The year begins in March, so that the leap day is the last one; 400 years are 146 097 days, and the
/// months from March on have 153 days in every five.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use crate::io::Action;
    use crate::limits::{BURST_LINES, LOSS_INTERVAL};
    use std::net::{IpAddr, Ipv4Addr};
    use villein_core::config::Config as NodeConfig;
    use villein_core::member::WireAddr;

    fn clock(unix_seconds: i64, offset_seconds: i32) -> Clock {
        Clock { now: Instant::ORIGIN, unix_seconds, offset_seconds }
    }

    fn config(log_level: Level) -> Config {
        let addr = WireAddr::from_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let machine = Machine { os: "linux".to_owned(), arch: "amd64".to_owned(), cpu_count: 1, pid: 4711 };
        Config { log_level, ..Config::new(NodeConfig::new("a".into(), addr, 7946), machine) }
    }

    fn printed(out: &Outbox) -> String {
        let mut text = String::new();
        for action in out.actions() {
            let Action::Print(bytes) = action else { panic!("only lines are printed, not {action:?}") };
            text.push_str(std::str::from_utf8(bytes).expect("a line is UTF-8"));
        }
        text
    }

    #[test]
    fn time_is_local_and_civil() {
        for (seconds, offset, text) in [
            (0, 0, "1970/01/01 00:00:00"),
            (-1, 0, "1969/12/31 23:59:59"),
            (951_782_400, 0, "2000/02/29 00:00:00"),
            (1_795_380_331, 0, "2026/11/22 20:45:31"),
            (1_795_380_331, 3600, "2026/11/22 21:45:31"),
            (4_107_542_399, 0, "2100/02/28 23:59:59"),
            (4_107_542_400, 0, "2100/03/01 00:00:00"),
            (1_767_225_599, 0, "2025/12/31 23:59:59"),
            (1_767_225_599, -86_399, "2025/12/31 00:00:00"),
        ] {
            assert_eq!(time_text(clock(seconds, offset)), text);
        }
    }

    #[test]
    fn the_console_shows_what_was_collected_when_it_opens() {
        let (mut log, mut out) = (Log::new(&config(Level::Info)), Outbox::new());
        log.write(clock(0, 0), (Level::Info, "agent"), "one", None, &mut out);
        log.write(clock(0, 0), (Level::Debug, "agent"), "hidden", None, &mut out);
        assert!(out.is_empty());
        log.open_console(&mut out);
        log.write(clock(1, 0), (Level::Err, "serf"), "two\n\n", None, &mut out);
        log.open_console(&mut out);
        assert_eq!(
            printed(&out),
            "    1970/01/01 00:00:00 [INFO] agent: one\n    1970/01/01 00:00:01 [ERR] serf: two\n\n"
        );
    }

    #[test]
    fn the_last_lines_are_kept_by_number() {
        let (mut log, mut out) = (Log::new(&config(Level::Err)), Outbox::new());
        for number in 0..LOG_LINES as u64 + 3 {
            log.write(clock(0, 0), (Level::Trace, "agent"), &number.to_string(), None, &mut out);
        }
        assert_eq!((log.first(), log.end()), (3, LOG_LINES as u64 + 3));
        assert!(log.line(2).is_none());
        assert!(log.line(3).unwrap().text.ends_with("[TRACE] agent: 3"));
        assert!(log.line(log.end()).is_none());
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let (mut log, mut out) = (Log::new(&config(Level::Err)), Outbox::new());
        log.write(clock(0, 0), (Level::Info, "agent"), &"\u{e9}".repeat(LOG_LINE_BYTES), None, &mut out);
        let kept = log.line(0).unwrap().text.len();
        assert!(kept <= LOG_LINE_BYTES + 40 && kept > LOG_LINE_BYTES - 2, "{kept}");
    }

    #[test]
    fn lines_can_be_objects() {
        let config = Config { log_format: LogFormat::Json, ..config(Level::Info) };
        let (mut log, mut out) = (Log::new(&config), Outbox::new());
        log.open_console(&mut out);
        log.write(clock(0, -5400), (Level::Warn, "agent.ipc"), "say \"no\"\n\tand: why", None, &mut out);
        assert_eq!(
            printed(&out),
            "{\"time\":\"1969-12-31T22:30:00-01:30\",\"level\":\"WARN\",\"component\":\"agent.ipc\",\
             \"message\":\"say \\\"no\\\"\\n\\tand: why\"}\n"
        );
        let text = "1969/12/31 22:30:00 [WARN] agent.ipc: say \"no\"\n\tand: why";
        assert_eq!(log.line(0).unwrap().text, text, "monitors get text");
    }

    #[test]
    fn the_journal_learns_the_level_of_each_line() {
        let config = Config { journal: true, ..config(Level::Trace) };
        let (mut log, mut out) = (Log::new(&config), Outbox::new());
        log.write(clock(0, 0), (Level::Warn, "agent"), "early", None, &mut out);
        log.open_console(&mut out);
        for level in [Level::Trace, Level::Debug, Level::Info, Level::Err] {
            log.write(clock(0, 0), (level, "serf"), "x", None, &mut out);
        }
        log.write(clock(0, 0), (Level::Info, "agent"), "one\n<0>two\n\nthree\n", None, &mut out);
        assert_eq!(
            printed(&out),
            "<4>    1970/01/01 00:00:00 [WARN] agent: early\n\
             <7>    1970/01/01 00:00:00 [TRACE] serf: x\n\
             <7>    1970/01/01 00:00:00 [DEBUG] serf: x\n\
             <6>    1970/01/01 00:00:00 [INFO] serf: x\n\
             <3>    1970/01/01 00:00:00 [ERR] serf: x\n\
             <6>    1970/01/01 00:00:00 [INFO] agent: one\n<6><0>two\n<6>\n<6>three\n"
        );
        let kept = &log.line(0).unwrap().text;
        assert_eq!(kept, "1970/01/01 00:00:00 [WARN] agent: early", "monitors get the text alone");
    }

    #[test]
    fn objects_are_the_same_in_the_journal() {
        let texts = [false, true].map(|journal| {
            let config = Config { log_format: LogFormat::Json, journal, ..config(Level::Info) };
            let (mut log, mut out) = (Log::new(&config), Outbox::new());
            log.open_console(&mut out);
            log.write(clock(0, 0), (Level::Err, "agent"), "one\ntwo", None, &mut out);
            printed(&out)
        });
        assert!(texts[0].starts_with('{'), "{}", texts[0]);
        assert_eq!(texts[0], texts[1]);
    }

    #[test]
    fn syslog_gets_what_the_console_shows_at_once() {
        let config = Config { syslog: Some(Facility(16)), journal: true, ..config(Level::Info) };
        let (mut log, mut out) = (Log::new(&config), Outbox::new());
        let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Err];
        for level in levels {
            log.write(clock(1_795_380_331, 0), (level, "agent"), "x", None, &mut out);
        }
        log.set_level(Level::Trace);
        log.write(clock(1_793_750_400, 0), (Level::Trace, "serf"), "one\ntwo", None, &mut out);
        let packets: Vec<String> = (out.actions())
            .map(|action| match action {
                Action::Report { sink: Sink::Syslog, bytes } => String::from_utf8_lossy(bytes).into_owned(),
                other => panic!("only packets are made, not {other:?}"),
            })
            .collect();
        let wanted = [
            "<133>Nov 22 20:45:31 serf[4711]: agent: x",
            "<132>Nov 22 20:45:31 serf[4711]: agent: x",
            "<131>Nov 22 20:45:31 serf[4711]: agent: x",
            "<135>Nov  4 00:00:00 serf[4711]: serf: one\ntwo",
        ];
        assert_eq!(packets, wanted);
    }

    #[test]
    fn a_line_that_repeats_is_folded() {
        let (mut log, mut out) = (Log::new(&config(Level::Info)), Outbox::new());
        log.open_console(&mut out);
        let at = |now: Instant| Clock { now, ..clock(0, 0) };
        let again = |log: &mut Log, out: &mut Outbox, count: u32| {
            for _ in 0..count {
                log.write(at(Instant::ORIGIN), (Level::Info, "agent"), "again", None, out);
            }
        };
        again(&mut log, &mut out, BURST_LINES + 7);
        assert_eq!(printed(&out).lines().count(), BURST_LINES as usize);
        assert_eq!(log.deadline(), Some(Instant::ORIGIN + LOSS_INTERVAL));
        log.write(at(Instant::ORIGIN), (Level::Info, "agent"), "other", None, &mut out);
        let text = printed(&out);
        let mut last = text.lines().rev();
        assert!(last.next().unwrap().ends_with("[INFO] agent: other"));
        assert!(last.next().unwrap().ends_with("[INFO] agent: ... the last line came 7 more times"));
        again(&mut log, &mut out, BURST_LINES + 1);
        out.clear();
        log.end_bursts(at(Instant::ORIGIN + LOSS_INTERVAL), &mut out);
        assert!(printed(&out).ends_with("the last line came 1 more times\n"));
        assert_eq!(log.deadline(), None);
    }

    #[test]
    fn the_end_tells_what_was_held_back() {
        let (mut log, mut out) = (Log::new(&config(Level::Info)), Outbox::new());
        log.open_console(&mut out);
        let speaker = (Level::Info, "agent");
        for _ in 0..BURST_LINES + 2 {
            log.write(clock(0, 0), speaker, "again", None, &mut out);
            log.admits("odd things", speaker, Instant::ORIGIN);
        }
        out.clear();
        log.finish(clock(0, 0), &mut out);
        let text = printed(&out);
        let ends: Vec<&str> =
            text.lines().map(|line| line.split_once("...").expect("it is told").1).collect();
        assert_eq!(ends, [" the last line came 2 more times", " and 2 more like these (odd things)"]);
    }
}
