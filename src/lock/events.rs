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

mod line;
mod log;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod report;

pub use line::{LockEvent, MAX_LINE};
pub use log::{check_writable, take_failure};
pub(crate) use report::{log_acquired, log_release};
pub use report::{log_event, log_released};
