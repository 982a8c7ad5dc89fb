//! Reading and writing the record in a lock file.

use super::format::{Content, MAX_LEN, Record, USUAL_LEN, content_of, token_in};
use crate::os;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What is in the lock file at `path`. [`Content::Empty`] when it cannot be read: it is only a courtesy.
#[must_use]
pub fn read_path(path: &Path) -> Content {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match file {
        Ok(file) if file.metadata().is_ok_and(|data| data.is_file()) => read(&file),
        _ => Content::Empty,
    }
}

/// What is in the file to which this link to a descriptor leads (in `/proc/PID/fd`), also if it was removed.
pub(crate) fn read_descriptor(link: &Path) -> Content {
    // To open anything but a file could block, or do something.
    if !fs::metadata(link).is_ok_and(|data| data.is_file()) {
        return Content::Empty;
    }
    File::open(link).map_or(Content::Empty, |file| read(&file))
}

/// What is in the lock file that is open as `file`.
#[must_use]
pub fn read(file: &File) -> Content {
    bytes_of(file, content_of).unwrap_or(Content::Empty)
}

/// What `look` makes of the bytes of a lock file, as far as a record goes.
fn bytes_of<T>(file: &File, look: impl Fn(&[u8]) -> T) -> io::Result<T> {
    let mut bytes = [0; USUAL_LEN];
    let len = file.read_at(&mut bytes, 0)?;
    if len == bytes.len() {
        let mut bytes = vec![0; MAX_LEN];
        let len = file.read_at(&mut bytes, 0)?;
        return Ok(look(&bytes[..len]));
    }
    Ok(look(&bytes[..len]))
}

/// The token of the record in the lock file that is open as `file`, also where the rest of it cannot be read; 0 where there is
/// no record (yet), `None` where the file has somebody's data.
///
/// Less than [`read`]: another waits for what is done once the lock is had.
#[must_use]
pub fn last_token(file: &File) -> Option<u64> {
    bytes_of(file, token_in).unwrap_or(Some(0))
}

/// Writes `record` over what is in `file`, which is open on `path` and has nobody's data.
///
/// A descriptor that can only be read is enough to hold a lock, so the file is opened again for writing then.
pub fn write(file: &File, path: &Path, record: &Record) -> io::Result<()> {
    write_text(file, path, &record.to_text())
}

/// The same, of a record whose text is there already.
pub(crate) fn write_text(file: &File, path: &Path, text: &str) -> io::Result<()> {
    match put(file, text.as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            let again = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
            if os::same_file(file, &again)? { put(&again, text.as_bytes()) } else { Ok(()) }
        }
        done => done,
    }
}

fn put(file: &File, bytes: &[u8]) -> io::Result<()> {
    os::without_size_signal(|| file.write_all_at(bytes, 0))?;
    if file.metadata()?.size() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}
