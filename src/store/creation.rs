//! Decides the mode, the group and the owner of the files that are created in the state root, and of lock files elsewhere. All
//! code that creates such a file asks here, so that another policy changes only this module.
//!
//! The policy: the directory decides which users share the files in it ([`DirectoryUsers`]).
//!
//! | users who may write to the directory | a new file |
//! |---|---|
//! | only its owner | has mode 0600 |
//! | its group | has mode 0660, and the group of the directory |
//! | all users, and the directory is sticky, as `/tmp` is | has mode 0666 |
//! | all users, without the sticky bit | is refused, because any user could replace a file whose lock is held |
//! | all users, but not its group | is refused: mode 0666 would give more to the group than the directory does, and mode 0606 would take the lock from users who may write to the directory, because the group of a file is that of its creator |
//!
//! If the directory has an access control list, the bits of the group are its mask, and a new file that users share gets a list with
//! the same rights (`os/access_list.rs`). A default list has no effect. If root creates a file in the directory of another user, it
//! belongs to that user, because one call with sudo(8) and the `HOME` of the user would lock the user out otherwise. A lock file
//! elsewhere gets the mode that a file of the user would get.
//!
//! The shell library creates no file: it opens files that exist, and calls `aba-lock path --create` for others. There is one
//! exception:
//!
//! 1. The library finds that the lock file exists.
//! 2. `clean` removes the file, because it is free.
//! 3. Bash opens the path. It opens with `O_CREAT`, because its `<>` cannot do without, so the file is created with the umask of
//!    the script. The lock is right, because the helper verifies that the path leads to the file.
//! 4. The helper writes the first record into the file. It gives the file the access of its directory before
//!    ([`share_lock_file`]).
//!
//! In a sticky directory, the library opens no lock file by its path, so this does not occur there.

use crate::base::target::Kind;
use crate::base::text::quote_path;
use crate::os::proc::process;
use crate::os::replace::parent_directory;
use crate::os::{self, FileAccess};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The mode of a directory for locks, registries and numbers that its owner does not share.
pub const STATE_DIRECTORY: u32 = 0o700;

/// The mode of a directory of tasks that its owner does not share, through which other users reach a task by its id.
pub const TASK_DIRECTORY: u32 = 0o711;

/// The mode of a file of the user, of which the umask removes bits.
pub const USERS_FILE: u32 = 0o666;

/// The access to a file in a directory that its owner does not share.
pub const PRIVATE_FILE: FileAccess = FileAccess { mode: 0o600, group: None };

/// The access that the owner of a new file has with any umask. If the user could not open a lock file, every later attempt to
/// lock it would fail.
const OWNER_ACCESS: u32 = 0o600;

/// The users who share the files of a directory, because they may write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryUsers {
    Owner,
    /// The members of this group.
    Group(u32),
    Everyone,
    /// Every user may replace files of other users, so no file is safe.
    Unsafe,
    /// The members of the group may do less than all other users, which no mode of a new file could copy.
    AllButGroup,
}

impl DirectoryUsers {
    /// Returns the users who share a directory with this mode and group.
    #[must_use]
    pub fn from_mode(mode: u32, group: u32) -> Self {
        match (mode & 0o002 != 0, mode & os::mode::STICKY != 0, mode & 0o020 != 0) {
            (true, true, true) => Self::Everyone,
            (true, true, false) => Self::AllButGroup,
            (true, false, _) => Self::Unsafe,
            (false, _, true) => Self::Group(group),
            (false, _, false) => Self::Owner,
        }
    }

    /// Returns the users who share `directory`.
    pub fn of_directory(directory: &Path) -> io::Result<Self> {
        let data = fs::metadata(directory)?;
        Ok(Self::from_mode(data.mode(), data.gid()))
    }

    /// Returns the reason why there must be no locks in a directory with these users, as a clause about the directory.
    #[must_use]
    pub fn problem(self) -> Option<&'static str> {
        match self {
            Self::Unsafe => Some("every user can replace files in it, because it is not sticky"),
            Self::AllButGroup => Some("all users may write to it, but not the members of its group"),
            Self::Owner | Self::Group(_) | Self::Everyone => None,
        }
    }

    /// Returns the next step for the user if there must be no locks in `directory`, which has these users.
    #[must_use]
    pub fn hint(self, directory: &Path) -> Option<String> {
        let better = match self {
            Self::Unsafe => "+t",
            Self::AllButGroup => "g+w",
            Self::Owner | Self::Group(_) | Self::Everyone => return None,
        };
        Some(format!("run `chmod {better} {0}`, or `chmod o-w {0}`", quote_path(directory)))
    }

    /// Returns the access to a new file, or the reason why there must be none.
    fn access_to_file(self) -> io::Result<FileAccess> {
        match self {
            Self::Owner => Ok(PRIVATE_FILE),
            Self::Group(group) => Ok(FileAccess { mode: 0o660, group: Some(group) }),
            Self::Everyone => Ok(FileAccess::with_mode(0o666)),
            Self::Unsafe => Err(io::Error::other("every user can replace files in its directory, which is not sticky")),
            Self::AllButGroup => Err(io::Error::other(
                "all users may write to its directory, but not the members of the group of the directory",
            )),
        }
    }
}

/// Returns the access to a new file in a directory of the state root, such as a lock file, a log, a file of a task or a registry.
pub fn access_in(directory: &Path) -> io::Result<FileAccess> {
    DirectoryUsers::of_directory(directory)?.access_to_file()
}

