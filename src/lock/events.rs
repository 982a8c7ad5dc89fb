//! The event log: what became of each lock that was asked for, a line of JSON an event, for those who run this in
//! production. Off unless `ABA_LOCK_LOG` names a file or a socket ([`crate::base::environment::event_log`]), and free then.
//!
//! What is promised:
//!
//! - A line is written with one call, at the end of the file (`O_APPEND`), and has at most [`MAX_LINE`] bytes, newline
//!   included: what several write does not mix. Long texts in it are cut, and end in `…`.
//! - The file is opened for each line, so it may be renamed at any time; whoever comes next makes a new one, for its
//!   user alone (0600). One that is there is used as it is, behind links, too: the user named it.
//! - No file is made in `/dev`, nor in the place of the socket of `syslog` or `journald`.
//! - Nothing waits for a reader: a FIFO without one, or a full socket, loses the line.
//! - That a line cannot be written never changes what becomes of a lock: [`take_failure`] tells of it, once.
//!
//! What is not: a line for all that happens. A lock whose script or command just ends, or is killed, is released by the
//! kernel, and nobody is there to write that; nor is a wait told of that a signal ended. A full disk may cut a line.
//!
//! A socket gets datagrams, as syslog(3) sends them but without the time, which its reader knows.

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::base::environment::{EventLog, event_log};
use crate::base::target::Target;
use crate::lock::holders;
use crate::lock::record::{self, Content};
use crate::lock::request::{Acquired, Request};
use crate::os::proc::{lock_table, process};
use crate::os::{self, Mode};
use crate::store;
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most bytes of a line: what goes into a FIFO in one piece, too.
pub const MAX_LINE: usize = 4096;

/// The most bytes of a text in a line, at first.
const MAX_TEXT: usize = 1024;

/// user.notice, as logger(1) has it.
const PRIORITY: u8 = 13;

/// What became of a lock.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Another has it.
    Contended {
        /// Whether we wait for it, or give up at once.
        waits: bool,
    },
    /// It was acquired.
    Acquired {
        /// After how long.
        waited: Duration,
        /// How.
        mode: Mode,
        /// With which fencing token.
        token: u64,
    },
    /// Another still had it when the time was up.
    TimedOut {
        /// After how long.
        waited: Duration,
    },
    /// To wait for it would have no end.
    Deadlock {
        /// Who waits for whom.
        circle: &'a str,
    },
    /// The lock file that was opened is not the one that the name leads to any more: it is opened again.
    Replaced,
    /// It was released, by us and not by the end of its holder.
    Released {
        /// After how long, if that is known.
        held: Option<Duration>,
    },
}

impl Event<'_> {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Contended { .. } => "contended",
            Self::Acquired { .. } => "acquired",
            Self::TimedOut { .. } => "timed_out",
            Self::Deadlock { .. } => "deadlock",
            Self::Replaced => "replaced",
            Self::Released { .. } => "released",
        }
    }
}

/// What is to be told of lines that could not be written.
enum Failure {
    None,
    /// The first of them: the log, and why.
    First(PathBuf, io::Error),
    Told,
}

static FAILURE: Mutex<Failure> = Mutex::new(Failure::None);

/// Whether to look there: each call asks, and most need not write to that page.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Why the log could not be written to, if it could not, and where it is. Only once.
pub fn take_failure() -> Option<(PathBuf, io::Error)> {
    if !FAILED.load(Ordering::Acquire) {
        return None;
    }
    let mut failure = FAILURE.lock().ok()?;
    match mem::replace(&mut *failure, Failure::Told) {
        Failure::First(log, error) => Some((log, error)),
        Failure::None | Failure::Told => None,
    }
}

/// Writes the line of an event, if that is wanted: of the lock `target`, which `holder` has or asks for, a process whose
/// command line is, or will be, `command`.
pub fn note(event: &Event, target: &Target, holder: u32, command: Option<&str>) {
    if let Some(log) = event_log() {
        let command = command.map_or_else(|| process::command_line_of_ours(holder), str::to_owned);
        // A name is enough to know a lock of ours; a file has none but its path.
        let path = target.path.to_string_lossy();
        let label = target.name().unwrap_or(&path);
        write(&log, event, label, &target.path, holder, &command);
    }
}

/// The same for the locks of `acquired` that were taken now, asked for at `started`.
pub(crate) fn acquired(acquired: &Acquired, request: &Request, command: &str, started: Instant) {
    if event_log().is_none() {
        return;
    }
    let event = Event::Acquired { waited: started.elapsed(), mode: request.mode, token: acquired.token };
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        note(&event, &guard.target, request.holder, Some(command));
    }
}

/// The same for the locks of `acquired` that were taken now and are released again by us.
pub fn released(acquired: &Acquired, request: &Request, held: Duration) {
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        note(&Event::Released { held: Some(held) }, &guard.target, request.holder, request.command.as_deref());
    }
}

