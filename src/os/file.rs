//! Facts about open files and the file systems that hold them.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CString;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::mem;
#[cfg(linux)]
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Returns true if two open files are the same file.
pub fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Opens the file at `path` for reading. Never follows a link at its end, and never blocks.
///
/// It calls openat(2) itself, because musl adds a call of fcntl(2) to each open(2).
pub fn open_unblocked(path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `path` ends in NUL and lives until the call returns.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) };
    // SAFETY: the descriptor is new, open, and has no other owner.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) })) }
}

/// Orders the content of a new file before all later changes, such as a rename: after a loss of power either both are
/// on disk or only the content. The content need not be on disk when this returns.
///
/// On a file system with a journal it is enough to wait for the data (`sync_file_range(2)`), because the file system
/// writes later changes in order, and makes the disk write the data first. Without that call, this function waits until
/// the file is on disk.
#[cfg(linux)]
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

/// Waits until the file is on disk.
#[cfg(not(linux))]
pub fn order(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Returns the number of the type of the file system of `path`, as in statfs(2).
fn file_system_type(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().to_owned().into_vec()).ok()?;
    // SAFETY: all bytes zero are a valid `statfs`, and it is ours to be written to.
    let mut data: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut data) } != 0 {
        return None;
    }
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the type differs between systems")]
    Some(data.f_type as u64 & 0xffff_ffff)
}

/// Returns true if the file system of `path` is known to be one on which the kernel manages all locks, and names files in its list of
/// locks by the inodes that stat(2) shows. On overlay, for example, stat(2) shows those of the file systems below.
#[must_use]
pub fn has_plain_inodes(path: &Path) -> bool {
    // The numbers are from statfs(2): ext2 to ext4, XFS, btrfs, tmpfs, F2FS.
    file_system_type(path)
        .is_some_and(|kind| [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010].contains(&kind))
}

/// The name of the file system of `path`, or the number of its type.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let Some(number) = file_system_type(path) else { return "this file system".to_owned() };
    // The numbers are from statfs(2). On these file systems locks can fail, or can be switched off.
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

/// Returns true if a lock of the whole file (flock(2)) excludes those of its parts (fcntl(2)) on the file system of `path`.
#[must_use]
pub fn is_network_file_system(path: &Path) -> bool {
    ["NFS", "SMB", "9P", "AFS"].contains(&file_system(path).as_str())
}

/// The word for the type of a file that is not a regular file.
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

/// Returns true if `path` is the open `file`, and not a link to it.
#[must_use]
pub fn leads_to(path: &Path, file: &File) -> bool {
    try_leads_to(path, file).unwrap_or(false)
}

/// Does the same as [`leads_to`], but fails if the path cannot be examined. A path at which there is nothing leads to no file.
pub fn try_leads_to(path: &Path, file: &File) -> io::Result<bool> {
    try_names_at(path, file).map(|names| names.is_some())
}

/// Returns the number of hard links of the open `file`, if `path` is that file, and not a link to it. Fails if the path cannot be
/// examined.
pub fn try_names_at(path: &Path, file: &File) -> io::Result<Option<u64>> {
    count_names_if_same(fs::symlink_metadata(path), file)
}

/// Returns true if `path` is the open `file`, or a link to it. Fails if the path cannot be examined.
pub fn try_leads_to_through_link(path: &Path, file: &File) -> io::Result<bool> {
    count_names_if_same(fs::metadata(path), file).map(|names| names.is_some())
}

fn count_names_if_same(there: io::Result<Metadata>, file: &File) -> io::Result<Option<u64>> {
    match there {
        Ok(there) => {
            let open = file.metadata()?;
            Ok(((there.dev(), there.ino()) == (open.dev(), open.ino())).then(|| open.nlink()))
        }
        Err(error) if [libc::ENOENT, libc::ENOTDIR, libc::ELOOP].contains(&error.raw_os_error().unwrap_or(0)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
