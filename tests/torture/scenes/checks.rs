//! Steps and checks that several scenes share.

use crate::driver::{Call, Outcome};
use crate::kernel;
use crate::place::{self, Output, Place};
use crate::scene::Verdict;
use std::path::Path;

/// Fails with this sentence unless the condition holds.
pub(super) fn must(holds: bool, otherwise: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Makes an ordinary call, which must succeed without a message.
pub(super) fn call_next(place: &Place, words: &[&str]) -> Result<Output, String> {
    let said = place.run_helper(words);
    must(said.status == 0 && said.err.is_empty(), format!("the next call, {words:?}, ended so: {said:?}"))?;
    Ok(said)
}

/// Returns whether the helper was killed, and so could not report anything.
pub(super) fn was_killed(outcome: &Outcome) -> bool {
    outcome.status == 137
}

/// Returns the status of the next wait for a task with this recorded outcome. A command that could not be run counts as an outcome, too.
pub(super) fn expect_task_status(outcome: Option<&str>) -> &str {
    outcome.map(str::trim).filter(|outcome| ["125", "126", "127"].contains(outcome)).unwrap_or("0")
}

/// Locks the file now, and returns a function that unlocks it.
pub(super) fn lock_until_called(file: &Path) -> impl FnOnce() + 'static + use<> {
    let file = place::create_and_lock(file);
    move || kernel::unflock(&file)
}

impl Call {
    /// Returns the call itself. The argument shows what was prepared before it.
    pub(super) fn after(self, _: &Place) -> Self {
        self
    }
}
