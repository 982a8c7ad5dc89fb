//! Asks the kernel whether an open file description holds the lock of its file (flock(2)), on systems that do not show it. Linux shows it
//! in `/proc/self/fdinfo`.
//!
//! [`find_mode`] answers whether any description holds the lock. It changes nothing: macOS and FreeBSD keep the locks of flock(2) and those
//! of fcntl(2) in one list, and `F_GETLK` returns the first of them that excludes another one.
//!
//! [`holds`] answers whether it is this description. There are three means, and no system has all of them:
//!
//! 1. A lock that belongs to a description (`F_OFD_GETLK`, macOS) is never excluded by a lock of the same description. So if nothing excludes
//!    it, although the file is locked, this description holds the lock. This changes nothing.
//! 2. FreeBSD notes whether the description was locked, before it tries that. So a description without this note holds no lock.
//! 3. If the lock is exclusive, this description asks for it, without waiting. If it holds the lock, nothing changes, not even for an
//!    instant. If another one does, the call fails, and nothing changes either.
//!
//! The third one has a race:
//!
//! 1. This process sees that the file is locked, by another description.
//! 2. That one releases the lock.
//! 3. This process asks for the lock, and gets it. It cannot know that it did not hold it before.
//!
//! The lock then belongs to the script that asks, or to those that share the descriptor, and ends with them. So no two descriptions ever
//! hold it, but the record still names the holder before.
//!
//! A shared lock can be asked for at any time, so the third means says nothing about it, and the result can be "not known".

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::flock::{Mode, try_lock};
use std::fs::File;
use std::io;
use std::path::Path;

/// The mode in which any open file description holds the lock of the file. `None`: it is free.
#[cfg(not(target_os = "linux"))]
pub fn find_mode(file: &File) -> io::Result<Option<Mode>> {
    ask(file, libc::F_GETLK)
}

/// Returns a lock that excludes an exclusive one. `command` says whose it would be.
#[cfg(not(target_os = "linux"))]
fn ask(file: &File, command: libc::c_int) -> io::Result<Option<Mode>> {
    use std::os::fd::AsRawFd;
    // SAFETY: all bytes zero are a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK.try_into().unwrap_or_default();
    lock.l_whence = libc::SEEK_SET.try_into().unwrap_or_default();
    // SAFETY: the descriptor is open, and `lock` lives until the call returns.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if lock.l_type == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some(if lock.l_type == libc::F_RDLCK { Mode::Shared } else { Mode::Exclusive }))
}

/// The same, on Linux: `F_GETLK` does not see locks of flock(2) there, so a second description tries both modes.
#[cfg(target_os = "linux")]
pub fn find_mode(file: &File) -> io::Result<Option<Mode>> {
    let second = super::again::open_for_reading(file)?;
    if !try_lock(&second, Mode::Shared)? {
        return Ok(Some(Mode::Exclusive));
    }
    Ok(if try_lock(&second, Mode::Exclusive)? { None } else { Some(Mode::Shared) })
}

/// Returns true if this description holds the lock of the file, which some description holds in `mode`. `None`: that is not known.
#[must_use]
pub fn holds(file: &File, mode: Mode) -> Option<bool> {
    match ask_alone(file) {
        Some(true) => return Some(true),
        Some(false) if mode == Mode::Exclusive => return Some(false),
        _ => {}
    }
    match mode {
        Mode::Exclusive => try_lock(file, Mode::Exclusive).ok(),
        Mode::Shared => None,
    }
}

/// Returns true if no other description holds the lock, and false if this one does not hold it. `None`: that is not known.
#[cfg(target_os = "macos")]
fn ask_alone(file: &File) -> Option<bool> {
    // If another one holds the lock, this one may share it.
    matches!(ask(file, libc::F_OFD_GETLK), Ok(None)).then_some(true)
}

#[cfg(target_os = "freebsd")]
fn ask_alone(file: &File) -> Option<bool> {
    use std::os::fd::AsRawFd;
    let files = super::proc::portable::list_open_files(std::process::id()).ok()?;
    let this = files.iter().find(|one| one.number == file.as_raw_fd())?;
    if this.may_hold_lock { None } else { Some(false) }
}

#[cfg(not(any(target_os = "macos", target_os = "freebsd")))]
fn ask_alone(_: &File) -> Option<bool> {
    None
}

/// Does the same as [`find_mode`] for the file at `path`, and fails if another file is there than the one with this device and inode.
pub(crate) fn find_mode_at(path: &Path, dev: u64, ino: u64) -> io::Result<Option<Mode>> {
    use std::os::unix::fs::MetadataExt;
    let file = super::kept_file::open_to_look(path)?;
    let data = file.metadata()?;
    if (data.dev(), data.ino()) != (dev, ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    find_mode(&file)
}
