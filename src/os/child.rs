//! Commands that run as children of this process: starting them, passing signals on, and waiting for them.
//!
//! [`PreparedCommand::spawn`] is the fast way. [`PreparedCommand::fork`] makes a child that becomes the command later,
//! when the caller has written down the pid of the child. [`PreparedCommand::fork_session`] also gives the child a
//! session of its own.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::child_signals::{ChildSignals, ProcessGroup};
use super::command::PreparedCommand;
use super::signal::{is_in_our_group, signal_group};
use super::signal_action::without_signal;
use super::this_process::parent_id;
use super::wait::reap;
use std::io::{self, Read};
use std::process::Command;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

impl PreparedCommand {
    /// Starts the command as a child, or returns the reason why it cannot be started. With `tied`, the command is
    /// killed if this process is killed, as with [`PreparedCommand::fork`].
    ///
    /// This is faster than fork(2): the kernel copies no memory, since the child runs in our memory until it has become
    /// the command, while this process is suspended. (`posix_spawn(3)` works like that, too, but first makes a system
    /// call for each of 64 signals.)
    #[cfg(linux)]
    pub fn spawn(&self, tied: bool) -> io::Result<Child> {
        self.set_environment();
        self.spawn_once(tied).or_else(|error| match self.as_script(&error) {
            Some(script) => script.spawn_once(tied),
            None => Err(error),
        })
    }

    #[cfg(linux)]
    fn spawn_once(&self, tied: bool) -> io::Result<Child> {
        let words = self.pointers();
        // execvp(3) needs room for a path, and the one of glibc for a copy of the words.
        let mut stack: Vec<u128> = Vec::with_capacity(4096 + words.len());
        let signals = ChildSignals::block(ProcessGroup::Ours);
        let mask = signals.old_mask.0;
        let mut plan = ChildPlan { words: &words, mask, tied, parent: std::process::id(), error: 0 };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: there is one thread. The stack is the child's alone, and its upper end is aligned and not part of it.
        // The stack and the plan live until the child has become the command or has ended, which is when this call
        // returns.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(stack.capacity());
            libc::clone(become_planned, top.cast(), flags, (&raw mut plan).cast())
        };
        if pid < 0 {
            let error = io::Error::last_os_error();
            signals.restore();
            return Err(error);
        }
        let mut child = Child { pid, group: ProcessGroup::Ours, go: None, failure: None, signals, reaped: false };
        match plan.error {
            0 => Ok(child),
            error => {
                child.reaped = reap(pid, 0).is_some();
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// Starts the command as a child, with fork(2), on systems other than Linux.
    #[cfg(not(linux))]
    pub fn spawn(&self, _tied: bool) -> io::Result<Child> {
        let mut child = self.fork()?;
        child.start().map(|()| child)
    }

    /// Creates a child that becomes the command when [`Child::go`] is called.
    ///
    /// If this process is killed, the parent-death signal kills the child (Linux, FreeBSD): the lock is free then, and without
    /// the signal a second copy of the command could start while this one runs. A command that runs as another user
    /// (setuid) does not get the signal.
    pub fn fork(&self) -> io::Result<Child> {
        self.fork_into(ProcessGroup::Ours)
    }

    /// Like [`PreparedCommand::fork`], for a command that leads a session and a process group of its own: signals go to
    /// the whole group, and SIGUSR1 ends it with SIGKILL.
    pub fn fork_session(&self) -> io::Result<Child> {
        self.fork_into(ProcessGroup::Own)
    }

    fn fork_into(&self, group: ProcessGroup) -> io::Result<Child> {
        let (mut may_go, go) = io::pipe()?;
        let (failure, failed) = io::pipe()?;
        let signals = ChildSignals::block(group);
        let parent = std::process::id();
        // SAFETY: there is one thread, so the child may go on as we would.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            let error = io::Error::last_os_error();
            signals.restore();
            return Err(error);
        }
        if pid > 0 {
            return Ok(Child { pid, group, go: Some(go), failure: Some(failure), signals, reaped: false });
        }
        drop((go, failure));
        signals.restore();
        if group == ProcessGroup::Own {
            // SAFETY: it only affects this process, which leads no group yet.
            unsafe { libc::setsid() };
        }
        kill_with_parent();
        // The parent may have been killed before the parent-death signal was set, even after it told us to go. Then it
        // is not our parent any more.
        if may_go.read_exact(&mut [0]).is_ok() && parent_id() == parent {
            let number = self.exec().raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
            let _ = io::Write::write_all(&mut &failed, &number);
        }
        // SAFETY: it does not return; the code of the parent must not run twice.
        unsafe { libc::_exit(127) }
    }
}

/// Asks the kernel to kill this process when its parent ends (Linux, FreeBSD).
pub(super) fn kill_with_parent() {
    #[cfg(target_os = "freebsd")]
    // SAFETY: 0 is this process, and the number lives until the call returns.
    unsafe {
        let mut signal = libc::SIGKILL;
        libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast());
    }
    #[cfg(linux)]
    // SAFETY: it takes numbers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// Makes the kernel kill a command, once it is started, if this process is killed.
pub fn tie_to_this_process(command: &mut Command) {
    let parent = std::process::id();
    let tie = move || {
        kill_with_parent();
        // This process may have ended before the call.
        if parent_id() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ECHILD)) }
    };
    // SAFETY: both functions only make a system call.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, tie) };
}

