//! What goes wrong is said clearly, with the reference's exit status, and the agent lives on.

use crate::support::{
    Agent, Folder, Kind, Printed, Program, Runtime, client, on_every_runtime, run, wait_until,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

on_every_runtime! {
    a_join_that_fails_says_which_address_and_why,
    a_handler_that_cannot_run_is_reported,
    payloads_over_the_limit_and_absent_agents_are_refused,
    garbage_on_every_port_is_counted_and_survived,
}

fn villein(words: &[&str]) -> Printed {
    run(Command::new(Program::Villein.path()).args(words))
}

/// Runs an agent that cannot start.
fn refused(words: &[&str]) -> String {
    let printed = villein(&[&["agent"], words].concat());
    assert_eq!(printed.status, Some(1), "{printed:?}");
    printed.stdout
}

#[test]
fn an_agent_that_cannot_start_names_the_flag_or_the_thing() {
    let at = |last: u8| (format!("-bind=127.61.0.{last}"), format!("-rpc-addr=127.61.0.{last}:7373"));
    let (bind, rpc) = at(1);
    for (words, expected) in [
        (&["-iface=nosuch0"][..], "nosuch0"),
        (&["-bind=256.1.1.1"], "256.1.1.1"),
        (&["-bind=127.0.0.1:99999"], "99999"),
        (&["-profile=fast"], "Unknown profile: fast"),
        (&["-protocol=1"], "Protocol version '1' too low. Must be in range: [2, 5]"),
        (&["-log-level=LOUD"], "Invalid log level: LOUD"),
        (&["-tag=novalue"], "Invalid tag: 'novalue'"),
        (&["-event-handler=bogus=x.sh"], "Event 'bogus' invoking 'x.sh'"),
        (&["-retry-interval=5"], "missing unit in duration"),
    ] {
        // The flag under test comes last, and the last one counts.
        let words = [&[rpc.as_str(), bind.as_str()], words].concat();
        let stdout = refused(&words);
        assert!(stdout.contains(expected), "{words:?} says {expected:?}: {stdout}");
        assert!(stdout.lines().any(|line| line.starts_with("==> ")), "{stdout}");
    }
    let printed = villein(&["agent", "-nosuch"]);
    assert_eq!(printed.stderr, "flag provided but not defined: -nosuch\n");
    assert_eq!(printed.status, Some(1));
}

#[test]
fn a_taken_port_is_named() {
    let gossip = TcpListener::bind("127.61.1.1:7946").expect("the port is free");
    let stdout = refused(&["-bind=127.61.1.1", "-rpc-addr=127.61.1.1:7373"]);
    assert!(stdout.contains("127.61.1.1:7946") && stdout.contains("address already in use"), "{stdout}");
    drop(gossip);
    let rpc = TcpListener::bind("127.61.1.1:7373").expect("the port is free");
    let stdout = refused(&["-bind=127.61.1.1", "-rpc-addr=127.61.1.1:7373"]);
    assert!(stdout.contains("Error starting RPC listener") && stdout.contains("127.61.1.1:7373"), "{stdout}");
    drop(rpc);
}

fn a_join_that_fails_says_which_address_and_why(runtime: Runtime) {
    let agent = Agent::on_loopback(runtime, &runtime.here("127.61.2.1"), "lonely", &[]);
    for (address, expected) in [
        ("127.61.2.9", "Failed to join 127.61.2.9: dial tcp 127.61.2.9:7946: connect: connection refused"),
        ("no-such-host.invalid", "Failed to resolve no-such-host.invalid: lookup no-such-host.invalid"),
        ("127.61.2.9:99999", "Failed to resolve 127.61.2.9:99999"),
        ("/127.61.2.9", "Failed to resolve /127.61.2.9: empty node name provided"),
    ] {
        let (address, expected) = (&*runtime.here(address), &*runtime.here(expected));
        let printed = client(Program::Villein, &agent, &["join", address]);
        assert!(printed.stdout.starts_with("Error joining the cluster: 1 error occurred:\n"), "{printed:?}");
        assert!(printed.stdout.contains(expected), "{printed:?} has {expected:?}");
        assert_eq!(printed.status, Some(1));
    }
    let words = ["-bind=127.61.2.2", "-rpc-addr=127.61.2.2:7373", "-join=127.61.2.9"];
    let stdout = run(Kind::from(runtime).command().args(words.map(|word| runtime.here(word)))).stdout;
    assert!(stdout.contains(&runtime.here("Failed to join 127.61.2.9")), "{stdout}");
}

fn a_handler_that_cannot_run_is_reported(runtime: Runtime) {
    let folder = Folder::new("handlers");
    let plain = folder.path("plain.txt");
    std::fs::write(&plain, "not a script").expect("the file can be written");
    let handlers = [
        "-event-handler=user=/no/such/handler".to_owned(),
        format!("-event-handler=user={}", plain.display()),
        "-event-handler=user=exit 3".to_owned(),
    ];
    let words: Vec<&str> = handlers.iter().map(String::as_str).collect();
    let agent = Agent::on_loopback(runtime, &runtime.here("127.61.3.1"), "handlers", &words);
    let printed = client(Program::Villein, &agent, &["event", "-coalesce=false", "go"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    agent.wait_for("Error invoking script '/no/such/handler': exit status 127");
    agent.wait_for(&format!("Error invoking script '{}': exit status 126", plain.display()));
    agent.wait_for("Error invoking script 'exit 3': exit status 3");
}

fn payloads_over_the_limit_and_absent_agents_are_refused(runtime: Runtime) {
    let agent = Agent::on_loopback(runtime, &runtime.here("127.61.4.1"), "limits", &[]);
    let printed = client(Program::Villein, &agent, &["event", "n", &"x".repeat(512)]);
    assert_eq!(
        printed.stdout,
        "Error sending event: user event exceeds configured limit of 512 bytes before encoding \
         (name 1 + payload 512 = 513 bytes)\n"
    );
    assert_eq!(printed.status, Some(1));
    let printed = client(Program::Villein, &agent, &["query", "n", &"x".repeat(1100)]);
    let expected =
        "Error sending query: query exceeds limit of 1024 bytes (name 1 + payload 1100 + encoding ";
    assert!(printed.stdout.starts_with(expected) && printed.stdout.ends_with(" bytes)\n"), "{printed:?}");
    let printed = villein(&["members", &runtime.here("-rpc-addr=127.61.4.9:7373")]);
    let expected = "Error connecting to Serf agent: dial tcp 127.61.4.9:7373: connect: connection refused\n";
    assert_eq!((printed.stdout, printed.status), (runtime.here(expected), Some(1)));
}

/// The value of a counter in the output of `info`.
fn counter(agent: &Agent, name: &str) -> u64 {
    let info = client(Program::Villein, agent, &["info"]).stdout;
    let line = info.lines().find(|line| line.trim_start().starts_with(&format!("{name} = ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {info}"))
}

fn garbage_on_every_port_is_counted_and_survived(runtime: Runtime) {
    let agent = Agent::on_loopback(runtime, &runtime.here("127.61.5.1"), "target", &[]);
    let socket = UdpSocket::bind(runtime.here("127.61.5.2:0")).expect("a socket");
    let target = runtime.here("127.61.5.1");
    let mut state = 12345u32;
    for length in 1..400usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        socket.send_to(&bytes, (&*target, 7946)).expect("loopback takes it");
    }
    for (port, greeting) in [
        (7946, &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (7946, &[7, 1, 0]),
        (7373, b"GET / HTTP/1.1\r\n\r\n"),
        (7373, &[0xc1]),
    ] {
        let mut stream = TcpStream::connect((&*target, port)).expect("the port is open");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.write_all(greeting).expect("loopback takes it");
        let mut rest = Vec::new();
        // The agent closes the connection, with or without a last word, or resets it.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    let info = || client(Program::Villein, &agent, &["info"]).stdout;
    wait_until(
        "packets are counted",
        || counter(&agent, "packets") + counter(&agent, "messages") > 100,
        info,
    );
    wait_until("streams are counted", || counter(&agent, "streams") >= 2, info);
    wait_until("requests are counted", || counter(&agent, "rpc") >= 2, info);
    let printed = client(Program::Villein, &agent, &["members"]);
    assert_eq!(printed.stdout.trim_end(), format!("target  {target}:7946  alive"));
}
