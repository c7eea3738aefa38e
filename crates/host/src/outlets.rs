//! Where an agent's bytes go besides the network and standard output: files, sinks, standard error.
//!
//! Each has a thread with a bounded queue; those that not every agent needs are started when they are first
//! used. What finds no room is answered at once, as a failure.
//!
//! Invariant: nothing here makes the driver wait; what takes time is done by threads, in order.

use crate::console::Console;
use crate::files;
use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::notify;
use crate::sinks::{Feed, Sinks, Target};
use crate::snapshot::{Snapshot, Writer};
use crate::worker::{Ending, Worker, thread_named};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;
use villein_agent::io::{SaveId, ServiceState, Sink, StoreOp};
use villein_core::text::Secret;
use villein_rpc::system::os_words;

/// All of them.
#[derive(Debug)]
pub struct Outlets {
    inbox: Sender,
    snapshot: Option<Writer>,
    /// Who saves does not wait for who reads: a pipe is read when somebody writes to it, which may be never.
    saves: Option<Worker<FileJob>>,
    reads: Option<Worker<FileJob>>,
    sinks: Sinks,
    feeds: BTreeMap<Sink, Feed>,
    errors: Option<Console>,
}

#[derive(Debug)]
enum FileJob {
    Save(SaveId, PathBuf, Secret),
    ReadConfig(Vec<PathBuf>),
}

impl FileJob {
    fn run(self) -> Arrival {
        match self {
            FileJob::Save(id, path, bytes) => {
                Arrival::Saved { id, result: files::save(&path, bytes.reveal()) }
            }
            FileJob::ReadConfig(paths) => Arrival::ConfigRead(files::read_config(&paths)),
        }
    }

    /// The answer if it is not run.
    fn refuse(self, why: &str) -> Arrival {
        match self {
            FileJob::Save(id, path, _) => {
                Arrival::Saved { id, result: Err(format!("open {}: {why}", path.display())) }
            }
            FileJob::ReadConfig(_) => Arrival::ConfigRead(Err(format!("Error reading configuration: {why}"))),
        }
    }
}

impl Outlets {
    /// Answers are put into `inbox`.
    pub fn new(snapshot: Option<Snapshot>, sinks: Sinks, inbox: Sender) -> io::Result<Outlets> {
        let snapshot = snapshot.map(|snapshot| Writer::start(snapshot, inbox.clone())).transpose()?;
        let feeds = BTreeMap::new();
        Ok(Outlets { inbox, snapshot, saves: None, reads: None, sinks, feeds, errors: None })
    }

    /// Replaces a file. The answer comes later, or at once if there is none later.
    pub fn save(&mut self, id: SaveId, path: &Path, bytes: &[u8]) -> Option<Arrival> {
        let job = FileJob::Save(id, path.to_owned(), Secret::from(bytes.to_vec()));
        give(&mut self.saves, job, &self.inbox)
    }

    /// Reads configuration files. The answer comes later, or at once if there is none later.
    pub fn read_config(&mut self, paths: &[PathBuf]) -> Option<Arrival> {
        give(&mut self.reads, FileJob::ReadConfig(paths.to_vec()), &self.inbox)
    }

    /// Does something with the snapshot file. A failure comes later, or at once.
    pub fn store(&mut self, op: StoreOp<'_>) -> Option<Arrival> {
        self.snapshot.as_mut().and_then(|snapshot| snapshot.store(op))
    }

    /// Gives bytes to a sink, if it is wanted. A failure comes later, or at once.
    pub fn report(&mut self, sink: Sink, bytes: &[u8]) -> Option<Arrival> {
        if !self.feeds.contains_key(&sink) {
            let target = Target::of(sink, &self.sinks)?;
            match Feed::start(sink, target, self.inbox.clone()) {
                Ok(feed) => {
                    self.feeds.insert(sink, feed);
                }
                Err(error) => return Some(Arrival::SinkFailed { sink, why: os_words(&error) }),
            }
        }
        self.feeds.get(&sink)?.give(bytes);
        None
    }

