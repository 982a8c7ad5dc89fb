//! What the environment says beside where the locks are: for those who ask what scripts get here.

use super::{Store, TaskRoot, home, obstacle, set};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The helper that scripts are to use (`ABA_LOCK_BIN`).
#[must_use]
pub fn helper() -> Option<PathBuf> {
    set("ABA_LOCK_BIN").map(PathBuf::from)
}

/// The program that keeps leases: `ABA_LOCK_KEEPER`, else the one beside this program, else the one on `PATH`.
#[must_use]
pub fn keeper() -> Option<PathBuf> {
    const NAME: &str = "aba-lock-keeper";
    if let Some(keeper) = set("ABA_LOCK_KEEPER") {
        return Some(PathBuf::from(keeper)).filter(|keeper| is_program(keeper));
    }
    let beside = env::current_exe().ok().map(|program| program.with_file_name(NAME)).filter(|path| is_program(path));
    beside.or_else(|| all_on_path(NAME).into_iter().next())
}

/// What a script is to do if another has its lock (`ABA_LOCK_ON_CONFLICT`).
#[must_use]
pub fn on_conflict() -> Option<String> {
    set("ABA_LOCK_ON_CONFLICT").map(|value| value.to_string_lossy().into_owned())
}

/// The variable that the state root comes from.
#[must_use]
pub fn root_variable() -> &'static str {
    ["ABA_LOCK_DIR", "HOME"].into_iter().find(|name| set(name).is_some()).unwrap_or("the passwd file")
}

/// Why `path` cannot be used, and the variable to set, if the cause is that the directory of locks or tasks in which it is
/// cannot be a directory.
#[must_use]
pub fn hint_about(path: &Path) -> Option<String> {
    let (problem, variable) = match TaskRoot::from_env() {
        Ok(TaskRoot { path: root, within: None }) if path.starts_with(&root) => (obstacle(&root), "RUN_ONCE_DIR"),
        _ => {
            let store = Store::from_env().ok().filter(|store| path.starts_with(store.root()))?;
            (store.problem(), "ABA_LOCK_DIR")
        }
    };
    Some(format!("{}: set {variable} to a directory of yours on a local disk", problem?))
}

/// The variables of ours that are set, with their values.
#[must_use]
pub fn settings() -> Vec<(&'static str, String)> {
    let names = [
        "ABA_LOCK_DIR",
        "ABA_LOCK_BIN",
        "ABA_LOCK_ON_CONFLICT",
        "ABA_LOCK_TIMEOUT",
        "ABA_LOCK_LOG",
        "ABA_LOCK_SERVER",
        "ABA_LOCK_KEEPER",
        "ABA_LOCK_FDS",
        "ABA_LOCK_TASK",
        "ABA_LOCK_UPDATING",
        "RUN_ONCE_DIR",
    ];
    names.into_iter().filter_map(|name| Some((name, set(name)?.to_string_lossy().into_owned()))).collect()
}

/// Whether this is a program that we may run, as far as its mode says.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0)
}

/// The programs of this name in the directories of `PATH`, in its order.
#[must_use]
pub fn all_on_path(program: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // An empty entry is the current directory.
    let places = env::split_paths(&path).map(|place| if place.as_os_str().is_empty() { ".".into() } else { place });
    places.map(|place: PathBuf| place.join(program)).filter(|path| is_program(path)).collect()
}

/// Where programs look for data: the user's own, and the system's.
#[must_use]
pub fn data_directories() -> Vec<PathBuf> {
    let own = set("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".local/share")));
    let shared = set("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
    own.into_iter().chain(env::split_paths(&shared)).filter(|path| path.is_absolute()).collect()
}
