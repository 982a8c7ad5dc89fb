//! The commands. Each file holds the commands of one caller.

mod convert;
mod local_lock;
mod progress;

pub(crate) mod hold;
pub(crate) mod lease;
pub(crate) mod run;
pub(crate) mod script;
