//! Children: `/bin/sh -c`, with bytes for stdin and one pipe for stdout and stderr (agent.md 12.2).
//!
//! A thread per child starts it, waits for it, and puts [`Arrival::ChildExited`] into the inbox, exactly once.
//! The child has ended when its process has exited and its output is closed; a descendant that keeps the
//! output open is waited for only [`limits::CHILD_GRACE`], and read to the end without anybody
//! caring what it says. Children are not killed when the agent ends.
//!
//! Invariants: a child holds its place from its start until its output is closed and its input is taken or
//! closed, so the places bound processes, threads and pipes alike. A process group is told to end only while
//! the process that leads it is ours to wait for, because until then nobody else gets its number: the leader is
//! first waited for without being reaped, then crossed off [`Groups`], and only then reaped. A group that was told to
//! end has ended when nobody is left in it: its leader is mostly the shell, which obeys at once, while the script
//! still cleans up.

use crate::inbox::{Arrival, Sender};
use crate::limits;
use crate::notify;
use crate::orphans::Waited;
use crate::worker::thread_named;
use nix::errno::Errno;
use nix::sys::signal::{self, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use villein_agent::io::{CHILD_OUTPUT, ChildId, ChildStatus, Kill, Spawn};
use villein_rpc::system::os_words;

/// Starts children, up to [`limits::CHILDREN`] at once.
#[derive(Debug)]
pub struct Children {
    inbox: Sender,
    /// Each running child holds one more of it.
    places: Arc<()>,
    groups: Groups,
    waited: Waited,
}

impl Children {
    /// Their ends are put into `inbox`.
    pub fn new(inbox: Sender) -> Children {
        Children { inbox, places: Arc::new(()), groups: Groups::default(), waited: Waited::new() }
    }

    /// Starts a child; `Err` says why none is started, in which case nothing is put into the inbox.
    pub fn spawn(&self, id: ChildId, spawn: &Spawn) -> Result<(), String> {
        if Arc::strong_count(&self.places) > limits::CHILDREN {
            return Err("too many children are running, or hold the output of one that has ended".to_owned());
        }
        let (inbox, place, spawn) = (self.inbox.clone(), self.places.clone(), spawn.clone());
        let waited = self.waited.clone();
        let group = spawn.own_group.then(|| self.groups.expect(id));
        let started = thread_named("child").spawn(move || {
            let (status, output) = run(spawn, place, group, &waited);
            let Tail { bytes, total } = output;
            // The driver may have gone before its children, which is fine.
            let _ =
                inbox.put_blocking(Arrival::ChildExited { id, status, output: bytes, output_total: total });
        });
        started.map(drop).map_err(|error| os_words(&error))
    }

    /// Tells the process group of a child to end. A child that has ended, or has no group, is left alone.
    pub fn kill(&self, id: ChildId, how: Kill) {
        if let Some(group) = self.groups.lock().get_mut(&id) {
            group.told = Some(how);
            if let Some(leader) = group.leader {
                tell(leader, how);
            }
        }
    }
}

/// The process groups that can be told to end.
#[derive(Clone, Debug, Default)]
struct Groups(Arc<Mutex<BTreeMap<ChildId, Led>>>);

/// A process group.
#[derive(Clone, Copy, Debug, Default)]
struct Led {
    /// Who leads it: a process that was started and is not reaped.
    leader: Option<Pid>,
    /// The last word; perhaps before there was anybody to hear it.
    told: Option<Kill>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChildId, Led>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, id: ChildId) -> Group {
        self.lock().insert(id, Led::default());
        Group { id, groups: self.clone() }
    }
}

/// The group of a child that is not reaped; it can be told to end for as long as this exists.
#[derive(Debug)]
struct Group {
    id: ChildId,
    groups: Groups,
}

impl Group {
    fn is_led_by(&self, leader: Pid) {
        let mut groups = self.groups.lock();
        let group = groups.entry(self.id).or_default();
        group.leader = Some(leader);
        if let Some(how) = group.told {
            tell(leader, how);
        }
    }

