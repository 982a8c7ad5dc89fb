//! Writing where others write, too.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::without_size_signal;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::ptr;

/// Writes with one call, so that it stays in one piece. How much was written; a limit on the size of files, and a FIFO
/// whose reader has gone away, are errors of it, and not the end of the process.
pub fn write_once(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    without_size_signal(|| {
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
        let old = unsafe {
            let (mut ignore, mut old): (libc::sigaction, libc::sigaction) = mem::zeroed();
            ignore.sa_sigaction = libc::SIG_IGN;
            libc::sigaction(libc::SIGPIPE, &raw const ignore, &raw mut old);
            old
        };
        let written = loop {
            match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        // SAFETY: `old` was filled by the call above.
        unsafe { libc::sigaction(libc::SIGPIPE, &raw const old, ptr::null_mut()) };
        written
    })
}
