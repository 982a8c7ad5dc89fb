//! The steps between the lock and the replacement of a file: make the new content, check it, and show it.
//!
//! `update` and `write` call [`prepare_draft`], and commit the draft if the result is [`Prepared::New`].

use super::draft::ContentDraft;
use super::edit::Edit;
use super::error::FileError;
use super::filter;
use crate::base::command_error::CommandError;
use crate::os::Forward;

/// The conditions under which a file is replaced.
#[derive(Debug)]
pub struct Conditions<'a> {
    /// Commands that must accept the new content.
    pub checks: &'a [String],
    pub allow_empty: bool,
    pub dry_run: bool,
}

/// The result of [`prepare_draft`].
#[derive(Debug)]
pub enum Prepared {
    /// The caller must commit the draft.
    New,
    /// The new content equals the old content.
    Same,
    /// The caller must discard the draft and exit with this status: that of a command that failed, or 0 for a dry run.
    Discarded(i32),
}

/// Makes the new content with `make`, which returns an exit status, checks it, and shows it with `show`.
pub fn prepare_draft(
    edit: &Edit,
    draft: &mut ContentDraft,
    forward: &Forward,
    conditions: &Conditions,
    make: impl FnOnce(&Edit, &mut ContentDraft, &Forward) -> Result<i32, FileError>,
    show: impl FnOnce(&Edit, &ContentDraft) -> Result<(), FileError>,
) -> Result<Prepared, FileError> {
    let status = make(edit, draft, forward)?;
    check_signals(forward)?;
    if status != 0 {
        return Ok(Prepared::Discarded(status));
    }
    if edit.is_same(draft)? {
        return Ok(Prepared::Same);
    }
    if draft.is_empty() && !conditions.allow_empty {
        return Err(FileError::NothingNew { label: edit.label().to_owned() });
    }
    for text in conditions.checks {
        let status = filter::run_check(edit, text, draft, forward)?;
        check_signals(forward)?;
        if status != 0 {
            return Err(FileError::NotAccepted { label: edit.label().to_owned(), status });
        }
    }
    let shown = show(edit, draft);
    // If the reader of the output has ended, this process ends by SIGPIPE, as other commands do.
    check_signals(forward)?;
    shown?;
    Ok(if conditions.dry_run { Prepared::Discarded(0) } else { Prepared::New })
}

/// Returns an error if a signal has arrived.
pub fn check_signals(forward: &Forward) -> Result<(), CommandError> {
    forward.came().map_or(Ok(()), |signal| Err(CommandError::Signalled { signal }))
}