/// The same for the lock that `file` has, which is about to be released for its script.
pub(crate) fn releases(file: &File) {
    let Some(log) = event_log() else { return };
    let Some(lock) = lock_table::lock_of_descriptor(file.as_raw_fd()) else { return };
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    // The kernel says so of a file that was removed.
    let bytes = path.as_os_str().as_bytes();
    let path = PathBuf::from(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)));
    let label = store::name_of(&path).map_or_else(|| path.to_string_lossy().into_owned(), |name| name.to_string());
    // Another's word, or one of an earlier holder, is not to be believed.
    let record = match record::read(file) {
        Content::Record(record) if record.locker == lock.locker => Some(record),
        _ => None,
    };
    let holder = record.as_ref().map_or_else(os::parent_id, |record| record.pid);
    let command =
        record.as_ref().map_or_else(|| process::command_line_of_ours(holder), |record| record.command.clone());
    let held = record.and_then(|record| record.age());
    write(&log, &Event::Released { held }, &label, &path, holder, &command);
}

fn write(log: &EventLog, event: &Event, label: &str, path: &Path, holder: u32, command: &str) {
    if let Err(error) = put(log, &line_that_fits(event, label, path, holder, command))
        && let Ok(mut failure) = FAILURE.lock()
        && matches!(*failure, Failure::None)
    {
        *failure = Failure::First(log.path.clone(), error);
        FAILED.store(true, Ordering::Release);
    }
}

fn line_that_fits(event: &Event, label: &str, path: &Path, holder: u32, command: &str) -> String {
    let (mut most, time) = (MAX_TEXT, format!("{:.3}", jiff::Timestamp::now()));
    let other = match event {
        Event::Contended { .. } => other(path),
        _ => None,
    };
    loop {
        let line = line(event, &time, label, path, holder, command, other.as_ref(), most);
        if line.len() < MAX_LINE || most == 0 {
            return line;
        }
        most /= 2;
    }
}

/// Who has the lock that another asks for.
fn other(path: &Path) -> Option<(u32, String)> {
    let holding = holders::briefly(path).holding?;
    let first = holding.holders.into_iter().next().map(|holder| (holder.pid, holder.command));
    first.or_else(|| holding.record.map(|(record, _)| (record.pid, record.command)))
}

#[expect(clippy::too_many_arguments, reason = "each is a field of the line")]
fn line(
    event: &Event,
    time: &str,
    label: &str,
    path: &Path,
    holder: u32,
    command: &str,
    other: Option<&(u32, String)>,
    most: usize,
) -> String {
    let mut line = String::from("{");
    let mut put = |key: &str, value: Value| {
        let comma = if line.len() > 1 { "," } else { "" };
        let _ = write!(line, "{comma}\"{key}\":{value}");
    };
    put("time", time.into());
    put("event", event.as_str().into());
    put("lock", cut(label, most).into());
    put("path", cut(&path.to_string_lossy(), most).into());
    put("pid", holder.into());
    put("user", process::user_name(os::user_id()).into());
    put("command", cut(command, most).into());
    match event {
        Event::Contended { waits } => {
            put("waits", (*waits).into());
            if let Some((pid, command)) = other {
                put("holder_pid", (*pid).into());
                put("holder_command", cut(command, most).into());
            }
        }
        Event::Acquired { waited, mode, token } => {
            put("waited_seconds", seconds(*waited));
            put("mode", mode.as_str().into());
            put("token", (*token).into());
        }
        Event::TimedOut { waited } => put("waited_seconds", seconds(*waited)),
        Event::Deadlock { circle } => put("circle", cut(circle, most).into()),
        Event::Released { held: Some(held) } => put("held_seconds", seconds(*held)),
        Event::Released { held: None } | Event::Replaced => {}
    }
    line.push('}');
    line
}

fn seconds(span: Duration) -> Value {
    ((span.as_secs_f64() * 1000.0).round() / 1000.0).into()
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

fn put(log: &EventLog, line: &str) -> io::Result<()> {
    match open(log, Missing::Make) {
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
enum Missing {
    Make,
    Refuse,
}

fn open(log: &EventLog, missing: Missing) -> io::Result<File> {
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
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {
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
pub fn can_write(log: &EventLog) -> io::Result<()> {
    let path = &log.path;
    match open(log, Missing::Refuse) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_never_longer_than_what_is_written_in_one_piece() {
        // Each quote becomes two bytes, and each control character six.
        for wild in ["\"", "\u{1}", "é", "x"] {
            let long = wild.repeat(5000);
            let file = tempfile::NamedTempFile::new().unwrap();
            let event_log = EventLog { path: file.path().to_owned(), is_socket: false };
            write(&event_log, &Event::Contended { waits: true }, &long, Path::new(&long), 1, &long);
            let text = fs::read_to_string(file.path()).unwrap();
            assert!(text.len() <= MAX_LINE && text.ends_with("}\n"), "{}", text.len());
            let read: Value = serde_json::from_str(&text).unwrap();
            assert!(read["command"].as_str().unwrap().ends_with('…'));
        }
    }
}
