//! Processes under a seccomp filter, and the listener through which this program answers their system calls.
//!
//! A filter with a listener (`seccomp_unotify(2)`) stops a process before each system call and asks the listener what the kernel
//! should do. All descendants of the process inherit the filter. So one listener sees the system calls of a whole tree of
//! processes, daemons included, and it hangs up when the last of them has ended. [`crate::driver`] uses it to count calls and
//! to make one of them fail.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::error::check;
use super::process::{kill, wait};
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// The descriptor to which a filtered process reports the number of its listener. The filter lets writes to it pass, because
/// there is no listener yet that could answer.
const REPORT: RawFd = 999;

/// The system calls that a filter reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Every,
    /// Reads of the clock.
    Clock,
}

/// The description of a process that [`start_filtered`] starts.
pub(crate) struct Launch {
    pub(crate) argv: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: CString,
    /// Pairs of a descriptor of this process and its number in the new one. They include 0, 1 and 2.
    pub(crate) descriptors: Vec<(RawFd, RawFd)>,
    pub(crate) watched: Watched,
}

pub(crate) struct Filtered {
    pub(crate) pid: i32,
    pub(crate) listener: Listener,
}

/// The end at which the kernel reports system calls.
pub(crate) struct Listener(OwnedFd);

/// A system call that a process is about to make.
pub(crate) struct SystemCall {
    id: u64,
    pub(crate) pid: u32,
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
}

/// The answer to a system call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The kernel runs the call.
    GoOn,
    /// The call fails with this errno, without running.
    Fail(i32),
    /// The call returns 0, without running.
    Done,
}

/// The result of one wait for a listener.
pub(crate) enum Event {
    Call(SystemCall),
    /// No call within the time.
    Nothing,
    /// All processes under the filter have ended.
    HungUp,
}

fn write_filter(watched: Watched) -> Vec<libc::sock_filter> {
    let number = |call: i64| u32::try_from(call).unwrap();
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let skip_unless = |k, jf| libc::sock_filter { code: 0x15, jt: 0, jf, k };
    let answer = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    match watched {
        // `seccomp_data` begins with the number of the call. The first argument is at offset 16, with its low half first on
        // the little-endian machines that this program supports.
        Watched::Every => vec![
            load(0),
            skip_unless(number(libc::SYS_write), 3),
            load(16),
            skip_unless(REPORT.cast_unsigned(), 1),
            answer(libc::SECCOMP_RET_ALLOW),
            answer(libc::SECCOMP_RET_USER_NOTIF),
        ],
        Watched::Clock => vec![
            load(0),
            skip_unless(number(libc::SYS_clock_gettime), 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            // Stops the process until its parent holds the listener.
            skip_unless(number(libc::SYS_execve), 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    }
}

/// Makes clone(2) of a thread fail with `EAGAIN`, as at the limit of processes, in this process and in all that it starts.
/// Allocates nothing, so that it can run between fork and exec.
pub(crate) fn forbid_threads() -> io::Result<()> {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_BITS: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let fails = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let mut filter = [
        step(LOAD, 0, 0, 0),
        // The flags of clone3(2) are in memory, which a filter cannot read. After ENOSYS, the C library calls clone(2).
        step(IF_EQUAL, 0, 1, number(libc::SYS_clone3)),
        step(RETURN, 0, 0, fails(libc::ENOSYS)),
        step(IF_EQUAL, 0, 3, number(libc::SYS_clone)),
        step(LOAD, 0, 0, 16),
        step(IF_BITS, 0, 1, libc::CLONE_THREAD.cast_unsigned()),
        step(RETURN, 0, 0, fails(libc::EAGAIN)),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 8, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the filter before the call returns.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)).map(drop)
    }
}

/// Starts a process under a filter. With [`Watched::Clock`], the process finds no vDSO, which would let it read the clock
/// without a system call.
pub(crate) fn start_filtered(launch: &Launch) -> io::Result<Filtered> {
    let pointers =
        |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, environment) = (pointers(&launch.argv), pointers(&launch.environment));
    let mut filter = write_filter(launch.watched);
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both are new, and nothing else owns them.
    let (reading, writing) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the child only calls functions that are safe after a fork among threads: see `become_filtered`.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        become_filtered(launch, &argv, &environment, &program, writing.as_raw_fd());
    }
    drop(writing);
    let mut number = [0_u8; 4];
    // SAFETY: `number` has room for four bytes.
    let read = unsafe { libc::read(reading.as_raw_fd(), number.as_mut_ptr().cast(), number.len()) };
    let number = i32::from_ne_bytes(number);
    if read != 4 || number < 0 {
        wait(pid);
        return Err(io::Error::from_raw_os_error(if read == 4 { -number } else { libc::ECHILD }));
    }
    let taken = take_descriptor(pid, number).inspect_err(|_| {
        kill(pid.cast_unsigned(), libc::SIGKILL);
        wait(pid);
    })?;
    let listener = Listener(taken);
    if launch.watched == Watched::Clock {
        if let Event::Call(exec) = listener.receive(Duration::from_secs(60)) {
            listener.answer(&exec, Answer::GoOn);
        }
        let mut status = 0;
        // SAFETY: `status` lives until the call returns; the child stops in its exec, because it asked to be traced.
        unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        hide_vdso(pid)?;
        // SAFETY: it takes numbers.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
    Ok(Filtered { pid, listener })
}

