//! An event of a lock, and its line in the log.

use crate::lock::error::CoveredBy;
use crate::lock::holders::{self, ranges};
use crate::lock::kill;
use crate::lock::promise;
use crate::lock::record::cut;
use crate::os::proc::process;
use crate::os::{self, Mode, Slot};
use crate::store;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The maximum number of bytes of a line. A FIFO takes this many in one piece, too (`PIPE_BUF`).
pub const MAX_LINE: usize = 4096;

/// The maximum number of bytes of a text in a line. If the line is still too long, the texts are cut further.
const MAX_TEXT: usize = 1024;

/// An event in the life of a lock.
#[derive(Debug, Clone, Copy)]
pub enum LockEvent<'a> {
    /// Another process holds the lock.
    Contended {
        /// True if the caller waits, false if it gives up at once.
        waits: bool,
        /// True if the caller gives up at once, and takes that for a success (`--skip-ok`).
        is_skipped: bool,
    },
    Acquired {
        waited: Duration,
        mode: Mode,
        slot: Option<Slot>,
        token: u64,
    },
    /// Another process still held the lock when the time limit passed.
    TimedOut {
        waited: Duration,
        /// True if the caller takes that for a success (`--skip-ok`).
        is_skipped: bool,
    },
    /// The lock is free, after a wait of a process that did not ask for it.
    Free {
        waited: Duration,
    },
    /// The maximum time for which the lock may be held is over, so its holders are signalled.
    Expired {
        held: Duration,
        limit: Duration,
    },
    /// The wait would never have ended.
    Deadlock {
        /// The processes that wait for each other.
        circle: &'a str,
    },
    /// A run after this call makes one of the caller unnecessary, so the caller ends without the lock.
    Covered {
        by: CoveredBy,
    },
    /// The caller has signalled this holder to replace it (`--replace`).
    TakenOver {
        pid: u32,
        command: &'a str,
    },
    /// A newer caller with `--replace` takes the lock, so this one gives up.
    Superseded {
        waited: Duration,
    },
    /// The path leads to another file than the one that was opened, so the file is opened again.
    Replaced,
    /// The command for which the lock was acquired has ended, and a process that it started still holds the lock.
    Inherited {
        held: Duration,
        status: i32,
        /// One of the processes that still hold the lock, and its command line. `None`: they cannot be seen from here.
        holder: Option<(u32, &'a str)>,
    },
    /// The lock was released by this program, and not by the end of its holder.
    Released {
        /// The time for which the lock was held, if that is known.
        held: Option<Duration>,
        /// `None`: it is not known.
        cause: Option<ReleaseCause<'a>>,
    },
}

/// The reason why a lock was released.
#[derive(Debug, Clone, Copy)]
pub enum ReleaseCause<'a> {
    /// The holder has released it, and runs on.
    Release,
    /// The command for which it was acquired has ended with this status.
    Exit(i32),
    /// This signal has ended the command for which it was acquired, and came to this process, too.
    Signal(i32),
    /// `unlock --kill`, which is this process, has ended the holder, which belonged to this user.
    Kill { user: &'a str },
}

impl LockEvent<'_> {
    /// Returns the name of the event in the log.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Contended { .. } => "contended",
            Self::Acquired { .. } => "acquired",
            Self::TimedOut { .. } => "timed_out",
            Self::Free { .. } => "free",
            Self::Expired { .. } => "expired",
            Self::Deadlock { .. } => "deadlock",
            Self::Covered { .. } => "covered",
            Self::TakenOver { .. } => "taken_over",
            Self::Superseded { .. } => "superseded",
            Self::Replaced => "replaced",
            Self::Inherited { .. } => "inherited",
            Self::Released { .. } => "released",
        }
    }
}

/// Returns the line of an event, with its texts cut so that it is not longer than [`MAX_LINE`].
pub(super) fn format_line(
    event: &LockEvent,
    (label, key): (&str, Option<&str>),
    path: &Path,
    holder: u32,
    command: &str,
) -> String {
    let (mut most, time) = (MAX_TEXT, format!("{:.3}", jiff::Timestamp::now()));
    let other = match event {
        LockEvent::Contended { .. } => find_other_holder(path),
        LockEvent::Covered { by: CoveredBy::Waiter(pid) } => pid.map(promise::describe_waiter),
        _ => None,
    };
    loop {
        let line = format_fields(event, &time, (label, key), path, holder, command, other.as_ref(), most);
        if line.len() < MAX_LINE || most == 0 {
            return line;
        }
        most /= 2;
    }
}

