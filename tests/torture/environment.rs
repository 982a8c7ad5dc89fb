//! The environment of a run: the paths of the helper and of the shell library under test, and the variables that the run sets
//! for its own processes. All other modules may import this one.

use std::path::PathBuf;

/// A variable in the environment of every process that the run starts. Its value identifies the run.
pub(crate) const MARK: &str = "ABA_TORTURE_MARK";

/// A variable that is set if the run has namespaces of its own, in which it may mount file systems.
pub(crate) const MOUNTS_ALLOWED: &str = "ABA_TORTURE_ALLOWED";

/// The name under which a payload calls the helper undisturbed.
pub(crate) const UNWATCHED: &str = "unwatched";

/// The shell library under test.
pub(crate) const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// Returns the path of the helper under test: the value of `ABA_LOCK_BIN`, or the helper that cargo built.
pub(crate) fn find_helper() -> PathBuf {
    let chosen = std::env::var_os("ABA_LOCK_BIN").map(PathBuf::from);
    std::fs::canonicalize(chosen.unwrap_or_else(|| env!("CARGO_BIN_EXE_aba-lock").into())).expect("the helper is built")
}

pub(crate) fn may_mount() -> bool {
    std::env::var_os(MOUNTS_ALLOWED).is_some()
}
