//! The processes below the holders of a lock, down to those that do the work, for `status`.

use super::holder::Holder;
use crate::os::proc::process::{self, ProcessStat, RunState};
use std::time::Duration;

/// The maximum number of processes in all trees together.
const MAX_PROCESSES: usize = 24;

/// The maximum number of children of a process in a tree.
const MAX_CHILDREN: usize = 5;

/// The maximum number of processes one below the other in a tree.
const MAX_DEPTH: usize = 8;

/// A process, and those that it has started.
#[derive(Debug)]
pub struct ProcessTree {
    pub pid: u32,
    /// The command line, quoted as a shell reads it.
    pub command: String,
    pub state: RunState,
    /// The time since the process started.
    pub age: Option<Duration>,
    /// The function of the kernel in which it sleeps, for a process without children. `None`: it does not sleep, or this process
    /// may not see it.
    pub sleeps_in: Option<String>,
    pub children: Vec<ProcessTree>,
    /// The number of children that are left out.
    pub omitted: usize,
}

/// Returns the trees of the holders that have children. A holder below another one is only in the tree of that one.
#[must_use]
pub fn find_process_trees(holders: &[Holder]) -> Vec<ProcessTree> {
    let mut left = MAX_PROCESSES;
    let mut trees = Vec::new();
    for holder in holders.iter().take(MAX_PROCESSES) {
        let pid = holder.pid;
        let children = find_children(pid, holder.threads);
        if !children.is_empty() && !is_below_other_holder(holders, pid) {
            let tree = process::read_stat(pid).and_then(|seen| build_tree(&seen, children, MAX_DEPTH, &mut left));
            trees.extend(tree.filter(|tree| !tree.children.is_empty()));
        }
    }
    trees
}

fn is_below_other_holder(holders: &[Holder], pid: u32) -> bool {
    let is_holder = |pid: u32| holders.iter().any(|holder| holder.pid == pid);
    holders.len() > 1 && process::ancestors(pid).any(is_holder)
}

/// Returns the children of a process without this process, which is below the holder if the holder asks for the state.
fn find_children(pid: u32, threads: u32) -> Vec<u32> {
    let mut children = process::children_of_threads(pid, threads);
    children.retain(|child| *child != std::process::id());
    children
}

fn build_tree(seen: &ProcessStat, children: Vec<u32>, depth: usize, left: &mut usize) -> Option<ProcessTree> {
    if *left == 0 {
        return None;
    }
    let pid = seen.pid;
    let command = process::command_line(pid);
    // The process has ended.
    if command.is_empty() {
        return None;
    }
    *left -= 1;
    let mut tree = ProcessTree {
        pid,
        command,
        state: seen.state,
        age: seen.age(),
        // A stopped process sleeps in the function that has stopped it.
        sleeps_in: if children.is_empty() && seen.state != RunState::Stopped { process::sleeps_in(pid) } else { None },
        children: Vec::new(),
        omitted: 0,
    };
    for (at, child) in children.into_iter().enumerate() {
        if at >= MAX_CHILDREN || depth <= 1 || *left == 0 {
            tree.omitted += 1;
        } else {
            let Some(seen) = process::read_stat(child) else { continue };
            let children = find_children(child, seen.threads);
            tree.children.extend(build_tree(&seen, children, depth - 1, left));
        }
    }
    Some(tree)
}
