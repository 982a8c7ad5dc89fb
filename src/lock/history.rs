//! The history of locks: their past holdings, read from the event log, for `aba-lock log` and `status`.
//!
//! The log does not have the end of each holding, because the kernel releases the locks of processes that end. Then the end lies between
//! the last event that proves the holding and the next event that proves its end.
//!
//! The files, each of which only imports from those above it:
//!
//! - `logged_event`: the logs, and the events in their lines
//! - `holding`: [`PastHolding`], one holding with its waiters and its end
//! - `chronicle`: builds the holdings from the events
//! - `present`: compares the last holdings with the locks that are held now
//! - `follow`: reads the lines that are added to a log

mod chronicle;
mod follow;
mod holding;
mod logged_event;
mod present;

pub use chronicle::Chronicle;
pub use follow::LogFollower;
pub use holding::{EndCause, Ending, Killer, PastHolding, PastOutcome, PastWait, RemainingHolder};
#[cfg(any(test, fuzzing))]
pub(crate) use logged_event::for_each_line;
pub(crate) use logged_event::parse_events;
pub use logged_event::{LogSource, LoggedEvent, for_each_event, read_events};
pub use present::{LockPast, find_past, reopen_inherited_holdings, settle_open_holdings};
