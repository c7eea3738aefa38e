//! Two and three agents: a monitor that watches, and members that are forced to leave although they are alive.

use super::{Host, Running};
use crate::support::Runtime;
use crate::transcript::Replay;

pub(super) fn monitor(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "monitor");
    let alpha =
        host.agent("serf agent -node=alpha -bind=127.0.0.1 '-event-handler=query:load=printf \"0.15\\n\"'");
    let beta = "serf agent -node=beta -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -join=127.0.0.1";
    let _beta = host.agent(&format!("{beta} '-event-handler=query:load=printf 2.50'"));
    alpha.wait_for("EventMemberJoin: beta");
    alpha.wait_for("Received event: member-join");

    let mut monitor = Replay::open("cli/19-monitor", &host.shell());
    let mut watching = monitor.start();
    watching.wait_for("Accepted client");
    for line in
        ["event deploy 1.2.3", "query -timeout=300ms load", "query -timeout=300ms x arg", "tags -set m=1"]
    {
        assert_eq!(host.run(&format!("serf {line}")).exit, "0", "{line}");
    }
    monitor.watch(&mut watching);
    watching.interrupt();
    monitor.settle(watching);

    let mut watching = monitor.start();
    watching.wait_for("Received event: member-update");
    host.run("serf event -coalesce=false deploy 1.2.3");
    monitor.watch(&mut watching);
    watching.interrupt();
    monitor.settle(watching);

    let watching = monitor.start();
    watching.interrupt();
    monitor.settle(watching);

    // Two levels that do not exist.
    monitor.play();
    monitor.play();

    let watching = monitor.start();
    watching.wait_until_interruptible();
    host.run("serf leave");
    monitor.settle(watching);
    monitor.finish()
}

pub(super) fn forced_leave(runtime: Runtime) -> Vec<String> {
    const ALPHA: &str = "serf agent -node=alpha -bind=127.0.0.1 -rpc-addr=127.0.0.1:7373";
    const BETA: &str = "serf agent -node=beta -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -join=127.0.0.1";
    let host = Host::new(runtime, "forced");
    let mut forced = Replay::open("cli/16b-force-leave-alive", &host.shell());
    let start = |forced: &mut Replay, line| -> Running {
        let agent = forced.start_early(line);
        agent.wait_for("agent: Serf agent starting");
        agent
    };
    let alpha = start(&mut forced, ALPHA);
    let beta = start(&mut forced, BETA);
    let gamma = host.agent("serf agent -node=gamma -bind=127.0.0.3 -rpc-addr=127.0.0.3:7373 -join=127.0.0.1");
    alpha.wait_for("EventMemberJoin: gamma");
    beta.wait_for("EventMemberJoin: gamma");
    for _ in 0..5 {
        let case = forced.take().expect("a command is left");
        forced.ask(&case);
    }
    host.run("serf force-leave -prune beta");
    for _ in 0..4 {
        let case = forced.take().expect("a command is left");
        forced.ask(&case);
    }
    forced.settle(alpha);
    forced.settle(beta);
    drop(gamma);

    // A second cluster, of two.
    let alpha = start(&mut forced, ALPHA);
    let beta = host.agent(BETA);
    alpha.wait_for("EventMemberJoin: beta");
    for _ in 0..4 {
        let case = forced.take().expect("a command is left");
        forced.ask(&case);
    }
    drop(beta);
    let case = forced.take().expect("a command is left");
    host.wait_for("serf members -name=beta", "failed");
    forced.ask(&case);
    forced.settle(alpha);
    forced.finish()
}
