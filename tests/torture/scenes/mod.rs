//! All scenes: each command with a free lock, a held lock and a nested one, and among the remains of a killed process.
//! `steps` plays them.

mod alone;
mod bound;
mod checks;
mod coalesce;
mod file;
mod flock;
mod key;
mod limit;
mod lock;
mod logged;
mod number;
mod priority;
mod replace;
mod slots;
mod task;
mod wait;
mod writers;

use crate::scene::Scene;

pub(crate) fn list_scenes() -> Vec<Scene> {
    [
        lock::scenes(),
        logged::scenes(),
        alone::scenes(),
        flock::scenes(),
        file::scenes(),
        task::scenes(),
        number::scenes(),
        slots::scenes(),
        limit::scenes(),
        bound::scenes(),
        wait::scenes(),
        key::scenes(),
        writers::scenes(),
        coalesce::scenes(),
        replace::scenes(),
        priority::scenes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
