//! The client commands against agents of the reference program: ours and its print the same.
//!
//! One cluster on loopback addresses serves all checks, in an order in which each finds the state that it
//! needs. Without the program `serf` the test says so and passes, unless `VILLEIN_REQUIRE_INTEROP` is set.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long the cluster may take for anything; failure detection is the slowest.
const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
const OTHER_KEY: &str = "T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s=";

/// Which program runs a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Reference,
    Ours,
}

use Program::{Ours, Reference};

impl Program {
    /// The command line with the agent of node `number` behind it.
    fn command(self, number: u8, words: &[&[u8]]) -> Command {
        let mut command = match self {
            Reference => Command::new("serf"),
            Ours => Command::new(env!("CARGO_BIN_EXE_villein")),
        };
        let words = words.iter().map(|word| OsStr::from_bytes(word));
        command.arg0("serf").args(words).env("SERF_RPC_ADDR", rpc(number)).env_remove("SERF_RPC_AUTH");
        command
    }

    fn run(self, number: u8, words: &[&[u8]]) -> Output {
        self.command(number, words).output().expect("the program starts")
    }

    fn lines(self, number: u8, line: &str) -> String {
        let output = self.run(number, &split(line));
        String::from_utf8(output.stdout).expect("these outputs are text")
    }

    fn spawn(self, number: u8, line: &str) -> Running {
        let mut command = self.command(number, &split(line));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let output = BufReader::new(child.stdout.take().expect("the output is piped"));
        Running { child, output }
    }
}

