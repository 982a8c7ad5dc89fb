//! The options of `wait`, and the meaning of its exit statuses.

use super::value::parse_span;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const EXIT_STATUS: [(&str, &str); 6] = [
    ("0", "the lock is free, or each of several locks was free at some moment"),
    ("2", "wrong usage"),
    ("75", "waiting would be a deadlock"),
    ("124", "timed out while waiting"),
    ("125", "aba-lock itself failed: for example, it cannot be determined from here whether the lock is held"),
    ("128+n", "signal n ended the wait"),
];

/// Wait until a lock is free, without acquiring it
///
/// The command only observes the lock, so it never makes an attempt of another process fail, and it is not in the queue of the
/// waiters. When it ends, another process may acquire the lock at once: to run a command while the lock is held, use
/// `aba-lock lock --wait NAME -- CMD`. With several locks, it ends when it has seen each of them free, not all of them at the same
/// time. A lock that is free only for an instant between two holders may be missed.
///
/// A lock with slots is free when no process holds a slot. A lock without a file is free: it was never used, or its file was removed. If the file is replaced, only the new one counts. The
/// end of a holder is noticed within some milliseconds. If a holder releases the lock and keeps its descriptor open, as with
/// `flock -u`, it can take a second.
///
/// Only the locks of this machine count, not the leases at a server. With --file, locks of fcntl(2) count, too, such as those of apt
/// and dpkg. If an ancestor of the command holds the lock and waits for the command, the wait would never end, and is refused.
#[derive(Debug, Args)]
#[command(
    override_usage = "aba-lock wait [OPTIONS] NAME...\n       aba-lock wait [OPTIONS] --key TEXT...\n       aba-lock wait [OPTIONS] --file PATH..."
)]
pub(crate) struct WaitArgs {
    /// The names of the locks
    #[arg(value_name = "NAME", required_unless_present_any = ["key", "file"])]
    pub(crate) names: Vec<String>,

    /// Wait for the lock of this text: see aba-lock-lock(1); may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Vec<OsString>,

    /// Wait for the lock of this file or directory instead of a name; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with_all = ["names", "key"])]
    pub(crate) file: Vec<PathBuf>,

    /// Give up after TIME: 30, 1.5, 90s, 1h30m; 0 means do not wait [default: `ABA_LOCK_TIMEOUT`, otherwise never]
    #[arg(short, long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,

    /// End as soon as one of the locks is free, and print its name, text or path
    #[arg(long)]
    pub(crate) any: bool,

    /// Wait until a shared lock could be acquired: only exclusive holders count
    #[arg(short, long)]
    pub(crate) shared: bool,

    /// Print no messages about contention
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Use the locks that all users of this machine share: see aba-lock-lock(1)
    #[arg(long, conflicts_with = "file")]
    pub(crate) system: bool,
}
