//! The environment variables that the service uses: the default path of the store, and the socket of the service
//! manager. No other module reads the environment.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "the only reader")]
fn read_variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the path of the store if `--store` is not given. The home directory must exist, because the service must not
/// create one.
pub(crate) fn default_store_path() -> Option<PathBuf> {
    let state = read_variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || read_variable("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let state = state.or_else(|| Some(home()?.join(".local/state")))?;
    Some(state.join("aba-lock/lockd.db"))
}

/// Returns the socket of the service manager (systemd's `Type=notify`).
pub(crate) fn notify_socket() -> Option<OsString> {
    read_variable("NOTIFY_SOCKET")
}
