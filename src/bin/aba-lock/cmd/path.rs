//! `path`: prints the path of a lock file, or the name of a lock. With `--create` it creates the file.

use super::target::find_target;
use crate::args::PathArgs;
use crate::exit;
use crate::output::stream;
use aba_lock::error::Error;
use aba_lock::lock::open;
use aba_lock::store::Store;

pub(crate) fn run(args: &PathArgs) -> Result<i32, Error> {
    let Some(target) = find_target(args.name.as_deref(), args.key.as_deref())? else { return Ok(exit::USAGE) };
    if args.create {
        open::open_lock_file(&target, Some(&Store::from_env()?))?;
    }
    match target.name().filter(|_| args.print_name) {
        Some(name) => stream::print(&format!("{name}\n")),
        None => stream::print(&format!("{}\n", target.path.display())),
    }
    Ok(exit::DONE)
}