    /// Waits until a group that was told to end has done so, or is made to. Its leader has exited.
    fn wait_for_others(&self, leader: Pid) {
        let is_asked =
            || self.groups.lock().get(&self.id).is_some_and(|led| led.told == Some(Kill::Politely));
        while is_asked() && is_anybody_in(leader) {
            thread::sleep(limits::GROUP_POLL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.lock().remove(&self.id);
    }
}

fn tell(leader: Pid, how: Kill) {
    let signal = match how {
        Kill::Politely => signal::SIGTERM,
        Kill::AtOnce => signal::SIGKILL,
    };
    // Whoever may not be told, because it has become somebody else, goes on.
    let _ = killpg(leader, signal);
}

/// Whether anybody runs in a process group whose leader has exited.
fn is_anybody_in(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.filter_map(Result::ok).any(|process| {
        fs::read_to_string(process.path().join("stat")).is_ok_and(|stat| is_alive_in(group, &stat))
    })
}

/// What `/proc/PID/stat` shows of a process: `PID (NAME) STATE PARENT GROUP ...`, with anything in the name.
fn is_alive_in(group: Pid, stat: &str) -> bool {
    let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let (state, pgrp) = (words.next(), words.nth(1));
    !matches!(state, Some("Z" | "X"))
        && pgrp.and_then(|pgrp| pgrp.parse().ok()).map(Pid::from_raw) == Some(group)
}

/// The last bytes of an output.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    total: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(CHILD_OUTPUT);
        self.bytes.drain(..excess);
    }
}

fn run(spawn: Spawn, place: Arc<()>, group: Option<Group>, waited: &Waited) -> (ChildStatus, Tail) {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (mut child, output_closed) = match start(spawn, place, &tail, waited) {
        Ok(started) => started,
        Err(error) => return (ChildStatus::NotStarted(os_words(&error)), Tail::default()),
    };
    let pid = Pid::from_raw(child.id().cast_signed());
    if let Some(group) = &group {
        group.is_led_by(pid);
    }
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    // The end of the output is the end of the channel; nothing ever comes through it.
    let _ = output_closed.recv_timeout(limits::CHILD_GRACE);
    if let Some(group) = group {
        group.wait_for_others(pid);
    }
    let status = waited.reap(&mut child);
    let output = std::mem::take(&mut *tail.lock().unwrap_or_else(PoisonError::into_inner));
    match status {
        Ok(status) => (end_of(status), output),
        Err(error) => (ChildStatus::NotStarted(os_words(&error)), output),
    }
}

/// Starts whoever talks with the child, then the child: it has all of its input and is heard, or never runs.
/// The receiver is told when its output is closed. The command does not outlive this function, and with it
/// our copies of the child's ends of the pipes.
fn start(
    spawn: Spawn,
    place: Arc<()>,
    tail: &Arc<Mutex<Tail>>,
    waited: &Waited,
) -> io::Result<(Child, Receiver<()>)> {
    let (stdin, to_child) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let feeder = feed(to_child, spawn.stdin)?;
    let (closed, output_closed) = channel::<()>();
    let gathered = tail.clone();
    thread_named("child output").spawn(move || {
        gather(output, &gathered);
        drop(closed);
        // A broken pipe is a child's word for input that it does not want, which is no failure (agent.md 20.5).
        let _ = feeder.map(JoinHandle::join);
        drop(place);
    })?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(OsStr::from_bytes(&spawn.command));
    if spawn.own_group {
        shell.process_group(0);
    }
    // What the service manager says to the agent is not meant for whom the agent starts.
    for name in notify::VARIABLES {
        shell.env_remove(name);
    }
    for name in &spawn.unset {
        shell.env_remove(OsStr::from_bytes(name));
    }
    shell.envs(spawn.env.iter().map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))));
    shell.stdin(stdin).stdout(stdout.try_clone()?).stderr(stdout);
    Ok((waited.start(&mut shell)?, output_closed))
}

/// Writes without holding up anybody: what fits into the empty pipe needs no thread to wait for it.
fn feed(mut pipe: PipeWriter, bytes: Arc<[u8]>) -> io::Result<Option<JoinHandle<io::Result<()>>>> {
    /// What Linux takes into an empty pipe always.
    const AT_ONCE: usize = 4096;
    if bytes.len() <= AT_ONCE {
        return pipe.write_all(&bytes).map(|()| None);
    }
    thread_named("child input").spawn(move || pipe.write_all(&bytes)).map(Some)
}

