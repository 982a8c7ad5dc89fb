//! A handle on a process that was verified, so that a signal never reaches another process that got its number.
//!
//! The numbers in `/proc` are those of the PID namespace in which it was mounted, which need not be ours (`unshare
//! --pid` without `--mount-proc`). So the process is opened first, and its start time in `/proc` is compared after
//! that: the process that is signalled is the one that was compared.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]
#![expect(clippy::disallowed_methods, reason = "sends a signal through the descriptor of a process")]

use super::proc::process;
use super::signal::kill;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A process whose identity was proved. It is never another one that got its number.
#[derive(Debug)]
pub struct Process {
    number: u32,
    start: u64,
    descriptor: ProcessDescriptor,
}

/// The means to distinguish a process from a later one with the same number.
#[derive(Debug)]
enum ProcessDescriptor {
    /// `pidfd_open(2)`, or a kqueue(2): it becomes readable when the process ends.
    Process(OwnedFd),
    /// The directory of the process in a `/proc` whose numbers are not ours. It can be signalled, too
    /// (`pidfd_send_signal(2)`).
    Directory(OwnedFd),
    /// Before Linux 5.3, only the number is known. The start time is compared again before each signal. That is also done if there
    /// is no `pidfd_send_signal(2)`.
    None,
}

impl Process {
    /// Opens the process that `/proc` shows under this number, and that started at `start`
    /// ([`process::ProcessStat::start`]). `None`: it has ended, or it cannot be proved that it is this one.
    #[must_use]
    pub fn open(number: u32, start: u64) -> Option<Self> {
        let pid = libc::pid_t::try_from(number).ok().filter(|pid| *pid > 0)?;
        let descriptor = if process::has_our_numbers() {
            match pidfd_open(pid) {
                Ok(descriptor) => ProcessDescriptor::Process(descriptor),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
                Err(_) => ProcessDescriptor::None,
            }
        } else {
            ProcessDescriptor::Directory(File::open(format!("/proc/{number}")).ok()?.into())
        };
        let opened = Self { number, start, descriptor };
        opened.is_proved().then_some(opened)
    }

    /// Returns true if the number still belongs to the process that was seen.
    fn is_proved(&self) -> bool {
        process::start_time(self.number) == Some(self.start)
    }

    /// Sends a signal. Nothing happens if the process has ended.
    pub fn send(&self, signal: i32) {
        let _ = self.signal(signal);
    }

    /// Sends a signal, or returns the reason why it could not be sent. Signal 0 only tests whether this process may
    /// send one.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let sent = match &self.descriptor {
            ProcessDescriptor::Process(descriptor) | ProcessDescriptor::Directory(descriptor) => {
                pidfd_send_signal(descriptor, signal)
            }
            ProcessDescriptor::None => Err(io::ErrorKind::Unsupported.into()),
        };
        match sent {
            // Some sandboxes and emulators have pidfd_open(2) only.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.signal_number(signal),
            sent => sent,
        }
    }

    /// Sends a signal to the number of the process, if the process still has that number.
    fn signal_number(&self, signal: i32) -> io::Result<()> {
        if !process::has_our_numbers() || !self.is_proved() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        kill(self.number.cast_signed(), signal)
    }

    /// The descriptor that becomes readable when the process ends; -1 where there is none.
    pub(super) fn descriptor(&self) -> i32 {
        match &self.descriptor {
            ProcessDescriptor::Process(descriptor) => descriptor.as_raw_fd(),
            _ => -1,
        }
    }
}

#[cfg(linux)]
pub(super) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;

    // SAFETY: it takes numbers, and makes a descriptor or answers -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new, open, and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a queue for the end of the process, which cannot signal it.
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
pub(super) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    super::kqueue::open_process(pid)
}

#[cfg(not(any(linux, target_os = "macos", target_os = "freebsd")))]
pub(super) fn pidfd_open(_: libc::pid_t) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(linux)]
fn pidfd_send_signal(process: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no further information goes with the signal.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(linux))]
fn pidfd_send_signal(_: &OwnedFd, _: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
