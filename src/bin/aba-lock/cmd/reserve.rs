use crate::args::reserve::{Format, ReserveArgs};
use crate::exit;
use crate::output::contention::report_acquired;
use crate::output::progress::{DelayedProgress, LockProgress};
use crate::output::{numbers, stream};
use aba_lock::error::Error;
use aba_lock::file::edit::{Edit, Missing};
use aba_lock::lock::inherit;
use aba_lock::lock::request::Acquired;
use aba_lock::number::book::Book;
use aba_lock::number::group::{Group, Want};
use aba_lock::number::plan::{self, Ask, Plan, Probe, Why};
use aba_lock::number::pool::{PORT_RANGE, Pool, Range, Tag};
use aba_lock::number::problem::Problem;
use aba_lock::number::registry::{self, Absent, Registry};
use aba_lock::number::{self, dotenv};
use aba_lock::os;
use aba_lock::os::proc::process;
use aba_lock::store::{self, Store};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;

pub(crate) fn run(args: &ReserveArgs) -> Result<i32, Error> {
    if matches!(args.format, Some(Format::Table | Format::Tsv)) {
        stream::print_misuse("reserve", "the formats table and tsv are for --list");
        return Ok(exit::USAGE);
    }
    let store = Store::from_env()?;
    let pool = super::pool(args.pool.as_deref())?;
    let group = group(args, &pool)?;
    let ask = ask(args, &pool)?;
    let directory = number::pool::directory(args.path.as_deref())?;
    if args.command.is_empty() {
        keep(args, &store, &group, &ask, &directory)
    } else {
        lease(args, &store, &group, &ask, &directory)
    }
}

/// What is wanted: one number, or several.
fn group(args: &ReserveArgs, pool: &Pool) -> Result<Group, Error> {
    if let Some(tags) = &args.group {
        return Group::of_tags(pool, tags);
    }
    if let Some(path) = &args.group_file {
        return Group::of_file(pool, path);
    }
    let tag = args.tag.as_deref().map_or(Ok(Tag::default()), Tag::parse)?;
    let want = Want { tag, preferred: args.prefer.or(args.require), ..Want::default() };
    Ok(Group { pool: pool.clone(), base: None, wants: vec![want], require: args.require.is_some() })
}

fn ask(args: &ReserveArgs, pool: &Pool) -> Result<Ask, Error> {
    let range = match args.range {
        Some(range) => range,
        None if pool.is_ports() => PORT_RANGE,
        None => return Err(Problem::NoRange { pool: pool.clone() }.error()),
    };
    let probe = args.probe.unwrap_or(if pool.is_ports() { Probe::PORTS } else { Probe::NONE });
    let ports = Range { first: 1, last: u32::from(u16::MAX) };
    if probe != Probe::NONE && !(ports.contains(range.first) && ports.contains(range.last)) {
        return Err(Problem::NoPorts { range }.error());
    }
    Ok(Ask { range, exclude: args.exclude.clone(), probe })
}

fn keep(args: &ReserveArgs, store: &Store, group: &Group, ask: &Ask, directory: &Path) -> Result<i32, Error> {
    let format = args.format.unwrap_or(Format::Plain);
    let named = format != Format::Plain || args.dotenv.is_some();
    let variables = if named { group.variables()? } else { Vec::new() };
    let mut progress = DelayedProgress::new(args.quiet);
    let wait = super::short_wait(args.timeout)?;
    // First, because it may be waited for: see the module of the library.
    let file = match &args.dotenv {
        Some(path) if args.dry_run => {
            Edit::rehearse(path, Missing::Create).map_err(|error| dotenv_failed(path, error))?;
            None
        }
        Some(path) => {
            let command = process::command_line(std::process::id());
            let edit = Edit::begin(path, Missing::Create, wait, command, &mut progress);
            Some(edit.map_err(|error| dotenv_failed(path, error))?)
        }
        None => None,
    };
    // A rehearsal makes nothing. But where there is a lock it takes that: whether a number is leased is found out by
    // trying, which who takes a lease is not to see.
    let begins_anew = !registry::lock_path(store, &group.pool).exists();
    let absent = if args.dry_run && begins_anew { Absent::Leave } else { Absent::Make };
    let mut begin = || Registry::begin(store, &group.pool, absent, wait, &mut progress);
    let (registry, mut plan) = planned(&mut begin, |registry, gone| plan::keep(registry, ask, directory, group, gone))?;
    name_owners(&mut plan, &registry);
    let values: Vec<(String, u32)> = variables.into_iter().zip(plan.given.iter().map(|given| given.number)).collect();
    let file = file.map(|edit| draft(edit, &values)).transpose()?;
    if !args.dry_run {
        match registry.commit() {
            // All are reserved already: only that they are used could not be noted.
            Err(error) if !plan.is_new => numbers::report_not_noted(&error, args.quiet),
            done => done?,
        }
    }
    if let Some((edit, draft)) = file
        && !edit.is_same(&draft)?
    {
        edit.commit(&draft, None)?;
    }
    if !args.quiet {
        numbers::report_plan(&plan, directory, ask.probe);
    }
    numbers::print_numbers(&plan, &values, format);
    Ok(exit::DONE)
}

