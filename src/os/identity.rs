//! The identity of a directory, which no other directory has, not even one that gets its device and inode later.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The properties that together identify a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its device. A file system that is mounted later can get the same.
    pub device: u64,
    /// Its inode. A file that is created later can get the same.
    pub inode: u64,
    /// Its creation time, or the id of its file system. `None` if neither is known.
    pub origin: Option<u128>,
    /// The id of its mount, which is unique while it is mounted; 0 if it is not known.
    pub mount: u64,
}

/// The identity of the directory at `path`.
pub fn identity(path: &Path) -> io::Result<Identity> {
    let data = std::fs::symlink_metadata(path)?;
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let born = data.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let origin = born.map(|born| born.as_nanos()).filter(|born| *born != 0);
    let origin = origin.or_else(|| number_of_file_system(&name).map(u128::from));
    Ok(Identity { device: data.dev(), inode: data.ino(), origin, mount: mount(&name) })
}

fn number_of_file_system(path: &CString) -> Option<u64> {
    // SAFETY: all bytes zero are a valid `statvfs`, and it is ours to be written to.
    let mut data: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    let done = unsafe { libc::statvfs(path.as_ptr(), &raw mut data) };
    #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
    let number = u64::from(data.f_fsid);
    (done == 0 && number != 0).then_some(number)
}

#[cfg(linux)]
fn mount(path: &CString) -> u64 {
    // SAFETY: all bytes zero are a valid `statx`, and it is ours to be written to.
    let mut data: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    let done = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT,
            libc::STATX_MNT_ID,
            &raw mut data,
        )
    };
    if done == 0 && data.stx_mask & libc::STATX_MNT_ID != 0 { data.stx_mnt_id } else { 0 }
}

#[cfg(not(linux))]
fn mount(_: &CString) -> u64 {
    0
}
