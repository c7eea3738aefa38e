//! How an agent starts and ends, from the outside: what it prints, where, and with which status.

mod runtime;
mod transcript;
#[path = "agent_start/transcripts.rs"]
mod transcripts;

use runtime::{Runtime, on_every_runtime};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Free ports of the loopback address, so that tests do not meet.
const FREE: [&str; 3] = ["-node=alpha", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"];

fn agent(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_villein"));
    command.arg("agent").args(flags);
    command
}

/// An agent that starts, on this event loop.
fn agent_on(runtime: Runtime) -> Command {
    let mut command = agent(&FREE);
    command.arg(runtime.flag());
    command
}

on_every_runtime! {
    the_banner_shows_real_ports_and_an_interrupt_leaves,
    signals_that_mean_nothing_to_an_agent_do_not_end_it,
    an_agent_whose_output_nobody_reads_ends_like_a_program_in_a_pipeline,
    a_hangup_reads_the_files_again,
}

/// Status, standard output and standard error of an agent that does not start.
fn refused(flags: &[&str]) -> (Option<i32>, String, String) {
    let output = agent(flags).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn what_cannot_start_says_why_on_standard_output() {
    let big = format!("-tag=big={}", "x".repeat(510));
    let before = [
        ("-tag=novalue", "Error: Invalid tag: 'novalue'"),
        ("-retry-interval=5", "Error: time: missing unit in duration \"5\""),
        ("-event-handler=bogus=x.sh", "Invalid event script: Event 'bogus' invoking 'x.sh'"),
        ("-iface=nosuch0", "Invalid network interface: nosuch0: no such network interface"),
        ("-log-level=bogus", "Invalid log level: BOGUS. Valid log levels are: [TRACE DEBUG INFO WARN ERR]"),
        ("-bind=127.0.0.1:99999", "Invalid bind address: address 99999: invalid port"),
        (
            "-bind=127.0.0.1:7946:1",
            "Invalid bind address: address 127.0.0.1:7946:1: too many colons in address",
        ),
        ("-advertise=bogus host", "Invalid advertise address: lookup bogus host: no such host"),
        ("-encrypt=!!", "Invalid encryption key: illegal base64 data at input byte 0"),
        ("-profile=LAN", "Unknown profile: LAN"),
        ("-runtime=bogus", "Invalid runtime: bogus. Valid runtimes are: [auto smol glommio]"),
        ("-runtime=Smol", "Invalid runtime: Smol. Valid runtimes are: [auto smol glommio]"),
    ];
    for (flag, message) in before {
        let expected = (Some(1), format!("==> {message}\n"), String::new());
        assert_eq!(refused(&[&FREE[..], &[flag]].concat()), expected, "{flag}");
    }
    let after = [
        (
            "-protocol=1",
            "Failed to start the Serf agent: Error creating Serf: Protocol version '1' too low. Must be in range: [2, 5]",
        ),
        (
            "-protocol=260",
            "Failed to start the Serf agent: Error creating Serf: Protocol version '260' too high. Must be in range: [2, 5]",
        ),
        (
            &big,
            "Failed to start the Serf agent: Error creating Serf: Encoded length of tags exceeds limit of 512 bytes \
             (names 3 + values 510 + encoding 6 = 519 bytes)",
        ),
        (
            "-encrypt=YWJj",
            "Failed to start the Serf agent: Error creating Serf: Failed to create memberlist: key size must be 16, 24 or 32 bytes",
        ),
        (
            "-rpc-addr=127.0.0.1",
            "Error starting RPC listener: listen tcp: address 127.0.0.1: missing port in address",
        ),
    ];
    for (flag, message) in after {
        let expected = (Some(1), format!("==> Starting Serf agent...\n==> {message}\n"), String::new());
        assert_eq!(refused(&[&FREE[..], &[flag]].concat()), expected, "{flag}");
    }
}

#[test]
fn notices_come_before_the_failure() {
    let flags = ["-role=web", "-retry-interval=10ms", "-iface=lo", "-bind=0.0.0.0:0", "-profile=x", "word"];
    let expected = "==> Deprecation warning: 'Role' has been replaced with 'Tags'\n\
                    ==> Warning: 'RetryInterval' is too low. Setting to 1s\n\
                    ==> Using interface 'lo' address '127.0.0.1'\n\
                    ==> Unknown profile: x\n";
    let warning = "villein agent: ignoring these words: word\n";
    assert_eq!(refused(&flags), (Some(1), expected.to_owned(), warning.to_owned()));
}

#[test]
fn the_rpc_port_is_tried_before_anybody_hears_of_the_node() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = taken.local_addr().expect("it is bound");
    let (status, stdout, _) = refused(&["-bind=192.0.2.1", &format!("-rpc-addr={addr}")]);
    let message = format!("Error starting RPC listener: listen tcp {addr}: bind: address already in use");
    assert_eq!((status, stdout), (Some(1), format!("==> Starting Serf agent...\n==> {message}\n")));
}

fn the_banner_shows_real_ports_and_an_interrupt_leaves(runtime: Runtime) {
    let mut child = agent_on(runtime).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut banner = String::new();
    while !banner.contains("Log data will now stream in") {
        assert_ne!(output.read_line(&mut banner).expect("the output is text"), 0, "{banner}");
    }
    let expected = "==> Starting Serf agent...\n\
                    ==> Starting Serf agent RPC...\n\
                    ==> Serf agent running!\n\
                    \u{20}                     Node name: 'alpha'\n";
    assert!(banner.starts_with(expected), "{banner}");
    assert!(banner.contains(" Bind addr: '127.0.0.1:") && banner.contains(" RPC addr: '127.0.0.1:"));
    assert!(!banner.contains(":0'"), "{banner}");
    runtime.check(&banner);
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("every system has kill").success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the output is text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "{rest}");
    assert!(rest.contains("==> Caught signal: interrupt\n==> Gracefully shutting down agent...\n"), "{rest}");
}

