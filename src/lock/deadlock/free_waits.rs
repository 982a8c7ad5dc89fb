//! The processes that run `aba-lock wait`, and so wait for a lock although the kernel does not list them as waiters.
//!
//! Their command lines and environments say which lock that is. `detector` and `search` ask for them.

use crate::base::key::LockKey;
use crate::base::names::LockName;
use crate::base::target::Target;
use crate::lock::holders;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process::{self, InitialVariable};
use crate::store::{IN_HOME, Store};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Returns the processes that wait until one lock is free, and the files of these locks. A process that waits for several locks
/// is left out, because the command line does not say for which of them it still waits.
pub(super) fn list_free_waits() -> Vec<(u32, FileId)> {
    process::all_pids()
        .into_iter()
        .filter_map(|pid| Some((pid, lock_table::file_id(&holders::identify_file(&find_awaited_path(pid)?)))))
        .collect()
}

/// Returns the path of the lock file for which process `pid` waits, if it runs `aba-lock wait` for one lock.
fn find_awaited_path(pid: u32) -> Option<PathBuf> {
    match peer::find_awaited_lock(pid)? {
        peer::AwaitedLock::Name(name) => Some(find_store(pid)?.lock_path(&LockName::parse(&name).ok()?)),
        peer::AwaitedLock::Key(text) => {
            Some(find_store(pid)?.lock_path(LockKey::parse(OsStr::new(&text)).ok()?.name()))
        }
        // The process has its own current directory.
        peer::AwaitedLock::File(path) => {
            let path = Path::new(&format!("/proc/{pid}/cwd")).join(path);
            Some(Target::file(&path).path)
        }
    }
}

/// Returns the state root that the environment of a process names.
fn find_store(pid: u32) -> Option<Store> {
    let directory = |name: &str| match process::initial_variable(pid, name) {
        InitialVariable::Value(value) if !value.is_empty() => Some(PathBuf::from(value)),
        _ => None,
    };
    Store::at(directory("ABA_LOCK_DIR").or_else(|| Some(directory("HOME")?.join(IN_HOME)))?)
}
