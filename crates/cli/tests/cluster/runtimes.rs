//! What an event loop of ours must not do to others, and what agents do where io_uring is not to be had.

use crate::support::{Agent, Folder, Program, Runtime, client, count, on_every_runtime, wait_until};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use villein_rpc::Client;

on_every_runtime! {
    a_handler_inherits_nothing,
    who_ends_leaves_its_addresses_to_the_next_at_once,
}

/// Nothing of the agent's: no connection that it has accepted or made, no socket, no file, no ring.
fn a_handler_inherits_nothing(runtime: Runtime) {
    let folder = Folder::new("inherited");
    let listed = folder.path("listed").display().to_string();
    // The shell lists what it has itself.
    let handler =
        format!("-event-handler=user=(ls -l /proc/$$/fd > {listed}.part); mv {listed}.part {listed}");
    let snapshot = format!("-snapshot={}", folder.path("snapshot").display());
    let ip = runtime.here("127.64.23.1");
    let agent = Agent::on_loopback(runtime, &ip, "parent", &[&handler, &snapshot]);
    let mut streaming = Client::connect(&agent.rpc, None).expect("the agent takes clients");
    streaming.stream("*").expect("a stream can be had");
    let gossip = TcpStream::connect((&*ip, 7946)).expect("the agent takes connections");
    // An address that takes a connection and says nothing, so that the join goes on.
    let silent = TcpListener::bind((&*runtime.here("127.64.23.2"), 7946)).expect("it is free");
    let mut join = Command::new(Program::Villein.path());
    join.args(["join", &format!("-rpc-addr={}", agent.rpc), &runtime.here("127.64.23.2")]);
    let mut joining = join.stdout(Stdio::null()).spawn().expect("the program starts");
    let joined = silent.accept().expect("it is contacted");
    let printed = client(Program::Villein, &agent, &["event", "x"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    wait_until("the handler has run", || folder.path("listed").exists(), || agent.output());
    assert_eq!(joining.try_wait().expect("it is our child"), None, "the join goes on");
    let listed = folder.read("listed");
    let numbers = listed.lines().filter_map(|line| line.split_once(" -> ")?.0.rsplit(' ').next());
    assert_eq!(numbers.collect::<Vec<_>>(), ["0", "1", "2"], "{listed}");
    drop((gossip, joined, silent));
    joining.wait().expect("it is our child");
}

/// Also with a client.
fn who_ends_leaves_its_addresses_to_the_next_at_once(runtime: Runtime) {
    let ip = runtime.here("127.64.24.1");
    for signal in ["KILL", "TERM"].repeat(5) {
        let mut agent = Agent::on_loopback(runtime, &ip, "first", &[]);
        let _client = Client::connect(&agent.rpc, None).expect("the agent takes clients");
        agent.signal(signal);
        agent.wait();
        for port in [7373, 7946] {
            let next = TcpListener::bind((&*ip, port));
            assert!(next.is_ok(), "TCP port {port} after SIG{signal}: {next:?}");
        }
        let next = UdpSocket::bind((&*ip, 7946));
        assert!(next.is_ok(), "after SIG{signal}: {next:?}");
    }
}

#[test]
fn where_locked_memory_is_short_an_agent_says_so_and_runs_on_smol() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -l 256 && exec \"$0\" \"$@\"", Program::Villein.path(), "agent"]);
    command.args(["-runtime=glommio", "-node=short", "-bind=127.64.25.1", "-rpc-addr=127.64.25.1:7373"]);
    let agent = Agent::start(Runtime::Smol, command, "127.64.25.1:7373");
    let warning = "[WARN] agent: the agent runs on smol instead of glommio: io_uring needs 512 KiB of locked \
                   memory and the limit is 256 KiB: raise it, as `ulimit -l` does\n";
    let said = agent.output();
    assert_eq!((count(&said, warning), count(&said, "glommio")), (1, 1), "{said}");
    let info = client(Program::Villein, &agent, &["info"]).stdout;
    assert!(info.contains("\tevent_loop = smol\n"), "{info}");
    let other = Agent::on_loopback(Runtime::Glommio.or_smol(), "127.64.25.2", "other", &[]);
    let printed = client(Program::Villein, &other, &["join", "127.64.25.1"]);
    assert_eq!(printed.status, Some(0), "{printed:?}");
    let members = || client(Program::Villein, &agent, &["members", "-status=alive"]).stdout;
    wait_until("both are members", || members().lines().count() == 2, members);
}
