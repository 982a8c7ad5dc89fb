//! Reads and writes the record in a lock file. No lock depends on a record, so a file that cannot be read counts as empty.
//!
//! [`acquire`](crate::lock::acquire), the tasks and the keeper write records. The observation of locks and the event
//! log read them.

use super::format::{Content, MAX_LEN, Record, USUAL_LEN, parse_content, parse_token};
use crate::base::key;
use crate::base::target::Target;
use crate::os;
use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Returns the content of the lock file at `path`. Never follows a link, and never blocks.
#[must_use]
pub fn read_path(path: &Path) -> Content {
    let Ok(file) = os::open_to_look(path) else { return Content::Empty };
    match read(&file) {
        // A record is in a regular file. For other content, the type is not clear.
        Content::Record(record) => Content::Record(record),
        content if file.metadata().is_ok_and(|data| data.is_file()) => content,
        _ => Content::Empty,
    }
}

/// Returns the content of the file to which this link in `/proc/PID/fd` leads, even if the file was removed.
pub(crate) fn read_descriptor(link: &Path) -> Content {
    // Opening a FIFO could block, and opening a device could have an effect.
    match fs::metadata(link) {
        Ok(data) if data.is_file() => os::open_link_to_look(link, &data).map_or(Content::Empty, |file| read(&file)),
        _ => Content::Empty,
    }
}

/// Returns the content of the lock file that is open as `file`.
#[must_use]
pub fn read(file: &File) -> Content {
    try_read(file).unwrap_or(Content::Empty)
}

/// Does the same as [`read`], but fails if the file cannot be read.
pub(crate) fn try_read(file: &File) -> io::Result<Content> {
    parse_bytes(file, parse_content)
}

/// Passes the content of a lock file to `parse`. A script may have opened the file only for writing (`exec 200>>FILE`). Then the
/// file is opened again.
fn parse_bytes<T>(file: &File, parse: impl Fn(&[u8]) -> T) -> io::Result<T> {
    match parse_readable(file, &parse) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => parse_readable(&os::open_for_reading(file)?, parse),
        done => done,
    }
}

/// Reads [`USUAL_LEN`] bytes at first, which is enough for most records.
fn parse_readable<T>(file: &File, parse: impl Fn(&[u8]) -> T) -> io::Result<T> {
    let mut bytes = [0; USUAL_LEN];
    let len = file.read_at(&mut bytes, 0)?;
    if len == bytes.len() {
        let mut bytes = vec![0; MAX_LEN];
        let len = file.read_at(&mut bytes, 0)?;
        return Ok(parse(&bytes[..len]));
    }
    Ok(parse(&bytes[..len]))
}

/// Returns the token of the record in the lock file that is open as `file`, even if the rest of the record cannot be parsed.
/// Returns 0 if there is no record yet, and `None` if the file has foreign data or cannot be read.
///
/// An acquisition calls this after the grant, when each step makes the next waiter wait longer. So it does less than [`read`].
#[must_use]
pub fn last_token(file: &File) -> Option<u64> {
    parse_bytes(file, parse_token).ok().flatten()
}

/// Returns the text from which the name of the lock was derived. A call with the name itself keeps the text of the last record.
#[must_use]
pub(crate) fn find_key<'t>(file: &File, target: &'t Target) -> Option<Cow<'t, str>> {
    match &target.key {
        Some(key) => Some(key.into()),
        None if target.name().is_some_and(key::is_derived) => match read(file) {
            Content::Record(record) => record.key.map(Cow::Owned),
            _ => None,
        },
        None => None,
    }
}

/// Writes `record` over the content of `file`, which is open on `path` and has no foreign data.
///
/// A script may have opened the file only for reading, or with `>>`, which would append the record to the old one. Then the file is
/// opened again for writing. (Clearing `O_APPEND` would change the descriptor of the script, which may write to it.)
pub fn write(file: &File, path: &Path, record: &Record) -> io::Result<()> {
    write_text(file, path, &record.to_text()).map(drop)
}

/// Does the same as [`write()`], with a record that was formatted before the grant. Returns the mode of the file.
pub(crate) fn write_text(file: &File, path: &Path, text: &str) -> io::Result<u32> {
    if os::can_overwrite(file) {
        return write_bytes(file, text.as_bytes());
    }
    let again = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if os::same_file(file, &again)? { write_bytes(&again, text.as_bytes()) } else { Ok(file.metadata()?.mode()) }
}

/// Writes a record over the content of `file`, which has `size` bytes and was opened for writing, in a process without a limit on the
/// size of files.
pub(crate) fn overwrite(file: &File, size: u64, text: &str) -> io::Result<()> {
    file.write_all_at(text.as_bytes(), 0)?;
    let len = text.len() as u64;
    if size > len { file.set_len(len) } else { Ok(()) }
}

fn write_bytes(file: &File, bytes: &[u8]) -> io::Result<u32> {
    os::without_size_signal(|| file.write_all_at(bytes, 0))?;
    let data = file.metadata()?;
    if data.size() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(data.mode())
}
