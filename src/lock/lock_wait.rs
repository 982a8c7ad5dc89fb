//! Acquires a lock of each kind: that of a whole file ([`turnstile`], [`priority`]), one of its slots ([`slots`]), or one of fcntl(2)
//! ([`fcntl`]).
//!
//! [`acquire`](super::acquire) calls [`try_lock`], which does not wait. If the result is busy, it calls [`LockWait`]. If it fails or starts
//! over, it calls [`release_all`].

use super::fcntl;
use super::priority;
use super::request::{Guard, Request};
use super::slots::{self, SlotAttempt, SlotWait};
use super::turnstile::{self, TurnWait};
use super::unlock::release_bytes;
use crate::base::target::Target;
use crate::lock::error::LockError;
use crate::os::{self, Mode, Priority, Slot};
use std::fs::File;
use std::io;

/// The result of an attempt that does not wait.
pub(super) enum Attempted {
    /// The lock is held now, and the slot, if the request is for one.
    Granted(Option<Slot>),
    /// Another process holds the lock, or waits before this one.
    Busy,
}

/// Tries to acquire the lock of `target`, which is open as `file`.
pub(super) fn try_lock(file: &File, target: &Target, request: &Request) -> Result<Attempted, LockError> {
    if request.fcntl {
        let is_granted = fcntl::try_lock(file, target, request.mode)?;
        return Ok(if is_granted { Attempted::Granted(None) } else { Attempted::Busy });
    }
    if let Some(capacity) = request.slots {
        let cannot = |source| slots::cannot_use_slots(&target.path, source);
        if let Some(slot) = slots::try_first_slot(file, capacity).map_err(cannot)? {
            return Ok(Attempted::Granted(Some(slot)));
        }
        if turnstile::must_queue(file, &target.path, Priority::Normal) {
            return Ok(Attempted::Busy);
        }
        let attempt = slots::try_slots(file, capacity);
        return match attempt.map_err(cannot)? {
            SlotAttempt::Granted(slot) => Ok(Attempted::Granted(Some(slot))),
            SlotAttempt::OtherNumber(slot) => Err(slots::refuse_number(slot, capacity, &target.label)),
            SlotAttempt::Busy => {
                slots::check_file_system(&target.path)?;
                Ok(Attempted::Busy)
            }
        };
    }
    if request.priority.is_some() {
        priority::check_file_system(&target.path)?;
    }
    let level = request.priority.unwrap_or(Priority::Normal);
    if request.mode == Mode::Shared && turnstile::must_queue(file, &target.path, level) {
        return Ok(Attempted::Busy);
    }
    let is_granted = os::try_lock(file, request.mode).map_err(|source| LockError::cannot_lock(&target.path, source))?;
    if !is_granted {
        return Ok(Attempted::Busy);
    }
    // A shared caller has looked before.
    if request.mode == Mode::Exclusive && request.priority.is_some() {
        let found = priority::find_higher_want(file, level);
        if !matches!(found, Ok(None)) {
            os::unlock(file).map_err(|source| LockError::cannot_lock(&target.path, source))?;
            found.map_err(|source| priority::cannot_use_priority(&target.path, source))?;
            return Ok(Attempted::Busy);
        }
    }
    Ok(Attempted::Granted(None))
}

/// Releases the locks that a call has just acquired. It does not suffice to drop the guards: a script keeps its descriptors, and the second
/// thread of a wait has descriptors of its own until it ends.
pub(super) fn release_all(guards: &[Guard], request: &Request) {
    for guard in guards.iter().filter(|guard| guard.fresh) {
        release_lock(&guard.file, request);
    }
}

/// Releases the lock of a request, and the bytes that belong to it.
pub(super) fn release_lock(file: &File, request: &Request) {
    let released = if request.fcntl { fcntl::unlock(file) } else { os::unlock(file) };
    let _ = released.and_then(|()| release_bytes(file));
}

/// A wait for a lock. Dropping it gives up the place in the queue.
pub(super) enum LockWait<'a> {
    File(TurnWait<&'a File>),
    Slot(SlotWait<'a>),
    Fcntl(&'a File, Mode),
}

impl<'a> LockWait<'a> {
    /// Prepares the wait for the lock of `target`, which is open as `file`.
    pub(super) fn new(file: &'a File, target: &Target, request: &Request) -> io::Result<Self> {
        Ok(match request.slots {
            Some(capacity) => Self::Slot(SlotWait::new(file, &target.path, capacity)?),
            None if request.fcntl => Self::Fcntl(file, request.mode),
            None => Self::File(TurnWait::new(file, &target.path, request.mode, request.priority)),
        })
    }

    /// Blocks until the lock is granted, or until a signal comes. A later call goes on at the same step.
    pub(super) fn block_once(&mut self) -> io::Result<()> {
        match self {
            Self::File(wait) => wait.block_once(),
            Self::Slot(wait) => wait.block_once(),
            Self::Fcntl(file, mode) => fcntl::wait_lock(file, *mode),
        }
    }

    /// Ends the wait. Returns the slot, if one was granted.
    pub(super) fn finish(self, label: &str) -> Result<Option<Slot>, LockError> {
        match self {
            Self::File(_) | Self::Fcntl(..) => Ok(None),
            Self::Slot(wait) => wait.finish(label),
        }
    }
}
