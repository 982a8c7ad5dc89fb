//! The search.

use super::ancestors::MAX_DEPTH;
use super::circle::{Circle, Step, Wants};
use super::dependencies::Next;
use super::pipes::{PipeEnd, pipe_end};
use super::sleepers::{Sleep, is_limited, may_go_on};
use super::snapshot::World;
use crate::lock::peer;
use crate::os::proc::lock_table::{self, FileId};
use crate::os::proc::process;
use std::collections::HashSet;

/// All circles that there are now: those of programs that do not look for themselves, too.
#[must_use]
pub fn all() -> Vec<Circle> {
    let listed = lock_table::list();
    let world = World::new(&listed, None);
    let mut circles: Vec<Circle> = Vec::new();
    for one in listed.iter().filter(|one| one.waits) {
        let pid = one.lock.locker;
        if !circles.iter().any(|known| known.waiters.contains(&pid)) {
            circles.extend(world.circle(pid));
        }
    }
    circles
}

/// A step on the way: a process, and by what it waits for the next one.
#[derive(Debug, Clone, Copy)]
struct Hop {
    pid: u32,
    lock: Option<FileId>,
    pipe: Option<PipeEnd>,
}

impl World {
    /// The circle that goes through `us`.
    pub(super) fn circle(&self, us: u32) -> Option<Circle> {
        let mut way = Vec::new();
        let mut visited = HashSet::new();
        if !self.leads_back(us, us, &mut way, &mut visited) {
            return None;
        }
        let waiters: Vec<u32> = way.iter().filter(|hop| hop.lock.is_some()).map(|hop| hop.pid).collect();
        let locks: Vec<FileId> = way.iter().filter_map(|hop| hop.lock).collect();
        // In whose hands each lock is stands behind the one who waits for it; of the last one that may be `us`.
        let owners = way.iter().enumerate().filter(|(_, hop)| hop.lock.is_some());
        let owners = owners.map(|(at, _)| way.get(at + 1).map_or(us, |next| next.pid));
        let pipes = pipes_after_locks(&way, us);
        let steps = owners.enumerate().map(|(at, pid)| Step {
            pid,
            command: process::command_line(pid),
            has: self.label(locks[at]),
            wants: pipes[at].clone().unwrap_or_else(|| Wants::Lock(self.label(locks[(at + 1) % locks.len()]))),
        });
        let members = way.iter().map(|hop| hop.pid).collect();
        let files = locks.iter().filter_map(|file| self.path(*file)).collect();
        let limited = way.iter().filter(|hop| hop.pid != us).any(|hop| is_limited(hop.pid, hop.lock.is_some()));
        Some(Circle { steps: steps.collect(), files, waiters, members, limited })
    }

    /// Whether `pid` waits, over others, for `us`. The way there, if so, is put behind `way`.
    fn leads_back(&self, pid: u32, us: u32, way: &mut Vec<Hop>, visited: &mut HashSet<u32>) -> bool {
        if way.len() > MAX_DEPTH || !visited.insert(pid) {
            return false;
        }
        let lock = self.waits.get(&pid).copied();
        let pipe = if lock.is_some() { None } else { pipe_end(pid) };
        way.push(Hop { pid, lock, pipe });
        let next = match (lock, pipe) {
            (Some(file), _) if pid == std::process::id() || !may_go_on(pid, Sleep::Lock) => {
                Next::Owners(self.owners(file))
            }
            (Some(_), _) => Next::Any(Vec::new()),
            // A helper that has a command waits for its end.
            (None, Some(end)) if !peer::is_helper(pid) || !self.children.contains_key(&pid) => {
                self.other_ends(pid, end)
            }
            _ => self.awaited_children(pid),
        };
        let found = match next {
            Next::Any(next) => next.into_iter().any(|next| next == us || self.leads_back(next, us, way, visited)),
            Next::All(next) => self.all_lead_back(&next, us, way, visited),
            Next::Owners(groups) => groups.iter().any(|group| match group.as_slice() {
                [next] => *next == us || self.leads_back(*next, us, way, visited),
                group => self.all_lead_back(group, us, way, visited),
            }),
        };
        if !found {
            way.pop();
        }
        found
    }

    /// Returns true if all of these wait, over others, for `us`. The shortest way is then appended to `way`.
    fn all_lead_back(&self, next: &[u32], us: u32, way: &mut Vec<Hop>, visited: &HashSet<u32>) -> bool {
        let ways: Option<Vec<_>> = next.iter().map(|next| self.way_back(*next, us, way, visited)).collect();
        let shortest = ways.and_then(|ways| ways.into_iter().min_by_key(Vec::len));
        shortest.is_some_and(|shortest| {
            *way = shortest;
            true
        })
    }

    /// The whole way over `next`, which may go where another way has been already.
    fn way_back(&self, next: u32, us: u32, way: &[Hop], visited: &HashSet<u32>) -> Option<Vec<Hop>> {
        let mut way = way.to_vec();
        let on_it: HashSet<u32> = way.iter().map(|hop| hop.pid).collect();
        let mut visited = visited.intersection(&on_it).copied().collect();
        (next == us || self.leads_back(next, us, &mut way, &mut visited)).then_some(way)
    }
}

/// The pipes on the way of a circle: for each lock, the pipe between its owner and the next lock, if there is one.
fn pipes_after_locks(way: &[Hop], us: u32) -> Vec<Option<Wants>> {
    let mut pipes = Vec::new();
    for (at, hop) in way.iter().enumerate() {
        let next = way.get(at + 1).map_or(us, |next| next.pid);
        match (hop.lock, hop.pipe) {
            (Some(_), _) => pipes.push(None),
            (None, Some(PipeEnd::Writes)) => {
                pipes.pop();
                pipes.push(Some(Wants::Reader { writer: hop.pid, reader: next }));
            }
            // A shell that reads what its child prints is not mentioned.
            (None, Some(PipeEnd::Reads)) if process::parent(next) != Some(hop.pid) => {
                pipes.pop();
                pipes.push(Some(Wants::Writer { reader: hop.pid, writer: next }));
            }
            _ => {}
        }
    }
    pipes
}
