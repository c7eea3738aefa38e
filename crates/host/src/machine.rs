//! What this machine calls itself.

use nix::unistd::gethostname;

/// The host name; `localhost` if there is none.
pub fn host_name() -> String {
    let name = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
