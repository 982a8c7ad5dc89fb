//! The registry file of a pool on disk: how it is opened for a change, read and written.

use super::contents::RegistryContents;
use super::error::NumberError;
use super::pool_files::{add_suffix, check_owner, create_directory};
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

/// The behaviour of a change if the pool has no registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingRegistry {
    /// Create the registry and its directory when something is written to it.
    Create,
    /// Create nothing: the registry is empty.
    Leave,
}

/// The maximum size of a registry in bytes, which is enough for more than a million rows.
const MAX_FILE: u64 = 1 << 28;

/// Locks the registry for a change. Returns `None` if it does not exist and `missing` says to create nothing.
pub(super) fn begin_edit(
    store: &Store,
    path: &Path,
    missing: MissingRegistry,
    wait: Wait,
    contention: &mut dyn Contention,
) -> Result<Option<Edit>, NumberError> {
    let missing_file = match missing {
        MissingRegistry::Create => {
            create_directory(store, &store.reservations())?;
            MissingFile::CreatePrivate
        }
        MissingRegistry::Leave => {
            check_owner(store, &store.reservations())?;
            MissingFile::Refuse
        }
    };
    let command = crate::os::proc::process::command_line(std::process::id());
    match Edit::begin(path, missing_file, wait, command, contention) {
        Ok(edit) => Ok(Some(edit)),
        Err(FileError::NoFile { source, .. })
            if source.kind() == io::ErrorKind::NotFound && missing == MissingRegistry::Leave =>
        {
            Ok(None)
        }
        Err(error) => Err(name_owner(error.into(), path)),
    }
}

/// Replaces an error about a missing permission with one that names the owner of the file.
fn name_owner(error: NumberError, path: &Path) -> NumberError {
    match error {
        NumberError::File(
            FileError::Update { source, .. }
            | FileError::NoFile { source, .. }
            | FileError::Lock(LockError::Store(StoreError::StateRoot { source, .. })),
        ) if source.kind() == io::ErrorKind::PermissionDenied => {
            let lock = add_suffix(path, ".lock");
            let is_denied =
                |path: &&PathBuf| File::open(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            let denied = [&lock, &path.to_owned()].into_iter().find(is_denied).cloned();
            NumberError::denied(&denied.unwrap_or_else(|| path.to_owned()), source)
        }
        other => other,
    }
}

/// Replaces the registry and releases its lock. With `backup`, the old file is kept under its name with this suffix.
pub(super) fn write_contents(
    edit: Edit,
    contents: &RegistryContents,
    backup: Option<&OsStr>,
) -> Result<(), NumberError> {
    let mut draft = edit.create_draft()?;
    let bytes = contents.to_bytes();
    os::without_size_signal(|| draft.writer().write_all(&bytes)).map_err(edit.failed("write"))?;
    Ok(edit.commit(&draft, backup)?)
}

/// Reads a registry that is open, if it is a regular file and not too large.
pub(super) fn read_file(file: &File) -> io::Result<Vec<u8>> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if data.len() > MAX_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let mut bytes = Vec::new();
    // Memory is allocated with a check first, because a lack of memory while the file is read would abort the process.
    bytes.try_reserve_exact(usize::try_from(data.len()).unwrap_or(0) + 1).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file. The flags prevent this process from hanging on a FIFO.
pub(super) fn read_path(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    read_file(&OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}
