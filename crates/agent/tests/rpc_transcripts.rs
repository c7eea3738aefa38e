//! Conversations of real clients with the reference agent give the same bytes here.

mod lab;

use lab::{Lab, config};
use villein_core::time::Duration;

struct Transcript {
    name: &'static str,
    text: &'static str,
}

fn unhex(text: &str) -> Vec<u8> {
    let text = text.split(' ').next().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// Plays the client's part; gives what the agent said and what the reference said, and who closed.
fn replay(lab: &mut Lab, transcript: &Transcript) -> (String, String, bool, bool) {
    let (mut said, mut wanted) = (Vec::new(), Vec::new());
    lab.connect(1);
    let mut lines = transcript.text.lines().filter(|line| !line.contains("> = bytes"));
    while let Some(line) = lines.next() {
        if let Some(hex) = line.strip_prefix("C> ") {
            if !lab.closed.contains(&1) { lab.client_sends(1, &unhex(hex)); }
        } else if let Some(hex) = line.strip_prefix("A> ") {
            wanted.extend(unhex(hex));
            for _ in 0..100 {
                said.extend(lab.take(1));
                if said.len() >= wanted.len() { break; }
                lab.pass(Duration::from_millis(100));
            }
        }
    }
    said.extend(lab.take(1));
    let hex = |bytes: &[u8]| bytes.escape_ascii().to_string();
    (hex(&said), hex(&wanted), lab.closed.contains(&1), transcript.text.contains("agent closes its side"))
}

#[test]
fn survey() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rpc")).unwrap() {
        let path = entry.unwrap().path();
        let text: &'static str = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned().leak();
        let name: &'static str = path.file_name().unwrap().to_string_lossy().into_owned().leak();
        let mut config = config();
        if name.starts_with("raw-auth") { config.rpc_auth = b"sekret".to_vec(); }
        let mut lab = Lab::new(config);
        let (said, wanted, closed, ref_closed) = replay(&mut lab, &Transcript { name, text });
        println!("{} {name} closed {closed} {ref_closed}", if said == wanted { "SAME" } else { "DIFF" });
        if said != wanted && said.len()<3000 { println!("   said   {said}\n   wanted {wanted}"); }
    }
}
