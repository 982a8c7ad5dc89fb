//! `path`: prints the path of a lock file. With `--create` it creates the file.

use crate::args::PathArgs;
use crate::exit;
use crate::output::stream;
use aba_lock::base::names::LockName;
use aba_lock::error::Error;
use aba_lock::lock::open;
use aba_lock::store::Store;

pub(crate) fn run(args: &PathArgs) -> Result<i32, Error> {
    let store = Store::from_env()?;
    let target = store.target(&LockName::parse(&args.name)?);
    if args.create {
        open::open_lock_file(&target, Some(&store))?;
    }
    stream::print(&format!("{}\n", target.path.display()));
    Ok(exit::DONE)
}