fn signals_that_mean_nothing_to_an_agent_do_not_end_it(runtime: Runtime) {
    let mut child = agent_on(runtime).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut text = String::new();
    while !text.contains("EventMemberJoin: alpha") {
        assert_ne!(output.read_line(&mut text).expect("the output is text"), 0, "{text}");
    }
    for signal in ["-USR1", "-USR2", "-PIPE", "-HUP", "-TERM"] {
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.expect("every system has kill").success());
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the output is text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(1), "{rest}");
    assert!(rest.contains("==> Caught signal: terminated\n"), "{rest}");
    assert!(rest.contains("[WARN] serf: Shutdown without a Leave\n"), "{rest}");
}

fn an_agent_whose_output_nobody_reads_ends_like_a_program_in_a_pipeline(runtime: Runtime) {
    let mut child =
        agent_on(runtime).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}

/// An empty folder for the files of one test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // What an earlier run has left, if there was one.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder is ours");
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("the folder is ours");
}

#[test]
fn files_of_the_agent_are_opened_before_any_socket() {
    let folder = folder("kept");
    write(&folder, "t.json", "{\"a\": 1}");
    write(&folder, "k.json", "[\"***\"]");
    fs::create_dir(folder.join("d")).expect("the folder is ours");
    let setup = "Failed to setup the Serf agent";
    let create = "Failed to start the Serf agent: Error creating Serf: Failed to setup snapshot: failed to open snapshot";
    let refused = [
        (
            &["-tags-file=t.json"][..],
            format!(
                "{setup}: Failed to decode tags file: json: cannot unmarshal number into Go value of type string"
            ),
        ),
        (&["-tags-file=none", "-role=x"], format!("{setup}: Tags config not allowed while using tag files")),
        (&["-tags-file=d"], format!("{setup}: Failed to read tags file: read d: is a directory")),
        (&["-keyring-file=none"], format!("{setup}: stat none: no such file or directory")),
        (
            &["-keyring-file=k.json"],
            format!("{setup}: Failed to decode key from keyring: illegal base64 data at input byte 0"),
        ),
        (
            &["-keyring-file=k.json", "-encrypt=AAAAAAAAAAAAAAAAAAAAAA=="],
            format!("{setup}: Encryption key not allowed while using a keyring"),
        ),
        (&["-snapshot=none/s"], format!("{create}: open none/s: no such file or directory")),
    ];
    for (flags, message) in refused {
        // No address is needed to find this out, and a bad one is not noticed.
        let output = agent(&["-bind=192.0.2.1"]).args(flags).current_dir(&folder).output();
        let output = output.expect("the program starts");
        let stdout = String::from_utf8(output.stdout).expect("the output is text");
        assert!(stdout.ends_with(&format!("==> Starting Serf agent...\n==> {message}\n")), "{stdout}");
        assert_eq!(output.status.code(), Some(1));
    }
}

/// What an agent in this folder prints until it runs; then it is killed.
fn start_in(folder: &Path, flags: &[impl AsRef<OsStr>]) -> String {
    let mut child = agent(&FREE)
        .args(flags)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let text = read_until(&mut output, "Serf agent starting");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    text
}

