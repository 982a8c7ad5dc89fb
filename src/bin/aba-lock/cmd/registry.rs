//! The calls of `reserve` that list, remove or recover reservations instead of making one.

use super::wait::choose_short_wait;
use crate::args::reserve::{Format, ReserveArgs};
use crate::exit;
use crate::output::progress::DelayedProgress;
use crate::output::{numbers, stream};
use aba_lock::error::Error;
use aba_lock::number::pool::{PORTS, Pool, Tag};
use aba_lock::number::probe::Probe;
use aba_lock::number::registry::{self, Registry};
use aba_lock::number::registry_file::MissingRegistry;
use aba_lock::number::{damaged_registry, directory, list, pool_files, prune};
use aba_lock::store::Store;

/// Returns true if the call lists or removes reservations instead of making one.
pub(crate) fn is_query(args: &ReserveArgs) -> bool {
    args.list || args.check || args.prune || args.expire.is_some() || args.recover
}

pub(crate) fn run(args: &ReserveArgs) -> Result<i32, Error> {
    let store = Store::for_tasks()?;
    if args.list {
        return list_numbers(args, &store);
    }
    let pool = Pool::parse(args.pool.as_deref().unwrap_or(PORTS))?;
    if args.check {
        return print_number(args, &store, &pool);
    }
    if args.recover { recover_registry(args, &store, &pool) } else { remove_unused(args, &store, &pool) }
}

fn list_numbers(args: &ReserveArgs, store: &Store) -> Result<i32, Error> {
    let format = args.format.unwrap_or(Format::Table);
    if !matches!(format, Format::Table | Format::Json | Format::Tsv) {
        stream::print_misuse("reserve", "the formats of --list are table, json and tsv");
        return Ok(exit::USAGE);
    }
    let pools = match &args.pool {
        Some(pool) => vec![Pool::parse(pool)?],
        None => pool_files::list_pools(store)?,
    };
    let tag = args.tag.as_deref().map(Tag::parse).transpose()?;
    let directory = args.path.as_deref().map(|path| directory::find_directory_or_vanished(Some(path))).transpose()?;
    let (mut entries, mut failed) = (Vec::new(), None);
    for pool in &pools {
        // The other registries are shown even if one cannot be read.
        match list::list_numbers(store, pool, directory.as_deref(), tag.as_ref()).map_err(Error::from) {
            Ok(more) => entries.extend(more),
            Err(error) if pools.len() == 1 => return Err(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    numbers::print_list(&entries, format);
    failed.map_or(Ok(exit::DONE), Err)
}

fn print_number(args: &ReserveArgs, store: &Store, pool: &Pool) -> Result<i32, Error> {
    let tag = args.tag.as_deref().map_or(Ok(Tag::default()), Tag::parse)?;
    let directory = directory::find_directory_or_vanished(args.path.as_deref())?;
    let contents = registry::read_contents(store, pool)?;
    let Some(row) = contents.and_then(|contents| contents.find(&tag, &directory)) else { return Ok(exit::NO) };
    stream::print(&format!("{}\n", row.number));
    Ok(exit::DONE)
}

fn remove_unused(args: &ReserveArgs, store: &Store, pool: &Pool) -> Result<i32, Error> {
    let mut progress = DelayedProgress::new(args.quiet);
    let vanished = if args.prune {
        registry::read_contents(store, pool)?.map(|contents| prune::find_vanished(&contents))
    } else {
        None
    };
    let mut registry =
        Registry::begin(store, pool, MissingRegistry::Leave, choose_short_wait(args.timeout)?, &mut progress)?;
    let mut dropped = Vec::new();
    if let Some(vanished) = vanished {
        dropped.extend(prune::drop_vanished(&mut registry, &vanished)?);
    }
    if let Some(days) = args.expire {
        let probe = args.probe.unwrap_or(if pool.is_ports() { Probe::PORTS } else { Probe::NONE });
        dropped.extend(prune::drop_unused(&mut registry, probe, days, None)?);
    }
    if !args.dry_run {
        registry.commit()?;
    }
    numbers::print_dropped(&dropped);
    Ok(exit::DONE)
}

fn recover_registry(args: &ReserveArgs, store: &Store, pool: &Pool) -> Result<i32, Error> {
    let mut progress = DelayedProgress::new(args.quiet);
    let recovered = damaged_registry::recover_registry(store, pool, choose_short_wait(args.timeout)?, &mut progress)?;
    if !args.quiet {
        numbers::report_recovered(pool, recovered.as_ref());
    }
    Ok(exit::DONE)
}
