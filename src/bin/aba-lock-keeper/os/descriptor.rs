//! File descriptors: of the caller, of another process, and stdout.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Opens the file of `fd` again, with an open file description of its own. This works for a file that was removed, too.
pub(crate) fn reopen(fd: RawFd) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{fd}"))
}

/// A copy of a descriptor of another process. Both share one open file description, and so the position in the file.
#[derive(Debug)]
pub(crate) struct ForeignDescriptor(OwnedFd);

impl ForeignDescriptor {
    /// Copies descriptor `fd` of the process `pid`. Fails without the permission to look into that process, and before
    /// Linux 5.6.
    #[expect(clippy::disallowed_methods, reason = "pidfd_open(2) and pidfd_getfd(2)")]
    pub(crate) fn copy_from(pid: u32, fd: RawFd) -> io::Result<Self> {
        // `pid` is a number from `/proc`. If `/proc` is of another PID namespace, it is another process's number here.
        if !aba_lock::os::proc::process::has_our_numbers() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: the call takes numbers, and returns a new descriptor or -1.
        let process = take_ownership(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: as above.
        take_ownership(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) }).map(Self)
    }

    /// Writes as much as fits without blocking. Setting the descriptor to non-blocking mode would change it for its
    /// owner, too, so this uses calls that do not block.
    pub(crate) fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `bytes` lives until the call returns.
        let mut written = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        if written < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOTSOCK) {
            if !aba_lock::os::can_be_written(fd, Duration::ZERO) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // A writable pipe takes PIPE_BUF bytes without blocking. If another process fills it first, the alarm
            // interrupts this call.
            // SAFETY: as above.
            written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len().min(libc::PIPE_BUF)) };
        }
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn take_ownership(fd: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the descriptor is new and open, and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The name of the file in memory in which a keeper has the lease note of a shared lock.
const NOTE_NAME: &CStr = c"aba-lock-lease";

/// The descriptor on which a keeper has its lease note.
const NOTE_FD: RawFd = 5;

/// Creates a file in memory with a lease note.
pub(crate) fn create_note(text: &str) -> io::Result<File> {
    // SAFETY: the name is a C string, and the descriptor is new.
    let fd = take_ownership(unsafe { libc::memfd_create(NOTE_NAME.as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Reads the lease note of a keeper. `None`: the process has none.
pub(crate) fn read_note(pid: u32) -> Option<String> {
    let path = format!("/proc/{pid}/fd/{NOTE_FD}");
    let link = fs::read_link(&path).ok()?;
    let is_note = link.to_str()?.strip_prefix("/memfd:")?.starts_with(NOTE_NAME.to_str().ok()?);
    if is_note { fs::read_to_string(path).ok() } else { None }
}

/// The lowest descriptor on which a command gets the file of its lease. Scripts rarely use numbers from here on.
const LEASE_FD: RawFd = 200;

/// Creates a file in memory that commands inherit, for a lease that belongs to no lock file.
pub(crate) fn create_lease_file() -> io::Result<File> {
    // SAFETY: the name is a C string, and the descriptor is new.
    let fd = take_ownership(unsafe { libc::memfd_create(c"aba-lock-run".as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    aba_lock::os::duplicate_for_children(&File::from(fd), LEASE_FD).map(File::from)
}

/// Moves `file` to descriptor 3, `pipe` to descriptor 4, and `note` to descriptor 5, and closes all others above stderr.
pub(crate) fn keep_only<P: Into<OwnedFd> + From<OwnedFd>>(
    file: File,
    pipe: P,
    note: Option<File>,
) -> io::Result<(File, P)> {
    let (file, pipe): (OwnedFd, OwnedFd) = (file.into(), pipe.into());
    // Both are copied to high numbers first, so that neither takes the place of the other.
    let (high_file, high_pipe) = (copy_above(&file, 10)?, copy_above(&pipe, 10)?);
    for (fd, target) in [(high_file, 3), (high_pipe, 4)] {
        // SAFETY: no owner in this process uses the target number any more: it is forgotten below, or closed.
        if unsafe { libc::dup3(fd, target, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    mem::forget((file, pipe));
    if let Some(note) = note.map(OwnedFd::from) {
        let high_note = copy_above(&note, 10)?;
        // SAFETY: as above. This process never closes the descriptor: it is for the readers.
        if unsafe { libc::dup3(high_note, NOTE_FD, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        mem::forget(note);
        aba_lock::os::close_inherited_except(&[3, 4, NOTE_FD]);
    } else {
        aba_lock::os::close_inherited_except(&[3, 4]);
    }
    // SAFETY: both descriptors are open, and have no other owner.
    unsafe { Ok((File::from(OwnedFd::from_raw_fd(3)), P::from(OwnedFd::from_raw_fd(4)))) }
}

/// Copies a descriptor to the first free number from `lowest` on.
fn copy_above(fd: &OwnedFd, lowest: RawFd) -> io::Result<RawFd> {
    // SAFETY: the call returns a new descriptor or -1.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) } {
        fd if fd < 0 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    }
}

/// Returns true if text that is appended to a regular file would continue its last line. An empty line does less harm than a line
/// that is joined with another one, so this returns true if the file cannot be read.
pub(crate) fn is_inside_line(file: &File) -> bool {
    let Some(data) = file.metadata().ok().filter(|data| data.is_file() && data.len() > 0) else { return false };
    let mut last = [0];
    let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    opened.and_then(|readable| readable.read_exact_at(&mut last, data.len() - 1)).is_err() || last != *b"\n"
}

/// Closes the connections of this process for writing. The answers can still be read.
pub(crate) fn end_own_streams() {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    for fd in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok()) {
        // SAFETY: F_GETFD only reads, and the descriptor may be closed.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        // An inherited descriptor cannot have FD_CLOEXEC.
        if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
            // SAFETY: the call takes numbers, and fails for a descriptor that is no connection.
            unsafe { libc::shutdown(fd, libc::SHUT_WR) };
        }
    }
}

/// Writes the whole text to stdout. A closed stdout, and a pipe that no process reads, are errors and not signals.
pub(crate) fn write_to_stdout(text: &str) -> io::Result<()> {
    // SAFETY: F_GETFD only reads.
    let flags = unsafe { libc::fcntl(1, libc::F_GETFD) };
    // An inherited descriptor cannot have FD_CLOEXEC. With the flag, stdout was closed, and this process has opened
    // /dev/null in its place (`fill_standard_descriptors`).
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: no handler is installed. This process ends soon after.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: the descriptor is open, and ManuallyDrop keeps it open.
    let mut stdout = mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    stdout.write_all(text.as_bytes())
}