    /// Tells the service manager, if there is one. A failure comes later, or at once.
    pub fn notify(&mut self, states: &[ServiceState]) -> Option<Arrival> {
        self.report(Sink::ServiceManager, notify::text(states).as_bytes())
    }

    /// Writes to standard error.
    pub fn print_error(&mut self, bytes: &[u8]) {
        // Without a thread there is nobody to tell, and the agent goes on.
        if let Ok(errors) = started(&mut self.errors, || Console::unheard(io::stderr())) {
            errors.print(bytes);
        }
    }

    /// Takes no more, and waits until everything is where it belongs: on the disk, for which
    /// [`limits::EXIT_STORE`] at most, and with others, for [`limits::EXIT_LINGER`].
    pub fn finish(&mut self) {
        let now = Instant::now();
        let feeds = std::mem::take(&mut self.feeds);
        let on_disk = [self.snapshot.take().map(Writer::close), self.saves.take().map(Worker::close)];
        let with_others: Vec<Ending> = (self.errors.take().and_then(|mut errors| errors.close()).into_iter())
            .chain(feeds.into_values().map(Feed::close))
            .collect();
        for ending in on_disk.into_iter().flatten() {
            ending.wait(now + limits::EXIT_STORE);
        }
        for ending in with_others {
            ending.wait(now + limits::EXIT_LINGER);
        }
    }
}

/// Has a job done by the thread that is there for it; its answer if it is not done.
fn give(place: &mut Option<Worker<FileJob>>, job: FileJob, inbox: &Sender) -> Option<Arrival> {
    let worker = started(place, || {
        let inbox = inbox.clone();
        Worker::start(thread_named("files"), limits::FILE_JOBS, move |jobs| {
            for job in jobs {
                // The driver may have gone, and a file is saved all the same.
                let _ = inbox.put_blocking(FileJob::run(job));
            }
        })
    });
    let (job, why) = match worker {
        Ok(worker) => (worker.give(job).err()?, "too many files wait to be read or written".to_owned()),
        Err(error) => (job, os_words(&error)),
    };
    Some(job.refuse(&why))
}

