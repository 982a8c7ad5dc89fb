//! Runs the command of `lock` or `reserve` while the locks are held.

use aba_lock::base::command_error::CommandError;
use aba_lock::base::environment::FDS;
use aba_lock::error::Error;
use aba_lock::lock::request::Guard;
use aba_lock::lock::{inherit, pid_file};
use aba_lock::os;
use std::ffi::OsString;
use std::path::Path;

/// Runs a command while the locks are held, and returns its exit status.
///
/// This process becomes the command, which inherits the locks, so this function returns only if that fails. In three
/// cases it runs the command as a child instead, and waits: if the command must not inherit the locks or would close
/// them, if a pid file must be removed when the command ends, and with `stays`.
pub(super) fn run_with_locks<'a>(
    words: &[OsString],
    no_inherit: bool,
    guards: impl Iterator<Item = &'a Guard>,
    variables: Vec<(&str, String)>,
    pid_file: Option<&Path>,
    stays: bool,
) -> Result<i32, Error> {
    let failed = |source| CommandError::new(&words[0].to_string_lossy(), source);
    let keeps_back = keeps_locks_back(words, no_inherit);
    let fds = if keeps_back { inherit::withhold_locks(guards) } else { inherit::hand_down_locks(guards)? };
    let variables: Vec<_> = [(FDS, fds)].into_iter().chain(variables).collect();
    let command = os::PreparedCommand::new(words, &variables).map_err(failed)?;
    if !stays && becomes_command(words, no_inherit, pid_file) {
        return Err(failed(command.exec()).into());
    }
    let mut child = command.fork().map_err(failed)?;
    if let Some(path) = pid_file {
        write_pid(path, child.pid())?;
    }
    let status = child.run();
    if let Some(path) = pid_file {
        pid_file::remove_pid_file(path, child.pid());
    }
    Ok(inherit::check_child_status(&child, status.map_err(failed)?)?)
}

/// Returns true if [`run_with_locks`] becomes the command, and false if it starts the command as a child.
pub(super) fn becomes_command(words: &[OsString], no_inherit: bool, pid_file: Option<&Path>) -> bool {
    !keeps_locks_back(words, no_inherit) && pid_file.is_none()
}

fn keeps_locks_back(words: &[OsString], no_inherit: bool) -> bool {
    no_inherit || words.first().is_some_and(|program| inherit::closes_descriptors(program))
}

pub(super) fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    pid_file::write_pid_file(path, pid).map_err(|source| Error::Write { path: path.to_owned(), source })
}