#[test]
fn what_was_restored_is_logged_before_the_agent_runs() {
    let folder = folder("restored");
    write(&folder, "t.json", "{\"a\": \"b\", \"c\": null}");
    write(&folder, "k.json", "[\"AAAAAAAAAAAAAAAAAAAAAA==\", \"MDEyMzQ1Njc4OWFiY2RlZg==\"]");
    let flags = ["-tags-file=t.json", "-keyring-file=k.json", "-snapshot=s"];
    let text = start_in(&folder, &flags);
    assert!(text.contains("Encrypted: true\n                       Snapshot: true\n"), "{text}");
    let tags = text.find("[INFO] agent: Restored 2 tag(s) from t.json\n");
    let keys = text.find("[INFO] agent: Restored keyring with 2 keys from k.json\n");
    assert!(tags.is_some() && tags < keys, "{text}");
}

/// What is printed until the end of the line that holds this.
fn read_until(output: &mut impl BufRead, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        assert_ne!(output.read_line(&mut text).expect("the output is text"), 0, "{text}");
    }
    text
}

fn a_hangup_reads_the_files_again(runtime: Runtime) {
    let folder = folder(&format!("reload-{}", runtime.name()));
    write(&folder, "c.json", "{\"tags\": {\"a\": \"1\"}}");
    let mut child = agent_on(runtime)
        .arg("-config-dir=.")
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    read_until(&mut output, "EventMemberJoin: alpha");
    let signal = |name: &str| {
        let killed = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(killed.expect("every system has kill").success());
    };
    write(&folder, "c.json", "{\"tags\": {\"a\": \"2\"}, \"leave_on_terminate\": true}");
    signal("-HUP");
    read_until(&mut output, "[INFO] serf: EventMemberUpdate: alpha");
    write(&folder, "d.json", "{bad");
    signal("-HUP");
    let text = read_until(&mut output, "==> Failed to reload configs");
    let why =
        "==> Error decoding 'd.json': invalid character 'b' looking for beginning of object key string\n";
    assert!(text.contains(why), "{text}");
    signal("-TERM");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0));
}

#[test]
fn a_keyring_file_begins_with_the_key_that_is_given() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder("keyring");
    let (first, second) = ("AAAAAAAAAAAAAAAAAAAAAA==", "MDEyMzQ1Njc4OWFiY2RlZg==");
    let flags = |key: &str| ["-keyring-file=k.json".to_owned(), format!("-encrypt={key}")];
    let log = |flags: &[String]| {
        let text = start_in(&folder, flags);
        assert!(text.contains("Encrypted: true\n"), "{text}");
        text
    };
    let text = log(&flags(first));
    assert!(
        text.contains("[INFO] agent: Created the keyring file k.json with the encryption key\n"),
        "{text}"
    );
    let path = folder.join("k.json");
    let kept = || fs::read_to_string(&path).expect("it is there");
    assert_eq!(kept(), format!("[\n  \"{first}\"\n]"));
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    // A restart with the same flags, also after another key has become the primary one.
    write(&folder, "k.json", &format!("[\"{second}\", \"{first}\"]"));
    let text = log(&flags(first));
    assert!(
        text.contains("[WARN] agent: the encryption key is also in the keyring file k.json, which counts: "),
        "{text}"
    );
    assert!(text.contains("Restored keyring with 2 keys"), "{text}");
    assert!(log(&flags(first)[..1]).contains("Restored keyring with 2 keys"));
    write(&folder, "k.json", &format!("[\"{second}\"]"));
    let output = agent(&FREE).args(flags(first)).current_dir(&folder).output().expect("the program starts");
    let message = "==> Failed to setup the Serf agent: Encryption key not allowed while using a keyring\n";
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(message));
    assert_eq!((output.status.code(), kept()), (Some(1), format!("[\"{second}\"]")));
    // A key that is none makes no file, and neither does a folder that is not there.
    for (flags, why) in [
        (["-keyring-file=new.json", "-encrypt=YWJj"], "stat new.json: no such file or directory"),
        (
            ["-keyring-file=no/k.json", "-encrypt=AAAAAAAAAAAAAAAAAAAAAA=="],
            "Failed to write keyring file: open no/k.json: no such file or directory",
        ),
    ] {
        let output = agent(&FREE).args(flags).current_dir(&folder).output().expect("the program starts");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.ends_with(&format!("Failed to setup the Serf agent: {why}\n")), "{stdout}");
    }
    assert!(!folder.join("new.json").exists());
}

