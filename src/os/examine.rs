//! Checks of the system for `doctor`: limits, free space, access rights, and whether a lock really excludes another
//! process.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::flock::{Mode, try_lock};
use super::signal::signal_child;
use super::signal_mask::SignalSet;
use super::this_process::user_id;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// A right of access to a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Write,
    Execute,
    /// The right to create files in a directory.
    MakeIn,
}

/// Returns an error if this process, with its effective user, does not have this right at `path`.
pub fn may(right: Right, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mode = match right {
        Right::Read => libc::R_OK,
        Right::Write => libc::W_OK,
        Right::Execute => libc::X_OK,
        Right::MakeIn => libc::W_OK | libc::X_OK,
    };
    // SAFETY: the path ends in NUL and lives until the call returns, which only asks.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The number of bytes that this user may use.
    pub bytes: u64,
    /// The number of files that can be created. `None` if the file system has no such limit.
    pub files: Option<u64>,
}

/// The free space of the file system of `path`.
pub fn room(path: &Path) -> io::Result<Room> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bytes zero are a valid `statvfs`, and it is ours to be written to.
    let mut data: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: the path ends in NUL, and both live until the call returns.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut data) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
    {
        let root = user_id() == 0;
        // File systems reserve some space for root.
        let blocks = if root { data.f_bfree } else { data.f_bavail } as u64;
        let files = if root { data.f_ffree } else { data.f_favail } as u64;
        let bytes = blocks.saturating_mul(data.f_frsize as u64);
        Ok(Room { bytes, files: (data.f_files != 0).then_some(files) })
    }
}

/// Runs `work` while all signals are blocked that can be blocked.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let old = SignalSet::all_but(&[]).block();
    let done = work();
    old.restore();
    done
}

/// A child process that holds a lock. Dropping this value ends it.
#[derive(Debug)]
#[must_use = "the process ends when it is dropped"]
pub struct Rival {
    pid: libc::pid_t,
    // The child ends when this is closed.
    _stay: io::PipeWriter,
}

impl Rival {
    /// Starts a process that takes the exclusive lock on `file` and closes `others`. Only the child holds the lock,
    /// since `file` is closed here. `None` if the lock is not free.
    pub fn with_lock(file: File, others: &[&File]) -> io::Result<Option<Self>> {
        let (mut answer, reply) = io::pipe()?;
        let (mut until, stay) = io::pipe()?;
        // SAFETY: there is one thread, so the child may go on as we would.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid > 0 {
            drop((file, reply, until));
            let rival = Self { pid, _stay: stay };
            let mut has = [0];
            answer.read_exact(&mut has)?;
            return Ok((has == [1]).then_some(rival));
        }
        for other in others {
            // SAFETY: the child does not use it, and ends without dropping it.
            unsafe { libc::close(other.as_raw_fd()) };
        }
        drop((answer, stay));
        let has = matches!(try_lock(&file, Mode::Exclusive), Ok(true));
        let _ = io::Write::write_all(&mut &reply, &[u8::from(has)]);
        let _ = until.read(&mut [0]);
        // SAFETY: it does not return; the code of the parent must not run twice.
        unsafe { libc::_exit(0) }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        signal_child(self.pid, libc::SIGKILL);
        // SAFETY: it takes numbers; no status is asked for. If SIGCHLD is ignored, the wait also ends with the child.
        unsafe {
            while libc::waitpid(self.pid, ptr::null_mut(), 0) < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
    }
}
