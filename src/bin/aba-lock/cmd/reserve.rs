//! `reserve`: gives numbers to a directory, or to a command while it runs.

use super::command::run_with_locks;
use super::wait::choose_short_wait;
use crate::args::reserve::{Format, ReserveArgs};
use crate::exit;
use crate::output::contention::report_acquired;
use crate::output::progress::{DelayedProgress, LockProgress};
use crate::output::{numbers, stream};
use aba_lock::base::environment::{NUMBER, TOKEN};
use aba_lock::error::Error;
use aba_lock::lock::request::Acquired;
use aba_lock::number::candidates::NumberRequest;
use aba_lock::number::error::NumberError;
use aba_lock::number::group::{NumberGroup, WantedNumber};
use aba_lock::number::plan;
use aba_lock::number::pool::{PORT_RANGE, PORTS, Pool, Tag};
use aba_lock::number::probe::Probe;
use aba_lock::number::range::NumberRange;
use aba_lock::number::registry::Registry;
use aba_lock::number::registry_file::MissingRegistry;
use aba_lock::number::{directory, group_file, pool_files, reservation};
use aba_lock::store::Store;
use std::path::Path;

pub(crate) fn run(args: &ReserveArgs) -> Result<i32, Error> {
    if matches!(args.format, Some(Format::Table | Format::Tsv)) {
        stream::print_misuse("reserve", "the formats table and tsv need --list");
        return Ok(exit::USAGE);
    }
    let store = Store::for_tasks()?;
    let pool = Pool::parse(args.pool.as_deref().unwrap_or(PORTS))?;
    let group = read_group(args, &pool)?;
    let request = read_request(args, &pool)?;
    let directory = directory::find_directory(args.path.as_deref())?;
    if args.command.is_empty() {
        reserve_numbers(args, &store, &group, &request, &directory)
    } else {
        match lease_numbers(args, &store, &group, &request, &directory) {
            // As `lock --quiet` does if the lock is held.
            Err(Error::Number(NumberError::Exhausted { .. })) if args.quiet => Ok(exit::BUSY),
            done => done,
        }
    }
}

/// Returns the numbers that are requested as a group. Without `--group` or `--group-file`, it has one number.
fn read_group(args: &ReserveArgs, pool: &Pool) -> Result<NumberGroup, Error> {
    if let Some(tags) = &args.group {
        return Ok(NumberGroup::from_tags(pool, tags)?);
    }
    if let Some(path) = &args.group_file {
        return Ok(group_file::read_group_file(pool, path)?);
    }
    let tag = args.tag.as_deref().map_or(Ok(Tag::default()), Tag::parse)?;
    let want = WantedNumber { tag, preferred: args.number.or(args.prefer).or(args.require), ..WantedNumber::default() };
    Ok(NumberGroup { pool: pool.clone(), base: None, wants: vec![want], require: args.require.is_some() })
}

fn read_request(args: &ReserveArgs, pool: &Pool) -> Result<NumberRequest, Error> {
    let range = match args.range {
        Some(range) => range,
        None if pool.is_ports() => PORT_RANGE,
        None => return Err(NumberError::NoRange { pool: pool.to_string() }.into()),
    };
    // A caller who names a port, and no range, can have any port.
    let ports = NumberRange { first: 1, last: u32::from(u16::MAX) };
    let preferences = if args.range.is_none() { ports } else { range };
    let probe = args.probe.unwrap_or(if pool.is_ports() { Probe::PORTS } else { Probe::NONE });
    if probe != Probe::NONE && !(ports.contains(range.first) && ports.contains(range.last)) {
        return Err(NumberError::NoPorts { range }.into());
    }
    Ok(NumberRequest { range, preferences, exclude: args.exclude.clone(), probe })
}