/// Reads to the end; what nobody takes is kept to the last bytes only.
fn gather(mut output: PipeReader, tail: &Mutex<Tail>) {
    let mut chunk = [0; CHILD_OUTPUT];
    loop {
        match output.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => tail.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn end_of(status: ExitStatus) -> ChildStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ChildStatus::Exited(code),
        (None, Some(signal)) => ChildStatus::Signaled(signal),
        (None, None) => unreachable!("a process that was waited for has exited or was killed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Folder;
    use crate::inbox::{Inbox, inbox};
    use crate::machine;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    fn shell(command: &str) -> Spawn {
        Spawn {
            command: command.into(),
            env: Vec::new(),
            unset: Vec::new(),
            stdin: Arc::default(),
            own_group: false,
        }
    }

    fn end(inbox: &mut Inbox) -> (ChildId, ChildStatus, String, u64) {
        let give_up = Instant::now() + Duration::from_mins(1);
        while Instant::now() < give_up {
            match inbox.take() {
                Some(Arrival::ChildExited { id, status, output, output_total }) => {
                    let output = String::from_utf8_lossy(&output).into_owned();
                    return (id, status, output, output_total);
                }
                Some(other) => panic!("not the end of a child: {other:?}"),
                None => thread::yield_now(),
            }
        }
        panic!("the child does not end");
    }

    fn result(spawn: &Spawn) -> (ChildStatus, String, u64) {
        let (sender, mut inbox) = inbox();
        Children::new(sender).spawn(ChildId(7), spawn).expect("there is room");
        let (id, status, output, total) = end(&mut inbox);
        assert_eq!((id, inbox.take()), (ChildId(7), None));
        (status, output, total)
    }

    #[test]
    fn the_end_of_a_child() {
        let cases = [
            ("", ChildStatus::Exited(0), ""),
            ("exit 3", ChildStatus::Exited(3), ""),
            ("kill -9 $$", ChildStatus::Signaled(9), ""),
            ("echo out; echo err >&2; echo again", ChildStatus::Exited(0), "out\nerr\nagain\n"),
        ];
        for (command, status, output) in cases {
            assert_eq!(
                result(&shell(command)),
                (status, output.to_owned(), output.len() as u64),
                "{command}"
            );
        }
        assert_eq!(result(&shell("/nonexistent/x 2>/dev/null")).0, ChildStatus::Exited(127));
        let status = result(&shell("a\0b")).0;
        assert!(matches!(status, ChildStatus::NotStarted(_)), "{status:?}");
    }

    #[test]
    fn environment_and_input() {
        let mut spawn = shell("echo \"$SERF_EVENT|${HOME-none}\"; cat; pwd >/dev/null");
        spawn.env = vec![(b"SERF_EVENT".to_vec(), b"user".to_vec())];
        spawn.unset = vec![b"HOME".to_vec()];
        spawn.stdin = b"payload\n".as_slice().into();
        assert_eq!(result(&spawn).1, "user|none\npayload\n");
    }

    #[test]
    fn input_that_nobody_reads_is_nothing() {
        let mut spawn = shell("exit 0");
        spawn.stdin = vec![b'x'; 1 << 20].into();
        assert_eq!(result(&spawn).0, ChildStatus::Exited(0));
        spawn.command = b"wc -c".to_vec();
        assert_eq!(result(&spawn).1.trim(), (1 << 20).to_string());
    }

    #[test]
    fn the_last_bytes_of_much_output_are_kept() {
        let (status, output, total) = result(&shell("head -c 100000 /dev/zero | tr '\\0' x; echo end"));
        assert_eq!((status, total), (ChildStatus::Exited(0), 100_004));
        assert_eq!(output.len(), CHILD_OUTPUT);
        assert!(output.ends_with("xxxend\n"));
    }

    #[test]
    fn a_descendant_with_the_output_in_its_hands_is_not_waited_for() {
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        children.spawn(ChildId(1), &shell("sleep 30 & echo $!")).expect("there is room");
        let (_, status, output, _) = end(&mut inbox);
        assert_eq!(status, ChildStatus::Exited(0));
        assert_eq!(Arc::strong_count(&children.places), 2, "the sleeper holds its place");
        result(&shell(&format!("kill {output}")));
        while Arc::strong_count(&children.places) > 1 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_descendant_that_keeps_much_input_to_itself_holds_its_place() {
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        let mut spawn = shell("exec 3<&0; sleep 30 <&3 >/dev/null 2>&1 & echo $!");
        spawn.stdin = vec![b'x'; 1 << 20].into();
        children.spawn(ChildId(1), &spawn).expect("there is room");
        let (_, status, output, _) = end(&mut inbox);
        assert_eq!(status, ChildStatus::Exited(0));
        assert_eq!(Arc::strong_count(&children.places), 2, "the sleeper holds its place");
        result(&shell(&format!("kill {output}")));
        while Arc::strong_count(&children.places) > 1 {
            thread::yield_now();
        }
    }

    #[test]
    fn places_are_bounded() {
        let (sender, mut inbox) = inbox();
        let mut children = Children::new(sender);
        let taken: Vec<Arc<()>> = (0..limits::CHILDREN).map(|_| children.places.clone()).collect();
        assert!(children.spawn(ChildId(1), &shell("")).is_err());
        assert_eq!(inbox.take(), None);
        drop(taken);
        children.places = Arc::new(());
        children.spawn(ChildId(2), &shell("")).expect("there is room again");
        assert_eq!(end(&mut inbox).1, ChildStatus::Exited(0));
    }

    /// Until there is something in the file.
    fn wait_for_file(path: &std::path::Path) {
        let give_up = Instant::now() + Duration::from_mins(1);
        while fs::metadata(path).map_or(0, |found| found.len()) == 0 {
            assert!(Instant::now() < give_up, "{} is not written", path.display());
            thread::yield_now();
        }
    }

    /// Until nobody holds the output of a child any more.
    fn wait_for_places(children: &Children) {
        let give_up = Instant::now() + Duration::from_mins(1);
        while Arc::strong_count(&children.places) > 1 {
            assert!(Instant::now() < give_up, "somebody lives and holds the output");
            thread::yield_now();
        }
    }

    #[test]
    fn a_killed_group_dies_with_its_descendants() {
        let folder = Folder::new();
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        for (number, how, signal) in [(1, Kill::Politely, 15), (2, Kill::AtOnce, 9)] {
            let ready = folder.at(&number.to_string());
            let command = format!("(sleep 1000; echo survived) & echo $! >{}; wait", ready.display());
            let spawn = Spawn { own_group: true, ..shell(&command) };
            children.spawn(ChildId(number), &spawn).expect("there is room");
            wait_for_file(&ready);
            children.kill(ChildId(number), how);
            let ended = end(&mut inbox);
            assert_eq!(ended, (ChildId(number), ChildStatus::Signaled(signal), String::new(), 0));
            wait_for_places(&children);
        }
        assert!(children.groups.lock().is_empty());
        children.kill(ChildId(1), Kill::AtOnce);
    }

    #[test]
    fn a_script_may_clean_up_after_its_shell_has_gone() {
        let folder = Folder::new();
        let (ready, cleaned) = (folder.at("ready"), folder.at("cleaned"));
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        let script = format!(
            "trap 'sleep 0.1; echo yes >{}; exit' TERM; echo yes >{}; while :; do sleep 0.01; done",
            cleaned.display(),
            ready.display()
        );
        for command in
            [format!("sh -c \"{script}\"; true"), format!("sh -c \"{script}\" >/dev/null 2>&1; true")]
        {
            children.spawn(ChildId(1), &Spawn { own_group: true, ..shell(&command) }).expect("there is room");
            wait_for_file(&ready);
            children.kill(ChildId(1), Kill::Politely);
            assert_eq!(end(&mut inbox).1, ChildStatus::Signaled(15));
            assert!(cleaned.exists(), "{command}");
            fs::remove_file(&ready).and_then(|()| fs::remove_file(&cleaned)).expect("they are ours");
        }
    }

    #[test]
    fn a_descendant_that_ignores_the_end_of_its_group_is_killed_after_the_child() {
        let folder = Folder::new();
        let ready = folder.at("ready");
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        let ready_shown = ready.display();
        for output in ["", ">/dev/null 2>&1"] {
            let command =
                format!("trap '' TERM; sleep 1000 {output} & trap - TERM; echo $! >{ready_shown}; wait");
            children.spawn(ChildId(1), &Spawn { own_group: true, ..shell(&command) }).expect("there is room");
            wait_for_file(&ready);
            children.kill(ChildId(1), Kill::Politely);
            let descendant: i32 =
                fs::read_to_string(&ready).expect("it is text").trim().parse().expect("a number");
            let leader = nix::unistd::getpgid(Some(Pid::from_raw(descendant))).expect("it is there");
            while waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
            children.kill(ChildId(1), Kill::AtOnce);
            assert_eq!(end(&mut inbox).1, ChildStatus::Signaled(15));
            wait_for_places(&children);
            let killed = Instant::now();
            while is_anybody_in(leader) {
                assert!(killed.elapsed() < Duration::from_mins(1), "{command}");
                thread::yield_now();
            }
            fs::remove_file(&ready).expect("it is ours");
        }
    }

    #[test]
    fn who_is_in_a_group_is_read_from_the_table_of_processes() {
        let group = Pid::from_raw(7);
        for (stat, is_alive) in [
            ("8 (sleep) S 1 7 7 0 -1 4194304", true),
            ("8 (a ) Z 9 9 (x) R 1 7 7", true),
            ("8 (sleep) Z 1 7 7", false),
            ("8 (sleep) S 7 8 7", false),
            ("8 (sleep)", false),
            ("", false),
        ] {
            assert_eq!(is_alive_in(group, stat), is_alive, "{stat}");
        }
        let own = nix::unistd::getpgrp();
        assert!(is_anybody_in(own));
    }

    #[test]
    fn a_child_can_be_killed_before_it_runs() {
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        let group = children.groups.expect(ChildId(1));
        children.kill(ChildId(1), Kill::AtOnce);
        let spawn = Spawn { own_group: true, ..shell("sleep 1000") };
        let (status, _) = run(spawn, children.places.clone(), Some(group), &children.waited);
        assert_eq!((status, inbox.take()), (ChildStatus::Signaled(9), None));
        assert!(children.groups.lock().is_empty());
    }

    #[test]
    fn a_child_without_a_group_is_left_alone() {
        let folder = Folder::new();
        let (ready, go) = (folder.at("ready"), folder.at("go"));
        let (sender, mut inbox) = inbox();
        let children = Children::new(sender);
        let command = format!(
            "echo $$ >{}; while [ ! -e {} ]; do sleep 0.01; done; exit 3",
            ready.display(),
            go.display()
        );
        children.spawn(ChildId(1), &shell(&command)).expect("there is room");
        wait_for_file(&ready);
        children.kill(ChildId(1), Kill::AtOnce);
        fs::write(go, "").expect("the directory can be written");
        assert_eq!(end(&mut inbox).1, ChildStatus::Exited(3));
    }

    #[test]
    fn a_group_is_that_of_the_child_only_if_wanted() {
        let group = "cut -d' ' -f5 /proc/$$/stat; echo $$";
        for own_group in [false, true] {
            let (status, output, _) = result(&Spawn { own_group, ..shell(group) });
            assert_eq!(status, ChildStatus::Exited(0), "{output}");
            let (pgid, pid) = output.trim().split_once('\n').expect("two lines");
            assert_eq!(pgid == pid, own_group, "{output}");
        }
    }

    #[test]
    fn a_child_has_nothing_open_that_it_was_not_given() {
        let (inherited, _writer) = io::pipe().expect("a pipe");
        // As those have it who were started with it.
        fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).expect("it is open");
        let name = fs::read_link(format!("/proc/self/fd/{}", inherited.as_raw_fd())).expect("it is open");
        machine::keep_descriptors();
        let (status, output, _) = result(&shell("ls -l /proc/self/fd"));
        assert_eq!(status, ChildStatus::Exited(0));
        assert!(!output.contains(&name.display().to_string()), "{output}");
        assert!(output.contains("pipe:"), "it has its output: {output}");
    }
}
