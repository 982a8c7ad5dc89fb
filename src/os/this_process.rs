//! Facts about this process and its machine: user, parent, umask, host name, and the name by which it was called.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::{CStr, OsStr, OsString};
use std::iter;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The `argv` of `main`.
static WORDS: AtomicPtr<*const libc::c_char> = AtomicPtr::new(ptr::null_mut());

/// Notes the words of the command line, for [`words`]. The entry point calls this before any other function.
///
/// The standard library gets them from the C library only with glibc, or if it calls `fn main`.
///
/// # Safety
/// `words` is the `argv` of `main`.
pub unsafe fn note_words(words: *const *const libc::c_char) {
    WORDS.store(words.cast_mut(), Ordering::Relaxed);
}

/// The words of the command line; the first one is the name by which this program was called.
pub fn words() -> impl Iterator<Item = OsString> {
    let mut next = WORDS.load(Ordering::Relaxed).cast_const();
    iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: `next` points into the list of `main`, which lives as long as this process and ends in a null
        // pointer. Each text in it ends in NUL.
        unsafe {
            if (*next).is_null() {
                return None;
            }
            let word = CStr::from_ptr(*next);
            next = next.add(1);
            Some(OsStr::from_bytes(word.to_bytes()).to_owned())
        }
    })
}

/// Overwrites the words after `--`, also in `/proc/PID/cmdline`. [`words`] must not be called any more.
pub(super) fn hide_command() {
    let mut next = WORDS.load(Ordering::Relaxed);
    let mut is_command = false;
    // SAFETY: as in `words`. The texts are in memory of this process that can be written, and there is no reference to them.
    unsafe {
        while !next.is_null() && !(*next).is_null() {
            let (text, len) = ((*next).cast_mut(), CStr::from_ptr(*next).count_bytes());
            if is_command {
                ptr::write_bytes(text, 0, len);
            }
            is_command |= len == 2 && *text.cast::<[u8; 2]>() == *b"--";
            next = next.add(1);
        }
    }
}

/// Returns true if this program was called by the name `name`, in whichever directory.
#[must_use]
pub fn is_called(name: &str) -> bool {
    words().next().is_some_and(|called| called.as_bytes().rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes()))
}

/// The umask: the mode bits that new files of this process do not get.
#[must_use]
#[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "the type of a mode is shorter elsewhere"))]
pub fn umask() -> u32 {
    // SAFETY: it cannot fail, and there is no other thread that could make a file in between.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask.into()
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

/// Returns true if this process may give its files to this group, because it is a member or root.
#[must_use]
pub fn is_member(group: u32) -> bool {
    let mut groups = vec![0; 65536];
    // SAFETY: the call writes at most the given number of elements, and the list has as many. It cannot fail for the other two.
    let (own, count) = unsafe { (libc::getegid(), libc::getgroups(65536, groups.as_mut_ptr())) };
    user_id() == 0 || own == group || groups[..usize::try_from(count).unwrap_or(0)].contains(&group)
}

/// The parent of this process. 0 if it is in another PID namespace.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// The name that this machine had when this process asked first.
#[must_use]
pub fn host_name() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(ask_host_name)
}

fn ask_host_name() -> String {
    // SAFETY: all bytes zero are a valid `utsname`, and it is ours to be written to.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `names` lives until the call returns.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return String::new();
    }
    // SAFETY: uname(2) ends the name with NUL.
    unsafe { CStr::from_ptr(names.nodename.as_ptr()) }.to_string_lossy().into_owned()
}
