//! The only system calls: flock, file identity, the timer, descriptors, and starting commands.
//!
//! Each `unsafe` block is a call into libc with arguments that live long enough; the reason beside it says
//! what makes it so. The process has one thread: a waiting thread could win the shared description after
//! failure was reported.

#![expect(unsafe_code, reason = "the one file that calls into libc")]

use crate::lock::Mode;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

// ---- locks ---------------------------------------------------------------------------------------------

/// Takes the lock if it can be had at once. `false`: another has it.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let done = match mode {
        Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
        Mode::Shared => fs2::FileExt::try_lock_shared(file),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Blocks until the lock is had, or until a signal comes ([`io::ErrorKind::Interrupted`]).
pub fn wait_lock(file: &File, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Exclusive => fs2::FileExt::lock_exclusive(file),
        Mode::Shared => fs2::FileExt::lock_shared(file),
    }
}

/// Releases the lock for every duplicate of the descriptor at once.
pub fn unlock(file: &File) -> io::Result<()> {
    fs2::FileExt::unlock(file)
}

/// Whether two open files are one.
pub fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The name of the file system on which `path` is, or its number.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let Ok(path) = CString::new(path.as_os_str().to_owned().into_vec()) else { return String::new() };
    // SAFETY: all bytes zero are a valid `statfs`, and it is ours to be written to.
    let mut data: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut data) } != 0 {
        return "this file system".to_owned();
    }
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the type differs between systems")]
    let number = data.f_type as u64 & 0xffff_ffff;
    // statfs(2) lists these; the ones on which locks are known to fail, or to be switched off.
    match number {
        0x6969 => "NFS".to_owned(),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB".to_owned(),
        0x6573_5546 => "FUSE".to_owned(),
        0x0102_1997 => "9P".to_owned(),
        0x00c3_6400 => "Ceph".to_owned(),
        0x5346_414f => "AFS".to_owned(),
        0x0bd0_0bd0 => "Lustre".to_owned(),
        number => format!("the file system of type {number:#x}"),
    }
}

// ---- descriptors ---------------------------------------------------------------------------------------

/// Opens `/dev/null` on each of the descriptors 0 to 2 that is closed: else the next file that we open would
/// get that number, and a message would be written into a lock file. A command finds them closed, as they were.
pub fn fill_standard_descriptors() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: a constant path that ends in NUL. The lowest free number is `fd`.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// A second descriptor of the open file description behind `fd`. `None`: `fd` is not open.
///
/// Closing the second one releases nothing as long as the first is open.
#[must_use]
pub fn second_descriptor(fd: RawFd) -> Option<File> {
    if fd < 0 {
        return None;
    }
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Gives `file` to the commands that we start, on descriptor `lowest` or the next that is free above it, or on
/// the number that it has where the limit of descriptors does not allow that. Returns the number.
///
/// Scripts use the low numbers as they please (`exec 3>log`), and would drop the lock.
pub fn hand_down(file: &File, lowest: RawFd) -> io::Result<RawFd> {
    let fd = file.as_raw_fd();
    // SAFETY: F_DUPFD makes a new descriptor without FD_CLOEXEC, or answers -1.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD, lowest) };
    if high >= 0 {
        return Ok(high);
    }
    // SAFETY: F_SETFD sets one flag of a descriptor that is open.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Keeps descriptor `fd` from the commands that we start.
pub fn keep_back(fd: RawFd) {
    // SAFETY: F_SETFD sets one flag, or answers -1 for one that is not open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Whether `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: 0 to 2 are open since `fill_standard_descriptors`, and the borrow ends with the call.
    std::io::IsTerminal::is_terminal(&unsafe { BorrowedFd::borrow_raw(fd) })
}

/// How many columns the terminal on `fd` has.
#[must_use]
pub fn terminal_width(fd: RawFd) -> usize {
    // SAFETY: all bytes zero are a valid `winsize`, and it is ours to be written to.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: `size` lives until the call returns.
    let done = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    if done == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 }
}

/// Runs `write` so that a limit on the size of files (`ulimit -f`) is an error of it, and not the end of the process.
pub fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut ignore, mut old): (libc::sigaction, libc::sigaction) = mem::zeroed();
        ignore.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(libc::SIGXFSZ, &raw const ignore, &raw mut old);
        let done = write();
        libc::sigaction(libc::SIGXFSZ, &raw const old, ptr::null_mut());
        done
    }
}

// ---- who we are ----------------------------------------------------------------------------------------

/// The effective user of this process.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}

/// The process that started this one. 0 when it is in another pid namespace.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Whether there is a process of this number, whoever it is.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 only asks. A number that is not positive would mean a group.
    pid > 0 && (unsafe { libc::kill(pid, 0) } == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM))
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    // SAFETY: all bytes zero are a valid `utsname`, and it is ours to be written to.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `names` lives until the call returns.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return String::new();
    }
    // SAFETY: uname(2) ends the name with NUL.
    unsafe { CStr::from_ptr(names.nodename.as_ptr()) }.to_string_lossy().into_owned()
}

