//! The file of a registry.

use super::book::Book;
use super::error::NumberError;
use super::pool_files::{make_directory, with};
use crate::base::target::Wait;
use crate::file::edit::Edit;
use crate::file::error::FileError;
use crate::file::path::MissingFile;
use crate::lock::error::LockError;
use crate::lock::wait::Contention;
use crate::os;
use crate::store::Store;
use crate::store::error::StoreError;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What to do where a pool has no registry yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Make it, and its directory, when something is put into it.
    Make,
    /// Leave it so: there is nothing in it.
    Leave,
}

/// The most that a registry may have: in bytes. More than a million rows have.
const MAX_FILE: u64 = 1 << 28;

pub(super) fn edit(
    store: &Store,
    path: &Path,
    absent: Absent,
    wait: Wait,
    contention: &mut dyn Contention,
) -> Result<Option<Edit>, NumberError> {
    let missing = match absent {
        Absent::Make => {
            make_directory(store, &store.reservations())?;
            MissingFile::CreatePrivate
        }
        Absent::Leave => MissingFile::Refuse,
    };
    let command = crate::os::proc::process::command_line(std::process::id());
    match Edit::begin(path, missing, wait, command, contention) {
        Ok(edit) => Ok(Some(edit)),
        Err(FileError::NoFile { source, .. })
            if source.kind() == io::ErrorKind::NotFound && absent == Absent::Leave =>
        {
            Ok(None)
        }
        Err(error) => Err(whose(error.into(), path)),
    }
}

/// With the name of whose a file is that we may not open.
fn whose(error: NumberError, path: &Path) -> NumberError {
    match error {
        NumberError::File(
            FileError::Update { source, .. }
            | FileError::NoFile { source, .. }
            | FileError::Lock(LockError::Store(StoreError::StateRoot { source, .. })),
        ) if source.kind() == io::ErrorKind::PermissionDenied => {
            let lock = with(path, ".lock");
            let is_shut =
                |path: &&PathBuf| File::open(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            let shut = [&lock, &path.to_owned()].into_iter().find(is_shut).cloned();
            NumberError::denied(&shut.unwrap_or_else(|| path.to_owned()), source)
        }
        other => other,
    }
}

pub(super) fn write(edit: Edit, book: &Book, backup: Option<&OsStr>) -> Result<(), NumberError> {
    let mut draft = edit.create_draft()?;
    let bytes = book.to_bytes();
    os::without_size_signal(|| draft.writer().write_all(&bytes)).map_err(edit.failed("write"))?;
    Ok(edit.commit(&draft, backup)?)
}

pub(super) fn content(file: &File) -> io::Result<Vec<u8>> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if data.len() > MAX_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let mut bytes = Vec::new();
    // To find that there is no memory in the middle of it would be the end of us.
    bytes.try_reserve_exact(usize::try_from(data.len()).unwrap_or(0) + 1).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is in a file, if it is one: to open a FIFO would hang.
pub(super) fn content_at(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    content(&OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}
