//! The problems of the log of a state root, with the next step for the user. `doctor` and `log` report them.
//!
//! In a directory that several users share, each of them can keep the log from getting lines, by a file that takes its place for example.
//! So a call that cannot write to such a log says nothing about that (`log`).

use super::rotation::{
    CAP, LIMIT, MAX_SIZE, check_creator, check_trusted, invalid, may_replace, new_log_path, older_log_path,
    open_for_line,
};
use crate::base::environment::{SYSTEM_ROOT, event_log};
use crate::base::text::{HINT_FOR_FULL_DISK, format_io_error, is_full_disk, quote_path};
use crate::lock::holders::LeasedFile;
use crate::os::proc::process;
use crate::os::replace::parent_directory;
use crate::os::{self, Mode, Right};
use crate::store;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A problem of the log of a state root.
#[derive(Debug)]
pub struct LogProblem {
    pub text: String,
    /// The next step for the user, if one is known.
    pub hint: Option<String>,
    /// True if no events are logged, and false if some are lost, or will be.
    pub is_total: bool,
}

/// Returns the problem of a log that is turned on, or of a file in the place of the log.
#[must_use]
pub fn find_log_problem(log: &Path) -> Option<LogProblem> {
    match open_for_line(log) {
        Ok(Some((file, data))) => {
            let lock = || os::try_lock(&file, Mode::Exclusive).unwrap_or(true);
            find_rotation_problem(log, &data, lock)
        }
        Ok(None) => find_size_problem(log, false),
        Err(error) => Some(LogProblem {
            text: format!(
                "cannot use the event log {}: {}: events are not logged",
                log.display(),
                format_io_error(&error)
            ),
            hint: find_remedy(log, &error, "--enable"),
            is_total: true,
        }),
    }
}

/// Returns the reason why a log with this metadata is not rotated. `try_lock` locks it, as a rotator does.
fn find_rotation_problem(log: &Path, data: &Metadata, try_lock: impl FnOnce() -> bool) -> Option<LogProblem> {
    let problem = |text, hint| Some(LogProblem { text, hint: Some(hint), is_total: false });
    for path in [older_log_path(log), new_log_path(log)] {
        if fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            let text = format!("{} is a directory, which can keep the event log from being rotated", path.display());
            return problem(text, format_command(&format!("rm -r {}", quote_path(&path)), may_remove(&path)));
        }
    }
    let size = format!("the event log {} has {} KiB", log.display(), data.size() / 1024);
    if data.size() > LIMIT && !try_lock() {
        let text = format!("{size}, and is not rotated, because another process locks it");
        return problem(text, format!("`aba-lock status --file {}` shows the process", quote_path(log)));
    }
    if let Some(problem) = find_size_problem(log, true) {
        return Some(problem);
    }
    if data.size() <= CAP {
        return None;
    }
    let text = format!("{size}, and only {} can rotate it: new events of other users are dropped", name_rotators(log)?);
    problem(text, format_command(&command_for_any_user(log, "--enable"), may_remove(log)))
}

/// Returns the problem of a log, or of the one before it, that is larger than those that aba-lock writes.
fn find_size_problem(log: &Path, is_on: bool) -> Option<LogProblem> {
    let measure = |path: &Path| check_creator(fs::symlink_metadata(path).ok()?, path).ok().filter(Metadata::is_file);
    let too_large = |path: &Path| measure(path).filter(|data| data.size() > MAX_SIZE);
    let paths = [log.to_owned(), older_log_path(log)];
    let (path, data) = paths.iter().find_map(|path| Some((path, too_large(path)?)))?;
    let command = if is_on { command_for_any_user(log, "--enable") } else { format!("rm {}", quote_path(path)) };
    Some(LogProblem {
        text: format!(
            "the event log {} has {} MiB, more than aba-lock writes: only the last {} MiB are read",
            path.display(),
            data.size() >> 20,
            MAX_SIZE >> 20
        ),
        hint: Some(format_command(&command, may_remove(path))),
        is_total: false,
    })
}

