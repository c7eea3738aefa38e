//! The snapshot file on the disk: open, locked, appended to and replaced (agent.md 15, gossip.md 15).
//!
//! Decides who may use the file and what a failure leaves behind; what stands in it is the core's business. A
//! file that cannot be opened ends the start, except on a disk that is full or read-only: the agent begins with
//! what can be read then, and is told that nothing can be written. An append that fails leaves no half of a
//! line, a replacement that fails leaves the old file. The core answers a failure with a replacement later on,
//! so of the failures before it only the first is told, and of replacements every one.
//!
//! Invariant: as long as a snapshot is open, the file of its name is locked (flock) and nobody else's.

use crate::files::{Draft, Failure, destination, read_whole, said};
use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::worker::{Ending, Worker, thread_named};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use villein_agent::io::StoreOp;

/// The mode of a new file, which is that of Serf's agent.
const MODE: u32 = 0o644;

/// An open snapshot file that no other agent uses.
#[derive(Debug)]
pub struct Snapshot {
    /// As the operator calls it.
    shown: PathBuf,
    /// Where symbolic links lead from there.
    target: PathBuf,
    hold: Hold,
}

/// What an agent has of its snapshot file.
#[derive(Debug)]
enum Hold {
    /// It can be appended to.
    Fit(File),
    /// It has to be replaced first, for this reason. The file, if there is one, holds the lock.
    Unfit(Option<File>, String),
}

impl Snapshot {
    /// Opens or makes the file and reads all of it; or says why not, as in `open PATH: permission denied`.
    pub fn open(path: &Path) -> Result<(Snapshot, Vec<u8>), String> {
        Snapshot::open_by(path, |target| {
            OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(target)
        })
    }

    fn open_by(path: &Path, open: impl Fn(&Path) -> io::Result<File>) -> Result<(Snapshot, Vec<u8>), String> {
        let (target, _) = destination(path)?;
        let refused = |error: &io::Error| said("open", path, error);
        for _ in 0..limits::SNAPSHOT_ATTEMPTS {
            let (file, unfit) = match open(&target) {
                Ok(file) => (Some(file), None),
                Err(error) if is_the_disks(&error) => {
                    (readable(&target).map_err(|error| refused(&error))?, Some(refused(&error)))
                }
                Err(error) => return Err(refused(&error)),
            };
            let mut bytes = Vec::new();
            if let Some(file) = &file {
                lock(file, path)?;
                if !is_at(file, &target) {
                    // Whoever had it has replaced it before it was locked here.
                    continue;
                }
                bytes = read_whole(file, path, limits::SNAPSHOT)
                    .map_err(|why| format!("{why} (move the file away to start without it)"))?;
            }
            let hold = match (file, unfit) {
                (Some(file), None) => Hold::Fit(file),
                (file, unfit) => Hold::Unfit(file, unfit.unwrap_or_default()),
            };
            let snapshot = Snapshot { shown: path.to_owned(), target, hold };
            // What a crash may have left; usually there is nothing.
            let _ = fs::remove_file(compact(&snapshot.target));
            return Ok((snapshot, bytes));
        }
        Err(format!("open {}: somebody replaces it again and again", path.display()))
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), String> {
        self.append_by(|mut file| file.write_all(lines))
    }

    /// Adds what `write` writes, or nothing if that fails.
    fn append_by(&mut self, write: impl FnOnce(&File) -> io::Result<()>) -> Result<(), String> {
        let file = match &self.hold {
            Hold::Fit(file) => file,
            Hold::Unfit(_, why) => return Err(why.clone()),
        };
        let failed = |error: &io::Error| said("write", &self.shown, error);
        let before = file.metadata().map_err(|error| failed(&error))?.len();
        if !is_at(file, &self.target) {
            return Err(format!("write {}: the file has been moved or removed", self.shown.display()));
        }
        let Err(error) = write(file) else { return Ok(()) };
        let why = failed(&error);
        if file.set_len(before).is_err() {
            // Half a line may stand there now, and would spoil the next one.
            self.make_unfit(why.clone());
        }
        Err(why)
    }

