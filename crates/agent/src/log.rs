//! The log: lines with time, level and component; the last of them are kept for monitors.
//!
//! The ring is the queue of every reader: a monitor remembers the number of the line that it wants
//! next, and sees by the number of the oldest one what it has missed. The console gets lines at once,
//! from the moment on when it is opened (agent.md 1, step 15).
//!
//! Invariant: a line is numbered once, kept among the last [`LOG_LINES`], and holds no control character
//! that its writer did not mean.

use crate::io::{Clock, Outbox};
use crate::limits::{LOG_LINE_BYTES, LOG_LINES};
use crate::throttle::Bursts;
use std::collections::VecDeque;
use villein_core::note::Level;
use villein_core::time::Instant;

/// One line of the log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// `YYYY/MM/DD HH:MM:SS [LEVEL] component: text`, without the newline at its end.
    pub(crate) text: String,
    /// The RPC connection that this line is about and must not be sent to, lest it feeds on itself.
    pub(crate) hidden_from: Option<u64>,
}

/// All lines that are kept, and the console.
#[derive(Debug)]
pub(crate) struct Log {
    lines: VecDeque<Line>,
    /// Number of the line that is written next.
    end: u64,
    console_level: Level,
    console_open: bool,
    bursts: Bursts,
}

impl Log {
    /// An empty log whose console is still closed.
    pub(crate) fn new(console_level: Level) -> Log {
        Log { lines: VecDeque::new(), end: 0, console_level, console_open: false, bursts: Bursts::default() }
    }

    /// Appends a line; `hidden_from` as in [`Line`].
    pub(crate) fn write(
        &mut self,
        clock: Clock,
        (level, component): (Level, &str),
        text: &str,
        hidden_from: Option<u64>,
        out: &mut Outbox,
    ) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = format!("{} [{}] {component}: {}", time_text(clock), level_name(level), clipped(text));
        let line = Line { level, text, hidden_from };
        if self.console_open && level >= self.console_level {
            print(&line, out);
        }
        if self.lines.len() == LOG_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.end += 1;
    }

    /// Whether another line of a kind that strangers can cause may be written now.
    pub(crate) fn admits(
        &mut self,
        kind: &'static str,
        speaker: (Level, &'static str),
        now: Instant,
    ) -> bool {
        self.bursts.admit(kind, speaker, now)
    }

    /// Says how many lines were left out of the bursts that are over. To be called before lines are written.
    pub(crate) fn end_bursts(&mut self, clock: Clock, out: &mut Outbox) {
        while let Some(hidden) = self.bursts.end_one(clock.now) {
            let text = format!("... and {} more like these ({})", hidden.count, hidden.kind);
            self.write(clock, hidden.speaker, &text, None, out);
        }
    }

    /// When a burst is over of which lines were left out.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.bursts.deadline()
    }

    /// Shows the lines that were collected, and from now on every line as it comes.
    pub(crate) fn open_console(&mut self, out: &mut Outbox) {
        if !std::mem::replace(&mut self.console_open, true) {
            for line in self.lines.iter().filter(|line| line.level >= self.console_level) {
                print(line, out);
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
}

fn print(line: &Line, out: &mut Outbox) {
    out.print(format!("    {}\n", line.text).as_bytes());
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

fn time_text(clock: Clock) -> String {
    let local = clock.unix_seconds.saturating_add(i64::from(clock.offset_seconds));
    let (year, month, day) = civil_date(local.div_euclid(86_400));
    let second = local.rem_euclid(86_400);
    format!("{year:04}/{month:02}/{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
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
    use crate::io::Action;

    fn clock(unix_seconds: i64, offset_seconds: i32) -> Clock {
        Clock { now: Instant::ORIGIN, unix_seconds, offset_seconds }
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
        let (mut log, mut out) = (Log::new(Level::Info), Outbox::new());
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
        let (mut log, mut out) = (Log::new(Level::Err), Outbox::new());
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
        let (mut log, mut out) = (Log::new(Level::Err), Outbox::new());
        log.write(clock(0, 0), (Level::Info, "agent"), &"\u{e9}".repeat(LOG_LINE_BYTES), None, &mut out);
        let kept = log.line(0).unwrap().text.len();
        assert!(kept <= LOG_LINE_BYTES + 40 && kept > LOG_LINE_BYTES - 2, "{kept}");
    }
}
