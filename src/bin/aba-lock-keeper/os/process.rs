//! The only system calls of the keeper that the library does not make already: the clock, a page that two processes share,
//! forking, signals, and what is left of a caller's descriptors.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::os::unix::thread::JoinHandleExt;
use std::process::{Child, Command};
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

// ---- descriptors ---------------------------------------------------------------------------------------

/// A new open file description of the file behind `fd`, also if that has no name any more.
pub(crate) fn open_anew(fd: RawFd) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{fd}"))
}

/// A descriptor that another process has open: with its place in a file, and not that of a description of ours.
#[derive(Debug)]
pub(crate) struct Theirs(OwnedFd);

impl Theirs {
    /// The one on this number of that process. An error where it may not be had, or before Linux 5.6.
    #[expect(clippy::disallowed_methods, reason = "pidfd_open(2) and pidfd_getfd(2)")]
    pub(crate) fn of(pid: u32, fd: RawFd) -> io::Result<Self> {
        // `pid` is a number of `/proc`. In another PID namespace it would lead to a stranger.
        if !aba_lock::os::proc::process::has_our_numbers() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: it takes numbers, and makes a descriptor or answers -1.
        let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: as above.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) }).map(Self)
    }

    /// Writes what can be written at once. That it does not block is a matter of this call: whether the descriptor does is its
    /// owner's.
    pub(crate) fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let how = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes live until the call returns.
        let mut written = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), how) };
        if written < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOTSOCK) {
            if !aba_lock::os::can_be_written(fd, Duration::ZERO) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // A pipe that has room has it for so much. Should somebody else fill it now, the alarm ends the call.
            // SAFETY: as above.
            written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len().min(libc::PIPE_BUF)) };
        }
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the descriptor is new, open, and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from 3 on but these two, which get the numbers 3 and 4.
#[expect(clippy::disallowed_methods, reason = "close_range(2)")]
pub(crate) fn keep_only<P: Into<OwnedFd> + From<OwnedFd>>(
    file: File,
    pipe: Option<P>,
) -> io::Result<(File, Option<P>)> {
    let pipe = pipe.map(Into::into);
    // Out of the way of each other first.
    let high = |fd: &OwnedFd| match copy_above(fd.as_raw_fd(), 10) {
        fd if fd < 0 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    };
    let (from_file, from_pipe) = (high(&file.into())?, pipe.as_ref().map(high).transpose()?);
    let mut last = 3;
    for (fd, to) in [(Some(from_file), 3), (from_pipe, 4)] {
        let Some(fd) = fd else { continue };
        // SAFETY: what was on these numbers is none of ours that is used again: what had them is forgotten or closed.
        if unsafe { libc::dup3(fd, to, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        last = to;
    }
    std::mem::forget(pipe);
    // SAFETY: nothing of ours is used above the last any more.
    if unsafe { libc::syscall(libc::SYS_close_range, last + 1, libc::c_uint::MAX, 0) } != 0 {
        // Before Linux 5.9.
        // SAFETY: it only asks.
        let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
        for fd in last + 1..i32::try_from(limit).unwrap_or(1024).min(65_536) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: both numbers are open, and nobody else's.
    unsafe {
        let pipe = (last == 4).then(|| P::from(OwnedFd::from_raw_fd(4)));
        Ok((File::from(OwnedFd::from_raw_fd(3)), pipe))
    }
}

/// A copy of a descriptor, on this number or above.
fn copy_above(fd: RawFd, lowest: RawFd) -> RawFd {
    // SAFETY: it makes a new descriptor, or answers -1.
    unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) }
}

/// Writes all of it to stdout. Not having one, and having none who reads it, are errors like others.
pub(crate) fn write_all_to_stdout(text: &str) -> io::Result<()> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(1, libc::F_GETFD) };
    // There was none, if it is the one that we have put there ourselves: what is handed down by exec cannot have this flag.
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: no handler, and so nothing that could run at a wrong moment. What we do after this is to end.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: it is open, and this is not dropped, so it is not closed.
    let mut stdout = mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    stdout.write_all(text.as_bytes())
}

// ---- the clock -----------------------------------------------------------------------------------------

/// Nanoseconds since boot, in which the time that the machine slept counts.
pub(crate) fn now() -> u64 {
    // SAFETY: all bytes zero are a valid `timespec`.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: it lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A number that nobody can guess, of 62 bits and never zero.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the bytes live until the call returns.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok((u64::from_ne_bytes(bytes) >> 2).max(1))
}

// ---- processes -----------------------------------------------------------------------------------------

/// Numbers that this process shares with those that it forks.
pub(crate) fn shared_numbers() -> io::Result<&'static [AtomicU64; 4]> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), mem::size_of::<[AtomicU64; 4]>(), prot, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is aligned to a page, zero (which is valid), as large as that, and never unmapped.
    Ok(unsafe { &*page.cast::<[AtomicU64; 4]>() })
}

