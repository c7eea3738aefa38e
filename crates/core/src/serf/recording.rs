//! What is written to the snapshot file, and when (gossip.md 15.2 to 15.4).
//!
//! Lines are gathered for half a second and appended together; the file is written anew when most of it says
//! nothing any more, when it began damaged, and after a failure. Which lines there are and what they mean is
//! decided in [`snapshot`](crate::snapshot). The invariant: with the lines that wait, the file says what `known`
//! says, or is about to be written anew; and whatever waits has a deadline, so that an idle node does not wake.

use super::{Due, Serf};
use crate::config::Config;
use crate::cx::Cx;
use crate::io::{Outbox, StoreOp};
use crate::limits;
use crate::member::{Member, MemberEventKind};
use crate::note::Note;
use crate::snapshot::{Known, Record, Restored};
use crate::swim::Swim;
use crate::text::Text;
use crate::time::{Duration, Instant};
use std::collections::BTreeSet;

/// How long lines are gathered. The reference takes as long, but forgets to write the last ones.
const FLUSH_DELAY: Duration = Duration::from_millis(500);

/// From one sync to the next. A crash of the agent loses nothing that was written, only a loss of power does; a
/// disk that turns bears a sync in five seconds, and losing as much costs events delivered twice.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How long a node of the file is kept that nobody has seen since the start, while others are there. Who went while
/// this node was down is never heard of again, and with time the file would name nobody else.
const UNSEEN_TIMEOUT: Duration = Duration::from_mins(10);

/// From one attempt to write the file anew to the next after a failure, and between two complaints (gossip.md 15.2).
const RECOVERY_INTERVAL: Duration = Duration::from_secs(30);

/// The snapshot file as this node knows it.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    /// Whether there is a file.
    on: bool,
    rejoin_after_leave: bool,
    /// A leave has begun: nothing but the member clock is recorded.
    left: bool,
    known: Known,
    /// Whom the file named at the start and nobody has seen since.
    unseen: BTreeSet<Text>,
    /// The clocks as they are; `known` has them as they were written.
    clock: u64,
    event_clock: u64,
    query_clock: u64,
    /// Lines that wait.
    pending: Vec<u8>,
    /// Bytes of the file, and how many they were when it was last written anew.
    length: u64,
    least_length: u64,
    /// The file cannot be appended to.
    rewrite: bool,
    flush_at: Option<Instant>,
    sync_at: Option<Instant>,
    synced: Option<Instant>,
    rewritten: Option<Instant>,
    complained: Option<Instant>,
}

impl Recording {
    pub(super) fn new(config: &Config, restored: &Restored, now: Instant) -> Recording {
        let known = Known::from(restored);
        let unseen = if config.snapshot { known.members().cloned().collect() } else { BTreeSet::new() };
        let mut recording = Recording {
            on: config.snapshot,
            rejoin_after_leave: config.rejoin_after_leave,
            left: false,
            clock: known.clock,
            event_clock: known.event_clock,
            query_clock: known.query_clock,
            known,
            unseen,
            pending: Vec::new(),
            length: restored.length,
            least_length: 0,
            rewrite: false,
            flush_at: None,
            sync_at: None,
            synced: None,
            rewritten: None,
            complained: None,
        };
        if recording.on && (restored.torn || recording.is_too_long()) {
            recording.rewrite = true;
            recording.flush_at = Some(now);
        }
        recording
    }

