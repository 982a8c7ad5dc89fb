//! Keeps a lock file open for a script, because a shell cannot open it safely by its path.
//!
//! Shells open files without `O_NONBLOCK` and `O_NOFOLLOW`. In a directory in which other users have files, that can block for as long as
//! another user wants: the owner of the file can take a lease on it (fcntl(2)), or put a FIFO in its place after bash has examined
//! the path. So the helper opens the file, and a process of its own keeps it open:
//!
//! 1. The helper opens the file with [`open_lock_file`](super::open::open_lock_file), which does not block.
//! 2. A detached process inherits the descriptor, and prints `/proc/PID/fd/N`, its own link to the file. The kernel refuses a lease
//!    on a file that another process has open for writing, and this link always leads to the same file.
//! 3. The script opens the link, and ends the process.
//!
//! If the script does not end that process, it ends when the script ends, or after ten seconds. A script that finds no link asks again.

use crate::os;
use crate::os::proc::process;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The time after which an offer ends.
const OFFER_LIMIT: Duration = Duration::from_secs(10);

/// Prints the redirection with which the script should open `file`, which is open from `path`: `<> PATH` or `< PATH`.
///
/// Where `/proc` does not show this process, there can be no such link, and the script opens `path` itself.
pub fn offer_file(file: File, path: &Path, script: u32) -> io::Result<()> {
    let mut out = os::second_descriptor(1).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    if !process::has_our_numbers() {
        // In a sticky directory, `fs.protected_regular` refuses `<>`, which has `O_CREAT`, for a file of another user.
        let is_own = file.metadata()?.uid() == os::user_id();
        let mode = if is_own && os::is_writable(&file) { "<>" } else { "<" };
        return out.write_all(&[mode.as_bytes(), b" ", path.as_os_str().as_bytes(), b"\n"].concat());
    }
    let start = process::start_time(script);
    os::detached(&[], move || {
        // Otherwise, the script could not open the link if it may not read the program of the helper.
        os::let_user_inspect();
        os::close_inherited_except(&[file.as_raw_fd(), out.as_raw_fd()]);
        let mode = if os::is_writable(&file) { "<>" } else { "<" };
        let printed = writeln!(out, "{mode} /proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let script = start.and_then(|start| os::Process::open(script, start));
        // Now the script reads the line.
        drop(out);
        // `None`: the script has ended.
        if let (Ok(()), Some(script)) = (printed, &script) {
            os::wait_for_any(&[script], OFFER_LIMIT);
        }
    })
}
