//! Starts detached processes, which are not children of the caller. The supervisor of a task and the keeper of a lease are
//! such processes.
//!
//! A detached process still has the descriptors of the caller, and must close them ([`close_inherited_except`]). Otherwise
//! it would keep the locks of the caller.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::proc::process;
use super::signal_action::SignalAction;
use super::signal_mask::SignalSet;
use super::this_process::hide_command;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

/// Closes all descriptors above 2 except these. Only a detached process may do this: in the foreground, an inherited
/// descriptor can be the only one that keeps the lock of the caller.
pub fn close_inherited_except(kept: &[RawFd]) {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

#[expect(clippy::disallowed_methods, reason = "close_range(2)")]
fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    #[cfg(linux)]
    // SAFETY: this process does not use these descriptors any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Linux before 5.9 and other systems have no close_range(2). SAFETY: the call only reads a limit.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let limit = i32::try_from(limit).unwrap_or(1024).min(65_536);
    for fd in first..=last.min(limit - 1) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Detaches this process from its caller, as a watcher does after a fork: it leads a session of its own, and has the default signal
/// actions, the working directory `/` and no descriptors but `kept`. Standard input, output and error are `/dev/null`.
///
/// The words of the command line after `--` are overwritten, because they name another program, which tools such as `pkill -f`
/// would find here.
pub fn detach_from_caller(kept: &[RawFd]) {
    // SAFETY: a child leads no group.
    unsafe { libc::setsid() };
    reset_signals();
    hide_command();
    quiet_stdio();
    let _ = std::env::set_current_dir("/");
    close_inherited_except(kept);
}

/// Starts a detached process that runs `work` and then exits. Returns as soon as the process exists.
///
/// The process has a session of its own, standard input, output and error on `/dev/null`, the working directory `/`, and
/// the default signal actions. The `hidden` variables are removed from its environment, also from `/proc/PID/environ`.
pub fn detached(hidden: &[&str], work: impl FnOnce()) -> io::Result<()> {
    let mut plan = DetachPlan { hidden, work: Some(work) };
    let first = fork_first(&mut plan)?;
    let mut status = 0;
    loop {
        // SAFETY: `status` lives until the call returns.
        let done = unsafe { libc::waitpid(first, &raw mut status, 0) };
        if done == first && status != 0 {
            return Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)));
        }
        // If SIGCHLD is ignored, there is no status. The caller must then notice by other means that the process did
        // not start.
        if done == first || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Ok(());
        }
    }
}

/// The work of a detached process.
struct DetachPlan<'a, W> {
    hidden: &'a [&'a str],
    work: Option<W>,
}

impl<W: FnOnce()> DetachPlan<'_, W> {
    /// Starts the detached process. Runs in a process between the caller and the detached process, so that this one is not a
    /// child of the caller. Returns the exit status of that process in between.
    fn start(&mut self) -> libc::c_int {
        // SAFETY: a child leads no group. There is no other thread whose locks of the C library the new process could inherit.
        unsafe {
            libc::setsid();
            match libc::fork() {
                0 => self.run(),
                // A status has 8 bits, which is enough for errno.
                -1 => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN),
                _ => 0,
            }
        }
    }

    /// Runs the work in the detached process.
    fn run(&mut self) -> ! {
        process::forget_namespace();
        reset_signals();
        for name in self.hidden {
            hide_variable(name);
        }
        quiet_stdio();
        let _ = std::env::set_current_dir("/");
        if let Some(work) = self.work.take() {
            work();
        }
        // The process must not return into the code of the caller. SAFETY: the call does not return.
        unsafe { libc::_exit(0) }
    }
}

/// Starts the process in between, and returns its pid. It runs in our memory while this process is suspended, so the kernel
/// copies the memory only once, for the detached process.
#[cfg(linux)]
fn fork_first<W: FnOnce()>(plan: &mut DetachPlan<W>) -> io::Result<libc::pid_t> {
    extern "C" fn start<W: FnOnce()>(plan: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it is the plan that was passed to clone(2), and the caller is suspended.
        unsafe { &mut *plan.cast::<DetachPlan<W>>() }.start()
    }
    // The detached process runs on a copy of this stack.
    let stack = Stack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the plan live until the process has ended, which is when this call returns.
    let pid = unsafe { libc::clone(start::<W>, stack.top(), flags, (&raw mut *plan).cast()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

#[cfg(not(linux))]
fn fork_first<W: FnOnce()>(plan: &mut DetachPlan<W>) -> io::Result<libc::pid_t> {
    // SAFETY: this process has one thread, so no lock of the library is held by a thread that the child does not have.
    match unsafe { libc::fork() } {
        // SAFETY: the call does not return.
        0 => unsafe { libc::_exit(plan.start()) },
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// The stack of a process. Below it, there is a page that cannot be accessed, so that a stack that grows too large ends the
/// process.
#[cfg(linux)]
struct Stack(*mut libc::c_void);

#[cfg(linux)]
impl Stack {
    /// The size in bytes, as for a thread of the standard library.
    const LEN: usize = 2 << 20;
    const GUARD: usize = 64 << 10;

    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: this is a new mapping.
        unsafe {
            let begin = libc::mmap(ptr::null_mut(), Self::LEN, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if begin == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::mprotect(begin, Self::GUARD, libc::PROT_NONE);
            Ok(Self(begin))
        }
    }

    /// The end of the stack, from which it grows down.
    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(Self::LEN)
    }
}

#[cfg(linux)]
impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and no process runs on it in this memory.
        unsafe { libc::munmap(self.0, Self::LEN) };
    }
}

/// Removes a variable from the environment, and overwrites its value in `/proc/PID/environ`.
fn hide_variable(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: there is one thread; the value is a text that ends in NUL, and there is no reference to it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            ptr::write_bytes(value, b' ', libc::strlen(value));
            libc::unsetenv(name.as_ptr());
        }
    }
}

/// Lets other processes of the same user look into this process (Linux), also if they may not read its program, or if this
/// process has had the rights of another user. So the memory must not contain secrets.
pub fn let_user_inspect() {
    #[cfg(linux)]
    // SAFETY: the arguments are numbers.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 1);
    }
}

/// Makes this process the parent of each descendant whose parent ends (Linux, FreeBSD), so that it can find and end all of them.
pub fn adopt_orphans() {
    #[cfg(target_os = "freebsd")]
    // SAFETY: 0 is this process; the request has no data.
    unsafe {
        libc::procctl(libc::P_PID, 0, libc::PROC_REAP_ACQUIRE, ptr::null_mut());
    }
    #[cfg(linux)]
    // SAFETY: the arguments are numbers.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}

/// Gives all signals their default actions, and blocks none.
fn reset_signals() {
    let standard = SignalAction::standard();
    // The system refuses the numbers that do not exist or cannot be changed.
    for signal in 1..=64 {
        standard.install(signal);
    }
    SignalSet::new(&[]).restore();
}

/// Redirects standard input, output and error to `/dev/null`.
pub fn quiet_stdio() {
    // SAFETY: a constant path that ends in NUL; the numbers are those that every process has.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null >= 0 {
            for fd in 0..=2 {
                libc::dup2(null, fd);
            }
            if null > 2 {
                libc::close(null);
            }
        }
    }
}

/// Redirects standard output and standard error to files.
pub fn redirect_output(out: &File, err: &File) -> io::Result<()> {
    for (file, fd) in [(out, libc::STDOUT_FILENO), (err, libc::STDERR_FILENO)] {
        // SAFETY: both are open.
        if unsafe { libc::dup2(file.as_raw_fd(), fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
