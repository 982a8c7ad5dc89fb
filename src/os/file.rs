//! Facts about open files and the file systems that hold them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CString;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Whether two open files are one.
pub fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Has what was written to a new file on its way to the disk before anything that is done to it afterwards, such as a
/// rename: a loss of power leaves none of that, or all. It is not there yet when this returns.
///
/// With a journal that takes no more than to wait for the data (`sync_file_range(2)`): what the file system writes down
/// about the file afterwards it writes in order, and has the disk write the data first. Where there is no such call the
/// file is on disk when this returns.
#[cfg(target_os = "linux")]
pub fn order(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes numbers, and the descriptor is open.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if [libc::EIO, libc::ENOSPC, libc::EDQUOT].contains(&error.raw_os_error().unwrap_or(0)) => Err(error),
        _ => file.sync_all(),
    }
}

/// Has the file on disk when this returns.
#[cfg(not(target_os = "linux"))]
pub fn order(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// The name of the file system on which `path` is, or its number.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let Ok(path) = CString::new(path.as_os_str().to_owned().into_vec()) else { return String::new() };
    // SAFETY: all bytes zero are a valid `statfs`, and it is ours to be written to.
    let mut data: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut data) } != 0 {
        return "this file system".to_owned();
    }
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the type differs between systems")]
    let number = data.f_type as u64 & 0xffff_ffff;
    // statfs(2) lists these; the ones on which locks are known to fail, or to be switched off.
    match number {
        0x6969 => "NFS".to_owned(),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB".to_owned(),
        0x6573_5546 => "FUSE".to_owned(),
        0x0102_1997 => "9P".to_owned(),
        0x00c3_6400 => "Ceph".to_owned(),
        0x5346_414f => "AFS".to_owned(),
        0x0bd0_0bd0 => "Lustre".to_owned(),
        number => format!("the file system of type {number:#x}"),
    }
}

/// The word for the kind of a file that is not a regular file.
#[must_use]
pub fn word_for(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "symbolic link",
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "FIFO",
        kind if kind.is_socket() => "socket",
        _ => "device",
    }
}

/// Whether `path` leads to the file that is open as `file`, and not through a link.
#[must_use]
pub fn leads_to(path: &Path, file: &File) -> bool {
    is_same(fs::symlink_metadata(path), file)
}

/// Returns true if `path` leads to the file that is open as `file`, also through a link.
#[must_use]
pub fn leads_to_through_link(path: &Path, file: &File) -> bool {
    is_same(fs::metadata(path), file)
}

fn is_same(there: io::Result<Metadata>, file: &File) -> bool {
    match (there, file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}
