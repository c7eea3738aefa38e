//! The Debian package: what lies where, and the words that dpkg wants to hear about it.
//!
//! Decides paths and modes. The maintainer scripts, the default configuration and the unit are files in
//! `xtask/dist`. Invariant: two packages of the same content are equal byte for byte.

use super::tools::{self, Epoch, Tree};
use super::{Made, snippet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Who answers for the package.
const MAINTAINER: &str = "The Villein maintainers <maintainers@villein.invalid>";

/// Builds the package as `file`; `folder` is room for what goes into it.
pub(super) fn build(made: &Made, folder: &Path, file: &Path, epoch: Epoch) -> Result<(), String> {
    let tree = Tree::new(folder.to_owned())?;
    fill(made, &tree, epoch)?;
    let files = tree.files()?;
    let size = installed_size(&tree, &files)?;
    let sums = tree.sums("md5sum", &files)?;
    let words = |text: &str| {
        let text = text.replace("@VERSION@", made.version).replace("@MAINTAINER@", MAINTAINER);
        text.replace("@SIZE@", &size.to_string())
    };
    tree.put("DEBIAN/control", words(&snippet("debian/control")?), 0o644)?;
    tree.put("DEBIAN/conffiles", snippet("debian/conffiles")?, 0o644)?;
    tree.put("DEBIAN/md5sums", sums, 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        tree.put(&format!("DEBIAN/{script}"), snippet(&format!("debian/{script}"))?, 0o755)?;
    }
    tree.settle(epoch)?;
    let mut dpkg = Command::new("dpkg-deb");
    // One thread and a named compression: the same bytes on every machine.
    dpkg.args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"]).arg(folder).arg(file);
    dpkg.env("SOURCE_DATE_EPOCH", epoch.0.to_string());
    tools::output(&mut dpkg).map(drop)
}

/// Everything that is installed.
fn fill(made: &Made, tree: &Tree, epoch: Epoch) -> Result<(), String> {
    tree.put("usr/bin/villein", &made.program, 0o755)?;
    tree.put("etc/villein/agent.json", snippet("agent.json")?, 0o640)?;
    tree.put("usr/lib/systemd/system/villein.service", &made.unit, 0o644)?;
    for (name, text) in &made.completions {
        let folder = match *name {
            "_villein" => "usr/share/zsh/vendor-completions/_villein",
            "villein.fish" => "usr/share/fish/vendor_completions.d/villein.fish",
            _ => "usr/share/bash-completion/completions/villein",
        };
        tree.put(folder, text, 0o644)?;
    }
    for (name, text) in &made.pages {
        tree.put_compressed(&format!("usr/share/man/man1/{name}"), text)?;
    }
    let documents = "usr/share/doc/villein";
    let date = epoch.formatted("+%a, %d %b %Y %T +0000")?;
    let changelog = snippet("debian/changelog")?.replace("@DATE@", &date);
    let changelog = changelog.replace("@VERSION@", made.version).replace("@MAINTAINER@", MAINTAINER);
    tree.put(&format!("{documents}/copyright"), snippet("debian/copyright")?, 0o644)?;
    tree.put_compressed(&format!("{documents}/changelog"), changelog)?;
    tree.put_compressed(&format!("{documents}/third-party.txt"), &made.licences)?;
    tree.put(&format!("{documents}/examples/hardening.conf"), snippet("hardening.conf")?, 0o644)?;
    for (name, text) in &made.documents {
        match name.as_str() {
            "CHANGELOG.md" => tree.put_compressed(&format!("{documents}/NEWS.md"), text)?,
            name => tree.put(&format!("{documents}/{name}"), text, 0o644)?,
        }
    }
    tree.put("usr/share/lintian/overrides/villein", snippet("debian/lintian-overrides")?, 0o644)
}

/// In KiB, as Debian counts: each file rounded up, and one for each folder.
fn installed_size(tree: &Tree, files: &[String]) -> Result<u64, String> {
    let mut size = 0;
    let mut folders = std::collections::BTreeSet::new();
    for name in files {
        let path = tree.path().join(name);
        let found = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        size += found.len().div_ceil(1024);
        folders.extend(Path::new(name).ancestors().skip(1).map(Path::to_owned));
    }
    Ok(size + folders.len() as u64)
}
