//! All scenes: each command with a free lock, a held lock and a nested one, and among the remains of a killed process.
//! `steps` plays them.

mod alone;
mod checks;
mod file;
mod flock;
mod lock;
mod number;
mod task;

use crate::scene::Scene;

pub(crate) fn list_scenes() -> Vec<Scene> {
    [lock::scenes(), alone::scenes(), flock::scenes(), file::scenes(), task::scenes(), number::scenes()]
        .into_iter()
        .flatten()
        .collect()
}
