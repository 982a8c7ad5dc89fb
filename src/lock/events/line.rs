//! An event, and its line in the log.

use crate::lock::holders;
use crate::os::proc::process;
use crate::os::{self, Mode};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The most bytes of a line: what goes into a FIFO in one piece, too.
pub const MAX_LINE: usize = 4096;

/// The most bytes of a text in a line, at first.
const MAX_TEXT: usize = 1024;

/// What became of a lock.
#[derive(Debug, Clone, Copy)]
pub enum LockEvent<'a> {
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

impl LockEvent<'_> {
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

pub(super) fn format_line(event: &LockEvent, label: &str, path: &Path, holder: u32, command: &str) -> String {
    let (mut most, time) = (MAX_TEXT, format!("{:.3}", jiff::Timestamp::now()));
    let other = match event {
        LockEvent::Contended { .. } => find_other_holder(path),
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
fn find_other_holder(path: &Path) -> Option<(u32, String)> {
    let holding = holders::observe_briefly(path).holding?;
    let first = holding.holders.into_iter().next().map(|holder| (holder.pid, holder.command));
    first.or_else(|| holding.record.map(|(record, _)| (record.pid, record.command)))
}

#[expect(clippy::too_many_arguments, reason = "each is a field of the line")]
fn line(
    event: &LockEvent,
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
        LockEvent::Contended { waits } => {
            put("waits", (*waits).into());
            if let Some((pid, command)) = other {
                put("holder_pid", (*pid).into());
                put("holder_command", cut(command, most).into());
            }
        }
        LockEvent::Acquired { waited, mode, token } => {
            put("waited_seconds", seconds(*waited));
            put("mode", mode.as_str().into());
            put("token", (*token).into());
        }
        LockEvent::TimedOut { waited } => put("waited_seconds", seconds(*waited)),
        LockEvent::Deadlock { circle } => put("circle", cut(circle, most).into()),
        LockEvent::Released { held: Some(held) } => put("held_seconds", seconds(*held)),
        LockEvent::Released { held: None } | LockEvent::Replaced => {}
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
