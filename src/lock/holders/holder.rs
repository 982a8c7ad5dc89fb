//! The facts about a process that holds a lock, read from `/proc`. The files `observe` and [`ranges`](super::ranges)
//! ask for them.

use super::stall::{self, Stall};
use crate::os::Slot;
use crate::os::proc::process::{self, RunState};
use std::cell::OnceCell;
use std::time::Duration;

/// A process that holds a lock.
#[derive(Debug, Clone)]
pub struct Holder {
    pub pid: u32,
    /// The command line, quoted as a shell reads it.
    pub command: String,
    pub user: String,
    /// True if the record names another process as the one that acquired the lock. `None`: no record can be believed.
    pub inherited: Option<bool>,
    /// The name of the terminal without `/dev/`.
    pub terminal: Option<String>,
    /// The time since the process started.
    pub age: Option<Duration>,
    /// The pid namespace, if it is not ours.
    pub namespace: Option<u64>,
    /// The slot that it holds.
    pub slot: Option<Slot>,
    /// Its state at the time of the observation.
    pub state: Option<RunState>,
    /// The number of its threads.
    pub(super) threads: u32,
    /// Its stall, once [`Holder::stall`] has been called.
    pub(super) stall: OnceCell<Option<Stall>>,
    /// The stopped processes below it, once [`Holder::stopped_descendants`] has been called.
    pub(super) stopped: OnceCell<Vec<u32>>,
}

impl Holder {
    /// Returns the facts about process `pid` of user `uid`. `None`: it has ended.
    pub(super) fn find(pid: u32, uid: u32) -> Option<Self> {
        let command = process::command_line(pid);
        // Looking for the process last makes sure that the command line is its own.
        let seen = process::read_stat(pid);
        (seen.is_some() && !command.is_empty()).then(|| Self {
            pid,
            command,
            user: process::user_name(uid),
            inherited: None,
            terminal: seen.and_then(|seen| seen.terminal_name()),
            age: seen.and_then(|seen| seen.age()),
            slot: None,
            state: seen.map(|seen| seen.state),
            threads: seen.map_or(1, |seen| seen.threads),
            stall: OnceCell::new(),
            stopped: OnceCell::new(),
            namespace: process::namespace_of(pid).filter(|namespace| *namespace != process::pid_namespace()),
        })
    }

    /// Returns the reason why this process does not go on by itself, if there is one. This may take some milliseconds.
    pub fn stall(&self) -> Option<Stall> {
        *self.stall.get_or_init(|| stall::find_stall(self.pid, self.state?))
    }

    /// Returns the processes below this one that a signal has stopped, parents first. This process may wait for them.
    pub fn stopped_descendants(&self) -> &[u32] {
        self.stopped.get_or_init(|| stall::find_stopped_descendants(self.pid, self.threads))
    }
}

/// Returns the pids of the holders in the form that kill(1) takes.
#[must_use]
pub fn format_pids(holders: &[Holder]) -> String {
    holders.iter().map(|holder| holder.pid.to_string()).collect::<Vec<_>>().join(" ")
}
