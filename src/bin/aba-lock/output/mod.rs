//! All text that the helper prints: data to standard output, messages to standard error.
//!
//! Only the files of this folder print; a lint forbids it in all others. A message never claims more than is known: the
//! process that took a lock, a process that inherited it, and what only the record says are distinguished.
//!
//! The files in their order; each file imports only from those before it: `width`, `text`, `command_hint`, `stream`, `pieces`, `table`, `difference`, `holder`, `hint`,
//! `progress`, `contention`, `lock_json`, `log`, `log_event`, then one file for each group of commands (`list` uses `tasks`, and `watch`
//! uses `list`).

pub(crate) mod clean;
mod command_hint;
pub(crate) mod contention;
mod difference;
pub(crate) mod findings;
pub(crate) mod flock;
pub(crate) mod force;
mod guesses;
mod hint;
mod holder;
pub(crate) mod list;
pub(crate) mod lock_json;
pub(crate) mod log;
pub(crate) mod log_event;
mod meant_line;
pub(crate) mod metrics;
pub(crate) mod misuse;
pub(crate) mod numbers;
pub(crate) mod pages;
mod pieces;
pub(crate) mod progress;
pub(crate) mod status;
pub(crate) mod stream;
mod table;
pub(crate) mod tasks;
mod text;
pub(crate) mod updates;
pub(crate) mod watch;
mod width;
