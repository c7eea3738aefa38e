//! `cargo xtask dist`: one static program and everything around it, in `target/dist`.
//!
//! Decides what is in a distribution and what it must hold to. The program is linked statically and smaller than
//! [`SIZE_MAX`]; completions and manual pages come from its own definition of the command line; the unit, the default
//! configuration and the package's scripts are files in `xtask/dist`. Invariants: two runs on the same sources make the
//! same bytes; `SHA256SUMS` is there only if everything before it went well.

mod completions;
mod elf;
mod licences;
mod manual;
mod package;
mod surface;
mod tools;

use std::fs;
use std::path::Path;
use std::process::Command;
use tools::{Epoch, Tree};

/// Bytes of the program, at most.
const SIZE_MAX: usize = 4_000_000;

/// What the program runs on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What is made before anything is packed.
struct Made {
    version: &'static str,
    program: Vec<u8>,
    completions: [(&'static str, String); 3],
    pages: Vec<(String, String)>,
    unit: String,
    licences: String,
    /// What there is to read, by its path in the repository.
    documents: Vec<(String, String)>,
}

/// Makes the distribution, prints what it made, and says whether all went well.
pub(crate) fn run() -> bool {
    let made = make();
    if let Err(why) = &made {
        eprintln!("dist: {why}");
    }
    made.is_ok()
}

fn make() -> Result<(), String> {
    let target =
        std::path::absolute(crate::target()).map_err(|error| format!("the folder of the build: {error}"))?;
    let epoch = Epoch::find()?;
    let program = build(&target, epoch)?;
    let made = gather(program, epoch)?;
    let dist = Tree::new(target.join("dist"))?;
    write(&made, &dist)?;
    check(&dist, &target)?;

    let room = target.join("dist-work");
    let name = format!("villein-{}-x86_64-linux", made.version);
    archive(&made, &room.join(&name), &dist.path().join(format!("{name}.tar.gz")), epoch)?;
    let package = dist.path().join(format!("villein_{}_amd64.deb", made.version));
    package::build(&made, &room.join("package"), &package, epoch)?;
    fs::remove_dir_all(&room).map_err(|error| format!("{}: {error}", room.display()))?;

    let files = dist.files()?;
    dist.put("SHA256SUMS", dist.sums("sha256sum", &files)?, 0o644)?;
    println!("\n{}:", dist.path().display());
    for name in dist.files()? {
        let size = fs::metadata(dist.path().join(&name)).map_or(0, |found| found.len());
        println!("{size:>10}  {name}");
    }
    Ok(())
}

/// Builds the program, and holds it to what is promised.
fn build(target: &Path, epoch: Epoch) -> Result<Vec<u8>, String> {
    let script = crate::root().join("xtask/dist/link.ld");
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        // Functions of equal code become one, and relocations are packed.
        "-Clink-arg=-Wl,--icf=all,-z,pack-relative-relocs".to_owned(),
        format!("-Clink-arg=-Wl,-T,{}", script.display()),
        // Where it was built is nobody's business, and would make it differ from place to place.
        format!("--remap-path-prefix={}=villein", crate::root().display()),
    ];
    let cargo_home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"));
    flags.extend(cargo_home.ok().map(|home| format!("--remap-path-prefix={home}=cargo")));
    // Cargo would put what runs on the host during the build into `target/dist`, which is ours.
    let room = target.join("dist-build").display().to_string();
    let env = [
        ("CARGO_ENCODED_RUSTFLAGS", &*flags.join("\x1f")),
        ("CARGO_BUILD_BUILD_DIR", &room),
        ("SOURCE_DATE_EPOCH", &epoch.0.to_string()),
    ];
    let arguments = ["build", "--package=villein-cli", "--profile=dist", "--locked", "--target", TARGET];
    if !crate::cargo(&arguments, &env) {
        return Err("the program was not built".to_owned());
    }
    let path = target.join(TARGET).join("dist/villein");
    let program = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match elf::needs(&program) {
        Ok(None) => {}
        Ok(Some(needs)) => return Err(format!("{} is not static: it needs {needs}", path.display())),
        Err(why) => return Err(format!("{}: {why}", path.display())),
    }
    if program.len() >= SIZE_MAX {
        let size = program.len();
        return Err(format!("{} has {size} bytes, and must have less than {SIZE_MAX}", path.display()));
    }
    Ok(program)
}

/// A file of `xtask/dist`.
fn snippet(name: &str) -> Result<String, String> {
    let path = crate::root().join("xtask/dist").join(name);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn gather(program: Vec<u8>, epoch: Epoch) -> Result<Made, String> {
    let version = env!("CARGO_PKG_VERSION");
    let definition = villein_cli::args::program();
    let date = epoch.formatted("+%F")?;
    let read = |name: &str| {
        let path = crate::root().join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((name.to_owned(), text))
    };
    let documents: Result<Vec<_>, String> =
        ["README.md", "CHANGELOG.md", "docs/compatibility.md"].into_iter().map(read).collect();
    Ok(Made {
        version,
        program,
        completions: completions::all(&definition)?,
        pages: manual::all(&definition, &crate::root().join("xtask/dist/man"), version, &date)?,
        unit: snippet("villein.service")?,
        licences: licences::text(TARGET)?,
        documents: documents?,
    })
}

/// What stands alone in `target/dist`, and in the archive.
fn write(made: &Made, tree: &Tree) -> Result<(), String> {
    tree.put("villein", &made.program, 0o755)?;
    for (name, text) in &made.completions {
        tree.put(&format!("completions/{name}"), text, 0o644)?;
    }
    for (name, text) in &made.pages {
        tree.put(&format!("man/{name}"), text, 0o644)?;
    }
    tree.put("villein.service", &made.unit, 0o644)
}

fn archive(made: &Made, folder: &Path, file: &Path, epoch: Epoch) -> Result<(), String> {
    let tree = Tree::new(folder.to_owned())?;
    write(made, &tree)?;
    tree.put("agent.json", snippet("agent.json")?, 0o644)?;
    tree.put("hardening.conf", snippet("hardening.conf")?, 0o644)?;
    tree.put("third-party.txt", &made.licences, 0o644)?;
    for (name, text) in &made.documents {
        tree.put(name, text, 0o644)?;
    }
    tree.settle(epoch)?;
    let above = folder.parent().expect("it lies in a folder");
    let name = folder.file_name().expect("it has a name");
    let packed = above.join("packed.tar");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=root:0", "--group=root:0"]);
    tools::output(tar.arg("--file").arg(&packed).arg("--directory").arg(above).arg(name))?;
    tools::output(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(&packed))?;
    fs::rename(above.join("packed.tar.gz"), file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Tries what was made, as far as that is possible without installing it.
fn check(dist: &Tree, target: &Path) -> Result<(), String> {
    let program = dist.path().join("villein");
    let said = tools::output(Command::new(&program).arg("version"))?;
    if said.lines().next() != Some(env!("CARGO_PKG_VERSION")) {
        return Err(format!("the program says that it is {said:?}"));
    }
    tools::output(Command::new(&program).args(["agent", "-help"]))?;
    let room = Tree::new(target.join("dist-work"))?;
    let configuration = "agent.json";
    room.put(configuration, snippet(configuration)?, 0o644)?;
    tools::output(Command::new(&program).arg("validate").arg(room.path().join(configuration)))?;

    // The unit is checked with the program where it is now, because nothing is installed.
    let here = |text: String| text.replace("/usr/bin/villein", &program.to_string_lossy());
    room.put("villein.service", here(snippet("villein.service")?), 0o644)?;
    verify(&room)?;
    room.put("villein.service.d/hardening.conf", here(snippet("hardening.conf")?), 0o644)?;
    verify(&room)
}

/// Has systemd read the unit, if it is there. Mistakes that it ignores are mistakes.
fn verify(room: &Tree) -> Result<(), String> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no"]).arg(room.path().join("villein.service"));
    match tools::both_outputs(&mut analyze) {
        Err(why) if why.contains("is not there") => println!("SKIPPED: the unit is not verified: {why}"),
        Err(why) => return Err(why),
        // It may also have something to say about other units of this host.
        Ok((_, said)) => {
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("villein.service")).collect();
            if !ours.is_empty() {
                return Err(ours.join("\n"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn made() -> Made {
        let text = |name: &str| (name.to_owned(), name.to_owned());
        Made {
            version: "1.2.3",
            program: b"program".to_vec(),
            completions: ["villein.bash", "_villein", "villein.fish"].map(|name| (name, name.to_owned())),
            pages: vec![text("villein.1"), text("villein-agent.1")],
            unit: "[Service]\n".to_owned(),
            licences: "texts\n".to_owned(),
            documents: vec![text("README.md"), text("CHANGELOG.md"), text("docs/compatibility.md")],
        }
    }

    fn room(name: &str) -> Tree {
        let folder = format!("villein-xtask-{}-{name}", std::process::id());
        Tree::new(std::env::temp_dir().join(folder)).expect("there is room")
    }

    /// Packs twice, and gives the second of two equal results.
    fn packed(name: &str, pack: impl Fn(&Path, &Path) -> Result<(), String>) -> (Tree, PathBuf) {
        let room = room(name);
        let files = ["first", "second"].map(|time| {
            let file = room.path().join(format!("{time}.packed"));
            // The folder has the same name each time, because it stands in the archive.
            pack(&room.path().join(time).join("content"), &file).expect("it can be packed");
            file
        });
        let [first, second] = [0, 1].map(|at| fs::read(&files[at]).expect("it was packed"));
        assert!(first == second && !first.is_empty(), "{name}: two runs differ");
        let [_, file] = files;
        (room, file)
    }

    #[test]
    fn the_archive_holds_everything_and_is_the_same_each_time() {
        let epoch = Epoch(1_000_000_000);
        let (room, file) = packed("archive", |folder, file| archive(&made(), folder, file, epoch));
        let mut list = Command::new("tar");
        list.args(["--list", "--verbose", "--numeric-owner", "--full-time", "--file"]).arg(file);
        let list = tools::output(&mut list).expect("tar reads what it wrote");
        for name in
            ["villein", "agent.json", "man/villein-agent.1", "completions/_villein", "docs/compatibility.md"]
        {
            assert!(list.lines().any(|line| line.ends_with(&format!(" content/{name}"))), "{name}: {list}");
        }
        let is_settled = |line: &str| line.contains(" 0/0 ") && line.contains(" 2001-09-09 01:46:40 ");
        assert!(list.lines().all(is_settled), "{list}");
        fs::remove_dir_all(room.path()).expect("it is ours");
    }

    #[test]
    fn the_package_holds_everything_and_is_the_same_each_time() {
        if tools::output(Command::new("dpkg-deb").arg("--version")).is_err() {
            assert!(std::env::var_os("VILLEIN_REQUIRE_INTEROP").is_none(), "dpkg-deb is not there");
            eprintln!("SKIPPED: dpkg-deb is not there");
            return;
        }
        let epoch = Epoch(1_000_000_000);
        let (room, file) = packed("package", |folder, file| package::build(&made(), folder, file, epoch));
        let list =
            tools::output(Command::new("dpkg-deb").arg("--contents").arg(&file)).expect("dpkg-deb reads it");
        let modes = [
            ("-rwxr-xr-x", "usr/bin/villein"),
            ("-rw-r-----", "etc/villein/agent.json"),
            ("-rw-r--r--", "usr/lib/systemd/system/villein.service"),
            ("-rw-r--r--", "usr/share/bash-completion/completions/villein"),
            ("-rw-r--r--", "usr/share/zsh/vendor-completions/_villein"),
            ("-rw-r--r--", "usr/share/fish/vendor_completions.d/villein.fish"),
            ("-rw-r--r--", "usr/share/man/man1/villein-agent.1.gz"),
            ("-rw-r--r--", "usr/share/doc/villein/copyright"),
        ];
        for (mode, path) in modes {
            let is_it = |line: &str| {
                line.starts_with(&format!("{mode} root/root ")) && line.ends_with(&format!(" ./{path}"))
            };
            assert!(list.lines().any(is_it), "{path}: {list}");
        }
        let fields =
            tools::output(Command::new("dpkg-deb").arg("--field").arg(&file)).expect("dpkg-deb reads it");
        assert!(
            fields.contains("\nVersion: 1.2.3\n") && fields.contains("\nArchitecture: amd64\n"),
            "{fields}"
        );
        assert!(["VERSION", "MAINTAINER", "SIZE"].iter().all(|word| !fields.contains(word)), "{fields}");
        fs::remove_dir_all(room.path()).expect("it is ours");
    }

    #[test]
    fn the_default_configuration_is_where_the_unit_looks_and_keeps_its_cluster() {
        let unit = snippet("villein.service").expect("it is there");
        assert!(unit.contains("\nExecStart=/usr/bin/villein agent -config-dir=/etc/villein\n"));
        assert!(unit.contains("\nStateDirectory=villein\n"));
        let configuration = snippet("agent.json").expect("it is there");
        let configuration: serde_json::Value = serde_json::from_str(&configuration).expect("it is JSON");
        assert_eq!(configuration["snapshot_path"], "/var/lib/villein/snapshot");
        // A stop is a leave, after which the agent would stay away.
        assert_eq!(configuration["rejoin_after_leave"], true);
    }
}
