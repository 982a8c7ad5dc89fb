//! The numbers of runs that a lock file keeps for `--coalesce`, and the next run, if callers that have ended rely on it.
//!
//! They are attributes of the file (`user.*`, see xattr(7)). A record cannot hold them: a caller without the option writes a record
//! of its own, and a file of the user has none. An attribute changes no content, and costs such a caller nothing.
//!
//! `status`, `list` and `clean` read them. [`coalesce`](super::coalesce) writes them, and describes the protocol.

use crate::lock::peer;
use crate::os::proc::process;
use crate::os::{self, Mode, bytes};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;
use xattr::FileExt;

/// One of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunNumber {
    /// The number of runs that have begun.
    Started,
    /// The number of the run on which callers rely that have ended.
    Needed,
    /// The number of the last successful run among those with `--coalesce=strict`.
    Completed,
}

impl RunNumber {
    fn attribute(self) -> &'static OsStr {
        OsStr::new(match self {
            Self::Started => "user.aba-lock.started",
            Self::Needed => "user.aba-lock.needed",
            Self::Completed => "user.aba-lock.completed",
        })
    }

    /// Returns the number that the file has, or 0.
    pub(super) fn read(self, file: &File) -> io::Result<u64> {
        Ok(parse(file.get_xattr(self.attribute())?.as_deref()))
    }

    fn read_path(self, path: &Path) -> io::Result<u64> {
        Ok(parse(xattr::get(path, self.attribute())?.as_deref()))
    }

    pub(super) fn write(self, file: &File, number: u64) -> io::Result<()> {
        file.set_xattr(self.attribute(), number.to_string().as_bytes())
    }
}

/// The attribute that names the process that waits for the next run: its pid, and the pid namespace in which it has that pid.
const WAITER: &str = "user.aba-lock.waiter";

/// Names this process as the one that waits for the next run. It holds [`bytes::NEXT_RUN`].
pub(super) fn write_waiter(file: &File) -> io::Result<()> {
    file.set_xattr(WAITER, format!("{} {}", std::process::id(), process::pid_namespace()).as_bytes())
}

/// Returns the pid of the process that waits for the next run, while one holds [`bytes::NEXT_RUN`]. `None`: it is in another pid
/// namespace.
pub(super) fn read_waiter(file: &File) -> Option<u32> {
    let value = file.get_xattr(WAITER).ok().flatten()?;
    let (pid, namespace) = str::from_utf8(&value).ok()?.split_once(' ')?;
    if namespace.parse() == Ok(process::pid_namespace()) { pid.parse().ok() } else { None }
}

/// Other users may be able to write the attribute, so a value that is no number counts as 0.
fn parse(value: Option<&[u8]>) -> u64 {
    value.and_then(|value| str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

/// A run that has not started, and on which callers rely that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromisedRun {
    /// A process waits to start it. `None`: the pid cannot be seen from this pid namespace.
    Awaited(Option<u32>),
    /// Its waiter has ended. The next call with `--coalesce` that acquires the lock runs.
    Owed,
}

/// Returns the promised run of the lock file at `path`, if there is one. `is_free` is true if no process holds the lock.
#[must_use]
pub fn find_promised_run(path: &Path, is_free: bool) -> Option<PromisedRun> {
    let find = || {
        if !has_promised_run_at(path) {
            return None;
        }
        let file = os::open_unblocked(path).ok()?;
        let waiter = os::range_in_the_way(&file, Mode::Exclusive, bytes::NEXT_RUN, 1).ok()?;
        Some(waiter.map_or(PromisedRun::Owed, |_| PromisedRun::Awaited(read_waiter(&file))))
    };
    let found = find();
    if found == Some(PromisedRun::Owed) && !is_free {
        // The holder of the lock may be the waiter of the run: it releases its byte before it counts the run as started.
        thread::sleep(Duration::from_millis(3));
        return find();
    }
    found
}

/// Returns the pid and the command line of the process for which `waiter` waits: its script, if it is the helper of one.
#[must_use]
pub fn describe_waiter(waiter: u32) -> (u32, String) {
    let pid = peer::find_script(waiter).unwrap_or(waiter);
    (pid, process::command_line(pid))
}

/// Returns true if callers that have ended rely on a run that has not started. If no process waits to start it, the run is owed.
pub(super) fn has_promised_run(file: &File) -> bool {
    compare_numbers(|number| number.read(file))
}

/// Does the same as [`has_promised_run`] for the file at `path`.
pub(super) fn has_promised_run_at(path: &Path) -> bool {
    compare_numbers(|number| number.read_path(path))
}

fn compare_numbers(read: impl Fn(RunNumber) -> io::Result<u64>) -> bool {
    let needed = read(RunNumber::Needed).unwrap_or(0);
    needed > 0 && needed > read(RunNumber::Started).unwrap_or(0)
}
