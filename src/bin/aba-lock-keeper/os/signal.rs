//! Signals to this process: ignored, blocked, or waited for by a thread.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::os::process;
use std::mem;
use std::os::unix::process::CommandExt;
use std::os::unix::thread::JoinHandleExt;
use std::process::Command;
use std::ptr;
use std::thread::JoinHandle;

/// The signals with which a user or a service manager ends processes.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Returns true if users and service managers end processes with this signal.
pub(crate) fn is_ending(signal: i32) -> bool {
    ENDING.contains(&signal)
}

/// Ignores the signals that end all processes of a terminal or a control group, and SIGPIPE: the reader of a message
/// may have ended.
pub(crate) fn ignore_ending_signals() {
    set_handlers(libc::SIG_IGN);
}

/// Gives a command the default handling of the signals that [`ignore_ending_signals`] ignores.
pub(crate) fn restore_signals(command: &mut Command) -> &mut Command {
    let restore = || {
        set_handlers(libc::SIG_DFL);
        Ok(())
    };
    // SAFETY: between fork and exec it only makes system calls.
    unsafe { command.pre_exec(restore) }
}

fn set_handlers(handler: libc::sighandler_t) {
    for signal in ENDING.into_iter().chain([libc::SIGPIPE]) {
        // SAFETY: all bytes zero are a valid `sigaction`, and it lives until the call returns.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
}

/// The ending signals that are blocked in this thread: all except those that are ignored.
#[derive(Debug)]
pub(crate) struct BlockedSignals {
    old: libc::sigset_t,
}

impl BlockedSignals {
    pub(crate) fn block() -> Self {
        let set = ending_set();
        // SAFETY: all bytes zero are a valid set, and both sets live until the call returns.
        unsafe {
            let mut old: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old);
            Self { old }
        }
    }

    /// Returns a pending signal that was not blocked before.
    pub(crate) fn find_pending(&self) -> Option<i32> {
        // SAFETY: all bytes zero are a valid set, and it lives until each call returns.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigpending(&raw mut set);
            let has = |set: &libc::sigset_t, signal| libc::sigismember(&raw const *set, signal) == 1;
            ENDING.into_iter().find(|signal| has(&set, *signal) && !has(&self.old, *signal))
        }
    }

    /// Restores the signal mask that was in force before [`Self::block`].
    pub(crate) fn restore(&self) {
        // SAFETY: the set lives until the call returns.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.old, ptr::null_mut()) };
    }
}

/// Returns the set of ending signals that are not ignored.
fn ending_set() -> libc::sigset_t {
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

/// Runs `start` with all signals blocked. A thread that it starts inherits the mask, so signals go to the calling
/// thread, or to a thread that waits in [`wait_for_signal`].
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut());
        result
    }
}

/// The signal that [`wake_thread`] sends. It is ignored by default.
const WAKE: i32 = libc::SIGURG;

/// The pause between two looks at the parent.
static PARENT_PAUSE: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits for a blocked ending signal, or for the end of the parent if `parent` is its pid: that counts as SIGTERM. `None`:
/// [`wake_thread`] was called.
///
/// The kernel could send a signal at the end of the parent, but sends it at the end of the thread that has started this process, too.
pub(crate) fn wait_for_signal(parent: Option<u32>) -> Option<i32> {
    let mut set = ending_set();
    // SAFETY: the set lives until the call returns.
    unsafe { libc::sigaddset(&raw mut set, WAKE) };
    let pause = parent.map_or(ptr::null(), |_| &raw const PARENT_PAUSE);
    loop {
        // SAFETY: the set and the pause live until the call returns; no further information is asked for.
        let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), pause) };
        if signal > 0 {
            return (signal != WAKE).then_some(signal);
        }
        if has_lost(parent) {
            return Some(libc::SIGTERM);
        }
    }
}

/// Returns true if the parent is another process than this one.
fn has_lost(parent: Option<u32>) -> bool {
    parent.is_some_and(|parent| aba_lock::os::parent_id() != parent)
}

/// Takes a blocked ending signal that is pending, without waiting for one. The end of the parent counts as SIGTERM if `parent` is
/// its pid.
pub(crate) fn take_signal_or_end(parent: Option<u32>) -> Option<i32> {
    take_signal().or_else(|| has_lost(parent).then_some(libc::SIGTERM))
}

/// Takes a blocked ending signal that is pending, without waiting for one.
pub(crate) fn take_signal() -> Option<i32> {
    let (set, zero) = (ending_set(), libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both live until the call returns; no further information is asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const zero) };
    (signal > 0).then_some(signal)
}

/// Makes a thread return from [`wait_for_signal`].
pub(crate) fn wake_thread(thread: &JoinHandle<()>) {
    // SAFETY: the thread was not joined yet, so its id is valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE) };
}

/// Ends this process by a signal, even if the signal is blocked or handled.
pub(crate) fn die_of_signal(signal: i32) -> ! {
    // SAFETY: all bytes zero are a valid set, and it lives until each call returns.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
    aba_lock::os::die_of(signal);
    process::exit_at_once(128 + signal)
}
