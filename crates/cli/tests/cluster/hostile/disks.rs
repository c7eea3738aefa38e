//! Disks that are full, read-only or somebody else's: an agent says what it cannot keep and goes on, and what it has
//! kept is whole (agent.md 13 to 15, 20.3).

use crate::support::{
    Agent, Folder, Kind, Printed, Program, Runtime, available, client, exists, on_every_runtime, run,
    wait_until,
};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

on_every_runtime! {
    a_full_disk_keeps_nothing_and_harms_nothing,
    a_read_only_disk_keeps_nothing_and_harms_nothing,
    a_read_only_folder_is_done_without,
    a_snapshot_belongs_to_one_agent,
    what_a_crash_has_left_is_in_nobodys_way,
    a_log_on_a_full_disk_ends_nothing,
}

const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
const OTHER_KEY: &str = "QW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=";
const TAGS: &str = "{\n  \"role\": \"web\"\n}";

fn is_root() -> bool {
    let root = run(Command::new("id").arg("-u")).stdout.trim() == "0";
    available("root (for mounts of a test's own)", root)
}

fn can_mount() -> bool {
    is_root() && available("`unshare` (Debian's package `util-linux`)", exists("unshare"))
}

/// An agent that keeps everything in one folder, and another that its snapshot knows.
struct Keeper {
    runtime: Runtime,
    folder: Folder,
    net: u8,
    peer: Agent,
}

impl Keeper {
    fn new(runtime: Runtime, name: &str, net: u8) -> Keeper {
        let key = format!("-encrypt={KEY}");
        let ip = runtime.here(&format!("127.64.{net}.1"));
        let peer = Agent::on_loopback(runtime, &ip, "peer", &[&key]);
        let keeper = Keeper { runtime, folder: Folder::new(name), net, peer };
        // A page of a disk, to the last byte.
        let known = format!("alive: peer {ip}:7946\nclock: 5\n#");
        let snapshot = format!("{known}{}\n", "#".repeat(4095 - known.len()));
        for (file, text) in [
            ("snapshot", snapshot.as_str()),
            ("tags.json", TAGS),
            ("keys.json", &format!("[\n  \"{KEY}\"\n]")),
        ] {
            std::fs::write(keeper.folder.path(file), text).expect("the file can be written");
        }
        keeper
    }

    fn ip(&self) -> String {
        self.runtime.here(&format!("127.64.{}.2", self.net))
    }

    fn flags(&self) -> Vec<String> {
        let flag = |name: &str, file: &str| format!("-{name}={}", self.folder.path(file).display());
        vec![
            "-node=keeper".to_owned(),
            format!("-bind={}", self.ip()),
            format!("-rpc-addr={}:7373", self.ip()),
            flag("snapshot", "snapshot"),
            flag("tags-file", "tags.json"),
            flag("keyring-file", "keys.json"),
        ]
    }

    /// Starts it by way of these words.
    fn start_by(&self, words: &[&str]) -> Agent {
        let mut command = Command::new(words[0]);
        let kind = Kind::from(self.runtime);
        let agent = kind.command();
        command.args(&words[1..]).arg(agent.get_program()).args(agent.get_args()).args(self.flags());
        Agent::start(kind, command, &format!("{}:7373", self.ip()))
    }

    /// Starts it where the folder is a small disk with the same files; `then` is done to the disk before.
    fn start_on_disk(&self, then: &str) -> Agent {
        let script = format!(
            "set -e; files=$(mktemp -d); cp -p {0}/* $files; mount -t tmpfs -o size=64k none {0}; \
             cp -p $files/* {0}; rm -r $files; {then}; exec \"$@\"",
            self.folder.root().display()
        );
        self.start_by(&["unshare", "--mount", "sh", "-c", &script, "sh"])
    }

    /// A file of the folder as the agent sees it.
    fn seen_by(&self, agent: &Agent, file: &str) -> PathBuf {
        let path = self.folder.path(file);
        let path = path.strip_prefix("/").expect("the folder's path is absolute");
        PathBuf::from(format!("/proc/{}/root", agent.pid())).join(path)
    }

    fn read(&self, agent: &Agent, file: &str) -> String {
        let path = self.seen_by(agent, file);
        String::from_utf8_lossy(&std::fs::read(path).expect("the file is there")).into_owned()
    }

    /// The two have found each other.
    fn wait_for_both(&self) {
        let seen = || client(Program::Villein, &self.peer, &["members", "-status=alive"]).stdout;
        wait_until("the peer sees both", || seen().lines().count() == 2, seen);
    }

