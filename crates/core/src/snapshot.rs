//! What a node knew before it was started again: the records of its snapshot file (gossip.md 15).
//!
//! Decides what each line means and how it is written; when lines are written is decided by the Serf layer. What
//! Serf's agent has no line for (failed members, texts that were joined, names with a line break) stands in
//! comments, which it skips; in those a line break is `\n` and a backslash is `\\`. The invariant: any bytes are
//! a snapshot. A line that cannot be understood is skipped and noted, and takes nothing else with it.

use crate::gotext;
use crate::limits;
use crate::note::Note;
use crate::text::Text;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;

/// What a snapshot file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// Members that were alive, by name.
    pub alive: Vec<(Text, SocketAddr)>,
    /// Members that had failed, by name.
    pub failed: Vec<(Text, SocketAddr)>,
    /// Texts that were joined once, the latest last: names or addresses, for the one who can resolve them.
    pub seeds: Vec<Text>,
    /// Last member time seen; 0 for none.
    pub clock: u64,
    /// Time of the last user event that was delivered; 0 for none.
    pub event_clock: u64,
    /// Time of the last query that was delivered; 0 for none.
    pub query_clock: u64,
    /// Bytes of the file.
    pub length: u64,
    /// Whether the file ends in the middle of a line, which is ignored.
    pub torn: bool,
    /// What was skipped, to be said at the start.
    pub oddities: Vec<Note>,
}

impl Restored {
    /// Reads a whole snapshot file. After a `leave` in it the node knows nobody, unless `rejoin_after_leave`.
    pub fn parse(bytes: &[u8], rejoin_after_leave: bool) -> Restored {
        let mut known = Known::default();
        let mut oddities = Oddities::default();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let torn = lines.next_back().is_some_and(|last| !last.is_empty());
        let mut left = false;
        for line in lines {
            match Record::read(line) {
                Ok(Some(Record::Leave)) if rejoin_after_leave => left = true,
                Ok(Some(record)) => known.apply(record).unwrap_or_else(|note| oddities.push(note)),
                Ok(None) => {}
                Err(note) => oddities.push(note),
            }
        }
        let mut oddities = oddities.into_notes();
        if left {
            oddities.push(Note::SnapshotLeaveIgnored);
        }
        Restored { length: bytes.len() as u64, torn, oddities, ..known.into() }
    }
}

impl From<Known> for Restored {
    fn from(known: Known) -> Restored {
        let (alive, failed): (Vec<_>, Vec<_>) =
            known.members.into_iter().partition(|(_, (presence, _))| *presence == Presence::Alive);
        let places = |members: Vec<(Text, (Presence, SocketAddr))>| {
            members.into_iter().map(|(name, (_, addr))| (name, addr)).collect()
        };
        Restored {
            alive: places(alive),
            failed: places(failed),
            seeds: known.seeds,
            clock: known.clock,
            event_clock: known.event_clock,
            query_clock: known.query_clock,
            ..Restored::default()
        }
    }
}

/// One line of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A member is alive.
    Alive(Text, SocketAddr),
    /// A member is gone.
    NotAlive(Text),
    /// A member is gone and may come back.
    Failed(Text, SocketAddr),
    /// This text was joined.
    Seed(Text),
    /// Last member time seen.
    Clock(u64),
    /// Time of the last user event that was delivered.
    EventClock(u64),
    /// Time of the last query that was delivered.
    QueryClock(u64),
    /// This node left.
    Leave,
}

