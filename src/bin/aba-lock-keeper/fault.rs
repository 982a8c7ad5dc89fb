//! The error type of the keeper. [`crate::output`] prints it, and [`crate::exit`] gives it an exit status.

use crate::lease::QueueEntry;
use aba_lock_protocol::sharing::Sharing;
use std::io;

/// A reason why there is no lease, or why a command failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Another process holds the lease.
    Busy { name: String, holder: Option<Box<QueueEntry>> },
    /// Another process held the lease during the whole wait.
    TimedOut { name: String, holder: Option<Box<QueueEntry>> },
    /// The lock is held with another number of slots. A wait would not help.
    OtherSlots { name: String, wanted: Sharing, holder: Box<QueueEntry> },
    /// No server answers. The state at the server is unknown.
    Unreachable { what: String },
    /// The lease does not exist any more.
    Gone { name: String },
    /// The server refused, or an operation on this machine failed.
    Failed { what: String, hint: Option<String> },
    /// The command cannot be run.
    NotRun { command: String, found: bool, reason: String },
    /// The arguments or the environment are wrong. The hint may be empty.
    Misused { what: String, hint: String },
}

impl Fault {
    /// The fault for a lease that another process holds, with or without a wait before that.
    pub(crate) fn from_holder(name: &str, holder: Option<Box<QueueEntry>>, has_waited: bool) -> Self {
        let name = name.to_owned();
        if has_waited { Self::TimedOut { name, holder } } else { Self::Busy { name, holder } }
    }

    /// The fault for a failure to get a random number.
    pub(crate) fn from_random(error: &io::Error) -> Self {
        Self::Failed {
            what: format!("cannot get a random number: {}", aba_lock::base::text::format_io_error(error)),
            hint: None,
        }
    }

    /// The fault for an argument that is not the id of a lease.
    pub(crate) fn from_invalid_id(id: &str) -> Self {
        Self::Misused {
            what: format!("invalid lease id {id:?}"),
            hint: "use the id that `aba-lock lease acquire` printed".to_owned(),
        }
    }
}
