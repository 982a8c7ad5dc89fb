//! The output of `update` and `write`.

use super::difference::format_difference;
use super::holder::{describe_holder, describe_unseen_holder};
use super::meant_line::MAX_LINE;
use super::stream::print_message;
use super::text::escape_controls;
use crate::args::update::{Rewrite, UpdateArgs};
use aba_lock::base::text::{quote_path, shorten};
use aba_lock::error::Error;
use aba_lock::file::draft::ContentDraft;
use aba_lock::file::edit::Edit;
use aba_lock::file::error::FileError;
use aba_lock::lock::error::LockError;
use aba_lock::lock::holders;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The maximum size in bytes of a file that is compared line by line.
const MAX_DIFF: u64 = 64 * 1024 * 1024;

/// Reports that another process updates the file, and that this process does not wait, or has given up.
pub(crate) fn report_contention(error: &Error, file: &Path) {
    let Error::Lock(LockError::Busy { label, path, .. } | LockError::TimedOut { label, path, .. }) = error else {
        return;
    };
    let state = holders::observe_briefly(path);
    let who = state.holding.as_ref().map_or_else(|| describe_unseen_holder(&state), describe_holder);
    let text = match error {
        Error::Lock(LockError::TimedOut { .. }) => format!("{error}, which is being updated by {who}"),
        _ => format!("{label} is being updated by {who}"),
    };
    let hint = format!("show its holder with `aba-lock status --file {}`", quote_path(path));
    let link =
        if file.is_symlink() { format!(" ({label} is a link; the lock is next to its target)") } else { String::new() };
    print_message(&text, Some(&(hint + &link)));
}

/// Reports a file that does not exist, and whose name is that of a program: the user probably forgot FILE.
pub(crate) fn report_missing_argument(error: &Error, args: &UpdateArgs) {
    let program = args.how.file.to_string_lossy();
    let words = args.command.iter().map(|word| word.to_string_lossy());
    let command = shell_words::join(std::iter::once(program.clone()).chain(words));
    let hint = format!(
        "if {program} is the command, FILE is missing before `--`: `{}`",
        shorten(&format!("aba-lock update FILE -- {command}"), MAX_LINE)
    );
    print_message(&error.to_string(), Some(&hint));
}

pub(crate) fn report_unchanged(args: &Rewrite) {
    if args.verbose {
        print_message(&format!("{} already has this content: nothing was written", args.file.display()), None);
    }
}

/// Reports that the file was changed. If the path is a link, the message also names the file that `linked` leads to.
pub(crate) fn report_changed(args: &Rewrite, linked: Option<&Path>) {
    if args.verbose {
        let to =
            linked.map(|path| format!(", a link to {0}; the lock is {0}.lock", path.display())).unwrap_or_default();
        print_message(&format!("{} was changed{to}", args.file.display()), None);
    }
}

/// Prints the changes as `diff -u` does.
pub(crate) fn print_diff(edit: &Edit, draft: &ContentDraft) -> Result<(), FileError> {
    let old = match edit.open_old()? {
        Some(old) => read_text(old).map_err(edit.failed("compare"))?,
        None => Some(Vec::new()),
    };
    let new = read_text(draft.open_content()?).map_err(edit.failed("compare"))?;
    let label = escape_controls(edit.label());
    match (old, new) {
        (Some(old), Some(new)) => {
            let text = format_difference(&label, &old, &new);
            // Written as bytes, because patch(1) needs them unchanged, even if they are not UTF-8.
            io::stdout().lock().write_all(&text).and_then(|()| io::stdout().flush())
        }
        _ => io::stdout().lock().write_all(format!("Files differ: {label}\n").as_bytes()),
    }
    .map_err(edit.failed("print the changes of"))
}

/// Reads a file, if it is text and not too large to compare.
fn read_text(mut file: File) -> io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > MAX_DIFF {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((!bytes.contains(&0)).then_some(bytes))
}
