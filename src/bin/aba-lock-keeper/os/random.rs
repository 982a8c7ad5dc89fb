//! Random numbers from the kernel.

#![expect(unsafe_code, reason = "getrandom(2)")]

use std::io;

/// Returns a random number of 62 bits that is not zero and cannot be guessed.
pub(crate) fn random_number() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: `bytes` lives until the call returns.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok((u64::from_ne_bytes(bytes) >> 2).max(1))
}
