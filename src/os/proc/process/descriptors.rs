//! The open descriptors of a process: the files, the pipes, and how they are opened.
//!
//! A descriptor is named by its link in `/proc/PID/fd`. If a question about it cannot be answered, the answer is the
//! one that keeps its caller from a wrong claim, as each function says.

use super::activity::call_arguments;
use super::read::{has_vanished, read_small, try_read_small};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns true if this process may list the descriptors of `pid`.
#[must_use]
pub fn may_be_looked_into(pid: u32) -> bool {
    #[cfg(not(linux))]
    return crate::os::proc::portable::list_open_files(pid).is_ok();
    #[cfg(linux)]
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok()
}

/// The device and inode of the file that is open on a descriptor of a process.
#[must_use]
pub fn file_of_descriptor(pid: u32, number: i32) -> Option<(u64, u64)> {
    #[cfg(not(linux))]
    {
        let files = crate::os::proc::portable::list_open_files(pid).ok()?;
        files.into_iter().find(|file| file.number == number).map(|file| (file.dev, file.ino))
    }
    #[cfg(linux)]
    fs::metadata(format!("/proc/{pid}/fd/{number}")).ok().map(|data| (data.dev(), data.ino()))
}

/// Returns true if this process may not follow any descriptor of `pid`, although it may be able to list them. On some
/// machines process 1 is such a process, and it can have hundreds of descriptors.
#[must_use]
pub fn is_guarded(pid: u32) -> bool {
    // Following this link needs the same right (`PTRACE_MODE_READ_FSCREDS`, proc(5)), and nothing else.
    fs::read_link(format!("/proc/{pid}/cwd")).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The descriptors of a process with the metadata of their files. Descriptors that this process may not follow are left
/// out.
pub fn descriptors(pid: u32) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let followed = entries.map(|entry| entry.path()).map_while(move |path| match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_guarded(pid) => None,
        data => Some(data.ok().map(|data| (path, data))),
    });
    followed.flatten()
}

/// The inode of the anonymous pipe from which a process reads at present. If the kernel does not show the descriptor
/// from which it reads, the inodes of all anonymous pipes from which it can read.
#[must_use]
pub fn pipes_it_reads(pid: u32) -> Vec<u64> {
    pipes_it_uses(pid, may_read)
}

/// The inode of the anonymous pipe to which a process writes at present. If the kernel does not show the descriptor to
/// which it writes, the inodes of all anonymous pipes to which it can write.
#[must_use]
pub fn pipes_it_writes(pid: u32) -> Vec<u64> {
    pipes_it_uses(pid, may_write)
}

fn pipes_it_uses(pid: u32, may_use: fn(&Path) -> bool) -> Vec<u64> {
    let descriptors: Vec<PathBuf> = if let Some(number) = call_arguments(pid).first() {
        vec![PathBuf::from(format!("/proc/{pid}/fd/{number}"))]
    } else {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| may_use(path)).collect()
    };
    let pipe = |path: &PathBuf| if is_pipe(path) { Some(fs::metadata(path).ok()?.ino()) } else { None };
    descriptors.iter().filter_map(pipe).collect()
}

/// Returns true if a descriptor is open on an anonymous pipe.
#[must_use]
pub fn is_pipe(descriptor: &Path) -> bool {
    fs::read_link(descriptor).is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"pipe:["))
}

/// Returns true if a descriptor is open for writing, or if that is not known.
#[must_use]
pub fn may_write(descriptor: &Path) -> bool {
    access_mode(descriptor) != Some(libc::O_RDONLY)
}

/// Returns true if a descriptor is open for reading, or if that is not known.
#[must_use]
pub fn may_read(descriptor: &Path) -> bool {
    access_mode(descriptor) != Some(libc::O_WRONLY)
}

/// The process for which `pid` has a pidfd open. `None`: there is none, or one of both processes has ended. An error: that cannot be
/// determined.
pub(crate) fn process_of_pidfd(pid: u32) -> io::Result<Option<u32>> {
    let unless_gone = |error: io::Error| if has_vanished(&error) { Ok(None) } else { Err(error) };
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) => return unless_gone(error),
    };
    for entry in entries {
        let found = entry.and_then(|entry| process_of_descriptor(&entry.path())).or_else(unless_gone)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The process of a pidfd. `None`: the descriptor is no pidfd, or that process has ended.
fn process_of_descriptor(descriptor: &Path) -> io::Result<Option<u32>> {
    let link = fs::read_link(descriptor)?;
    if !link.to_str().is_some_and(|link| link.contains("[pidfd]")) {
        return Ok(None);
    }
    let path = fdinfo_path(descriptor).ok_or(io::ErrorKind::InvalidInput)?;
    let info = try_read_small(&path.to_string_lossy())?;
    let number: Option<i64> =
        info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|number| number.trim().parse().ok());
    match number {
        Some(-1) => Ok(None),
        Some(pid @ 1..) => Ok(u32::try_from(pid).ok()),
        // 0: it is in another PID namespace.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Returns true if this process can write to the pipe with this inode.
#[must_use]
pub fn writes_to_pipe(inode: u64) -> bool {
    descriptors(std::process::id())
        .any(|(descriptor, data)| data.ino() == inode && is_pipe(&descriptor) && may_write(&descriptor))
}

/// Returns true if standard output or standard error of a process is one of these files (device and inode).
#[must_use]
pub fn prints_to(pid: u32, files: &[(u64, u64)]) -> bool {
    [1, 2].iter().any(|fd| {
        let data = fs::metadata(format!("/proc/{pid}/fd/{fd}"));
        data.is_ok_and(|data| files.contains(&(data.dev(), data.ino())))
    })
}

/// The file in `/proc/PID/fdinfo` that describes a descriptor.
fn fdinfo_path(descriptor: &Path) -> Option<PathBuf> {
    Some(descriptor.parent()?.parent()?.join("fdinfo").join(descriptor.file_name()?))
}

fn access_mode(descriptor: &Path) -> Option<i32> {
    Some(open_flags(descriptor)? & libc::O_ACCMODE)
}

/// Returns the flags with which a descriptor is open.
fn open_flags(descriptor: &Path) -> Option<i32> {
    let info = read_small(fdinfo_path(descriptor)?.to_str()?)?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

/// Returns true if the kernel sends a signal when the state of the descriptor changes (`O_ASYNC`).
pub(crate) fn sends_signals(descriptor: &Path) -> bool {
    open_flags(descriptor).is_some_and(|flags| flags & libc::O_ASYNC != 0)
}
