//! A record that is prepared before its lock is granted.

use super::format::Record;
use super::value::is_kept_whole;
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::path::Path;

/// What a record says of the process for which a lock is taken: all that is known before.
#[derive(Debug)]
pub struct Taker {
    pid: u32,
    tick: u64,
    boot: String,
    host: String,
    ns: u64,
    user: String,
    command: String,
}

impl Taker {
    /// Process `pid`, whose command line is, or will be, `command`; `None`: what it is now.
    #[must_use]
    pub fn new(pid: u32, command: Option<&str>) -> Self {
        let command = command.map_or_else(|| process::command_line(pid), str::to_owned);
        Self::describe(pid, command, process::pid_namespace())
    }

    /// Our parent, process `pid`. We have no number for one of another namespace, so its is ours; and to look where its command
    /// line is costs less than to look elsewhere, too.
    #[must_use]
    pub fn parent(pid: u32) -> Self {
        let here = process::has_our_numbers();
        let command = if here { process::command_line(pid) } else { String::new() };
        let ns = if here { process::namespace_of(pid) } else { None };
        Self::describe(pid, command, ns.unwrap_or_else(process::pid_namespace))
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

/// A record in the making: all of it but what is known only once the lock is had. Another waits for what is done then.
#[derive(Debug)]
pub struct RecordDraft {
    record: Record,
    /// The text so far.
    head: String,
}

impl RecordDraft {
    /// A record for `taker`, for whom this process takes the lock.
    #[must_use]
    pub fn new(taker: Taker, mode: Mode, who: Option<&str>, pid_file: Option<&Path>) -> Self {
        let Taker { pid, tick, boot, host, ns, user, command } = taker;
        let record = Record {
            pid,
            tick,
            boot,
            host,
            ns,
            user,
            since: String::new(),
            command,
            who: who.map(str::to_owned),
            // Part of a path would be another path.
            pid_file: pid_file.and_then(Path::to_str).filter(|path| is_kept_whole(path)).map(str::to_owned),
            mode,
            locker: std::process::id(),
            lease: None,
            token: 0,
        };
        Self { head: record.head(), record }
    }

    /// The record, and its text: the lock is had since now, with this token.
    #[must_use]
    pub fn finish(self, token: u64) -> (Record, String) {
        let record = Record { since: format!("{:.0}", jiff::Timestamp::now()), token, ..self.record };
        let text = record.text_after(self.head);
        (record, text)
    }
}