    /// Nothing that is to be kept changes, and everybody is told why.
    fn keeps_nothing(&self, agent: &Agent, why: &str) {
        agent.wait_for("[ERR] serf: Failed to update snapshot: ");
        let said = agent.output();
        let line = said.lines().find(|line| line.contains("Failed to update snapshot")).expect("it is said");
        assert!(line.contains("/snapshot") && line.ends_with(why), "{line}");
        let tags = client(Program::Villein, agent, &["tags", "-set", "role=db"]);
        assert_eq!(tags.status, Some(1), "{tags:?}");
        assert!(tags.stdout.starts_with("Error setting tags: Failed to write tags file: "), "{tags:?}");
        assert!(tags.stdout.trim_end().ends_with(why), "{tags:?}");
        let shown = client(Program::Villein, agent, &["members", "-name=keeper", "-tag=role=web"]);
        assert_eq!(shown.stdout.lines().count(), 1, "{shown:?}");
        assert_eq!(self.read(agent, "tags.json"), TAGS);
        let before = self.read(agent, "keys.json");
        let keys = client(Program::Villein, agent, &["keys", &format!("-install={OTHER_KEY}")]);
        assert_eq!(keys.status, Some(1), "{keys:?}");
        let told = format!("{why} (changed in memory, undone by a restart)");
        assert!(keys.stdout.contains("keeper") && keys.stdout.contains(&told), "{keys:?}");
        assert_eq!(self.read(agent, "keys.json"), before);
    }

    /// What is changed now is kept, and an end keeps the rest.
    fn keeps_everything(&self, mut agent: Agent) {
        let done = |words: &[&str]| {
            let printed = client(Program::Villein, &agent, words);
            assert_eq!(printed.status, Some(0), "{printed:?}");
        };
        done(&["tags", "-set", "role=db"]);
        assert_eq!(self.read(&agent, "tags.json"), TAGS.replace("web", "db"));
        done(&["keys", &format!("-use={OTHER_KEY}")]);
        assert_eq!(self.read(&agent, "keys.json"), format!("[\n  \"{OTHER_KEY}\",\n  \"{KEY}\"\n]"));
        let disk = std::fs::File::open(self.seen_by(&agent, "")).expect("the disk is there");
        agent.signal("TERM");
        agent.wait();
        // The disk is there as long as somebody holds it.
        let disk = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&disk)));
        let snapshot = std::fs::read_to_string(disk.join("snapshot")).expect("the snapshot is there");
        for member in ["alive: peer ", "alive: keeper "] {
            assert!(snapshot.contains(member), "{snapshot}");
        }
        assert!(snapshot.ends_with('\n') && !snapshot.contains('#'), "{snapshot}");
        let mut files: Vec<_> = std::fs::read_dir(disk).expect("it is a folder").flatten().collect();
        files.retain(|file| file.file_name() != "filler");
        assert_eq!(files.len(), 3, "{files:?}");
    }
}

fn a_full_disk_keeps_nothing_and_harms_nothing(runtime: Runtime) {
    if !can_mount() {
        return;
    }
    let keeper = Keeper::new(runtime, "full", 8);
    let filler = keeper.folder.path("filler").display().to_string();
    let agent = keeper.start_on_disk(&format!("cat /dev/zero > {filler} 2> /dev/null || true"));
    keeper.wait_for_both();
    keeper.keeps_nothing(&agent, "no space left on device");
    // What was read at the start is there as it was.
    assert_eq!(keeper.read(&agent, "snapshot"), keeper.folder.read("snapshot"));
    std::fs::write(keeper.seen_by(&agent, "filler"), "").expect("the disk can be emptied");
    keeper.keeps_everything(agent);
}

fn a_read_only_disk_keeps_nothing_and_harms_nothing(runtime: Runtime) {
    if !can_mount() || !available("`nsenter` (Debian's package `util-linux`)", exists("nsenter")) {
        return;
    }
    let keeper = Keeper::new(runtime, "read-only", 9);
    let folder = keeper.folder.root().display().to_string();
    let agent = keeper.start_on_disk(&format!("mount -o remount,ro {folder}"));
    for what in ["tags", "keyring"] {
        agent.wait_for(&format!("[WARN] agent: the {what} file cannot be written: open {folder}/"));
    }
    keeper.wait_for_both();
    keeper.keeps_nothing(&agent, "read-only file system");
    assert_eq!(keeper.read(&agent, "snapshot"), keeper.folder.read("snapshot"));
    let pid = agent.pid().to_string();
    let mount = ["--target", &pid, "--mount", "mount", "-o", "remount,rw", &folder];
    let remounted = run(Command::new("nsenter").args(mount));
    assert_eq!(remounted.status, Some(0), "{remounted:?}");
    keeper.keeps_everything(agent);
}

