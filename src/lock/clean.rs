//! The removal of lock files that no process uses (`aba-lock clean`), while other processes may begin to use them.
//!
//! `clean` never removes a file whose lock is held, so there are never two holders. It never causes the error "already
//! running", although it holds the lock for an instant. It does three things in this order:
//!
//! 1. It takes a lease on the file ([`os::be_alone`]). The kernel grants that only if no other process has the file
//!    open, in any pid namespace and of any user. So no process holds the lock, waits for it, or is between opening and
//!    locking. A process that opens the file from now on waits until `clean` closes it: the kernel blocks `exec 200<>`
//!    of a shell, and [`open_lock_file`](super::open::open_lock_file) tries again.
//! 2. It locks the file. The lock is free, because no process has the file open. If `clean` is stopped for so long that
//!    the kernel breaks the lease (45 s), the lock keeps the others out, or `clean` finds it taken.
//! 3. It checks that the name still leads to the locked file, and removes it. It looks up the name in the directory that it has
//!    open, so a link that another user puts in the place of the directory has no effect. Every other process makes the same check
//!    after each grant ([`acquire`](super::acquire)): a process that waited for `clean` finds that the file was
//!    removed, and opens it again.
//!
//! # If `clean` is killed
//!
//! The kernel releases the lease and the lock, as if the file was closed.
//!
//! | killed | remains | a process that waited to open the file | the next process |
//! |---|---|---|---|
//! | before unlink | the file | opens it and locks it | opens it and locks it |
//! | after unlink | no file | gets the removed file, notices that, opens again and creates a new file | creates a new file |
//!
//! # Other processes at the same time
//!
//! | other process | `clean` | outcome for the other process |
//! |---|---|---|
//! | opens before the lease, with or without a lock | leaves the file, because it is open | uses the file |
//! | opens after the lease, before unlink | goes on | waits until `clean` closes the file, then opens again |
//! | opens after unlink | is not affected | creates a new file |
//! | is another `clean` | leaves the file, if both have it open | leaves the file, if both have it open |
//! | is killed with the file open | leaves the file, or begins after the kill | none |
//!
//! # Limits
//!
//! flock(1) does not check whether its file was removed. If it opens the file in the microseconds between lease and
//! unlink, it locks a removed file and excludes no other process. A file that a user puts in the place of the lock file
//! between the check of the path and unlink is lost. A file system that has no leases, such as NFS, is left alone.

use crate::lock::error::LockError;
use crate::lock::holders::{self, Availability, Belief, Holding, LockState};
use crate::lock::promise;
use crate::lock::record::{self, Content, Record};
use crate::os::proc::process;
use crate::os::replace::parent_directory;
use crate::os::{self, Directory, Mode, word_for};
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The files or tasks to remove.
#[derive(Debug, Clone, Copy)]
pub struct CleanRule {
    /// Remove only those that were last used longer ago than this.
    pub older_than: Option<Duration>,
    /// Remove nothing, and only report the result.
    pub dry_run: bool,
}

/// The result for a lock file, a task or a pid file.
#[derive(Debug)]
pub enum Fate<E = LockError> {
    /// It was removed, or would be with [`CleanRule::dry_run`].
    Removed,
    /// With [`CleanRule::dry_run`]: it would be removed, unless a process that cannot be seen from here holds the lock.
    Depends,
    Left(KeepReason),
    /// It could not be removed.
    Failed(E),
}

/// The reason why `clean` keeps something.
#[derive(Debug)]
pub enum KeepReason {
    Missing,
    Held(Box<Holding>),
    /// The last holder ran on another machine, or in a pid namespace that cannot be seen from here, and may still hold
    /// the lock.
    MayBeHeld(Box<Record>, Belief),
    /// Another process has the file open, and may be about to lock it.
    Open,
    /// It was used a short time ago.
    TooNew(Duration),
    /// The file contains data that are no record.
    ForeignData,
    /// Calls with `--coalesce` rely on a run, and the waiter of that run has ended.
    RunOwed,
    /// It belongs to another user.
    OtherUser(String),
    /// The path leads to something other than a regular file.
    NotRegular(&'static str),
    /// The file was replaced during the check.
    Replaced,
    /// The system does not say whether another process has the file open.
    OpenUnknown(io::Error),
    /// The task, or the process of the pid file, runs.
    Running(u32),
    /// The process of the pid file cannot be checked: `/proc` is not mounted, or shows another pid namespace.
    ProcessUnknown,
    /// The task was interrupted, and the next waiter runs it again.
    Interrupted,
    /// The task has no outcome.
    Unfinished,
    /// Another process holds the lock of the task, and does not run it.
    TaskBusy,
    /// The directory of the task contains files that are not part of the task.
    ForeignFiles,
}

/// Removes the lock file at `path`, if it is not used and the rule allows it. `state` was observed a moment ago.
#[must_use]
pub fn clean_lock_file(path: &Path, state: LockState, rule: &CleanRule) -> Fate {
    let data = match fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Left(KeepReason::Missing),
        Err(source) => return Fate::Failed(LockError::Examine { path: path.to_owned(), source }),
    };
    if !data.is_file() {
        return Fate::Left(KeepReason::NotRegular(word_for(data.file_type())));
    }
    if let Some(holding) = state.holding {
        return Fate::Left(KeepReason::Held(Box::new(holding)));
    }
    if let Some(owner) = find_other_owner(&data) {
        return Fate::Left(KeepReason::OtherUser(owner));
    }
    let is_known = state.availability() == Availability::Free;
    let beyond = state.unseen;
    // A lease says nothing of processes on another machine. It covers all pid namespaces of this one.
    if let Some((record, Belief::OtherHost)) = beyond {
        return Fate::Left(KeepReason::MayBeHeld(record, Belief::OtherHost));
    }
    if rule.dry_run {
        let fate = if is_known { Fate::Removed } else { Fate::Depends };
        let rest = (&record::read_path(path), promise::has_promised_run_at(path));
        return check_rule(&data, rest, rule).map_or(fate, Fate::Left);
    }
    let check =
        |data: &Metadata, file: &File| check_rule(data, (&record::read(file), promise::has_promised_run(file)), rule);
    match remove(path, &check) {
        Ok(None) => Fate::Removed,
        Ok(Some(KeepReason::Open)) => Fate::Left(match (holders::observe_lock(path).holding, beyond) {
            (Some(holding), _) => KeepReason::Held(Box::new(holding)),
            (None, Some((record, belief))) => KeepReason::MayBeHeld(record, belief),
            (None, None) => KeepReason::Open,
        }),
        Ok(Some(why)) => Fate::Left(why),
        Err(error) => Fate::Failed(error),
    }
}

