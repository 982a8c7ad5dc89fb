//! `path`: prints the path of a lock file, or the name of a lock. With `--create` it creates the file, and with `--open-for` it keeps
//! the file open until the shell library has opened it.

use super::target::find_target;
use crate::args::PathArgs;
use crate::exit;
use crate::output::stream;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::{offer, open};
use aba_lock::store::Store;

pub(crate) fn run(args: &PathArgs) -> Result<i32, Error> {
    let Some(target) = find_target(args.name.as_deref(), args.key.as_deref())? else { return Ok(exit::USAGE) };
    if args.create {
        let store = Store::from_env()?;
        store.refuse_untrusted()?;
        let file = open::open_lock_file(&target, Some(&store))?;
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
