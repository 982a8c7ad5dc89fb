//! All that the rack asks of the kernel beyond the standard library: starting a process under a seccomp filter whose
//! listener is ours, answering for its system calls, namespaces, mounts, signals.
//!
//! A filter with a listener (`seccomp_unotify(2)`) stops a process before each system call, and whatever it starts, too, and
//! asks us: so one counter covers a whole tree of processes, daemons included, and when the last of them has ended the
//! listener hangs up.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// The one descriptor to which a process under a filter may write without being asked: it says on it where its listener is.
const REPORT: RawFd = 999;

/// For which calls a filter asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// For all.
    Every,
    /// For what the time is.
    Clock,
}

/// What is to be started.
pub(crate) struct Start {
    pub(crate) argv: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: CString,
    /// What it gets on which number, 0 to 2 among them.
    pub(crate) descriptors: Vec<(RawFd, RawFd)>,
    pub(crate) ask: Ask,
}

/// A process under a filter.
pub(crate) struct Filtered {
    pub(crate) pid: i32,
    pub(crate) listener: Listener,
}

/// Where the kernel asks.
pub(crate) struct Listener(OwnedFd);

/// A system call that is about to be made.
pub(crate) struct Asked {
    id: u64,
    pub(crate) pid: u32,
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
}

/// What to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Let it be made.
    GoOn,
    /// It fails with this errno, and is not made.
    Fail(i32),
    /// It is not made, and returns 0.
    Done,
}

