//! A check that the files of the open store are still the ones that its path names.
//!
//! SQLite keeps writing to a file that was removed, replaced or emptied, and these writes are lost: the next service
//! would find another file, and grant locks that are held. The writer thread therefore checks the files before each
//! batch, and again before it answers.

use crate::error::CallError;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode.
type FileIdentity = (u64, u64);

/// The database and its write-ahead log.
pub(super) struct StoreFiles {
    files: [(PathBuf, FileIdentity); 2],
}

impl StoreFiles {
    /// Records the files of a store that is open: from then on, SQLite keeps both.
    pub(super) fn record(path: &Path) -> io::Result<Self> {
        let mut log = OsString::from(path);
        log.push("-wal");
        let identify = |path: PathBuf| fs::metadata(&path).map(|data| (path, (data.dev(), data.ino())));
        Ok(Self { files: [identify(path.to_owned())?, identify(log.into())?] })
    }

    pub(super) fn check(&self) -> Result<(), CallError> {
        let data = self.files.each_ref().map(|(path, _)| fs::metadata(path));
        let why = self.files.iter().zip(&data).find_map(|((path, opened), data)| {
            let why = match data {
                Ok(data) if (data.dev(), data.ino()) == *opened => return None,
                Ok(_) => "was replaced during use".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed during use".to_owned(),
                Err(error) => format!("cannot be examined: {error}"),
            };
            Some(format!("{} {why}", path.display()))
        });
        // SQLite itself empties the write-ahead log, but never the database.
        let is_emptied = data[0].as_ref().is_ok_and(|data| data.len() == 0);
        let why = why.or_else(|| is_emptied.then(|| format!("{} was emptied during use", self.files[0].0.display())));
        why.map_or(Ok(()), |why| Err(CallError::Fault(why)))
    }
}
