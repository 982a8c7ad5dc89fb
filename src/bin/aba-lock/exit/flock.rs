//! The exit statuses of `flock`, which are those of flock(1): `sysexits.h`.

use aba_lock::error::Error;
use std::io;

/// Locked, or released.
pub(crate) const DONE: i32 = 0;
/// What was to be printed was not.
pub(crate) const NOT_PRINTED: i32 = 1;
/// Wrong usage.
pub(crate) const USAGE: i32 = 64;
/// It cannot be locked.
const DATA: i32 = 65;
/// It cannot be opened.
const NO_INPUT: i32 = 66;
/// The command cannot be run.
const UNAVAILABLE: i32 = 69;
/// The system could not.
pub(crate) const SYSTEM: i32 = 71;
/// It cannot be made.
const CANNOT_CREATE: i32 = 73;

/// The status for a lock that could not be tried.
pub(crate) fn of(error: &Error) -> i32 {
    match error {
        Error::Open { source, .. } => match source.raw_os_error() {
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => SYSTEM,
            Some(libc::EROFS | libc::ENOSPC) => CANNOT_CREATE,
            _ => NO_INPUT,
        },
        Error::Lock { source, .. } if matches!(source.raw_os_error(), Some(libc::ENOLCK | libc::ENOMEM)) => SYSTEM,
        _ => DATA,
    }
}

/// The status for a command that did not run.
pub(crate) fn of_command(error: &io::Error) -> i32 {
    // Of no room for another process, or for the program in it.
    if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) { SYSTEM } else { UNAVAILABLE }
}
