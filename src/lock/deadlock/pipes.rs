//! Waits for the other end of a pipe.

use super::ancestors::above;
use crate::lock::peer;
use crate::os::proc::process;
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The end of a pipe that a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeEnd {
    Reads,
    Writes,
}

/// Returns the end of a pipe at which a process sleeps, until the other end of a pipe does something.
pub(super) fn pipe_end(pid: u32) -> Option<PipeEnd> {
    let place = process::sleeps_in(pid)?;
    let does = |call: &str, end: PipeEnd| place.contains(call).then_some(end);
    does("pipe_read", PipeEnd::Reads).or_else(|| does("pipe_write", PipeEnd::Writes))
}

/// Returns the pipes (by inode) that a process has open, or one above it that waits for it.
pub(super) fn pipes_above(pid: u32) -> HashSet<u64> {
    let pipes = |pid: u32| {
        process::descriptors(pid).filter(|(path, data)| data.file_type().is_fifo() && process::is_pipe(path))
    };
    let waiting = std::iter::once(pid).chain(above(pid).skip(1).take_while(|pid| may_wait_for_child(*pid)));
    waiting.flat_map(pipes).map(|(_, data)| data.ino()).collect()
}

/// Returns false if a process does not wait for a child, as [`World::awaited_children`] and [`World::other_ends`] decide.
/// Programs that start many others, such as test harnesses, have pipes to all of them.
fn may_wait_for_child(pid: u32) -> bool {
    let waits = |place: String| {
        ["do_wait", "sigsuspend", "sigtimedwait", "poll", "pipe"].iter().any(|call| place.contains(call))
    };
    peer::is_lock_program(pid) || process::threads(pid) == Some(1) && process::sleeps_in(pid).is_some_and(waits)
}

/// Returns whether a process of our session sleeps until the other end of one of these pipes does something: without one, no
/// circle comes back to us over a pipe. The processes above us are left out, because they also wait for us if they do not read.
///
/// Every waiter in a session with pipes does this, so it must be cheap: where a process sleeps is read first, because that costs
/// a fraction of a look at its descriptors. A more expensive test leads to a deadlock that is found late or never:
///
/// 1. Some hundred waiters of other locks, all with a pipe open, look at the descriptors of all processes.
/// 2. The processor is busy with that. Each look takes longer, waits last longer, and there are more waiters.
/// 3. A deadlock over pipes is closed. The look that would find it takes half a minute.
/// 4. It is in vain, for instance because the writer has not filled the pipe yet. The next look is half a minute later.
pub(super) fn is_pipe_awaited(pipes: &HashSet<u64>) -> bool {
    let us = std::process::id();
    let Some(session) = process::read_stat(us).map(|seen| seen.session) else { return false };
    let above: Vec<u32> = above(us).collect();
    process::all_pids().into_iter().any(|pid| {
        let used = match pipe_end(pid) {
            Some(_) if above.contains(&pid) => return false,
            Some(PipeEnd::Reads) => process::pipes_it_reads(pid),
            Some(PipeEnd::Writes) => process::pipes_it_writes(pid),
            None => return false,
        };
        used.iter().any(|pipe| pipes.contains(pipe))
            && process::read_stat(pid).is_some_and(|seen| seen.session == session)
    })
}
