//! Making files for the owner of the directory that they are in.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::this_process::user_id;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Runs `make`, which makes a file or directory in `directory`; if this process is root and `directory` belongs to
/// another user, with the rights of that user, to whom the file then belongs. Otherwise one call with sudo(8) and the
/// user's `HOME` would lock the user out.
///
/// To make it as root and give it away afterwards would not be safe: the owner of the directory can put something else
/// in its place between the two steps. If that user may not make it, root does.
///
/// A directory that is not there yet will belong to the owner of the nearest one above it that is.
pub fn as_owner<T>(directory: &Path, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let Some(rights) = Rights::of_owner(directory) else { return make() };
    let file = make();
    drop(rights);
    match file {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => make(),
        file => file,
    }
}

/// Gives this thread the rights of another user for access to files, until it is dropped.
struct Rights {
    group: u32,
}

impl Rights {
    fn of_owner(directory: &Path) -> Option<Self> {
        if user_id() != 0 {
            return None;
        }
        let owner = directory.ancestors().find_map(|directory| fs::metadata(directory).ok())?;
        (owner.uid() != 0).then(|| Self::of(owner.uid(), owner.gid())).flatten()
    }

    /// `None`: the kernel refused, as it does without `CAP_SETUID` or for a user that this user namespace does not
    /// have.
    #[cfg(target_os = "linux")]
    fn of(user: u32, group: u32) -> Option<Self> {
        let ours = file_system_group(group);
        let rights = Self { group: ours };
        // An invalid number changes nothing, and the call returns the user that is in force.
        file_system_user(user);
        (file_system_user(u32::MAX) == user && file_system_group(u32::MAX) == group).then_some(rights)
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: u32, _: u32) -> Option<Self> {
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for Rights {
    fn drop(&mut self) {
        file_system_user(0);
        file_system_group(self.group);
    }
}

/// Sets the user for access to files, of this thread. Returns the one before.
#[cfg(target_os = "linux")]
fn file_system_user(user: u32) -> u32 {
    // SAFETY: it takes a number, and leaves everything as it is where it may not change it.
    unsafe { libc::setfsuid(user) }.cast_unsigned()
}

/// The same for the group.
#[cfg(target_os = "linux")]
fn file_system_group(group: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::setfsgid(group) }.cast_unsigned()
}
