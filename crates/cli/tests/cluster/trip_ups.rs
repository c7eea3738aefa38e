//! What users of the reference trip over, seen from outside: starts, ends, names and handlers (agent.md 20.2 to 20.5).

use crate::support::{
    Agent, Folder, Kind, PATIENCE, Program, Runtime, client, count, on_every_runtime, wait_until,
};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use villein_rpc::request::UserEvent;
use villein_rpc::{Client, Record};

on_every_runtime! {
    a_start_join_waits_for_all_at_the_same_time_and_can_be_interrupted,
    a_leave_is_one_for_all_who_ask,
    odd_names_spoil_neither_snapshots_nor_logs,
    a_handler_that_hangs_holds_up_nothing_else,
    an_agent_that_ends_leaves_its_scripts_to_themselves,
    bytes_that_are_no_text_pass_through,
}

fn start(runtime: Runtime, ip: &str, name: &str, arguments: &[&str]) -> Agent {
    Agent::on_loopback(runtime, &runtime.here(ip), name, arguments)
}

/// Addresses that take a connection and say nothing are all contacted before any of them is given up, and an
/// interrupt need not wait for them.
fn a_start_join_waits_for_all_at_the_same_time_and_can_be_interrupted(runtime: Runtime) {
    let silent = [11, 12, 13].map(|last| runtime.here(&format!("127.64.16.{last}")));
    let listeners = silent.each_ref().map(|ip| TcpListener::bind((ip.as_str(), 7946)).expect("it is free"));
    let (ip, rpc) = (runtime.here("127.64.16.1"), runtime.here("127.64.16.1:7373"));
    let mut command = Kind::from(runtime).command();
    command.args(["-node=joiner", &format!("-bind={ip}"), &format!("-rpc-addr={rpc}")]);
    command.args(silent.iter().map(|ip| format!("-join={ip}")));
    let mut agent = Agent::spawn(command, &rpc);
    agent.wait_for("==> Joining cluster...");
    let mut waiting = listeners.each_ref().map(|listener| listener.accept().expect("it is contacted").0);
    for stream in &mut waiting {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.read_exact(&mut [0]).expect("it begins an exchange");
    }
    agent.signal("INT");
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.output());
    agent.wait_for("agent: shutdown complete");
}