impl Record {
    /// Reads a line, given without its end; `None` for a comment. The note says why a line is skipped, in the
    /// reference's words.
    fn read(line: &[u8]) -> Result<Option<Record>, Note> {
        if line == b"leave" {
            return Ok(Some(Record::Leave));
        }
        if let Some(comment) = line.strip_prefix(b"#") {
            return Ok(Record::read_comment(comment));
        }
        let unknown = || Note::SnapshotLineUnknown { line: shown(line) };
        let space = line.iter().position(|byte| *byte == b' ').ok_or_else(unknown)?;
        let (key, value) = line.split_at(space + 1);
        Ok(Some(match key {
            b"alive: " => {
                let (name, addr) = member(value, line)?;
                Record::Alive(checked_name(name).ok_or_else(unknown)?, addr)
            }
            b"not-alive: " => Record::NotAlive(checked_name(value.into()).ok_or_else(unknown)?),
            b"clock: " => Record::Clock(time(value, "clock")?),
            b"event-clock: " => Record::EventClock(time(value, "event clock")?),
            b"query-clock: " => Record::QueryClock(time(value, "query clock")?),
            b"coordinate: " => return Ok(None),
            _ => return Err(unknown()),
        }))
    }

    /// Reads what stands behind a `#`. People write comments too, and so none of them is wrong.
    fn read_comment(comment: &[u8]) -> Option<Record> {
        let comment = comment.strip_prefix(b" ")?;
        let (key, value) = comment.split_at(comment.iter().position(|byte| *byte == b' ')? + 1);
        let escaped_member = || {
            let (name, addr) = member(value, value).ok()?;
            Some((checked_name(unescaped(&name))?, addr))
        };
        Some(match key {
            b"alive: " => escaped_member().map(|(name, addr)| Record::Alive(name, addr))?,
            b"failed: " => escaped_member().map(|(name, addr)| Record::Failed(name, addr))?,
            b"not-alive: " => Record::NotAlive(checked_name(unescaped(value))?),
            b"seed: " => Record::Seed(unescaped(value)),
            _ => return None,
        })
    }

    /// Appends the line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let written = match self {
            Record::Alive(name, addr) => {
                write_name("alive: ", name, out);
                writeln!(out, " {addr}")
            }
            Record::NotAlive(name) => {
                write_name("not-alive: ", name, out);
                writeln!(out)
            }
            Record::Failed(name, addr) => {
                out.extend_from_slice(b"# failed: ");
                write_escaped(name, out);
                writeln!(out, " {addr}")
            }
            Record::Seed(seed) => {
                out.extend_from_slice(b"# seed: ");
                write_escaped(seed, out);
                writeln!(out)
            }
            Record::Clock(time) => writeln!(out, "clock: {time}"),
            Record::EventClock(time) => writeln!(out, "event-clock: {time}"),
            Record::QueryClock(time) => writeln!(out, "query-clock: {time}"),
            Record::Leave => writeln!(out, "leave"),
        };
        written.expect("memory can be written to");
    }
}

/// Whether a member that is worth remembering is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Alive,
    Failed,
}

/// What the records so far say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    members: BTreeMap<Text, (Presence, SocketAddr)>,
    seeds: Vec<Text>,
    /// Last member time seen.
    pub(crate) clock: u64,
    /// Time of the last user event that was delivered.
    pub(crate) event_clock: u64,
    /// Time of the last query that was delivered.
    pub(crate) query_clock: u64,
}