/// Returns the users who can rotate a log that not all users of its directory can rotate.
#[must_use]
pub fn name_rotators(log: &Path) -> Option<String> {
    let (data, directory) = (fs::symlink_metadata(log).ok()?, fs::metadata(parent_directory(log)).ok()?);
    if directory.mode() & os::mode::STICKY == 0 {
        return None;
    }
    let mut ids = vec![0, data.uid(), directory.uid()];
    ids.sort_unstable();
    ids.dedup();
    let names: Vec<String> = ids.into_iter().map(process::user_name).collect();
    Some(names.join(" and "))
}

/// Returns the next step for a user who cannot use the log of a state root, and has asked for `option`.
pub(super) fn find_remedy(log: &Path, error: &io::Error, option: &str) -> Option<String> {
    let switch = command_for_any_user(log, option);
    if is_full_disk(error) {
        return Some(HINT_FOR_FULL_DISK.to_owned());
    }
    if error.raw_os_error() == Some(libc::EROFS) {
        return None;
    }
    if let Some(leased) = LeasedFile::find_in(error) {
        return Some(leased.hint());
    }
    if let Some(hint) = store::hint_about_mode(log) {
        return Some(hint);
    }
    let is_foreign = |data: &Metadata| !data.is_file() || check_trusted(data.clone(), log).is_err();
    if let Some(data) = fs::symlink_metadata(log).ok().filter(is_foreign) {
        let path = quote_path(log);
        // -T: a directory or a link with the new name is never entered.
        let remove = if data.is_file() { format!("mv -T {path} {path}.old") } else { format!("rm -r {path}") };
        let is_allowed = may_remove(log) && check_owner(parent_directory(log)).is_ok();
        return Some(format_command(&format!("{remove} && {switch}"), is_allowed));
    }
    let is_refused = check_owner(parent_directory(log)).is_err() || error.kind() == io::ErrorKind::PermissionDenied;
    is_refused.then(|| format_command(&switch, false))
}

/// Returns the next step for a user whose events could not be written to this log for this reason.
#[must_use]
pub fn hint_after_failure(reason: &io::Error) -> &'static str {
    match event_log() {
        Some(_) if is_full_disk(reason) => "free some disk space, or set ABA_LOCK_LOG to a file on another disk",
        None if is_full_disk(reason) => "free some disk space, or turn the log off with `aba-lock log --disable`",
        Some(_) => "set ABA_LOCK_LOG to a file that you can write to, or unset it",
        None if reason.raw_os_error() == Some(libc::EROFS) => "set ABA_LOCK_LOG to a file that you can write to",
        None => "move that file away, or turn the log off with `aba-lock log --disable`",
    }
}

/// Fails if other users would not trust a log that this user creates. Such a file would only keep the owner of the directory from
/// turning the log on.
pub(super) fn check_owner(directory: &Path) -> io::Result<()> {
    let (me, directory) = (os::user_id(), fs::metadata(directory)?);
    if me == 0 || me == directory.uid() || directory.mode() & os::mode::STICKY == 0 {
        return Ok(());
    }
    Err(invalid(
        "only root and the owner of the directory can turn it on, because other users do not trust a log of this user",
    ))
}

/// Returns the command that turns this log on or off, for root or any other user.
pub(super) fn command_for_any_user(log: &Path, option: &str) -> String {
    let root = parent_directory(log);
    if root.as_os_str() == SYSTEM_ROOT {
        format!("aba-lock log --system {option}")
    } else {
        format!("ABA_LOCK_DIR={} aba-lock log {option}", quote_path(root))
    }
}

/// Returns the next step for a user of a lock whose name leads to something other than a lock file.
#[must_use]
pub fn hint_to_remove(path: &Path) -> String {
    format_command(&format!("rm -r {}", quote_path(path)), may_remove(path))
}

fn format_command(command: &str, is_allowed: bool) -> String {
    if is_allowed { format!("run `{command}`") } else { format!("run as root: `{command}`") }
}

fn may_remove(path: &Path) -> bool {
    let is_replaceable = fs::symlink_metadata(path).is_ok_and(|data| may_replace(path, &data));
    is_replaceable && os::may(Right::MakeIn, parent_directory(path)).is_ok()
}
