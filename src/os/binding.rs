//! Binds a process to a script, and the script to that process (`--no-inherit`).
//!
//! The process waits for the end of the script with a pidfd. The script has the reading end of a pipe open, and the process has the
//! only writing end: when the process ends, the kernel closes that end and sends SIGTERM to the script (`O_ASYNC`, `F_SETSIG`).
//!
//! The pipe is full while the lock is held. A process that empties it asks for the release: then the writing end can be written,
//! which ends the wait of the process. The same wait ends if no reading end is open any more.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::descriptor::{callers_descriptor, set_owner, try_second_descriptor};
use super::process_handle::pidfd_open;
use super::signal_action::SignalAction;
use super::this_process::parent_id;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

/// The signals with which a user or a service manager ends all processes of a session or a control group.
const ENDING: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The pipe and the pidfd of one lock.
#[derive(Debug)]
pub struct ScriptBinding {
    script: u32,
    pidfd: OwnedFd,
    /// The reading end of the script.
    reader: File,
    writer: File,
}

impl ScriptBinding {
    /// Opens the writing end of the pipe whose reading end the script, our parent, has open as `fd`. Fails with `ESRCH` if the
    /// script has ended.
    pub fn open(fd: RawFd, script: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(script).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        let pidfd = pidfd_open(pid)?;
        // In this order: if the script had ended before, the pidfd could be that of another process with the same pid.
        if parent_id() != script {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let mut reader = try_second_descriptor(fd)?;
        let is_pipe = reader.metadata()?.file_type().is_fifo();
        // This reads until the process that made the pipe has closed the writing end. (Older kernels signal the script when any
        // writing end is closed.)
        if !is_pipe || reader.read(&mut [0])? > 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let writer = options.open(format!("/proc/self/fd/{}", reader.as_raw_fd()))?;
        Ok(Self { script, pidfd, reader, writer })
    }

    /// The descriptors that the process needs in order to wait for the script.
    #[must_use]
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.pidfd.as_raw_fd(), self.writer.as_raw_fd()]
    }

    /// Fills the pipe. It begins with this number in a line, if there is one, which the script reads.
    pub fn fill(&mut self, number: Option<u32>) -> io::Result<()> {
        set_pipe_size(&self.writer);
        let mut content = [b'b'; 4096];
        let line = number.map(|number| format!("{number}\n")).unwrap_or_default();
        content[..line.len()].copy_from_slice(line.as_bytes());
        loop {
            match self.writer.write(&content) {
                Ok(_) => content = [b'b'; 4096],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes our writing end, and makes the kernel send SIGTERM to the script when the last one is closed. Fails with `EPIPE` if
    /// that has happened already.
    pub fn arm(self) -> io::Result<()> {
        let Self { script, reader, writer, .. } = self;
        drop(writer);
        set_owner(&reader, script);
        set_signal(&reader)?;
        set_async(&reader, true)?;
        // In this order: before it is armed, the pipe may be closed without a signal.
        if is_closed(&reader) { Err(io::Error::from_raw_os_error(libc::EPIPE)) } else { Ok(()) }
    }

    /// Waits until the script has ended or asks for the release, in the process that holds the lock. Signals that end all
    /// processes of a control group have no effect, because the script may handle them.
    pub fn wait_for_script(&self) {
        for signal in ENDING {
            SignalAction::ignore().install(signal);
        }
        let mut polled = [
            libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: self.writer.as_raw_fd(), events: libc::POLLOUT, revents: 0 },
        ];
        // SAFETY: two elements, which live until the call returns.
        while unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } < 1 {}
    }

    /// The process to which the lock is bound.
    #[must_use]
    pub fn script(&self) -> u32 {
        self.script
    }
}

/// Returns true if descriptor `fd` of a script is the reading end of a pipe to which a process is bound that still runs.
#[must_use]
pub fn is_bound(fd: RawFd) -> bool {
    callers_descriptor(fd).is_some_and(|reader| is_armed(&reader) && !is_closed(&reader))
}

/// Asks the process that is bound to the script by descriptor `fd` to end, and waits until it has closed its writing end. `None`: the
/// descriptor is not of such a pipe. Fails with `ETIMEDOUT` if it does not end in time.
pub fn end_bound_process(fd: RawFd, limit: Duration) -> Option<io::Result<()>> {
    let mut reader = try_second_descriptor(fd).ok().filter(is_armed)?;
    Some(disarm_and_drain(&mut reader, limit))
}

fn disarm_and_drain(reader: &mut File, limit: Duration) -> io::Result<()> {
    set_async(reader, false)?;
    set_owner(reader, 0);
    loop {
        // The answer is the end of the file, so each read is of the bytes before it, or of that end.
        if !is_readable(reader, limit) {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        if reader.read(&mut [0; 4096])? == 0 {
            return Ok(());
        }
    }
}

fn is_armed(reader: &File) -> bool {
    let is_pipe = reader.metadata().is_ok_and(|data| data.file_type().is_fifo());
    // SAFETY: F_GETFL only asks.
    is_pipe && unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_GETFL) } & libc::O_ASYNC != 0
}

fn is_closed(reader: &File) -> bool {
    poll(reader, 0, 0) & libc::POLLHUP != 0
}

fn is_readable(reader: &File, limit: Duration) -> bool {
    poll(reader, libc::POLLIN, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)) != 0
}

/// Returns the events of a descriptor. A signal ends the wait.
fn poll(file: &File, events: libc::c_short, limit: libc::c_int) -> libc::c_short {
    let mut polled = libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
    // SAFETY: one element, which lives until the call returns.
    if unsafe { libc::poll(&raw mut polled, 1, limit) } > 0 { polled.revents } else { 0 }
}

fn set_async(file: &File, is_on: bool) -> io::Result<()> {
    // SAFETY: F_GETFL only asks, and F_SETFL sets flags of a descriptor that is open.
    let done = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        let flags = if is_on { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes SIGTERM the signal that the owner of the open file description gets.
#[cfg(linux)]
fn set_signal(file: &File) -> io::Result<()> {
    /// From the headers of the kernel; not in all versions of libc.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: it takes numbers.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGTERM) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(not(linux))]
fn set_signal(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes the pipe as small as possible, so that filling it is one write. If that fails, the pipe stays larger.
#[cfg(linux)]
fn set_pipe_size(file: &File) {
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
}

#[cfg(not(linux))]
fn set_pipe_size(_: &File) {}
