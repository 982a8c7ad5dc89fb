//! Does what a call of the builtin asks for.

use crate::bash;
use aba_lock::base::environment::SYSTEM_ROOT;
use aba_lock::base::names::LockName;
use aba_lock::lock::direct::{self, DirectTaker};
use aba_lock::os;
use aba_lock::store::{IN_HOME, Store};
use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Mutex;

/// The facts about this process for the records of its locks.
static NOTED: Mutex<Option<DirectTaker>> = Mutex::new(None);

/// The variables of the script that only the helper and the library heed, all of which must be empty.
const SETTINGS: [&CStr; 8] = [
    c"ABA_LOCK_LOG",
    c"ABA_LOCK_SCOPE",
    c"__aba_scope",
    c"ABA_LOCK_TIMEOUT",
    c"ABA_LOCK_SERVER",
    c"ABA_LOCK_ON_CONFLICT",
    c"__aba_pending",
    c"__aba_leases",
];

/// Returns the status of a call with these arguments, or `None` if it is not one that the builtin can do.
pub(crate) fn answer(words: &[&str]) -> Option<c_int> {
    match *words {
        ["version", version] => (version == env!("CARGO_PKG_VERSION")).then_some(0),
        ["lock", name] => acquire(&Script::read()?, name),
        ["unlock", ref name @ ..] if name.len() <= 1 => release(&Script::read()?, name.first().copied()),
        // The tests make sure that a panic does not end the shell.
        ["panic"] => panic!("a call asked for it"),
        _ => None,
    }
}

/// The state of the library in the script that calls.
struct Script {
    pid: u32,
    /// The descriptors in `ABA_LOCK_FDS`.
    fds: Vec<RawFd>,
    /// The locks of the script, each as `NAME/FD/PID `.
    locks: &'static str,
    store: Store,
}

impl Script {
    /// Reads the state. `None` in a subshell, where the library prints a warning; in a restricted shell, which may not open files for
    /// writing; in a script with a function named `builtin` or with `set -k`, in which the library cannot work; and if a variable is
    /// set that asks for more than the lock.
    fn read() -> Option<Self> {
        let pid = std::process::id();
        let state = bash::state();
        let is_unusual = state.script != pid || state.is_restricted || state.takes_assignments;
        if is_unusual || bash::has_function(c"builtin") || SETTINGS.iter().any(|name| bash::value(name) != Some("")) {
            return None;
        }
        let fds =
            bash::value(c"ABA_LOCK_FDS")?.split_terminator(' ').map(|fd| fd.parse().ok()).collect::<Option<_>>()?;
        let root = match bash::value(c"ABA_LOCK_DIR")? {
            "" => match bash::value(c"HOME")? {
                "" => return None,
                home => PathBuf::from(home).join(IN_HOME),
            },
            // The helper makes sure that no user can replace files in it.
            SYSTEM_ROOT => return None,
            directory => PathBuf::from(directory),
        };
        let store = Store::at(root)?;
        store.refuse_untrusted().ok()?;
        Some(Self { pid, fds, locks: bash::value(c"__aba_locks")?, store })
    }
}

fn acquire(script: &Script, name: &str) -> Option<c_int> {
    let name = LockName::parse(name).ok()?;
    let is_of_name = |entry: &str| entry.split('/').next() == Some(name.as_str());
    if script.locks.split_terminator(' ').any(is_of_name) {
        return None;
    }
    direct::acquire(&script.store, &name, (script.pid, &script.fds), &mut os::lock_mutex(&NOTED))
}

/// Releases the only lock of the script, if it has acquired that itself, without a pid file.
fn release(script: &Script, name: Option<&str>) -> Option<c_int> {
    let (held, rest) = script.locks.strip_suffix(' ')?.split_once('/')?;
    let (fd, pid) = rest.split_once('/')?;
    let fd = fd.parse().ok()?;
    let is_own = pid.parse() == Ok(script.pid) && script.fds == [fd];
    if !is_own || name.is_some_and(|name| name != held) || !["", "0"].contains(&bash::value(c"__aba_pid_files")?) {
        return None;
    }
    direct::release(&script.store, &LockName::parse(held).ok()?, fd)?;
    Some(0)
}
