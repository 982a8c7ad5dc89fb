//! The present activity of a process: its threads and children, the system call in which it sleeps, its signals and
//! timers.

#[cfg(linux)]
use super::read::SMALL;
use super::read::{read_small, read_whole};
use super::stat::stat_field;
#[cfg(not(linux))]
use super::stat::{RunState, read_all_stats, read_stat};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The kernel function in which a process sleeps (`proc_pid_wchan(5)`). `None` if it runs, or if this process may not
/// see it.
#[must_use]
pub fn sleeps_in(pid: u32) -> Option<String> {
    read_small(&format!("/proc/{pid}/wchan")).filter(|place| place != "0" && !place.is_empty())
}

/// Returns true if the first thread of a process runs or is ready to run (state `R`).
#[must_use]
#[cfg(not(linux))]
pub fn is_running(pid: u32) -> bool {
    read_stat(pid).is_some_and(|stat| stat.state == RunState::Running)
}

/// Returns true if the first thread of a process runs or is ready to run (state `R`).
#[must_use]
#[cfg(linux)]
pub fn is_running(pid: u32) -> bool {
    let stat = read_small(&format!("/proc/{pid}/stat"));
    stat.is_some_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R')))
}

/// The number of threads of a process (`proc_pid_stat(5)`, field 20).
#[must_use]
pub fn threads(pid: u32) -> Option<u64> {
    stat_field(pid, 20)
}

/// The running children of the first thread of a process (`proc_tid_children(5)`). Empty if the kernel does not list
/// them.
#[must_use]
#[cfg(not(linux))]
pub fn children(pid: u32) -> Vec<u32> {
    read_all_stats().into_iter().filter(|stat| stat.parent == pid).map(|stat| stat.pid).collect()
}

/// The running children of the first thread of a process (`proc_tid_children(5)`). Empty if the kernel does not list
/// them.
#[must_use]
#[cfg(linux)]
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let list = match read_small(&path) {
        // A longer list is returned in parts, each of which ends after a pid.
        Some(list) if list.len() < SMALL - 16 => list,
        Some(_) => read_whole(&path).unwrap_or_default(),
        None => return Vec::new(),
    };
    list.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Does the same as [`children`] for all threads of a process that has this number of them.
#[must_use]
pub fn children_of_threads(pid: u32, threads: u32) -> Vec<u32> {
    let mut all = children(pid);
    if threads < 2 {
        return all;
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        if thread.file_name().to_str().is_some_and(|number| number != pid.to_string()) {
            let list = read_whole(&format!("{}/children", thread.path().display())).unwrap_or_default();
            all.extend(list.split_ascii_whitespace().filter_map(|number| number.parse::<u32>().ok()));
        }
    }
    all
}

/// The process that traces `pid` (`ptrace(2)`). `None`: there is none that can be seen from here.
#[must_use]
pub fn tracer(pid: u32) -> Option<u32> {
    let status = read_small(&format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    tracer.trim().parse().ok().filter(|tracer| *tracer > 0)
}

/// The number of context switches of the first thread of a process. If two calls return the same number, the thread did
/// not run in between.
#[must_use]
pub fn times_it_slept(pid: u32) -> Option<u64> {
    let status = read_small(&format!("/proc/{pid}/status"))?;
    let numbers = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    numbers.map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// The arguments of the system call in which a process sleeps (`proc_pid_syscall(5)`). Empty if the kernel does not
/// show them: Yama shows them only to ancestors of the process.
pub(crate) fn call_arguments(pid: u32) -> Vec<u64> {
    parse_call_arguments(&read_small(&format!("/proc/{pid}/syscall")).unwrap_or_default())
}

/// Parses the arguments, which follow the number of the call.
pub(super) fn parse_call_arguments(call: &str) -> Vec<u64> {
    call.split(' ').skip(1).map_while(|word| u64::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok()).collect()
}

/// The directory in `/proc` of a thread other than the first, in a process with several threads. If the first thread
/// has ended, only this directory shows the descriptors and the command line.
pub(crate) fn other_thread(pid: u32) -> Option<PathBuf> {
    if cfg!(not(linux)) {
        return None;
    }
    let threads = format!("/proc/{pid}/task");
    // Most processes have one thread, which the number of links shows with one call.
    if fs::metadata(&threads).ok()?.nlink() < 4 {
        return None;
    }
    let first = pid.to_string();
    let mut others = fs::read_dir(threads).ok()?.flatten().filter(|thread| thread.file_name().to_str() != Some(&first));
    others.next().map(|thread| thread.path())
}

/// The signals that a process ignores; the lowest bit is signal 1. `None` if they are not known.
#[must_use]
pub fn ignored_signals(pid: u32) -> Option<u64> {
    read_signal_set(pid, "SigIgn:")
}

/// The signals that a process handles; the lowest bit is signal 1. `None` if they are not known.
#[must_use]
pub fn caught_signals(pid: u32) -> Option<u64> {
    read_signal_set(pid, "SigCgt:")
}

fn read_signal_set(pid: u32, key: &str) -> Option<u64> {
    let status = read_small(&format!("/proc/{pid}/status"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Returns true if a process has timers of `timer_create(2)`, and false if the kernel does not show them.
#[must_use]
pub fn has_timers(pid: u32) -> bool {
    read_small(&format!("/proc/{pid}/timers")).is_some_and(|timers| !timers.is_empty())
}