// ---- the timer -----------------------------------------------------------------------------------------

/// Makes blocking calls end now and then, with [`io::ErrorKind::Interrupted`]. Dropping it puts everything
/// back as it was: handler, mask and timer, so that a command that we become finds its parent's.
#[derive(Debug)]
#[must_use = "it stops when it is dropped"]
pub struct Alarm {
    old_action: libc::sigaction,
    old_mask: libc::sigset_t,
}

/// How soon it rings again.
const AGAIN: Duration = Duration::from_millis(20);

impl Alarm {
    /// Installs the handler; [`Alarm::after`] and [`Alarm::when_parent_ends`] make it ring.
    pub fn new() -> Self {
        // The signal may land just before the call that it is to interrupt: it comes again until it is put off.
        extern "C" fn again(_: libc::c_int) {
            Alarm::set(AGAIN, AGAIN);
        }
        // SAFETY: all bytes zero are valid for these types, and they are ours to be written to.
        let (mut action, mut alarm): (Self, libc::sigaction) = unsafe { mem::zeroed() };
        alarm.sa_sigaction = again as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // Without SA_RESTART: the call that waits is to end.
        alarm.sa_flags = 0;
        // SAFETY: the pointers live until each call returns; the handler makes one system call, which is safe in a signal.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGALRM);
            libc::sigaction(libc::SIGALRM, &raw const alarm, &raw mut action.old_action);
            // A parent may have blocked it, and masks are inherited.
            libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, &raw mut action.old_mask);
        }
        action
    }

    /// Rings once `span` has passed, and then again and again. `None`: not before something else makes it ring.
    pub fn after(&self, span: Option<Duration>) {
        // A value of zero would switch it off.
        Self::set(span.map_or(Duration::ZERO, |span| span.max(Duration::from_micros(1))), AGAIN);
    }

    /// Rings when the parent has ended (Linux), so that we do not wait for a script that is gone. May ring
    /// when only a thread of it has: the caller compares [`parent_id`].
    pub fn when_parent_ends(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGALRM);
        }
    }

    fn set(first: Duration, again: Duration) {
        let time = |span: Duration| libc::timeval {
            tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(span.subsec_micros().cast_signed()),
        };
        let timer = libc::itimerval { it_interval: time(again), it_value: time(first) };
        // SAFETY: `timer` lives until the call returns.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // It would go on ringing in the command that we become.
        Self::set(Duration::ZERO, Duration::ZERO);
        // SAFETY: both were filled by the calls in `new`.
        unsafe {
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            libc::sigaction(libc::SIGALRM, &raw const self.old_action, ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }
}

// ---- commands ------------------------------------------------------------------------------------------

/// A command and what is added to its environment.
#[derive(Debug)]
pub struct Command {
    words: Vec<CString>,
    variables: Vec<(CString, CString)>,
}

impl Command {
    /// [`io::ErrorKind::InvalidInput`] when a word holds a NUL byte, or when there is none.
    pub fn new(words: &[OsString], variables: &[(&str, String)]) -> io::Result<Self> {
        if words.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
        Ok(Self {
            words: words.iter().map(|word| text(word.clone().into_vec())).collect::<io::Result<_>>()?,
            variables: variables
                .iter()
                .map(|(key, value)| Ok((text((*key).into())?, text(value.clone().into_bytes())?)))
                .collect::<io::Result<_>>()?,
        })
    }

    /// Becomes the command. Returns only when that fails, with the reason.
    ///
    /// Unlike the standard library's, this leaves signal mask and dispositions as our parent gave them to us.
    #[must_use]
    pub fn exec(&self) -> io::Error {
        let mut words: Vec<*const libc::c_char> = self.words.iter().map(|word| word.as_ptr()).collect();
        words.push(ptr::null());
        for (key, value) in &self.variables {
            // SAFETY: both end in NUL; there is no other thread that could read the environment.
            unsafe { libc::setenv(key.as_ptr(), value.as_ptr(), 1) };
        }
        // SAFETY: a list of texts that end in NUL, itself ended by a null pointer.
        unsafe { libc::execvp(words[0], words.as_ptr()) };
        io::Error::last_os_error()
    }

    /// Makes a child that becomes the command once it is told to.
    ///
    /// If we are killed, the child is killed by its parent-death signal (Linux): the lock is free then, and a
    /// second copy could start beside it. A command that runs as another user (setuid) does not get that.
    pub fn fork(&self) -> io::Result<Child> {
        let (mut may_go, go) = io::pipe()?;
        let (failure, failed) = io::pipe()?;
        let signals = Signals::hold();
        // SAFETY: there is one thread, so the child may go on as we would.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            let error = io::Error::last_os_error();
            signals.put_back();
            return Err(error);
        }
        if pid > 0 {
            return Ok(Child { pid, go: Some(go), failure, signals, reaped: false });
        }
        drop((go, failure));
        signals.put_back();
        #[cfg(target_os = "linux")]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        // Asked for before this: if our parent was killed earlier, the pipe is at its end.
        if may_go.read_exact(&mut [0]).is_ok() {
            let number = self.exec().raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
            let _ = io::Write::write_all(&mut &failed, &number);
        }
        // SAFETY: it does not return; nothing of the parent's is to be run twice.
        unsafe { libc::_exit(127) }
    }
}

