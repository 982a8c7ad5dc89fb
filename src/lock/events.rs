//! The event log: one line of JSON for each event of a lock, for monitoring and for `aba-lock log`. It is off, and costs nothing, unless
//! `ABA_LOCK_LOG` names a file or a socket ([`crate::base::environment::event_log`]), or the user has turned on the log of the state
//! root (`root_log`), which gets the events of the locks in that directory.
//!
//! The functions in `report` write the events of [`acquire`](super::acquire), [`release`](super::release), `update` and
//! `unlock --kill`, and the runs of tasks.
//!
//! Promises:
//!
//! - A line is written with one call, at the end of the file (`O_APPEND`), and has at most [`MAX_LINE`] bytes with its newline.
//!   So lines of several processes do not mix. Long texts in it are cut, and end in `…`.
//! - The file is opened for each line, so it can be renamed at any time. The next writer creates a new one that only its user can
//!   read (0600). An existing file is used as it is, and links to it are followed, because the user named it.
//! - No file is created in `/dev`, nor at the path of the socket of `syslog` or `journald`.
//! - A write never waits for a reader. If a FIFO has no reader, or a socket is full, the line is lost.
//! - A line that cannot be written never changes the result for a lock. [`take_failure`] returns the first such failure once. If
//!   several users share the directory of the log of a state root, any of them can cause one, so no call reports it: `doctor` and `log` do.
//!
//! Not every event has a line. If a script or command ends or is killed, the kernel releases its lock, and no process is left
//! to log that. A wait that is ended by a signal is not logged, either. On a full disk a line may be cut.
//!
//! A socket gets datagrams in the format of syslog(3), but without the time, which its reader adds.
//!
//! The files, each of which only imports from those above it:
//!
//! - `entry`: an event, and its line
//! - `rotation`: appends lines to the log of a state root, and rotates it
//! - `remedy`: the problems of the log of a state root, and what helps
//! - `root_log`: the log of a state root: turning it on and off
//! - `log`: the file or socket that gets the lines
//! - `report`: the functions that log events

mod entry;
mod log;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod remedy;
mod report;
mod root_log;
mod rotation;

pub use entry::{LockEvent, MAX_LINE, ReleaseCause};
pub use log::{check_writable, take_failure};
pub use remedy::{LogProblem, find_log_problem, hint_after_failure, hint_to_remove, name_rotators};
pub use report::{TASK_PREFIX, log_event, log_task_event, release_and_log};
pub(crate) use report::{log_acquired, log_release};
pub(crate) use root_log::open_root_log;
pub use root_log::{
    RootLogState, SwitchedLog, describe_unreadable_log, disable_root_log, enable_command, enable_root_log,
    find_trusted_log, hint_to_mark, look_at_root_log, root_log_path, switch_command,
};
pub use rotation::{CAP, LIMIT, MAX_SIZE, older_log_path};
