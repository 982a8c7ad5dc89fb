//! The order of shared and exclusive waiters: overlapping shared holders do not keep an exclusive waiter out.
//!
//! [`lock_wait`](super::lock_wait) calls this file: [`must_queue`] before a shared caller tries the lock, and [`TurnWait`] for every
//! wait for the lock of a whole file. [`slots`](super::slots) calls both, too, and has one more turnstile, that of slots.
//!
//! In addition to the lock itself, a waiter uses two bytes of the lock file, which are locked with fcntl(2) ([`os::Priority`]). An
//! exclusive caller holds the **mark** shared while it waits. A shared caller that finds a mark holds the **turnstile** exclusively
//! while it waits. The steps are those of the model in `tests/models/writers.rs`.
//!
//! An exclusive caller:
//!
//! 1. It tries the lock. If it is granted, the caller runs.
//! 2. It looks whether the turnstile is held, without taking it. If it is free, it goes to 4.
//! 3. It blocks on the turnstile.
//! 4. It takes the mark, shared, and releases the turnstile, if it holds that.
//! 5. It blocks on the lock.
//! 6. It releases the mark, and runs.
//!
//! A shared caller:
//!
//! 1. It looks whether the mark or the turnstile is held ([`must_queue`]). If so, it goes to 3.
//! 2. It tries the lock. If it is granted, the caller runs. Otherwise, it looks again. If mark and turnstile are free, it blocks on
//!    the lock, and runs.
//! 3. It blocks on the turnstile.
//! 4. Holding the turnstile, it waits for the mark exclusively, and releases the mark.
//! 5. It blocks on the lock.
//! 6. It releases the turnstile, and runs.
//!
//! These are the steps of the levels `high` and `normal` of [`priority`](super::priority), which each have a mark and a turnstile.
//! The level `low` has only a turnstile: each of its waiters, exclusive or shared, blocks on it, and keeps it until it runs.
//!
//! So no shared caller that begins after an exclusive one has begun to wait runs before it. And no exclusive caller that begins to
//! wait while a shared one is at the turnstile runs before that one.
//!
//! # Killed processes
//!
//! The bytes are locked for the process, and not for the open file description, so each of them is free as soon as the process
//! has ended, also if a script has the descriptor open. A process that is stopped (SIGSTOP) keeps the bytes that it holds. The thread
//! that reports the wait reads lock files, but does not release the bytes when it closes one ([`os::bytes`]).
//!
//! # If the order is not kept
//!
//! The order needs more than the exclusion does: a local file system, and for a shared waiter the right to write to the file. Without
//! them, and after any error, a waiter blocks on the lock at once, as flock(1) does. But with `--priority`, the call fails instead.
//!
//! A shared call of a process whose ancestor holds the lock passes all waiters, because each of them waits for that ancestor.

use super::priority::{find_higher_want, is_locked, is_queue_ahead};
use crate::lock::deadlock::holds_above;
use crate::os::{self, BytePart, Mode, PRIORITY_BYTES, Priority};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Returns true if a shared caller must not try the lock of `file`, which is open on `path`, because other callers wait for it.
pub(super) fn must_queue(file: &File, path: &Path, level: Priority) -> bool {
    is_queue_ahead(file, level) && has_order(path) && !holds_above(path)
}

/// Returns true if the locks of bytes are separate from the locks of whole files, so that waiters can use them.
fn has_order(path: &Path) -> bool {
    !os::is_network_file_system(path)
}

/// The next step of a wait.
#[derive(Debug, Clone, Copy)]
enum TurnStep {
    /// Look whether other callers wait.
    Begin,
    /// Lock the want alone, before a wait at the turnstile.
    Want,
    Turnstile,
    /// Lock the mark and the want, and release the turnstile.
    Announce,
    AwaitMark,
    Lock,
    /// The lock is held. Look whether a caller of a higher level waits.
    Look,
    /// Wait until no process holds this want of a higher level.
    Yield {
        want: u64,
    },
}

/// A wait for a lock. Dropping it releases the bytes that it holds.
pub(super) struct TurnWait<F: Deref<Target = File>> {
    file: F,
    /// A descriptor for reading and writing, if `file` is not open for both.
    own: Option<File>,
    mode: Mode,
    level: Priority,
    /// True if the user has named the level. Then an error ends the wait.
    must_have_order: bool,
    has_order: bool,
    step: TurnStep,
    /// True if this process may hold bytes.
    holds_bytes: bool,
    has_turnstile: bool,
}

impl<F: Deref<Target = File>> TurnWait<F> {
    /// Prepares a wait for the lock of `file`, which is open on `path`.
    pub(super) fn new(file: F, path: &Path, mode: Mode, priority: Option<Priority>) -> Self {
        let level = priority.unwrap_or(Priority::Normal);
        let passes = mode == Mode::Shared && is_queue_ahead(&file, level) && holds_above(path);
        let has_order = !passes && has_order(path);
        let mut wait = Self::without_order(file, mode);
        (wait.level, wait.must_have_order, wait.has_order) = (level, priority.is_some(), has_order);
        if has_order {
            wait.step = TurnStep::Begin;
        }
        wait
    }

