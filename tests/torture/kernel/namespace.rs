//! Namespaces, and mounts in them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::error::check;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Creates new namespaces, for the children of this process. A mount namespace also holds for this process.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: it takes a number.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

pub(crate) fn user_and_group() -> (u32, u32) {
    // SAFETY: they take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// mount(2).
pub(crate) fn mount(kind: &CStr, target: &Path, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (target, data) = (CString::new(target.as_os_str().as_bytes())?, CString::new(data)?);
    // SAFETY: all strings end in NUL and live until the call returns.
    check(unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) }).map(drop)
}

/// Unmounts a file system, even if it is in use. Ignores errors, such as that there is no mount.
pub(crate) fn unmount(target: &Path) {
    let Ok(target) = CString::new(target.as_os_str().as_bytes()) else { return };
    // SAFETY: the path ends in NUL and lives until the call returns.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
}
