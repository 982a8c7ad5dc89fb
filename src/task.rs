//! Tasks: one run of a command by id.

mod clean;
pub mod error;
mod files;
mod foreign;
mod guard;
mod reset;
mod run;
mod saved;
pub mod state;
mod wait;

pub use reset::{reset_all, reset_failed};
pub use saved::Saved;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use saved::properties as saved_properties;
pub use wait::{Ask, Ended, Started, Stream, Teller};