/// What a listener has to say.
pub(crate) enum Heard {
    Call(Asked),
    /// Nothing for so long.
    Nothing,
    /// All have ended.
    HungUp,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn filter(ask: Ask) -> Vec<libc::sock_filter> {
    let number = |call: i64| u32::try_from(call).unwrap();
    let load = |offset| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let skip_unless = |k, jf| libc::sock_filter { code: 0x15, jt: 0, jf, k };
    let answer = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    match ask {
        // `seccomp_data` begins with the number; the first argument is at 16, its low half first where we run.
        Ask::Every => vec![
            load(0),
            skip_unless(number(libc::SYS_write), 3),
            load(16),
            skip_unless(REPORT.cast_unsigned(), 1),
            answer(libc::SECCOMP_RET_ALLOW),
            answer(libc::SECCOMP_RET_USER_NOTIF),
        ],
        Ask::Clock => vec![
            load(0),
            skip_unless(number(libc::SYS_clock_gettime), 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            // So that it waits until we have the listener.
            skip_unless(number(libc::SYS_execve), 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    }
}

/// This process, and all that it starts, can create no thread: clone(2) of one fails with `EAGAIN`, as at the limit of
/// processes. It allocates nothing.
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
        // The flags of clone3(2) are in memory, which a filter cannot read: without it the C library calls clone(2).
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

/// Starts it. With [`Ask::Clock`] it also finds no vDSO, through which it would ask for the time without a system call.
pub(crate) fn start(start: &Start) -> io::Result<Filtered> {
    let pointers =
        |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
    let (argv, environment) = (pointers(&start.argv), pointers(&start.environment));
    let mut filter = filter(start.ask);
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both are new and nobody else's.
    let (reading, writing) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the child calls nothing but what is safe after a fork among threads: `become_filtered` says why.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        become_filtered(start, &argv, &environment, &program, writing.as_raw_fd());
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
    if start.ask == Ask::Clock {
        if let Heard::Call(exec) = listener.hear(Duration::from_secs(60)) {
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

/// What the child of [`start`] does. It allocates nothing and takes no lock: there may have been other threads.
fn become_filtered(
    start: &Start,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    program: &libc::sock_fprog,
    report: RawFd,
) -> ! {
    // SAFETY: all pointers are to what the parent made before the fork, and ends in NUL or a null pointer.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::dup3(report, REPORT, libc::O_CLOEXEC);
        for (from, to) in &start.descriptors {
            if libc::dup2(*from, *to) < 0 {
                libc::_exit(1);
            }
        }
        if libc::chdir(start.directory.as_ptr()) < 0 {
            libc::_exit(1);
        }
        if start.ask == Ask::Clock {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        }
        // Without it an ordinary user may install no filter; and no command of ours has other rights than we.
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // So that a signal (of a timer, say) does not make it ask twice for the same call; new in Linux 5.19.
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

/// A copy of another process's descriptor.
fn take_descriptor(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: these take numbers, and answer with a new descriptor or -1.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let process = OwnedFd::from_raw_fd(check(i32::try_from(process).unwrap_or(-1))?);
        let taken = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        Ok(OwnedFd::from_raw_fd(check(i32::try_from(taken).unwrap_or(-1))?))
    }
}

/// Makes a process that stands in its exec find no vDSO: the pointer to it in what the kernel put on its stack is ignored.
fn hide_vdso(pid: i32) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The 28th field, the 26th behind the name: where `argc` is.
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
    /// Waits for the next call, so long at most.
    pub(crate) fn hear(&self, patience: Duration) -> Heard {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` lives until the call returns.
        if unsafe { libc::poll(&raw mut poll, 1, patience) } <= 0 {
            return Heard::Nothing;
        }
        if poll.revents & libc::POLLIN == 0 {
            return Heard::HungUp;
        }
        // SAFETY: all bytes zero are valid, and what the kernel asks for.
        let mut asked: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: `asked` lives until the call returns.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) } < 0 {
            // Who asked was killed meanwhile.
            return Heard::Nothing;
        }
        let (number, args) = (i64::from(asked.data.nr), asked.data.args);
        Heard::Call(Asked { id: asked.id, pid: asked.pid, number, args })
    }

    pub(crate) fn answer(&self, asked: &Asked, answer: Answer) {
        let (error, flags) = match answer {
            Answer::GoOn => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
            Answer::Fail(errno) => (-errno, 0),
            Answer::Done => (0, 0),
        };
        let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags };
        // SAFETY: `answer` lives until the call returns. That who asked is gone is no fault.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    }
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: it takes numbers.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// How a child ended, if it has: its status, 128 + n for signal n.
pub(crate) fn try_wait(pid: i32) -> Option<i32> {
    waited(pid, libc::WNOHANG)
}

/// Waits until a child has ended.
pub(crate) fn wait(pid: i32) -> i32 {
    loop {
        if let Some(status) = waited(pid, 0) {
            return status;
        }
    }
}

fn waited(pid: i32, flags: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    let ended = unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL) };
    if ended < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
        return Some(-1);
    }
    (ended == pid).then(
        || {
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
        },
    )
}

/// Whether a child, which is not reaped yet, ends within that time.
pub(crate) fn ends_within_time(pid: u32, patience: Duration) -> bool {
    // SAFETY: it takes numbers, and answers with a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(fd) = check(i32::try_from(fd).unwrap_or(-1)) else { return false };
    // SAFETY: it is new, open, and nobody else's.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let (seconds, nanos) = (patience.as_secs(), patience.subsec_nanos());
    let patience = libc::timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: i64::from(nanos) };
    // SAFETY: `poll` and `patience` live until the call returns.
    unsafe { libc::ppoll(&raw mut poll, 1, &raw const patience, ptr::null()) == 1 }
}

/// Reaps whatever ends, until that is `pid`; returns how it ended. The work of the first process of a namespace.
pub(crate) fn reap_until(pid: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if ended == pid {
            return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        }
        if ended < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            return 1;
        }
    }
}

/// This process, and what it becomes, ends with its parent, whatever ends that.
pub(crate) fn end_with_parent() {
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// A session of its own: neither Ctrl-C nor a hang-up reaches it.
pub(crate) fn leave_terminal() {
    // SAFETY: it takes nothing.
    unsafe { libc::setsid() };
}

/// The children of this process get these namespaces (mounts: this process, too).
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: it takes a number.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// User and group of this process.
pub(crate) fn ids() -> (u32, u32) {
    // SAFETY: they take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// mount(2).
pub(crate) fn mount(kind: &CStr, target: &Path, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (target, data) = (CString::new(target.as_os_str().as_bytes())?, CString::new(data)?);
    // SAFETY: all strings end in NUL and live until the call returns.
    check(unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) }).map(drop)
}

/// umount2(2), also while somebody is there; that it is no mount is no fault.
pub(crate) fn unmount(target: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let Ok(target) = CString::new(target.as_os_str().as_bytes()) else { return };
    // SAFETY: the path ends in NUL and lives until the call returns.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
}

/// Nanoseconds of a clock that nobody sets.
pub(crate) fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Locks a file (flock(2)) if that can be had at once.
pub(crate) fn try_flock(file: &std::fs::File) -> bool {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Unlocks it, for all copies of the descriptor.
pub(crate) fn unflock(file: &std::fs::File) {
    // SAFETY: the descriptor is open.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// All of a file, as fcntl(2) has it.
fn whole(kind: libc::c_int) -> libc::flock {
    // SAFETY: all bytes zero are valid: from its beginning, to its end.
    let mut range: libc::flock = unsafe { mem::zeroed() };
    range.l_type = libc::c_short::try_from(kind).unwrap();
    range
}

/// Locks a file that is open for writing (fcntl(2), by open file description) if that can be had at once.
pub(crate) fn try_lock_range(file: &std::fs::File) -> bool {
    let range = whole(libc::F_WRLCK);
    // SAFETY: the descriptor is open, and the range lives until the call returns.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) == 0 }
}

/// Unlocks that, for all copies of the descriptor.
pub(crate) fn unlock_range(file: &std::fs::File) {
    let range = whole(libc::F_UNLCK);
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
}

/// Whether another has a lock of fcntl(2) on it.
pub(crate) fn is_range_locked(file: &std::fs::File) -> bool {
    let mut range = whole(libc::F_WRLCK);
    // SAFETY: as above; the kernel writes to the range what is in the way.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) };
    libc::c_int::from(range.l_type) != libc::F_UNLCK
}

/// A file in memory, without a name.
pub(crate) fn memory_file(name: &CStr) -> io::Result<std::fs::File> {
    // SAFETY: the name ends in NUL; the descriptor is new, or -1.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: it is new, open, and nobody else's.
    Ok(std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
