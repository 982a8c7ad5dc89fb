use crate::args::{Rewrite, Update, Write};
use crate::exit;
use crate::report::{self, updates};
use aba_lock::atomic::transform::{Draft, Edit, Missing};
use aba_lock::error::Error;
use aba_lock::lock::Wait;
use aba_lock::sys::Forward;
use aba_lock::{filter, process};
use std::ffi::OsStr;

pub(crate) fn run(args: &Update) -> Result<i32, Error> {
    if args.in_place && !args.command.iter().any(|word| word.to_string_lossy().contains(filter::PLACE)) {
        report::misused("update", "the command of --in-place has no {}, where the path of the copy would stand");
        return Ok(exit::USAGE);
    }
    let make = if args.in_place { filter::in_place } else { filter::through };
    let words = filter::by_shell(&args.command, args.shell.as_deref(), args.state);
    rewrite(&args.how, true, |edit, draft, forward| make(edit, &words, draft, forward))
}

pub(crate) fn write(args: &Write) -> Result<i32, Error> {
    rewrite(&args.how, false, |edit, draft, forward| filter::from_input(edit, draft, forward).map(|()| 0))
}

/// Lock, read, make the new content, and put it in the place of the old one.
fn rewrite(
    args: &Rewrite,
    by_command: bool,
    make: impl FnOnce(&Edit, &mut Draft, &Forward) -> Result<i32, Error>,
) -> Result<i32, Error> {
    if args.check.iter().any(|text| text.trim().is_empty()) {
        report::misused("update", "the command of --check is empty");
        return Ok(exit::USAGE);
    }
    if let Some(suffix) = &args.backup
        && (suffix.is_empty() || suffix.contains('/') || suffix == ".lock")
    {
        report::misused(
            "update",
            "what --backup puts behind the name is empty, has a slash in it, or is that of the lock",
        );
        return Ok(exit::USAGE);
    }
    let missing = if args.create { Missing::Create } else { Missing::Refuse };
    let mut progress = updates::Progress::new(args.quiet);
    let command = process::command_line(std::process::id());
    let mut edit = match Edit::begin(&args.file, missing, wait(args)?, command, &mut progress) {
        Err(error @ (Error::Busy { .. } | Error::TimedOut { .. })) => {
            if !args.quiet {
                updates::contended(&error, &args.file);
            }
            return Ok(exit::of(&error));
        }
        begun => begun?,
    };
    // From here on a signal is noted, so that nothing is left lying about.
    let forward = Forward::begin();
    edit.keep_old(by_command)?;
    let mut draft = edit.draft()?;
    let outcome = make(&edit, &mut draft, &forward);
    // What follows says that the file is unchanged. The command may have written to the file itself.
    if let Err(changed) = edit.verify() {
        match outcome {
            Ok(status) if status != 0 || forward.came().is_some() => report::failure(&changed),
            _ => return Err(changed),
        }
    }
    let status = outcome?;
    let given_up = || forward.came().map_or(Ok(()), |signal| Err(Error::GivenUp { signal }));
    given_up()?;
    if status != 0 {
        return Ok(status);
    }
    if edit.is_same(&draft)? {
        updates::unchanged(args);
        return Ok(exit::DONE);
    }
    if draft.is_empty() && !args.allow_empty {
        return Err(Error::NothingNew { label: edit.label().to_owned() });
    }
    for text in &args.check {
        let status = filter::check(&edit, text, &draft, &forward)?;
        given_up()?;
        edit.verify()?;
        if status != 0 {
            return Err(Error::NotAccepted { label: edit.label().to_owned(), status });
        }
    }
    if args.diff {
        updates::diff(&edit, &draft)?;
    }
    if args.dry_run {
        return Ok(exit::DONE);
    }
    given_up()?;
    let linked = edit.linked().map(ToOwned::to_owned);
    edit.commit(&draft, args.backup.as_deref().map(OsStr::new))?;
    updates::changed(args, linked.as_deref());
    // It is done, but the script is to hear of it.
    given_up().map(|()| exit::DONE)
}

fn wait(args: &Rewrite) -> Result<Wait, Error> {
    if args.nonblock {
        return Ok(Wait::No);
    }
    super::short_wait(args.timeout)
}