impl Known {
    /// Applies the next record. The note says why it changes nothing.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), Note> {
        match record {
            Record::Alive(name, addr) => return self.put(name, Presence::Alive, addr),
            Record::Failed(name, addr) => return self.put(name, Presence::Failed, addr),
            Record::NotAlive(name) => drop(self.members.remove(&name)),
            Record::Seed(seed) => return self.put_seed(seed),
            Record::Clock(time) => self.clock = plausible("member", time)?,
            Record::EventClock(time) => self.event_clock = plausible("event", time)?,
            Record::QueryClock(time) => self.query_clock = plausible("query", time)?,
            Record::Leave => *self = Known::default(),
        }
        Ok(())
    }

    /// The names of all that count as alive or failed.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Text> {
        self.members.keys()
    }

    /// Whether the member counts as alive or failed.
    pub(crate) fn has_member(&self, name: &[u8]) -> bool {
        self.members.contains_key(name)
    }

    /// Whether the text is among those that were joined.
    pub(crate) fn has_seed(&self, seed: &Text) -> bool {
        self.seeds.contains(seed)
    }

    /// How many members count as alive.
    pub(crate) fn alive(&self) -> usize {
        self.members.values().filter(|(presence, _)| *presence == Presence::Alive).count()
    }

    /// Appends the lines of a new file that says the same.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, (presence, addr)) in &self.members {
            let record = match presence {
                Presence::Alive => Record::Alive,
                Presence::Failed => Record::Failed,
            };
            record(name.clone(), *addr).write(out);
        }
        for seed in &self.seeds {
            Record::Seed(seed.clone()).write(out);
        }
        let clocks = [
            (self.clock, Record::Clock(self.clock)),
            (self.event_clock, Record::EventClock(self.event_clock)),
            (self.query_clock, Record::QueryClock(self.query_clock)),
        ];
        for (_, record) in clocks.into_iter().filter(|(time, _)| *time > 0) {
            record.write(out);
        }
    }

    fn put(&mut self, name: Text, presence: Presence, addr: SocketAddr) -> Result<(), Note> {
        if self.members.len() >= limits::NODES && !self.members.contains_key(&name) {
            return Err(Note::SnapshotMembersFull { name });
        }
        self.members.insert(name, (presence, addr));
        Ok(())
    }

    /// The latest ones are kept: the first ones may belong to another cluster.
    fn put_seed(&mut self, seed: Text) -> Result<(), Note> {
        if seed.is_empty() || seed.len() > limits::SEED {
            return Err(Note::SnapshotSeedOdd { seed: shown(&seed) });
        }
        if !self.seeds.contains(&seed) {
            if self.seeds.len() >= limits::SEEDS {
                self.seeds.remove(0);
            }
            self.seeds.push(seed);
        }
        Ok(())
    }
}

impl From<&Restored> for Known {
    fn from(restored: &Restored) -> Known {
        let alive = restored.alive.iter().map(|(name, addr)| (name.clone(), (Presence::Alive, *addr)));
        let failed = restored.failed.iter().map(|(name, addr)| (name.clone(), (Presence::Failed, *addr)));
        Known {
            members: alive.chain(failed).collect(),
            seeds: restored.seeds.clone(),
            clock: restored.clock,
            event_clock: restored.event_clock,
            query_clock: restored.query_clock,
        }
    }
}

/// What is to be said of a file. It may be odd in a million places, and nobody reads more than the first few.
#[derive(Default)]
struct Oddities {
    notes: Vec<Note>,
    /// How often each kind came.
    counts: BTreeMap<&'static str, usize>,
}

impl Oddities {
    fn push(&mut self, note: Note) {
        let count = self.counts.entry(note.name()).or_default();
        *count += 1;
        if *count <= limits::WARNINGS_ALIKE {
            self.notes.push(note);
        }
    }

    fn into_notes(self) -> Vec<Note> {
        let mut notes = self.notes;
        for (name, count) in self.counts {
            if count > limits::WARNINGS_ALIKE {
                notes.push(Note::MoreAlike { name, count: count - limits::WARNINGS_ALIKE });
            }
        }
        notes
    }
}

/// As much of foreign bytes as a line of a log needs.
fn shown(bytes: &[u8]) -> Text {
    match bytes.get(..limits::ODDITY) {
        Some(beginning) if bytes.len() > limits::ODDITY => [beginning, b"..."].concat().into(),
        _ => bytes.into(),
    }
}

/// Splits at the last space: names have spaces too.
fn member(value: &[u8], line: &[u8]) -> Result<(Text, SocketAddr), Note> {
    let parse = || {
        let space = value.iter().rposition(|byte| *byte == b' ')?;
        let addr = std::str::from_utf8(&value[space + 1..]).ok()?.parse().ok()?;
        Some((value[..space].into(), addr))
    };
    parse().ok_or_else(|| Note::SnapshotAddressBad { line: shown(line) })
}

