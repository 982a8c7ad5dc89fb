//! The tie between a keeper and a script: bytes of the lock file, far behind its content, that are locked for open
//! file descriptions (`F_OFD_SETLK`, fcntl(2)).
//!
//! - The **script's bytes**, two, are locked for the description that the script has on its lock descriptor. They are free when the
//!   last copy of that is closed, whatever closes it, and the keeper, which blocks for the first, is told by the kernel. The
//!   second is for those who only look: the keeper never takes it.
//! - The **keeper's byte** is locked for a description of the keeper's own, as long as there is a keeper: so others see that
//!   the lease is kept, and wait until it was given back.
//!
//! Not flock(2) on the same file: a local waiter that stood there before the keeper would get it first, and then wait in the
//! cluster for the lease that the keeper holds. And not the same bytes for each script: the next one would lock it before the
//! keeper of the last one was told. So where they are follows from the token of the local lock, which no other
//! acquisition of the file has.

use aba_lock::lock::keeper;
use aba_lock::os::{self, Mode};
use std::fs::File;
use std::io;

/// The scripts' bytes begin here.
const SCRIPTS: u64 = 1 << 60;

/// The keepers' bytes begin here. Below are those of the scripts.
const KEEPERS: u64 = keeper::BYTES;

/// Where the bytes of an acquisition are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tie {
    at: u64,
}

impl Tie {
    /// The tie of the local lock with this token.
    pub(crate) fn of(token: u64) -> Self {
        // Behind any content.
        Self { at: SCRIPTS + 2 * (token % (SCRIPTS / 2)) }
    }

    /// Locks the script's bytes on its own description.
    pub(crate) fn bind(self, script: &File) -> io::Result<()> {
        let bound = match os::try_lock_range(script, Mode::Exclusive, self.at, 2) {
            // It can only be read, which is enough to lock.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                os::try_lock_range(script, Mode::Shared, self.at, 2)?
            }
            done => done?,
        };
        if bound { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    /// Blocks until the script has ended or let go, or a signal comes.
    pub(crate) fn until_script_ends(self, keeper: &File) -> io::Result<()> {
        os::wait_lock_range(keeper, Mode::Exclusive, self.at, 1)
    }

    /// Whether the script has it still.
    pub(crate) fn is_bound(self, file: &File) -> io::Result<bool> {
        others_have(file, self.at + 1, 1)
    }

    /// Locks the keeper's byte on a description of its own.
    pub(crate) fn keep(self, keeper: &File) -> io::Result<bool> {
        os::try_lock_range(keeper, Mode::Exclusive, KEEPERS + self.at, 1)
    }

    /// Unlocks it: what was kept was given back.
    pub(crate) fn given_back(self, keeper: &File) -> io::Result<()> {
        os::unlock_range(keeper, KEEPERS + self.at, 1)
    }

    /// Whether there is a keeper for it.
    pub(crate) fn is_kept(self, file: &File) -> io::Result<bool> {
        others_have(file, KEEPERS + self.at, 1)
    }
}

/// Unlocks the script's bytes, whatever its tie.
pub(crate) fn let_go(script: &File) -> io::Result<()> {
    os::unlock_range(script, SCRIPTS, KEEPERS - SCRIPTS)
}

pub(crate) use keeper::is_there as has_keeper;

fn others_have(file: &File, start: u64, len: u64) -> io::Result<bool> {
    Ok(os::range_in_the_way(file, Mode::Exclusive, start, len)?.is_some())
}
