//! `migrate`: moves the reservations of a directory to another directory.

use super::wait::choose_short_wait;
use crate::args::reserve::MigrateArgs;
use crate::exit;
use crate::output::numbers;
use crate::output::progress::DelayedProgress;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::number::registry::Registry;
use aba_lock::number::registry_file::MissingRegistry;
use aba_lock::number::{directory, migration, pool_files};
use aba_lock::store::Store;

pub(crate) fn run(args: &MigrateArgs) -> Result<i32, Error> {
    let store = Store::for_tasks()?;
    let from = directory::find_directory_or_vanished(Some(&args.from))?;
    let to = directory::find_directory(Some(&args.to))?;
    let mut progress = DelayedProgress::new(false);
    let wait = choose_short_wait(args.timeout)?;
    // All registries are locked before the first one is written, in the order of their names: all programs lock several
    // registries in this order, which prevents deadlocks.
    let (mut registries, mut failed) = (Vec::new(), None);
    for pool in pool_files::list_pools(&store)? {
        let mut registry =
            match Registry::begin(&store, &pool, MissingRegistry::Leave, wait, &mut progress).map_err(Error::from) {
                Ok(registry) => registry,
                Err(error @ Error::Lock(LockError::TimedOut { .. } | LockError::Busy { .. })) => return Err(error),
                // The other registries are changed even if one cannot be read.
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
        let moved = migration::migrate_rows(&mut registry, &from, &to)?;
        registries.push((registry, moved));
    }
    for (registry, moved) in registries {
        if args.dry_run {
            numbers::print_moved(&moved);
        } else {
            registry.commit()?;
        }
    }
    failed.map_or(Ok(exit::DONE), Err)
}
