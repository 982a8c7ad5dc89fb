//! Prepares commands that run while a lock is held: decides which locks they inherit, and builds commands from the text of an
//! option.
//!
//! A process that inherits the descriptor of a lock holds the lock until it ends. The helper calls these functions
//! before it becomes or starts the command of `lock`. The keeper and `update` call them for the commands of their
//! options.

use crate::base::command_error::CommandError;
use crate::base::environment::{NAME, inherited_descriptors};
use crate::lock::error::LockError;
use crate::lock::request::Guard;
use crate::os;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

/// The lowest descriptor on which commands inherit locks. Scripts use the low numbers for their own files, and 200 for their own
/// locks.
pub(crate) const LOWEST_FD: RawFd = 500;

/// Commands that close all descriptors that they inherit. If the helper became one of them, the lock would be released at once.
/// (OpenSSH's client and sudo(8) call closefrom(2) at start-up.)
const CLOSE_DESCRIPTORS: [&str; 3] = ["doas", "ssh", "sudo"];

/// Returns true if a program is known to close the descriptors that it inherits.
#[must_use]
pub fn closes_descriptors(program: &OsStr) -> bool {
    let name = Path::new(program).file_name();
    name.is_some_and(|name| CLOSE_DESCRIPTORS.iter().any(|known| name == *known))
}

/// Returns the words that run the text of an option (`--check`, `--on-busy`, `--on-lost`) as a shell command.
///
/// The text gets `argument` as `$1`. It is not inserted into the text, where the shell would interpret it.
#[must_use]
pub fn build_shell_command(text: &str, argument: &OsStr) -> Vec<OsString> {
    ["/bin/sh", "-c", "--", text, "sh"].into_iter().map(OsString::from).chain([argument.to_owned()]).collect()
}

/// Becomes the command of `--on-busy`, which gets the name of the lock as `$1` and in `ABA_LOCK_NAME`. Returns only if
/// that fails.
#[must_use]
pub fn exec_shell(text: &str, name: &str) -> io::Error {
    let command = os::PreparedCommand::new(&build_shell_command(text, OsStr::new(name)), &[(NAME, name.to_owned())]);
    command.map_or_else(|error| error, |command| command.exec())
}

/// Makes the locks inheritable for a command. Returns the value of `ABA_LOCK_FDS`.
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

/// Makes one lock inheritable for a program. Returns its descriptor, which stays open until `guard` is dropped.
///
/// Scripts use the low numbers (`exec 3>log`). If the lock were on such a number, they would release it. If the limit on
/// descriptors allows no high number, the lock keeps its own number.
pub fn hand_down_lock(guard: &Guard) -> Result<RawFd, LockError> {
    if let Some(fd) = guard.inherited {
        return Ok(fd);
    }
    let file = guard.file();
    if let Ok(copy) = os::duplicate_for_children(file, LOWEST_FD) {
        return Ok(guard.copy.get_or_init(|| copy).as_raw_fd());
    }
    let shared = os::share(file).map(|()| file.as_raw_fd());
    shared.map_err(|source| LockError::Lock { path: guard.target.path.clone(), source })
}

/// Keeps a command that this process starts from inheriting the locks, including those that an ancestor handed down. Returns the
/// value of `ABA_LOCK_FDS`, which lists the other locks that were handed down.
pub fn withhold_locks<'a>(guards: impl IntoIterator<Item = &'a Guard>) -> String {
    let kept: Vec<RawFd> = guards.into_iter().filter_map(|guard| guard.inherited).collect();
    for fd in &kept {
        os::keep_back(*fd);
    }
    let fds: Vec<RawFd> = inherited_descriptors().into_iter().filter(|fd| !kept.contains(fd)).collect();
    format_descriptors(&fds)
}

/// Returns the exit status of this process after its child ended with `status`. Fails with [`CommandError::Signalled`] if the
/// child died of a signal that this process received as well. This process must then die of it, too.
pub fn check_child_status(child: &os::Child, status: i32) -> Result<i32, CommandError> {
    child.died_with_us(status).map_or(Ok(status), |signal| Err(CommandError::Signalled { signal }))
}

/// Returns the descriptors in the format of `ABA_LOCK_FDS`.
#[must_use]
pub fn format_descriptors(fds: &[RawFd]) -> String {
    let list: Vec<String> = fds.iter().map(RawFd::to_string).collect();
    list.join(" ")
}
