//! The lease note: an entry in the holder record of a local lock that names the lease of that lock. `hold` writes it
//! after it has acquired the lease; the other commands read it to find the lease.

use crate::fault::Fault;
use crate::lease::Lease;
use aba_lock::base::text::{format_io_error, quote_path};
use aba_lock::lock::record::{self, Content, Record};
use std::fs::{self, File};
use std::os::fd::AsRawFd;

/// The lease of a local lock, as the record names it.
pub(crate) struct LeaseNote {
    /// The address of the server.
    pub(crate) server: String,
    pub(crate) token: u64,
}

impl LeaseNote {
    /// Reads the note in this lock file.
    pub(crate) fn read(file: &File) -> Option<Self> {
        Self::from_record(read_record(file)?.as_ref())
    }

    /// Reads the note in a record: server, id and token of the lease, with blanks between them.
    pub(crate) fn from_record(record: &Record) -> Option<Self> {
        let (server, rest) = record.lease.as_deref()?.split_once(' ')?;
        let (_, token) = rest.rsplit_once(' ')?;
        Some(Self { server: server.to_owned(), token: token.parse().ok()? })
    }
}

/// Reads the record of the lock in this lock file.
pub(crate) fn read_record(file: &File) -> Option<Box<Record>> {
    match record::read(file) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

/// Writes a lease into the record in this lock file.
pub(crate) fn write_note(file: &File, name: &str, server: &str, lease: &Lease) -> Result<(), Fault> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    let (reason, hint) = match record::read(file) {
        Content::Record(record) => {
            let lease = Some(format!("{server} {} {}", lease.id, lease.token));
            let record = Record { lease, ..*record };
            let reason = match record::write(file, &path, &record) {
                Ok(()) if read_record(file).is_some_and(|written| written.lease == record.lease) => return Ok(()),
                Ok(()) => "the record is too long".to_owned(),
                Err(error) => format_io_error(&error),
            };
            (reason, None)
        }
        // Removing the file would let a second process acquire the lock, and `aba-lock clean` keeps such a file.
        Content::Foreign => {
            let hint = format!("if no program needs that data, empty the file: `: >{}`", quote_path(&path));
            ("it contains data of another program".to_owned(), Some(hint))
        }
        Content::Empty | Content::Incomplete => ("it contains no complete holder record".to_owned(), None),
    };
    let what = format!("cannot write the lease on {name} into {}: {reason}", path.display());
    Err(Fault::Failed { what, hint })
}
