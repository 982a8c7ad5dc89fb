//! The facts about a process that waits for a lock, read from `/proc` for
//! [`LockState::waiters`](super::LockState::waiters).

use crate::lock::peer;
use crate::os::proc::lock_table::{KernelLock, SlotUse, WantedFile};
use crate::os::proc::openers;
use crate::os::proc::process::{self, RunState};
use crate::os::{Mode, Priority, QueuePlace};
use std::time::Duration;

/// A process that waits for a lock.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// The pid, 0 if the process cannot be seen from this pid namespace.
    pub pid: u32,
    /// The command line, quoted as a shell reads it.
    pub command: String,
    pub user: String,
    /// The mode that it asks for.
    pub mode: Mode,
    /// True if it waits for a slot (`--slots`).
    pub wants_slot: bool,
    /// Its level among the waiters.
    pub priority: Priority,
    /// True if it waits with `--replace`.
    pub replaces: bool,
    /// The state of the process. `None`: it cannot be seen from here.
    pub state: Option<RunState>,
    /// The script that will hold the lock, and its command line, if the process is the helper of a script.
    pub script: Option<(u32, String)>,
    /// The name of the terminal without `/dev/`.
    pub terminal: Option<String>,
    /// The time since the process started, if it is a program that only waits. It may have waited for other locks before.
    pub age: Option<Duration>,
}

impl Waiter {
    /// Returns the facts about the process that waits for `lock`.
    pub(super) fn find(lock: KernelLock) -> Self {
        let pid = lock.locker;
        let seen = process::read_stat(pid);
        Self {
            pid,
            command: process::command_line(pid),
            user: process::user_of(pid).map(process::user_name).unwrap_or_default(),
            mode: lock.mode(),
            wants_slot: matches!(lock.slots, SlotUse::First | SlotUse::Queued),
            priority: lock.priority,
            replaces: matches!(lock.place, QueuePlace::Ticket(_)),
            state: seen.map(|seen| seen.state),
            script: peer::find_script(pid).map(|script| (script, process::command_line(script))),
            terminal: seen.and_then(|seen| seen.terminal_name()),
            age: seen.filter(|_| peer::has_name_of_lock_program(pid)).and_then(|seen| seen.age()),
        }
    }
}

/// Finds the processes of the waiters with a ticket, and notes which waiters they are. A process that already holds the lock, or that
/// already waits for it, is in the queue only once.
pub(super) fn name_ticket_holders(file: &WantedFile, queue: &mut Vec<KernelLock>, is_holder: impl Fn(u32) -> bool) {
    if !queue.iter().any(|one| matches!(one.place, QueuePlace::Ticket(_))) {
        return;
    }
    let found = openers::find_ticket_holders(file);
    let process_of = |place: QueuePlace| {
        let QueuePlace::Ticket(ticket) = place else { return None };
        found.iter().find(|(number, _)| *number == ticket).map(|(_, pid)| *pid)
    };
    let (tickets, mut others): (Vec<_>, Vec<_>) =
        queue.drain(..).partition(|one| matches!(one.place, QueuePlace::Ticket(_)));
    for ticket in tickets {
        let pid = process_of(ticket.place);
        match (pid, others.iter_mut().find(|one| Some(one.locker) == pid)) {
            (Some(_), Some(known)) => known.place = ticket.place,
            (Some(pid), None) if is_holder(pid) => {}
            (pid, _) => others.push(KernelLock { locker: pid.unwrap_or(0), ..ticket }),
        }
    }
    *queue = others;
}
