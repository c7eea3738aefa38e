//! This runtime does what every runtime must, where the machine has io_uring.

use std::io::{self, Write};
use villein_rt_glommio::{Glommio, Uring};

/// A loop, or the reason why there is none, which skips the test loudly, or fails it where nothing may be absent.
fn event_loop() -> Option<Glommio> {
    let made = Glommio::new();
    if let Err(why) = &made {
        assert!(std::env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(), "{why}");
        // Past the test runner, which shows nothing of a test that passes.
        let _ = writeln!(io::stderr(), "SKIPPED: {why}");
    }
    made.ok()
}

#[test]
fn it_conforms() {
    if event_loop().is_some() {
        villein_host::conformance::all(|boot| Glommio::new().expect("it was here a moment ago").run(boot));
    }
}

#[test]
fn its_connections_conform() {
    if let Some(event_loop) = event_loop() {
        event_loop.block_on(villein_host::connections::<Uring>());
    }
}
