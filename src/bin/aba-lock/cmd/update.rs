use crate::args::update::{Rewrite, UpdateArgs, WriteArgs};
use crate::exit;
use crate::output::progress::DelayedProgress;
use crate::output::{stream, updates};
use aba_lock::base::target::Wait;
use aba_lock::error::Error;
use aba_lock::file::edit::{Draft, Edit, Missing};
use aba_lock::file::filter;
use aba_lock::os::Forward;
use aba_lock::os::proc::process;
use std::ffi::OsStr;

pub(crate) fn run(args: &UpdateArgs) -> Result<i32, Error> {
    if args.in_place && !args.command.iter().any(|word| word.to_string_lossy().contains(filter::PLACE)) {
        stream::print_misuse("update", "the command of --in-place has no {}, where the path of the copy would stand");
        return Ok(exit::USAGE);
    }
    let make = if args.in_place { filter::in_place } else { filter::through };
    let words = filter::by_shell(&args.command, args.shell.as_deref(), args.state);
    rewrite(&args.how, true, |edit, draft, forward| make(edit, &words, draft, forward))
}

pub(crate) fn write(args: &WriteArgs) -> Result<i32, Error> {
    rewrite(&args.how, false, |edit, draft, forward| filter::from_input(edit, draft, forward).map(|()| 0))
}

/// Lock, read, make the new content, and put it in the place of the old one.
fn rewrite(
    args: &Rewrite,
    by_command: bool,
    make: impl FnOnce(&Edit, &mut Draft, &Forward) -> Result<i32, Error>,
) -> Result<i32, Error> {
    if args.check.iter().any(|text| text.trim().is_empty()) {
        stream::print_misuse("update", "the command of --check is empty");
        return Ok(exit::USAGE);
    }
    if let Some(suffix) = &args.backup
        && (suffix.is_empty() || suffix.contains('/') || suffix == ".lock")
    {
        stream::print_misuse("update", "the suffix of --backup is empty, contains a slash, or is that of the lock");
        return Ok(exit::USAGE);
    }
    let missing = if args.create { Missing::Create } else { Missing::Refuse };
    let mut progress = DelayedProgress::new(args.quiet);
    let command = process::command_line(std::process::id());
    let mut edit = match Edit::begin(&args.file, missing, wait(args)?, command, &mut progress) {
        Err(error @ (Error::Busy { .. } | Error::TimedOut { .. })) => {
            if !args.quiet {
                updates::report_contention(&error, &args.file);
            }
            return Ok(exit::of(&error));
        }
        begun => begun?,
    };
    // From here on a signal is noted, so that no temporary files remain.
    let forward = Forward::begin();
    edit.keep_old(by_command)?;
    let mut draft = edit.draft()?;
    let outcome = prepare(args, &edit, &mut draft, &forward, make);
    if !matches!(outcome, Ok(Prepared::New)) {
        return unchanged(args, &edit, outcome);
    }
    let linked = edit.linked().map(ToOwned::to_owned);
    edit.commit(&draft, args.backup.as_deref().map(OsStr::new))?;
    updates::report_changed(args, linked.as_deref());
    // The file is changed, but the script must learn of the signal.
    give_up(&forward).map(|()| exit::DONE)
}

/// The fate of the draft.
enum Prepared {
    /// It is the new content.
    New,
    /// It is the old content.
    Same,
    /// It is discarded: the command failed with this status, or the content is not to be written (0).
    Left(i32),
}

/// Makes the new content, and checks and shows it.
fn prepare(
    args: &Rewrite,
    edit: &Edit,
    draft: &mut Draft,
    forward: &Forward,
    make: impl FnOnce(&Edit, &mut Draft, &Forward) -> Result<i32, Error>,
) -> Result<Prepared, Error> {
    let status = make(edit, draft, forward)?;
    give_up(forward)?;
    if status != 0 {
        return Ok(Prepared::Left(status));
    }
    if edit.is_same(draft)? {
        return Ok(Prepared::Same);
    }
    if draft.is_empty() && !args.allow_empty {
        return Err(Error::NothingNew { label: edit.label().to_owned() });
    }
    for text in &args.check {
        let status = filter::check(edit, text, draft, forward)?;
        give_up(forward)?;
        if status != 0 {
            return Err(Error::NotAccepted { label: edit.label().to_owned(), status });
        }
    }
    if args.diff {
        let printed = updates::print_diff(edit, draft);
        // If the reader of our output has ended, this ends by SIGPIPE, as any other command does.
        give_up(forward)?;
        printed?;
    }
    give_up(forward)?;
    Ok(if args.dry_run { Prepared::Left(exit::DONE) } else { Prepared::New })
}

/// Ends an update that does not change the file. The command may have written to the file itself, so this is checked before
/// anything says that it is unchanged.
fn unchanged(args: &Rewrite, edit: &Edit, outcome: Result<Prepared, Error>) -> Result<i32, Error> {
    match (edit.verify(), outcome) {
        (Ok(()), Ok(Prepared::Left(status))) => Ok(status),
        (Ok(()), Ok(_)) => {
            updates::report_unchanged(args);
            Ok(exit::DONE)
        }
        (Ok(()), Err(error)) => Err(error),
        // The status of the command, or the signal, is still that of the call.
        (Err(changed), Ok(Prepared::Left(status))) if status != 0 => {
            stream::print_error(&changed);
            Ok(status)
        }
        (Err(changed), Err(error @ Error::GivenUp { .. })) => {
            stream::print_error(&changed);
            Err(error)
        }
        (Err(changed), _) => Err(changed),
    }
}

/// Fails if a signal came.
fn give_up(forward: &Forward) -> Result<(), Error> {
    forward.came().map_or(Ok(()), |signal| Err(Error::GivenUp { signal }))
}

fn wait(args: &Rewrite) -> Result<Wait, Error> {
    if args.nonblock {
        return Ok(Wait::No);
    }
    super::short_wait(args.timeout)
}