    /// Prepares a wait for the lock of `file` that passes all other waiters.
    pub(super) fn without_order(file: F, mode: Mode) -> Self {
        Self {
            file,
            own: None,
            mode,
            level: Priority::Normal,
            must_have_order: false,
            has_order: false,
            step: TurnStep::Lock,
            holds_bytes: false,
            has_turnstile: false,
        }
    }

    /// Blocks until the lock is granted, or until a signal comes. A later call goes on at the same step.
    pub(super) fn block_once(&mut self) -> io::Result<()> {
        loop {
            if let TurnStep::Lock = self.step {
                os::wait_lock(&self.file, self.mode)?;
                self.step = TurnStep::Look;
            }
            match self.take_step() {
                Ok(TurnStep::Lock) if matches!(self.step, TurnStep::Look) => {
                    self.release_bytes();
                    return Ok(());
                }
                Ok(next) => self.step = next,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) if error.raw_os_error() == Some(libc::EBADF) && self.own.is_none() && self.reopen() => {}
                Err(error) if self.must_have_order && error.raw_os_error() != Some(libc::EDEADLK) => {
                    let _ = os::unlock(&self.file);
                    return Err(error);
                }
                Err(_) => self.give_up_order(),
            }
        }
    }

    /// Takes one step, other than the wait for the lock itself, and returns the next one. After the last look, this is `Lock`.
    fn take_step(&mut self) -> io::Result<TurnStep> {
        let (level, mode) = (self.level, self.mode);
        Ok(match self.step {
            TurnStep::Begin => {
                let must_queue = match mode {
                    // All waiters of the lowest level use the turnstile.
                    _ if level.mark().is_none() => true,
                    Mode::Shared => is_queue_ahead(&self.file, level),
                    Mode::Exclusive => is_locked(&self.file, level.turnstile(mode)),
                };
                if must_queue { TurnStep::Want } else { TurnStep::Announce }
            }
            TurnStep::Want => {
                if let Some(want) = level.want() {
                    self.wait_for(Mode::Shared, (want, 1))?;
                }
                TurnStep::Turnstile
            }
            TurnStep::Turnstile => {
                self.wait_for(Mode::Exclusive, level.turnstile(mode))?;
                self.has_turnstile = true;
                if mode == Mode::Shared { TurnStep::AwaitMark } else { TurnStep::Announce }
            }
            TurnStep::Announce => {
                if let Some(bytes) = level.announcement(mode) {
                    self.wait_for(Mode::Shared, bytes)?;
                    if self.has_turnstile {
                        self.release(level.turnstile(mode))?;
                        self.has_turnstile = false;
                    }
                }
                TurnStep::Lock
            }
            TurnStep::AwaitMark => {
                if let Some(mark) = level.mark() {
                    self.wait_for(Mode::Exclusive, (mark, 1))?;
                    self.release((mark, 1))?;
                }
                TurnStep::Lock
            }
            TurnStep::Look if self.has_order => match find_higher_want(&self.file, level)? {
                Some(want) => {
                    os::unlock(&self.file)?;
                    TurnStep::Yield { want }
                }
                None => TurnStep::Lock,
            },
            TurnStep::Yield { want } => {
                self.wait_for(Mode::Exclusive, (want, 1))?;
                self.release((want, 1))?;
                TurnStep::Lock
            }
            TurnStep::Look | TurnStep::Lock => TurnStep::Lock,
        })
    }

    /// Goes on as flock(1) would.
    fn give_up_order(&mut self) {
        self.release_bytes();
        self.has_order = false;
        if !matches!(self.step, TurnStep::Look) {
            self.step = TurnStep::Lock;
        }
    }

    fn wait_for(&mut self, mode: Mode, (start, len): BytePart) -> io::Result<()> {
        self.holds_bytes = true;
        os::wait_lock_bytes(self.own.as_ref().unwrap_or(&self.file), mode, start, len)
    }

    fn release(&self, (start, len): BytePart) -> io::Result<()> {
        os::unlock_bytes(self.own.as_ref().unwrap_or(&self.file), start, len)
    }

    fn release_bytes(&mut self) {
        if self.holds_bytes {
            let (start, len) = PRIORITY_BYTES;
            let _ = self.release((start, len));
            (self.holds_bytes, self.has_turnstile) = (false, false);
        }
    }

    /// Opens the file for reading and writing, which may be less than a script has done. Returns false if that is not possible.
    fn reopen(&mut self) -> bool {
        let again = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        self.own = OpenOptions::new().read(true).write(true).open(again).ok();
        self.own.is_some()
    }
}

impl<F: Deref<Target = File>> Drop for TurnWait<F> {
    fn drop(&mut self) {
        self.release_bytes();
    }
}
