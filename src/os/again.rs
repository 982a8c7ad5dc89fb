//! Opens the file of a descriptor again, so that there is a second open file description. This needs the permission to read the file.

use std::fs::File;
use std::io;

/// Opens the file of a descriptor again, for reading. This needs `/proc`.
#[cfg(linux)]
pub fn open_for_reading(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    // O_NONBLOCK: opening a FIFO could block.
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens the file of a descriptor again, for reading. On other systems, `/dev/fd/N` is only a copy of the descriptor, so the file is opened
/// at the path that the kernel remembers. Fails if it is not there any more.
#[cfg(not(linux))]
pub fn open_for_reading(file: &File) -> io::Result<File> {
    use super::file::{open_unblocked, same_file};
    use std::os::fd::AsRawFd;
    let files = super::proc::portable::list_open_files(std::process::id())?;
    let this = files.into_iter().find(|one| one.number == file.as_raw_fd()).ok_or(io::ErrorKind::NotFound)?;
    let again = open_unblocked(&this.path)?;
    if same_file(file, &again)? { Ok(again) } else { Err(io::ErrorKind::NotFound.into()) }
}
