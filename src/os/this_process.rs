//! Facts about this process and its machine: user, parent, umask, host name, and the name by which it was called.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CStr;
use std::mem;

/// Returns true if this program was called by the name `name`, in whichever directory.
///
/// # Safety
/// `words` is the `argv` of `main`.
#[must_use]
pub unsafe fn is_called(words: *const *const libc::c_char, name: &CStr) -> bool {
    // SAFETY: the list ends in a null pointer, and each text in NUL.
    let called = unsafe {
        if (*words).is_null() {
            return false;
        }
        CStr::from_ptr(*words).to_bytes()
    };
    called.rsplit(|byte| *byte == b'/').next() == Some(name.to_bytes())
}

/// The umask: the mode bits that new files of this process do not get.
#[must_use]
pub fn umask() -> u32 {
    // SAFETY: it cannot fail, and there is no other thread that could make a file in between.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    }
}

/// Runs `action` without a umask, so that a directory gets exactly the mode that it is made with. To change the mode
/// afterwards by the path would not be safe: another user could put a link there between the two steps.
pub fn without_umask<T>(action: impl FnOnce() -> T) -> T {
    // SAFETY: it cannot fail, and there is no other thread that could make a file in between.
    unsafe {
        let mask = libc::umask(0);
        let done = action();
        libc::umask(mask);
        done
    }
}

/// The effective user of this process.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}

/// The parent of this process. 0 if it is in another PID namespace.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    // SAFETY: all bytes zero are a valid `utsname`, and it is ours to be written to.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `names` lives until the call returns.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return String::new();
    }
    // SAFETY: uname(2) ends the name with NUL.
    unsafe { CStr::from_ptr(names.nodename.as_ptr()) }.to_string_lossy().into_owned()
}
