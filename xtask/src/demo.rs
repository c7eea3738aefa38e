//! A cluster to look at: three agents on loopback addresses, a member list, an event and a query.
//!
//! What the agents print is shown behind their names. Ctrl-C reaches them like this program, and they leave.

use signal_hook::consts::SIGINT;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

const NODES: [&str; 3] = ["alpha", "beta", "gamma"];

fn host(index: usize) -> String {
    format!("127.7.7.{}", index + 1)
}

/// Runs the cluster until it is interrupted; says whether all went well.
pub(crate) fn run() -> bool {
    if !super::cargo(&["build", "--package", "villein-cli"], &[]) {
        return false;
    }
    // Ctrl-C is for the agents: this program stays to show how they leave.
    if let Err(error) = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false))) {
        eprintln!("SIGINT cannot be handled: {error}");
        return false;
    }
    let program = super::target().join("debug/villein");
    let mut agents = Vec::new();
    for index in 0..NODES.len() {
        match start(&program, index) {
            Ok(agent) => agents.push(agent),
            Err(error) => {
                eprintln!("{} cannot be run: {error}", program.display());
                break;
            }
        }
    }
    let shown = agents.len() == NODES.len() && show(&program);
    if shown {
        println!("\nThe cluster runs. In another terminal, for example:");
        println!("    {} monitor -rpc-addr={}:7373", program.display(), host(0));
        println!("Ctrl-C lets the three agents leave.\n");
    }
    let mut passed = shown;
    for (mut agent, reader) in agents {
        if !shown {
            // An agent that has already ended cannot be killed, and need not be.
            let _ = agent.kill();
        }
        passed &= agent.wait().is_ok_and(|status| status.success());
        reader.join().expect("the reader does not panic");
    }
    passed
}

fn start(program: &Path, index: usize) -> std::io::Result<(Child, JoinHandle<()>)> {
    let name = NODES[index];
    let mut command = Command::new(program);
    command
        .arg("agent")
        .args([format!("-node={name}"), format!("-bind={}", host(index))])
        .args([format!("-rpc-addr={}:7373", host(index)), format!("-tag=number={index}")])
        .arg("-event-handler=user=echo \"got the event $SERF_USER_EVENT with payload: $(cat)\" 1>&2")
        .arg("-event-handler=query:shell=/bin/sh")
        .args(["-log-level=debug", "-retry-interval=1s"])
        .stdout(Stdio::piped());
    if index > 0 {
        command.arg(format!("-retry-join={}", host(0)));
    }
    println!("\n$ {}", shown(&command));
    let mut child = command.spawn()?;
    let output = child.stdout.take().expect("the output is piped");
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{name:>6} | {line}");
        }
    });
    Ok((child, reader))
}

fn shown(command: &Command) -> String {
    let arguments: Vec<String> = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .map(|argument| if argument.contains([' ', '$']) { format!("'{argument}'") } else { argument })
        .collect();
    format!("villein {}", arguments.join(" "))
}

/// Waits for the cluster to form, then shows what it can do.
fn show(program: &Path) -> bool {
    let rpc = format!("-rpc-addr={}:7373", host(0));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let output = Command::new(program).args(["members", "-status=alive", &rpc]).output();
        let alive = output.map(|output| String::from_utf8_lossy(&output.stdout).lines().count());
        if alive.is_ok_and(|alive| alive == NODES.len()) {
            break;
        }
        if std::time::Instant::now() > deadline {
            eprintln!("the cluster did not form within 30 s: see what the agents say above");
            return false;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
    let steps: [&[&str]; 3] =
        [&["members", &rpc], &["event", &rpc, "hoge", "1234567890"], &["query", &rpc, "shell", "uptime"]];
    steps.iter().all(|step| {
        let mut command = Command::new(program);
        command.args(*step);
        println!("\n$ {}", shown(&command));
        command.status().is_ok_and(|status| status.success())
    })
}
