//! What this machine is, and what it calls itself.

use nix::unistd::gethostname;
use std::env::consts;
use std::thread;
use villein_agent::config::Machine;

/// The host name; `localhost` if there is none.
pub fn host_name() -> String {
    let name = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// System, architecture and processors, for `stats`.
pub fn machine() -> Machine {
    Machine {
        os: consts::OS.to_owned(),
        arch: shared_name(consts::ARCH).to_owned(),
        cpu_count: thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The architecture's name as the other agents of a cluster spell it (rpc.md 6.19).
fn shared_name(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_the_names_that_scripts_know() {
        for (ours, shared) in [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")] {
            assert_eq!(shared_name(ours), shared);
        }
        let machine = machine();
        assert_eq!(machine.os, "linux");
        assert!(machine.cpu_count >= 1);
    }
}
