//! Where the store is. A file that was removed, replaced or emptied while we have it open takes what is written, and loses it:
//! the next service would find another, and grant again what is held. So each turn looks whether the path still leads to what
//! was opened, before it begins and before anybody is told.

use crate::model::Problem;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and number.
type Identity = (u64, u64);

/// The files of a store that is open: the table, and what was written last.
pub(super) struct Place {
    files: [(PathBuf, Identity); 2],
}

impl Place {
    /// To be called when the store is open: SQLite has made both then, and leaves them as they are while we have it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut log = OsString::from(path);
        log.push("-wal");
        let file = |path: PathBuf| fs::metadata(&path).map(|data| (path, (data.dev(), data.ino())));
        Ok(Self { files: [file(path.to_owned())?, file(log.into())?] })
    }

    /// Whether it is still there.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let data = self.files.each_ref().map(|(path, _)| fs::metadata(path));
        let why = self.files.iter().zip(&data).find_map(|((path, opened), data)| {
            let why = match data {
                Ok(data) if (data.dev(), data.ino()) == *opened => return None,
                Ok(_) => "was replaced".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed".to_owned(),
                Err(error) => format!("cannot be looked at ({error})"),
            };
            Some(format!("{} {why} while it is in use", path.display()))
        });
        // The other one is empty now and then.
        let emptied = data[0].as_ref().is_ok_and(|data| data.len() == 0);
        let why =
            why.or_else(|| emptied.then(|| format!("{} was emptied while it is in use", self.files[0].0.display())));
        why.map_or(Ok(()), |why| Err(Problem::Fault(why)))
    }
}
