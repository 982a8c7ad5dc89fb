//! Commands: becoming one, starting one, and starting one as a child that waits for its turn.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal::{signal_child, signal_group};
use super::signal_mask::without_signal;
use super::this_process::parent_id;
use std::cell::Cell;
use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::mem;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

/// A command and what is changed in its environment.
#[derive(Debug)]
pub struct Command {
    words: Vec<CString>,
    variables: Vec<(CString, CString)>,
    without: Vec<CString>,
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
            without: Vec::new(),
        })
    }

    /// The same without these variables of ours.
    #[must_use]
    pub fn without(self, names: &[&str]) -> Self {
        let without = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
        Self { without, ..self }
    }

    /// Becomes the command. Returns only when that fails, with the reason.
    ///
    /// Unlike the standard library's, this leaves signal mask and dispositions as our parent gave them to us.
    #[must_use]
    pub fn exec(&self) -> io::Error {
        self.set_environment();
        let words = self.pointers();
        // SAFETY: a list of texts that end in NUL, itself ended by a null pointer.
        unsafe { libc::execvp(words[0], words.as_ptr()) };
        io::Error::last_os_error()
    }

    /// The same for a command that is to have the statuses of its children: a parent that ignores SIGCHLD hands that on, and
    /// then they are lost.
    #[must_use]
    pub fn exec_as_parent(&self) -> io::Error {
        // SAFETY: all bytes zero are a valid `sigaction`, and it lives until the call returns.
        unsafe {
            let mut standard: libc::sigaction = mem::zeroed();
            standard.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGCHLD, &raw const standard, ptr::null_mut());
        }
        self.exec()
    }

    /// The words as the system takes them.
    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
    }

    fn set_environment(&self) {
        for name in &self.without {
            // SAFETY: it ends in NUL; there is no other thread that could read the environment.
            unsafe { libc::unsetenv(name.as_ptr()) };
        }
        for (key, value) in &self.variables {
            // SAFETY: both end in NUL; there is no other thread that could read the environment.
            unsafe { libc::setenv(key.as_ptr(), value.as_ptr(), 1) };
        }
    }

    /// Starts it as a child. The reason when it cannot be started.
    ///
    /// With `tied` it is killed if we are, as by [`Command::fork`].
    ///
    /// This is quicker than to fork: nothing of our memory is copied, as the child works in it until it has become the command,
    /// and we stand still meanwhile (`posix_spawn(3)` is made so, too, but looks at each of the 64 signals before).
    #[cfg(target_os = "linux")]
    pub fn spawn(&self, tied: bool) -> io::Result<Child> {
        self.set_environment();
        let words = self.pointers();
        // What execvp(3) wants of it: a path, and a copy of the words for a script without `#!`.
        let mut stack: Vec<u128> = Vec::with_capacity(4096 + words.len());
        let signals = Signals::hold(Group::Ours);
        let mask = signals.old_mask;
        let mut plan = Plan { words: &words, mask, tied, parent: std::process::id(), error: 0 };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: there is one thread. The stack is the child's alone, its upper end is aligned and no part of it; that and
        // the plan live until the child has become the command or has ended, which is when this call returns.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(stack.capacity());
            libc::clone(become_planned, top.cast(), flags, (&raw mut plan).cast())
        };
        if pid < 0 {
            let error = io::Error::last_os_error();
            signals.put_back();
            return Err(error);
        }
        let mut child = Child { pid, group: Group::Ours, go: None, failure: None, signals, reaped: false };
        match plan.error {
            0 => Ok(child),
            error => {
                child.reaped = reap(pid, 0).is_some();
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// Elsewhere it is done with a fork.
    #[cfg(not(target_os = "linux"))]
    pub fn spawn(&self, _tied: bool) -> io::Result<Child> {
        let mut child = self.fork()?;
        child.start().map(|()| child)
    }

    /// Makes a child that becomes the command once it is told to.
    ///
    /// If we are killed, the child is killed by its parent-death signal (Linux): the lock is free then, and a
    /// second copy could start beside it. A command that runs as another user (setuid) does not get that.
    pub fn fork(&self) -> io::Result<Child> {
        self.fork_into(Group::Ours)
    }

    /// The same for a command that leads a session and a process group of its own: signals go to the whole group,
    /// and SIGUSR1 ends it with SIGKILL.
    pub fn fork_session(&self) -> io::Result<Child> {
        self.fork_into(Group::Own)
    }

    fn fork_into(&self, group: Group) -> io::Result<Child> {
        let (mut may_go, go) = io::pipe()?;
        let (failure, failed) = io::pipe()?;
        let signals = Signals::hold(group);
        let parent = std::process::id();
        // SAFETY: there is one thread, so the child may go on as we would.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            let error = io::Error::last_os_error();
            signals.put_back();
            return Err(error);
        }
        if pid > 0 {
            return Ok(Child { pid, group, go: Some(go), failure: Some(failure), signals, reaped: false });
        }
        drop((go, failure));
        signals.put_back();
        if group == Group::Own {
            // SAFETY: it only acts on us, who lead no group yet.
            unsafe { libc::setsid() };
        }
        #[cfg(target_os = "linux")]
        // SAFETY: it takes a number.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        // Asked for before this: a parent that was killed earlier is not our parent any more, also if it had told us to go.
        if may_go.read_exact(&mut [0]).is_ok() && parent_id() == parent {
            let number = self.exec().raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
            let _ = io::Write::write_all(&mut &failed, &number);
        }
        // SAFETY: it does not return; nothing of the parent's is to be run twice.
        unsafe { libc::_exit(127) }
    }
}