/// A child that waits to become a command. Dropping it before that ends it.
#[derive(Debug)]
#[must_use = "it is ended when it is dropped"]
pub struct Child {
    pid: libc::pid_t,
    go: Option<io::PipeWriter>,
    failure: io::PipeReader,
    signals: Signals,
    reaped: bool,
}

impl Child {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Lets it become the command and waits for it, passing INT, TERM, HUP and QUIT on. Returns its exit
    /// status, 128 + n when signal n ended it.
    pub fn run(&mut self) -> io::Result<i32> {
        if let Some(mut go) = self.go.take() {
            io::Write::write_all(&mut go, &[1])?;
        }
        // The other end closes by itself when the command has started.
        let mut number = [0; 4];
        if self.failure.read_exact(&mut number).is_ok() {
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)));
        }
        loop {
            if let Some(status) = self.signals.next(self.pid) {
                self.reaped = true;
                return Ok(status);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // At the end of the pipe it ends by itself.
        self.go = None;
        if !self.reaped {
            reap(self.pid, 0);
        }
        self.signals.put_back();
    }
}

/// Waits until `child` has ended, or with WNOHANG only looks. Its exit status, 128 + n when signal n ended it.
fn reap(child: libc::pid_t, flags: libc::c_int) -> Option<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives until the call returns.
        match unsafe { libc::waitpid(child, &raw mut status, flags) } {
            0 => return None,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Some(127),
            _ if libc::WIFSIGNALED(status) => return Some(128 + libc::WTERMSIG(status)),
            _ => return Some(libc::WEXITSTATUS(status)),
        }
    }
}

/// The signals that concern a command that we wait for, held back until we ask for them.
#[derive(Debug)]
struct Signals {
    held: libc::sigset_t,
    old_mask: libc::sigset_t,
    old_child: libc::sigaction,
}

impl Signals {
    fn hold() -> Self {
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
        unsafe {
            let mut signals: Self = mem::zeroed();
            libc::sigemptyset(&raw mut signals.held);
            for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                libc::sigaddset(&raw mut signals.held, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const signals.held, &raw mut signals.old_mask);
            // A parent that ignores SIGCHLD hands that on, and then a child's status is lost.
            let mut standard: libc::sigaction = mem::zeroed();
            standard.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGCHLD, &raw const standard, &raw mut signals.old_child);
            signals
        }
    }

    fn put_back(&self) {
        // SAFETY: both were filled by the calls in `hold`.
        unsafe {
            libc::sigaction(libc::SIGCHLD, &raw const self.old_child, ptr::null_mut());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }

    /// Waits for the next signal and passes it on. The child's status when it has ended.
    fn next(&self, child: libc::pid_t) -> Option<i32> {
        let (signal, by_kernel) = self.wait();
        if let Some(status) = reap(child, libc::WNOHANG) {
            return Some(status);
        }
        // A hang-up goes to the leader of the session alone; two of them do no harm.
        let given = by_kernel && signal != libc::SIGHUP && same_group(child);
        if signal > 0 && signal != libc::SIGCHLD && !given {
            // SAFETY: the child is ours and not yet reaped, so the number is still its own.
            unsafe { libc::kill(child, signal) };
        }
        None
    }

    /// The next signal, and whether it is the kernel that sent it.
    #[cfg(target_os = "linux")]
    fn wait(&self) -> (libc::c_int, bool) {
        // SAFETY: all bytes zero are a valid `siginfo_t`; it and the set live until the call returns.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            (libc::sigwaitinfo(&raw const self.held, &raw mut info), info.si_code > 0)
        }
    }

    /// Elsewhere the sender is not told: on a terminal, it is taken to be that.
    #[cfg(not(target_os = "linux"))]
    fn wait(&self) -> (libc::c_int, bool) {
        let mut signal = 0;
        // SAFETY: both live until the call returns.
        unsafe { libc::sigwait(&raw const self.held, &raw mut signal) };
        (signal, signal != libc::SIGTERM && is_terminal(2))
    }
}

/// Whether the child is in our process group, so that it got what a terminal sent: to pass that on as well would be a
/// second Ctrl-C, which many programs take as "now, without cleaning up".
fn same_group(child: libc::pid_t) -> bool {
    // SAFETY: both only ask.
    unsafe { libc::getpgid(child) == libc::getpgrp() }
}
