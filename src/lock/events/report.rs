//! Logs the events of locks. The code that acquires and releases locks calls this.

use super::entry::{LockEvent, ReleaseCause, format_line};
use super::log::{LogPlace, write_line};
use crate::base::environment::event_log;
use crate::base::target::Target;
use crate::lock::holders;
use crate::lock::log_flag::{self, LOG_NAME};
use crate::lock::record::{self, Content};
use crate::lock::request::{Acquired, Guard, Request};
use crate::os;
use crate::os::proc::lock_table::{self, FileId, KernelLock};
use crate::os::proc::{openers, process};
use crate::store;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

/// The text before the id of a task in the name of its lock. No other lock has a name with a blank.
pub const TASK_PREFIX: &str = "run-once ";

/// Logs an event of the lock `target`, if the log is on. `holder` is the process that holds the lock or asks for it, and `command`
/// the command line that it will have. `None`: the one that it has now.
pub fn log_event(event: &LockEvent, target: &Target, holder: u32, command: Option<&str>) {
    if let Some(log) = find_log(target) {
        let command = command.map_or_else(|| process::local_command_line(holder), str::to_owned);
        // A lock on a file of the user has no name, so its path is the label.
        let path = target.path.to_string_lossy();
        let label = target.name().unwrap_or(&path);
        write(&log, event, (label, target.key.as_deref()), &target.path, holder, &command);
    }
}

/// Returns the place to which the events of `target` go. `None`: they are not logged.
fn find_log(target: &Target) -> Option<LogPlace> {
    event_log().map(LogPlace::Named).or_else(|| log_flag::find_root_log(target).map(LogPlace::Root))
}

/// Logs an event of a run of the task `id`, whose command is process `pid`, and whose lock file is at `path`. The files of tasks have
/// no log flag, so this looks for the log of `state_root`. The log of `ABA_LOCK_LOG` has locks only.
pub fn log_task_event(
    event: &LockEvent,
    (id, key): (&str, Option<&str>),
    path: &Path,
    state_root: Option<&Path>,
    (pid, command): (u32, &str),
) {
    let log = state_root.map(|root| root.join(LOG_NAME)).filter(|log| fs::symlink_metadata(log).is_ok());
    if let Some(log) = log.filter(|_| event_log().is_none()) {
        write(&LogPlace::Root(log), event, (&format!("{TASK_PREFIX}{id}"), key), path, pid, command);
    }
}

/// Logs that the call that began at `started` acquired the fresh locks of `acquired`.
pub(crate) fn log_acquired(acquired: &Acquired, request: &Request, command: &str, started: Instant) {
    if !acquired.is_logged && event_log().is_none() {
        return;
    }
    let event = LockEvent::Acquired {
        waited: started.elapsed(),
        mode: request.mode,
        slot: acquired.slot,
        token: acquired.token,
    };
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        log_event(&event, &guard.target, request.holder, Some(command));
    }
}

/// The pauses before the looks for processes that keep a lock after the command. Those that end together with the command are not
/// meant.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(40)];

/// Releases the locks of `acquired`, and logs that: this process has acquired the fresh ones for a command, which has ended for this cause.
/// If a process that the command started still holds such a lock, it logs that instead. [`ReleaseCause::Release`]: the command did not run.
///
/// This process may see no process of another user. So it looks after the release whether the lock is still held. The line of the release
/// is there already, because the next holder must come after it in the log. If the lock is still held, another line
/// says so.
pub fn release_and_log(acquired: Acquired, request: &Request, held: Duration, cause: ReleaseCause) {
    if !acquired.is_logged && event_log().is_none() {
        return;
    }
    let status = match cause {
        ReleaseCause::Exit(status) => Some(status),
        ReleaseCause::Signal(signal) => Some(128 + signal),
        ReleaseCause::Release | ReleaseCause::Kill { .. } => None,
    };
    let released = LockEvent::Released { held: Some(held), cause: Some(cause) };
    let mut unseen = Vec::new();
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        let lock = lock_table::file_and_lock_of_descriptor(guard.file().as_raw_fd());
        let holder = lock.filter(|_| status.is_some()).and_then(|(_, lock)| find_remaining_holder(guard, lock));
        let holder = holder.map(|pid| (pid, process::local_command_line(pid)));
        let event = if let (Some((pid, command)), Some(status)) = (&holder, status) {
            LockEvent::Inherited { held, status, holder: Some((*pid, command)) }
        } else {
            unseen.extend(lock.zip(status).map(|(lock, status)| (guard.target.clone(), lock, status)));
            released
        };
        log_event(&event, &guard.target, request.holder, request.command.as_deref());
    }
    drop(acquired);
    for (target, lock, status) in unseen {
        if is_still_held(lock) {
            let event = LockEvent::Inherited { held, status, holder: None };
            log_event(&event, &target, request.holder, request.command.as_deref());
        }
    }
}

