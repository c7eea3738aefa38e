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
        let refused = |why: String| format!("Error reading '{}': {why}", path.display());
        let is_folder = fs::metadata(path).map_err(|error| refused(said("open", path, &error)))?.is_dir();
        let found = if is_folder { config_files_in(path).map_err(refused)? } else { vec![path.clone()] };
        for path in found {
            let refused = |why: String| format!("Error reading '{}': {why}", path.display());
            let bytes = read(&path).map_err(refused)?;
            let bytes = bytes.ok_or_else(|| refused(said("open", &path, &Errno::ENOENT.into())))?;
            total += bytes.len();
            if total > limits::CONFIG_BYTES {
                let bound = limits::CONFIG_BYTES;
                return Err(refused(format!("all configuration files together are larger than {bound} bytes")));
            }
            files.push(ConfigFile { path: path.display().to_string(), bytes });
        }
    }
    Ok(files)
}

/// The configuration files in a directory, in byte order; what is no file or leads to none is left out.
fn config_files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: io::Error| said("open", folder, &error);
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.as_bytes().ends_with(b".json") {
            if names.len() == limits::CONFIG_FILES {
                return Err(format!("it holds more than {} configuration files", limits::CONFIG_FILES));
            }
            names.push(name);
        }
    }
    names.sort_unstable();
    let shown: PathBuf = folder.components().filter(|part| *part != Component::CurDir).collect();
    let mut paths = Vec::new();
    for name in names {
        let path = shown.join(name);
        if fs::metadata(&path).map_err(|error| said("open", &path, &error))?.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
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
/// only. `Err` is like `open PATH: permission denied`, and the old bytes are still there.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let (target, old) = destination(path)?;
    let mut draft_name = OsString::from(".");
    draft_name.push(target.file_name().unwrap_or_default());
    draft_name.push(".villein");
    let (error, old) = match (replace(&target, &target.with_file_name(draft_name), old.as_ref(), bytes), old) {
        (Ok(()), _) => return Ok(()),
        (Err(failure), Some(old)) if failure.is_about_the_place() => (failure, old),
        (Err(failure), _) => return Err(failure.said(path)),
    };
    drop((error, old));
    write_in_place(&target, bytes).map_err(|failure| failure.said(path))
}
