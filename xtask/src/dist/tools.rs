//! Programs of the host that `dist` relies on, and the folders that they pack.
//!
//! Everything is run with the same time (`SOURCE_DATE_EPOCH`), language and time zone. Invariant: two trees of equal
//! content are equal in modes and times too, whatever the umask and the clock say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Seconds since 1970 that stand for the time at which everything was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch(pub(super) u64);

impl Epoch {
    /// `SOURCE_DATE_EPOCH`, or else the time of the last commit.
    ///
    /// # Errors
    /// Says what is wrong with both.
    pub(super) fn find() -> Result<Epoch, String> {
        let (text, origin) = if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
            (text, "SOURCE_DATE_EPOCH")
        } else {
            let mut git = Command::new("git");
            git.args(["log", "-1", "--format=%ct"]).current_dir(crate::root());
            let text = output(&mut git).map_err(|why| {
                format!("the date of the last commit is not known ({why}): set SOURCE_DATE_EPOCH")
            })?;
            (text, "the date of the last commit")
        };
        let seconds = text.trim().parse().map_err(|_| format!("{origin} is no number: {text:?}"))?;
        Ok(Epoch(seconds))
    }

    /// In the format of date(1), in universal time.
    pub(super) fn formatted(self, format: &str) -> Result<String, String> {
        let mut date = Command::new("date");
        date.arg("-u").arg(format!("--date=@{}", self.0)).arg(format);
        output(&mut date).map(|text| text.trim_end().to_owned())
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }
}

/// What the program prints on standard output.
///
/// # Errors
/// Names the program, and says what it says.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    both_outputs(command).map(|(output, _)| output)
}

/// What the program prints on standard output, and on standard error.
///
/// # Errors
/// Names the program, and says what it says.
pub(super) fn both_outputs(command: &mut Command) -> Result<(String, String), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{name} is not there{}", package_of(&name)),
        _ => format!("{name} cannot be run: {error}"),
    })?;
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if !output.status.success() {
        return Err(format!("{name} failed with {}: {said}", output.status));
    }
    let printed = String::from_utf8(output.stdout).map_err(|_| format!("{name} printed what is no text"))?;
    Ok((printed, said))
}

/// What to do about a program that is not there.
fn package_of(name: &str) -> String {
    let package = match name {
        "dpkg-deb" => "dpkg",
        "sha256sum" | "md5sum" | "date" => "coreutils",
        "tar" | "gzip" | "git" => name,
        _ => return String::new(),
    };
    format!(": install the package {package}")
}

/// A folder that is made anew.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty folder; what was there is gone.
    pub(super) fn new(root: PathBuf) -> Result<Tree, String> {
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{} cannot be removed: {error}", root.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(Tree { root })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Writes a file, and the folders above it.
    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<(), String> {
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        let write = || {
            fs::create_dir_all(folder)?;
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The same, compressed; `.gz` is added to the name.
    pub(super) fn put_compressed(&self, name: &str, content: impl AsRef<[u8]>) -> Result<(), String> {
        self.put(name, content, 0o644)?;
        output(Command::new("gzip").args(["-9", "--no-name"]).arg(self.root.join(name))).map(drop)
    }

    /// The names of all files, sorted.
    pub(super) fn files(&self) -> Result<Vec<String>, String> {
        let (mut names, mut folders) = (Vec::new(), vec![self.root.clone()]);
        while let Some(folder) = folders.pop() {
            let failed = |error| format!("{}: {error}", folder.display());
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let name = path.strip_prefix(&self.root).expect("it lies in the tree").to_string_lossy();
                if path.is_dir() { folders.push(path.clone()) } else { names.push(name.into_owned()) }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Lines of a sum, two blanks and a name, as `program` prints them for these files.
    pub(super) fn sums(&self, program: &str, names: &[String]) -> Result<String, String> {
        output(Command::new(program).arg("--").args(names).current_dir(&self.root))
    }

    /// Gives everything the same time, and folders the mode of folders.
    pub(super) fn settle(&self, epoch: Epoch) -> Result<(), String> {
        settle(&self.root, epoch).map_err(|error| format!("{}: {error}", self.root.display()))
    }
}

fn settle(path: &Path, epoch: Epoch) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), epoch)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    fs::File::open(path)?.set_modified(epoch.time())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("villein-xtask-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_tree_knows_its_files_and_settles_them() {
        let tree = Tree::new(folder("tree")).expect("there is room");
        for (name, mode) in [("b", 0o644), ("a/z", 0o755), ("a/b/c", 0o640)] {
            tree.put(name, name, mode).expect("there is room");
        }
        assert_eq!(tree.files(), Ok(["a/b/c", "a/z", "b"].map(ToOwned::to_owned).to_vec()));
        tree.settle(Epoch(1_000_000_000)).expect("the files are ours");
        for (name, mode) in [("b", 0o644), ("a/z", 0o755), ("a/b/c", 0o640), ("a/b", 0o755), ("a", 0o755)] {
            let found = fs::metadata(tree.path().join(name)).expect("it is there");
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
            assert_eq!(found.modified().expect("files have times"), Epoch(1_000_000_000).time(), "{name}");
        }
        let again = Tree::new(tree.path().to_owned()).expect("there is room");
        assert_eq!(again.files(), Ok(Vec::new()));
        fs::remove_dir_all(again.path()).expect("it is ours");
    }

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        assert_eq!(package_of("dpkg-deb"), ": install the package dpkg");
        let why = output(&mut Command::new("villein-no-such-tool")).expect_err("it is not there");
        assert_eq!(why, "villein-no-such-tool is not there");
        let why = output(Command::new("date").arg("--nosuch")).expect_err("it has no such flag");
        assert!(why.starts_with("date failed with exit status: 1: "), "{why}");
    }

    #[test]
    fn time_is_universal() {
        assert_eq!(Epoch(86_399).formatted("+%F %T"), Ok("1970-01-01 23:59:59".to_owned()));
    }
}