/// Nobody has an empty name, or a longer one than any node is let in with.
fn checked_name(name: Text) -> Option<Text> {
    (1..=limits::NAME).contains(&name.len()).then_some(name)
}

/// A decimal number, with the complaints of the reference's language.
fn time(digits: &[u8], clock: &'static str) -> Result<u64, Note> {
    let bad = |what: &str| {
        let why = format!("strconv.ParseUint: parsing {}: {what}", gotext::quote(&shown(digits)));
        Note::SnapshotTimeBad { clock, why }
    };
    if digits.is_empty() {
        return Err(bad("invalid syntax"));
    }
    let mut time: u64 = 0;
    for byte in digits {
        let digit =
            byte.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(|| bad("invalid syntax"))?;
        let longer = time.checked_mul(10).and_then(|time| time.checked_add(u64::from(digit)));
        time = longer.ok_or_else(|| bad("value out of range"))?;
    }
    Ok(time)
}

/// A time that is further from the beginning than any message may move a clock was written by nobody honest, and
/// would lock this node out of its cluster (gossip.md 13.4).
fn plausible(clock: &'static str, time: u64) -> Result<u64, Note> {
    if time > limits::CLOCK_JUMP { Err(Note::SnapshotTimeAbsurd { clock, time }) } else { Ok(time) }
}

/// Appends the beginning of a line about a member; one that the reference would take for two is a comment.
fn write_name(key: &str, name: &[u8], out: &mut Vec<u8>) {
    let is_plain = !name.contains(&b'\n');
    if !is_plain {
        out.extend_from_slice(b"# ");
    }
    out.extend_from_slice(key.as_bytes());
    if is_plain {
        out.extend_from_slice(name);
    } else {
        write_escaped(name, out);
    }
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(*byte),
        }
    }
}

