//! Whether this machine has io_uring for us. glommio must not be the first to find out: it panics, or ends the process.

use io_uring::{IoUring, Probe, opcode};
use nix::libc::iovec;
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::thread;
use villein_host::os_words;

/// Locked memory that glommio demands, in bytes.
const LOCKED_MEMORY: u64 = 512 << 10;

/// Locked memory that must be free, in bytes: what a loop takes for its rings and its buffers, which are registered
/// three times, and some more, because another agent of the same user may start at the same moment.
const FREE_MEMORY: usize = 256 << 10;

/// Tries everything that glommio relies on, with rings of so many entries; `Err` says what is in the way.
pub(crate) fn check(entries: u32) -> Result<(), String> {
    let (locked, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| refused(&error.into()))?;
    locked_memory(locked)?;
    operations(entries).map_err(|error| refused(&error))?;
    a_thread().map_err(|error| format!("a thread cannot be started: {}", os_words(&error)))
}

/// Why io_uring is not there, in words.
pub(crate) fn refused(error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => {
            " (a container's seccomp profile or the setting kernel.io_uring_disabled forbids it)"
        }
        Some(nix::errno::Errno::ENOSYS) => " (this kernel has none)",
        Some(nix::errno::Errno::ENOMEM) => {
            " (the limit of locked memory is used up: raise it, as `ulimit -l` does)"
        }
        _ => "",
    };
    format!("io_uring: {}{hint}", os_words(error))
}

fn locked_memory(limit: u64) -> Result<(), String> {
    if limit < LOCKED_MEMORY {
        return Err(format!(
            "io_uring needs {} KiB of locked memory and the limit is {} KiB: raise it, as `ulimit -l` does",
            LOCKED_MEMORY >> 10,
            limit >> 10
        ));
    }
    Ok(())
}

fn operations(entries: u32) -> io::Result<()> {
    let ring = IoUring::new(entries)?;
    ring.submit()?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    // The operations came into kernels in the order of their numbers; this is the last that glommio wants.
    if !(0..=opcode::Recv::CODE).all(|operation| probe.is_supported(operation)) {
        return Err(nix::errno::Errno::ENOSYS.into());
    }
    IoUring::builder().setup_iopoll().build(entries).map(|_: IoUring| ())?;
    free_memory(&ring)
}

/// Starts a thread, as glommio does.
fn a_thread() -> io::Result<()> {
    let started = thread::Builder::new().spawn(|| ())?;
    started.join().map_err(|_| io::ErrorKind::Other.into())
}

/// Registers memory and gives it back. The kernel gives the memory of a ring back some time after it is closed, so
/// that a second ring may fail where a first one was made; that of registered buffers it gives back at once.
fn free_memory(ring: &IoUring) -> io::Result<()> {
    let mut buffer = vec![0_u8; FREE_MEMORY];
    let parts = [iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    #[expect(unsafe_code, reason = "the kernel is told an address")]
    // SAFETY: the buffer is there until it is unregistered, and no operation names it.
    unsafe {
        ring.submitter().register_buffers(&parts)?;
    }
    ring.submitter().unregister_buffers()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_locked_memory_is_named_with_its_remedy() {
        let why = locked_memory(64 << 10).expect_err("it is too low");
        assert!(why.contains("512 KiB") && why.contains("64 KiB") && why.contains("ulimit -l"), "{why}");
        assert_eq!(locked_memory(LOCKED_MEMORY), Ok(()));
    }

    #[test]
    fn what_forbids_it_is_named() {
        let why = refused(&nix::errno::Errno::EPERM.into());
        assert!(why.starts_with("io_uring: operation not permitted (a container's seccomp profile"), "{why}");
    }
}