/// What is there, or is started now.
fn started<T>(place: &mut Option<T>, start: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    match place {
        Some(there) => Ok(there),
        None => Ok(place.insert(start()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Folder;
    use crate::inbox::{Inbox, inbox};
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::fs;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::Duration;
    use villein_agent::io::ConfigFile;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn outlets(snapshot: Option<Snapshot>, sinks: Sinks) -> (Outlets, Inbox) {
        let (sender, inbox) = inbox();
        (Outlets::new(snapshot, sinks, sender).expect("threads"), inbox)
    }

    fn next(inbox: &mut Inbox) -> Arrival {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match inbox.take() {
                Some(arrival) => return arrival,
                None => assert!(Instant::now() < give_up, "nothing arrives"),
            }
            thread::yield_now();
        }
    }

    #[test]
    fn files_are_saved_and_read_in_the_order_of_the_wishes() {
        let folder = Folder::new();
        let (path, bad) = (folder.at("c.json"), folder.at("nodir/c.json"));
        let (mut outlets, mut inbox) = outlets(None, Sinks::default());
        assert_eq!(outlets.save(SaveId(1), &path, b"{}"), None);
        assert_eq!(outlets.save(SaveId(2), &bad, b"{}"), None);
        assert_eq!(next(&mut inbox), Arrival::Saved { id: SaveId(1), result: Ok(()) });
        let why = format!("open {}: no such file or directory", bad.display());
        assert_eq!(next(&mut inbox), Arrival::Saved { id: SaveId(2), result: Err(why.clone()) });
        assert_eq!(outlets.read_config(std::slice::from_ref(&folder.0)), None);
        assert_eq!(outlets.read_config(std::slice::from_ref(&bad)), None);
        let file = ConfigFile { path: path.display().to_string(), bytes: b"{}".to_vec() };
        assert_eq!(next(&mut inbox), Arrival::ConfigRead(Ok(vec![file])));
        let why = format!("Error reading '{}': {why}", bad.display());
        assert_eq!(next(&mut inbox), Arrival::ConfigRead(Err(why)));
    }

    #[test]
    fn a_configuration_that_nobody_writes_holds_up_nothing_else() {
        let folder = Folder::new();
        let (pipe, path) = (folder.at("pipe"), folder.at("tags"));
        mkfifo(&pipe, Mode::S_IRWXU).expect("the directory can be written");
        let (mut outlets, mut inbox) = outlets(None, Sinks::default());
        assert_eq!(outlets.read_config(std::slice::from_ref(&pipe)), None);
        assert_eq!(outlets.save(SaveId(1), &path, b"{}"), None);
        assert_eq!(next(&mut inbox), Arrival::Saved { id: SaveId(1), result: Ok(()) });
        fs::write(&pipe, "{}").expect("it is read");
        let file = ConfigFile { path: pipe.display().to_string(), bytes: b"{}".to_vec() };
        assert_eq!(next(&mut inbox), Arrival::ConfigRead(Ok(vec![file])));
    }

    #[test]
    fn what_finds_no_room_is_answered_at_once() {
        let (mut outlets, mut inbox) = outlets(None, Sinks::default());
        outlets.saves = Some(full());
        outlets.reads = Some(full());
        let why = "open t: too many files wait to be read or written".to_owned();
        let saved = Arrival::Saved { id: SaveId(1), result: Err(why) };
        assert_eq!(outlets.save(SaveId(1), Path::new("t"), b""), Some(saved));
        let why = "Error reading configuration: too many files wait to be read or written".to_owned();
        assert_eq!(outlets.read_config(&[]), Some(Arrival::ConfigRead(Err(why))));
        assert_eq!(inbox.take(), None);
    }

    /// A worker that takes no job.
    fn full() -> Worker<FileJob> {
        Worker::start(thread_named("test"), 0, drop).expect("a thread")
    }

    #[test]
    fn everything_is_where_it_belongs_at_the_end() {
        let folder = Folder::new();
        let (snapshot, _) = Snapshot::open(&folder.at("s")).expect("nobody else has it");
        let server = UdpSocket::bind("127.42.3.1:0").expect("the loopback is there");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
        let statsd = server.local_addr().expect("it is bound").to_string();
        let (mut outlets, mut inbox) =
            outlets(Some(snapshot), Sinks { statsd: Some(statsd), ..Sinks::default() });
        for number in 0..100 {
            assert_eq!(outlets.store(StoreOp::Append(format!("{number}\n").as_bytes())), None);
        }
        for id in 0..10 {
            assert_eq!(outlets.save(SaveId(id), &folder.at(&id.to_string()), b"x"), None);
        }
        assert_eq!(outlets.report(Sink::Statsd, b"a:1|c\n"), None);
        assert_eq!(outlets.report(Sink::Statsite, b"a:1|c\n"), None, "nobody wants it");
        outlets.finish();
        let lines = fs::read_to_string(folder.at("s")).expect("it is text");
        assert_eq!(lines.lines().count(), 100);
        assert!((0..10).all(|id| folder.at(&id.to_string()).exists()));
        let mut buffer = [0; 100];
        assert_eq!(server.recv(&mut buffer).map(|length| &buffer[..length]).ok(), Some(&b"a:1|c\n"[..]));
        let saved = std::iter::from_fn(|| inbox.take());
        assert!(saved.eq((0..10).map(|id| Arrival::Saved { id: SaveId(id), result: Ok(()) })));
        assert_eq!(outlets.store(StoreOp::Sync), None, "it is over");
    }

    #[test]
    fn an_agent_that_wants_nothing_has_no_threads_for_it() {
        let (mut outlets, mut inbox) = outlets(None, Sinks::default());
        assert_eq!(outlets.store(StoreOp::Append(b"x\n")), None);
        assert_eq!(outlets.report(Sink::Statsd, b"x"), None);
        assert!(outlets.snapshot.is_none() && outlets.errors.is_none());
        assert!(outlets.saves.is_none() && outlets.reads.is_none());
        assert!(outlets.feeds.is_empty());
        outlets.finish();
        assert_eq!(inbox.take(), None);
    }
}