    /// Gives the file these lines and no others.
    fn replace(&mut self, lines: &[u8]) -> Result<(), String> {
        let renamed = self.renamed(lines);
        self.take_over(renamed, lines)
    }

    fn take_over(&mut self, renamed: Result<File, Failure>, lines: &[u8]) -> Result<(), String> {
        match (renamed, &self.hold) {
            (Ok(file), _) => {
                self.hold = Hold::Fit(file);
                Ok(())
            }
            // Its directory takes no file, or it is mounted by itself: the file would grow without end.
            (Err(failure), Hold::Fit(file)) if failure.is_about_the_place() && is_at(file, &self.target) => {
                let result = overwrite(file, lines).map_err(|error| said("write", &self.shown, &error));
                if let Err(why) = &result {
                    self.make_unfit(why.clone());
                }
                result
            }
            (Err(failure), _) => Err(failure.said(&compact(&self.shown))),
        }
    }

    /// By way of a file beside it that takes its name.
    fn renamed(&self, lines: &[u8]) -> Result<File, Failure> {
        let mut draft = Draft::create(compact(&self.target), MODE)?;
        if let Ok(old) = fs::metadata(&self.target) {
            draft.resemble(&old)?;
        }
        draft.fill(lines)?;
        // Before others can see it. Nobody knows it yet; who cannot lock it could not lock the old one either.
        let _ = draft.file().try_lock();
        draft.put(&self.target)
    }

    fn sync(&self) -> Result<(), String> {
        match &self.hold {
            Hold::Fit(file) => file.sync_data().map_err(|error| said("sync", &self.shown, &error)),
            Hold::Unfit(_, why) => Err(why.clone()),
        }
    }

    fn make_unfit(&mut self, why: String) {
        self.hold = match std::mem::replace(&mut self.hold, Hold::Unfit(None, String::new())) {
            Hold::Fit(file) => Hold::Unfit(Some(file), why),
            Hold::Unfit(file, _) => Hold::Unfit(file, why),
        };
    }
}

/// Whether the disk is to blame, and may be better later, and not who has set up the agent.
fn is_the_disks(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), ReadOnlyFilesystem | StorageFull | QuotaExceeded)
}

fn readable(target: &Path) -> io::Result<Option<File>> {
    match File::open(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), String> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let path = path.display();
            Err(format!("open {path}: another agent uses this file (each needs a snapshot of its own)"))
        }
        // Some network file systems know no locks; what works for Serf's agent there works here too.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Whether `target` is still the name of `file`.
fn is_at(file: &File, target: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(target)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Where the next contents are prepared; Serf's agent uses the same name.
fn compact(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".compact");
    name.into()
}

fn overwrite(mut file: &File, lines: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(lines)?;
    file.sync_all()
}

/// Writes a snapshot on a thread.
#[derive(Debug)]
pub(crate) struct Writer {
    worker: Worker<Job>,
    /// Whether it was told that there is no room; said once until there is.
    crowded: bool,
}

#[derive(Debug)]
enum Job {
    Append(Vec<u8>),
    Replace(Vec<u8>),
    Sync,
}

impl Writer {
    /// Failures are put into `inbox`.
    pub(crate) fn start(snapshot: Snapshot, inbox: Sender) -> io::Result<Writer> {
        let worker = Worker::start(thread_named("snapshot"), limits::STORE_JOBS, move |jobs| {
            write_all(snapshot, &jobs, &inbox);
        })?;
        Ok(Writer { worker, crowded: false })
    }

    /// Does this after everything before; what is to be said at once, if there is no room for it.
    pub(crate) fn store(&mut self, op: StoreOp<'_>) -> Option<Arrival> {
        let job = match op {
            StoreOp::Append(lines) => Job::Append(lines.to_vec()),
            StoreOp::Replace(lines) => Job::Replace(lines.to_vec()),
            StoreOp::Sync => Job::Sync,
        };
        let refused = self.worker.give(job).err();
        let was_crowded = std::mem::replace(&mut self.crowded, refused.is_some());
        match refused {
            None => None,
            Some(Job::Append(_) | Job::Sync) if was_crowded => None,
            Some(_) => {
                Some(Arrival::StoreFailed("the disk is too slow for what is to be written".to_owned()))
            }
        }
    }

