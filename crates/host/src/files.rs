//! Reading configuration files and replacing files of the agent as a whole (agent.md 4.1, 13 and 14).
//!
//! Decides which files are read in which order, and how a file gets new contents: a draft beside it is written,
//! synced and renamed, so that whoever reads the file at any time, also after a crash, finds the old bytes or
//! the new ones. Symbolic links stay and lead to the new file; mode, group and owner are kept as far as the
//! system allows.
//!
//! Invariant: a file is written in place, where a crash could cut it, only if nothing else can change it: its
//! directory is not writable, or it is mounted by itself as containers do.

use crate::limits;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};
use villein_agent::io::ConfigFile;
use villein_rpc::system::os_words;

/// Reads files, and the files in directories that end in `.json`, in the order of agent.md 4.1. `Err` is the
/// message for the operator.
pub fn read_config(paths: &[PathBuf]) -> Result<Vec<ConfigFile>, String> {
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        for path in config_files(path).map_err(|why| unread(path, &why))? {
            let bytes = read_existing(&path).map_err(|why| unread(&path, &why))?;
            total += bytes.len();
            if total > limits::CONFIG_BYTES {
                let bound = limits::CONFIG_BYTES;
                return Err(unread(&path, &format!("all files together are larger than {bound} bytes")));
            }
            files.push(ConfigFile { path: path.display().to_string(), bytes });
        }
    }
    Ok(files)
}

/// Which files `path` stands for: itself, or the configuration files in the directory that it is. `Err` is like
/// `open PATH: permission denied`.
pub fn config_files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let found = fs::metadata(path).map_err(|error| said("open", path, &error))?;
    if found.is_dir() { config_files_in(path) } else { Ok(vec![path.to_owned()]) }
}

/// Those that end in `.json`, in byte order, but for directories, devices and the like. Whether they can be read is
/// found out later.
fn config_files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: io::Error| said("open", folder, &error);
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.as_bytes().ends_with(b".json") {
            if names.len() == limits::CONFIG_FILES {
                let bound = limits::CONFIG_FILES;
                return Err(format!("it holds more than {bound} configuration files"));
            }
            names.push(name);
        }
    }
    names.sort_unstable();
    let shown: PathBuf = folder.components().filter(|part| *part != Component::CurDir).collect();
    let mut paths = Vec::new();
    for name in names {
        let path = shown.join(name);
        if fs::metadata(&path).map_or(true, |found| found.is_file()) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn unread(path: &Path, why: &str) -> String {
    format!("Error reading '{}': {why}", path.display())
}

/// Like [`read`], of a file that must be there.
pub fn read_existing(path: &Path) -> Result<Vec<u8>, String> {
    read(path)?.ok_or_else(|| said("open", path, &Errno::ENOENT.into()))
}

/// All of a file of at most [`limits::FILE`] bytes, `None` if there is none; or why it cannot be read, such as
/// `read PATH: is a directory`.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match File::open(path) {
        Ok(file) => read_whole(&file, path, limits::FILE).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(said("open", path, &error)),
    }
}

/// What is left to read of `file`, which messages call `path`.
pub(crate) fn read_whole(file: &File, path: &Path, bound: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.take(bound as u64 + 1).read_to_end(&mut bytes).map_err(|error| said("read", path, &error))?;
    if bytes.len() > bound {
        return Err(format!("read {}: larger than {bound} bytes", path.display()));
    }
    Ok(bytes)
}

/// Replaces the file at `path`; whoever reads it finds the old bytes or the new ones. A new file is for its owner
/// only. `Err` is like `open PATH: permission denied`; the old bytes are still there then, unless the file had to
/// be written in place.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let (target, old) = destination(path)?;
    let mut draft = OsString::from(".");
    draft.push(target.file_name().unwrap_or_default());
    draft.push(".villein");
    let replaced = Draft::create(target.with_file_name(draft), PRIVATE).and_then(|mut draft| {
        if let Some(old) = &old {
            draft.resemble(old)?;
        }
        draft.fill(bytes)?;
        draft.put(&target)
    });
    match replaced {
        Err(failure) if old.is_some() && failure.is_about_the_place() => write_in_place(&target, bytes),
        replaced => replaced.map(drop),
    }
    .map_err(|failure| failure.said(path))
}

