//! The holder record: the process that acquired the lock, as text in the lock file.
//!
//! The record has one `key=value` on each line, with values quoted as a shell reads them. `aba_lock_record` comes first
//! and `token` last. A text without both is not (or not yet) a record. A record is written with one call over the old
//! content, and the file is cut to its length afterwards, so a reader sees the new record or an incomplete one.
//!
//! A record only counts while the lock is held, and only if the kernel names its `locker`. It is not removed on release,
//! because a killed holder could not do that. A file with other content has foreign data (`--file` takes any path), and is never
//! written to.
//!
//! [`acquire`](super::acquire), the tasks and the keeper write records. [`holders`](super::holders) and the event log
//! read them.
//!
//! The files, each of which only imports from those above it:
//!
//! - `value`: quoting and shortening of values
//! - `format`: [`Record`], and its form as text
//! - `draft`: [`RecordDraft`], a record that is built before the lock is granted
//! - `file`: reading and writing the record in a lock file
//! - `token`: fencing tokens

mod draft;
mod file;
mod format;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod token;
mod value;

pub use draft::{RecordDraft, Taker};
pub(crate) use file::{find_key, overwrite, read_descriptor, try_read, write_text};
pub use file::{last_token, read, read_path, write};
pub(crate) use format::add_key;
pub use format::{Content, Record};
pub use token::next_token;
pub(super) use value::cut;