/// A backslash before anything else stands for itself.
fn unescaped(bytes: &[u8]) -> Text {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return text.into(),
            [b'\\', b'n', rest @ ..] => {
                text.push(b'\n');
                rest
            }
            [b'\\', b'\\', rest @ ..] => {
                text.push(b'\\');
                rest
            }
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn places(places: &[(&str, &str)]) -> Vec<(Text, SocketAddr)> {
        places.iter().map(|(name, at)| (Text::from(*name), addr(at))).collect()
    }

    fn said(restored: &Restored) -> Vec<String> {
        restored.oddities.iter().map(Note::to_string).collect()
    }

    #[test]
    fn records_apply_in_their_order() {
        let file = b"alive: b 127.0.0.2:7946\nalive: my other node 127.0.0.9:1\nalive: six [::1]:7946\n\
            alive: a/b 127.0.0.3:7946\nnot-alive: a/b\nalive: b 127.0.0.4:7947\n\
            clock: 9\nevent-clock: 7\nquery-clock: 3\nclock: 8\n\
            coordinate: {}\n# by hand\n#\n# failed: b 127.0.0.2:7946\n# failed: c 127.0.0.5:7946\n\
            alive: b 127.0.0.6:7946\nnot-alive: unknown\n";
        let expected = Restored {
            alive: places(&[
                ("b", "127.0.0.6:7946"),
                ("my other node", "127.0.0.9:1"),
                ("six", "[::1]:7946"),
            ]),
            failed: places(&[("c", "127.0.0.5:7946")]),
            clock: 8,
            event_clock: 7,
            query_clock: 3,
            length: file.len() as u64,
            ..Restored::default()
        };
        assert_eq!(Restored::parse(file, false), expected);
    }

    /// What the reference says of the same file.
    #[test]
    fn odd_lines_are_noted_in_the_words_of_the_reference() {
        let file = b"hello\nalive: nospace\nclock: x\nevent-clock: -1\nquery-clock: 99999999999999999999\n\
            # comment\ncoordinate: {}\n\nleave now\n";
        let restored = Restored::parse(file, false);
        assert_eq!(
            said(&restored),
            [
                "Unrecognized snapshot line: hello",
                "Failed to parse address: alive: nospace",
                "Failed to convert clock time: strconv.ParseUint: parsing \"x\": invalid syntax",
                "Failed to convert event clock time: strconv.ParseUint: parsing \"-1\": invalid syntax",
                "Failed to convert query clock time: strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
                "Unrecognized snapshot line: ",
                "Unrecognized snapshot line: leave now",
            ]
        );
        let nothing =
            Restored { length: restored.length, oddities: restored.oddities, ..Restored::default() };
        assert_eq!(Restored { oddities: nothing.oddities.clone(), ..Restored::parse(file, false) }, nothing);
    }

    #[test]
    fn what_cannot_be_meant_is_noted() {
        let long = format!("alive: {} 127.0.0.1:7946\n", "x".repeat(limits::NAME + 1));
        let rows = [
            ("alive: a 127.0.0.1\n", "Failed to parse address: alive: a 127.0.0.1"),
            ("alive: a 127.0.0.1:7946\r\n", "Failed to parse address: alive: a 127.0.0.1:7946\r"),
            ("alive:  127.0.0.1:7946\n", "Unrecognized snapshot line: alive:  127.0.0.1:7946"),
            ("not-alive: \n", "Unrecognized snapshot line: not-alive: "),
            ("alive:\n", "Unrecognized snapshot line: alive:"),
            ("clock: \n", "Failed to convert clock time: strconv.ParseUint: parsing \"\": invalid syntax"),
            (
                "clock: +5\n",
                "Failed to convert clock time: strconv.ParseUint: parsing \"+5\": invalid syntax",
            ),
            (
                "event-clock: 18446744073709551615\n",
                "ignoring the event time 18446744073709551615 of the snapshot: no cluster has counted so far",
            ),
        ];
        for (file, expected) in rows {
            let restored = Restored::parse(file.as_bytes(), false);
            assert_eq!(said(&restored), [expected]);
            assert!(restored.alive.is_empty() && restored.event_clock == 0);
        }
        let Note::SnapshotLineUnknown { line } = &Restored::parse(long.as_bytes(), false).oddities[0] else {
            panic!("a name longer than any was taken");
        };
        assert_eq!(line.len(), limits::ODDITY + 3);
    }

    #[test]
    fn a_leave_forgets_what_was_before_it() {
        let file =
            b"alive: a 127.0.0.1:7946\n# failed: b 127.0.0.2:7946\n# seed: c\nclock: 5\nevent-clock: 4\n\
            query-clock: 3\nleave\nclock: 6\nleave\nclock: 7\n";
        let after = Restored { clock: 7, length: file.len() as u64, ..Restored::default() };
        assert_eq!(Restored::parse(file, false), after);
        let all = Restored {
            alive: places(&[("a", "127.0.0.1:7946")]),
            failed: places(&[("b", "127.0.0.2:7946")]),
            seeds: vec!["c".into()],
            clock: 7,
            event_clock: 4,
            query_clock: 3,
            length: file.len() as u64,
            torn: false,
            oddities: vec![Note::SnapshotLeaveIgnored],
        };
        assert_eq!(Restored::parse(file, true), all);
        assert_eq!(Note::SnapshotLeaveIgnored.to_string(), "Ignoring previous leave in snapshot");
    }

    #[test]
    fn a_line_without_an_end_does_not_count() {
        let restored = Restored::parse(b"alive: a 127.0.0.8:7946\nalive: b 127.0.0.9:7946", false);
        assert_eq!(restored.alive, places(&[("a", "127.0.0.8:7946")]));
        assert!(restored.torn && restored.oddities.is_empty());
        assert_eq!(Restored::parse(b"", false), Restored::default());
        assert!(!Restored::parse(b"leave\n", false).torn);
    }

    #[test]
    fn a_million_odd_lines_are_a_few_notes() {
        let file = b"x\nleave\nalive: a b\n".repeat(1000);
        let notes = Restored::parse(&file, true).oddities;
        assert_eq!(notes.len(), 2 * limits::WARNINGS_ALIKE + 1 + 2);
        let more = Note::MoreAlike { name: "SnapshotLineUnknown", count: 1000 - limits::WARNINGS_ALIKE };
        assert!(notes.contains(&more));
    }

    #[test]
    fn members_and_seeds_are_bounded() {
        let mut file = Vec::new();
        for number in 0..=limits::NODES {
            Record::Alive(format!("n{number:06}").into(), addr("127.0.0.1:1")).write(&mut file);
        }
        Record::Failed("n000000".into(), addr("127.0.0.2:1")).write(&mut file);
        for number in 0..=limits::SEEDS {
            Record::Seed(format!("seed{number}").into()).write(&mut file);
        }
        Record::Seed("seed1".into()).write(&mut file);
        let restored = Restored::parse(&file, false);
        assert_eq!((restored.alive.len(), restored.failed.len()), (limits::NODES - 1, 1));
        let name = format!("n{:06}", limits::NODES).into();
        assert_eq!(restored.oddities, [Note::SnapshotMembersFull { name }]);
        assert_eq!((restored.seeds.len(), &restored.seeds[0]), (limits::SEEDS, &"seed1".into()));
    }

    #[test]
    fn names_are_written_as_the_reference_writes_them() {
        let mut lines = Vec::new();
        let names: [&[u8]; 4] = [b"n 1", b"back\\slash \xff", b"a\nb\\", b"\n"];
        for name in names {
            Record::Alive(name.into(), addr("127.0.0.1:7946")).write(&mut lines);
        }
        Record::NotAlive(b"a\nb\\"[..].into()).write(&mut lines);
        Record::Failed(b"back\\slash \xff"[..].into(), addr("[2001:db8::1]:7946")).write(&mut lines);
        let expected = b"alive: n 1 127.0.0.1:7946\nalive: back\\slash \xff 127.0.0.1:7946\n\
            # alive: a\\nb\\\\ 127.0.0.1:7946\n# alive: \\n 127.0.0.1:7946\n# not-alive: a\\nb\\\\\n\
            # failed: back\\\\slash \xff [2001:db8::1]:7946\n";
        assert_eq!(String::from_utf8_lossy(&lines), String::from_utf8_lossy(expected));
        let restored = Restored::parse(&lines, false);
        assert_eq!(restored.alive.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [&b"\n"[..], b"n 1"]);
        assert_eq!(&*restored.failed[0].0, names[1]);
    }

    fn any_name() -> impl Strategy<Value = Text> {
        prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\\'), Just(b' '), Just(b'n'), any::<u8>()],
            1..9,
        )
        .prop_map(Text::from)
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let addr = || (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
        prop_oneof![
            (any_name(), addr()).prop_map(|(name, addr)| Record::Alive(name, addr)),
            any_name().prop_map(Record::NotAlive),
            (any_name(), addr()).prop_map(|(name, addr)| Record::Failed(name, addr)),
            any_name().prop_map(Record::Seed),
            any::<u64>().prop_map(Record::Clock),
            any::<u64>().prop_map(Record::EventClock),
            any::<u64>().prop_map(Record::QueryClock),
            Just(Record::Leave),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in any_record()) {
            let mut line = Vec::new();
            record.write(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(Record::read(&line), Ok(Some(record)));
        }

        /// A file that was written anew says what all the lines said that it stands for.
        #[test]
        fn a_new_file_says_the_same(records in prop::collection::vec(any_record(), 0..30)) {
            let mut known = Known::default();
            for record in records {
                let _ = known.apply(record);
            }
            let mut file = Vec::new();
            known.write(&mut file);
            let restored = Restored::parse(&file, false);
            prop_assert!(restored.oddities.is_empty());
            prop_assert_eq!(Known::from(&restored), known);
        }

        #[test]
        fn any_bytes_are_a_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let restored = Restored::parse(&bytes, false);
            prop_assert_eq!(restored.length, bytes.len() as u64);
        }
    }
}
