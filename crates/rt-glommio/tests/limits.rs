//! What a user may have is limited. When it is used up there is no loop, and glommio, which would panic, is not asked
//! for one.

use io_uring::IoUring;
use nix::libc::iovec;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, setgid, setuid};
use std::io::{self, Write};
use std::process::Command;
use std::{env, ptr};
use villein_rt_glommio::Glommio;

/// Tells a process which user it is to be when it asks for a loop, and what is left to it.
const LEFT: &str = "VILLEIN_TEST_LEFT";

/// From no page of locked memory to more than a loop takes without its buffers, which it can do without.
const PAGES: u32 = 24;

/// The first of as many users as there are numbers of pages, and one: nobody else's, so that nobody else takes part of
/// what they may have, and without root's right to have more. The kernel takes its time to give the memory of rings
/// back, so each is asked once.
const USER: u32 = 64_100;

/// Pages that a user may lock, and their size.
const LIMIT: (usize, usize) = (256, 4096);

#[test]
fn locked_memory_that_runs_out_is_no_panic() {
    if let Some(pages) = left() {
        return run_out_of_memory(pages);
    }
    for pages in 0..PAGES {
        ask("locked_memory_that_runs_out_is_no_panic", USER + pages, pages);
    }
}

#[test]
fn a_thread_too_many_is_no_panic() {
    if left().is_none() {
        ask("a_thread_too_many_is_no_panic", USER + PAGES, 0);
        return;
    }
    setrlimit(Resource::RLIMIT_NPROC, 1, 1).expect("less is always allowed");
    let why = Glommio::new().expect_err("there is this thread already");
    assert_eq!(why, "a thread cannot be started: resource temporarily unavailable");
}

/// What is left to this process, which becomes its user.
fn left() -> Option<usize> {
    let told = env::var(LEFT).ok()?;
    let (user, left) = told.split_once(' ').expect("two numbers");
    let user = user.parse().expect("a number");
    // The program may lie where only root may look, so it was not started by the user.
    setgid(Gid::from_raw(user)).and_then(|()| setuid(Uid::from_raw(user))).expect("root may");
    Some(left.parse().expect("a number"))
}

/// Runs a test as a user to whom so much is left, where there are users and there is io_uring.
fn ask(test: &str, user: u32, left: u32) {
    let why = match Glommio::new() {
        Ok(_) if geteuid().is_root() => {
            let mut child = Command::new(env::current_exe().expect("it runs"));
            child.args(["--exact", test, "--nocapture"]).env(LEFT, format!("{user} {left}"));
            let output = child.output().expect("it runs once more");
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{left} left: {}", String::from_utf8_lossy(&said));
            return;
        }
        Ok(_) => "only root can be another user".to_owned(),
        Err(why) => why,
    };
    assert!(env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(), "{why}");
    // Past the test runner, which shows nothing of a test that passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Asks for a loop when so many pages are left, as it is asked for by a process that has just started.
fn run_out_of_memory(left: usize) {
    let (pages, size) = LIMIT;
    let bytes = (pages * size) as u64;
    setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes).expect("less is always allowed");
    let holder = IoUring::new(2).expect("there is memory yet");
    // What is there for certain is there to be taken, so the ring's own part need not be known.
    let taken = (0..pages).rev().find(|pages| lock(&holder, pages * size)).expect("there is memory yet");
    holder.submitter().unregister_buffers().expect("they are registered");
    assert!(lock(&holder, (taken - left) * size), "it was there a moment ago");
    let why = Glommio::new().expect_err("there is no memory for it");
    assert!(why.contains("ulimit -l"), "{why}");
}

/// Whether so much could be locked, which it is until it is unregistered.
fn lock(ring: &IoUring, bytes: usize) -> bool {
    let buffer = Box::leak(vec![0_u8; bytes].into_boxed_slice());
    let parts = [iovec { iov_base: ptr::from_mut(buffer).cast(), iov_len: bytes }];
    #[expect(unsafe_code, reason = "the kernel is told an address")]
    // SAFETY: the buffer is there for ever, and no operation names it.
    unsafe {
        ring.submitter().register_buffers(&parts).is_ok()
    }
}
