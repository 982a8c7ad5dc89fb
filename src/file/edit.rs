//! Read-modify-write of a file: no change is lost, and readers never see a partly written file.
//!
//! [`Edit::begin`] acquires the lock `FILE.lock` and reads the file. The caller writes the new content into the draft
//! ([`Edit::create_draft`]). [`Edit::commit`] replaces the old content with it. The guarantees are:
//!
//! - The lock is held from the read to the rename, so writers that use it never lose each other's changes. It is flock(2) on
//!   `FILE.lock`, so flock(1) on that path is excluded, too.
//! - A reader, which needs no lock, sees the old content or the new content.
//! - A process that does not use the lock can change the file. The command that makes the new content may do so, too. The file
//!   is replaced only if its path leads to the inode that was read, and if that inode has its old content. The content is
//!   compared byte by byte if it was kept in memory ([`Edit::keep_old_content`]), otherwise by size and times. If such a
//!   process truncated the file, the kept content is saved next to it.
//! - If the path is a link, the link stays, and its target is replaced. The new file has the mode, owner, access control list
//!   and other extended attributes of the old file; if they cannot be kept, the file is not replaced. But a user who may write
//!   to the file and may not give it away becomes its owner, as with an editor. Other hard links keep the old content.
//!
//! # Where an update can be killed, and what the next update finds
//!
//! | killed | left behind | the next update |
//! |---|---|---|
//! | before the rename | the old content, and `.FILE.aba-lock.d`: a directory with the draft and the copy, or the draft alone | acquires the lock and removes the leftovers. Another user may not remove them, and uses `.FILE.aba-lock.d-UID`, which the next update by that user removes |
//! | between the rename and the end | the new content | finds nothing to clean up |
//! | by a power failure | the old content or the new content: the draft is on disk (fsync) before the rename, and the directory is on disk before success is reported | finds nothing to clean up |
//!
//! A private file ([`MissingFile::CreatePrivate`]) is changed by many processes at once, so it is written to disk in a
//! cheaper order. This process does not wait for the disk before the rename. It only orders the kernel to write the
//! draft before the rename ([`os::order`]). After the rename, it releases the lock, and waits for the disk before it
//! reports success.

use super::error::FileError;
use super::path::{MissingFile, follow_links, no_file_error, open_directory, open_regular_file, path_in_directory};
use super::scratch::{Scratch, remove_leftovers};
use super::update_lock::UpdateLock;
use super::version::FileVersion;
use crate::base::target::Wait;
use crate::lock::wait::Contention;
use crate::os;
use crate::os::replace::parent_directory;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Maximum size in bytes of old content that is kept in memory while the new content is made.
const MAX_KEPT: u64 = 1 << 20;

/// A locked file. While this value lives, no other process that uses the lock changes the file.
// The order of the last three fields matters, because fields are dropped in order: the scratch directory is removed while the
// lock is held, and through the descriptor of the directory.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct Edit {
    /// The user's path, for messages.
    pub(super) label: String,
    /// The user's path.
    pub(super) asked: PathBuf,
    /// The absolute path, with links resolved.
    pub(super) path: PathBuf,
    /// The path for calls of this process, through the descriptor of the directory that was open when the file was read.
    pub(super) place: PathBuf,
    pub(super) old: Option<File>,
    /// The version of the file when it was opened.
    pub(super) version: Option<FileVersion>,
    /// The old content, if it was kept.
    pub(super) kept: Option<Vec<u8>>,
    /// True if a command makes the new content.
    by_command: bool,
    pub(super) missing: MissingFile,
    /// Created on the first use, so that a caller that only reads under the lock writes nothing.
    scratch: OnceCell<Scratch>,
    pub(super) lock: UpdateLock,
    /// The directory of the file. It keeps `place` valid.
    _directory: Option<File>,
}

