//! The lock of an update: an flock(2) lock on `FILE.lock`, next to the file. [`edit`](super::edit) acquires it before it reads
//! the file, and holds it until the new content has replaced the old one.
//!
//! The file itself is never locked, because the rename that replaces it changes its inode. A script that runs flock(1) on
//! `FILE.lock` uses the same lock.

use super::error::FileError;
use super::path::{MissingFile, with_suffix};
use crate::base::environment::update_above;
use crate::base::target::{Kind, Target, Wait};
use crate::lock::acquire;
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent, ReleaseCause};
use crate::lock::record::{self, Content};
use crate::lock::request::{Acquired, Guard, Request};
use crate::lock::wait::Contention;
use crate::os::proc::process;
use crate::os::{self, leads_to};
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::Instant;

/// The lock of a file that is being updated. Dropping it releases the lock and writes that to the event log.
#[derive(Debug)]
pub(super) struct UpdateLock {
    acquired: Acquired,
    command: Option<String>,
    since: Instant,
}

impl UpdateLock {
    /// Acquires the lock of the file `path`, which messages call `label`.
    ///
    /// An update can be started by the command of another update of the same file. Then there may be a deadlock:
    ///
    /// 1. The outer update holds the lock. It waits until its command has ended and the pipe with the output is closed.
    /// 2. The command starts this process, and may wait for it.
    /// 3. This process waits for the lock.
    ///
    /// If this process can write to that pipe, the outer update certainly waits for it, so this function fails at once if the
    /// lock is held. Otherwise the search for deadlocks decides during the wait. The error is [`FileError::UpdatesItself`] in
    /// both cases.
    pub(super) fn acquire(
        label: &str,
        path: &Path,
        missing: MissingFile,
        wait: Wait,
        command: String,
        contention: &mut dyn Contention,
    ) -> Result<Self, FileError> {
        // Only the owner of a private file may open its lock file. Every user who may write to another file may lock it.
        let kind = if missing == MissingFile::CreatePrivate { Kind::Named } else { Kind::Beside };
        let target = Target { label: label.to_owned(), path: with_suffix(path, ".lock"), kind, key: None, link: None };
        let above = fs::metadata(&target.path).ok().and_then(|lock| update_above(lock.dev(), lock.ino()));
        let is_awaited = above.as_ref().and_then(|update| update.output).is_some_and(process::writes_to_pipe);
        let request =
            Request { command: Some(command), ..Request::exclusive(if is_awaited { Wait::No } else { wait }) };
        let acquired = acquire::acquire(vec![target], None, &request, contention).map_err(|error| match error {
            LockError::Open { path, source, .. } => {
                FileError::Update { what: "open the lock file", label: path.display().to_string(), source }
            }
            LockError::Busy { label, .. } if is_awaited => FileError::UpdatesItself { label },
            LockError::Deadlock { label, .. } if above.is_some() => FileError::UpdatesItself { label },
            other => other.into(),
        })?;
        Ok(Self { acquired, command: request.command, since: Instant::now() })
    }

    /// The command line for the holder record.
    pub(super) fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// Returns true if the locked file is the lock file of the file at `place`.
    pub(super) fn is_lock_of(&self, place: &Path) -> bool {
        self.acquired.guards.iter().all(|guard| leads_to(&with_suffix(place, ".lock"), guard.file()))
    }

    /// Returns the path of the lock file if another process has removed or replaced it.
    pub(super) fn removed_path(&self) -> Option<&Path> {
        let removed = self.acquired.guards.iter().find(|guard| !leads_to(&guard.target.path, guard.file()))?;
        Some(&removed.target.path)
    }

    /// Changes owner and mode of the lock file so that every user who may write to the file may also lock it. The umask of the
    /// user who created the lock file may have prevented that.
    ///
    /// The owner of the directory could rename any file to the name of the lock file, and root would give that file away. So
    /// only a file that has a holder record and no other hard link is changed.
    pub(super) fn share_with_writers(&self, data: &Metadata) {
        let writers = data.mode() & 0o022;
        for lock in self.acquired.guards.iter().map(Guard::file) {
            let Ok(current) = lock.metadata() else { continue };
            let changes_owner = os::user_id() == 0 && current.uid() == 0 && data.uid() != 0;
            let changes_group = current.gid() != data.gid() && writers & 0o020 != 0;
            let lacks_rights = current.mode() & (writers << 1) != writers << 1;
            let is_ours = || current.nlink() == 1 && matches!(record::read(lock), Content::Record(_));
            if !(changes_owner || changes_group || lacks_rights) || !is_ours() {
                continue;
            }
            if changes_owner {
                let _ = fchown(lock, Some(data.uid()), Some(data.gid()));
            } else if changes_group {
                let _ = fchown(lock, None, Some(data.gid()));
            }
            if lacks_rights {
                let _ = lock
                    .set_permissions(Permissions::from_mode(current.mode() & 0o7777 | 0o600 | writers << 1 | writers));
            }
        }
    }

    /// Returns the value of `ABA_LOCK_UPDATING` for the command of this update: it identifies the lock file, this process, and
    /// the pipe with the inode `output`, from which this process reads the output of the command. If the command starts another
    /// update, that update reads the value in [`UpdateLock::acquire`].
    pub(super) fn format_entry(&self, output: Option<u64>) -> String {
        let lock = self.acquired.guards.first().and_then(|guard| guard.file().metadata().ok());
        let (pid, output) = (std::process::id(), output.map(|inode| inode.to_string()).unwrap_or_default());
        lock.map(|lock| format!("{}:{}:{pid}:{output}", lock.dev(), lock.ino())).unwrap_or_default()
    }
}

impl Drop for UpdateLock {
    fn drop(&mut self) {
        for guard in &self.acquired.guards {
            let event = LockEvent::Released { held: Some(self.since.elapsed()), cause: Some(ReleaseCause::Release) };
            events::log_event(&event, &guard.target, std::process::id(), self.command.as_deref());
        }
    }
}
