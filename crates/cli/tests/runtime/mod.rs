//! The event loops that agents of ours run on: a parameter of every test in which one runs.
//!
//! A test that is about agents of ours is a function of a [`Runtime`], and `on_every_runtime!` makes a test of it on
//! each; tests of whole clusters have members of every kind. Invariant: an agent that was told to use an event loop
//! uses it, or its test fails.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// An event loop of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Smol,
    Glommio,
}

/// Makes tests `smol::NAME` and `glommio::NAME` of functions that take a [`Runtime`].
macro_rules! on_every_runtime {
    ($($name:ident),+ $(,)?) => {
        mod smol {
            $(#[test]
            fn $name() {
                super::$name($crate::runtime::Runtime::Smol);
            })+
        }

        mod glommio {
            $(#[test]
            fn $name() {
                if $crate::runtime::Runtime::Glommio.is_here() {
                    super::$name($crate::runtime::Runtime::Glommio);
                }
            })+
        }
    };
}
pub(crate) use on_every_runtime;

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Smol => "smol",
            Runtime::Glommio => "glommio",
        }
    }

    /// The flag that asks for it.
    pub(crate) fn flag(self) -> String {
        format!("-runtime={}", self.name())
    }

    /// Whether agents can use it here. It is skipped with the reason that the agent gives.
    pub(crate) fn is_here(self) -> bool {
        let found = self.found();
        let why = found.as_ref().err().map(String::as_str).unwrap_or_default();
        available(&format!("{} ({why})", self.name()), found.is_ok())
    }

    /// `Err` is why agents cannot use it here.
    pub(crate) fn found(self) -> &'static Result<(), String> {
        static GLOMMIO: OnceLock<Result<(), String>> = OnceLock::new();
        match self {
            Runtime::Smol => &Ok(()),
            Runtime::Glommio => GLOMMIO.get_or_init(|| try_out(self)),
        }
    }

    /// What an agent that has started has printed says that it runs on this.
    pub(crate) fn check(self, printed: &str) {
        let line = format!(" Runtime: {}\n", self.name());
        assert!(printed.contains(&line), "the agent should run on {}: {printed}", self.name());
    }

    /// The same text with loopback addresses of this runtime alone, so that its tests and those of the other can run
    /// at the same time: 127.64.3.1 or 127.164.3.1.
    pub(crate) fn here(self, text: &str) -> String {
        match self {
            Runtime::Smol => text.to_owned(),
            Runtime::Glommio => text.replace("127.", "127.1"),
        }
    }
}

/// Whether a test may go on that needs `what`. A missing part skips the test loudly, or fails it where
/// interop is required.
pub(crate) fn available(what: &str, present: bool) -> bool {
    if !present {
        assert!(std::env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(), "{what} is required and absent");
        // Past the test runner, which shows nothing of a test that passes; in one piece, as tests run side by side.
        let _ = std::io::stderr().write_all(format!("SKIPPED: {what} is absent\n").as_bytes());
    }
    present
}

/// Starts an agent on it; `Err` is why it runs on another.
fn try_out(runtime: Runtime) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_villein"));
    command.args(["agent", "-node=tried", "-bind=127.0.0.1:0", "-rpc-addr=127.0.0.1:0", &runtime.flag()]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let printed: Vec<String> = lines
        .map(|line| line.expect("the output is text"))
        .take_while(|line| !line.contains("Serf agent starting"))
        .collect();
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().expect("it is our child");
    if printed.iter().any(|line| line.ends_with(&format!(" Runtime: {}", runtime.name()))) {
        return Ok(());
    }
    let why = printed.iter().find_map(|line| line.split_once(" instead of glommio: ").map(|(_, why)| why));
    Err(why.map_or_else(|| printed.concat(), str::to_owned))
}
