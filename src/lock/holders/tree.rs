//! The processes below the holders of a lock, down to those that do the work, for `status`.

use super::state::Holding;
use crate::os::proc::process::{self, RunState};
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
pub fn find_process_trees(holding: &Holding) -> Vec<ProcessTree> {
    let mut left = MAX_PROCESSES;
    let mut trees = Vec::new();
    for pid in holding.holders.iter().map(|holder| holder.pid).take(MAX_PROCESSES) {
        let children = find_children(pid);
        if !children.is_empty() && !is_below_other_holder(holding, pid) {
            trees.extend(build_tree(pid, children, MAX_DEPTH, &mut left).filter(|tree| !tree.children.is_empty()));
        }
    }
    trees
}

impl ProcessTree {
    /// Returns the first process below this one that a signal has stopped.
    #[must_use]
    pub fn find_stopped_child(&self) -> Option<u32> {
        self.children.iter().find_map(|child| {
            if child.state == RunState::Stopped { Some(child.pid) } else { child.find_stopped_child() }
        })
    }
}

fn is_below_other_holder(holding: &Holding, pid: u32) -> bool {
    let is_holder = |pid: u32| holding.holders.iter().any(|holder| holder.pid == pid);
    holding.holders.len() > 1 && process::ancestors(pid).any(is_holder)
}

/// Returns the children of a process without this process, which is below the holder if the holder asks for the state.
fn find_children(pid: u32) -> Vec<u32> {
    let mut children = process::children(pid);
    children.retain(|child| *child != std::process::id());
    children
}

fn build_tree(pid: u32, children: Vec<u32>, depth: usize, left: &mut usize) -> Option<ProcessTree> {
    if *left == 0 {
        return None;
    }
    let command = process::command_line(pid);
    let seen = process::read_stat(pid)?;
    *left -= 1;
    let mut tree = ProcessTree {
        pid,
        command,
        state: seen.state,
        age: seen.age(),
        sleeps_in: if children.is_empty() { process::sleeps_in(pid) } else { None },
        children: Vec::new(),
        omitted: 0,
    };
    for (at, child) in children.into_iter().enumerate() {
        if at >= MAX_CHILDREN || depth <= 1 || *left == 0 {
            tree.omitted += 1;
        } else {
            tree.children.extend(build_tree(child, find_children(child), depth - 1, left));
        }
    }
    Some(tree)
}