/// The input and output of a child that runs in our memory.
#[cfg(linux)]
struct ChildPlan<'a> {
    words: &'a [*const libc::c_char],
    mask: libc::sigset_t,
    tied: bool,
    parent: u32,
    /// The error of execvp(3); 0 if it succeeded.
    error: libc::c_int,
}

/// Runs in the child. It calls only functions that signal-safety(7) allows, because it must not change our memory.
#[cfg(linux)]
extern "C" fn become_planned(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the plan that was passed to clone(2), and the parent is suspended; the words are texts that end in
    // NUL, in a list that ends in a null pointer.
    unsafe {
        let plan = &mut *plan.cast::<ChildPlan>();
        if plan.tied {
            kill_with_parent();
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

/// A child that is a command, or becomes one. If it is dropped before it has become the command, the child ends.
#[derive(Debug)]
#[must_use = "the child ends when it is dropped"]
pub struct Child {
    pid: libc::pid_t,
    group: ProcessGroup,
    go: Option<io::PipeWriter>,
    failure: Option<io::PipeReader>,
    signals: ChildSignals,
    reaped: bool,
}

/// An event for a process that waits for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEvent {
    /// The child has ended with this exit status, or with 128 + n if signal n ended it.
    Ended(i32),
    /// This process got a signal. `has_it` is true if the kernel has sent it to the child, too, because of a key on the
    /// terminal.
    Signal {
        /// The number of the signal.
        signal: i32,
        /// True if the child has got the signal from the kernel.
        has_it: bool,
    },
}

impl Child {
    /// The pid of the child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Lets the child become the command, passes INT, TERM, HUP, QUIT, USR1 and USR2 on to it, and waits until it has
    /// ended. Returns its exit status, or 128 + n if signal n ended it.
    pub fn run(&mut self) -> io::Result<i32> {
        self.start()?;
        Ok(self.wait())
    }

    /// Lets the child become the command.
    pub fn go(&mut self) -> io::Result<()> {
        let Some(mut go) = self.go.take() else { return Ok(()) };
        match without_signal(libc::SIGPIPE, || io::Write::write_all(&mut go, &[1])) {
            // The child was killed; its status says by which signal.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Lets the child become the command, and waits until it has done so. Fails with the reason why it could not.
    pub fn start(&mut self) -> io::Result<()> {
        self.go()?;
        // The kernel closes the other end when the command has started.
        let mut number = [0; 4];
        if self.failure.as_mut().is_some_and(|failure| failure.read_exact(&mut number).is_ok()) {
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)));
        }
        Ok(())
    }

    /// Waits until the child has ended, as [`Child::run`] does. The pid of a child with a session of its own is not
    /// reused until this value is dropped.
    pub fn wait(&mut self) -> i32 {
        loop {
            if let Some(status) = self.signals.wait_and_pass_on(self.pid, self.group, None) {
                self.reaped = self.group == ProcessGroup::Ours;
                return status;
            }
        }
    }

    /// Waits for the next signal to this process, or for the end of the child. Passes no signal on: that is the task of the
    /// caller.
    pub fn wait_for_event(&mut self) -> ChildEvent {
        loop {
            let (signal, by_kernel) = self.signals.take_next();
            if let Some(status) = reap(self.pid, libc::WNOHANG) {
                self.reaped = true;
                return ChildEvent::Ended(status);
            }
            if signal > 0 && signal != libc::SIGCHLD {
                // The terminal sends SIGHUP only to the leader of the session.
                let has_it = by_kernel && signal != libc::SIGHUP && is_in_our_group(self.pid);
                return ChildEvent::Signal { signal, has_it };
            }
        }
    }

    /// Does the same as [`Child::wait`] until the deadline. `None`: the child still runs then.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<i32> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(status) = self.signals.wait_and_pass_on(self.pid, self.group, Some(left)) {
                self.reaped = self.group == ProcessGroup::Ours;
                return Some(status);
            }
            if left.is_zero() {
                return None;
            }
        }
    }

    /// Returns the signal that came to us and that also ended the command, which had this status. This process must die
    /// of it, too: after an exit status, a shell would assume that the Ctrl-C was handled, and go on with its script.
    #[must_use]
    pub fn died_with_us(&self, status: i32) -> Option<i32> {
        self.signals.last().filter(|signal| status == 128 + *signal)
    }

    /// Ends the group of a command that led a session and has ended, without the help of `/proc`. Returns true if no
    /// descendant of this process runs any more: a process that adopts orphans becomes the parent of each of them.
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
        // A child that has not become the command ends when the pipe is closed.
        self.go = None;
        if !self.reaped {
            reap(self.pid, 0);
        }
        self.signals.restore();
    }
}
