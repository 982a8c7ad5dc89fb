//! For whom a process waits.

use super::pipes::PipeEnd;
use super::sleepers::{Sleep, may_go_on};
use super::snapshot::World;
use crate::lock::peer;
use crate::lock::record::{self, Content};
use crate::os::proc::lock_table::FileId;
use crate::os::proc::process;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// For which others a process waits.
pub(super) enum Next {
    /// For each of these: if one does not end, it does not go on.
    Any(Vec<u32>),
    /// For one of these: it does not go on if none of them ends.
    All(Vec<u32>),
    /// For one of each group: it does not go on if no process of one group does.
    Owners(Vec<Vec<u32>>),
}

impl World {
    /// In whose hands a lock is: for each open file description through which it is held, the processes of which one can
    /// release it. The wait for the lock never ends if all processes of one description wait for it.
    pub(super) fn owners(&self, file: FileId) -> Vec<Vec<u32>> {
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
        if let Some(taker) = taker
            && held.iter().all(|one| one.lock.exclusive)
        {
            return vec![vec![taker.pid]];
        }
        let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
        for one in held {
            groups.entry(one.lock.locker).or_default().push(one.pid);
        }
        // Without a record the process that took it is not known. One that a holder started has only inherited it.
        let inherited = |pid: u32, group: &[u32]| group.iter().any(|other| *other != pid && self.is_below(pid, *other));
        groups
            .into_values()
            .map(|group| group.iter().copied().filter(|pid| !inherited(*pid, &group)).collect())
            .collect()
    }

    /// The children for which a process waits.
    pub(super) fn awaited_children(&self, pid: u32) -> Next {
        let children: Vec<u32> = self.children.get(&pid).cloned().unwrap_or_default();
        if peer::is_helper(pid) {
            // The command of a task leads a session; what it left behind is not waited for.
            let leads = |child: &&u32| self.processes.get(child).is_some_and(|seen| seen.session == **child);
            let leaders: Vec<u32> = children.iter().filter(leads).copied().collect();
            return Next::Any(if leaders.is_empty() { children } else { leaders });
        }
        let place = process::sleeps_in(pid).unwrap_or_default();
        let does = |calls: &[&str]| calls.iter().any(|call| place.contains(call));
        // Our helper by that name. It waits for its command and for signals at once, unlike the original.
        if does(&["sigtimedwait"]) && process::name(pid) == peer::FLOCK {
            return Next::Any(children);
        }
        if does(&["poll"]) {
            let only = children.len() == 1 && peer::is_wrapper(pid);
            return Next::Any(if only { children } else { Vec::new() });
        }
        let shell = peer::is_name_of_shell(&process::name(pid));
        // (dash has its `wait` in sigsuspend(2).)
        let waits = does(&["do_wait"]) || shell && does(&["sigsuspend"]);
        if !waits {
            return Next::Any(Vec::new());
        }
        // The shell library waits for its own helper, and for nothing else.
        let helps = |child: &&u32| peer::find_script(**child) == Some(pid) && peer::is_called_by_library(**child);
        if let Some(helper) = children.iter().find(helps) {
            return Next::Any(if may_go_on(pid, Sleep::Child) { Vec::new() } else { vec![*helper] });
        }
        let in_front = |child: &&u32| self.is_in_front(pid, **child) == Some(true);
        let in_front: Vec<u32> = children.iter().filter(in_front).copied().collect();
        // It may be for any of them, and there is no end to it only if there is none to all. But the other parts of a pipeline
        // end with the first, and are waited for as a whole.
        let in_pipe = |child: &u32| process::sleeps_in(*child).is_some_and(|place| place.contains("pipe"));
        let jobs: Vec<u32> = in_front.iter().copied().filter(|child| !in_pipe(child)).collect();
        if may_go_on(pid, if shell && in_front.is_empty() { Sleep::Job } else { Sleep::Child }) {
            return Next::Any(Vec::new());
        }
        Next::All(if shell && !jobs.is_empty() { jobs } else { children })
    }

    /// The processes at the other end of the pipe that a process reads or writes: without one of them it does not go on. None,
    /// if not all of them may have been found.
    pub(super) fn other_ends(&self, pid: u32, end: PipeEnd) -> Next {
        if may_go_on(pid, Sleep::Pipe) {
            return Next::Any(Vec::new());
        }
        let (pipes, is_other_end): (_, fn(&Path) -> bool) = match end {
            PipeEnd::Reads => (process::pipes_it_reads(pid), process::may_write),
            PipeEnd::Writes => (process::pipes_it_writes(pid), process::may_read),
        };
        let all = pipes.iter().filter_map(|pipe| self.pipes.get(pipe)).flatten();
        // Its own copy of the other end wakes no process.
        let others = all.filter(|(other, path)| *other != pid && process::is_pipe(path) && is_other_end(path));
        let others: HashSet<u32> = others.map(|(other, _)| *other).collect();
        let others: Vec<u32> = others.into_iter().collect();
        if others.iter().all(|other| self.is_below(*other, pid)) || !self.hides_relatives(pid) {
            return Next::All(others);
        }
        Next::Any(Vec::new())
    }
}
