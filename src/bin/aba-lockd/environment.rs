//! What the environment says, and nothing else reads it.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "the only reader")]
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The store without `--store`: in a home directory that exists, because the service must not make one.
pub(crate) fn default_store() -> Option<PathBuf> {
    let state = set("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || set("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let state = state.or_else(|| Some(home()?.join(".local/state")))?;
    Some(state.join("aba-lock/lockd.db"))
}

/// The socket of who started us and wants to be told when we are ready (systemd's `Type=notify`).
pub(crate) fn notify_socket() -> Option<OsString> {
    set("NOTIFY_SOCKET")
}
