//! Signals to other processes. The whole program sends them from here, and a lint keeps `kill(2)` and its kin out of every
//! other file.
//!
//! A number alone names no process: it may have been given to another since, and the numbers in `/proc` are those of the PID
//! namespace in which it was mounted, which need not be ours (`unshare --pid` without `--mount-proc`). So a signal goes
//!
//! - to a [`Process`]: a process that `/proc` has shown. It is opened first, and compared after that, so that what is
//!   signalled is the process that was compared; or
//! - to a child of ours that was not waited for yet, by [`signal_child`] and [`signal_group`]. The number of such a child is
//!   not given away, and the kernel is asked whether it is one.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]
#![expect(clippy::disallowed_methods, reason = "the only place that sends signals")]

use crate::os::proc::process;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// A process whose identity was proved. It is never another one that got its number.
#[derive(Debug)]
pub struct Process {
    number: u32,
    start: u64,
    descriptor: Descriptor,
}

/// The means to distinguish a process from a later one with the same number.
#[derive(Debug)]
enum Descriptor {
    /// `pidfd_open(2)`: it becomes readable when the process ends.
    Process(OwnedFd),
    /// The directory of the process in a `/proc` whose numbers are not ours. It can be signalled, too
    /// (`pidfd_send_signal(2)`).
    Directory(OwnedFd),
    /// Before Linux 5.3: the number has to do. It is compared again before each signal.
    None,
}

impl Process {
    /// Opens the process that `/proc` shows under this number, and that started at `start`
    /// ([`process::Seen::start`]). `None`: it has ended, or it cannot be proved that it is this one.
    #[must_use]
    pub fn open(number: u32, start: u64) -> Option<Self> {
        let pid = libc::pid_t::try_from(number).ok().filter(|pid| *pid > 0)?;
        let descriptor = if process::has_our_numbers() {
            match pidfd_open(pid) {
                Ok(descriptor) => Descriptor::Process(descriptor),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
                Err(_) => Descriptor::None,
            }
        } else {
            Descriptor::Directory(File::open(format!("/proc/{number}")).ok()?.into())
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

    /// Sends a signal, and returns why it could not be sent. Signal 0 only asks.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let descriptor = match &self.descriptor {
            Descriptor::Process(descriptor) | Descriptor::Directory(descriptor) => descriptor,
            Descriptor::None => {
                if !process::has_our_numbers() || !self.is_proved() {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                return kill(self.number.cast_signed(), signal);
            }
        };
        pidfd_send_signal(descriptor, signal)
    }

    /// The descriptor that becomes readable when the process ends; -1 where there is none.
    pub(super) fn descriptor(&self) -> i32 {
        match &self.descriptor {
            Descriptor::Process(descriptor) => descriptor.as_raw_fd(),
            _ => -1,
        }
    }
}

#[cfg(target_os = "linux")]
fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: it takes numbers, and makes a descriptor or answers -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new, open, and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn pidfd_open(_: libc::pid_t) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn pidfd_send_signal(process: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; no further information goes with the signal.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, ptr::null::<u8>(), 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn pidfd_send_signal(_: &OwnedFd, _: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends a signal to a child of ours that was not waited for yet, and to no other process. May be called in a signal
/// handler.
pub fn signal_child(child: i32, signal: i32) {
    if is_our_child(child) {
        let _ = kill(child, signal);
    }
}

/// Sends a signal to the process group that is led by a child of ours that was not waited for yet.
pub fn signal_group(leader: i32, signal: i32) {
    if is_our_child(leader) {
        let _ = kill(-leader, signal);
    }
}

/// Returns true if this is the number of a child that was not waited for yet: that number is not given to another process.
fn is_our_child(pid: i32) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until the call returns. The call only asks.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        id > 0 && libc::waitid(libc::P_PID, id, &raw mut info, flags) == 0
    }
}

/// Returns true if there is a process with this number in our PID namespace, whichever user it belongs to.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // A number that is not positive would mean a group. Signal 0 only asks.
    pid > 0 && kill(pid, 0).map_or_else(|error| error.raw_os_error() == Some(libc::EPERM), |()| true)
}

fn kill(pid: libc::pid_t, signal: i32) -> io::Result<()> {
    // SAFETY: it takes numbers. Each caller has proved whose they are.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
