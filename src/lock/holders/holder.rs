//! A process that holds a lock.

use crate::os::proc::openers::LockingProcess;
use crate::os::proc::process;
use std::time::Duration;

/// A process that has a lock.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// Its user.
    pub user: String,
    /// Whether the record names another as the one that took it. `None`: no record that tells.
    pub inherited: Option<bool>,
    /// The name of its terminal without `/dev/`, if it has one.
    pub terminal: Option<String>,
    /// How long it runs.
    pub age: Option<Duration>,
    /// Its pid namespace, if that is another than ours.
    pub namespace: Option<u64>,
}

/// Their numbers, as kill(1) takes them.
#[must_use]
pub fn format_pids(holders: &[Holder]) -> String {
    holders.iter().map(|holder| holder.pid.to_string()).collect::<Vec<_>>().join(" ")
}

/// `None`: it has gone meanwhile.
pub(super) fn holder(opener: &LockingProcess) -> Option<Holder> {
    person(opener.pid, opener.uid, None)
}

/// Returns the facts about a process that holds a lock. `None`: it has ended.
pub(super) fn person(pid: u32, uid: u32, inherited: Option<bool>) -> Option<Holder> {
    let command = process::command_line(pid);
    // Last, so that the rest is of this process.
    let seen = process::read_stat(pid);
    (seen.is_some() && !command.is_empty()).then(|| Holder {
        pid,
        command,
        user: process::user_name(uid),
        inherited,
        terminal: seen.and_then(|seen| seen.terminal_name()),
        age: seen.and_then(|seen| seen.age()),
        namespace: process::namespace_of(pid).filter(|namespace| *namespace != process::pid_namespace()),
    })
}
