//! An encrypted cluster whose keys change, as cli/22-keys describes it.

use super::Host;
use crate::support::Runtime;
use crate::transcript::Replay;

pub(super) fn keys(runtime: Runtime) -> Vec<String> {
    let host = Host::new(runtime, "keys");
    let mut replay = Replay::open("cli/22-keys", &host.shell());
    replay.put_file();
    std::fs::copy(host.folder().join("ring-a.json"), host.folder().join("ring-b.json"))
        .expect("the folder is ours");
    let alpha = host.agent("serf agent -node=alpha -bind=127.0.0.1 -keyring-file=ring-a.json");
    let beta = host.agent("serf agent -node=beta -bind=127.0.0.2 -rpc-addr=127.0.0.2:7373 -keyring-file=ring-b.json -join=127.0.0.1");
    let _gamma = host.agent("serf agent -node=gamma -bind=127.0.0.3 -rpc-addr=127.0.0.3:7373 -encrypt=5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4= -join=127.0.0.1");
    alpha.wait_for("EventMemberJoin: gamma");
    beta.wait_for("EventMemberJoin: gamma");
    while replay.line().is_some_and(|_| !replay.expected().contains("2/3 nodes")) {
        let case = replay.take().expect("a command is left");
        replay.ask(&case);
    }
    // Both at once, because a silent member counts only as long as it is suspected.
    beta.signal("STOP");
    let (list, install) = (replay.start(), replay.start());
    replay.settle(list);
    replay.settle(install);
    beta.signal("CONT");
    host.wait_for("serf members -name=beta", "alive");
    std::fs::remove_file(host.folder().join("ring-b.json")).expect("it was there");
    std::fs::create_dir(host.folder().join("ring-b.json")).expect("the folder is ours");
    replay.finish()
}