/// What a child is to do that works in our memory.
#[cfg(target_os = "linux")]
struct Plan<'a> {
    words: &'a [*const libc::c_char],
    mask: libc::sigset_t,
    tied: bool,
    parent: u32,
    /// Why it could not; 0 if it could.
    error: libc::c_int,
}

/// Runs in the child. Only with what may be called in a signal handler: our memory is not to be changed.
#[cfg(target_os = "linux")]
extern "C" fn become_planned(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the plan that was given to clone(2), and nobody else uses it meanwhile; the words are texts that end in
    // NUL, in a list that ends in a null pointer.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        if plan.tied {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if parent_id() != plan.parent {
                return 127;
            }
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.mask, ptr::null_mut());
        libc::execvp(plan.words[0], plan.words.as_ptr());
        plan.error = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    }
    127
}

/// In which process group a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Ours,
    Own,
}

/// A child that waits to become a command. Dropping it before that ends it.
#[derive(Debug)]
#[must_use = "it is ended when it is dropped"]
pub struct Child {
    pid: libc::pid_t,
    group: Group,
    go: Option<io::PipeWriter>,
    failure: Option<io::PipeReader>,
    signals: Signals,
    reaped: bool,
}

impl Child {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Lets it become the command and waits for it, passing INT, TERM, HUP, QUIT, USR1 and USR2 on. Returns its exit
    /// status, 128 + n when signal n ended it.
    pub fn run(&mut self) -> io::Result<i32> {
        self.start()?;
        Ok(self.wait())
    }

    /// Lets it become the command.
    pub fn go(&mut self) -> io::Result<()> {
        let Some(mut go) = self.go.take() else { return Ok(()) };
        match without_signal(libc::SIGPIPE, || io::Write::write_all(&mut go, &[1])) {
            // It was killed. So it has ended, and of what, the wait tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Lets it become the command, and waits until it has. The reason when it cannot.
    pub fn start(&mut self) -> io::Result<()> {
        self.go()?;
        // The other end closes by itself when the command has started.
        let mut number = [0; 4];
        if self.failure.as_mut().is_some_and(|failure| failure.read_exact(&mut number).is_ok()) {
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)));
        }
        Ok(())
    }

    /// Waits until it ends, as [`Child::run`] does. One that leads a session keeps its number until it is dropped.
    pub fn wait(&mut self) -> i32 {
        loop {
            if let Some(status) = self.signals.next(self.pid, self.group) {
                self.reaped = self.group == Group::Ours;
                return status;
            }
        }
    }
}

