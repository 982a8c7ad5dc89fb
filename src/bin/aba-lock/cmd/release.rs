//! `release`: gives back numbers of a directory.

use super::wait::choose_short_wait;
use crate::args::reserve::ReleaseArgs;
use crate::exit;
use crate::output::numbers;
use crate::output::progress::DelayedProgress;
use aba_lock::error::Error;
use aba_lock::number::pool::{PORTS, Pool, Tag};
use aba_lock::number::registry::Registry;
use aba_lock::number::registry_file::MissingRegistry;
use aba_lock::number::{directory, prune};
use aba_lock::store::Store;

pub(crate) fn run(args: &ReleaseArgs) -> Result<i32, Error> {
    let store = Store::for_tasks()?;
    let pool = Pool::parse(args.pool.as_deref().unwrap_or(PORTS))?;
    let tag = args.tag.as_deref().map_or(Ok(Tag::default()), Tag::parse)?;
    let directory = directory::find_directory_or_vanished(args.path.as_deref())?;
    let mut progress = DelayedProgress::new(false);
    let mut registry =
        Registry::begin(&store, &pool, MissingRegistry::Leave, choose_short_wait(args.timeout)?, &mut progress)?;
    let wanted = if args.all_tags { None } else { Some(&tag) };
    let released = prune::release_rows(&mut registry, &directory, wanted, args.recursive)?;
    if args.dry_run {
        numbers::print_dropped(&released);
        return Ok(exit::DONE);
    }
    registry.commit()?;
    Ok(exit::DONE)
}