/// Whether [`save`] has a chance: `Err` is like `open PATH: permission denied`.
pub fn check_savable(path: &Path) -> Result<(), String> {
    let (target, old) = destination(path)?;
    let in_place = match old {
        Some(_) => access(&target, AccessFlags::W_OK),
        None => Err(Errno::ENOENT),
    };
    in_place
        .or_else(|_| access(folder_of(&target), AccessFlags::W_OK | AccessFlags::X_OK))
        .map_err(|errno| said("open", path, &errno.into()))
}

/// Where symbolic links lead from `path`, and what is there. What is no file is not written to: a rename would
/// make a file of a device.
pub(crate) fn destination(path: &Path) -> Result<(PathBuf, Option<Metadata>), String> {
    let refused = |error: &io::Error| said("open", path, error);
    let target = follow(path).map_err(|error| refused(&error))?;
    match fs::metadata(&target) {
        Ok(old) if old.is_file() => Ok((target, Some(old))),
        Ok(old) if old.is_dir() => Err(refused(&Errno::EISDIR.into())),
        Ok(_) => Err(format!("open {}: not a regular file", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((target, None)),
        Err(error) => Err(refused(&error)),
    }
}

/// Where the last part of `path` leads if it is a symbolic link; the other parts are the system's business.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..limits::LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            // No link, or nothing at all: whoever opens it says so.
            Err(_) => return Ok(target),
        }
    }
    Err(Errno::ELOOP.into())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// `open PATH: permission denied`
pub(crate) fn said(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("{verb} {}: {}", path.display(), os_words(error))
}

/// The mode of a new file for its owner only.
const PRIVATE: u32 = 0o600;

/// What was attempted, and why it did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    verb: &'static str,
    error: io::Error,
}

impl Failure {
    /// Of this attempt.
    pub(crate) fn of(verb: &'static str) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure { verb, error }
    }

    /// Whether no file can be made or renamed there, while one that is there may well be written.
    pub(crate) fn is_about_the_place(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
        matches!(self.error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
    }

    /// With the path that the operator knows.
    pub(crate) fn said(&self, path: &Path) -> String {
        said(self.verb, path, &self.error)
    }
}

/// A file that becomes another one when it is complete, and is removed otherwise.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: Option<File>,
}

impl Draft {
    /// An empty one in the place of any that a crash has left there. It is appended to.
    pub(crate) fn create(path: PathBuf, mode: u32) -> Result<Draft, Failure> {
        // What cannot be removed is in the way of the new one, which says so.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().append(true).create_new(true).mode(mode).open(&path);
        Ok(Draft { path, file: Some(file.map_err(Failure::of("open"))?) })
    }

