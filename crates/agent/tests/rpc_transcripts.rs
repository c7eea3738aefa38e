//! Recorded conversations: the same requests get the same bytes, and the same ones end the connection.
//!
//! Every recording has a row. Those whose answers hold what no second run gives again, and those from which this
//! agent differs on purpose, name the tests that stand for them instead.

mod lab;

use lab::cluster::{Cluster, config_of};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use villein_agent::config::Config;
use villein_agent::handler::Handler;
use villein_agent::io::{Conn, ConnEvent, Input};
use villein_core::crypto::{Key, Keyring};
use villein_core::time::Duration;
use villein_rpc::framing::Limits;
use villein_rpc::request::{Query, Request, TagChange, UserEvent};
use villein_rpc::Objects;

use Row::{Elsewhere, Exact, Unordered};

/// The place of the agent that is asked, and of the other one.
const ALPHA: usize = 0;
const BETA: usize = 1;
/// The client of the recording, and the one that makes things happen meanwhile.
const CLIENT: u64 = 1;
const OTHER: u64 = 2;

/// How a recording is checked.
enum Row {
    /// The same bytes.
    Exact,
    /// The same objects; their order is random in the reference, or that of the network.
    Unordered,
    /// Not here: why, and the tests in `rpc_sessions.rs` that say what holds.
    Elsewhere(&'static str, &'static [&'static str]),
}

/// What happens to the cluster before the answer with this number is awaited, counted from 0.
type Cue = (usize, fn(&mut Cluster));

/// Name, check, and what happens meanwhile.
const RECORDINGS: &[(&str, Row, &[Cue])] = &[
    ("auth-not-configured", Exact, &[]),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rpc")
}

/// The bytes of a line `C> HEX (remark)` or `A> HEX`.
fn bytes_of(line: &str) -> Option<(char, Vec<u8>)> {
    let (who, hex) = line.split_once("> ")?;
    let hex = hex.split(' ').next()?;
    let pairs = hex.as_bytes().chunks_exact(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some((
        who.chars().next()?,
        bytes.filter(|_| who.len() == 1 && hex.len().is_multiple_of(2) && hex != "=")?,
    ))
}

/// The agents that a recording was made with, as it says itself.
fn scene(text: &str) -> Cluster {
    let setup = text.split("@@ setup\n").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let tagged = |mut config: Config, tags: &[(&str, &str)]| {
        config.node.tags = tags.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        config
    };
    let handling = |mut config: Config, handler: &str| {
        config.handlers = vec![Handler::parse(handler.as_bytes()).expect("the handler is valid")];
        config
    };
    let (alpha, beta) = (|| config_of("alpha", 1), || config_of("beta", 2));
    let mut cluster = if setup.starts_with("agent alpha 127.0.0.1, log level debug, tags role=web") {
        Cluster::new([tagged(alpha(), &[("role", "web")])])
    } else if setup.starts_with("agent alpha 127.0.0.1 with rpc_auth") {
        Cluster::new([Config { rpc_auth: "sekret".into(), ..alpha() }])
    } else if setup.starts_with("agents alpha 127.0.0.1 (role=web) and beta") {
        Cluster::new([tagged(alpha(), &[("role", "web")]), beta()])
    } else if setup.starts_with("agent beta, alone") {
        Cluster::new([beta()])
    } else if setup.starts_with("two agents: alpha") {
        let alpha = tagged(handling(alpha(), "query:load=printf '0.15\\n'"), &[("role", "web"), ("dc", "east")]);
        Cluster::new([alpha, handling(beta(), "query:load=printf 2.50")])
    } else if setup.starts_with("Encrypted cluster") {
        Cluster::new([alpha(), beta(), config_of("gamma", 3)].map(|mut config| {
            let key = Key::from_base64(KEY).expect("it is a key");
            config.node.keyring = Some(Keyring::new(key, []).expect("one key is a ring"));
            config
        }))
    } else {
        panic!("no scene for '{setup}'");
    };
    cluster.prints.insert(b"printf '0.15\\n'".to_vec(), b"0.15\n".to_vec());
    cluster.prints.insert(b"printf 2.50".to_vec(), b"2.50".to_vec());
    for other in 1..cluster.nodes.len() {
        cluster.join(other, ALPHA);
    }
    cluster.client(ALPHA, OTHER);
    cluster
}
const KEY: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";

/// What the agent said, what the recorded one said, and whether each closed the connection.
fn replay(text: &str, cues: &[Cue]) -> ([Vec<u8>; 2], [bool; 2]) {
    let mut cluster = scene(text);
    let (mut said, mut wanted, mut answers) = (Vec::new(), Vec::new(), 0);
    cluster.connect(ALPHA, CLIENT);
    for line in text.lines() {
        match bytes_of(line) {
            Some(('C', bytes)) if !cluster.nodes[ALPHA].closed.contains(&CLIENT) => {
                cluster.client_sends(ALPHA, CLIENT, &bytes);
            }
            Some(('A', bytes)) => {
                cues.iter().filter(|(at, _)| *at == answers).for_each(|(_, cue)| cue(&mut cluster));
                answers += 1;
                wanted.extend(bytes);
                said.extend(cluster.take(ALPHA, CLIENT));
                // Some answers take time: a leave, a tag update, the end of a query.
                for _ in 0..100 {
                    if said.len() < wanted.len() {
                        cluster.pass(Duration::from_millis(100));
                        said.extend(cluster.take(ALPHA, CLIENT));
                    }
                }
            }
            _ if line == "client closes its side" => {
                cluster.give(ALPHA, Input::Conn { conn: Conn::Rpc(CLIENT), event: ConnEvent::End });
            }
            _ => {}
        }
    }
    said.extend(cluster.take(ALPHA, CLIENT));
    let closed = cluster.nodes[ALPHA].closed.contains(&CLIENT);
    ([said, wanted], [closed, text.contains("agent closes its side")])
}

#[test]
fn scan() {
    let mut names: Vec<String> = std::fs::read_dir(directory()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let text = String::from_utf8_lossy(&std::fs::read(directory().join(&name)).unwrap()).into_owned();
        let r = std::panic::catch_unwind(|| replay(&text, &[]));
        match r {
            Err(_) => println!("{name}: PANIC"),
            Ok(([a, b], c)) => if a == b && c[0] == c[1] { println!("{name}: EXACT") } else {
                println!("{name}: DIFF {c:?}\n   ours {}\n   wants {}", a.escape_ascii().to_string().chars().take(1500).collect::<String>(), b.escape_ascii().to_string().chars().take(1500).collect::<String>())
            }
        }
    }
}