    /// When something is to be written.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.flush_at, self.sync_at].into_iter().flatten().min()
    }

    /// Writes what is due.
    pub(super) fn on_tick(&mut self, now: Instant, out: &mut Outbox) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(now, out);
        }
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync(now, out);
        }
    }

    /// Something happened to a member.
    pub(super) fn on_member(&mut self, kind: MemberEventKind, member: &Member, cx: &mut Cx<'_>) {
        let (name, addr) = (member.name.clone(), member.socket_addr());
        self.unseen.remove(&name);
        if kind == MemberEventKind::Join {
            return self.record(Record::Alive(name, addr), cx);
        }
        if kind != MemberEventKind::Update && self.known.has_member(&name) {
            self.record(Record::NotAlive(name.clone()), cx);
        }
        if kind == MemberEventKind::Failed {
            self.record(Record::Failed(name, addr), cx);
        }
    }

    /// A user event of this time is delivered.
    pub(super) fn on_event(&mut self, ltime: u64, now: Instant) {
        if self.on && !self.left && ltime > self.event_clock {
            self.event_clock = ltime;
            self.await_flush(now);
        }
    }

    /// A query of this time, perhaps an internal one, is this node's to answer.
    pub(super) fn on_query(&mut self, ltime: u64, now: Instant) {
        if self.on && !self.left && ltime > self.query_clock {
            self.query_clock = ltime;
            self.await_flush(now);
        }
    }

    /// The member clock shows `time`, the one after the last time seen.
    pub(super) fn on_member_time(&mut self, time: u64, now: Instant) {
        if self.on && time > self.clock.saturating_add(1) {
            self.clock = time - 1;
            self.await_flush(now);
        }
    }

    /// These texts were joined.
    pub(super) fn on_seeds(&mut self, seeds: Vec<Text>, cx: &mut Cx<'_>) {
        for seed in seeds {
            if !self.known.has_seed(&seed) {
                self.record(Record::Seed(seed), cx);
            }
        }
    }

    /// This node leaves. From now on the file is that of a node that does not know the cluster any more, unless
    /// it is to come back.
    pub(super) fn on_leave(&mut self, now: Instant, out: &mut Outbox) {
        if !self.on || self.left {
            return;
        }
        if self.rewrite {
            // The disk may have room for one line even if it has none for a new file.
            self.pending.push(b'\n');
        } else {
            self.flush(now, out);
        }
        self.left = true;
        Record::Leave.write(&mut self.pending);
        if !self.rejoin_after_leave {
            self.known.apply(Record::Leave).expect("a leave is always possible");
            (self.event_clock, self.query_clock) = (0, 0);
        }
        self.append(now, out);
        self.sync(now, out);
    }

    /// Nothing more will happen.
    pub(super) fn on_stop(&mut self, now: Instant, out: &mut Outbox) {
        self.flush(now, out);
        if self.sync_at.is_some() {
            self.sync(now, out);
        }
    }

    /// Something was not written. What waits, and what was written to no avail, is in `known`.
    pub(super) fn on_failed(&mut self, why: &str, cx: &mut Cx<'_>) {
        if self.complained.is_none_or(|at| cx.now.since(at) >= RECOVERY_INTERVAL) {
            self.complained = Some(cx.now);
            cx.note(Note::SnapshotFailed { why: why.to_owned() });
        }
        if self.on {
            self.pending.clear();
            self.sync_at = None;
            self.rewrite = true;
            self.flush_at = Some(self.rewritten.map_or(cx.now, |at| at + RECOVERY_INTERVAL));
        }
    }

    fn record(&mut self, record: Record, cx: &mut Cx<'_>) {
        if !self.on || self.left {
            return;
        }
        let gathered = self.pending.len();
        if !self.rewrite {
            record.write(&mut self.pending);
        }
        if let Err(note) = self.known.apply(record) {
            self.pending.truncate(gathered);
            return cx.note(note);
        }
        if self.pending.len() > limits::SNAPSHOT_PENDING {
            self.flush_at = Some(cx.now);
        }
        self.await_flush(cx.now);
    }

    fn await_flush(&mut self, now: Instant) {
        self.flush_at.get_or_insert(now + FLUSH_DELAY);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox) {
        self.flush_at = None;
        self.write_clocks();
        if self.rewrite || self.is_too_long() {
            self.replace(now, out);
        } else if !self.pending.is_empty() {
            self.append(now, out);
        }
    }

    /// Gathers the clocks that have moved.
    fn write_clocks(&mut self) {
        let (known, lines) = (&mut self.known, &mut self.pending);
        let mut catch_up = |written: &mut u64, time: u64, record: fn(u64) -> Record| {
            if time > *written {
                record(time).write(lines);
                *written = time;
            }
        };
        catch_up(&mut known.clock, self.clock, Record::Clock);
        catch_up(&mut known.event_clock, self.event_clock, Record::EventClock);
        catch_up(&mut known.query_clock, self.query_clock, Record::QueryClock);
    }

    fn append(&mut self, now: Instant, out: &mut Outbox) {
        out.store(StoreOp::Append(&self.pending));
        self.length += self.pending.len() as u64;
        self.pending.clear();
        self.sync_at.get_or_insert(self.synced.map_or(now, |at| at + SYNC_INTERVAL));
    }

    fn sync(&mut self, now: Instant, out: &mut Outbox) {
        out.store(StoreOp::Sync);
        self.synced = Some(now);
        self.sync_at = None;
    }

    /// Writes the file anew. It has no `leave`, as the reference's; a node that is not to come back has nobody in
    /// it.
    fn replace(&mut self, now: Instant, out: &mut Outbox) {
        self.pending.clear();
        self.known.write(&mut self.pending);
        out.store(StoreOp::Replace(&self.pending));
        self.length = self.pending.len() as u64;
        self.least_length = self.length;
        self.pending.clear();
        self.rewrite = false;
        self.rewritten = Some(now);
        self.synced = Some(now);
        self.sync_at = None;
    }

    /// Whether most of the file says nothing any more. One that is long because there is much to say is not
    /// written again for each new line.
    fn is_too_long(&self) -> bool {
        let length = self.length.saturating_add(self.pending.len() as u64);
        length > limits::SNAPSHOT.max(self.least_length.saturating_mul(2))
            && length > self.known.alive() as u64 * limits::SNAPSHOT_PER_MEMBER
    }
}

impl Serf {
    /// Sees to it that the file forgets whom nobody sees any more.
    pub(super) fn await_unseen(&mut self, now: Instant) {
        if !self.recording.unseen.is_empty() {
            self.timers.set(Due::Unseen, now + UNSEEN_TIMEOUT);
        }
    }

    /// Forgets whom nobody has seen since the start; a node that is alone still looks for them.
    pub(super) fn forget_unseen(&mut self, swim: &Swim, cx: &mut Cx<'_>) {
        if !swim.others_live() {
            return self.await_unseen(cx.now);
        }
        for name in std::mem::take(&mut self.recording.unseen) {
            self.recording.record(Record::NotAlive(name), cx);
        }
    }

    /// The snapshot could not be written.
    pub(crate) fn on_store_failed(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.recording.on_failed(why, cx);
    }
}
