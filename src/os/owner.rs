//! Creates files as the owner of their directory.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::this_process::user_id;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Runs `make`, which creates a file or directory in `directory`. If this process is root and `directory` belongs to
/// another user, `make` runs with the rights of that user, to whom the file then belongs. If the file belonged to root,
/// one call with sudo(8) and the `HOME` of the user would lock the user out. If that user may not create the file, root
/// does.
///
/// To create the file as root and change its owner afterwards would not be safe: the owner of the directory can replace
/// it between the two steps.
///
/// A directory that does not exist yet will belong to the owner of its nearest ancestor that exists.
pub fn as_owner<T>(directory: &Path, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let Some(rights) = OwnerRights::take(directory) else { return make() };
    let file = make();
    drop(rights);
    match file {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => make(),
        file => file,
    }
}

/// The file access rights of another user, which this thread has until the value is dropped.
struct OwnerRights {
    group: u32,
}

impl OwnerRights {
    fn take(directory: &Path) -> Option<Self> {
        if user_id() != 0 {
            return None;
        }
        let owner = directory.ancestors().find_map(|directory| fs::metadata(directory).ok())?;
        (owner.uid() != 0).then(|| Self::take_from_user(owner.uid(), owner.gid())).flatten()
    }

    /// `None` if the kernel refuses, as it does without `CAP_SETUID` or for a user without a number in this user
    /// namespace.
    #[cfg(linux)]
    fn take_from_user(user: u32, group: u32) -> Option<Self> {
        let ours = file_system_group(group);
        let rights = Self { group: ours };
        // A call with an invalid number changes nothing, and returns the present user.
        file_system_user(user);
        (file_system_user(u32::MAX) == user && file_system_group(u32::MAX) == group).then_some(rights)
    }

    #[cfg(not(linux))]
    fn take_from_user(_: u32, _: u32) -> Option<Self> {
        None
    }
}

#[cfg(linux)]
impl Drop for OwnerRights {
    fn drop(&mut self) {
        file_system_user(0);
        file_system_group(self.group);
    }
}

/// Sets the user for file access of this thread. Returns the one before.
#[cfg(linux)]
fn file_system_user(user: u32) -> u32 {
    // SAFETY: it takes a number, and changes nothing if it fails.
    unsafe { libc::setfsuid(user) }.cast_unsigned()
}

/// Sets the group for file access of this thread. Returns the one before.
#[cfg(linux)]
fn file_system_group(group: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::setfsgid(group) }.cast_unsigned()
}
