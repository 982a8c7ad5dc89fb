//! Pid files: the number of the process that holds a lock, for tools that read such a file.
//!
//! A pid file says only which process it was written for. It is removed at the end by the process that sees the end: by the
//! helper that waits for its command, or by the shell library when it releases the lock or its script ends. If that process
//! is killed with SIGKILL, the file stays, and its number may become that of another process; [`clean`] removes such a file.

use crate::lock::clean::{Fate, Why};
use crate::lock::error::LockError;
use crate::os::proc::process;
use crate::os::{self, replace, word_for};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The most bytes of a pid file.
const MAX_LEN: u64 = 32;

/// How much later than its file a process must have been started to be another: the two times come from different clocks.
const MARGIN: Duration = Duration::from_secs(2);

/// Writes the number of process `pid` into the file at `path`. Only a regular file is replaced: a link there may have been
/// planted, and a device or a FIFO is none of ours to remove.
pub fn write(path: &Path, pid: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if !data.is_file() => {
            let kind = word_for(data.file_type());
            return Err(io::Error::other(format!("it is a {kind}, not a regular file")));
        }
        _ => {}
    }
    replace::replace_file(path, format!("{pid}\n").as_bytes())
}

/// Removes the file at `path` if it names process `pid`. To be called before the lock is released: after that it may be the
/// file of the next holder.
pub fn remove(path: &Path, pid: u32) {
    if open(path).ok().and_then(|file| number(&file)) == Some(pid) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the file at `path` if the process that it names has ended.
#[must_use]
pub fn clean(path: &Path, dry_run: bool) -> Fate {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Left(Why::Missing),
        Err(source) => {
            return match fs::symlink_metadata(path) {
                Ok(data) if !data.is_file() => Fate::Left(Why::NotRegular(word_for(data.file_type()))),
                _ => Fate::Failed(LockError::Look { path: path.to_owned(), source }),
            };
        }
    };
    let (Some(pid), Ok(data)) = (number(&file), file.metadata()) else { return Fate::Left(Why::Foreign) };
    if !process::has_our_numbers() {
        return Fate::Left(Why::NotSeen);
    }
    if runs(pid, data.modified().ok()) {
        return Fate::Left(Why::Running(pid));
    }
    if dry_run {
        return Fate::Removed;
    }
    // It may have been replaced in between.
    match fs::symlink_metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (data.dev(), data.ino()) => {}
        _ => return Fate::Left(Why::Changed),
    }
    fs::remove_file(path)
        .map_or_else(|source| Fate::Failed(LockError::Remove { path: path.to_owned(), source }), |()| Fate::Removed)
}

/// Returns true if process `pid`, for which the file was written, runs. If it cannot be seen, it may.
fn runs(pid: u32, written: Option<SystemTime>) -> bool {
    if !os::exists(pid) {
        return false;
    }
    let Some(seen) = process::read_stat(pid) else {
        // A zombie has a start time. Its parent may never wait for it.
        return process::start_time(pid).is_none();
    };
    // A process that was started after the file was written got the number of one that has ended.
    let since = written.and_then(|written| written.elapsed().ok());
    !matches!((seen.age(), since), (Some(age), Some(since)) if age + MARGIN < since)
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The number in the file, if there is nothing else in it.
fn number(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_LEN).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}
