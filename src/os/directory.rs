//! Reads a directory and its files with few system calls and no allocation for an entry: names are looked up in the open
//! directory, and one buffer serves many directories. The scans of `/proc`, which read thousands of directories, the list of lock
//! files, and `clean` use it.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The number of bytes of the entries that one call returns.
const BUFFER: usize = 16 * 1024;

/// The number of bytes of a small buffer. The allocator has blocks of this size ready.
const SMALL_BUFFER: usize = 1024;

/// A buffer for the entries of directories. It is not filled with zeros, which would take as long as the rest of a small scan.
pub(crate) struct EntryBuffer(Box<[MaybeUninit<u64>]>);

impl EntryBuffer {
    pub(crate) fn new() -> Self {
        Self(Box::new_uninit_slice(BUFFER / 8))
    }

    /// Returns a buffer that takes no new memory from the kernel, for a directory with few entries.
    pub(crate) fn new_small() -> Self {
        Self(Box::new_uninit_slice(SMALL_BUFFER / 8))
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// The facts about a file that identify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    pub dev: u64,
    pub ino: u64,
    /// The number of its names. 0: it was removed.
    pub links: u64,
    /// The type and the permissions, as in `stat(2)`.
    pub mode: u32,
    /// The size. For `/proc/PID/fd`, Linux 6.2 and newer show the number of open descriptors.
    pub size: u64,
}

impl FileFacts {
    /// Returns true if the type of the file is this one (`S_IFREG` and so on).
    #[must_use]
    pub fn has_type(&self, kind: libc::mode_t) -> bool {
        #[allow(clippy::useless_conversion, reason = "the type differs between systems")]
        let (kind, mask) = (u32::from(kind), u32::from(libc::S_IFMT));
        self.mode & mask == kind
    }
}

impl Directory {
    pub(crate) fn open(path: &CStr) -> io::Result<Self> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `path` ends in NUL and lives until the call returns. (For open(2), musl makes a second system call.)
        let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) };
        // SAFETY: the descriptor is new, open, and has no other owner.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })) }
    }

    /// Opens a directory only to look up names in it, which needs no permission to read it. The names stay those of this
    /// directory, whatever its path leads to later.
    pub(crate) fn open_for_names(path: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let access = libc::O_PATH;
        #[cfg(not(target_os = "linux"))]
        let access = libc::O_RDONLY;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = access | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `path` ends in NUL and lives until the call returns.
        let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) };
        // SAFETY: the descriptor is new, open, and has no other owner.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })) }
    }

    /// Opens the file of this name for reading. Never follows a link, and never blocks.
    pub(crate) fn open_unblocked(&self, name: &CStr) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: `name` ends in NUL and lives until the call returns.
        let fd = unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags) };
        // SAFETY: the descriptor is new, open, and has no other owner.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) })) }
    }

    /// Removes the file of this name.
    pub(crate) fn remove(&self, name: &CStr) -> io::Result<()> {
        // SAFETY: `name` ends in NUL and lives until the call returns.
        let removed = unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) };
        if removed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns true if the file of this name is the open `file`, and not a link to it.
    pub(crate) fn has_file(&self, name: &CStr, file: &File) -> bool {
        let Ok(open) = file.metadata() else { return false };
        let found = self.examine_with(name, libc::AT_SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| (found.dev, found.ino) == (open.dev(), open.ino()))
    }

    pub(crate) fn open_path(path: impl Into<Vec<u8>>) -> io::Result<Self> {
        Self::open(&CString::new(path)?)
    }

    /// Returns the facts about the file at `path`. If the last part of `path` is a link, they are those of its target.
    pub(crate) fn examine(&self, path: &CStr) -> io::Result<FileFacts> {
        self.examine_with(path, 0)
    }

    #[inline]
    fn examine_with(&self, path: &CStr, flags: libc::c_int) -> io::Result<FileFacts> {
        // SAFETY: all bytes zero are a valid `stat`, and it is ours to be written to.
        let mut data: libc::stat = unsafe { mem::zeroed() };
        // SAFETY: `path` ends in NUL and `data` lives until the call returns.
        if unsafe { libc::fstatat(self.0.as_raw_fd(), path.as_ptr(), &raw mut data, flags) } != 0 {
            return Err(io::Error::last_os_error());
        }
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            clippy::useless_conversion,
            reason = "the types differ between systems"
        )]
        Ok(FileFacts {
            dev: data.st_dev as u64,
            ino: data.st_ino as u64,
            links: data.st_nlink as u64,
            mode: u32::from(data.st_mode),
            size: data.st_size as u64,
        })
    }

    /// Calls `visit` with the name and the inode of each entry, except `.` and `..`.
    #[cfg(target_os = "linux")]
    pub(crate) fn for_each(&self, buffer: &mut EntryBuffer, mut visit: impl FnMut(&CStr, u64)) -> io::Result<()> {
        loop {
            let (start, len) = (buffer.0.as_mut_ptr(), buffer.0.len() * 8);
            // SAFETY: the call is getdents64(2), and it writes at most `len` bytes to the buffer.
            #[expect(clippy::disallowed_methods, reason = "getdents64(2)")]
            let filled = unsafe { libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), start, len) };
            let Ok(filled) = usize::try_from(filled) else { return Err(io::Error::last_os_error()) };
            if filled == 0 {
                return Ok(());
            }
            let mut at = 0;
            while at < filled {
                // SAFETY: the kernel wrote whole entries to the first `filled` bytes, each aligned to 8 bytes. The name ends in
                // NUL within its entry, and the buffer does not change while the name is borrowed.
                let (name, ino, len) = unsafe {
                    let entry = start.add(at / 8).cast::<libc::dirent64>();
                    ((&raw const (*entry).d_name).cast(), (*entry).d_ino, (*entry).d_reclen)
                };
                // SAFETY: as above.
                let name = unsafe { CStr::from_ptr(name) };
                if name != c"." && name != c".." {
                    visit(name, ino);
                }
                at += usize::from(len);
            }
        }
    }

    /// Fails on systems other than Linux, which have no directories with thousands of entries to scan in `/proc`.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn for_each(&self, _: &mut EntryBuffer, _: impl FnMut(&CStr, u64)) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Calls `visit` with the inode of each entry of the directory at `path`. (That of a directory on which a file system is mounted is
/// the one below the mount.)
pub(crate) fn directory_inodes(path: &Path, mut visit: impl FnMut(u64)) -> io::Result<()> {
    Directory::open_path(path.as_os_str().as_bytes())?.for_each(&mut EntryBuffer::new(), |_, inode| visit(inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "no other process uses the files of this test")]
    fn an_open_directory_stays_the_same_when_its_path_leads_to_another_one() {
        let place = tempfile::tempdir().unwrap();
        let (path, moved) = (place.path().join("locks"), place.path().join("moved"));
        for directory in [&path, &moved] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("a"), "").unwrap();
        }
        let directory = Directory::open_for_names(&path).unwrap();
        let file = directory.open_unblocked(c"a").unwrap();
        assert!(directory.has_file(c"a", &file));
        // Another user puts a link to a directory of a victim in its place.
        fs::rename(&path, place.path().join("old")).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(directory.has_file(c"a", &file));
        directory.remove(c"a").unwrap();
        assert!(moved.join("a").exists() && !place.path().join("old/a").exists());
        assert!(!directory.has_file(c"a", &file));
        // Links are not followed.
        std::os::unix::fs::symlink(moved.join("a"), place.path().join("old/a")).unwrap();
        assert!(directory.open_unblocked(c"a").is_err());
    }
}
