//! Priorities: waiters with a higher one get the lock first (`--priority high|normal|low`).
//!
//! The levels `high` and `normal` each have a **want**, a byte of the lock file that all waiters of the level lock shared. All waiters
//! of the level `low` use the turnstile of their level, so at most one of them blocks on the lock itself. The steps are those of the
//! model in `tests/models/priority.rs`. [`lock_wait`](super::lock_wait) takes step 1, and [`turnstile`](super::turnstile) the others, in
//! addition to its own:
//!
//! 1. A caller tries the lock. If it is granted, it goes to 5.
//! 2. Otherwise, if its level has a want, it takes that, shared.
//! 3. If its level is `low`, it blocks on the turnstile.
//! 4. It blocks on the lock.
//! 5. It holds the lock. It looks whether a want of a higher level is held shared, without taking it. If so, it releases the lock,
//!    and keeps its turnstile and its want. It waits for the higher want exclusively, releases that, and goes to 2, or to 4 if
//!    it holds its want or its turnstile.
//! 6. It releases its want and its turnstile, and runs.
//!
//! A caller that must yield after step 1 goes to step 2 at once. It waits for the higher want when it is in step 5 again.
//!
//! A caller without the option has the level `normal`, but if the lock is free in step 1, it runs without a look. A shared caller looks
//! only before step 1, together with its look at the turnstile. flock(1) blocks on the lock, and counts as `high`.
//!
//! A caller that has taken its want is passed by at most one exclusive caller of a lower level: one that has looked before.
//!
//! Waiters of one level that wait for the same higher want can change places: when one of its holders releases it, the kernel wakes
//! all of them, and each asks for the want again.
//!
//! A look ignores a want that is held exclusively, because that is another caller that yields. Otherwise, two of them could send
//! each other back forever.

use crate::lock::error::{LockError, PriorityMistake};
use crate::os::{self, BytePart, Mode, Priority};
use std::fs::File;
use std::io;
use std::path::Path;

/// Returns a want of a higher level that is held, if there is one.
pub(super) fn find_higher_want(file: &File, level: Priority) -> io::Result<Option<u64>> {
    let Some((wants, (start, len))) = level.higher_wants() else { return Ok(None) };
    if os::range_in_the_way(file, Mode::Exclusive, start, len)?.is_none() {
        return Ok(None);
    }
    for want in wants {
        let found = os::range_in_the_way(file, Mode::Exclusive, *want, 1)?;
        if found.is_some_and(|found| found.mode == Mode::Shared) {
            return Ok(Some(*want));
        }
    }
    Ok(None)
}

/// Returns true if a shared caller of this level must not try the lock: an exclusive caller of the level waits, a shared one
/// holds the turnstile, or a caller of a higher level waits. If no process waits, this takes one system call.
pub(super) fn is_queue_ahead(file: &File, level: Priority) -> bool {
    let (all, is_precise) = level.queue_of_shared();
    if !is_locked(file, all) {
        return false;
    }
    let is_marked = || level.mark().is_some_and(|mark| is_locked(file, (mark, 1)));
    is_precise
        || is_marked()
        || is_locked(file, level.turnstile(Mode::Shared))
        || matches!(find_higher_want(file, level), Ok(Some(_)))
}

/// Returns true if another process has locked one of these bytes.
pub(super) fn is_locked(file: &File, (start, len): BytePart) -> bool {
    matches!(os::range_in_the_way(file, Mode::Exclusive, start, len), Ok(Some(_)))
}

/// Returns the error for a file on which the bytes cannot be locked, because the call failed with `source`.
pub(super) fn cannot_use_priority(path: &Path, source: io::Error) -> LockError {
    let mistake = match source.raw_os_error() {
        Some(libc::EBADF) => PriorityMistake::NotWritable,
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP) => {
            PriorityMistake::FileSystem(os::file_system(path))
        }
        _ if source.kind() == io::ErrorKind::Unsupported => PriorityMistake::FileSystem("this system".to_owned()),
        _ => return LockError::cannot_lock(path, source),
    };
    LockError::Priority { label: path.display().to_string(), mistake }
}

/// Fails on a file system on which a lock of the whole file excludes those of its parts.
pub(super) fn check_file_system(path: &Path) -> Result<(), LockError> {
    if !os::is_network_file_system(path) {
        return Ok(());
    }
    let mistake = PriorityMistake::FileSystem(os::file_system(path));
    Err(LockError::Priority { label: path.display().to_string(), mistake })
}
