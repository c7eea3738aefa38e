//! What a developer runs: `cargo xtask <command>`.

mod demo;
mod dist;
mod image;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
Usage: cargo xtask <command>

    demo    build villein and run a small cluster on this host until Ctrl-C
    dist    build one static villein, its manual, completions, unit and packages in target/dist
    image   build a container image of target/dist/villein, busybox and bash [NAME:TAG ...]
    test    build and run every test
    tidy    check what the compiler does not: lengths, layers, left-overs
    ci      everything that a change must pass";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let passed = match command.as_str() {
        "demo" => demo::run(),
        "dist" => dist::run(),
        "image" => image::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        "test" => test(),
        "tidy" => tidy::run(),
        "ci" => ci(),
        _ => {
            eprintln!("{USAGE}");
            false
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// The folder of the build.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs cargo, shows what is run, and says whether it went well.
fn cargo(arguments: &[&str], env: &[(&str, &str)]) -> bool {
    let shown: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value:?} ")).collect();
    println!("\n$ {}cargo {}", shown.concat(), arguments.join(" "));
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).envs(env.iter().copied());
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cargo cannot be run: {error}");
            false
        }
    }
}

fn test() -> bool {
    cargo(&["test", "--workspace"], &[])
}

fn ci() -> bool {
    cargo(&["fmt", "--all", "--check"], &[])
        && tidy::run()
        && cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
        && cargo(
            &["doc", "--workspace", "--no-deps", "--document-private-items"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        )
        && dist::run()
        && test()
}
