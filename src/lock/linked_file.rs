//! Opens lock files, and replaces one that has several names (hard links) where other users may write to the directory.
//!
//! [`open_lock_file`] refuses such a file, because a link of another user may lead to a file that must not change. Where
//! `fs.protected_hardlinks` is 0, or the lock file may be written by all users, any user can make such a link, and so lock out all
//! callers. The owner of the file and root may remove it, so their calls do that, and then create a new file. The other names, and the
//! content of the file, stay as they are.
//!
//! The removal is that of [`clean`]: this process closes the file, takes a lease, which proves that no other process has the file open,
//! locks it, checks the name, and removes the name. So all interleavings are those of `clean` in another process:
//!
//! 1. H has locked the file before U makes the link, or W waits for it. The kernel grants no lease, and the call is refused.
//! 2. P has opened the file, and has not examined it yet. There is no lease either. The call tries again for an instant, because P may be
//!    about to be refused.
//! 3. P opens the file during the lease. Its open(2) fails, and P tries again. Then it finds no file, or a new one.
//! 4. Two calls want to remove the file. The second one finds another file at the name, which has one name only, and leaves it.
//!
//! A file with content that is no record, or that owes a run, is kept, and the call is refused.

use crate::base::target::{Kind, Target};
use crate::lock::clean;
use crate::lock::error::{LockError, PlantedNames};
use crate::lock::open::{INSTANT, open_lock_file};
use crate::store::Store;
use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

/// The pause between two attempts to remove a file that another process has open.
const PAUSE: Duration = Duration::from_millis(5);

/// Does the same as [`open_lock_file`], but replaces a file with several names, if this user may do that and no process uses it.
pub fn open_or_replace(target: &Target, store: Option<&Store>, patience: Duration) -> Result<File, LockError> {
    match open_lock_file(target, store, patience) {
        Err(LockError::Open { source, .. })
            if target.kind == Kind::Named
                && PlantedNames::find_in(&source).is_some_and(PlantedNames::is_replaceable) =>
        {
            replace(target, store, patience)
        }
        opened => opened,
    }
}

fn replace(target: &Target, store: Option<&Store>, patience: Duration) -> Result<File, LockError> {
    let started = Instant::now();
    loop {
        let is_removed = clean::remove_linked_file(&target.path);
        match open_lock_file(target, store, patience) {
            Err(LockError::Open { ref source, .. })
                if PlantedNames::find_in(source).is_some()
                    && is_removed != Some(false)
                    && started.elapsed() < INSTANT =>
            {
                thread::sleep(PAUSE);
            }
            opened => return opened,
        }
    }
}