/// Two who ask for a leave get it, and neither they nor a reload cut it short.
fn a_leave_is_one_for_all_who_ask(runtime: Runtime) {
    let first = start(runtime, "127.64.17.1", "first", &[]);
    let mut second = start(runtime, "127.64.17.2", "second", &[&runtime.here("-join=127.64.17.1")]);
    let ask = || {
        let mut command = Command::new(Program::Villein.path());
        command.args(["leave", &format!("-rpc-addr={}", second.rpc)]).stdout(Stdio::piped());
        command.spawn().expect("the program starts")
    };
    let asking = [ask(), ask()];
    second.wait_for("requesting graceful leave");
    second.signal("HUP");
    for client in asking {
        let output = client.wait_with_output().expect("it is our child");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Graceful leave complete\n");
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(second.wait().code(), Some(0), "{}", second.output());
    assert!(!second.output().contains("Shutdown without a Leave"), "{}", second.output());
    let seen = || client(Program::Villein, &first, &["members", "-name=second"]).stdout;
    wait_until("the other one has left", || seen().contains(" left"), seen);
}

/// A name with a slash, a newline and a bar is found again from a snapshot, and makes one line of a log.
fn odd_names_spoil_neither_snapshots_nor_logs(runtime: Runtime) {
    let folder = Folder::new("odd-names");
    let snapshot = format!("-snapshot={}", folder.path("snapshot").display());
    let odd = "a/b|c\n==> d\u{1b}[31m";
    let peer = start(runtime, "127.64.18.1", odd, &[]);
    peer.wait_for("[WARN] agent: the node name contains control characters");
    let mut keeper =
        start(runtime, "127.64.18.2", "keeper", &[&snapshot, &runtime.here("-join=127.64.18.1")]);
    let kept = || folder.read("snapshot");
    wait_until("the snapshot knows both", || count(&kept(), "alive: ") == 2, kept);
    keeper.signal("KILL");
    keeper.wait();
    // An older program takes the line for a comment, where it would take the rest of the name for a line.
    assert_eq!(
        kept().lines().filter(|line| line.starts_with("# alive: a/b|c\\n==> d")).count(),
        1,
        "{}",
        kept()
    );
    let keeper = start(runtime, "127.64.18.2", "keeper", &[&snapshot]);
    keeper.wait_for("serf: Re-joined to previously known node: a/b|c");
    let alive = || client(Program::Villein, &keeper, &["members", "-status=alive", "-format=json"]).stdout;
    wait_until("both are alive", || count(&alive(), "\"name\"") == 2, alive);
    assert!(alive().contains(r#""name": "a/b|c\n==\u003e d\u001b[31m""#), "{}", alive());
    let printed = client(Program::Villein, &keeper, &["event", "-coalesce=false", odd, "x\n==> y"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    keeper.wait_for("Received event: user-event: a/b|c\\n==> d\\x1b[31m");
    for agent in [&peer, &keeper] {
        let said = agent.output();
        assert!(!said.contains('\u{1b}') && !said.contains("\n==> d"), "{said}");
    }
}

/// What hangs costs its own later events, and says so; clients and other handlers hear of everything.
fn a_handler_that_hangs_holds_up_nothing_else(runtime: Runtime) {
    const EVENTS: usize = 3000;
    let folder = Folder::new("hanging");
    let hang = folder
        .script("hang.sh", &format!("while [ -e {} ]; do sleep 0.1; done", folder.path("go").display()));
    std::fs::write(folder.path("go"), "").expect("the file can be written");
    let hanging = format!("-event-handler=user:flood={hang}");
    let last = format!("-event-handler=user:last=echo >> {}", folder.path("last").display());
    let agent = start(runtime, "127.64.19.1", "busy", &[&hanging, &last]);
    let mut listener = Client::connect(&agent.rpc, None).expect("the agent takes clients");
    let seq = listener.stream("user:last").expect("a stream can be had");
    listener.set_record_timeout(Some(PATIENCE));
    let mut speaker = Client::connect(&agent.rpc, None).expect("the agent takes clients");
    for number in 0..=EVENTS {
        let name = if number < EVENTS { "flood" } else { "last" };
        let event = UserEvent { name: name.into(), payload: None, coalesce: false };
        speaker.event(event).expect("events are taken");
    }
    let (from, record) = listener.next_record().expect("the event comes");
    assert!(from == seq && matches!(record, Record::User(_)), "{record:?}");
    wait_until("the other handler runs", || folder.path("last").exists(), || agent.output());
    agent.wait_for("is too slow, dropping its oldest events: ");
    let numbers = || client(Program::Villein, &agent, &["info"]).stdout;
    let dropped = || -> usize {
        let info = numbers();
        let line =
            info.lines().find(|line| line.contains("hang.sh") && line.contains("dropped=")).unwrap_or("");
        let word = line.split(' ').find_map(|word| word.strip_prefix("dropped="));
        word.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    // One runs, and so many wait.
    wait_until("the rest is counted", || dropped() == EVENTS - 1 - 1024, numbers);
    std::fs::remove_file(folder.path("go")).expect("it is there");
}

/// A script outlives its agent.
fn an_agent_that_ends_leaves_its_scripts_to_themselves(runtime: Runtime) {
    let folder = Folder::new("orphan");
    let [begun, go, done] = ["begun", "go", "done"].map(|file| folder.path(file).display().to_string());
    let body = format!("echo > {begun}\nwhile [ ! -e {go} ]; do sleep 0.1; done\necho > {done}");
    let handler = format!("-event-handler=user={}", folder.script("slow.sh", &body));
    let mut agent = start(runtime, "127.64.20.1", "short", &[&handler]);
    let printed = client(Program::Villein, &agent, &["event", "x"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    wait_until("the script runs", || folder.path("begun").exists(), || agent.output());
    agent.signal("INT");
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.output());
    std::fs::write(&go, "").expect("the file can be written");
    wait_until("the script ends", || folder.path("done").exists(), String::new);
}

/// Names, payloads and tags are bytes, of any kind, to the end.
fn bytes_that_are_no_text_pass_through(runtime: Runtime) {
    let folder = Folder::new("bytes");
    let file = folder.path("out").display().to_string();
    let handler = format!(
        "-event-handler=user=(printf '%s=' \"$SERF_USER_EVENT\"; cat) > {file}.part; mv {file}.part {file}"
    );
    let agent = start(runtime, "127.64.21.1", "bytes", &[&handler]);
    let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfe\x80");
    let run = |words: &[&std::ffi::OsStr]| {
        let rpc = format!("-rpc-addr={}", agent.rpc);
        let output = Command::new(Program::Villein.path()).arg(words[0]).arg(rpc).args(&words[1..]).output();
        output.expect("the program starts")
    };
    let event = run(&["event".as_ref(), "-coalesce=false".as_ref(), bytes, bytes]);
    assert_eq!(event.status.code(), Some(0), "{event:?}");
    wait_until("the handler ran", || folder.path("out").exists(), || agent.output());
    assert_eq!(std::fs::read(folder.path("out")).expect("it is there"), b"\xff\xfe\x80=\xff\xfe\x80\n");
    let tag = [b"-set=odd=".as_slice(), bytes.as_bytes()].concat();
    let tags = run(&["tags".as_ref(), std::ffi::OsStr::from_bytes(&tag)]);
    assert_eq!(tags.status.code(), Some(0), "{tags:?}");
    let members = run(&["members".as_ref()]).stdout;
    assert!(members.windows(7).any(|window| window == b"odd=\xff\xfe\x80"), "{members:?}");
    // An expression must be text, and the client is told so.
    let name = [b"-name=".as_slice(), bytes.as_bytes()].concat();
    let filtered = run(&["members".as_ref(), std::ffi::OsStr::from_bytes(&name)]);
    assert_eq!(filtered.status.code(), Some(1), "{filtered:?}");
    assert!(String::from_utf8_lossy(&filtered.stdout).contains("invalid UTF-8"), "{filtered:?}");
}
