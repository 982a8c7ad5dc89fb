//! Numbers out of a range, ports by default, that are never given twice.
//!
//! A **pool** is a registry file, `POOL` in the directory `reserve` of the state root, with its lock `POOL.lock` beside
//! it. A number is **kept** for a key (directory and tag): a row of the registry, which stays until it is released,
//! pruned or expired. Or it is **leased** to a command: then the command holds the number's own lock,
//! `POOL.d/NUMBER.lock`, and there is no row: the kernel gives it back, however the command ends.
//!
//! What is promised: of all who ask here, no two have one number at a time. Rows and locks are read, numbers are probed,
//! and what was planned is written, in one step under the lock of the pool ([`Registry`](registry::Registry)). Who only reads needs
//! no lock: the file is replaced as a whole. What is not: that nobody else, who does not ask here, takes the number.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | before the registry is replaced | the old rows; a draft | takes the draft away, and may give the number that was planned: nobody was told of it |
//! | after that, before the number is printed | a row that its caller does not know of | gives that number, for the same key; for others it is reserved until it is released |
//! | while `--dotenv` is written, after the registry | the row, the old FILE | writes FILE, as the key has its number |
//! | with the lock of a leased number, before the command runs | nothing: the kernel has released the lock | may take it |
//! | the command | nothing, or those of its children that inherited the lock | may take the number when the last has ended |
//! | between the registries of several pools (`migrate`) | some pools done, others not; each of them whole | does the rest, when it is asked again |
//! | by a loss of power | the old rows or the new ones, and every number that was told: the disk is waited for before that, outside the lock (but who asks for a key of which the first call still waits is told at once) | – |
//!
//! Whoever waits for a file of the user's (`--dotenv`) does so before taking the lock of the pool: who updates such a
//! file may reserve meanwhile, and neither waits for the other for ever.

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
pub mod prune;
pub mod range;
pub mod registry;
pub mod registry_file;
pub mod reservation;
pub mod row;
pub mod unavailable;
pub mod variable;