    /// Takes no more; what was taken is written.
    pub(crate) fn close(self) -> Ending {
        self.worker.close()
    }
}

fn write_all(mut snapshot: Snapshot, jobs: &Receiver<Job>, inbox: &Sender) {
    let tell = |why: String| {
        // The driver may have gone, and what it has given is written all the same.
        let _ = inbox.put_blocking(Arrival::StoreFailed(why));
    };
    let mut told = false;
    if let Hold::Unfit(_, why) = &snapshot.hold {
        told = true;
        tell(why.clone());
    }
    for job in jobs {
        let (result, is_whole) = match job {
            Job::Append(lines) => (snapshot.append(&lines), false),
            Job::Replace(lines) => (snapshot.replace(&lines), true),
            Job::Sync => (snapshot.sync(), false),
        };
        let failed = result.is_err();
        if let Err(why) = result
            && (is_whole || !told)
        {
            tell(why);
        }
        told = failed || (told && !is_whole);
    }
    // The last chance to say anything is over.
    let _ = snapshot.sync();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::{Folder, mode};
    use crate::inbox::{Inbox, inbox};
    use std::os::unix::fs::symlink;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Children of other tests hold the lock from their fork to their start.
    fn open(path: &Path) -> (Snapshot, Vec<u8>) {
        let give_up = Instant::now() + Duration::from_mins(1);
        loop {
            match Snapshot::open(path) {
                Err(why) if why.contains("another agent") && Instant::now() < give_up => thread::yield_now(),
                opened => return opened.expect("nobody else has it"),
            }
        }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("it is text")
    }

    /// As a disk without room gives it: it can be read, and not be written.
    fn without_room(path: &Path) -> Snapshot {
        let file = File::open(path).expect("it is there");
        Snapshot { shown: path.to_owned(), target: path.to_owned(), hold: Hold::Fit(file) }
    }

    /// What the writer puts until it has done all of this.
    fn written(snapshot: Snapshot, ops: &[StoreOp<'_>]) -> Vec<Arrival> {
        let (sender, mut inbox) = inbox();
        let mut writer = Writer::start(snapshot, sender).expect("a thread");
        for op in ops {
            assert_eq!(writer.store(*op), None);
        }
        writer.close().wait(Instant::now() + Duration::from_mins(1));
        arrivals(&mut inbox)
    }

    fn arrivals(inbox: &mut Inbox) -> Vec<Arrival> {
        std::iter::from_fn(|| inbox.take()).collect()
    }

    #[test]
    fn what_is_stored_is_there_in_its_order() {
        let folder = Folder::new();
        let path = folder.at("s");
        let (snapshot, bytes) = open(&path);
        assert_eq!(bytes, b"");
        let ops = [
            StoreOp::Append(b"a\n"),
            StoreOp::Replace(b"b\n"),
            StoreOp::Append(b"c\n"),
            StoreOp::Sync,
            StoreOp::Append(b"d\n"),
        ];
        assert_eq!(written(snapshot, &ops), []);
        assert_eq!(read(&path), "b\nc\nd\n");
        let (snapshot, bytes) = open(&path);
        assert_eq!(bytes, b"b\nc\nd\n");
        assert_eq!(written(snapshot, &[StoreOp::Append(b"e\n")]), []);
        assert_eq!((read(&path), folder.names()), ("b\nc\nd\ne\n".to_owned(), vec!["s".to_owned()]));
    }

    #[test]
    fn one_agent_has_it_before_and_after_a_replacement() {
        let folder = Folder::new();
        let path = folder.at("s");
        let refusal = format!("open {}: another agent uses this file", path.display());
        let (mut snapshot, _) = open(&path);
        for _ in 0..2 {
            let why = Snapshot::open(&path).expect_err("it is locked");
            assert!(why.starts_with(&refusal), "{why}");
            snapshot.replace(b"a\n").expect("there is room");
        }
        drop(snapshot);
        assert_eq!(open(&path).1, b"a\n");
    }

    #[test]
    fn a_file_that_was_replaced_before_it_was_locked_is_opened_again() {
        let folder = Folder::new();
        let path = folder.with("s", "old\n");
        let replaced = std::cell::Cell::new(false);
        let (snapshot, bytes) = Snapshot::open_by(&path, |target| {
            let file = OpenOptions::new().read(true).append(true).open(target)?;
            if !replaced.replace(true) {
                fs::rename(folder.with("new", "new\n"), target)?;
            }
            Ok(file)
        })
        .expect("nobody has it");
        assert_eq!(bytes, b"new\n");
        assert!(matches!(&snapshot.hold, Hold::Fit(file) if is_at(file, &path)));
    }

    #[test]
    fn a_replacement_keeps_the_mode_and_the_links() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new();
        let (real, link) = (folder.at("real"), folder.at("link"));
        symlink("real", &link).expect("a link can be made");
        let (mut snapshot, _) = open(&link);
        let umask = 0o644 & !mode(&real);
        assert_eq!(mode(&real) | umask, MODE);
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("it is ours");
        // As a crash in the middle of a replacement leaves it.
        folder.with("real.compact", "half of a l");
        snapshot.replace(b"a\n").expect("there is room");
        assert_eq!((read(&real), mode(&real), link.is_symlink()), ("a\n".to_owned(), 0o640, true));
        drop(snapshot);
        folder.with("real.compact", "half of a l");
        open(&link);
        assert_eq!(folder.names(), ["link", "real"]);
    }

    #[test]
    fn what_cannot_be_opened_ends_the_start() {
        let folder = Folder::new();
        for (name, why) in [("nodir/s", "no such file or directory"), ("", "is a directory")] {
            let path = folder.at(name);
            let error = Snapshot::open(&path).expect_err("it cannot be opened");
            assert_eq!(error, format!("open {}: {why}", path.display()));
        }
        let why = Snapshot::open(Path::new("/dev/null")).expect_err("it is no file");
        assert_eq!(why, "open /dev/null: not a regular file");
        let path = folder.at("huge");
        File::create(&path)
            .and_then(|file| file.set_len(limits::SNAPSHOT as u64 + 1))
            .expect("a file of holes");
        let why = Snapshot::open(&path).expect_err("it is too large");
        assert!(why.contains("huge: larger than 104857600 bytes (move the file away"), "{why}");
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_told_and_waited_for() {
        let folder = Folder::new();
        let path = folder.with("s", "a\n");
        for errno in [30, 28] {
            let refused = |_: &Path| Err(io::Error::from_raw_os_error(errno));
            let (snapshot, bytes) = Snapshot::open_by(&path, refused).expect("it can be read");
            assert_eq!(bytes, b"a\n");
            assert!(Snapshot::open(&path).is_err(), "it is locked all the same");
            let why = os_words_of(&path, errno);
            assert_eq!(
                written(snapshot, &[StoreOp::Append(b"x\n"), StoreOp::Sync]),
                [Arrival::StoreFailed(why)]
            );
            let absent = folder.at("absent");
            let (snapshot, bytes) = Snapshot::open_by(&absent, refused).expect("there is nothing to read");
            assert_eq!(bytes, b"");
            let why = os_words_of(&absent, errno);
            let ops = [StoreOp::Append(b"x\n"), StoreOp::Replace(b"b\n"), StoreOp::Append(b"c\n")];
            assert_eq!(written(snapshot, &ops), [Arrival::StoreFailed(why)]);
            assert_eq!(read(&absent), "b\nc\n", "the disk can be written again");
            fs::remove_file(&absent).expect("it is there");
        }
        let denied = Snapshot::open_by(&path, |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(
            denied.expect_err("the operator's fault"),
            format!("open {}: permission denied", path.display())
        );
    }

    fn os_words_of(path: &Path, errno: i32) -> String {
        said("open", path, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn of_failures_in_a_row_the_first_is_told_and_every_failed_replacement() {
        let folder = Folder::new();
        let path = folder.with("s", "a\n");
        let failed = Arrival::StoreFailed(format!("write {}: bad file descriptor", path.display()));
        let lost = [StoreOp::Append(b"b\n"), StoreOp::Append(b"c\n"), StoreOp::Sync];
        assert_eq!(written(without_room(&path), &lost), [failed]);
        assert_eq!(read(&path), "a\n");
        fs::create_dir_all(folder.at("s.compact/x")).expect("it is in the way");
        let in_the_way = || Arrival::StoreFailed(format!("open {}.compact: file exists", path.display()));
        let ops = [StoreOp::Replace(b"b\n"), StoreOp::Append(b"c\n"), StoreOp::Replace(b"d\n")];
        assert_eq!(written(open(&path).0, &ops), [in_the_way(), in_the_way()]);
        assert_eq!(read(&path), "a\nc\n");
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_told_and_made_again() {
        let folder = Folder::new();
        let (path, aside) = (folder.at("s"), folder.at("aside"));
        for is_moved in [false, true] {
            let (snapshot, _) = open(&path);
            fs::rename(&path, &aside).expect("it is there");
            if !is_moved {
                fs::remove_file(&aside).expect("it is there");
            }
            let why = format!("write {}: the file has been moved or removed", path.display());
            let ops = [StoreOp::Append(b"a\n"), StoreOp::Replace(b"b\n"), StoreOp::Append(b"c\n")];
            assert_eq!(written(snapshot, &ops), [Arrival::StoreFailed(why)]);
            assert_eq!(read(&path), "b\nc\n");
        }
        assert_eq!(read(&aside), "b\nc\n", "whoever moved it has it as it was");
    }

    #[test]
    fn an_append_is_whole_or_nothing() {
        let folder = Folder::new();
        let path = folder.at("s");
        let (mut snapshot, _) = open(&path);
        snapshot.append(b"a\n").expect("there is room");
        let half = snapshot.append_by(|mut file| {
            file.write_all(b"alive: hal")?;
            Err(io::Error::from_raw_os_error(28))
        });
        assert_eq!(half, Err(format!("write {}: no space left on device", path.display())));
        snapshot.append(b"b\n").expect("there is room");
        assert_eq!(read(&path), "a\nb\n");
    }

    #[test]
    fn a_queue_without_room_is_told_once_and_for_every_replacement() {
        let (sender, _inbox) = inbox();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let worker = Worker::start(thread_named("test"), 1, move |jobs| {
            wait.recv().expect("it is told");
            drop(jobs);
        });
        drop(sender);
        let mut writer = Writer { worker: worker.expect("a thread"), crowded: false };
        let told: Vec<bool> = [
            StoreOp::Append(b"a\n"),
            StoreOp::Append(b"b\n"),
            StoreOp::Append(b"c\n"),
            StoreOp::Sync,
            StoreOp::Replace(b"d\n"),
        ]
        .map(|op| writer.store(op).is_some())
        .into();
        assert_eq!(told, [false, true, false, false, true]);
        go.send(()).expect("it waits");
    }

    #[test]
    fn a_file_is_overwritten_where_no_other_can_be_made() {
        let folder = Folder::new();
        let path = folder.with("s", "a longer text\n");
        let (mut snapshot, _) = open(&path);
        let failure = |errno| Err(Failure::of("open")(io::Error::from_raw_os_error(errno)));
        let full = format!("open {}.compact: no space left on device", path.display());
        assert_eq!(snapshot.take_over(failure(28), b"b\n"), Err(full));
        assert_eq!(read(&path), "a longer text\n");
        assert_eq!(snapshot.take_over(failure(13), b"b\n"), Ok(()));
        snapshot.append(b"c\n").expect("there is room");
        assert_eq!(read(&path), "b\nc\n");
    }
}
