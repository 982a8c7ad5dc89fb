//! Writes lines to the event log: a file or a socket, or the log of a state root. A failure never disturbs the caller: the first one is kept, and
//! each program reports it before it ends ([`take_failure`]), unless several users share the directory of the log.
//!
//! `report` passes the lines to [`write_line`]; `doctor` calls [`check_writable`].

use super::rotation::append_line;
use crate::base::environment::EventLog;
use crate::os;
use crate::os::replace::parent_directory;
use crate::store::creation::DirectoryUsers;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The priority user.notice, as logger(1) uses it.
const PRIORITY: u8 = 13;

/// The place to which a line goes.
#[derive(Debug)]
pub(super) enum LogPlace {
    /// The one that `ABA_LOCK_LOG` names.
    Named(EventLog),
    /// The log of a state root, at this path.
    Root(PathBuf),
}

/// The first failure to write a line, until it is reported.
enum LogFailure {
    None,
    /// The path of the log, and the reason.
    First(PathBuf, io::Error),
    /// [`take_failure`] has returned it. Later failures are ignored.
    Taken,
}

static FAILURE: Mutex<LogFailure> = Mutex::new(LogFailure::None);

/// True after the first failure. Every run of a program reads this flag. Locking [`FAILURE`] instead would write to its
/// memory page, which costs a page fault.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Returns the path of the log, and the reason why a line could not be written. Only the first failure is returned, and only
/// once.
pub fn take_failure() -> Option<(PathBuf, io::Error)> {
    if !FAILED.load(Ordering::Acquire) {
        return None;
    }
    let mut failure = FAILURE.lock().ok()?;
    match mem::replace(&mut *failure, LogFailure::Taken) {
        LogFailure::First(log, error) => Some((log, error)),
        LogFailure::None | LogFailure::Taken => None,
    }
}

/// Writes a line, and keeps the first failure for [`take_failure`], unless another user could have caused it.
pub(super) fn write_line(place: &LogPlace, line: &str) {
    let (path, written) = match place {
        LogPlace::Named(log) => (&log.path, append(log, line)),
        LogPlace::Root(log) => (log, append_line(log, format!("{line}\n").as_bytes()).map(drop)),
    };
    if let Err(error) = written
        && !matches!(place, LogPlace::Root(log) if is_shared(log))
        && let Ok(mut failure) = FAILURE.lock()
        && matches!(*failure, LogFailure::None)
    {
        *failure = LogFailure::First(path.clone(), error);
        FAILED.store(true, Ordering::Release);
    }
}

/// Returns true if several users may write to the directory of the log of a state root. Any of them could make each call of the others
/// complain, so only `doctor` and `log` do that.
fn is_shared(log: &Path) -> bool {
    DirectoryUsers::of_directory(parent_directory(log)).is_ok_and(|users| users != DirectoryUsers::Owner)
}

fn append(log: &EventLog, line: &str) -> io::Result<()> {
    match open(log, MissingLog::Create) {
        Ok(file) => {
            let line = format!("{line}\n");
            match os::write_once(&file, line.as_bytes())? {
                written if written == line.len() => Ok(()),
                _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            }
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_socket(&log.path) => {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            let text = format!("<{PRIORITY}>aba-lock[{}]: {line}", std::process::id());
            socket.send_to(text.as_bytes(), &log.path).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// The action if the log file does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MissingLog {
    Create,
    Refuse,
}

fn open(log: &EventLog, missing: MissingLog) -> io::Result<File> {
    let path = &log.path;
    if path.is_relative() {
        // A relative path would name another file in each working directory.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path"));
    }
    let mut options = OpenOptions::new();
    // O_NONBLOCK: opening a FIFO must not wait for a reader. O_NOCTTY: a terminal must not become the one
    // that controls this process.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options.append(true).mode(0o600).custom_flags(flags | libc::O_NOFOLLOW);
    let mut first = options.open(path);
    if matches!(&first, Err(error) if error.raw_os_error() == Some(libc::ELOOP)) {
        os::refuse_planted_link(path)?;
        first = options.custom_flags(flags).open(path);
    }
    let opened = match first {
        Err(error) if error.kind() == io::ErrorKind::NotFound && log.is_socket => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_in_dev(path) => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such device; aba-lock creates no file in /dev"));
        }
        // O_CREAT is set only for a missing file: in a sticky directory, `fs.protected_regular` refuses it for an existing
        // file of another user.
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingLog::Create => {
            options.create(true);
            os::as_owner(path.parent().unwrap_or(path), || options.open(path))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_fifo(path) => {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "no process reads this FIFO"));
        }
        opened => opened,
    };
    let file = opened?;
    let data = file.metadata()?;
    os::refuse_planted_name(path, &data)?;
    if data.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a block device"));
    }
    if log.is_socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
    }
    Ok(file)
}

/// Returns true if a file created at `path` would be in `/dev`, where programs would take it for a device or a socket. `/dev/shm`
/// is meant for files.
fn is_in_dev(path: &Path) -> bool {
    let mut path = path.to_owned();
    // The kernel follows at most 40 links, too.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    let directory = path.parent().and_then(|directory| fs::canonicalize(directory).ok()).unwrap_or(path);
    directory.starts_with("/dev") && !directory.starts_with("/dev/shm")
}

fn is_fifo(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo())
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

/// Checks that a line could be written to `log` now. Writes and creates nothing.
pub fn check_writable(log: &EventLog) -> io::Result<()> {
    let path = &log.path;
    match open(log, MissingLog::Refuse) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            os::may(os::Right::MakeIn, path.parent().unwrap_or(Path::new("/")))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_socket(path) => {
            UnixDatagram::unbound()?.connect(path)
        }
        Err(error) => Err(error),
    }
}
