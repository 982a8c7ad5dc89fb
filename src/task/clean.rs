//! Removing tasks that have finished: under their own lock, and never waiting for it.

use super::guard::Guard;
use super::state::{State, Task};
use crate::lock::clean::{self, Fate, Rule, Why};
use crate::task::error::TaskError;
use std::fs;
use std::ops::ControlFlow;

impl Task<'_> {
    /// Removes the task with its logs if it has finished, and the rule allows it.
    #[must_use]
    pub fn clean(&self, rule: &Rule) -> Fate<TaskError> {
        match self.removed(rule) {
            Ok(None) => Fate::Removed,
            Ok(Some(why)) => Fate::Left(why),
            Err(error) => Fate::Failed(error),
        }
    }

    fn removed(&self, rule: &Rule) -> Result<Option<Why>, TaskError> {
        let stays = self.stays(rule)?;
        if stays.is_some() || rule.dry_run {
            return Ok(stays);
        }
        // One who starts it meanwhile waits for us, and then finds it new.
        let Some(guard) = Guard::take(self, None, &mut || ControlFlow::Break(()))?.guard() else {
            let running = self.any_run().map(|running| Why::Running(running.pid));
            return Ok(Some(running.unwrap_or(Why::TaskBusy)));
        };
        // It may have been run again between the look and the lock.
        if let Some(why) = self.stays(rule)? {
            guard.leave()?;
            return Ok(Some(why));
        }
        Ok(if guard.purge()? { None } else { Some(Why::More) })
    }

    fn stays(&self, rule: &Rule) -> Result<Option<Why>, TaskError> {
        if let Some(owner) = fs::symlink_metadata(self.directory()).ok().and_then(|data| clean::other_owner(&data)) {
            return Ok(Some(Why::Theirs(owner)));
        }
        let look = self.look_closely()?;
        let age = look.outcome.map(|outcome| clean::age(outcome.at));
        Ok(match (look.running, look.state(), age) {
            (Some(running), _, _) => Some(Why::Running(running.pid)),
            (None, State::Succeeded | State::Failed, Some(age)) if !look.left => {
                rule.older_than.is_some_and(|limit| age < limit).then_some(Why::Young(age))
            }
            (None, State::New, _) => Some(Why::Unfinished),
            _ => Some(Why::Interrupted),
        })
    }
}
