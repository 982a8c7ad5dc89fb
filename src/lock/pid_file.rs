//! Pid files: the pid of the process that holds a lock, for tools that read such a file (`lock --pid-file`).
//!
//! A pid file only names the process for which it was written. It is removed by the helper or the keeper that waits for
//! its command, or by the shell library when it releases the lock or its script ends. If the remover is killed with
//! SIGKILL, the file remains, and the pid may be reused. [`clean_pid_file`] removes such a file.

use crate::lock::clean::{Fate, KeepReason};
use crate::lock::error::LockError;
use crate::os::proc::process;
use crate::os::{self, replace, word_for};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Maximum length of a pid file, in bytes.
const MAX_LEN: u64 = 32;

/// A process that was started later than its file by more than this time is another process. The two times come from
/// different clocks.
const MARGIN: Duration = Duration::from_secs(2);

/// Writes `pid` into the file at `path`. Only a regular file is replaced: a link may lead to a file that must not
/// change, and a device or a FIFO must not be removed. The file of another process that may still run is not replaced.
pub fn write_pid_file(path: &Path, pid: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if !data.is_file() => {
            let kind = word_for(data.file_type());
            return Err(io::Error::other(format!("it is a {kind}, not a regular file")));
        }
        _ => {}
    }
    let named = open(path).ok().and_then(|file| Some((read_pid(&file)?, file.metadata().ok()?.modified().ok())));
    if let Some((other, written)) = named
        && other != pid
        && process::has_our_numbers()
        && may_run(other, written)
    {
        return Err(io::Error::other(format!("it names pid {other}, which is running")));
    }
    replace::replace_file(path, format!("{pid}\n").as_bytes())
}

/// Removes the file at `path` if it names process `pid`. Must be called before the lock is released, because after that
/// the file may belong to the next holder.
pub fn remove_pid_file(path: &Path, pid: u32) {
    if open(path).ok().and_then(|file| read_pid(&file)) == Some(pid) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the file at `path` if the process that it names has ended.
#[must_use]
pub fn clean_pid_file(path: &Path, dry_run: bool) -> Fate {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Left(KeepReason::Missing),
        Err(source) => {
            return match fs::symlink_metadata(path) {
                Ok(data) if !data.is_file() => Fate::Left(KeepReason::NotRegular(word_for(data.file_type()))),
                _ => Fate::Failed(LockError::Examine { path: path.to_owned(), source }),
            };
        }
    };
    let (Some(pid), Ok(data)) = (read_pid(&file), file.metadata()) else { return Fate::Left(KeepReason::ForeignData) };
    if !process::has_our_numbers() {
        return Fate::Left(KeepReason::ProcessUnknown);
    }
    if may_run(pid, data.modified().ok()) {
        return Fate::Left(KeepReason::Running(pid));
    }
    if dry_run {
        return Fate::Removed;
    }
    // The file may have been replaced since it was opened.
    match fs::symlink_metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (data.dev(), data.ino()) => {}
        _ => return Fate::Left(KeepReason::Replaced),
    }
    fs::remove_file(path)
        .map_or_else(|source| Fate::Failed(LockError::Remove { path: path.to_owned(), source }), |()| Fate::Removed)
}

/// Returns true if the process for which the file was written may still run.
fn may_run(pid: u32, written: Option<SystemTime>) -> bool {
    if !os::exists(pid) {
        return false;
    }
    let Some(seen) = process::read_stat(pid) else {
        // A zombie has a start time. It does not run, although its parent may never wait for it.
        return process::start_time(pid).is_none();
    };
    // If a process was started after the file was written, the pid was reused.
    let since = written.and_then(|written| written.elapsed().ok());
    !matches!((seen.age(), since), (Some(age), Some(since)) if age + MARGIN < since)
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Reads the pid from the file. `None`: the file contains something else.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_LEN).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}