/// Makes a copy of this process. `None` in the copy, and its number here. There must be no other thread.
pub(crate) fn fork() -> io::Result<Option<libc::pid_t>> {
    // SAFETY: there is one thread, so the child may go on as we would.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a child has ended, which is then gone.
pub(crate) fn has_ended(child: libc::pid_t) -> bool {
    // SAFETY: it takes numbers; no status is asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), libc::WNOHANG) != 0 }
}

/// Ends a child that was not waited for yet, and waits for it.
pub(crate) fn end(child: libc::pid_t) {
    aba_lock::os::signal_child(child, libc::SIGKILL);
    // SAFETY: it takes numbers; no status is asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
}

/// Ends a child that was not waited for yet, and what is in its process group, and waits for it.
pub(crate) fn end_group(leader: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(leader.id()) {
        aba_lock::os::signal_group(pid, libc::SIGKILL);
    }
    let _ = leader.wait();
}

/// Ends this process at once.
pub(crate) fn leave() -> ! {
    // SAFETY: it does not return; nothing of the caller's is to be run twice.
    unsafe { libc::_exit(0) }
}

/// Asks for a signal when the parent ends. `false`: it has ended already.
pub(crate) fn end_with_parent(parent: u32) -> bool {
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    aba_lock::os::parent_id() == parent
}

// ---- signals -------------------------------------------------------------------------------------------

/// What somebody sends to all that he has started, as the end of a control group does, is not for us: we end when the script
/// has.
pub(crate) fn be_deaf() {
    for signal in DEAF_TO {
        set(signal, libc::SIG_IGN);
    }
}

/// A command that is deaf to none of that.
pub(crate) fn hearing(command: &mut Command) -> &mut Command {
    let hear = || {
        for signal in DEAF_TO {
            set(signal, libc::SIG_DFL);
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone.
    unsafe { command.pre_exec(hear) }
}

/// With SIGPIPE, as whoever we tell something may be gone.
const DEAF_TO: [i32; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE];

fn set(signal: i32, to: libc::sighandler_t) {
    // SAFETY: all bytes zero are a valid `sigaction`, and it lives until the call returns.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = to;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// An alarm that interrupts blocking system calls of this process. The end of a child interrupts them, too.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// A timer on the clock that counts suspended time: it rings at once when the machine wakes up. `None`: the kernel has no
    /// such timer left for this user, and one that sleeps with the machine does the work.
    timer: Option<libc::timer_t>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            for signal in [libc::SIGALRM, libc::SIGCHLD] {
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
            let (mut event, mut timer): (libc::sigevent, libc::timer_t) = mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGALRM;
            let made = libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) == 0;
            Self { timer: made.then_some(timer) }
        }
    }

    /// Rings after `span`, and then every 50 ms: the first ring may come just before the call that it is meant to interrupt.
    pub(crate) fn ring_after(&self, span: Duration) {
        let (first, again) = (span.max(Duration::from_millis(1)), Duration::from_millis(50));
        let seconds = |span: Duration| libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX);
        if let Some(timer) = self.timer {
            let value = |span: Duration| libc::timespec {
                tv_sec: seconds(span),
                tv_nsec: libc::c_long::from(span.subsec_nanos().cast_signed()),
            };
            let value = libc::itimerspec { it_interval: value(again), it_value: value(first) };
            // SAFETY: the timer is this process's own and is never deleted; the value lives until the call returns.
            unsafe { libc::timer_settime(timer, 0, &raw const value, ptr::null_mut()) };
            return;
        }
        let value = |span: Duration| libc::timeval {
            tv_sec: seconds(span),
            tv_usec: libc::suseconds_t::from(span.subsec_micros()),
        };
        let value = libc::itimerval { it_interval: value(again), it_value: value(first) };
        // SAFETY: it lives until the call returns.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const value, ptr::null_mut()) };
    }
}

/// The signals by which somebody ends what he has started.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Signals that are held back from this thread.
#[derive(Debug)]
pub(crate) struct HeldBack {
    old: libc::sigset_t,
}

impl HeldBack {
    /// Holds back those that end a process, but for those that are ignored.
    pub(crate) fn begin() -> Self {
        let set = ending();
        // SAFETY: all bytes zero are a valid set, and both live until the call returns.
        unsafe {
            let mut old: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
            Self { old }
        }
    }

    /// One that has come since, and would go through.
    pub(crate) fn came(&self) -> Option<i32> {
        // SAFETY: all bytes zero are a valid set, and it lives until each call returns.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigpending(&raw mut set);
            let has = |set: &libc::sigset_t, signal| libc::sigismember(&raw const *set, signal) == 1;
            ENDING.into_iter().find(|signal| has(&set, *signal) && !has(&self.old, *signal))
        }
    }

    /// Lets them through again.
    pub(crate) fn end(&self) {
        // SAFETY: the set lives until the call returns.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old, ptr::null_mut()) };
    }
}

fn ending() -> libc::sigset_t {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in ENDING {
            let mut action: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, ptr::null(), &raw mut action);
            if action.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&raw mut set, signal);
            }
        }
        set
    }
}

/// Runs `start`, so that the thread that it starts gets no signal but by [`next_signal`].
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let done = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut());
        done
    }
}

/// What wakes a thread that waits for signals: it does nothing by itself.
const WAKE: i32 = libc::SIGURG;

/// Waits until one of the signals that are held back comes. `None`: the thread was woken.
pub(crate) fn next_signal() -> Option<i32> {
    let (mut set, mut signal) = (ending(), 0);
    // SAFETY: both live until each call returns.
    unsafe {
        libc::sigaddset(&raw mut set, WAKE);
        while libc::sigwait(&raw const set, &raw mut signal) != 0 {}
    }
    (signal != WAKE).then_some(signal)
}

/// Returns one of the signals that are held back, if one has come.
pub(crate) fn signal_that_came() -> Option<i32> {
    let (set, none) = (ending(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both live until the call returns; no further information is asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const none) };
    (signal > 0).then_some(signal)
}

/// Has a thread return from [`next_signal`].
pub(crate) fn wake(thread: &JoinHandle<()>) {
    // SAFETY: it was not joined yet, so its number is its own.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE) };
}

/// Ends this process by a signal.
pub(crate) fn die_of(signal: i32) -> ! {
    // SAFETY: all bytes zero are valid for these types (SIG_DFL is zero), and they live until each call returns.
    unsafe {
        let standard: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, &raw const standard, ptr::null_mut());
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(signal);
        libc::_exit(128 + signal)
    }
}
