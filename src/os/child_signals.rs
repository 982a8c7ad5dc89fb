//! The signals that concern a child: they are blocked, and received one at a time while this process waits for the
//! child.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal::{is_in_our_group, signal_child, signal_group};
use super::signal_action::SignalAction;
use super::signal_mask::SignalSet;
use super::wait::{peek_status, reap, reap_adopted};
use std::cell::Cell;
#[cfg(linux)]
use std::mem;
use std::time::Duration;

/// The process group in which a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessGroup {
    Ours,
    Own,
}

/// The blocked signals, and the mask and action to restore.
#[derive(Debug)]
pub(super) struct ChildSignals {
    blocked: SignalSet,
    pub(super) old_mask: SignalSet,
    old_child: SignalAction,
    /// The last signal that came for the command; 0 if none did.
    last: Cell<libc::c_int>,
}

impl ChildSignals {
    /// Blocks the signals.
    pub(super) fn block(group: ProcessGroup) -> Self {
        let signals =
            [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        let blocked = SignalSet::new(if group == ProcessGroup::Ours { &signals } else { &signals[..6] });
        let old_mask = blocked.block();
        // If our parent ignores SIGCHLD, so does this process, and the kernel would not keep the status of a child.
        let old_child = SignalAction::standard().replace(libc::SIGCHLD);
        Self { blocked, old_mask, old_child, last: Cell::new(0) }
    }

    /// Restores the previous mask and the previous action for SIGCHLD.
    pub(super) fn restore(&self) {
        self.old_child.install(libc::SIGCHLD);
        self.old_mask.restore();
    }

    /// The last signal that came for the command.
    pub(super) fn last(&self) -> Option<libc::c_int> {
        Some(self.last.get()).filter(|signal| *signal != 0)
    }

    /// Waits for the next signal. Returns it, and true if the kernel sent it.
    pub(super) fn take_next(&self) -> (libc::c_int, bool) {
        let (signal, by_kernel) = self.wait();
        if signal > 0 && signal != libc::SIGCHLD {
            self.last.set(signal);
        }
        (signal, by_kernel)
    }

    /// Waits for the next signal, for at most `limit`, and passes it on. Returns the status of the child if it has ended.
    pub(super) fn wait_and_pass_on(
        &self,
        child: libc::pid_t,
        group: ProcessGroup,
        limit: Option<Duration>,
    ) -> Option<i32> {
        let (signal, by_kernel) = limit.map_or_else(|| self.wait(), |limit| self.wait_for(limit));
        if signal > 0 && signal != libc::SIGCHLD {
            self.last.set(signal);
        }
        let ended = match group {
            ProcessGroup::Ours => reap(child, libc::WNOHANG),
            ProcessGroup::Own => {
                let status = peek_status(child);
                reap_adopted(child);
                status
            }
        };
        if ended.is_some() {
            return ended;
        }
        if group == ProcessGroup::Own {
            if signal > 0 && signal != libc::SIGCHLD {
                let signal = if signal == libc::SIGUSR1 { libc::SIGKILL } else { signal };
                signal_group(child, signal);
            }
            return None;
        }
        // The terminal sends SIGHUP only to the leader of the session, and a second one does no harm.
        let has_it = by_kernel && signal != libc::SIGHUP && is_in_our_group(child);
        if signal > 0 && signal != libc::SIGCHLD && !has_it {
            signal_child(child, signal);
        }
        None
    }

    /// The next signal, and true if the kernel sent it.
    #[cfg(linux)]
    fn wait(&self) -> (libc::c_int, bool) {
        // SAFETY: all bytes zero are a valid `siginfo_t`; it and the set live until the call returns.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            (libc::sigwaitinfo(&raw const self.blocked.0, &raw mut info), info.si_code > 0)
        }
    }

    /// The next signal, and true if the kernel sent it. A signal of -1 means that none came within this time.
    #[cfg(linux)]
    fn wait_for(&self, limit: Duration) -> (libc::c_int, bool) {
        let seconds = limit.as_secs().try_into().unwrap_or(i32::MAX.into());
        let limit = libc::timespec { tv_sec: seconds, tv_nsec: limit.subsec_nanos().into() };
        // SAFETY: all bytes zero are a valid `siginfo_t`; it, the set and the time live until the call returns.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            let signal = libc::sigtimedwait(&raw const self.blocked.0, &raw mut info, &raw const limit);
            (signal, info.si_code > 0)
        }
    }

    /// Other systems have no wait for a signal with a limit, so the child is examined again and again.
    #[cfg(not(linux))]
    fn wait_for(&self, limit: Duration) -> (libc::c_int, bool) {
        std::thread::sleep(limit.min(Duration::from_millis(50)));
        (-1, false)
    }

    /// The next signal. Other systems do not show its sender: on a terminal, that is assumed to be the terminal.
    #[cfg(not(linux))]
    fn wait(&self) -> (libc::c_int, bool) {
        let mut signal = 0;
        // SAFETY: both live until the call returns.
        unsafe { libc::sigwait(&raw const self.blocked.0, &raw mut signal) };
        (signal, signal != libc::SIGTERM && super::terminal::is_terminal(2))
    }
}
