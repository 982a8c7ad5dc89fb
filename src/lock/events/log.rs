//! The file or socket to which events are written.

use crate::base::environment::EventLog;
use crate::os;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// user.notice, as logger(1) has it.
const PRIORITY: u8 = 13;

/// What is to be told of lines that could not be written.
enum LogFailure {
    None,
    /// The first of them: the log, and why.
    First(PathBuf, io::Error),
    Told,
}

static FAILURE: Mutex<LogFailure> = Mutex::new(LogFailure::None);

/// Whether to look there: each call asks, and most need not write to that page.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Why the log could not be written to, if it could not, and where it is. Only once.
pub fn take_failure() -> Option<(PathBuf, io::Error)> {
    if !FAILED.load(Ordering::Acquire) {
        return None;
    }
    let mut failure = FAILURE.lock().ok()?;
    match mem::replace(&mut *failure, LogFailure::Told) {
        LogFailure::First(log, error) => Some((log, error)),
        LogFailure::None | LogFailure::Told => None,
    }
}

pub(super) fn write_line(log: &EventLog, line: &str) {
    if let Err(error) = put(log, line)
        && let Ok(mut failure) = FAILURE.lock()
        && matches!(*failure, LogFailure::None)
    {
        *failure = LogFailure::First(log.path.clone(), error);
        FAILED.store(true, Ordering::Release);
    }
}

fn put(log: &EventLog, line: &str) -> io::Result<()> {
    match open(log, MissingLog::Make) {
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

/// What to do where there is no file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MissingLog {
    Make,
    Refuse,
}

fn open(log: &EventLog, missing: MissingLog) -> io::Result<File> {
    let path = &log.path;
    if path.is_relative() {
        // From two working directories it would be two files.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute path"));
    }
    let mut options = OpenOptions::new();
    // O_NONBLOCK: nothing here waits for a reader. O_NOCTTY: a terminal is not to become ours.
    options.append(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && log.is_socket => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_in_dev(path) => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "there is no such device, and no file is made in /dev",
            ));
        }
        // Only now with O_CREAT, which `fs.protected_regular` refuses for another's file in a sticky directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == MissingLog::Make => {
            options.create(true);
            os::as_owner(path.parent().unwrap_or(path), || options.open(path))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_fifo(path) => {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "no process reads this FIFO"));
        }
        opened => opened,
    };
    let file = opened?;
    if file.metadata()?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a block device is no log"));
    }
    if log.is_socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
    }
    Ok(file)
}

/// Returns true if a file made at `path` would be in `/dev`, where a program would take it for a device or a socket. `/dev/shm`
/// is meant for files.
fn is_in_dev(path: &Path) -> bool {
    let mut path = path.to_owned();
    // As many links as the kernel follows.
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

/// Whether lines could be written to `log` now. Nothing is written or made.
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
