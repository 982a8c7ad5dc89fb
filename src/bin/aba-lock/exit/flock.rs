//! The exit statuses of `flock`, which are those of flock(1): from 64 on, those of `sysexits.h`.

use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use std::io;

pub(crate) const DONE: i32 = 0;
/// Standard output could not be written to.
pub(crate) const NOT_PRINTED: i32 = 1;
pub(crate) const USAGE: i32 = 64;
/// The file cannot be locked.
const DATA: i32 = 65;
/// The file cannot be opened.
const NO_INPUT: i32 = 66;
/// The command cannot be run.
const UNAVAILABLE: i32 = 69;
/// The system lacks memory, processes, locks, or a timer for so long a wait.
pub(crate) const SYSTEM: i32 = 71;
/// The file cannot be created.
const CANNOT_CREATE: i32 = 73;

/// Returns the status for a file that could not be opened or locked.
pub(crate) fn status_for_error(error: &Error) -> i32 {
    match error {
        Error::Lock(LockError::Open { source, .. }) => match source.raw_os_error() {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => SYSTEM,
            Some(libc::EROFS | libc::ENOSPC) => CANNOT_CREATE,
            _ => NO_INPUT,
        },
        Error::Lock(LockError::Lock { source, .. })
            if matches!(source.raw_os_error(), Some(libc::ENOLCK | libc::ENOMEM)) =>
        {
            SYSTEM
        }
        _ => DATA,
    }
}

/// Returns the status for a command that could not be run.
pub(crate) fn status_for_command(error: &io::Error) -> i32 {
    // The system has no room for another process, or for the program.
    if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) { SYSTEM } else { UNAVAILABLE }
}
