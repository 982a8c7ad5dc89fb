//! The steps of an acquisition with `--replace`. The module doc of [`replace`] lists them, with their numbers.

use super::Attempt;
use crate::base::target::{Target, Wait};
use crate::lock::error::{LockError, ReplaceMistake};
use crate::lock::events::LockEvent;
use crate::lock::kill::ReleaseOutcome;
use crate::lock::replace::{self, Newcomer, Successor};
use crate::lock::unlock::release_bytes;
use crate::os::{self, Mode};
use std::fs::File;
use std::time::{Duration, Instant};

impl Attempt<'_> {
    /// Steps 1 to 9: ends the holder of the lock, and acquires it. A holder gets the time `grace` between SIGTERM and SIGKILL.
    pub(super) fn replace_holder(&mut self, file: &File, target: &Target, grace: Duration) -> Result<(), LockError> {
        let mut newcomer = Newcomer::new(file, target)?;
        let cannot = |source| replace::cannot_replace(&target.path, source);
        if !newcomer.try_turn().map_err(cannot)? {
            self.newcomer = Some(newcomer);
            self.block_as_newcomer(file, target)?;
            let Some(granted) = self.newcomer.take() else { return Err(self.give_up(target)) };
            newcomer = granted;
        }
        if newcomer.has_successor().map_err(cannot)? {
            return Err(self.give_up(target));
        }
        let try_lock =
            || os::try_lock(file, Mode::Exclusive).map_err(|source| LockError::cannot_lock(&target.path, source));
        if !try_lock()? && !self.end_holder(target, grace, &try_lock)? {
            self.block_as_newcomer(file, target)?;
        }
        let stamped = match newcomer.has_successor() {
            Ok(true) => Err(self.give_up(target)),
            Ok(false) => newcomer.stamp(file, self.request.holder).map_err(cannot),
            Err(source) => Err(cannot(source)),
        };
        if stamped.is_err() {
            // The lock comes before the ticket, which is released when `newcomer` is dropped.
            let _ = os::unlock(file).and_then(|()| release_bytes(file));
        }
        stamped
    }

    /// Steps 5 and 6. Returns true if the lock was granted, and false if the caller must block on it.
    fn end_holder(
        &mut self,
        target: &Target,
        grace: Duration,
        try_lock: &dyn Fn() -> Result<bool, LockError>,
    ) -> Result<bool, LockError> {
        if self.request.logs_contention {
            self.log(&LockEvent::Contended { waits: true, is_skipped: false }, target);
        }
        let deadline = match self.request.wait {
            Wait::For(limit) => self.started.checked_add(limit),
            Wait::No | Wait::Forever => None,
        };
        let parent = self.parent;
        let goes_on = || {
            deadline.is_none_or(|deadline| Instant::now() < deadline) && parent.is_none_or(|pid| os::parent_id() == pid)
        };
        let successor = Successor { target, pid: self.request.holder, command: self.request.command.as_deref(), grace };
        let Some(release) = replace::end_holder(&successor, &goes_on, try_lock)? else { return Ok(true) };
        for process in &release.signalled {
            self.log(&LockEvent::TakenOver { pid: process.pid, command: &process.command }, target);
        }
        self.contention.replaces(target, &release);
        match &release.outcome {
            ReleaseOutcome::StillHeld => Ok(false),
            ReleaseOutcome::Refused(_) if replace::may_be_proved_soon(&release) => Ok(false),
            ReleaseOutcome::Released => try_lock(),
            ReleaseOutcome::Refused(_) => {
                Err(LockError::Replace { label: target.label.clone(), mistake: ReplaceMistake::NotEnded })
            }
        }
    }

    /// Blocks on the lock, or until no earlier newcomer is left, if `self.newcomer` is set.
    fn block_as_newcomer(&mut self, file: &File, target: &Target) -> Result<(), LockError> {
        let limit = match self.request.wait {
            Wait::For(limit) => Some(limit),
            Wait::No | Wait::Forever => None,
        };
        self.block(file, target, limit)
    }

    fn give_up(&self, target: &Target) -> LockError {
        self.log(&LockEvent::Superseded { waited: self.started.elapsed() }, target);
        LockError::Replace { label: target.label.clone(), mistake: ReplaceMistake::Superseded }
    }
}
