//! Acquires and releases a lock in the process of a script, without the helper. The builtin for bash calls this.
//!
//! Both functions have the effects of the helper (`lock --fd`, `unlock --fd`) and of the shell library, which opens and closes the
//! file, but only in the usual case: one exclusive lock that is free, on a file that exists and can be written, and whose events are not
//! logged.
//! In all other cases, and after every error, they return `None` and hold nothing that was not held before. Then the library calls
//! the helper, which reports the cause.
//!
//! They run in the shell of a user, so they read no variable, print nothing, start no thread, never block, and change no signal
//! action, no umask and no descriptor but that of the lock.

use crate::base::key;
use crate::base::names::LockName;
use crate::lock::log_flag;
use crate::lock::open::open_existing;
use crate::lock::record::{self, RecordDraft, Taker};
use crate::lock::unlock::unlock_description;
use crate::os::proc::{lock_table, process};
use crate::os::{self, Mode};
use crate::store::Store;
use std::fs::{self, Metadata};
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// The descriptors on which the library opens lock files. Bash reads the script itself from 255.
const DESCRIPTORS: RangeInclusive<RawFd> = 200..=254;

/// The facts for the records of this process that stay the same, so that they are read only once.
#[derive(Debug)]
pub struct DirectTaker {
    pid: u32,
    user: u32,
    taker: Taker,
}

impl DirectTaker {
    /// Describes this process, which is `pid`. `None` if `/proc` does not show it.
    fn describe(pid: u32) -> Option<Self> {
        process::has_our_numbers().then(|| Self { pid, user: os::user_id(), taker: Taker::new(pid, None) })
    }
}

/// Acquires the lock of `name` for this process, `pid`, and returns the new descriptor that holds it. `inherited` are the
/// descriptors on which the script holds locks already.
pub fn acquire(
    store: &Store,
    name: &LockName,
    (pid, inherited): (u32, &[RawFd]),
    noted: &mut Option<DirectTaker>,
) -> Option<RawFd> {
    // With a limit, a write can end the process with a signal. The helper keeps the text from which a name was derived.
    if os::limit_of_file_size() != os::NO_LIMIT || key::is_derived(name.as_str()) {
        return None;
    }
    let target = store.target(name);
    let file = open_existing(&target.path).ok()?;
    let opened = file.metadata().ok()?;
    let is_same = |other: &Metadata| (other.dev(), other.ino()) == (opened.dev(), opened.ino());
    let is_open_on =
        |fd: &RawFd| os::callers_descriptor(*fd).is_some_and(|file| file.metadata().is_ok_and(|it| is_same(&it)));
    let is_usual = opened.is_file() && opened.nlink() == 1 && !log_flag::is_logged(opened.mode());
    if !is_usual || inherited.iter().any(is_open_on) {
        return None;
    }
    // A subshell has another pid.
    if noted.as_ref().is_none_or(|noted| noted.pid != pid || noted.user != os::user_id()) {
        *noted = Some(DirectTaker::describe(pid)?);
    }
    let draft = RecordDraft::new(Taker::again(&noted.as_ref()?.taker), Mode::Exclusive, None, None);
    if !os::try_lock(&file, Mode::Exclusive).ok()? {
        return None;
    }
    // From here on, every return but the last one closes the file, which releases the lock.
    let found = fs::symlink_metadata(&target.path).ok().filter(is_same)?;
    let (record, text) = draft.finish(record::next_token(record::last_token(&file)?));
    record::overwrite(&file, found.size(), &text).ok()?;
    if record.ns != lock_table::FIRST_NAMESPACE {
        os::set_owner(&file, pid);
    }
    let held = os::duplicate_for_children(&file, *DESCRIPTORS.start()).ok()?;
    let fd = held.as_raw_fd();
    (DESCRIPTORS.contains(&fd) && !inherited.contains(&fd)).then(|| held.into_raw_fd())
}

/// Releases the lock of `name`, which this process has acquired on `fd`, and closes the descriptor.
#[must_use]
pub fn release(store: &Store, name: &LockName, fd: RawFd) -> Option<()> {
    if !DESCRIPTORS.contains(&fd) {
        return None;
    }
    let file = os::callers_descriptor(fd)?;
    let found = fs::symlink_metadata(store.lock_path(name)).ok()?;
    let opened = file.metadata().ok()?;
    if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) || log_flag::is_logged(opened.mode()) {
        return None;
    }
    unlock_description(&file).ok()?;
    drop(ManuallyDrop::into_inner(file));
    Some(())
}
