//! The processes that a killed run left, and how they are found and killed.
//!
//! A task runs again only when no process of the earlier run is left. The pid in a record may have been reused since, so a
//! process is killed only if it is proved to belong to that run.

use super::directory::Task;
use super::error::TaskError;
use super::files;
use super::stream::Stream;
use crate::base::environment::TASK;
use crate::lock::record::Record;
use crate::os;
use crate::os::proc::process::{self, InitialVariable, LocalNumbers, ProcessStat};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for the processes to disappear after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which a process is examined again if its environment cannot be read.
const UNKNOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Returns the value of the variable [`TASK`] in the environment of all processes of one run.
pub(super) fn build_run_label(task: &Task, token: u64) -> String {
    format!("{}/{token}", task.id)
}

/// Kills the processes that are left of the run of `record`: those that have the label of the run in their environment
/// or write to its logs, and the session of its command. The leader of the session or one of those processes must prove
/// that it is the session of the command, because a pid may be reused. (The pid of a session is not reused as long as a
/// process is in it.)
///
/// If the run was in another PID namespace, its pids mean nothing here. Then only the label and the logs identify its processes,
/// and only those that `/proc` shows are found.
///
/// `has_end` is true if the supervisor noted the end of the run. If `pid` exists nevertheless, the supervisor may have left
/// processes that it could not kill, such as those of another user, whose environment cannot be read. So then a process of
/// unknown origin in the session is an error.
pub(super) fn kill_leftovers(task: &Task, record: &Record, has_end: bool) -> Result<(), TaskError> {
    if !process::can_be_seen() && cfg!(linux) {
        return Err(TaskError::NotSeen { id: task.id.to_string(), path: task.file(files::PID) });
    }
    // Where `/proc` is missing, a record names neither the boot nor the namespace.
    if !record.boot.is_empty() && record.boot != process::boot_id() {
        return Ok(());
    }
    let is_our_namespace = record.ns == process::pid_namespace();
    // `/proc` may show pids of another PID namespace. The pids in the record are of the namespace of this process.
    let has_our_numbers = process::has_our_numbers();
    let here = |seen: &ProcessStat| {
        if !is_our_namespace {
            return None;
        }
        let same = Some(LocalNumbers { pid: seen.pid, session: seen.session });
        if has_our_numbers { same } else { process::local_numbers(seen.pid) }
    };
    let ours = process::own_number().unwrap_or(0);
    let label = InitialVariable::Value(build_run_label(task, record.token));
    // In a directory that users share, another user can have written the record, and put another file in the place of a log. Then
    // only the label, which a process has from its start, proves that it belongs to the run.
    let is_trusted = task.is_private();
    // Only the processes of the run have these files open for writing.
    let logs: Vec<(u64, u64)> = Stream::BOTH
        .into_iter()
        .filter(|_| is_trusted)
        .filter_map(|stream| task.log(stream)?.metadata().ok())
        .map(|data| (data.dev(), data.ino()))
        .collect();
    let started = Instant::now();
    // Two passes in a row must find nothing: a new process with a lower pid than its parent may be missed by one pass.
    let mut empty_passes = 0;
    while empty_passes < 2 {
        let (mut found, mut is_unsure) = (Vec::new(), false);
        let leader = process::number_of(record.pid).filter(|_| is_our_namespace && is_trusted);
        let mut is_proved = leader.is_some_and(|number| process::is_alive(number, record.tick));
        let mut in_session = Vec::new();
        for seen in process::read_all_stats().into_iter().filter(|seen| seen.pid != ours) {
            let here = here(&seen);
            // The leader is compared by pid, because it may not have begun its session yet.
            let is_leader = is_trusted && here.is_some_and(|here| here.pid == record.pid) && seen.start <= record.tick;
            let is_in_session = here.is_some_and(|here| here.session == record.pid);
            let given = process::initial_variable(seen.pid, TASK);
            if given == label || process::prints_to(seen.pid, &logs) {
                is_proved |= is_in_session;
                found.push(seen);
            } else if is_leader {
                found.push(seen);
            } else if is_in_session {
                is_unsure |= given == InitialVariable::Unknown;
                in_session.push(seen);
            }
        }
        if is_proved {
            found.append(&mut in_session);
        }
        let spent = started.elapsed();
        let is_empty = found.is_empty() && (!is_unsure || spent > UNKNOWN_TIMEOUT);
        empty_passes = if is_empty { empty_passes + 1 } else { 0 };
        if let (Some(first), true) = (found.first(), spent > KILL_TIMEOUT) {
            return Err(TaskError::NotEnded { id: task.id.to_string(), pid: Some(first.pid) });
        }
        let is_reused = leader.is_some_and(|number| process::start_time(number).is_some()) && !is_proved;
        if let (Some(first), true, false) = (in_session.first(), has_end && is_unsure && is_empty, is_reused) {
            return Err(TaskError::NotEnded { id: task.id.to_string(), pid: Some(first.pid) });
        }
        signal_all(&found, libc::SIGKILL);
        if empty_passes == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Kills the processes that are left of a killed run by another program.
pub(super) fn kill_foreign_leftovers(task: &Task) -> Result<(), TaskError> {
    let started = Instant::now();
    loop {
        let left = task.find_foreign_processes();
        let Some(first) = left.first() else { return Ok(()) };
        if started.elapsed() > KILL_TIMEOUT {
            return Err(TaskError::NotEnded { id: task.id.to_string(), pid: Some(first.pid) });
        }
        signal_all(&left, libc::SIGKILL);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a process that was seen. A process that has got the same pid since is not signalled.
pub(super) fn signal_process(seen: &ProcessStat, signal: i32) {
    if let Some(process) = os::Process::open(seen.pid, seen.start) {
        process.send(signal);
    }
}

pub(super) fn signal_all(processes: &[ProcessStat], signal: i32) {
    for seen in processes {
        signal_process(seen, signal);
    }
}
