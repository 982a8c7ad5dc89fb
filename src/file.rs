//! The user's files: read, changed and replaced under a lock (`update` and `write`).
//!
//! [`edit::Edit`] holds the lock of one file from the read to the replacement, and [`update::prepare_draft`] runs the steps in
//! between. The registries of numbers are replaced with an `Edit`, too. To read the code, start with [`edit`].
//!
//! The files lie in layers, and each imports only from those below it:
//!
//! | layer | module | holds |
//! |---|---|---|
//! | 6 | [`update`] | the steps between the lock and the replacement |
//! | 5 | [`filter`] | the commands that make and check the new content |
//! | 5 | `commit` | the replacement of the old content |
//! | 4 | `verify` | detection of changes by other processes |
//! | 4 | [`draft`] | the new content, and the private copy for a command |
//! | 3 | [`edit`] | the locked file and its old content |
//! | 2 | `update_lock` | the lock `FILE.lock` |
//! | 2 | `scratch` | the private directory next to the file |
//! | 2 | `attributes` | mode, owner and extended attributes |
//! | 1 | [`path`] | links, and how files and directories are opened |
//! | 1 | [`version`] | values that show that a file was changed |
//! | 0 | [`error`] | the errors |

mod attributes;
mod commit;
pub mod draft;
pub mod edit;
pub mod error;
pub mod filter;
pub mod path;
mod scratch;
pub mod update;
mod update_lock;
mod verify;
pub mod version;
