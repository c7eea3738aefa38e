//! A container image without a registry: the static program of `cargo xtask dist`, busybox and bash.
//!
//! The tools come from Debian's packages busybox-static and bash-static, as they are installed or else
//! downloaded, so that nothing must be installed for them. What is copied into the image is staged in a folder of
//! its own, so that several builds do not meet.
//!
//! Invariant: a program that is older than its sources never gets into an image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// A program of the image that Debian has.
struct Tool {
    package: &'static str,
    /// Where the package puts it, below the root.
    path: &'static str,
    /// Its name in the image's `/bin`.
    name: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool { package: "busybox-static", path: "bin/busybox", name: "busybox" },
    Tool { package: "bash-static", path: "bin/bash-static", name: "bash" },
];

/// Builds the image under these names, or as `villein:VERSION` and `villein:latest`; says whether it went well.
pub(crate) fn run(names: &[String]) -> bool {
    let version = env!("CARGO_PKG_VERSION");
    let usual = [format!("villein:{version}"), "villein:latest".to_owned()];
    let names = if names.is_empty() { &usual } else { names };
    match build(names, version) {
        Ok(()) => true,
        Err(why) => {
            eprintln!("{why}");
            false
        }
    }
}

fn build(names: &[String], version: &str) -> Result<(), String> {
    let target = super::target();
    let program = target.join("dist/villein");
    is_of_these_sources(&program, &target)?;
    let context = Context::new(target.join(format!("image-{}", std::process::id())))?;
    let bin = context.0.join("root/bin");
    make_folder(&bin)?;
    copy(&program, &bin.join("villein"))?;
    for tool in &TOOLS {
        let found =
            if tool.is_installed() { Path::new("/").join(tool.path) } else { tool.download(&context)? };
        copy(&found, &bin.join(tool.name))?;
    }
    copy(&super::root().join("xtask/image/Dockerfile"), &context.0.join("Dockerfile"))?;
    let mut docker = Command::new("docker");
    docker.args(["build", &format!("--label=org.opencontainers.image.version={version}")]);
    docker.args(names.iter().map(|name| format!("--tag={name}"))).arg(&context.0);
    succeed(&mut docker)
}

/// What `docker build` is given, and scratch room. It is gone afterwards.
struct Context(PathBuf);

impl Context {
    fn new(folder: PathBuf) -> Result<Context, String> {
        make_folder(&folder)?;
        Ok(Context(folder))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} cannot be removed: {error}", self.0.display());
        }
    }
}

impl Tool {
    fn is_installed(&self) -> bool {
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=${db:Status-Status}", self.package]);
        query.output().is_ok_and(|output| output.stdout == b"installed")
    }

    /// Takes it out of the package, beside what the image gets.
    fn download(&self, context: &Context) -> Result<PathBuf, String> {
        let folder = context.0.join(self.package);
        make_folder(&folder)?;
        let unpacked = || {
            succeed(Command::new("apt-get").args(["download", self.package]).current_dir(&folder))?;
            let packages = fs::read_dir(&folder).map_err(|error| named(&folder, &error))?;
            let package = packages.filter_map(Result::ok).map(|file| file.path()).next();
            let package = package.ok_or_else(|| format!("there is nothing in {}", folder.display()))?;
            succeed(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&folder))
        };
        let remedy = "install it, or `apt-get update` and try again";
        unpacked().map_err(|why| format!("Debian's package {}: {why}: {remedy}", self.package))?;
        Ok(folder.join(self.path))
    }
}

/// Fails when the program is not there, or is older than what it is made of.
fn is_of_these_sources(program: &Path, target: &Path) -> Result<(), String> {
    let remedy = "run `cargo xtask dist` first";
    let checked = || {
        let made = modified(program)?;
        let list = target.join("x86_64-unknown-linux-gnu/dist/villein.d");
        let list = fs::read_to_string(&list).map_err(|error| named(&list, &error))?;
        let lock = super::root().join("Cargo.lock");
        for source in sources(&list).into_iter().chain([lock]) {
            if modified(&source)? > made {
                return Err(format!("{} is newer than {}", source.display(), program.display()));
            }
        }
        Ok(())
    };
    checked().map_err(|why| format!("{why}: {remedy}"))
}

/// The files that cargo names in `PROGRAM: FILE FILE …`, where a backslash makes a space part of a name.
fn sources(list: &str) -> Vec<PathBuf> {
    let files = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, files)| files);
    let marked = files.replace("\\ ", "\0");
    marked.split(' ').filter(|file| !file.is_empty()).map(|file| file.replace('\0', " ").into()).collect()
}

fn modified(file: &Path) -> Result<SystemTime, String> {
    fs::metadata(file).and_then(|found| found.modified()).map_err(|error| named(file, &error))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| named(folder, &error))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|error| named(from, &error))
}

fn named(file: &Path, error: &io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// Shows and runs a command.
fn succeed(command: &mut Command) -> Result<(), String> {
    println!("\n$ {command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} failed with {status}", command.get_program().display())),
        Err(error) => Err(format!("{} cannot be run: {error}", command.get_program().display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_program() {
        let list = "/t/villein: /a/one.rs /a/with\\ space.rs\n\n/a/one.rs:\n";
        assert_eq!(sources(list), [PathBuf::from("/a/one.rs"), PathBuf::from("/a/with space.rs")]);
        assert!(sources("").is_empty());
    }
}
