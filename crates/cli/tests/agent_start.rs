//! How an agent starts and ends, from the outside: what it prints, where, and with which status.

mod transcript;
#[path = "agent_start/transcripts.rs"]
mod transcripts;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

/// Free ports of the loopback address, so that tests do not meet.
const FREE: [&str; 3] = ["-node=alpha", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0"];

fn agent(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_villein"));
    command.arg("agent").args(flags);
    command
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
            "Failed to start the Serf agent: Error creating Serf: Encoded length of tags exceeds limit of 512 bytes",
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

#[test]
fn the_banner_shows_real_ports_and_an_interrupt_leaves() {
    let mut child = agent(&FREE).stdout(Stdio::piped()).spawn().expect("the program starts");
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
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("every system has kill").success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the output is text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "{rest}");
    assert!(rest.contains("==> Caught signal: interrupt\n==> Gracefully shutting down agent...\n"), "{rest}");
}

#[test]
fn signals_that_mean_nothing_to_an_agent_do_not_end_it() {
    let mut child = agent(&FREE).stdout(Stdio::piped()).spawn().expect("the program starts");
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

#[test]
fn an_agent_whose_output_nobody_reads_ends_like_a_program_in_a_pipeline() {
    let mut child =
        agent(&FREE).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}
