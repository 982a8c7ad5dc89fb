//! What the environment says, and nothing else reads it.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "the only reader")]
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Where the store is if nobody says.
pub(crate) fn default_store() -> Option<PathBuf> {
    let state = set("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(set("HOME")?).join(".local/state")))?;
    Some(state.join("aba-lock/lockd.db"))
}

/// The socket of who started us and wants to be told when we are ready (systemd's `Type=notify`).
pub(crate) fn notify_socket() -> Option<OsString> {
    set("NOTIFY_SOCKET")
}