fn reserve_numbers(
    args: &ReserveArgs,
    store: &Store,
    group: &NumberGroup,
    request: &NumberRequest,
    directory: &Path,
) -> Result<i32, Error> {
    let format = args.format.unwrap_or(Format::Plain);
    let named = format != Format::Plain || args.dotenv.is_some();
    let variables = if named { group.variables()? } else { Vec::new() };
    let mut progress = DelayedProgress::new(args.quiet);
    let wait = choose_short_wait(args.timeout)?;
    // The file is locked before the registry, because it may be locked for long: see the module doc of `number`.
    let begin_dotenv = |path| reservation::begin_dotenv(path, args.dry_run, wait, &mut progress);
    let file = args.dotenv.as_deref().map(begin_dotenv).transpose()?.flatten();
    // A dry run creates no file. But it takes an existing lock: it tries the lock of each number to see whether it is
    // leased, and a process that takes a lease at this moment must not see these attempts.
    let is_new = !pool_files::registry_lock_path(store, &group.pool).exists();
    let missing = if args.dry_run && is_new { MissingRegistry::Leave } else { MissingRegistry::Create };
    let begin = || Registry::begin(store, &group.pool, missing, wait, &mut progress);
    let (registry, plan) = reservation::make_plan(begin, |registry, vanished| {
        plan::plan_kept_numbers(registry, request, directory, group, vanished)
    })?;
    let values: Vec<(String, u32)> = variables.into_iter().zip(plan.numbers.iter().map(|given| given.number)).collect();
    let draft = file.as_ref().map(|edit| reservation::write_dotenv(edit, &values)).transpose()?;
    if !args.dry_run {
        match registry.commit() {
            // All numbers were reserved before. Only the time of their last use could not be written.
            Err(error) if !plan.is_new => numbers::report_not_noted(&error, args.quiet),
            done => done?,
        }
    }
    if let (Some(edit), Some(draft)) = (file, draft)
        && !edit.is_same(&draft)?
    {
        edit.commit(&draft, None)?;
    }
    if !args.quiet {
        numbers::report_plan(&plan, directory, request.probe);
        numbers::report_misfits(&plan, &group.pool, directory, args.range, &args.exclude);
    }
    numbers::print_numbers(&plan, &values, format);
    Ok(exit::DONE)
}

fn lease_numbers(
    args: &ReserveArgs,
    store: &Store,
    group: &NumberGroup,
    request: &NumberRequest,
    directory: &Path,
) -> Result<i32, Error> {
    let is_group = args.group.is_some() || args.group_file.is_some();
    let variables = if is_group { group.variables()? } else { Vec::new() };
    let mut progress = DelayedProgress::new(args.quiet);
    let wait = choose_short_wait(args.timeout)?;
    let begin = || Registry::begin(store, &group.pool, MissingRegistry::Create, wait, &mut progress);
    let (registry, plan) = reservation::make_plan(begin, |registry, vanished| {
        plan::plan_leased_numbers(registry, request, group, vanished)
    })?;
    let line = shell_words::join(args.command.iter().map(|word| word.to_string_lossy()));
    let take = |given: &plan::PlannedNumber| {
        registry.leases.lease_number(store, given.number, &given.tag, directory, line.clone())
    };
    let held: Vec<Acquired> = plan.numbers.iter().map(take).collect::<Result<_, _>>()?;
    // This releases the lock of the registry. From now on each number is protected by its own lock.
    registry.commit()?;
    let lock_progress = LockProgress::new(args.quiet);
    for acquired in &held {
        report_acquired(acquired, &lock_progress, args.quiet, false);
    }
    if !args.quiet {
        numbers::report_plan(&plan, directory, request.probe);
    }
    let numbers: Vec<String> = plan.numbers.iter().map(|given| given.number.to_string()).collect();
    let token = held.iter().map(|acquired| acquired.token).max().unwrap_or_default();
    let mut environment = vec![(TOKEN, token.to_string())];
    environment.extend(numbers.first().map(|number| (NUMBER, number.clone())));
    environment.extend(variables.iter().map(String::as_str).zip(numbers));
    let guards = held.iter().flat_map(|acquired| &acquired.guards);
    run_with_locks(&args.command, args.no_inherit, guards, environment, None, false)
}