/// The new content of the file of `--dotenv`.
fn draft(edit: Edit, values: &[(String, u32)]) -> Result<(Edit, aba_lock::file::edit::Draft), Error> {
    let mut old = Vec::new();
    if let Some(mut file) = edit.old()? {
        file.read_to_end(&mut old).map_err(edit.failed("read"))?;
    }
    let mut draft = edit.draft()?;
    let new = dotenv::with(&old, values);
    os::without_size_signal(|| draft.writer().write_all(&new)).map_err(edit.failed("write"))?;
    Ok((edit, draft))
}

fn lease(args: &ReserveArgs, store: &Store, group: &Group, ask: &Ask, directory: &Path) -> Result<i32, Error> {
    let is_group = args.group.is_some() || args.group_file.is_some();
    let variables = if is_group { group.variables()? } else { Vec::new() };
    let mut progress = DelayedProgress::new(args.quiet);
    let wait = super::short_wait(args.timeout)?;
    let mut begin = || Registry::begin(store, &group.pool, Absent::Make, wait, &mut progress);
    let (registry, mut plan) = planned(&mut begin, |registry, gone| plan::lease(registry, ask, group, gone))?;
    name_owners(&mut plan, &registry);
    let line = shell_words::join(args.command.iter().map(|word| word.to_string_lossy()));
    let take = |given: &plan::Given| registry.leases.take(store, given.number, &given.tag, directory, line.clone());
    let held: Vec<Acquired> = plan.given.iter().map(take).collect::<Result<_, _>>()?;
    // The lock of the pool goes with it: the numbers are held by their own.
    registry.commit()?;
    let lock_progress = LockProgress::new(args.quiet);
    for acquired in &held {
        report_acquired(acquired, &lock_progress, args.quiet, false);
    }
    if !args.quiet {
        numbers::report_plan(&plan, directory, ask.probe);
    }
    let numbers: Vec<u32> = plan.given.iter().map(|given| given.number).collect();
    become_under(args, &held, &numbers, &variables)
}

fn become_under(args: &ReserveArgs, held: &[Acquired], numbers: &[u32], names: &[String]) -> Result<i32, Error> {
    let guards = held.iter().flat_map(|acquired| &acquired.guards);
    let keeps_back = args.no_inherit || inherit::closes_descriptors(&args.command[0]);
    let fds = if keeps_back { inherit::keep_back(guards) } else { inherit::hand_down(guards)? };
    let token = held.iter().map(|acquired| acquired.token).max().unwrap_or_default();
    let mut variables = vec![(store::FDS, fds), (store::TOKEN, token.to_string())];
    variables.extend(numbers.first().map(|number| (store::NUMBER, number.to_string())));
    variables.extend(names.iter().map(String::as_str).zip(numbers.iter().map(u32::to_string)));
    let failed = |source| Error::cannot_run(&args.command[0].to_string_lossy(), source);
    let words: &[OsString] = &args.command;
    let command = os::Command::new(words, &variables).map_err(failed)?;
    if keeps_back {
        let mut child = command.fork().map_err(failed)?;
        let status = child.run().map_err(failed)?;
        inherit::status_after(&child, status)
    } else {
        Err(failed(command.exec()))
    }
}

/// Plans; where there is no room, once more without the rows that nobody needs.
fn planned(
    begin: &mut dyn FnMut() -> Result<Registry, Error>,
    mut plan: impl FnMut(&mut Registry, Option<&[u32]>) -> Result<Plan, Error>,
) -> Result<(Registry, Plan), Error> {
    let mut registry = begin()?;
    match plan(&mut registry, None) {
        Ok(plan) => Ok((registry, plan)),
        Err(error) => {
            let lacks_room = plan::lacks_room(&error);
            let book = registry.let_go();
            let gone = if lacks_room { plan::gone(&book) } else { Vec::new() };
            if !lacks_room || (gone.is_empty() && !plan::has_unused(&book)) {
                return Err(owned(error, &book));
            }
            registry = begin()?;
            let planned = plan(&mut registry, Some(&gone));
            planned.map_err(|error| owned(error, &registry.book)).map(|plan| (registry, plan))
        }
    }
}

/// The error that the file of `--dotenv` cannot be written.
fn dotenv_failed(path: &Path, error: Error) -> Error {
    match error {
        Error::NoFile { source, .. } => Problem::Dotenv { path: path.to_owned(), source }.error(),
        other => other,
    }
}

fn name_owners(plan: &mut Plan, registry: &Registry) {
    let mut unmet: Vec<_> = plan.given.iter_mut().filter_map(|given| given.unmet.as_mut()).collect();
    plan::name_owners(&registry.book, &mut unmet);
}

/// With the name of who has the number that is required.
fn owned(error: Error, book: &Book) -> Error {
    let Error::Reserve(Problem::Required { number, why }) = error else { return error };
    let mut unmet: (u32, Why) = (number, why);
    plan::name_owners(book, &mut [&mut unmet]);
    Problem::Required { number, why: unmet.1 }.error()
}