impl Child {
    /// The signal that we got and of which the command, which ended with `status`, died. We must die of it, too: an exit
    /// status would show a shell that the Ctrl-C was handled, and the shell would go on with its script.
    #[must_use]
    pub fn died_with_us(&self, status: i32) -> Option<i32> {
        Some(self.signals.came.get()).filter(|signal| *signal != 0 && status == 128 + *signal)
    }
}

impl Child {
    /// Ends the group of a command that leads a session and has ended, without the help of `/proc`. Returns whether no
    /// descendant of ours is left: for a process that adopts orphans, each of them is a child in the end.
    pub fn end_group(&mut self, grace: Duration) -> bool {
        signal_group(self.pid, libc::SIGTERM);
        thread::sleep(grace);
        signal_group(self.pid, libc::SIGKILL);
        self.reaped = reap(self.pid, 0).is_some();
        let begin = Instant::now();
        while begin.elapsed() < grace {
            // SAFETY: it takes numbers; no status is asked for.
            match unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } {
                0 => thread::sleep(Duration::from_millis(5)),
                -1 => return io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD),
                _ => {}
            }
        }
        false
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

/// Makes the standard library start this command through execvp(3), as [`Command`] does: execvp(3) runs a script without `#!`
/// with sh.
pub fn by_execvp(command: &mut std::process::Command) -> &mut std::process::Command {
    // It calls posix_spawn(3), which does not, unless there is something to do first.
    // SAFETY: this does nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, || Ok(())) }
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

/// The exit status of `child` if it has ended, as [`reap`] gives it; but its number stays its own.
fn status_of(child: libc::pid_t) -> Option<i32> {
    // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until the call returns.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PID, child.cast_unsigned(), &raw mut info, flags) != 0 {
            return Some(127);
        }
        match info.si_code {
            // Nothing was filled in.
            _ if info.si_pid() == 0 => None,
            libc::CLD_EXITED => Some(info.si_status()),
            _ => Some(128 + info.si_status()),
        }
    }
}

/// Reaps those who became our children when their parents ended.
fn reap_others(child: libc::pid_t) {
    loop {
        // SAFETY: all bytes zero are a valid `siginfo_t`, and it lives until each call returns.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            let found = libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0;
            if !found || info.si_pid() == 0 || info.si_pid() == child {
                return;
            }
            reap(info.si_pid(), libc::WNOHANG);
        }
    }
}

/// The signals that concern a command that we wait for, held back until we ask for them.
#[derive(Debug)]
struct Signals {
    held: libc::sigset_t,
    old_mask: libc::sigset_t,
    old_child: libc::sigaction,
    /// The last one that was for the command; 0 if none came.
    came: Cell<libc::c_int>,
}

impl Signals {
    fn hold(group: Group) -> Self {
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
        unsafe {
            let mut signals: Self = mem::zeroed();
            libc::sigemptyset(&raw mut signals.held);
            for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
                libc::sigaddset(&raw mut signals.held, signal);
            }
            if group == Group::Ours {
                libc::sigaddset(&raw mut signals.held, libc::SIGUSR2);
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
    fn next(&self, child: libc::pid_t, group: Group) -> Option<i32> {
        let (signal, by_kernel) = self.wait();
        if signal > 0 && signal != libc::SIGCHLD {
            self.came.set(signal);
        }
        let ended = match group {
            Group::Ours => reap(child, libc::WNOHANG),
            Group::Own => {
                let status = status_of(child);
                reap_others(child);
                status
            }
        };
        if ended.is_some() {
            return ended;
        }
        if group == Group::Own {
            if signal > 0 && signal != libc::SIGCHLD {
                let signal = if signal == libc::SIGUSR1 { libc::SIGKILL } else { signal };
                signal_group(child, signal);
            }
            return None;
        }
        // A hang-up goes to the leader of the session alone; two of them do no harm.
        let given = by_kernel && signal != libc::SIGHUP && same_group(child);
        if signal > 0 && signal != libc::SIGCHLD && !given {
            signal_child(child, signal);
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
