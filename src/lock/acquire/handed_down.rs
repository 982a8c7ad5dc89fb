//! Finds a lock that an ancestor holds and handed down to this process.

use super::{Attempt, find_held_lock, is_open_as};
use crate::base::environment::inherited_descriptors;
use crate::base::target::Target;
use crate::lock::error::LockError;
use crate::lock::ownership::{is_held_for_ancestor, is_held_from_above};
use crate::lock::request::Guard;
use crate::os;
use crate::os::proc::lock_table::KernelLock;
use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::RawFd;

impl Attempt<'_> {
    /// Returns a guard for a lock that an ancestor holds and handed down to us. It is the same lock, so there is no conflict.
    pub(super) fn find_handed_down(&mut self, target: &Target) -> Result<Option<Guard>, LockError> {
        self.find_guard(inherited_descriptors(), target, is_held_from_above)
    }

    /// Returns a guard for a lock that an ancestor holds and handed down to us, although the environment does not list
    /// it: the helper cannot change the environment of a script that runs `aba-lock lock --fd`. This function examines
    /// every inherited descriptor, so it is only called if the lock is not free. A lock that another program, such as
    /// flock(1), acquired does not count as handed down.
    pub(super) fn find_inherited(&mut self, target: &Target) -> Result<Option<Guard>, LockError> {
        self.find_guard(os::inherited_descriptors(), target, is_held_for_ancestor)
    }

    /// Returns a guard for the first of the descriptors `fds` that holds the lock of `target`, if `is_handed_down`
    /// returns true for it.
    fn find_guard(
        &mut self,
        fds: Vec<RawFd>,
        target: &Target,
        is_handed_down: fn(&File, KernelLock, u32) -> bool,
    ) -> Result<Option<Guard>, LockError> {
        for fd in fds {
            let file = match os::try_second_descriptor(fd).map_err(|source| LockError::cannot_copy(fd, source)) {
                Err(LockError::BadDescriptor { .. }) => continue,
                copied => copied?,
            };
            if is_open_as(target, &file)?
                && let Some(held) = find_held_lock(fd, &file, target, self.request.fcntl)?
                && is_handed_down(&file, held, std::process::id())
            {
                self.check_held(held, target)?;
                return Ok(Some(Guard {
                    file,
                    target: target.clone(),
                    inherited: Some(fd),
                    fresh: false,
                    copy: OnceCell::new(),
                }));
            }
        }
        Ok(None)
    }
}
