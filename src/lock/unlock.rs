//! Releases all that an open file description holds in a lock file: the lock, the slot and the stamp.
//!
//! [`release`](super::release) does this for a script, and [`binding`](super::binding) for a lock that a holder process keeps.

use crate::os;
use std::fs::File;
use std::io;

/// Releases the lock, the slot and the stamp of an open file description, and clears its owner: if another program, such as flock(1), locks
/// the description next, the previous owner does not hold that lock.
///
/// Each acquisition of a slot, and each one with `--replace`, sets the owner. So a description that never had an owner has no slot and no
/// stamp. The owner may have ended: a subshell can acquire the lock on a descriptor of its script.
pub(super) fn unlock_description(file: &File) -> io::Result<()> {
    if os::had_owner(file) {
        os::set_owner(file, 0);
        let _ = release_bytes(file);
    }
    os::unlock(file)
}

/// Releases the slot and the stamp of an open file description.
pub(super) fn release_bytes(file: &File) -> io::Result<()> {
    os::unlock_range(file, os::TURNSTILE, 0)
}