#[test]
fn the_event_loop_is_chosen_by_a_flag_or_a_file() {
    let folder = folder("chosen");
    write(&folder, "smol.json", "{\"runtime\": \"smol\"}");
    write(&folder, "glommio.json", "{\"runtime\": \"glommio\"}");
    write(&folder, "bogus.json", "{\n\"runtime\": \"bogus\"}");
    let cases = [
        (&[][..], Runtime::Smol),
        (&["-runtime=auto"], Runtime::Smol),
        (&["-config-file=smol.json"], Runtime::Smol),
        (&["-config-file=glommio.json", "-runtime=smol"], Runtime::Smol),
        (&["-config-file=glommio.json", "-runtime=auto"], Runtime::Smol),
        (&["-config-file=glommio.json"], Runtime::Glommio),
        (&["-config-file=smol.json", "-config-file=glommio.json"], Runtime::Glommio),
        (&["-config-file=smol.json", "-runtime=glommio"], Runtime::Glommio),
    ];
    for (flags, runtime) in cases {
        if runtime.is_here() {
            runtime.check(&start_in(&folder, flags));
        }
    }
    let why = "Invalid runtime: bogus. Valid runtimes are: [auto smol glommio]";
    let output = agent(&FREE).arg("-config-file=bogus.json").current_dir(&folder).output();
    let output = output.expect("the program starts");
    assert_eq!((output.status.code(), output.stdout), (Some(1), format!("==> {why}\n").into_bytes()));
    let validate = Command::new(env!("CARGO_BIN_EXE_villein")).arg("validate").arg(&folder).output();
    let validate = validate.expect("the program starts");
    let expected = |name: &str| format!("{}/{name}", folder.display());
    let expected = [
        format!("{}:2: 'runtime': {why}\n", expected("bogus.json")),
        format!("{}: ok\n", expected("glommio.json")),
        format!("{}: ok\n", expected("smol.json")),
    ];
    assert_eq!((validate.status.code(), validate.stdout), (Some(1), expected.concat().into_bytes()));
}

#[test]
fn a_log_for_machines_has_standard_output_for_itself() {
    let folder = folder("json");
    let written = |name: &str, text: &str| write(&folder, name, text);
    written("c.json", "{\"log_format\": \"json\", \"profile\": \"x\"}");
    written("bogus.json", "{\"log_format\": \"json\", \"bogus\": 1}");
    let cases = [
        (&["-config-file=c.json"][..], "Unknown profile: x"),
        (&["-config-file=bogus.json"], "Error decoding 'bogus.json': 1 error(s) decoding:"),
        (
            &["-config-file=none", "-log-format=json"],
            "Error reading 'none': open none: no such file or directory",
        ),
        (&["-tag=x", "-log-format=json"], "Error: Invalid tag: 'x'"),
        (&["-retry-interval=5", "-log-format=json"], "Error: time: missing unit in duration \"5\""),
    ];
    for (flags, message) in cases {
        let output = agent(&FREE).args(flags).current_dir(&folder).output().expect("the program starts");
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()), "{flags:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr.lines().next(), Some(&*format!("==> {message}")));
    }
}

#[test]
fn validate_names_file_line_and_key() {
    let folder = folder("validate");
    for name in ["d", "d/x.json", "empty"] {
        fs::create_dir(folder.join(name)).expect("the folder is ours");
    }
    std::os::unix::fs::symlink("nowhere", folder.join("d/aa.json")).expect("the folder is ours");
    write(&folder, "good.json", "{\"node_name\": \"a\", \"retry_interval\": \"1ms\"}");
    write(&folder, "d/a.json", "{\"encrypt_key\": \"AAAA\",\n\"event_handler\": []}");
    write(&folder, "d/b.json", "{\"keyring_file\": \"k.json\",\n\"keyring_file\": \"d/k.json\"}");
    write(&folder, "d/c.json", "{\"encrypt_key\": \"AAAAAAAAAAAAAAAAAAAAAA==\"}");
    let validate = |paths: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_villein"));
        let output = command.arg("validate").args(paths).current_dir(&folder).output();
        let output = output.expect("the program starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("the output is text"))
    };
    let low = "good.json:1: 'retry_interval': Warning: 'RetryInterval' is too low. Setting to 1s\n";
    assert_eq!(validate(&["good.json"]), (Some(0), format!("{low}good.json: ok\n")));
    let expected = "d/a.json:1: 'encrypt_key': key size must be 16, 24 or 32 bytes\n\
                    d/a.json:2: 'event_handler': is unknown; did you mean 'event_handlers'?\n\
                    d/aa.json: open d/aa.json: no such file or directory\n\
                    d/b.json:1: 'keyring_file': stands again on line 2, where it counts\n\
                    d/c.json: ok\n\
                    none: open none: no such file or directory\n";
    assert_eq!(validate(&["d", "none"]), (Some(1), expected.to_owned()));
    write(&folder, "d/k.json", "[\"MDEyMzQ1Njc4OWFiY2RlZg==\"]");
    let conflict = "d/b.json:2: 'keyring_file': Encryption key not allowed while using a keyring\n";
    assert!(validate(&["d"]).1.contains(conflict));
    let none = "empty: no file in this directory ends in .json\n";
    assert_eq!(validate(&["empty"]), (Some(0), none.to_owned()));
    let (status, text) = validate(&[]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("At least one file or directory must be specified.\n\nUsage: "), "{text}");
}
