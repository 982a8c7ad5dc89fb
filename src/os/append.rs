//! Appends to files to which other processes append, too.

use super::signal_mask::{without_signal, without_size_signal};
use std::fs::File;
use std::io::{self, Write};

/// Writes with one call, so that it stays in one piece. Returns the number of bytes. A limit on the size of files, and a
/// FIFO whose reader has ended, are errors, and not the end of the process.
pub fn write_once(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    let write = || loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    };
    without_size_signal(|| without_signal(libc::SIGPIPE, write))
}
