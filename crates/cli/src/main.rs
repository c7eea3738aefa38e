//! The `villein` program: everything is in the library, where tests reach it.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(villein_cli::run(&line))
}
