//! The names of the files of a task, and how they are opened for reading.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::{self, FromStr};

pub(super) const LOCK: &str = "lock";
pub(super) const EXIT: &str = "exit";
pub(super) const PID: &str = "pid";
pub(super) const COMMAND: &str = "cmd.sh";
pub(super) const COMMAND_TEXT: &str = "cmd";
pub(super) const DIRECTORY: &str = "cwd";
pub(super) const HISTORY: &str = "history";
pub(super) const LOG: &str = "log";

/// The files that a reset keeps and a purge removes.
pub(super) const KEPT_BY_RESET: [&str; 8] =
    ["log.out", "log.err", "log.out.1", "log.err.1", "log.out.prev", "log.err.prev", HISTORY, "history.tmp"];

/// The files that a reset removes, in this order, with the temporary files of killed writers. `exit` comes late: if the reset
/// of a failed task is killed, then the task is still failed for the next reset. `lock` comes last: once it is removed,
/// another process may start the task anew.
pub(super) const REMOVED_BY_RESET: [&str; 12] =
    [LOG, COMMAND, "cmd.sh.tmp", COMMAND_TEXT, "cmd.tmp", DIRECTORY, "cwd.tmp", "pid.tmp", PID, "exit.tmp", EXIT, LOCK];

/// Opens a file for reading. `None` if it cannot be opened.
pub(super) fn open(path: &Path) -> Option<File> {
    open_if_exists(path).ok().flatten()
}

/// Opens a file for reading. `None` if it does not exist. A link counts as missing, because no file of a task that is
/// read is a link. Opening a FIFO does not block.
pub(super) fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if [libc::ENOENT, libc::ELOOP].contains(&error.raw_os_error().unwrap_or(0)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file that holds one number. `None` if it holds something else. A person may have written the file, so white space and
/// invalid text are allowed.
pub(super) fn read_number<N: FromStr>(file: &File) -> io::Result<Option<N>> {
    let mut text = [0; 64];
    let len = loop {
        match (&mut &*file).read(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    Ok(str::from_utf8(&text[..len]).ok().and_then(|text| text.trim().parse().ok()))
}
