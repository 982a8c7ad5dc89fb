//! Locks for shell operations, by name.
//!
//! A **lock** is an flock(2) lock on the file of a name (`aba-NAME.lock` in the state root). It belongs to an *open
//! file description*, so it is held as long as any process has that description open: the script that opened it on FD
//! 200, the command that the helper became, and the processes that they started without closing it. The lock ends with
//! the last of these processes, even if they are killed. The holder record inside the file is only information for
//! people; no decision depends on it.
//!
//! There are four nouns, each with a folder: the [`lock`], the [`task`] (one run of a command for many callers), the
//! [`file`](mod@file) of the user (updated under a lock) and the [`number`] (reserved from a range). The folders lie in
//! layers, and imports only point down:
//!
//! | layer | module | holds |
//! |---|---|---|
//! | 8 | [`error`] | one type that collects the errors of all layers |
//! | 7 | [`admin`] | checks of the machine (`doctor`) and metrics |
//! | 6 | [`number`] | numbers from a range that no two callers get |
//! | 5 | [`task`] | `run-once`: tasks, whose state follows from their lock and their outcome |
//! | 5 | [`file`](mod@file) | `update` and `write`: read, change and replace a file under a lock |
//! | 4 | [`lock`] | acquire, wait for, inherit, observe and release locks |
//! | 3 | [`store`] | the state root: the paths of lock files and of task directories |
//! | 2 | [`base`] | plain data and text: names, durations, quoting, the environment |
//! | 1 | [`os`] | system calls and `/proc`; knows nothing of locks by name |
//!
//! To read the code, start with [`lock::acquire`].

pub mod admin;
pub mod base;
pub mod error;
pub mod file;
pub mod lock;
pub mod number;
pub mod os;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod store;
pub mod task;
