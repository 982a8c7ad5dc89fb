//! A record that is built before its lock is granted, so that this work does not delay the next waiter.

use super::format::Record;
use super::value::is_kept_whole;
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::path::Path;
use std::time::Duration;

/// The process for which a lock will be acquired, as a record describes it.
#[derive(Debug)]
pub struct Taker {
    pid: u32,
    tick: u64,
    boot: &'static str,
    host: &'static str,
    ns: u64,
    user: String,
    command: String,
}

impl Taker {
    /// Describes process `pid`, whose command line will be `command`. `None`: the one that it has now.
    #[must_use]
    pub fn new(pid: u32, command: Option<&str>) -> Self {
        let command = command.map_or_else(|| process::command_line(pid), str::to_owned);
        Self::describe(pid, command, process::pid_namespace())
    }

    /// Describes our parent, process `pid`. It is in our pid namespace, because a parent in another one has no pid here. The
    /// namespace is read from the directory of the parent, because its command line is there, too, and that costs less.
    #[must_use]
    pub fn parent(pid: u32) -> Self {
        let here = process::has_our_numbers();
        let command = if here { process::command_line(pid) } else { String::new() };
        let ns = if here { process::namespace_of(pid) } else { None };
        Self::describe(pid, command, ns.unwrap_or_else(process::pid_namespace))
    }

    /// Describes this process, which has noted itself before as `noted`: only the facts that can change are read anew.
    #[must_use]
    pub(crate) fn again(noted: &Self) -> Self {
        Self {
            pid: noted.pid,
            tick: os::ticks_since_boot(),
            boot: noted.boot,
            host: noted.host,
            ns: noted.ns,
            user: noted.user.clone(),
            command: noted.command.clone(),
        }
    }

    fn describe(pid: u32, command: String, ns: u64) -> Self {
        Self {
            pid,
            tick: os::ticks_since_boot(),
            boot: process::boot_id(),
            host: os::host_name(),
            ns,
            user: process::user_name(os::user_id()),
            command,
        }
    }
}

/// A record without the facts that are only known after the grant: the time and the token.
#[derive(Debug)]
pub struct RecordDraft {
    record: Record,
    /// The lines that are known.
    head: String,
}

impl RecordDraft {
    /// Begins a record for `taker`, for which this process acquires the lock.
    #[must_use]
    pub fn new(taker: Taker, mode: Mode, who: Option<&str>, pid_file: Option<&Path>) -> Self {
        let Taker { pid, tick, boot, host, ns, user, command } = taker;
        let record = Record {
            pid,
            tick,
            boot: boot.to_owned(),
            host: host.to_owned(),
            ns,
            user,
            since: String::new(),
            command,
            key: None,
            who: who.map(str::to_owned),
            // A path that is cut would name another file.
            pid_file: pid_file.and_then(Path::to_str).filter(|path| is_kept_whole(path)).map(str::to_owned),
            mode,
            locker: std::process::id(),
            max_time: None,
            lease: None,
            token: 0,
        };
        Self { head: record.head(), record }
    }

    /// Adds the maximum time for which the lock is held.
    #[must_use]
    pub fn with_max_time(self, max_time: Option<Duration>) -> Self {
        let record = Record { max_time, ..self.record };
        Self { head: record.head(), record }
    }

    /// Adds the text from which the name of the lock was derived.
    #[must_use]
    pub(crate) fn with_key(self, key: Option<String>) -> Self {
        let record = Record { key, ..self.record };
        Self { head: record.head(), record }
    }

    /// Completes the record of a lock that was granted now, with this token. Returns the record and its text.
    #[must_use]
    pub fn finish(self, token: u64) -> (Record, String) {
        let record = Record { since: format!("{:.0}", jiff::Timestamp::now()), token, ..self.record };
        let text = record.text_after(self.head);
        (record, text)
    }
}