/// Returns another process that holds `lock` through the open file of `guard`.
fn find_remaining_holder(guard: &Guard, lock: KernelLock) -> Option<u32> {
    let mut wanted = holders::identify_file(&guard.target.path);
    let data = guard.file().metadata().ok()?;
    (wanted.dev, wanted.ino) = (data.dev(), data.ino());
    let mut holder = None;
    for pause in PAUSES {
        thread::sleep(pause);
        let scan = openers::find_locking_processes(&mut vec![wanted.clone()], None, &AtomicBool::new(false));
        let mut others = scan.found.iter().filter(|opener| opener.pid != std::process::id());
        holder = others.find(|opener| opener.lock.locker == lock.locker).map(|opener| opener.pid);
        holder?;
    }
    holder
}

/// Returns true if a process holds this lock, which this process has acquired and released.
fn is_still_held((file, lock): (FileId, KernelLock)) -> bool {
    PAUSES.into_iter().all(|pause| {
        thread::sleep(pause);
        let listed = lock_table::list_held().unwrap_or_default();
        listed.iter().any(|one| !one.waits && one.file == file && one.lock.locker == lock.locker)
    })
}

/// Logs that the lock on `file`, which has this metadata, is about to be released for its script.
pub(crate) fn log_release(file: &File, data: Option<&Metadata>) {
    let named = event_log();
    if named.is_none() && !data.is_some_and(|data| log_flag::is_logged(data.mode())) {
        return;
    }
    let fcntl_lock = || lock_table::try_fcntl_lock_of_descriptor(file.as_raw_fd()).ok().flatten();
    let Some(lock) = lock_table::lock_of_descriptor(file.as_raw_fd()).or_else(fcntl_lock) else { return };
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    // The kernel appends ` (deleted)` to the path of a removed file.
    let bytes = path.as_os_str().as_bytes();
    let path = PathBuf::from(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)));
    let label = store::name_of(&path).map_or_else(|| path.to_string_lossy().into_owned(), |name| name.to_string());
    // A record of another acquisition is not believed.
    let record = match record::read(file) {
        Content::Record(record) if record.locker == lock.locker => Some(record),
        _ => None,
    };
    let holder = record.as_ref().map_or_else(os::parent_id, |record| record.pid);
    let command = record.as_ref().map_or_else(|| process::local_command_line(holder), |record| record.command.clone());
    let key = record.as_ref().and_then(|record| record.key.clone());
    let held = record.and_then(|record| record.age());
    let event = LockEvent::Released { held, cause: Some(ReleaseCause::Release) };
    let log = named.map_or_else(|| LogPlace::Root(path.with_file_name(LOG_NAME)), LogPlace::Named);
    write(&log, &event, (&label, key.as_deref()), &path, holder, &command);
}

fn write(log: &LogPlace, event: &LockEvent, label: (&str, Option<&str>), path: &Path, holder: u32, command: &str) {
    write_line(log, &format_line(event, label, path, holder, command));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::environment::EventLog;
    use crate::lock::events::MAX_LINE;
    use serde_json::Value;

    #[test]
    fn a_line_is_never_longer_than_the_limit() {
        // In JSON each quote takes two bytes, and each control character six.
        for wild in ["\"", "\u{1}", "é", "x"] {
            let long = wild.repeat(5000);
            let file = tempfile::NamedTempFile::new().unwrap();
            let event_log = LogPlace::Named(EventLog { path: file.path().to_owned(), is_socket: false });
            write(
                &event_log,
                &LockEvent::Contended { waits: true, is_skipped: false },
                (&long, Some(&long)),
                Path::new(&long),
                1,
                &long,
            );
            let text = fs::read_to_string(file.path()).unwrap();
            assert!(text.len() <= MAX_LINE && text.ends_with("}\n"), "{}", text.len());
            let read: Value = serde_json::from_str(&text).unwrap();
            assert!(read["command"].as_str().unwrap().ends_with('…'));
        }
    }
}
