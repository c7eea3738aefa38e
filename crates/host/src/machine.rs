//! What this machine is, and what it calls itself.

use crate::limits;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::gethostname;
use std::env::consts;
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
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
        pid: std::process::id(),
    }
}

/// Lets this process have [`limits::OPEN_FILES`] files open, or as many as the system allows it: the usual
/// limit is for programs that wait with `select`, and below what all connections and children need.
pub fn allow_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(limits::OPEN_FILES);
    if soft < wanted {
        // With fewer files some connections and children fail, and say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

/// Keeps from children whatever this process has open, also what it was given by those who started it (a handler
/// has its three standard descriptors and no others, agent.md 12.2). What is opened from now on is kept anyway.
pub fn keep_descriptors() {
    const STANDARD: RawFd = 2;
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > STANDARD) {
        #[expect(unsafe_code, reason = "there is no other way to name a descriptor that nobody here owns")]
        // SAFETY: it is used for one call, which does nothing but set a flag, and refuses a descriptor that has
        // been closed meanwhile.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        // One that has gone needs nothing.
        let _ = fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
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
    fn a_low_limit_of_open_files_is_raised_and_a_high_one_kept() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        let wanted = hard.min(limits::OPEN_FILES);
        for (before, after) in [(wanted / 2, wanted), (hard, hard)] {
            setrlimit(Resource::RLIMIT_NOFILE, before, hard).expect("it is below the hard one");
            allow_open_files();
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((after, hard)));
        }
    }

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