impl Edit {
    /// Acquires the lock and opens the file.
    ///
    /// Returns [`FileError::NoFile`] if the file is missing and may not be created (then no lock file is created either),
    /// [`FileError::NotAFile`] if it is not a regular file, and the errors of acquiring a lock.
    pub fn begin(
        file: &Path,
        missing: MissingFile,
        wait: Wait,
        command: String,
        contention: &mut dyn Contention,
    ) -> Result<Self, FileError> {
        let label = file.display().to_string();
        let path = follow_links(file).map_err(|source| no_file_error(&label, source))?;
        // The file is opened before the lock file, so that no lock file is created next to a file that cannot be
        // updated.
        open_regular_file(&label, &path, missing)?;
        let lock = UpdateLock::acquire(&label, &path, missing, wait, command, contention)?;
        // The path may have been changed during the wait so that it leads to another file. In that case, that file is locked
        // instead. From here on, this process works only in the directory that it opens now.
        let directory =
            if missing == MissingFile::CreatePrivate { None } else { Some(open_directory(parent_directory(&path))) };
        let place = path_in_directory(directory.as_ref().and_then(|open| open.as_ref().ok()), &path);
        let leads_here = follow_links(file).ok().as_ref() == Some(&path);
        if !leads_here || (place != path && !lock.is_lock_of(&place)) {
            let command = lock.command().unwrap_or_default().to_owned();
            drop(lock);
            return Self::begin(file, missing, wait, command, contention);
        }
        let directory = directory.transpose().map_err(|source| no_file_error(&label, source))?;
        // The leftovers are removed before the version is read: they may hold a hard link to the file, and removing
        // that link changes the inode.
        remove_leftovers(&place);
        let old = open_regular_file(&label, &place, missing)?;
        let data = old.as_ref().and_then(|old| old.metadata().ok());
        if let Some(data) = &data {
            lock.share_with_writers(data);
        }
        Ok(Self {
            label,
            asked: file.to_owned(),
            path,
            place,
            old,
            version: data.as_ref().map(FileVersion::from_metadata),
            kept: None,
            by_command: false,
            missing,
            scratch: OnceCell::new(),
            lock,
            _directory: directory,
        })
    }

    /// Checks whether the file could be edited, without taking the lock or creating anything.
    pub fn check_editable(file: &Path, missing: MissingFile) -> Result<(), FileError> {
        let label = file.display().to_string();
        let path = follow_links(file).map_err(|source| no_file_error(&label, source))?;
        open_regular_file(&label, &path, missing)?;
        os::may(os::Right::MakeIn, parent_directory(&path)).map_err(|source| FileError::Update {
            what: "make a temporary directory next to",
            label,
            source,
        })
    }

    /// The user's path, for messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The absolute path of the file, with links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file to which the user's path leads, if that path is a link.
    #[must_use]
    pub fn link_target(&self) -> Option<&Path> {
        self.asked.is_symlink().then_some(&self.path)
    }

    /// The value of `ABA_LOCK_UPDATING` for the command of this update, whose output is read from the pipe with the inode
    /// `output`.
    #[must_use]
    pub fn format_entry(&self, output: Option<u64>) -> String {
        self.lock.format_entry(output)
    }

    /// Returns a function that turns the error of a step into a [`FileError`]. `what` names the step: it stands between
    /// "cannot" and the file in the message.
    pub fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> FileError {
        let label = self.label.clone();
        move |source| FileError::Update { what, label, source }
    }

    /// The error that another process has changed the file, whose old content was saved at this path.
    pub(super) fn changed_error(&self, saved: Option<PathBuf>) -> FileError {
        FileError::ChangedMeanwhile { label: self.label.clone(), saved, by_command: self.by_command }
    }

    /// Keeps the old content in memory, unless it is large, so that every change of it is found and lost content can be saved.
    pub fn keep_old_content(&mut self, by_command: bool) -> Result<(), FileError> {
        self.by_command = by_command;
        self.kept = self.read_if_small().map_err(self.failed("read"))?;
        Ok(())
    }

    /// Reads the present content of the file that was opened, unless it is large.
    pub(super) fn read_if_small(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(old) = &self.old else { return Ok(None) };
        let len = old.metadata()?.len();
        // The buffer has room for one more byte, so that growth is noticed.
        let Some(room) = usize::try_from(len + 1).ok().filter(|_| len <= MAX_KEPT) else { return Ok(None) };
        let (mut bytes, mut at) = (vec![0; room], 0);
        while at < room {
            match old.read_at(&mut bytes[at..], at as u64) {
                Ok(0) => break,
                Ok(len) => at += len,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        bytes.truncate(at);
        Ok(Some(bytes))
    }

    /// Opens the old content for reading, from its beginning and with an offset of its own. `None` if there was no file.
    pub fn open_old(&self) -> Result<Option<File>, FileError> {
        let Some(old) = &self.old else { return Ok(None) };
        if let Ok(again) = File::open(format!("/proc/self/fd/{}", old.as_raw_fd())) {
            return Ok(Some(again));
        }
        let again = File::open(&self.path).map_err(self.failed("read"))?;
        match os::same_file(old, &again) {
            Ok(true) => Ok(Some(again)),
            _ => Err(self.changed_error(None)),
        }
    }

    /// Returns the private directory next to the file, and creates it if necessary.
    pub(super) fn scratch(&self) -> Result<&Scratch, FileError> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        let created = Scratch::create(&self.path, &self.place);
        let created = created.map_err(self.failed("make a temporary directory next to"))?;
        Ok(self.scratch.get_or_init(|| created))
    }

    /// Returns the place for the draft of a private file.
    pub(super) fn private_scratch(&self) -> &Scratch {
        self.scratch.get_or_init(|| Scratch::for_private_file(&self.path))
    }
}
