//! Reading configuration files and replacing files of the agent as a whole (agent.md 4.1, 13 and 14).

use std::path::{Path, PathBuf};
use villein_agent::io::ConfigFile;

/// Reads files, and the files in directories that end in `.json`, in the order of agent.md 4.1.
pub fn read_config(paths: &[PathBuf]) -> Result<Vec<ConfigFile>, String> {
    let _ = paths;
    Ok(Vec::new())
}

/// Replaces the file at `path`; whoever reads it finds the old bytes or the new ones.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let _ = (path, bytes);
    Ok(())
}
