//! sysctl(3): reads a value of the kernel whose length is not known before.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CStr;
use std::io;
use std::ptr;

/// The number of attempts to read a value that grows in the meantime.
const MAX_READS: usize = 8;

/// Reads the value with these numbers.
pub(super) fn read(name: &[libc::c_int]) -> io::Result<Vec<u8>> {
    let mut name = name.to_vec();
    let name_len = name.len().try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    read_with(|value, len| {
        // SAFETY: the name has this length, `value` is null or has `len` bytes, and all live until the call returns.
        unsafe { libc::sysctl(name.as_mut_ptr(), name_len, value, len, ptr::null_mut(), 0) }
    })
}

/// Reads the value with this name.
pub(super) fn read_by_name(name: &CStr) -> io::Result<Vec<u8>> {
    read_with(|value, len| {
        // SAFETY: the name ends in NUL, `value` is null or has `len` bytes, and all live until the call returns.
        unsafe { libc::sysctlbyname(name.as_ptr(), value, len, ptr::null_mut(), 0) }
    })
}

fn read_with(mut call: impl FnMut(*mut libc::c_void, *mut usize) -> libc::c_int) -> io::Result<Vec<u8>> {
    for _ in 0..MAX_READS {
        let mut len = 0;
        if call(ptr::null_mut(), &raw mut len) != 0 {
            return Err(io::Error::last_os_error());
        }
        // Room for what is added in the meantime.
        let mut value = vec![0; len + len / 8 + 64];
        len = value.len();
        if call(value.as_mut_ptr().cast(), &raw mut len) == 0 {
            value.truncate(len);
            return Ok(value);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOMEM) => {}
            error => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}
