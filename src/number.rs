//! Numbers from a range, ports by default, that are handed out to at most one caller at a time.
//!
//! A **pool** is a set of numbers with a registry file, `reserve/POOL` in the state root, and its lock `reserve/POOL.lock`.
//! A caller gets a number from a pool in one of two ways:
//!
//! - The number is **reserved** for a key, which is a directory and a tag: the registry contains a row, until the number is
//!   released, pruned or expired. Lists call it "kept".
//! - The number is **leased** to a command: the command holds the lock of the number, `reserve/POOL.d/NUMBER.lock`, and there
//!   is no row. The kernel releases the lock, however the command ends.
//!
//! No two callers of aba-lock hold the same number at the same time. To guarantee this, one step under the lock of the pool
//! ([`Registry`](registry::Registry)) reads the rows and the locks, probes numbers, and writes the new rows. Readers need no
//! lock, because the registry is replaced as a whole. Programs that do not ask aba-lock can still take a number.
//!
//! A call that also changes a file of the user (`--dotenv`) locks that file before the pool. If it locked the pool first,
//! it could deadlock with a command that holds the lock of the file and reserves a number.
//!
//! # Crashes
//!
//! | the process is killed | this remains | the next call |
//! |---|---|---|
//! | before the registry is replaced | the old rows and a draft | removes the draft; may hand out the planned number, which was not printed |
//! | before the number is printed | a row that the caller does not know | prints this number for the same key; for other keys it is reserved until it is released |
//! | while the file of `--dotenv` is written, after the registry | the row and the old file | writes the file, because the key has its number |
//! | while it holds the lock of a leased number, before the command starts | nothing | may take the number |
//! | while the command runs | its children that inherited the lock | may take the number when the last child has ended |
//! | between the registries of two pools (`migrate`) | complete registries, some of them changed | changes the others, if `migrate` is called again |
//!
//! After a power failure, the registry contains either the old rows or the new ones. It contains every number that was
//! printed, because a number is printed after fsync. The lock is released before fsync, so that other calls do not wait
//! for the disk. There is one exception: a second call for the same key can print the number while the first call still
//! waits for the disk.
//!
//! # Layers
//!
//! Each file imports only from files above it:
//!
//! 1. [`range`], [`unavailable`], [`ancestry`], `escape`, `checksum` and [`dotenv`]: plain data and text
//! 2. [`error`], then [`pool`] (names and tags), [`directory`], [`probe`], [`variable`], [`group`] and [`group_file`]
//! 3. [`row`] and [`contents`]: the text of a registry
//! 4. [`pool_files`], [`lease`], [`registry_file`], [`damaged_registry`] and [`registry`]: the files of a pool
//! 5. [`list`], [`prune`], [`migration`], [`candidates`], [`plan`] and [`reservation`]: the operations
//!
//! To read the code, start with [`registry`] and [`plan`].

pub mod ancestry;
pub mod candidates;
mod checksum;
pub mod contents;
pub mod damaged_registry;
pub mod directory;
pub mod dotenv;
pub mod error;
mod escape;
pub mod group;
pub mod group_file;
pub mod lease;
pub mod list;
pub mod migration;
pub mod plan;
pub mod pool;
pub mod pool_files;
pub mod probe;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod prune;
pub mod range;
pub mod registry;
pub mod registry_file;
pub mod reservation;
pub mod row;
pub mod unavailable;
pub mod variable;