/// Who may write its files but not their folder cannot replace them, and writes into them.
fn a_read_only_folder_is_done_without(runtime: Runtime) {
    if !is_root() || !available("`setpriv` (Debian's package `util-linux`)", exists("setpriv")) {
        return;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let reaches = run(Command::new(nobody[0]).args(&nobody[1..]).args([Program::Villein.path(), "version"]));
    if !available("a program that everybody can run", reaches.status == Some(0)) {
        return;
    }
    let keeper = Keeper::new(runtime, "folder", 10);
    // A snapshot that ends in the middle of a line has to be written anew.
    let torn = format!("alive: peer 127.64.{}.1:7946\nalive: gone 127.64.0.9:7946\nnot-al", keeper.net);
    std::fs::write(keeper.folder.path("snapshot"), runtime.here(&torn)).expect("the file can be written");
    for file in ["snapshot", "tags.json", "keys.json"] {
        chown(keeper.folder.path(file), Some(65534), Some(65534)).expect("root may do that");
    }
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(keeper.folder.root(), mode).expect("root may do that");
    let agent = keeper.start_by(&nobody);
    keeper.wait_for_both();
    let snapshot = || keeper.folder.read("snapshot");
    wait_until(
        "the snapshot is whole",
        || snapshot().ends_with('\n') && !snapshot().contains("not-al"),
        snapshot,
    );
    let install = client(Program::Villein, &agent, &["keys", &format!("-install={OTHER_KEY}")]);
    assert_eq!(install.status, Some(0), "{install:?}");
    keeper.keeps_everything(agent);
}

fn a_snapshot_belongs_to_one_agent(runtime: Runtime) {
    let folder = Folder::new("locked");
    let flag = format!("-snapshot={}", folder.path("snapshot").display());
    let mut first = Agent::on_loopback(runtime, &runtime.here("127.64.11.1"), "first", &[&flag]);
    let snapshot = || folder.read("snapshot");
    wait_until("the first one writes", || snapshot().contains("alive: first "), snapshot);
    let second = || -> Printed {
        let words = ["-node=second", "-bind=127.64.11.2", "-rpc-addr=127.64.11.2:7373"];
        run(Kind::from(runtime).command().args(words.map(|word| runtime.here(word))).arg(&flag))
    };
    let refused = second();
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let why = "another agent uses this file (each needs a snapshot of its own)";
    assert!(
        refused.stdout.contains("failed to open snapshot") && refused.stdout.contains(why),
        "{refused:?}"
    );
    assert!(!snapshot().contains("second"));
    // It belongs to nobody as soon as its agent is gone, however that went.
    first.signal("KILL");
    first.wait();
    drop(Agent::on_loopback(runtime, &runtime.here("127.64.11.2"), "second", &[&flag]));
}

fn what_a_crash_has_left_is_in_nobodys_way(runtime: Runtime) {
    let folder = Folder::new("leftovers");
    let flag = |file: &str, name: &str| format!("-{name}={}", folder.path(file).display());
    for (file, text) in [
        ("snapshot", "alive: other 127.64.12.9:7946\nclo"),
        ("snapshot.compact", "alive: half 127.64.12."),
        (".tags.json.villein", "{\"ro"),
        // Somebody's folder cannot be removed.
        ("stuck", "alive: other 127.64.12.9:7946\nclo"),
        ("stuck.compact/x", ""),
    ] {
        let path = folder.path(file);
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let words = [flag("snapshot", "snapshot"), flag("tags.json", "tags-file")];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let agent = Agent::on_loopback(runtime, &runtime.here("127.64.12.1"), "swept", &words);
    let snapshot = || folder.read("snapshot");
    wait_until("the snapshot is whole", || snapshot().contains("alive: swept "), snapshot);
    assert!(snapshot().starts_with("alive: other ") && !snapshot().contains("half"), "{}", snapshot());
    let tags = client(Program::Villein, &agent, &["tags", "-set", "role=web"]);
    assert_eq!((tags.status, folder.read("tags.json")), (Some(0), TAGS.to_owned()), "{tags:?}");
    assert!(!folder.path("snapshot.compact").exists() && !folder.path(".tags.json.villein").exists());
    let stuck =
        Agent::on_loopback(runtime, &runtime.here("127.64.12.2"), "stuck", &[&flag("stuck", "snapshot")]);
    let compact = folder.path("stuck.compact");
    stuck.wait_for(&format!("Failed to update snapshot: open {}: file exists", compact.display()));
    assert_eq!(folder.read("stuck"), "alive: other 127.64.12.9:7946\nclo");
    assert_eq!(client(Program::Villein, &stuck, &["members"]).status, Some(0));
}

/// What is lost there is only what it says.
fn a_log_on_a_full_disk_ends_nothing(runtime: Runtime) {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let rpc = runtime.here("-rpc-addr=127.64.22.1:7373");
    let mut command = Kind::from(runtime).command();
    command.args(["-node=mute", &runtime.here("-bind=127.64.22.1"), &rpc, "-log-level=debug"]);
    let mut child = command.stdout(full()).stderr(full()).spawn().expect("the program starts");
    let ask =
        |words: &[&str]| run(Command::new(Program::Villein.path()).arg(words[0]).arg(&rpc).args(&words[1..]));
    wait_until("it answers", || ask(&["members"]).status == Some(0), || format!("{:?}", ask(&["members"])));
    for number in 0..20 {
        assert_eq!(ask(&["event", &format!("e{number}")]).status, Some(0));
    }
    let left = ask(&["leave"]);
    assert_eq!(left.stdout, "Graceful leave complete\n");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
}
