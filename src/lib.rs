//! Locks for shell operations, by name.
//!
//! A **lock** here is an flock(2) lock on the file that a name leads to (`aba-NAME.lock` in the state root).
//! It belongs to an *open file description*, so it lives as long as any process has that description open:
//! the script that opened it on FD 200, the command that the helper became, and whatever they started
//! without closing it. It cannot outlive them, whatever kills them. The holder record inside the file is a
//! courtesy to people; nothing here decides by it.
//!
//! | module | knows |
//! |---|---|
//! | [`name`] | which names are allowed |
//! | [`store`] | the state root, and the environment |
//! | [`lock`] | open, lock, check that it is still the file, write the record |
//! | [`flock`] | locks as flock(1) takes them: on any file, without a record, without a word |
//! | [`record`] | the holder record and its text form |
//! | [`holders`] | who has it: the kernel's word beside the record |
//! | [`keeper`] | where the program is that keeps leases for more than one machine |
//! | [`deadlock`] | circles of processes that wait for each other |
//! | [`kernel`] | what the kernel says of locks: who has which, and who waits |
//! | [`process`] | what `/proc` tells of a process |
//! | [`task`] | run-once: tasks, whose state follows from their lock and their outcome |
//! | [`atomic`] | replace a file as a whole; read-modify-write of the user's files |
//! | [`pid_file`] | pid files of holders |
//! | [`clean`] | remove lock files that nobody needs, beside those who want them |
//! | [`force`] | release a lock of others by ending who has it |
//! | [`reserve`] | numbers out of a range that are never given twice |
//! | [`listeners`] | which process has a port |
//! | [`under`] | commands that run while a lock is held |
//! | [`filter`] | commands that make new content out of old |
//! | [`doctor`] | whether all that locks depend on is as it should be here |
//! | [`error`] | everything that a caller can act on |
//! | [`events`] | the log of what became of locks |
//! | [`metrics`] | numbers of what is held, waited for, and in the event log |
//! | [`sys`] | the only system calls |

pub mod atomic;
pub mod clean;
pub mod deadlock;
pub mod doctor;
pub mod error;
pub mod events;
pub mod filter;
pub mod flock;
pub mod force;
pub mod holders;
pub mod keeper;
pub mod kernel;
pub mod listeners;
pub mod lock;
pub mod metrics;
pub mod name;
pub mod pid_file;
pub mod process;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod record;
pub mod reserve;
pub mod store;
pub mod sys;
pub mod task;
pub mod under;
