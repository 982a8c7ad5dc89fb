//! `exclude`: keeps numbers from being reserved.

use super::wait::choose_short_wait;
use crate::args::reserve::ExcludeArgs;
use crate::exit;
use crate::output::progress::DelayedProgress;
use crate::output::{numbers, stream};
use aba_lock::error::Error;
use aba_lock::number::pool::{PORTS, Pool};
use aba_lock::number::registry::{self, Registry};
use aba_lock::number::registry_file::MissingRegistry;
use aba_lock::store::Store;

pub(crate) fn run(args: &ExcludeArgs) -> Result<i32, Error> {
    let store = Store::for_tasks()?;
    let pool = Pool::parse(args.pool.as_deref().unwrap_or(PORTS))?;
    if args.list {
        let mut excluded =
            registry::read_contents(&store, &pool)?.map(|contents| contents.exclusions()).unwrap_or_default();
        excluded.sort_by_key(|range| range.first);
        let lines: Vec<String> = excluded.iter().map(|range| format!("{range}\n")).collect();
        stream::print(&lines.concat());
        return Ok(exit::DONE);
    }
    let missing = if args.remove { MissingRegistry::Leave } else { MissingRegistry::Create };
    let mut progress = DelayedProgress::new(false);
    let mut registry = Registry::begin(&store, &pool, missing, choose_short_wait(args.timeout)?, &mut progress)?;
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    if args.remove {
        let mut missing = args.ranges.clone();
        missing.retain(|range| !registry.contents.remove_exclusion(*range));
        registry.commit()?;
        numbers::report_not_excluded(&missing);
        return Ok(if missing.is_empty() { exit::DONE } else { exit::NO });
    }
    for range in &args.ranges {
        registry.contents.add_exclusion(*range);
    }
    let leases = registry.leases.list_leased();
    registry.commit()?;
    numbers::report_still_used(&args.ranges, &leases, &rows);
    Ok(exit::DONE)
}
