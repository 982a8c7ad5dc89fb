//! A process that waits for a lock.

use crate::lock::peer;
use crate::os::Mode;
use crate::os::proc::lock_table::KernelLock;
use crate::os::proc::process;
use std::time::Duration;

/// A process that waits for a lock.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// Its number. 0 when it cannot be seen from this pid namespace.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// Its user.
    pub user: String,
    /// How it wants the lock.
    pub mode: Mode,
    /// The script that wants the lock, and its command line, if the process is a helper of one.
    pub script: Option<(u32, String)>,
    /// The name of its terminal without `/dev/`, if it has one.
    pub terminal: Option<String>,
    /// How long it runs, if it is a program that does nothing else than wait: also for other locks before this one.
    pub age: Option<Duration>,
}

pub(super) fn waiter(lock: KernelLock) -> Waiter {
    let pid = lock.locker;
    let seen = process::read_stat(pid);
    Waiter {
        pid,
        command: process::command_line(pid),
        user: process::user_of(pid).map(process::user_name).unwrap_or_default(),
        mode: mode(lock),
        script: peer::find_script(pid).map(|script| (script, process::command_line(script))),
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.filter(|_| peer::has_name_of_lock_program(pid)).and_then(|seen| seen.age()),
    }
}

pub(super) fn mode(lock: KernelLock) -> Mode {
    if lock.exclusive { Mode::Exclusive } else { Mode::Shared }
}
