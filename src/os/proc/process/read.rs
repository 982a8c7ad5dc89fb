//! Reads files of `/proc` with as few system calls as possible.
//!
//! These files have no size, and the kernel generates their content anew for each reader. One `read` call therefore
//! returns one consistent state, and two calls may not.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};

/// The number of bytes that [`read_small`] reads.
pub(super) const SMALL: usize = 4096;

/// Reads the first 4 KiB of a file with one call. Longer content, such as a long command line, is cut.
pub(crate) fn read_small(path: &str) -> Option<String> {
    try_read_small(path).ok()
}

/// Reads the first 4 KiB of a file with one call, or returns why it cannot be read.
pub(crate) fn try_read_small(path: &str) -> io::Result<String> {
    refuse_proc(path)?;
    let mut bytes = [0; SMALL];
    let len = fs::File::open(path)?.read(&mut bytes)?;
    Ok(decode_lossy(&bytes[..len]).into_owned())
}

/// Fails for a file in `/proc` if this is the code for other systems, which have no such files.
fn refuse_proc(path: &str) -> io::Result<()> {
    if cfg!(not(linux)) && path.starts_with("/proc/") { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
}

/// The number of bytes that [`read_short`] reads at first.
pub(super) const SHORT: usize = 512;

/// Reads the first 4 KiB of a file that is usually shorter than 512 bytes. The small buffer saves the time to clear a
/// large one.
pub(super) fn read_short(path: &str) -> Option<String> {
    refuse_proc(path).ok()?;
    let mut bytes = [0; SHORT];
    let len = fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    if len == SHORT { read_small(path) } else { Some(decode_lossy(&bytes[..len]).into_owned()) }
}

/// Returns true if a read in `/proc` failed because the process or the descriptor is gone. After another
/// error, such as a lack of descriptors or memory, the process may hold a lock.
pub(in crate::os::proc) fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Decodes UTF-8, and shows bytes that are not UTF-8 as U+FFFD. For valid text this is faster than
/// [`String::from_utf8_lossy`].
pub(crate) fn decode_lossy(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Reads a whole file with few calls, since each call returns the state at that moment.
pub(crate) fn read_whole(path: &str) -> Option<String> {
    refuse_proc(path).ok()?;
    let mut bytes = Vec::with_capacity(64 * 1024);
    fs::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