/// Creates a file of ours with this access, or fails with `EEXIST`. `options` open it, with these `flags`.
pub fn create_file(path: &Path, access: FileAccess, options: &OpenOptions, flags: i32) -> io::Result<File> {
    if access == PRIVATE_FILE {
        return create_for_owner(path, access.mode, options, flags);
    }
    os::create_file_with(path, access, options, flags).map_err(|error| explain_group(error, access))
}

/// Creates a lock file, or fails with `EEXIST`. `options` open it, with these `flags`.
pub fn create_lock_file(path: &Path, kind: Kind, options: &OpenOptions, flags: i32) -> io::Result<File> {
    match kind {
        Kind::Named => create_file(path, access_in(parent_directory(path))?, options, flags),
        Kind::Beside => create_for_owner(path, USERS_FILE, options, flags),
        Kind::Users => options.clone().create_new(true).mode(USERS_FILE).custom_flags(flags).open(path),
    }
}

/// Creates a file with a mode, of which the umask removes bits. It belongs to the owner of its directory.
fn create_for_owner(path: &Path, mode: u32, options: &OpenOptions, flags: i32) -> io::Result<File> {
    let mut options = options.clone();
    options.create_new(true).mode(mode).custom_flags(flags);
    let file = os::as_owner(parent_directory(path), || options.open(path))?;
    // The umask may have removed these bits.
    let mode = file.metadata().ok().map(|data| data.mode() & 0o777);
    if let Some(mode) = mode.filter(|mode| mode & OWNER_ACCESS != OWNER_ACCESS) {
        let _ = file.set_permissions(Permissions::from_mode(mode | OWNER_ACCESS));
    }
    Ok(file)
}

/// Creates a directory of ours in the state root. If users share the directory that contains it, they share this one. Otherwise it
/// has mode `private`.
pub fn create_directory(path: &Path, private: u32) -> io::Result<()> {
    let access = match DirectoryUsers::of_directory(parent_directory(path))? {
        DirectoryUsers::Group(group) => FileAccess { mode: 0o770, group: Some(group) },
        DirectoryUsers::Everyone => FileAccess::with_mode(0o1777),
        DirectoryUsers::Owner => return create_private_directory(path, private),
        refused @ (DirectoryUsers::Unsafe | DirectoryUsers::AllButGroup) => refused.access_to_file()?,
    };
    os::create_directory_with(path, access).map_err(|error| explain_group(error, access))
}

/// Creates a directory that its owner does not share with others. It has exactly this mode.
pub fn create_private_directory(path: &Path, mode: u32) -> io::Result<()> {
    os::as_owner(path, || os::without_umask(|| DirBuilder::new().mode(mode).create(path)))
}

/// Does the same as [`create_directory`], but in a directory that all users share, the new one has mode `private`, too: another
/// user could falsify the outcome of a task, or a registry.
pub fn create_directory_for_group(path: &Path, private: u32) -> io::Result<()> {
    match DirectoryUsers::of_directory(parent_directory(path))? {
        DirectoryUsers::Everyone => create_private_directory(path, private),
        _ => create_directory(path, private),
    }
}

/// Returns the access to a new file in the directory of a task, which has this metadata.
#[must_use]
pub fn access_to_task_files(directory: &Metadata) -> FileAccess {
    DirectoryUsers::from_mode(directory.mode(), directory.gid()).access_to_file().unwrap_or(PRIVATE_FILE)
}

/// Gives a lock file that bash has created the access of its directory. A file of another user is left alone. If the mode of a file
/// was set after its creation, as an administrator does to share it, no access is taken away.
pub fn share_lock_file(file: &File, path: &Path) -> io::Result<()> {
    let directory = fs::metadata(parent_directory(path))?;
    let access = DirectoryUsers::from_mode(directory.mode(), directory.gid()).access_to_file()?;
    let data = file.metadata()?;
    if data.uid() != os::user_id() || data.nlink() != 1 {
        return Ok(());
    }
    let mode = data.mode() & 0o7777;
    // In the directory of another user, a private file of root would lock that user out.
    if is_as_created(file, &data) && (access != PRIVATE_FILE || directory.uid() == data.uid()) {
        access.apply_in(parent_directory(path), file)
    } else if access == PRIVATE_FILE {
        Ok(())
    } else {
        FileAccess { mode: access.mode | mode, ..access }.apply(file)
    }
}

/// Returns true if this is an empty file, with the mode with which a shell with our umask creates one, or with a list, from which the
/// kernel takes the mode. A later change of the mode or of the list would have changed the time of the inode only.
fn is_as_created(file: &File, data: &Metadata) -> bool {
    let times = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
    let (is_new, mode) = (data.len() == 0 && times.0 == times.1, data.mode() & 0o7777);
    is_new && (mode == USERS_FILE & !os::umask() || mode & 0o077 != 0 && os::has_access_list(file))
}

/// Returns the reason why this user may not give a file to the group of its directory.
#[must_use]
pub fn explain_membership(group: u32) -> String {
    let (user, group) = (process::user_name(os::user_id()), process::group_name(group));
    format!("user {user} is not a member of group {group}, to which the directory belongs")
}

/// Replaces the error that this user may not give a file to the group of its directory.
fn explain_group(error: io::Error, access: FileAccess) -> io::Error {
    match access.group {
        Some(group) if error.raw_os_error() == Some(libc::EPERM) => {
            io::Error::new(io::ErrorKind::PermissionDenied, explain_membership(group))
        }
        _ => error,
    }
}