/// Turns the child of [`start_filtered`] into the program. Allocates nothing and takes no lock, because another thread of the
/// parent may have held one during the fork.
fn become_filtered(
    launch: &Launch,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    program: &libc::sock_fprog,
    report: RawFd,
) -> ! {
    // SAFETY: the parent made all strings and arrays before the fork. Each ends in NUL or a null pointer.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::dup3(report, REPORT, libc::O_CLOEXEC);
        for (from, to) in &launch.descriptors {
            if libc::dup2(*from, *to) < 0 {
                libc::_exit(1);
            }
        }
        if libc::chdir(launch.directory.as_ptr()) < 0 {
            libc::_exit(1);
        }
        if launch.watched == Watched::Clock {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        }
        // The kernel requires this of ordinary users who install a filter.
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // With this flag (new in Linux 5.19), a signal does not interrupt a reported call, which would be reported again.
        let quiet = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let mut listener = libc::syscall(libc::SYS_seccomp, mode, quiet, ptr::from_ref(program));
        if listener < 0 && *libc::__errno_location() == libc::EINVAL {
            listener = libc::syscall(libc::SYS_seccomp, mode, flags, ptr::from_ref(program));
        }
        let mut said = i32::try_from(listener).unwrap_or(-1);
        if said < 0 {
            said = -*libc::__errno_location();
        }
        libc::write(REPORT, (&raw const said).cast(), 4);
        if said >= 0 {
            libc::execve(argv[0], argv.as_ptr(), environment.as_ptr());
        }
        libc::_exit(1)
    }
}

/// Returns a copy of a descriptor of another process.
fn take_descriptor(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: these take numbers, and return a new descriptor or -1.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let process = OwnedFd::from_raw_fd(check(i32::try_from(process).unwrap_or(-1))?);
        let taken = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        Ok(OwnedFd::from_raw_fd(check(i32::try_from(taken).unwrap_or(-1))?))
    }
}

/// Hides the vDSO from a process that is stopped in its exec: marks the pointer to it, in the auxiliary vector that the kernel
/// put on the stack, as one to ignore.
fn hide_vdso(pid: i32) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The 28th field, which is the 26th after the name, is the address of `argc`.
    let begin = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(25)).and_then(|text| text.parse().ok());
    let mut at: u64 = begin.ok_or(io::ErrorKind::InvalidData)?;
    let memory = std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let word = |at: u64| -> io::Result<u64> {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    at += 8 * (word(at)? + 2);
    while word(at)? != 0 {
        at += 8;
    }
    at += 8;
    loop {
        match word(at)? {
            0 => return Ok(()),
            kind if kind == libc::AT_SYSINFO_EHDR => memory.write_all_at(&libc::AT_IGNORE.to_ne_bytes(), at)?,
            _ => {}
        }
        at += 16;
    }
}

impl Listener {
    /// Waits up to `patience` for the next call.
    pub(crate) fn receive(&self, patience: Duration) -> Event {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` lives until the call returns.
        if unsafe { libc::poll(&raw mut poll, 1, patience) } <= 0 {
            return Event::Nothing;
        }
        if poll.revents & libc::POLLIN == 0 {
            return Event::HungUp;
        }
        // SAFETY: all bytes zero are a valid value, and the kernel requires them.
        let mut notice: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: `notice` lives until the call returns.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) } < 0 {
            // The process was killed before this call.
            return Event::Nothing;
        }
        let (number, args) = (i64::from(notice.data.nr), notice.data.args);
        Event::Call(SystemCall { id: notice.id, pid: notice.pid, number, args })
    }

    pub(crate) fn answer(&self, call: &SystemCall, answer: Answer) {
        let (error, flags) = match answer {
            Answer::GoOn => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
            Answer::Fail(errno) => (-errno, 0),
            Answer::Done => (0, 0),
        };
        let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: `answer` lives until the call returns. An error means that the process has ended, which is no problem.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    }
}