/// A command that has not ended. It is killed when the test fails.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn read_until(&mut self, needle: &str) -> String {
        let mut text = String::new();
        while !text.contains(needle) {
            assert!(self.output.read_line(&mut text).expect("the output is text") > 0, "ended: {text}");
        }
        text
    }

    /// The five lines behind the head of the next event, which must be a user event.
    fn read_user_event(&mut self) -> String {
        self.read_until("Event Info:\n");
        let mut text = String::new();
        for _ in 0..5 {
            self.output.read_line(&mut text).expect("the output is text");
        }
        text
    }

    fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(status.expect("kill starts").success());
    }

    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("the output is text");
        (rest, self.child.wait().expect("it is our child").code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent of the reference program, killed at the end.
struct Agent(Child);

impl Agent {
    fn start(number: u8, name: &str, flags: &[&str]) -> Agent {
        let mut command = Command::new("serf");
        command.arg("agent").args(["-node", name, "-profile=local", "-log-level=err"]);
        command.args([format!("-bind={}", host(number)), format!("-rpc-addr={}", rpc(number))]).args(flags);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("serf starts");
        Agent(child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended already when the test made it leave.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Loopback addresses of this process alone, so that several runs do not meet.
fn host(number: u8) -> String {
    let process = std::process::id();
    format!("127.77.{}.{}", process % 250, number + (process / 250 % 20) as u8 * 10)
}

fn rpc(number: u8) -> String {
    format!("{}:7373", host(number))
}

fn split(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(|word| if word == "''" { b"" } else { word.as_bytes() }).collect()
}

/// Waits until `seen` holds.
fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// How two outputs are compared.
#[derive(Clone, Copy)]
enum As {
    /// Byte for byte.
    Bytes,
    /// Lines, and comma lists within them, in any order; white space at line ends does not count.
    Lines,
    /// Like `Lines`, and digits, which change from call to call, do not count.
    MaskedLines,
}

fn comparable(output: &Output, how: As) -> (Vec<u8>, Vec<u8>, Option<i32>) {
    let stdout = match how {
        As::Bytes => output.stdout.clone(),
        As::Lines => sorted(&String::from_utf8_lossy(&output.stdout)).into_bytes(),
        As::MaskedLines => {
            let text = String::from_utf8_lossy(&output.stdout).replace(|c: char| c.is_ascii_digit(), "");
            sorted(&text).into_bytes()
        }
    };
    (stdout, output.stderr.clone(), output.status.code())
}

fn sorted(text: &str) -> String {
    let line = |line: &str| -> String {
        let words = line.split(' ').map(|word| {
            let mut parts: Vec<&str> = word.split(',').collect();
            parts.sort_unstable();
            parts.join(",")
        });
        words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn same_words(number: u8, words: &[&[u8]], how: As) -> Output {
    let reference = comparable(&Reference.run(number, words), how);
    let output = Ours.run(number, words);
    let ours = comparable(&output, how);
    let shown: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    let text = |side: &(Vec<u8>, Vec<u8>, Option<i32>)| {
        format!(
            "{}--\n{}exit {:?}",
            String::from_utf8_lossy(&side.0),
            String::from_utf8_lossy(&side.1),
            side.2
        )
    };
    assert_eq!(text(&ours), text(&reference), "{}", shown.join(" "));
    assert_eq!(ours, reference, "{}", shown.join(" "));
    output
}

fn same(number: u8, line: &str, how: As) -> Output {
    same_words(number, &split(line), how)
}

/// The same for commands that wait for answers of the cluster: both run at once, and again when a packet
/// may have been lost.
fn same_answers(number: u8, line: &str, how: As) -> Output {
    let mut attempts = (0..4).map(|_| {
        let spawn = |program: Program| {
            let mut command = program.command(number, &split(line));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
        };
        let both = [Ours, Reference].map(spawn);
        both.map(|child| child.wait_with_output().expect("it is our child"))
    });
    let agree = attempts.find(|[ours, reference]| comparable(ours, how) == comparable(reference, how));
    let [ours, _] = agree.unwrap_or_else(|| panic!("the answers always differ: {line}"));
    ours
}

fn same_members_in_json(number: u8, line: &str) {
    let [ours, reference] = [Ours, Reference].map(|program| {
        let mut value: Value = serde_json::from_str(&program.lines(number, line)).expect("it is JSON");
        value["members"].as_array_mut().expect("members are a list").sort_by_key(ToString::to_string);
        value
    });
    assert_eq!(ours, reference, "{line}");
}

fn is_serf_here() -> bool {
    let found = Command::new("serf").arg("version").output().is_ok_and(|output| output.status.success());
    assert!(
        found || std::env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(),
        "VILLEIN_REQUIRE_INTEROP is set, but the program serf cannot be run"
    );
    found
}

const ALPHA: u8 = 1;
const BETA: u8 = 2;
const GAMMA: u8 = 3;
const DELTA: u8 = 4;
/// Alone, with encryption and an RPC token.
const ECHO: u8 = 5;
const NOBODY: u8 = 9;

#[test]
fn ours_prints_what_serf_prints() {
    if !is_serf_here() {
        // Past the test runner, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the program serf cannot be run (Debian package serf)");
        return;
    }
    let alpha_flags = [
        "-tag=role=web",
        "-tag=dc=east",
        "-event-handler=query:load=printf '0.15\\n'",
        "-event-handler=query:multi=printf 'a\\nb\\n\\n'",
    ];
    let join = format!("-join={}", host(ALPHA));
    let scratch = Scratch::new();
    fs::write(scratch.0.join("auth.json"), r#"{"rpc_auth": "sekret"}"#).expect("the directory is ours");
    let auth = format!("-config-file={}", scratch.0.join("auth.json").display());

    let echo = Agent::start(ECHO, "echo", &[&auth, "-encrypt", KEY]);
    let _alpha = Agent::start(ALPHA, "alpha", &alpha_flags);
    eventually("alpha listens", || Reference.run(ALPHA, &[b"info"]).status.success());
    let _beta = Agent::start(BETA, "beta", &[&join, "-tag=role=db", "-event-handler=query:load=printf 2.50"]);
    let gamma = Agent::start(GAMMA, "gamma", &[&join]);
    let _delta = Agent::start(DELTA, "delta", &[&join]);
    eventually("four members", || Reference.lines(ALPHA, "members -status=alive").lines().count() == 4);

    without_an_agent();
    mistakes();
    monitor_that_is_interrupted();
    monitor_and_leave();
    drop(gamma);
    eventually("gamma fails", || Reference.lines(ALPHA, "members -status=failed").starts_with("gamma"));
    members();
    info();
    events();
    queries();
    query_that_is_interrupted();
    joins();
    reachability();
    round_trips();
    force_leave();
    keys_and_tokens();
    odd_bytes();
    output_that_nobody_reads();
    agent_that_dies(echo);
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("commands-{}", std::process::id()));
        fs::create_dir_all(&path).expect("cargo gives a directory for tests");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn without_an_agent() {
    for line in ["members", "info -format=xml", "event x", "query x", "join x", "leave", "monitor", "rtt"] {
        let output = same(NOBODY, line, As::Bytes);
        assert_eq!(output.status.code(), Some(1), "{line}");
    }
    for addr in [
        "",
        "127.0.0.1",
        "127.0.0.1:99999",
        "127.0.0.1:7373:1",
        "[::1",
        "a]b:1",
        "127.77.0.9:http",
        "127.77.0.9:",
    ] {
        same(NOBODY, &format!("members -rpc-addr={addr}"), As::Bytes);
    }
}

fn mistakes() {
    for line in
        ["event", "event a b c", "query", "join", "force-leave", "force-leave a b", "keys", "tags", "rtt"]
    {
        let [ours, reference] = [Ours, Reference].map(|program| program.run(ALPHA, &split(line)));
        let (command, _) = line.split_once(' ').unwrap_or((line, ""));
        let until_help = |output: &Output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let at =
                text.find(&format!("Usage: serf {command}")).unwrap_or_else(|| panic!("no help: {text}"));
            (text[..at].to_owned(), output.stderr.clone(), output.status.code())
        };
        assert_eq!(until_help(&ours), until_help(&reference), "{line}");
    }
    for line in ["query -tag x y", "query -relay-factor=256 x", "query -format=xml x", "keys -list -use=x"] {
        same(ALPHA, line, As::Bytes);
    }
    for line in ["members -format=xml", "members -tag =x", "info -format=", "monitor -log-level=bogus"] {
        same(ALPHA, line, As::Bytes);
    }
    for line in ["query -timeout=5 x", "query -relay-factor=0x1_ x", "members -nosuch", "leave ---x"] {
        let [ours, reference] = [Ours, Reference].map(|program| program.run(ALPHA, &split(line)));
        assert_eq!(ours.stderr, reference.stderr, "{line}");
        assert_eq!(ours.status.code(), Some(1), "{line}");
    }
}

fn monitor_that_is_interrupted() {
    let mut both = [Ours, Reference].map(|program| program.spawn(ALPHA, "monitor -log-level=debug"));
    // The stored log lines come first: then the subscriptions stand.
    let begins = both.each_mut().map(|running| running.read_until("Serf agent starting"));
    assert_eq!(begins[0], begins[1]);
    assert!(Reference.run(ALPHA, &split("event -coalesce=false deploy 1.2")).status.success());
    let shown = both.each_mut().map(Running::read_user_event);
    assert_eq!(sorted(&shown[0]), sorted(&shown[1]));
    assert!(shown[0].contains("\tPayload: []byte{0x31, 0x2e, 0x32}\n"), "{}", shown[0]);
    for running in both {
        running.interrupt();
        assert_eq!(running.end().1, Some(0));
    }
}

fn monitor_and_leave() {
    let both = [Ours, Reference].map(|program| program.spawn(DELTA, "monitor -log-level=err"));
    // Nothing is printed that says that they are connected; the agent's log of accepted clients does.
    let mut log = Reference.spawn(DELTA, "monitor -log-level=info");
    for _ in 0..3 {
        log.read_until("Accepted client");
    }
    // A client subscribes a moment after it was accepted, and nothing shows that it has. One that is late
    // sees its connection end before its subscription, which is another message.
    thread::sleep(Duration::from_millis(300));
    let left = Ours.run(DELTA, &[b"leave"]);
    assert_eq!((&left.stdout[..], left.status.code()), (&b"Graceful leave complete\n"[..], Some(0)));
    let [ours, reference] = both.map(Running::end);
    let verdict =
        "\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.\n";
    assert!(ours.0.ends_with(verdict), "{}", ours.0);
    assert!(reference.0.ends_with(verdict), "{}", reference.0);
    assert_eq!((ours.1, reference.1), (Some(1), Some(1)));
    eventually("delta is gone", || !Reference.run(DELTA, &[b"info"]).status.success());
    same(DELTA, "leave", As::Bytes);
    eventually("delta left", || Reference.lines(ALPHA, "members -status=left").starts_with("delta"));
}

fn members() {
    for line in [
        "members",
        "members ignored -nosuch",
        "members -detailed",
        "members -format text -detailed=T",
        "members -status=alive",
        "members -status (failed|left)",
        "members -status=alive|left",
        "members -tag role=w.*",
        "members -tag role=",
        "members -tag nosuch=.*",
        "members -role=db",
    ] {
        same(ALPHA, line, As::Lines);
    }
    for line in [
        "members -name=alp",
        "members -name=beta -detailed",
        "members -tag role=web -tag dc=west",
        "members -tag role=db -tag role=web -name=nosuch",
        "members -name=nosuch -format=json",
        "members -name=beta -format=json",
        "members -name=alpha -detailed -format=json",
        "members -status=[",
    ] {
        same(ALPHA, line, As::Bytes);
    }
    same_members_in_json(ALPHA, "members -format=json");
    let ordered = Ours.lines(ALPHA, "members");
    let names: Vec<&str> = ordered.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["alpha", "beta", "delta", "gamma"]);
    assert!(ordered.contains("dc=east,role=web\n"), "tags are sorted: {ordered}");
    // On purpose, the deprecation does not spoil JSON.
    let role = Ours.lines(ALPHA, "members -role=db -format=json");
    assert_eq!(role, Reference.lines(ALPHA, "members -name=beta -format=json"));
}

fn info() {
    let keys = |program: Program| -> Vec<String> {
        let text = program.lines(ALPHA, "info ignored");
        text.lines().map(|line| line.split(" = ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(keys(Ours), keys(Reference));
    assert!(keys(Ours).contains(&"\tquery:load".to_owned()));
    let [ours, reference] = [Ours, Reference].map(|program| {
        let text = program.lines(ALPHA, "info -format=json");
        let mut value: Value = serde_json::from_str(&text).expect("it is JSON");
        value["runtime"]["goroutines"] = Value::Null;
        (value, text.lines().count())
    });
    assert_eq!(ours, reference);
}

fn events() {
    for line in
        ["event deploy", "event -coalesce=false deploy 1.2", "event -coalesce false deploy", "event '' ''"]
    {
        let output = same(ALPHA, line, As::Bytes);
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
    for length in [511, 512] {
        let output = same(ALPHA, &format!("event n {}", "x".repeat(length)), As::Bytes);
        assert_eq!(output.status.code(), Some(1));
    }
}

fn queries() {
    for line in ["load", "-no-ack load", "-tag role=w load", "-relay-factor=1 load", "multi", "nohandler"] {
        let output = same_answers(ALPHA, &format!("query -timeout=700ms {line}"), As::Lines);
        assert!(output.stdout.starts_with(b"Query '"), "{line}");
    }
    for line in [
        "-no-ack -node=beta load",
        "-node=nosuch load",
        "-format=json -node=nosuch load",
        "-format=json -no-ack -node=alpha multi",
        "-format=json -no-ack load",
        "-format=json -node=alpha load",
        "_serf_list-keys",
    ] {
        let output = same_answers(ALPHA, &format!("query -timeout=700ms {line}"), As::Bytes);
        assert!(!output.stdout.is_empty(), "{line}");
    }
    same(ALPHA, "query -timeout=-1s load", As::Bytes);
    same(ALPHA, &format!("query load {}", "x".repeat(2000)), As::Bytes);
}

fn query_that_is_interrupted() {
    let mut text = Ours.spawn(ALPHA, "query -timeout=20s load");
    let begin = Instant::now();
    text.read_until("Response from 'beta': 2.50");
    text.interrupt();
    let (rest, status) = text.end();
    assert!(!rest.contains("Total"), "{rest}");
    assert_eq!(status, Some(1));
    assert!(begin.elapsed() < Duration::from_secs(10), "the query ran for its whole time");
}

fn joins() {
    let (beta, nobody) = (host(BETA), host(NOBODY));
    let good = same(ALPHA, &format!("join -replay {beta} {nobody}"), As::Bytes);
    assert_eq!(good.stdout, b"Successfully joined cluster by contacting 1 nodes.\n");
    let bad = same(ALPHA, &format!("join {nobody} {nobody}:1"), As::Bytes);
    assert_eq!(bad.status.code(), Some(1));
    same(ALPHA, "join /127.0.0.1", As::Bytes);
}

fn reachability() {
    let plain = same_answers(ALPHA, "reachability", As::Bytes);
    assert!(plain.stdout.ends_with(b"Successfully contacted all live nodes\n"));
    let verbose = same_answers(BETA, "reachability -verbose ignored", As::MaskedLines);
    assert!(String::from_utf8_lossy(&verbose.stdout).contains("\tAck from 'alpha'\n"));
    let mut running = Ours.spawn(ALPHA, "reachability");
    running.read_until("Starting reachability test...");
    running.interrupt();
    assert_eq!(running.end(), ("Test interrupted\n".to_owned(), Some(1)));
}

fn round_trips() {
    same(ALPHA, "rtt beta", As::MaskedLines);
    same(ALPHA, "rtt alpha beta", As::MaskedLines);
    same_words(ALPHA, &[b"rtt", b"no\"such\xff"], As::Bytes);
}

fn force_leave() {
    // On purpose, ours has a word on stderr.
    let output = Ours.run(ALPHA, &[b"force-leave", b"nosuch"]);
    assert_eq!((&output.stdout[..], output.status.code()), (&b""[..], Some(0)));
    assert_eq!(output.stderr, b"This agent knows no member named \"nosuch\".\n");
    let output = Ours.run(ALPHA, &[b"force-leave", b"gamma"]);
    assert_eq!((&output.stdout[..], output.status.code()), (&b""[..], Some(0)));
    eventually("gamma left", || Ours.lines(ALPHA, "members -name=gamma").contains("left"));
    assert!(Ours.run(ALPHA, &[b"force-leave", b"-prune", b"gamma"]).status.success());
    eventually("gamma is gone", || Ours.lines(ALPHA, "members -name=gamma") == "\n");
}

fn keys_and_tokens() {
    eventually("echo listens", || Reference.run(ECHO, &split("info -rpc-auth=sekret")).status.success());
    for line in ["members", "event x", "query x", "info", "join 127.0.0.1", "leave", "force-leave x"] {
        let output = same(ECHO, line, As::Bytes);
        assert!(output.stdout.ends_with(b"Authentication required\n"), "{line}");
    }
    for line in
        ["tags -set a=b", "monitor", "reachability", "rtt echo", "keys -list", "members -rpc-auth=wrong"]
    {
        same(ECHO, line, As::Bytes);
    }
    let with_token = |variable: &str, program: Program| {
        let mut command = program.command(ECHO, &[b"members"]);
        command.env("SERF_RPC_AUTH", variable).output().expect("the program starts").stdout
    };
    assert_eq!(with_token("sekret", Ours), with_token("sekret", Reference));
    assert!(with_token("sekret", Ours).starts_with(b"echo"));
    assert_eq!(with_token("wrong", Ours), b"Error connecting to Serf agent: Invalid authentication token\n");
    for action in [
        "-list".to_owned(),
        format!("-install={OTHER_KEY}"),
        format!("-use={OTHER_KEY}"),
        format!("-remove={OTHER_KEY}"),
        format!("-remove {KEY}"),
        format!("-use={KEY}"),
        "-install=AAAA".to_owned(),
        "-install=not-base64!".to_owned(),
    ] {
        same(ECHO, &format!("keys -rpc-auth=sekret {action}"), As::Bytes);
    }
}

fn odd_bytes() {
    let token: &[u8] = b"-rpc-auth=sekret";
    let event = same_words(ECHO, &[b"event", token, b"\xff\xfe", b"\x80x"], As::Bytes);
    assert!(event.stdout.starts_with(b"Event '\xff\xfe' dispatched!"));
    let tags: [&[u8]; 4] = [b"tags", token, b"-set", "k=\u{2028}<a&b>\"q\"\\ ä\x07".as_bytes()];
    same_words(ECHO, &tags, As::Bytes);
    same_words(ECHO, &[b"members", token, b"-format=json"], As::Bytes);
    same_words(ECHO, &[b"tags", token, b"-set", b"k=\xff|\xfe\n", b"-set", b"a= \xe2\x80\xa8"], As::Bytes);
    let json = same_words(ECHO, &[b"members", token, b"-format=json"], As::Bytes);
    assert!(String::from_utf8_lossy(&json.stdout).contains(r#""k": "\ufffd|\ufffd\n""#));
    same_words(ECHO, &[b"tags", token, b"-delete", b"a", b"-delete", b"nosuch", b"x"], As::Bytes);
    let text = same_words(ECHO, &[b"members", token], As::Bytes);
    assert!(text.stdout.ends_with(b"k=\xff  \xfe\n"), "{:?}", text.stdout);
    same_words(ECHO, &[b"info", token, b"-format=xml"], As::Bytes);
    same_words(ECHO, &[b"query", token, b"-timeout=200ms", b"\xc3("], As::Bytes);
}

fn output_that_nobody_reads() {
    let mut command = Ours.command(ALPHA, &[b"monitor"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    // The pipe breaks when its reading end is gone; the stored log lines are enough to notice.
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it is our child").code(), Some(141));
}

/// On purpose, this is a failure of ours; the reference program exits with 0.
fn agent_that_dies(agent: Agent) {
    let mut text = Ours.spawn(ECHO, "query -rpc-auth=sekret -timeout=20s x");
    text.read_until("Ack from 'echo'");
    drop(agent);
    assert_eq!(text.end(), ("Total Acks: 1\nTotal Responses: 0\n".to_owned(), Some(1)));
}
