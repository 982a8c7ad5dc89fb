//! The search for a circle in a snapshot.
//!
//! The search walks from a waiter to the processes for which it waits, and on from each of these, until it comes back
//! to the waiter. `find_circle` is for a process that waits itself, and [`find_all_circles`] for `doctor`.

use super::ancestors::MAX_DEPTH;
use super::circle::{Awaited, Circle, CircleStep};
use super::dependencies::Dependencies;
use super::free_waits::list_free_waits;
use super::pipes::{PipeCall, read_pipe_call};
use super::sleepers::{SleepReason, has_time_limit, may_go_on};
use super::snapshot::Snapshot;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process;
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

/// Returns all circles of this moment, also those of programs that do not search themselves.
#[must_use]
pub fn find_all_circles() -> Vec<Circle> {
    let (listed, free_waits) = (lock_table::list(), list_free_waits());
    let snapshot = Snapshot::new(&listed, None, &free_waits, &AtomicBool::new(false));
    let mut circles: Vec<Circle> = Vec::new();
    let waiters = listed.iter().filter(|one| one.waits).map(|one| one.lock.locker);
    for pid in waiters.chain(free_waits.iter().map(|(pid, _)| *pid)) {
        if !circles.iter().any(|known| known.waiters.contains(&pid)) {
            circles.extend(snapshot.find_circle(pid));
        }
    }
    circles
}

/// A process on the path of the search, and the lock or the pipe for which it waits. `None` for both: it waits for a
/// child.
#[derive(Debug, Clone, Copy)]
struct Hop {
    pid: u32,
    lock: Option<FileId>,
    pipe: Option<PipeCall>,
}

impl Snapshot {
    /// Returns a circle through the process `us`, which waits for a lock.
    pub(super) fn find_circle(&self, us: u32) -> Option<Circle> {
        let mut path = Vec::new();
        let mut visited = HashSet::new();
        if !self.extend_path(us, us, &mut path, &mut visited) {
            return None;
        }
        let waiters: Vec<u32> = path.iter().filter(|hop| hop.lock.is_some()).map(|hop| hop.pid).collect();
        let locks: Vec<FileId> = path.iter().filter_map(|hop| hop.lock).collect();
        // The holder of a lock is the next process on the path after the waiter. After the last one, that is `us`.
        let holders = path.iter().enumerate().filter(|(_, hop)| hop.lock.is_some());
        let holders = holders.map(|(at, _)| path.get(at + 1).map_or(us, |next| next.pid));
        let pipes = list_pipes_after_locks(&path, us);
        let label = |at: usize| self.derive_label(locks[at % locks.len()]);
        let steps = holders.enumerate().map(|(at, pid)| CircleStep {
            pid,
            command: process::command_line(pid),
            holds: label(at),
            awaits: pipes[at].clone().unwrap_or_else(|| Awaited::Lock(label(at + 1))),
        });
        let members = path.iter().map(|hop| hop.pid).collect();
        let files = locks.iter().filter_map(|file| self.find_lock_file(*file)).collect();
        let limited = path.iter().filter(|hop| hop.pid != us).any(|hop| has_time_limit(hop.pid, hop.lock.is_some()));
        let has_slots = locks.iter().any(|file| self.has_slots(*file));
        Some(Circle { steps: steps.collect(), files, waiters, members, limited, has_slots })
    }

    /// Returns true if `pid` waits for `us`, directly or through others. Then the processes from `pid` on are added to
    /// `path`.
    fn extend_path(&self, pid: u32, us: u32, path: &mut Vec<Hop>, visited: &mut HashSet<u32>) -> bool {
        if path.len() > MAX_DEPTH || !visited.insert(pid) {
            return false;
        }
        let lock = self.waits.get(&pid).copied();
        let pipe = if lock.is_some() { None } else { read_pipe_call(pid) };
        path.push(Hop { pid, lock, pipe });
        let dependencies = match (lock, pipe) {
            (Some(file), _) if pid == std::process::id() || !may_go_on(pid, SleepReason::Lock) => {
                self.find_awaited_holders(pid, file)
            }
            (Some(_), _) => Dependencies::NONE,
            // A helper that has a command waits for the end of the command.
            (None, Some(call)) if !peer::is_helper(pid) || !self.children.contains_key(&pid) => {
                self.find_other_ends(pid, call)
            }
            _ => self.find_awaited_children(pid),
        };
        let found = match dependencies {
            Dependencies::Any(next) => {
                next.into_iter().any(|next| next == us || self.extend_path(next, us, path, visited))
            }
            Dependencies::All(next) => self.extend_path_over_all(&next, us, path, visited),
            Dependencies::AllOfAnyGroup(groups) => groups.iter().any(|group| match group.as_slice() {
                [next] => *next == us || self.extend_path(*next, us, path, visited),
                group => self.extend_path_over_all(group, us, path, visited),
            }),
        };
        if !found {
            path.pop();
        }
        found
    }

    /// Returns true if all of these processes wait for `us`. Then the shortest path through one of them is added to
    /// `path`.
    fn extend_path_over_all(&self, next: &[u32], us: u32, path: &mut Vec<Hop>, visited: &HashSet<u32>) -> bool {
        let paths: Option<Vec<_>> = next.iter().map(|next| self.find_path_over(*next, us, path, visited)).collect();
        let shortest = paths.and_then(|paths| paths.into_iter().min_by_key(Vec::len));
        shortest.is_some_and(|shortest| {
            *path = shortest;
            true
        })
    }

    /// Returns the whole path that leads over `next`. It may visit processes of other paths again, but none on its own
    /// path.
    fn find_path_over(&self, next: u32, us: u32, path: &[Hop], visited: &HashSet<u32>) -> Option<Vec<Hop>> {
        let mut path = path.to_vec();
        let on_path: HashSet<u32> = path.iter().map(|hop| hop.pid).collect();
        let mut visited = visited.intersection(&on_path).copied().collect();
        (next == us || self.extend_path(next, us, &mut path, &mut visited)).then_some(path)
    }
}

/// Returns for each lock on the path the wait at a pipe between its holder and the next lock, if there is one.
fn list_pipes_after_locks(path: &[Hop], us: u32) -> Vec<Option<Awaited>> {
    let mut pipes = Vec::new();
    for (at, hop) in path.iter().enumerate() {
        let next = path.get(at + 1).map_or(us, |next| next.pid);
        match (hop.lock, hop.pipe) {
            (Some(_), _) => pipes.push(None),
            (None, Some(PipeCall::Write)) => {
                pipes.pop();
                pipes.push(Some(Awaited::Reader { writer: hop.pid, reader: next }));
            }
            // A shell that reads the output of its child is not mentioned.
            (None, Some(PipeCall::Read)) if process::parent(next) != Some(hop.pid) => {
                pipes.pop();
                pipes.push(Some(Awaited::Writer { reader: hop.pid, writer: next }));
            }
            _ => {}
        }
    }
    pipes
}
