//! Finds the processes for which a process waits: the holders of a lock, its children, or the processes at the other end of
//! a pipe. `search` calls this for each process on its path.
//!
//! A process that may go on by itself, or that waits in a way that is not known here, has no dependencies. So no circle
//! leads through it.

use super::pipes::PipeCall;
use super::sleepers::{SleepReason, may_go_on};
use super::snapshot::Snapshot;
use crate::lock::peer;
use crate::lock::record::{self, Content};
use crate::os::Slot;
use crate::os::proc::lock_table::FileId;
use crate::os::proc::process;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The processes for which a process waits. A process is stuck if it can never go on; the variants differ in how many
/// of the others must be stuck for that.
pub(super) enum Dependencies {
    /// It waits until each of these has acted, so one stuck process is enough.
    Any(Vec<u32>),
    /// It waits until any of these acts, so all of them must be stuck.
    All(Vec<u32>),
    /// It waits for a lock until each group has released it. The processes of a group share one open file description, and
    /// any of them may release the lock, so all processes of one group must be stuck.
    AllOfAnyGroup(Vec<Vec<u32>>),
}

impl Dependencies {
    pub(super) const NONE: Self = Self::Any(Vec::new());
}

impl Snapshot {
    /// Returns the holders of a lock: for each open file description through which it is held, the processes that can
    /// release it.
    pub(super) fn find_holders(&self, file: FileId) -> Vec<Vec<u32>> {
        let Some(held) = self.held.get(&file) else { return Vec::new() };
        let taker = held.iter().find_map(|one| match record::read_descriptor(&one.descriptor) {
            Content::Record(record) => Some(record),
            _ => None,
        });
        let taker = taker.filter(|taker| {
            taker.ns == process::pid_namespace()
                && held.iter().any(|one| one.pid == taker.pid && one.lock.locker == taker.locker)
                && process::is_alive(taker.pid, taker.tick)
        });
        // If the process in the record lives and holds the lock, it alone decides when the lock is released.
        if let Some(taker) = taker
            && held.iter().all(|one| one.lock.exclusive)
        {
            return vec![vec![taker.pid]];
        }
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for one in held {
            groups.entry(one.lock.locker).or_default().push(one.pid);
        }
        // Without a record, the process that took the lock is not known. A process that a holder started has only
        // inherited it.
        let inherited =
            |pid: u32, group: &[u32]| group.iter().any(|other| *other != pid && self.descends_from(pid, *other));
        groups
            .into_values()
            .map(|group| group.iter().copied().filter(|pid| !inherited(*pid, &group)).collect())
            .collect()
    }

    /// Returns the processes for which a waiter for a lock waits. A waiter for a slot waits until any holder of a slot releases
    /// its own; if a slot is free, it does not wait for long.
    pub(super) fn find_awaited_holders(&self, pid: u32, file: FileId) -> Dependencies {
        let groups = self.find_holders(file);
        let slots = self.find_slots(file);
        match slots.iter().next() {
            None => Dependencies::AllOfAnyGroup(groups),
            Some(_) if self.exclusive_waiters.contains(&pid) => Dependencies::AllOfAnyGroup(groups),
            Some(slot) if slots.len() < slot.capacity as usize => Dependencies::NONE,
            Some(_) => Dependencies::All(groups.concat()),
        }
    }

    /// Returns the slots of a lock that are held.
    fn find_slots(&self, file: FileId) -> HashSet<Slot> {
        self.held.get(&file).into_iter().flatten().filter_map(|one| one.lock.slots.slot()).collect()
    }

    /// Returns true if processes hold slots of the lock.
    pub(super) fn has_slots(&self, file: FileId) -> bool {
        !self.find_slots(file).is_empty()
    }

    /// Returns the children for which a process waits.
    pub(super) fn find_awaited_children(&self, pid: u32) -> Dependencies {
        let children: Vec<u32> = self.children.get(&pid).cloned().unwrap_or_default();
        if peer::is_helper(pid) {
            // A supervisor waits only for its command, which leads a session. Its other children are orphans of that
            // command, which it adopted.
            let leads = |child: &&u32| self.processes.get(child).is_some_and(|seen| seen.session == **child);
            let leaders: Vec<u32> = children.iter().filter(leads).copied().collect();
            return Dependencies::Any(if leaders.is_empty() { children } else { leaders });
        }
        let place = process::sleeps_in(pid).unwrap_or_default();
        let sleeps_in = |call: &str| place.contains(call);
        // The helper under the name `flock` waits for its command and for signals at once. flock(1) only waits for its
        // command.
        if sleeps_in("sigtimedwait") && process::name(pid) == peer::FLOCK {
            return Dependencies::Any(children);
        }
        if sleeps_in("poll") {
            let waits = children.len() == 1 && peer::is_wrapper(pid);
            return if waits { Dependencies::Any(children) } else { Dependencies::NONE };
        }
        let is_shell = peer::is_name_of_shell(&process::name(pid));
        // The `wait` of dash sleeps in sigsuspend(2).
        let waits = sleeps_in("do_wait") || is_shell && sleeps_in("sigsuspend");
        if !waits {
            return Dependencies::NONE;
        }
        // A script in the shell library waits only for the helper that the library called.
        let is_helper = |child: &&u32| peer::find_script(**child) == Some(pid) && peer::is_called_by_library(**child);
        if let Some(helper) = children.iter().find(is_helper) {
            return Dependencies::Any(if may_go_on(pid, SleepReason::Child) { Vec::new() } else { vec![*helper] });
        }
        let in_foreground = |child: &&u32| self.is_in_foreground(pid, **child) == Some(true);
        let foreground: Vec<u32> = children.iter().filter(in_foreground).copied().collect();
        // The process may wait for any of its children, so it is stuck only if all of them are. But a shell waits for all
        // parts of a pipeline in the foreground. A part that sleeps at a pipe is left out, because it goes on when the part
        // at the other end does.
        let in_pipe = |child: &u32| process::sleeps_in(*child).is_some_and(|place| place.contains("pipe"));
        let jobs: Vec<u32> = foreground.iter().copied().filter(|child| !in_pipe(child)).collect();
        let reason = if is_shell && foreground.is_empty() { SleepReason::Job } else { SleepReason::Child };
        if may_go_on(pid, reason) {
            return Dependencies::NONE;
        }
        Dependencies::All(if is_shell && !jobs.is_empty() { jobs } else { children })
    }

    /// Returns the processes at the other end of the pipe from which a process reads, or to which it writes. If there may
    /// be more of them, which this process may not examine, returns [`Dependencies::NONE`].
    pub(super) fn find_other_ends(&self, pid: u32, call: PipeCall) -> Dependencies {
        if may_go_on(pid, SleepReason::Pipe) {
            return Dependencies::NONE;
        }
        let (pipes, is_other_end): (_, fn(&Path) -> bool) = match call {
            PipeCall::Read => (process::pipes_it_reads(pid), process::may_write),
            PipeCall::Write => (process::pipes_it_writes(pid), process::may_read),
        };
        let all = pipes.iter().filter_map(|pipe| self.pipes.get(pipe)).flatten();
        // The process may have the other end open, too. It sleeps, so it cannot act on that end.
        let others = all.filter(|(other, path)| *other != pid && process::is_pipe(path) && is_other_end(path));
        let others: HashSet<u32> = others.map(|(other, _)| *other).collect();
        let others: Vec<u32> = others.into_iter().collect();
        if others.iter().all(|other| self.descends_from(*other, pid)) || !self.hides_relatives(pid) {
            return Dependencies::All(others);
        }
        Dependencies::NONE
    }
}
