//! The last step of an update: [`Edit::commit`] replaces the file with the draft, and keeps a backup if the caller
//! wants one. A reader of the file sees the old content or the new content. The callers are `update`, `write`,
//! `reserve --dotenv` and the registries of numbers.

use super::attributes::copy_attributes;
use super::draft::ContentDraft;
use super::edit::Edit;
use super::error::FileError;
use super::path::{MissingFile, with_suffix};
use crate::os;
use crate::os::replace::{give_to_directory_owner, parent_directory, rename_file};
use crate::store::creation;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

impl Edit {
    /// Replaces the file with the draft. If `backup` is a suffix, the old content stays in a file whose name has that suffix
    /// added.
    ///
    /// On an error, the file has its old content. There is one exception: [`FileError::NotOnDisk`] means that the file was
    /// replaced, but may have its old content again after a power failure.
    pub fn commit(self, draft: &ContentDraft, backup: Option<&OsStr>) -> Result<(), FileError> {
        let is_private = self.missing == MissingFile::CreatePrivate;
        if let Some(old) = &self.old {
            copy_attributes(&self.place, old, &draft.file).map_err(|(what, source)| self.failed(what)(source))?;
        } else {
            let directory = parent_directory(&self.path);
            let set = if is_private {
                creation::access_in(directory).and_then(|access| access.apply_in(directory, &draft.file))
            } else {
                os::FileAccess::with_mode(creation::USERS_FILE & !os::umask()).apply(&draft.file)
            };
            set.map_err(self.failed("set the mode of"))?;
            if is_private {
                give_to_directory_owner(&draft.file, directory);
            }
        }
        let written = if is_private { os::order(&draft.file) } else { draft.file.sync_all() };
        written.map_err(self.failed("write"))?;
        self.verify()?;
        let backed_up = match (backup, &self.old) {
            (Some(suffix), Some(_)) => Some(self.create_backup(suffix)?),
            _ => None,
        };
        if let Err(why) = rename_file(&draft.path, &self.place) {
            if let Some((name, before)) = backed_up {
                // Restores the earlier backup.
                let _ = before.map_or_else(|| fs::remove_file(&name), |before| rename_file(&before, &name));
            }
            return Err(self.failed("replace")(why));
        }
        let label = self.label.clone();
        let directory = File::open(parent_directory(&self.place));
        // Releases the lock before the wait for the disk. The next writer can do no harm: its content reaches the disk
        // after the content of this draft.
        drop(self);
        if is_private && let Err(source) = draft.file.sync_all() {
            return Err(FileError::NotOnDisk { label, source });
        }
        // Some file systems cannot sync a directory, and do not need it.
        match directory.and_then(|directory| directory.sync_all()) {
            Err(source) if source.raw_os_error() == Some(libc::EIO) => Err(FileError::NotOnDisk { label, source }),
            _ => Ok(()),
        }
    }

    /// Keeps the old content as the backup. Returns the path of the backup, and the path to which an earlier backup was moved.
    fn create_backup(&self, suffix: &OsStr) -> Result<(PathBuf, Option<PathBuf>), FileError> {
        let scratch = self.scratch()?;
        let name = with_suffix(&self.place, suffix);
        let (new, before) = (scratch.inside.join("old"), scratch.inside.join("before"));
        let failed = || self.failed("keep the old content of");
        // The backup is a hard link, or a copy if the file system has no hard links.
        if fs::hard_link(&self.place, &new).is_err()
            && let (Some(old), Some(mut content)) = (&self.old, self.open_old()?)
        {
            let mut options = OpenOptions::new();
            let mut copy = options.write(true).create_new(true).mode(0o600).open(&new).map_err(failed())?;
            os::without_size_signal(|| io::copy(&mut content, &mut copy)).map_err(failed())?;
            copy_attributes(&self.place, old, &copy).map_err(|(_, why)| failed()(why))?;
            copy.sync_all().map_err(failed())?;
        }
        let had_backup = fs::hard_link(&name, &before).is_ok();
        rename_file(&new, &name).map_err(failed())?;
        Ok((name, had_backup.then_some(before)))
    }
}
