//! The terminal on a descriptor: whether it is one, and its size.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;
use std::os::fd::{BorrowedFd, RawFd};

/// Whether `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: 0 to 2 are open since `fill_standard_descriptors`, and the borrow ends with the call.
    std::io::IsTerminal::is_terminal(&unsafe { BorrowedFd::borrow_raw(fd) })
}

/// How many columns the terminal on `fd` has.
#[must_use]
pub fn terminal_width(fd: RawFd) -> usize {
    terminal_size(fd).0
}

/// How many columns and rows the terminal on `fd` has.
#[must_use]
pub fn terminal_size(fd: RawFd) -> (usize, usize) {
    // SAFETY: all bytes zero are a valid `winsize`, and it is ours to be written to.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: `size` lives until the call returns.
    let done = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let or = |number: u16, usual| if done == 0 && number > 0 { usize::from(number) } else { usual };
    (or(size.ws_col, 80), or(size.ws_row, 24))
}
