//! A process that waits for a lock.

use crate::lock::flock::arguments::On;
use crate::lock::flock::lockable;
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
    let seen = process::seen(pid);
    let helps = matches!(process::name(pid).as_str(), "aba-lock" | "flock");
    Waiter {
        pid,
        command: process::command_line(pid),
        user: process::user_of(pid).map(process::user_name).unwrap_or_default(),
        mode: mode(lock),
        script: script_of(pid).map(|script| (script, process::command_line(script))),
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.filter(|_| helps).and_then(|seen| seen.age()),
    }
}

/// The script for which a helper takes a lock: it was given a descriptor of its parent's.
pub(crate) fn script_of(helper: u32) -> Option<u32> {
    let given = match lockable::of_process(helper) {
        Some(flock) => matches!(flock.on, On::Descriptor(_)) && flock.command.is_none(),
        None if process::name(helper) == "aba-lock" => {
            let words = process::words(helper);
            let mut options = words.iter().skip(1).take_while(|word| *word != "--");
            options.any(|word| word == "--fd" || word.starts_with("--fd="))
        }
        None => false,
    };
    if given { process::parent(helper).filter(|pid| *pid > 0) } else { None }
}

pub(super) fn mode(lock: KernelLock) -> Mode {
    if lock.exclusive { Mode::Exclusive } else { Mode::Shared }
}
