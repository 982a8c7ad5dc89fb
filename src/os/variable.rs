//! Reads variables of the environment.

#![expect(unsafe_code, reason = "reads memory of the C library, with its reason")]

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// Returns the value of a variable.
///
/// A call reads a dozen variables, most of which are not set. getenv(3) and the standard library take several times as long: they copy
/// the name, compare it byte by byte, and take a lock, because other threads could change the environment. This process changes it only
/// while it has one thread: before a command replaces it, and in a new detached process.
pub(crate) fn read_variable(name: &str) -> Option<OsString> {
    let first = *name.as_bytes().first()?;
    // SAFETY: the list ends in a null pointer, and its texts end in NUL. No thread changes them during this
    // call: see above. The value is copied.
    unsafe {
        let mut next = ptr::read(&raw const environ);
        while !next.is_null() && !(*next).is_null() {
            let text = *next;
            next = next.add(1);
            if text.cast::<u8>().read() != first {
                continue;
            }
            let value =
                CStr::from_ptr(text).to_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value {
                return Some(OsStr::from_bytes(value).to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the other way to read a variable")]
    fn a_variable_is_found_by_its_whole_name() {
        let path = std::env::var_os("PATH").unwrap();
        assert_eq!(read_variable("PATH"), Some(path));
        for name in ["", "PAT", "PATHS", "PATH=", "ABA_LOCK_NO_SUCH_VARIABLE"] {
            assert_eq!(read_variable(name), None, "{name}");
        }
    }
}
