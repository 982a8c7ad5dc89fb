//! The binding between a script and its keeper: locked bytes of the lock file, far beyond its content.
//!
//! The locks belong to open file descriptions (`F_OFD_SETLK`, fcntl(2)).
//!
//! - The script's two bytes are locked on the open file description of its lock descriptor, so the kernel unlocks them
//!   when the last copy of that descriptor is closed, for whatever reason. The keeper waits for the first byte. Other
//!   processes test the second byte, which the keeper never locks.
//! - The keeper's byte is locked on the keeper's own open file description while there is a keeper. It shows others
//!   that the lease is kept, and they wait for its end, which means that the lease was given back.
//!
//! flock(2) on the same file cannot do this: a local waiter that was in the queue before the keeper would get the lock
//! first, and then wait at the server for the lease that the keeper holds. The bytes must also differ from script to
//! script. Otherwise the next script could lock them before the keeper of the last one noticed its end. Their position
//! follows from the token of the local lock, which is different for each acquisition of the file. All holders of a shared
//! lock have the same token, so for them it is a random number, which `/proc` shows as the position of the locked bytes.

use crate::lease::WaitLimit;
use crate::os::clock::Moment;
use aba_lock::lock::keeper;
use aba_lock::os::proc::lock_table::lock_of_descriptor;
use aba_lock::os::proc::openers::ScannedDescriptor;
use aba_lock::os::{Mode, RangeLock, range_in_the_way, try_lock_range, unlock_range, wait_lock_range};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// The lowest position of a script's bytes.
const SCRIPTS: u64 = keeper::FIRST_SCRIPT_BYTE;

/// The distance from a script's first byte to the byte of its keeper. The bytes of all scripts are below this position,
/// and the bytes of all keepers are above it.
const KEEPERS: u64 = keeper::FIRST_LEASE_BYTE;

/// The longest wait for a keeper to give a lease back. The keeper keeps trying after that.
const RETURN_LIMIT: Duration = Duration::from_secs(5);

/// The longest such wait of a caller that does not wait for locks. It is long enough if the server answers.
const SHORT_RETURN_LIMIT: Duration = Duration::from_secs(1);

/// The pause between two tests of the keeper's byte.
const POLL: Duration = Duration::from_millis(2);

/// The bytes of one acquisition: `start` is the position of the script's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    start: u64,
}

impl Binding {
    /// Returns the binding for the local lock with this token.
    pub(crate) fn from_token(token: u64) -> Self {
        Self { start: SCRIPTS + 2 * (token % (SCRIPTS / 2)) }
    }

    /// Finds the binding of this open file description, if the lock on it is shared.
    pub(crate) fn find_shared(script: &File) -> Option<Self> {
        if is_shared(script) { keeper::find_script_byte(script).map(|start| Self { start }) } else { None }
    }

    /// The token from which [`Self::from_token`] makes this binding.
    pub(crate) fn token(self) -> u64 {
        (self.start - SCRIPTS) / 2
    }

    /// Returns true if the script's bytes are among the locks of this descriptor of any process.
    pub(crate) fn is_bound_to(self, descriptor: &ScannedDescriptor) -> bool {
        let lock = |mode| RangeLock { mode, start: self.start, len: 2, pid: None };
        [Mode::Exclusive, Mode::Shared].into_iter().any(|mode| descriptor.has_range_lock(&lock(mode)))
    }

    /// Locks the script's bytes on the script's open file description.
    pub(crate) fn bind_script(self, script: &File) -> io::Result<()> {
        let is_bound = match try_lock_range(script, Mode::Exclusive, self.start, 2) {
            // The descriptor is read-only, which is enough for a shared lock.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                try_lock_range(script, Mode::Shared, self.start, 2)?
            }
            result => result?,
        };
        if is_bound { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    /// Blocks until the script has ended or released its bytes, or a signal arrives.
    pub(crate) fn wait_for_script(self, keeper: &File) -> io::Result<()> {
        wait_lock_range(keeper, Mode::Exclusive, self.start, 1)
    }

    /// Returns true while the script holds its bytes.
    pub(crate) fn has_script(self, file: &File) -> io::Result<bool> {
        is_locked(file, self.start + 1)
    }

    /// Locks the keeper's byte on the keeper's own open file description. Returns false if another keeper holds it.
    pub(crate) fn lock_keeper_byte(self, keeper: &File) -> io::Result<bool> {
        try_lock_range(keeper, Mode::Exclusive, KEEPERS + self.start, 1)
    }

    /// Unlocks the keeper's byte, which shows that the lease was given back.
    pub(crate) fn unlock_keeper_byte(self, keeper: &File) -> io::Result<()> {
        unlock_range(keeper, KEEPERS + self.start, 1)
    }

    /// Returns true while this acquisition has a keeper.
    pub(crate) fn has_keeper(self, file: &File) -> io::Result<bool> {
        is_locked(file, KEEPERS + self.start)
    }

    /// Waits until the keeper of a script that has ended has given the lease back, but not forever. Returns at once if
    /// a process that inherited the descriptor still holds the script's bytes.
    pub(crate) fn wait_for_return(self, file: &File) {
        wait_while(RETURN_LIMIT, || Ok(!self.has_script(file)? && self.has_keeper(file)?));
    }
}

/// Returns true while any acquisition of this lock file has a keeper.
pub(crate) fn has_keeper(file: &File) -> io::Result<bool> {
    keeper::has_keeper(file)
}

/// Returns true if the lock on this open file description is shared, as it is for a slot.
pub(crate) fn is_shared(file: &File) -> bool {
    lock_of_descriptor(file.as_raw_fd()).is_some_and(|lock| !lock.exclusive)
}

/// Unlocks the script's bytes on this open file description, which all copies of the descriptor share.
pub(crate) fn unbind_script(script: &File) -> io::Result<()> {
    unlock_range(script, SCRIPTS, KEEPERS - SCRIPTS)
}

/// Waits until the last keeper of this lock file has given its lease back, but not forever. A caller that continues too
/// early finds the old lease in the queue of the server. The local lock must be free, or held by this process.
pub(crate) fn wait_until_returned(file: &File, limit: WaitLimit) {
    let limit = if limit == WaitLimit::NoWait { SHORT_RETURN_LIMIT } else { limit.cap(RETURN_LIMIT) };
    wait_while(limit, || has_keeper(file));
}

/// Waits until the keepers of scripts that have ended have given their leases back, but not forever. The keepers of the
/// other holders of a shared lock go on.
pub(crate) fn wait_until_ended_are_returned(file: &File, limit: WaitLimit) {
    let limit = if limit == WaitLimit::NoWait { SHORT_RETURN_LIMIT } else { limit.cap(RETURN_LIMIT) };
    wait_while(limit, || {
        let mut position = KEEPERS;
        while let Some(found) = range_in_the_way(file, Mode::Exclusive, position, 0)? {
            let script = Binding { start: found.start.saturating_sub(KEEPERS) };
            if !script.has_script(file)? {
                return Ok(true);
            }
            position = found.start + found.len.max(1);
        }
        Ok(false)
    });
}

fn wait_while(limit: Duration, is_kept: impl Fn() -> io::Result<bool>) {
    let end = Moment::now().plus(limit);
    while is_kept().unwrap_or(false) && !end.is_past() {
        thread::sleep(POLL);
    }
}

fn is_locked(file: &File, position: u64) -> io::Result<bool> {
    Ok(range_in_the_way(file, Mode::Exclusive, position, 1)?.is_some())
}
