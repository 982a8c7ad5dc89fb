//! The tasks in the output of commands that also show other things.

use crate::output::stream::print_error;
use aba_lock::error::Error;
use aba_lock::store::TaskRoot;
use aba_lock::store::error::StoreError;

/// Returns the directory of the tasks. If another user has made it where all users share the state root, this user has no tasks there:
/// prints a warning, and returns `None`, so that the command shows all other things.
pub(super) fn find_task_root() -> Result<Option<TaskRoot>, Error> {
    match TaskRoot::from_env() {
        Err(error @ StoreError::TaskRoot { .. }) => {
            print_error(&error.into());
            Ok(None)
        }
        found => Ok(Some(found?)),
    }
}
