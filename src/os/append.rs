//! Appends to files to which other processes append, too, such as event logs.

use super::signal_action::{without_signal, without_size_signal};
use std::fs::File;
use std::io::{self, Write};

/// Writes with one call, so that the kernel does not mix the bytes with those of other processes. Returns the number of
/// bytes written. A limit on the size of files and a FIFO without a reader make the call fail, instead of ending the
/// process.
pub fn write_once(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    let write = || loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    };
    without_size_signal(|| without_signal(libc::SIGPIPE, write))
}