    /// Takes over mode, group and owner as far as the system allows. Another group than before gets no more than
    /// everybody: the rest was not meant for it.
    pub(crate) fn resemble(&self, old: &Metadata) -> Result<(), Failure> {
        let file = self.file();
        let own = file.metadata().map_err(Failure::of("stat"))?;
        let mut mode = old.mode() & 0o7777;
        if own.gid() != old.gid() && fchown(file, None, Some(old.gid())).is_err() {
            mode &= !0o070 | (mode & 0o007) << 3;
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(Failure::of("chmod"))?;
        if own.uid() != old.uid() {
            // Only root can; for all others the file is theirs from now on.
            let _ = fchown(file, Some(old.uid()), None);
        }
        Ok(())
    }

    /// Writes everything, and waits until the disk has it.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut file = self.file();
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Failure::of("write"))
    }

    /// Gives it the name `target`, for good.
    pub(crate) fn put(mut self, target: &Path) -> Result<File, Failure> {
        fs::rename(&self.path, target).map_err(Failure::of("rename"))?;
        // Some file systems cannot sync a directory; the new contents are there in any case.
        let _ = File::open(folder_of(target)).and_then(|folder| folder.sync_all());
        Ok(self.file.take().expect("a draft has its file until it is put"))
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_ref().expect("a draft has its file until it is put")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Best effort: the next one removes it first.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_in_place(target: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(target).map_err(Failure::of("open"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Failure::of("write"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{env, process};

    /// A directory of its own for a test, removed at the end.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new() -> Folder {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("villein-host-{}-{number}", process::id()));
            fs::create_dir(&path).expect("there is no such directory yet");
            Folder(path)
        }

        pub(crate) fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        pub(crate) fn with(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
            let path = self.at(name);
            fs::write(&path, bytes).expect("a file can be written");
            path
        }

        pub(crate) fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("it is a directory");
            let names = entries.map(|entry| entry.expect("it can be read").file_name());
            let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn configuration_is_read_in_the_order_of_the_paths_and_of_the_names() {
        let folder = Folder::new();
        let single = folder.with("single", "0");
        fs::create_dir_all(folder.at("d/sub.json")).expect("a directory can be made");
        for name in ["b.json", "B.json", ".hidden.json", "a.json", "c.JSON", "ignored.txt", "json", "é.json"]
        {
            folder.with(&format!("d/{name}"), name);
        }
        symlink("../single", folder.at("d/link.json")).expect("a link can be made");
        symlink("sub.json", folder.at("d/linked-sub.json")).expect("a link can be made");
        symlink("/dev/null", folder.at("d/masked.json")).expect("a link can be made");
        let paths = [single.clone(), folder.at("d/./"), folder.at("d/a.json")];
        let files = read_config(&paths).expect("all can be read");
        let base = folder.0.display();
        let shown: Vec<_> = files.iter().map(|file| file.path.replace(&format!("{base}/"), "")).collect();
        let sorted = ["d/.hidden.json", "d/B.json", "d/a.json", "d/b.json", "d/link.json", "d/é.json"];
        assert_eq!(shown[0], "single");
        assert_eq!(shown[1..7], sorted);
        assert_eq!(shown[7..], ["d/a.json"]);
        assert_eq!(files[5].bytes, b"0");
        assert_eq!(files[2].bytes, b"B.json");
        assert_eq!(read_config(&[folder.at("d/sub.json")]), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = Folder::new();
        let (absent, below) = (folder.at("absent"), folder.with("file", "").join("x"));
        symlink("nowhere", folder.at("x.json")).expect("a link can be made");
        symlink("loop", folder.at("loop")).expect("a link can be made");
        let cases = [
            (absent.clone(), &absent, "no such file or directory"),
            (below.clone(), &below, "not a directory"),
            (folder.at("loop"), &folder.at("loop"), "too many levels of symbolic links"),
            (folder.0.clone(), &folder.at("x.json"), "no such file or directory"),
        ];
        for (path, shown, why) in cases {
            let shown = shown.display();
            assert_eq!(read_config(&[path]), Err(format!("Error reading '{shown}': open {shown}: {why}")));
        }
        let words = "Error reading '': open : no such file or directory";
        assert_eq!(read_config(&[PathBuf::new()]), Err(words.to_owned()));
        assert_eq!(read(&absent), Ok(None));
        assert_eq!(read(&folder.0), Err(format!("read {}: is a directory", folder.0.display())));
    }

    #[test]
    fn configuration_is_bounded() {
        let folder = Folder::new();
        let large = folder.with("large", vec![b' '; limits::FILE + 1]);
        let why = read_config(&[large]).expect_err("it is too large");
        assert!(why.ends_with("larger than 4194304 bytes"), "{why}");
        let full = folder.with("full", vec![b' '; limits::FILE]);
        let few = vec![full; limits::CONFIG_BYTES / limits::FILE];
        assert_eq!(read_config(&few).map(|files| files.len()), Ok(few.len()));
        let why = read_config(&[few, vec![folder.with("more", "1")]].concat()).expect_err("it is too much");
        assert!(why.contains("more': all files together"), "{why}");
        fs::create_dir(folder.at("d")).expect("a directory can be made");
        for number in 0..=limits::CONFIG_FILES {
            folder.with(&format!("d/{number}.json"), "");
        }
        let why = read_config(&[folder.at("d")]).expect_err("there are too many");
        assert!(why.contains("more than 1000 configuration files"), "{why}");
    }

    #[test]
    fn a_saved_file_is_new_and_alone() {
        let folder = Folder::new();
        let path = folder.at("tags.json");
        save(&path, b"one").expect("the directory can be written");
        assert_eq!((read(&path), mode(&path)), (Ok(Some(b"one".to_vec())), 0o600));
        chmod(&path, 0o640);
        let mut reader = File::open(&path).expect("it is there");
        // As a crash in the middle of the last save leaves it.
        folder.with(".tags.json.villein", "half of someth");
        save(&path, b"two").expect("the directory can be written");
        assert_eq!((read(&path), mode(&path)), (Ok(Some(b"two".to_vec())), 0o640));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("it was text");
        assert_eq!(text, "one", "who reads the old file gets all of it");
        assert_eq!(folder.names(), ["tags.json"]);
    }

    #[test]
    fn links_stay_and_lead_to_the_new_file() {
        let folder = Folder::new();
        fs::create_dir(folder.at("d")).expect("a directory can be made");
        folder.with("d/real", "old");
        symlink("d/second", folder.at("link")).expect("a link can be made");
        symlink("real", folder.at("d/second")).expect("a link can be made");
        symlink("d/new", folder.at("dangling")).expect("a link can be made");
        for (link, real) in [("link", "d/real"), ("dangling", "d/new")] {
            save(&folder.at(link), b"new").expect("the directory can be written");
            assert_eq!(read(&folder.at(real)), Ok(Some(b"new".to_vec())));
            assert!(folder.at(link).is_symlink() && !folder.at(real).is_symlink());
        }
    }

    #[test]
    fn what_cannot_be_saved_is_named_and_left_alone() {
        let folder = Folder::new();
        symlink("loop", folder.at("loop")).expect("a link can be made");
        symlink("/dev/null", folder.at("null")).expect("a link can be made");
        let cases = [
            ("nodir/tags.json", "no such file or directory"),
            ("", "is a directory"),
            ("loop", "too many levels of symbolic links"),
            ("null", "not a regular file"),
        ];
        for (name, why) in cases {
            let path = folder.at(name);
            let expected = Err(format!("open {}: {why}", path.display()));
            assert_eq!(save(&path, b"x"), expected);
            assert_eq!(check_savable(&path), expected);
        }
        assert_eq!(folder.names(), ["loop", "null"]);
        assert_eq!(check_savable(&folder.at("tags.json")), Ok(()));
        assert_eq!(folder.names(), ["loop", "null"], "a check changes nothing");
    }

    #[test]
    fn a_place_that_takes_no_new_file_may_still_have_one_that_can_be_written() {
        for (errno, is_about_the_place) in [
            (Errno::EACCES, true),
            (Errno::EPERM, true),
            (Errno::EROFS, true),
            (Errno::EBUSY, true),
            // In place it would be lost.
            (Errno::ENOSPC, false),
            (Errno::ENOENT, false),
        ] {
            let failure = Failure { verb: "open", error: errno.into() };
            assert_eq!(failure.is_about_the_place(), is_about_the_place, "{errno}");
        }
        let folder = Folder::new();
        let path = folder.with("tags.json", "a longer text");
        write_in_place(&path, b"short").expect("it is ours");
        assert_eq!(read(&path), Ok(Some(b"short".to_vec())));
    }

    #[test]
    fn a_draft_that_is_not_put_leaves_nothing() {
        let folder = Folder::new();
        let target = folder.with("target", "old");
        let mut draft = Draft::create(folder.at("draft"), PRIVATE).expect("the directory can be written");
        draft.fill(b"new").expect("there is room");
        drop(draft);
        assert_eq!(folder.names(), ["target"]);
        let draft = Draft::create(folder.at("draft"), PRIVATE).expect("the directory can be written");
        let failure = draft.put(&folder.at("nodir/x")).expect_err("there is no such directory");
        assert_eq!(failure.said(&target), format!("rename {}: no such file or directory", target.display()));
        assert_eq!((folder.names(), read(&target)), (vec!["target".to_owned()], Ok(Some(b"old".to_vec()))));
    }
}
