//! Removing tasks that have finished (`clean --tasks`). A task is removed under its own lock. If another process holds
//! that lock, the task stays.

use super::directory::Task;
use super::error::TaskError;
use super::guard::TaskGuard;
use super::state::TaskState;
use crate::lock::clean::{self, CleanRule, Fate, KeepReason};
use std::fs;
use std::ops::ControlFlow;

impl Task<'_> {
    /// Removes the task and its logs, if it has finished and the rule allows it.
    #[must_use]
    pub fn clean(&self, rule: &CleanRule) -> Fate<TaskError> {
        match self.try_clean(rule) {
            Ok(None) => Fate::Removed,
            Ok(Some(why)) => Fate::Left(why),
            Err(error) => Fate::Failed(error),
        }
    }

    fn try_clean(&self, rule: &CleanRule) -> Result<Option<KeepReason>, TaskError> {
        let reason = self.find_reason_to_keep(rule)?;
        if reason.is_some() || rule.dry_run {
            return Ok(reason);
        }
        // While this process holds the lock, a process that starts the task waits. It finds a new task afterwards.
        let Some(guard) = TaskGuard::acquire(self, None, &mut || ControlFlow::Break(()))?.into_guard() else {
            let running = self.find_run().map(|running| KeepReason::Running(running.pid));
            return Ok(Some(running.unwrap_or(KeepReason::TaskBusy)));
        };
        // The task may have run again between the look and the lock.
        if let Some(why) = self.find_reason_to_keep(rule)? {
            guard.release()?;
            return Ok(Some(why));
        }
        Ok(if guard.purge()? { None } else { Some(KeepReason::ForeignFiles) })
    }

    fn find_reason_to_keep(&self, rule: &CleanRule) -> Result<Option<KeepReason>, TaskError> {
        if let Some(owner) = fs::symlink_metadata(self.directory()).ok().and_then(|data| clean::find_other_owner(&data))
        {
            return Ok(Some(KeepReason::OtherUser(owner)));
        }
        let look = self.try_look()?;
        let age = look.outcome.map(|outcome| clean::measure_age(outcome.at));
        Ok(match (look.running, look.state(), age) {
            (Some(running), _, _) => Some(KeepReason::Running(running.pid)),
            (None, TaskState::Succeeded | TaskState::Failed, Some(age)) if !look.has_leftover_pid => {
                rule.older_than.is_some_and(|limit| age < limit).then_some(KeepReason::TooNew(age))
            }
            (None, TaskState::New, _) => Some(KeepReason::Unfinished),
            _ => Some(KeepReason::Interrupted),
        })
    }
}
