//! Writes to standard output and standard error, and ends a write that a signal interrupts.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::io;

/// Writes all bytes to standard output or error (1 or 2), but stops if a signal comes or if a write fails.
pub fn write_until_signal(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty()
        && let Ok(written @ 1..) = write_some(fd, bytes)
    {
        bytes = &bytes[written..];
    }
}

/// Writes with one call to standard output or error (1 or 2). Returns the number of bytes written, 0 if a signal came.
pub fn write_some(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live until the call returns.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    let Err(error) = usize::try_from(written).map_err(|_| io::Error::last_os_error()) else {
        return Ok(written.cast_unsigned());
    };
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(0),
        io::ErrorKind::WouldBlock => {
            // Another process has set O_NONBLOCK, which affects all processes that share the open file description.
            let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one element, which lives until the call returns.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            Ok(0)
        }
        _ => Err(error),
    }
}
