//! `update` and `write`: replace the content of a file under its lock.

use super::wait::choose_short_wait;
use crate::args::update::{Rewrite, UpdateArgs, WriteArgs};
use crate::exit;
use crate::output::progress::DelayedProgress;
use crate::output::{stream, updates};
use aba_lock::base::command_error::CommandError;
use aba_lock::base::programs::find_program;
use aba_lock::base::target::Wait;
use aba_lock::error::Error;
use aba_lock::file::draft::ContentDraft;
use aba_lock::file::edit::Edit;
use aba_lock::file::error::FileError;
use aba_lock::file::filter;
use aba_lock::file::path::MissingFile;
use aba_lock::file::update::{Conditions, Prepared, check_signals, prepare_draft};
use aba_lock::lock::error::LockError;
use aba_lock::os::proc::process;
use aba_lock::os::{self, Forward};
use std::ffi::OsStr;
use std::path::Path;

pub(crate) fn run(args: &UpdateArgs) -> Result<i32, Error> {
    if args.in_place && !args.command.iter().any(|word| word.to_string_lossy().contains(filter::PLACE)) {
        stream::print_misuse("update", "the command of --in-place has no {}, which stands for the path of the copy");
        return Ok(exit::USAGE);
    }
    let make = if args.in_place { filter::run_on_copy } else { filter::run_filter };
    let words = filter::build_words(&args.command, args.shell.as_deref(), args.state);
    let done = rewrite_file("update", &args.how, |edit, draft, forward| make(edit, &words, draft, forward));
    match done {
        Err(error @ Error::File(FileError::NoFile { .. })) if has_program_as_file(args) => {
            updates::report_missing_argument(&error, args);
            Ok(exit::status_for_error(&error))
        }
        done => done,
    }
}

/// Returns true if FILE follows `--` and has the name of a program, as in `update -- jq .`.
fn has_program_as_file(args: &UpdateArgs) -> bool {
    let file = args.how.file.as_os_str();
    !os::words().skip(2).take_while(|word| word != "--").any(|word| word == file)
        && find_program(file, Path::new(".")).is_ok()
}

pub(crate) fn run_write(args: &WriteArgs) -> Result<i32, Error> {
    rewrite_file("write", &args.how, |edit, draft, forward| filter::read_input(edit, draft, forward).map(|()| 0))
}

/// Locks the file, reads it, makes the new content, and replaces the old one. `called` is the command: `update` or `write`.
fn rewrite_file(
    called: &str,
    args: &Rewrite,
    make: impl FnOnce(&Edit, &mut ContentDraft, &Forward) -> Result<i32, FileError>,
) -> Result<i32, Error> {
    if args.check.iter().any(|text| text.trim().is_empty()) {
        stream::print_misuse(called, "the command of --check is empty");
        return Ok(exit::USAGE);
    }
    if let Some(suffix) = &args.backup
        && (suffix.is_empty() || suffix.contains('/') || suffix == ".lock")
    {
        let why =
            "the suffix of --backup must not be empty, contain a slash, or be `.lock`, which is the suffix of the lock";
        stream::print_misuse(called, why);
        return Ok(exit::USAGE);
    }
    let wait = if args.nonblock { Wait::No } else { choose_short_wait(args.timeout)? };
    let missing = if args.create { MissingFile::Create } else { MissingFile::Refuse };
    let mut progress = DelayedProgress::new(args.quiet);
    let command = process::command_line(std::process::id());
    let begun = Edit::begin(&args.file, missing, wait, command, &mut progress);
    let mut edit = match begun.map_err(Error::from) {
        Err(error @ Error::Lock(LockError::Busy { .. } | LockError::TimedOut { .. })) => {
            if !args.quiet {
                updates::report_contention(&error, &args.file);
            }
            return Ok(exit::status_for_error(&error));
        }
        begun => begun?,
    };
    // From here on a signal does not end this process immediately, so that no temporary files remain.
    let forward = Forward::begin();
    edit.keep_old_content(called == "update")?;
    let mut draft = edit.create_draft()?;
    let conditions = Conditions { checks: &args.check, allow_empty: args.allow_empty, dry_run: args.dry_run };
    let show = |edit: &Edit, draft: &ContentDraft| if args.diff { updates::print_diff(edit, draft) } else { Ok(()) };
    let outcome = prepare_draft(&edit, &mut draft, &forward, &conditions, make, show);
    if !matches!(outcome, Ok(Prepared::New)) {
        return end_unchanged(args, &edit, outcome.map_err(Error::from));
    }
    let linked = edit.link_target().map(ToOwned::to_owned);
    edit.commit(&draft, args.backup.as_deref().map(OsStr::new))?;
    updates::report_changed(args, linked.as_deref());
    // The file is changed, but the calling script must still see that a signal arrived.
    check_signals(&forward)?;
    Ok(exit::DONE)
}

/// Ends an update that does not change the file. The command may have written to the file itself, so the file is
/// verified before it is reported as unchanged.
fn end_unchanged(args: &Rewrite, edit: &Edit, outcome: Result<Prepared, Error>) -> Result<i32, Error> {
    match (edit.verify().map_err(Error::from), outcome) {
        (Ok(()), Ok(Prepared::Discarded(status))) => Ok(status),
        (Ok(()), Ok(_)) => {
            updates::report_unchanged(args);
            Ok(exit::DONE)
        }
        (Ok(()), Err(error)) => Err(error),
        // In these two cases the call still ends with the status of the command, or by the signal.
        (Err(changed), Ok(Prepared::Discarded(status))) if status != 0 => {
            stream::print_error(&changed);
            Ok(status)
        }
        (Err(changed), Err(error @ Error::Command(CommandError::Signalled { .. }))) => {
            stream::print_error(&changed);
            Err(error)
        }
        (Err(changed), _) => Err(changed),
    }
}
