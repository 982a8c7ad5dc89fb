//! The terminal of a descriptor and its size.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::os::fd::{BorrowedFd, RawFd};

/// Returns true if `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: 0 to 2 are open since `fill_standard_descriptors`, and the borrow ends with the call.
    std::io::IsTerminal::is_terminal(&unsafe { BorrowedFd::borrow_raw(fd) })
}

/// The number of columns of the terminal of `fd`, 80 if it is not known.
#[must_use]
pub fn terminal_width(fd: RawFd) -> usize {
    terminal_size(fd).0
}

/// The number of columns and rows of the terminal of `fd`, 80 and 24 if they are not known.
#[must_use]
pub fn terminal_size(fd: RawFd) -> (usize, usize) {
    // SAFETY: all bytes zero are a valid `winsize`, and it is ours to be written to.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: `size` lives until the call returns.
    let done = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let or = |number: u16, usual| if done == 0 && number > 0 { usize::from(number) } else { usual };
    (or(size.ws_col, 80), or(size.ws_row, 24))
}
