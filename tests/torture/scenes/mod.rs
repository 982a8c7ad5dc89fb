//! The scenes: each primitive free, contended, nested, and beside the litter of one that was killed; and after each call
//! the rules.

mod file;
mod flock;
mod lock;
mod number;
mod task;

use crate::driver::Ended;
use crate::place::{Place, Said};
use crate::systematic::{Scene, Verdict};

/// All of them.
pub(crate) fn all() -> Vec<Scene> {
    [lock::scenes(), flock::scenes(), file::scenes(), task::scenes(), number::scenes()].into_iter().flatten().collect()
}

/// Fails with this sentence unless that holds.
fn must(holds: bool, otherwise: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// The next, ordinary call does what it is for, and has nothing to say.
fn next(place: &Place, words: &[&str]) -> Result<Said, String> {
    let said = place.aba(words);
    must(said.status == 0 && said.err.is_empty(), format!("the next call, {words:?}, ended so: {said:?}"))?;
    Ok(said)
}

/// Whether it was killed, so that it could keep no word.
fn was_killed(ended: &Ended) -> bool {
    ended.status == 137
}
