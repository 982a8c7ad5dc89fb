//! The holder record: who took the lock, as text inside the lock file.
//!
//! One `key=value` a line, values quoted as a shell reads them, `aba_lock_record` first and `token` last; a
//! text without both is not (or not yet) a record. It is written with one call over what was there, and the
//! file is cut to its length afterwards, so a reader sees the new record or an incomplete one.
//!
//! The record counts only while the lock is held, and only if the kernel names its `locker`: nobody removes
//! it on release, because a killed holder could not. A file with other content is somebody's data (`--file`
//! takes any path): it is never written to.

pub mod draft;
pub mod file;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod token;
mod value;

pub use draft::{RecordDraft, Taker};
pub use file::{last_token, read, read_path, write};
pub(crate) use file::{read_descriptor, write_text};
pub use format::{Content, Record};
pub use token::next_token;
