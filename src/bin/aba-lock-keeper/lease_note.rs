//! The lease note: an entry in the holder record of a local lock that names the lease of that lock. `hold` writes it
//! after it has acquired the lease; the other commands read it to find the lease.
//!
//! A lock file has one record, but a shared lock has several holders, each with a lease. So the note of such a lease is in
//! memory, in a file that its keeper has open, and lives exactly as long as the keeper.

use crate::binding::{self, Binding};
use crate::fault::Fault;
use crate::lease::Lease;
use crate::os::descriptor;
use aba_lock::base::text::{format_io_error, quote_path};
use aba_lock::lock::record::{self, Content, Record};
use aba_lock::os::proc::openers;
use aba_lock_protocol::sharing::{Sharing, check_slots};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;

/// The lease of a local lock, as the record names it.
pub(crate) struct LeaseNote {
    /// The address of the server.
    pub(crate) server: String,
    pub(crate) token: u64,
    /// The number of the slot, if the lock has slots.
    pub(crate) slot: Option<u32>,
}

impl LeaseNote {
    /// Reads the note for the lock on this descriptor. For a shared lock, there is one only if the keeper runs.
    pub(crate) fn read(file: &File) -> Option<Self> {
        if binding::is_shared(file) {
            return Self::find_at_keeper(file, Binding::find_shared(file)?);
        }
        Self::from_record(read_record(file)?.as_ref())
    }

    /// Finds the note of a shared lock at the keeper with this binding.
    fn find_at_keeper(file: &File, binding: Binding) -> Option<Self> {
        let data = file.metadata().ok()?;
        let look = openers::scan_descriptors(std::process::id(), &AtomicBool::new(false), |descriptor| {
            let is_same = (descriptor.data.dev, descriptor.data.ino) == (data.dev(), data.ino());
            if is_same { Self::parse_shared_note(&descriptor::read_note(descriptor.pid)?, binding) } else { None }
        });
        look.found.into_iter().next()
    }

    fn parse_shared_note(text: &str, binding: Binding) -> Option<Self> {
        let note: Value = serde_json::from_str(text).ok()?;
        if note["binding"].as_u64() != Some(binding.token()) {
            return None;
        }
        let slot = note["slot"].as_u64().and_then(check_slots);
        Some(Self { server: note["server"].as_str()?.to_owned(), token: note["token"].as_u64()?, slot })
    }

    /// Reads the note in a record: server, id and token of the lease, with blanks between them.
    pub(crate) fn from_record(record: &Record) -> Option<Self> {
        let (server, rest) = record.lease.as_deref()?.split_once(' ')?;
        let (_, token) = rest.rsplit_once(' ')?;
        Some(Self { server: server.to_owned(), token: token.parse().ok()?, slot: None })
    }
}

/// Returns the note of a shared lease, for its keeper. `None`: the lease is exclusive.
pub(crate) fn format_shared_note(server: &str, binding: Binding, lease: &Lease) -> Option<String> {
    let Lease { token, slot, sharing, .. } = lease;
    let note = json!({ "binding": binding.token(), "server": server, "token": token, "slot": slot });
    (*sharing != Sharing::Exclusive).then(|| note.to_string())
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