/// Returns the owner of a file, if that is another user. root may remove the files of all users.
pub(crate) fn find_other_owner(data: &Metadata) -> Option<String> {
    let us = os::user_id();
    (us != 0 && data.uid() != us).then(|| process::user_name(data.uid()))
}

/// Maximum time by which the clock of a file server may be ahead.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// Returns the time that has passed since `since`. A time in the future was written before the clock was set back, so
/// it counts as old. Otherwise it would count as new until that time comes.
pub(crate) fn measure_age(since: SystemTime) -> Duration {
    since
        .elapsed()
        .unwrap_or_else(|error| if error.duration() > CLOCK_TOLERANCE { Duration::MAX } else { Duration::ZERO })
}

/// Returns the reason why a free lock file is kept, if there is one.
fn check_rule(data: &Metadata, (content, is_run_promised): (&Content, bool), rule: &CleanRule) -> Option<KeepReason> {
    if *content == Content::Foreign {
        return Some(KeepReason::ForeignData);
    }
    if is_run_promised {
        return Some(KeepReason::RunOwed);
    }
    // Every holder writes a record if it can, which sets the time of the file. A holder that could not write one has
    // ended, too, because the lock is free.
    let age = data.modified().map_or(Duration::ZERO, measure_age);
    rule.older_than.is_some_and(|limit| age < limit).then_some(KeepReason::TooNew(age))
}

/// Removes a lock file that has several names, and that no other process has open. Returns true if the path does not lead to it any more,
/// and `None` if another process has it open.
pub(super) fn remove_linked_file(path: &Path) -> Option<bool> {
    let check = |data: &Metadata, file: &File| {
        if data.nlink() < 2 || find_other_owner(data).is_some() {
            return Some(KeepReason::Replaced);
        }
        let content = (&record::read(file), promise::has_promised_run(file));
        check_rule(data, content, &CleanRule { older_than: None, dry_run: false })
    };
    match remove(path, &check) {
        Ok(Some(KeepReason::Open)) => None,
        Ok(reason) => Some(matches!(reason, None | Some(KeepReason::Missing | KeepReason::Replaced))),
        Err(_) => Some(false),
    }
}

/// Removes a lock file that no other process has open. `Some`: it is kept, also if `check` returns a reason while this process holds the
/// lock.
fn remove(
    path: &Path,
    check: &dyn Fn(&Metadata, &File) -> Option<KeepReason>,
) -> Result<Option<KeepReason>, LockError> {
    let cannot = |source| LockError::Remove { path: path.to_owned(), source };
    // The owner of the directory can rename it, and put another one in its place.
    let name = CString::new(path.file_name().unwrap_or_default().as_bytes()).map_err(|error| cannot(error.into()))?;
    let directory = match Directory::open_for_names(parent_directory(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(KeepReason::Missing)),
        opened => opened.map_err(cannot)?,
    };
    // A descriptor for reading is enough for a lock. A link or a FIFO may have replaced the file.
    let file = match directory.open_unblocked(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(KeepReason::Missing)),
        // Another `clean` has a lease.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(KeepReason::Open)),
        Err(error) if [libc::ELOOP, libc::ENXIO].contains(&error.raw_os_error().unwrap_or(0)) => {
            return Ok(Some(KeepReason::Replaced));
        }
        Err(source) => return Err(cannot(source)),
    };
    match os::be_alone(&file) {
        Ok(true) => {}
        Ok(false) => return Ok(Some(KeepReason::Open)),
        Err(error) => return Ok(Some(KeepReason::OpenUnknown(error))),
    }
    if !os::try_lock(&file, Mode::Exclusive).map_err(|source| LockError::cannot_lock(path, source))? {
        return Ok(Some(KeepReason::Open));
    }
    // The file is checked again, because it can have changed until this process held the lock.
    let data = file.metadata().map_err(cannot)?;
    if !data.is_file() || !directory.has_file(&name, &file) {
        return Ok(Some(KeepReason::Replaced));
    }
    if let Some(why) = check(&data, &file) {
        return Ok(Some(why));
    }
    directory.remove(&name).map_err(cannot)?;
    // The file is closed only now, because that releases the lock, and lets other processes open the file.
    drop(file);
    Ok(None)
}