/// Returns the pid and the command line of the process that holds the lock at `path`.
fn find_other_holder(path: &Path) -> Option<(u32, String)> {
    let Some(holding) = holders::observe_briefly(path).holding else {
        let range = if store::name_of(path).is_none() { ranges::find_range_lock(path)? } else { return None };
        return range.holders.into_iter().next().map(|holder| (holder.pid, holder.command));
    };
    let first = holding.holders.into_iter().next().map(|holder| (holder.pid, holder.command));
    first.or_else(|| holding.record.map(|(record, _)| (record.pid, record.command)))
}

#[expect(clippy::too_many_arguments, reason = "each is a field of the line")]
fn format_fields(
    event: &LockEvent,
    time: &str,
    (label, key): (&str, Option<&str>),
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
    if let Some(key) = key {
        put("key", cut(key, most).into());
    }
    put("path", cut(&path.to_string_lossy(), most).into());
    put("pid", holder.into());
    let us = process::user_name(os::user_id());
    let user = match event {
        LockEvent::Released { cause: Some(ReleaseCause::Kill { user }), .. } => user,
        _ => us.as_str(),
    };
    put("user", cut(user, most).into());
    put("command", cut(command, most).into());
    match event {
        LockEvent::Contended { waits, is_skipped } => {
            put("waits", (*waits).into());
            if *is_skipped {
                put("skipped", true.into());
            }
            if let Some((pid, command)) = other {
                put("holder_pid", (*pid).into());
                put("holder_command", cut(command, most).into());
            }
        }
        LockEvent::Covered { .. } => {
            if let Some((pid, command)) = other {
                put("waiter_pid", (*pid).into());
                put("waiter_command", cut(command, most).into());
            }
        }
        LockEvent::Acquired { waited, mode, slot, token } => {
            put("waited_seconds", round_seconds(*waited));
            put("mode", mode.as_str().into());
            if let Some(slot) = slot {
                put("slot", slot.number.into());
                put("slots", slot.capacity.into());
            }
            put("token", (*token).into());
        }
        LockEvent::TakenOver { pid, command } => {
            put("holder_pid", (*pid).into());
            put("holder_command", cut(command, most).into());
        }
        LockEvent::TimedOut { waited, is_skipped } => {
            put("waited_seconds", round_seconds(*waited));
            if *is_skipped {
                put("skipped", true.into());
            }
        }
        LockEvent::Free { waited } | LockEvent::Superseded { waited } => {
            put("waited_seconds", round_seconds(*waited));
        }
        LockEvent::Expired { held, limit } => {
            put("held_seconds", round_seconds(*held));
            put("max_seconds", round_seconds(*limit));
        }
        LockEvent::Inherited { held, status, holder } => {
            put("held_seconds", round_seconds(*held));
            put("status", (*status).into());
            if let Some((pid, command)) = holder {
                put("holder_pid", (*pid).into());
                put("holder_command", cut(command, most).into());
            }
        }
        LockEvent::Deadlock { circle } => put("circle", cut(circle, most).into()),
        LockEvent::Released { held, cause } => {
            if let Some(held) = held {
                put("held_seconds", round_seconds(*held));
            }
            if let Some(cause) = cause {
                put_cause(cause, &us, most, &mut put);
            }
        }
        LockEvent::Replaced => {}
    }
    line.push('}');
    line
}

/// Adds the members of a release that has this cause. `us` is the user of this process.
fn put_cause(cause: &ReleaseCause, us: &str, most: usize, put: &mut dyn FnMut(&str, Value)) {
    match cause {
        ReleaseCause::Release => put("cause", "release".into()),
        ReleaseCause::Exit(status) => {
            put("cause", "exit".into());
            put("status", (*status).into());
        }
        ReleaseCause::Signal(signal) => {
            put("cause", "exit".into());
            put("status", (128 + signal).into());
            put("signal", kill::name_signal(*signal).into());
        }
        ReleaseCause::Kill { .. } => {
            let killer = std::process::id();
            put("cause", "kill".into());
            put("killer_pid", killer.into());
            put("killer_user", us.into());
            put("killer_command", cut(&process::local_command_line(killer), most).into());
        }
    }
}

fn round_seconds(span: Duration) -> Value {
    ((span.as_secs_f64() * 1000.0).round() / 1000.0).into()
}
