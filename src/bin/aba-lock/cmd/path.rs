//! `path`: prints the path of a lock file, or the name of a lock. With `--create` it creates the file, and with `--open-for` it keeps
//! the file open until the shell library has opened it.

use super::target::find_target;
use crate::args::PathArgs;
use crate::exit;
use crate::output::stream;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::{linked_file, offer, open};
use aba_lock::store::Store;
use std::time::Duration;

/// The time for which `--open-for` tries to open a file on which another process has a lease.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &PathArgs) -> Result<i32, Error> {
    let Some(target) = find_target(args.name.as_deref(), args.key.as_deref())? else { return Ok(exit::USAGE) };
    if args.create {
        let store = Store::from_env()?;
        store.refuse_untrusted()?;
        // A script waits for the end of a lease with its options: `lock --await-open`.
        let patience = if args.open_for.is_some() { FIRST_PATIENCE } else { open::INSTANT };
        let file = match linked_file::open_or_replace(&target, Some(&store), patience) {
            Err(error) if args.open_for.is_some() && open::is_lease_error(&error) => return Ok(exit::WOULD_WAIT),
            opened => opened?,
        };
        if let Some(script) = args.open_for {
            offer::offer_file(file, &target.path, script).map_err(|source| LockError::Open {
                path: target.path,
                owner: None,
                source,
            })?;
            return Ok(exit::DONE);
        }
    }
    match target.name().filter(|_| args.print_name) {
        Some(name) => stream::print(&format!("{name}\n")),
        None => stream::print(&format!("{}\n", target.path.display())),
    }
    Ok(exit::DONE)
}
