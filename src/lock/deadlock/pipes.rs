//! Processes that sleep at a pipe until the other end of it does something.
//!
//! The detector asks whether a process sleeps at a pipe of this process. The search asks whether a process on its path
//! sleeps at a pipe, and in which call.

use super::ancestors::{list_with_ancestors, may_wait_for_child};
use crate::os::proc::process;
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};

/// The call in which a process sleeps at a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeCall {
    Read,
    Write,
}

/// Returns the call in which a process sleeps, if it waits for the other end of a pipe.
pub(super) fn read_pipe_call(pid: u32) -> Option<PipeCall> {
    let place = process::sleeps_in(pid)?;
    let sleeps_in = |name: &str, call: PipeCall| place.contains(name).then_some(call);
    sleeps_in("pipe_read", PipeCall::Read).or_else(|| sleeps_in("pipe_write", PipeCall::Write))
}

/// Returns the pipes (by inode) that are open in a process, or in an ancestor that waits for it.
pub(super) fn list_own_pipes(pid: u32) -> HashSet<u64> {
    let pipes = |pid: u32| {
        process::descriptors(pid).filter(|(path, data)| data.file_type().is_fifo() && process::is_pipe(path))
    };
    let waiting = list_with_ancestors(pid).take_while(|other| *other == pid || may_wait_for_child(*other));
    waiting.flat_map(pipes).map(|(_, data)| data.ino()).collect()
}

/// Returns true if a process of this session sleeps until the other end of one of these pipes does something. Without
/// such a process, no circle comes back to this process through a pipe. Its ancestors do not count, because they wait
/// for this process even if they do not read.
///
/// Every waiter in a session with pipes calls this, so it must be cheap. It first reads where a process sleeps, which
/// costs a fraction of a look at the descriptors. With a more expensive test, a deadlock is found late or never:
///
/// 1. Some hundred waiters of other locks, all with a pipe open, look at the descriptors of all processes.
/// 2. The processor is busy with that. Each look takes longer, so waits last longer, and there are more waiters.
/// 3. A deadlock over pipes is closed. The look that would find it takes half a minute.
/// 4. That look fails, for instance because the writer has not filled the pipe yet. The next look is half a minute
///    later.
pub(super) fn is_pipe_awaited(pipes: &HashSet<u64>, stop: &AtomicBool) -> bool {
    let us = std::process::id();
    let Some(session) = process::read_stat(us).map(|seen| seen.session) else { return false };
    let ancestors: Vec<u32> = list_with_ancestors(us).collect();
    process::all_pids().into_iter().take_while(|_| !stop.load(Ordering::Relaxed)).any(|pid| {
        let used = match read_pipe_call(pid) {
            Some(_) if ancestors.contains(&pid) => return false,
            Some(PipeCall::Read) => process::pipes_it_reads(pid),
            Some(PipeCall::Write) => process::pipes_it_writes(pid),
            None => return false,
        };
        used.iter().any(|pipe| pipes.contains(pipe))
            && process::read_stat(pid).is_some_and(|seen| seen.session == session)
    })
}
