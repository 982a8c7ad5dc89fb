//! Starts a watcher: a process that acquires locks for its caller, reports them to it, and lives on after the caller has
//! ended or has become a command.
//!
//! The watcher must not be a child of that command, which could wait for it. So there is a process in between, which exists only
//! until the report:
//!
//! 1. The caller forks the process in between, which forks the watcher. Each of them ends if its parent ends: the kernel kills the
//!    process in between, and the watcher notices at its next step that it has another parent.
//! 2. The watcher reports through a socket, which also takes the open files to the caller. It closes its own copies of the files, and
//!    then the socket. The caller waits for that: if the command ended before, the copies would hold its locks for a moment longer.
//! 3. The caller kills and reaps the process in between, so that the watcher becomes a child of init.
//!
//! If the watcher ends without a report, the process in between ends in the same way, and so does the caller.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::child::kill_with_parent;
use super::proc::process;
use super::process_handle::Process;
use super::signal::{die_of, signal_child};
use super::this_process::parent_id;
use super::wait::{reap, wait_for_child};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The type of the sockets, and the flag for recvmsg(2). Commands get neither the sockets nor the files.
#[cfg(not(target_os = "macos"))]
const SOCKET: libc::c_int = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
#[cfg(not(target_os = "macos"))]
const KEEP_BACK: libc::c_int = libc::MSG_CMSG_CLOEXEC;
#[cfg(target_os = "macos")]
const SOCKET: libc::c_int = libc::SOCK_DGRAM;
#[cfg(target_os = "macos")]
const KEEP_BACK: libc::c_int = 0;

/// Keeps a new descriptor from commands on systems without these flags.
#[cfg(not(target_os = "macos"))]
fn keep_back_received(_: RawFd) {}
#[cfg(target_os = "macos")]
use super::descriptor::keep_back as keep_back_received;

/// Maximum number of files in a report, as the kernel limits it (`SCM_MAX_FD`).
const MAX_FILES: usize = 253;

/// Maximum length of a report in bytes.
const MAX_REPORT: usize = 1024;

/// The first byte of a report that says why there is no watcher. An errno follows.
const FAILED: u8 = 0;

/// The first byte of a report that says why the watcher could not report. An errno follows.
const UNREPORTED: u8 = 1;

/// The side of [`start_watcher`] on which this process is.
#[derive(Debug)]
pub enum WatcherSide {
    /// This process is the watcher.
    Watcher(WatcherLink),
    /// This process is the caller.
    Caller(WatcherAnswer),
}

/// The answer of a watcher to its caller.
#[derive(Debug)]
pub enum WatcherAnswer {
    /// The watcher has reported, and lives on.
    Report(Vec<u8>, Vec<File>),
    /// It has ended with this status, or with 128 + n because of signal n.
    Ended(i32),
    /// It could not report because of this error, and has ended.
    Unreported(io::Error),
    /// The script for which the caller works has ended, and so the watcher ends.
    ScriptEnded,
}

/// The connection of a watcher to its caller.
#[derive(Debug)]
pub struct WatcherLink {
    parent: u32,
    socket: OwnedFd,
}

/// Forks a watcher. The caller waits for its answer, or until process `script` has ended.
///
/// The caller must have one thread.
pub fn start_watcher(script: Option<u32>) -> io::Result<WatcherSide> {
    let (ours, theirs) = create_pair()?;
    let caller = std::process::id();
    let between = fork()?;
    if between > 0 {
        drop(theirs);
        return wait_for_answer(between, &ours, script).map(WatcherSide::Caller);
    }
    drop(ours);
    kill_with_parent();
    let parent = std::process::id();
    // If the caller has ended before the kernel could note that this process must end with it, the parent is another one.
    let watcher = if parent_id() == caller { fork() } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    let link = WatcherLink { parent, socket: theirs };
    match watcher {
        Ok(0) => {
            process::forget_namespace();
            Ok(WatcherSide::Watcher(link))
        }
        Ok(watcher) => {
            drop(link);
            end_as_child(watcher)
        }
        Err(error) => {
            link.report_error(FAILED, &error);
            // SAFETY: it does not return; the code of the caller must not run twice.
            unsafe { libc::_exit(125) }
        }
    }
}

fn fork() -> io::Result<libc::pid_t> {
    // SAFETY: there is one thread, so the child may go on as we would.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

fn create_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: the array has two elements and lives until the call returns.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, SOCKET, 0, fds.as_mut_ptr()) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    fds.into_iter().for_each(keep_back_received);
    // SAFETY: both descriptors are new, open, and have no other owner.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Ends this process in the way in which its child ends.
