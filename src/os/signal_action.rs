//! Signal actions (sigaction(2)), and code that runs while one signal is ignored.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::limit::{NO_LIMIT, limit_of_file_size};
use std::mem;
use std::ptr;

/// The action of a process for a signal.
#[derive(Debug)]
pub(super) struct SignalAction(libc::sigaction);

impl SignalAction {
    /// The default action of the system.
    pub(super) fn standard() -> Self {
        // SAFETY: all bytes zero are a valid `sigaction`: SIG_DFL is zero.
        Self(unsafe { mem::zeroed() })
    }

    pub(super) fn ignore() -> Self {
        let mut action = Self::standard();
        action.0.sa_sigaction = libc::SIG_IGN;
        action
    }

    /// The action that runs `handler`. It has no `SA_RESTART`, so a blocking call fails with
    /// [`std::io::ErrorKind::Interrupted`] afterwards.
    ///
    /// # Safety
    ///
    /// The handler only does what signal-safety(7) allows.
    pub(super) unsafe fn handle(handler: extern "C" fn(libc::c_int)) -> Self {
        let mut action = Self::standard();
        action.0.sa_sigaction = handler as libc::sighandler_t;
        action
    }

    /// The action that runs `handler`, which also gets the origin of the signal.
    ///
    /// # Safety
    ///
    /// The handler only does what signal-safety(7) allows.
    pub(super) unsafe fn handle_with_info(
        handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
    ) -> Self {
        let mut action = Self::standard();
        action.0.sa_sigaction = handler as libc::sighandler_t;
        action.0.sa_flags = libc::SA_SIGINFO;
        action
    }

    /// The present action for a signal.
    pub(super) fn current(signal: libc::c_int) -> Self {
        let mut action = Self::standard();
        // SAFETY: the pointer lives until the call returns, which only asks.
        unsafe { libc::sigaction(signal, ptr::null(), &raw mut action.0) };
        action
    }

    /// Makes this the action for a signal. A signal whose action cannot be changed keeps its own.
    pub(super) fn install(&self, signal: libc::c_int) {
        // SAFETY: the pointer lives until the call returns; the callers of the constructors vouch for the handler.
        unsafe { libc::sigaction(signal, &raw const self.0, ptr::null_mut()) };
    }

    /// Makes this the action for a signal, and returns the previous action.
    pub(super) fn replace(&self, signal: libc::c_int) -> Self {
        let mut old = Self::standard();
        // SAFETY: the pointers live until the call returns; the callers of the constructors vouch for the handler.
        unsafe { libc::sigaction(signal, &raw const self.0, &raw mut old.0) };
        old
    }

    /// Makes this the action for a signal, unless the process ignores the signal, as a background job of a shell
    /// ignores SIGINT. Returns the previous action.
    pub(super) fn replace_unless_ignored(&self, signal: libc::c_int) -> Self {
        let old = Self::current(signal);
        if !old.is_ignore() {
            self.install(signal);
        }
        old
    }

    pub(super) fn is_standard(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    pub(super) fn is_ignore(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }
}

/// Runs `write` so that a limit on the size of files (`ulimit -f`) makes it fail, instead of ending the process.
pub fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    if limit_of_file_size() == NO_LIMIT {
        // There is no such signal without a limit. This takes one system call instead of two.
        return write();
    }
    without_signal(libc::SIGXFSZ, write)
}

/// Runs `write` while a signal is ignored.
pub(super) fn without_signal<T>(signal: libc::c_int, write: impl FnOnce() -> T) -> T {
    let old = SignalAction::ignore().replace(signal);
    let done = write();
    old.install(signal);
    done
}
