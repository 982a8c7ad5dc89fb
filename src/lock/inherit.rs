//! Commands that run while a lock is held: the descriptors that they inherit, and the programs that close these. Commands that
//! are given as one text.

use crate::base::environment::{NAME, inherited_descriptors};
use crate::base::error::CommandError;
use crate::lock::error::LockError;
use crate::lock::request::Guard;
use crate::os;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

/// The lowest descriptor on which locks are handed down to commands: out of the way of scripts, which use the low
/// numbers as they please, and 200 for locks of their own.
pub(crate) const LOWEST_FD: RawFd = 500;

/// Commands that close every descriptor they were given before they do their work: became we one of them, the
/// lock would be dropped at once. (OpenSSH's client and sudo(8) call closefrom(2) at start-up.)
const CLOSE_DESCRIPTORS: [&str; 3] = ["doas", "ssh", "sudo"];

/// Whether a program is known to close what it is handed.
#[must_use]
pub fn closes_descriptors(program: &OsStr) -> bool {
    let name = Path::new(program).file_name();
    name.is_some_and(|name| CLOSE_DESCRIPTORS.iter().any(|known| name == *known))
}

/// The words that run the text of an option (`--check`, `--on-busy`, `--on-lost`) as a shell command.
///
/// `argument` is `$1` for the text. It is never pasted into the text, where the shell would interpret it.
#[must_use]
pub fn build_shell_command(text: &str, argument: &OsStr) -> Vec<OsString> {
    ["/bin/sh", "-c", "--", text, "sh"].into_iter().map(OsString::from).chain([argument.to_owned()]).collect()
}

/// Becomes the command of `--on-busy`, which gets the name of the lock. Returns only if that fails, with the reason.
#[must_use]
pub fn exec_shell(text: &str, name: &str) -> io::Error {
    let command = os::Command::new(&build_shell_command(text, OsStr::new(name)), &[(NAME, name.to_owned())]);
    command.map_or_else(|error| error, |command| command.exec())
}

/// Hands locks down to the command that we are to become. What to say of it in `ABA_LOCK_FDS`.
pub fn hand_down_locks<'a>(guards: impl IntoIterator<Item = &'a Guard>) -> Result<String, LockError> {
    let mut fds = inherited_descriptors();
    for guard in guards {
        let fd = hand_down_lock(guard)?;
        if !fds.contains(&fd) {
            fds.push(fd);
        }
    }
    Ok(format_descriptors(&fds))
}

/// The descriptor on which each lock can be reached by a program that we become.
pub fn hand_down_lock(guard: &Guard) -> Result<RawFd, LockError> {
    match guard.inherited {
        Some(fd) => Ok(fd),
        None => os::hand_down(guard.file(), LOWEST_FD)
            .map_err(|source| LockError::Lock { path: guard.target.path.clone(), source }),
    }
}

/// Keeps locks from a command that we start, also those that an ancestor handed down. What to say of the others in
/// `ABA_LOCK_FDS`.
pub fn withhold_locks<'a>(guards: impl IntoIterator<Item = &'a Guard>) -> String {
    let kept: Vec<RawFd> = guards.into_iter().filter_map(|guard| guard.inherited).collect();
    for fd in &kept {
        os::keep_back(*fd);
    }
    let fds: Vec<RawFd> = inherited_descriptors().into_iter().filter(|fd| !kept.contains(fd)).collect();
    format_descriptors(&fds)
}

/// Returns the status with which we end after our child, which ended with `status`. [`CommandError::Signalled`]: it died of a signal that
/// we got, too, and of which we must die.
pub fn check_child_status(child: &os::Child, status: i32) -> Result<i32, CommandError> {
    child.died_with_us(status).map_or(Ok(status), |signal| Err(CommandError::Signalled { signal }))
}

/// Descriptors as `ABA_LOCK_FDS` lists them.
#[must_use]
pub fn format_descriptors(fds: &[RawFd]) -> String {
    let list: Vec<String> = fds.iter().map(RawFd::to_string).collect();
    list.join(" ")
}