fn end_as_child(child: libc::pid_t) -> ! {
    let status = loop {
        match wait_for_child(child, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Some(status)) if child > 0 => break status,
            // There is no child.
            _ => break 125 << 8,
        }
    };
    if libc::WIFSIGNALED(status) {
        die_of(libc::WTERMSIG(status));
    }
    // SAFETY: it does not return; the code of the caller must not run twice.
    unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
}

fn wait_for_answer(between: libc::pid_t, socket: &OwnedFd, script: Option<u32>) -> io::Result<WatcherAnswer> {
    let opened = script.and_then(|pid| Process::open(pid, process::start_time(pid)?));
    let poll = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // poll(2) ignores a descriptor of -1.
    let mut polled = [poll(socket.as_raw_fd()), poll(opened.as_ref().map_or(-1, Process::descriptor))];
    let answer = loop {
        if script.is_some_and(|pid| parent_id() != pid) {
            break WatcherAnswer::ScriptEnded;
        }
        // SAFETY: two elements, which live until the call returns.
        unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
        if polled[0].revents == 0 {
            continue;
        }
        match receive(socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok((text, _)) if text.is_empty() => return Ok(WatcherAnswer::Ended(reap(between, 0).unwrap_or(127))),
            Ok((text, files)) => {
                wait_for_close(socket.as_fd());
                let Some((kind @ (&FAILED | &UNREPORTED), errno)) = text.split_first() else {
                    break WatcherAnswer::Report(text, files);
                };
                reap(between, 0);
                let errno = errno.try_into().map_or(libc::EAGAIN, libc::c_int::from_ne_bytes);
                let error = io::Error::from_raw_os_error(errno);
                return if *kind == FAILED { Err(error) } else { Ok(WatcherAnswer::Unreported(error)) };
            }
        }
    };
    signal_child(between, libc::SIGKILL);
    reap(between, 0);
    Ok(answer)
}

/// Waits until the watcher has closed the connection.
fn wait_for_close(socket: BorrowedFd) {
    loop {
        match receive(socket) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok((text, _)) if !text.is_empty() => {}
            _ => return,
        }
    }
}

impl WatcherLink {
    /// The process that ends when the caller ends.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// Tells the caller, unless it has ended, that [`Self::report`] has failed with this error.
    pub fn report_failure(&self, error: &io::Error) {
        self.report_error(UNREPORTED, error);
    }

    fn report_error(&self, kind: u8, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
        let _ = self.report(&[&[kind][..], &errno.to_ne_bytes()].concat(), &[]);
    }

    /// The descriptor of the connection.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends the report. Fails if the caller has ended.
    pub fn report(&self, text: &[u8], files: &[BorrowedFd]) -> io::Result<()> {
        if files.len() > MAX_FILES || text.is_empty() || text.len() > MAX_REPORT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
        let mut control = Control::new();
        // SAFETY: all bytes zero are a valid `msghdr`. It refers to `part` and `control`, which live until the call returns, and
        // `control` has room for this many descriptors.
        let sent = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            if !files.is_empty() {
                let len = u32::try_from(mem::size_of_val(files)).unwrap_or(0);
                message.msg_control = control.0.as_mut_ptr().cast();
                message.msg_controllen = libc::CMSG_SPACE(len) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(len) as _;
                let numbers: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
                ptr::copy_nonoverlapping(numbers.as_ptr().cast(), libc::CMSG_DATA(header), len as usize);
            }
            libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Room for the descriptors of a message, aligned as its headers.
struct Control([u64; 144]);

impl Control {
    fn new() -> Self {
        Self([0; 144])
    }
}

/// Receives a report. Its text is empty if the watcher has closed the connection.
fn receive(socket: BorrowedFd) -> io::Result<(Vec<u8>, Vec<File>)> {
    let mut text = vec![0_u8; MAX_REPORT];
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    let mut control = Control::new();
    let mut files = Vec::new();
    // SAFETY: all bytes zero are a valid `msghdr`. It refers to `part` and `control`, which live until the call returns. The
    // kernel writes whole headers into `control`, and each descriptor in them is new, open, and has no other owner.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control.0) as _;
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, KEEP_BACK);
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        text.truncate(received);
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first: *const RawFd = libc::CMSG_DATA(header).cast();
                for index in 0..len / mem::size_of::<RawFd>() {
                    let fd = first.add(index).read_unaligned();
                    keep_back_received(fd);
                    files.push(File::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((text, files))
}
