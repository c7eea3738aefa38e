//! One agent, and what is no agent at all: bad connections, odd bytes, agents that die.

use super::{Host, Running};
use crate::support::Runtime;
use crate::transcript::{Case, Replay};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const ALPHA: &str = "serf agent -node=alpha -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373";

pub(super) fn tokens(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "tokens");
    host.write("auth.json", r#"{"rpc_auth": "sekret"}"#);
    let _alpha = host.agent(&format!("{ALPHA} -config-file=auth.json -log-level=debug"));
    Replay::open("cli/21-rpc-auth", &host.shell()).finish()
}

pub(super) fn bad_connections(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "bad");
    let _alpha = host.agent(ALPHA);
    serve(host.listen("127.0.0.1:7401"), drop);
    serve(host.listen("127.0.0.1:7402"), |mut client| {
        let _ = read_request(&mut client);
        // The client may have gone.
        let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request");
    });
    serve(host.listen("127.0.0.1:7403"), std::mem::forget);
    serve(host.listen("127.0.0.1:7404"), |mut client| answer_handshake(&mut client, ""));
    serve(host.listen("127.0.0.1:7405"), |mut client| {
        answer_handshake(&mut client, "Unsupported IPC version");
    });
    let mut bad = Replay::open("cli/23-rpc-connection", &host.shell());
    // It takes its time to give up; and so it does with an agent that is stopped.
    let silent = bad.start_early("serf members -rpc-addr=127.0.0.1:7403");
    let stopped_host = Host::new(runtime, "stopped");
    let agent = stopped_host.agent(ALPHA);
    agent.signal("STOP");
    let mut stopped = Replay::open("agent/stopped-peer-rpc", &stopped_host.shell());
    let waiting = stopped.start();
    while bad.line().is_some() {
        bad.play();
    }
    bad.settle(silent);
    stopped.settle(waiting);
    [bad.finish(), stopped.finish()].concat()
}

/// Treats every client in this way, as long as the test runs.
fn serve(listener: TcpListener, treat: fn(TcpStream)) {
    std::thread::spawn(move || listener.incoming().flatten().for_each(treat));
}

fn read_request(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = [0; 512];
    let length = client.read(&mut bytes).unwrap_or(0);
    bytes[..length].to_vec()
}

/// Answers the handshake and hangs up.
fn answer_handshake(client: &mut TcpStream, error: &str) {
    let request = read_request(client);
    let at = request.windows(4).position(|bytes| bytes == b"\xa3Seq").expect("a request has a number");
    let text = u8::try_from(error.len()).expect("the text is short");
    let header =
        [b"\x82\xa5Error", &[0xa0 | text][..], error.as_bytes(), b"\xa3Seq", &[request[at + 4]]].concat();
    // The client may have gone.
    let _ = client.write_all(&header);
}

pub(super) fn odd_input(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "odd");
    let _alpha = host.agent(ALPHA);
    Replay::open("cli/24-odd-input", &host.shell()).finish()
}

/// The agent is killed while a command waits.
pub(super) fn lost_connection(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "lost");
    let mut lost = Replay::open("cli/25-lost-connection", &host.shell());
    while lost.line().is_some() {
        let case = lost.take().expect("a command is left");
        let (alpha, waiting) = if case.line.starts_with("serf monitor") {
            sees_the_join(&host, &lost, &case)
        } else {
            let alpha = host.agent(ALPHA);
            let waiting = Running::start(&lost.shell, case);
            waiting.wait_until_interruptible();
            // What was asked later and is acknowledged: then the earlier one is too.
            host.start("serf query -timeout=5s later").wait_for("Ack from");
            (alpha, waiting)
        };
        drop(alpha);
        lost.settle(waiting);
    }
    lost.finish()
}

/// An agent, and a monitor that has seen its own join. That comes a second after the start, and on a busy machine the
/// monitor may be later.
fn sees_the_join(host: &Host, lost: &Replay, case: &Case) -> (Running, Running) {
    loop {
        let alpha = host.agent(ALPHA);
        let waiting = Running::start(&lost.shell, case.clone());
        alpha.wait_for("Accepted client");
        let log = alpha.stdout();
        if log.split_once("Accepted client").is_some_and(|(before, _)| !before.contains("Received event")) {
            waiting.wait_for("Event Info");
            return (alpha, waiting);
        }
    }
}
