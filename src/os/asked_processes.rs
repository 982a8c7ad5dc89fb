//! The processes that were asked to end, and those that they start while they handle the signal.

use super::clock::ticks_since_boot;
use super::proc::process::ProcessStat;

/// The processes that got a signal such as SIGTERM. A process that such a process starts afterwards is part of its cleanup, which
/// the signal would break off.
#[derive(Debug, Default)]
pub struct AskedProcesses {
    known: Vec<KnownProcess>,
}

#[derive(Debug)]
struct KnownProcess {
    pid: u32,
    start: u64,
    /// A time just before the signal. `None`: the process is part of a cleanup.
    asked_at: Option<SignalTime>,
}

/// A time at which a signal has not been sent yet, in clock ticks since boot. The receiver may start its cleanup before the sender runs again,
/// so a time after the signal would be too late.
#[derive(Debug, Clone, Copy)]
pub struct SignalTime(u64);

impl SignalTime {
    /// Returns the present time.
    #[must_use]
    pub fn now() -> Self {
        Self(ticks_since_boot())
    }
}

impl AskedProcesses {
    /// Notes that a process was sent the signal after this time.
    pub fn add(&mut self, seen: &ProcessStat, asked_at: SignalTime) {
        self.known.push(KnownProcess { pid: seen.pid, start: seen.start, asked_at: Some(asked_at) });
    }

    /// Returns true if a process must get the signal, because it has not got it and is not part of a cleanup.
    pub fn must_ask(&mut self, seen: &ProcessStat) -> bool {
        if self.known.iter().any(|known| (known.pid, known.start) == (seen.pid, seen.start)) {
            return false;
        }
        let parent = self.known.iter().find(|known| known.pid == seen.parent);
        let is_cleanup = parent.is_some_and(|parent| parent.asked_at.is_none_or(|asked_at| seen.start >= asked_at.0));
        if is_cleanup {
            self.known.push(KnownProcess { pid: seen.pid, start: seen.start, asked_at: None });
        }
        !is_cleanup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::proc::process::RunState;

    #[test]
    fn a_process_that_a_receiver_starts_after_the_signal_does_not_get_it() {
        let process = |pid, parent, start| ProcessStat {
            pid,
            parent,
            start,
            group: 0,
            session: 0,
            foreground: -1,
            terminal: 0,
            threads: 1,
            state: RunState::Running,
        };
        let mut asked = AskedProcesses::default();
        let (receiver, later) = (process(1000, 1, 5), ticks_since_boot() + 1000);
        assert!(asked.must_ask(&receiver));
        asked.add(&receiver, SignalTime::now());
        assert!(!asked.must_ask(&receiver));
        assert!(asked.must_ask(&process(1001, 1000, 6)), "it was started before the signal");
        assert!(!asked.must_ask(&process(1002, 1000, later)));
        assert!(!asked.must_ask(&process(1003, 1002, later + 1)), "a cleanup may start processes");
        assert!(asked.must_ask(&process(1002, 1, later + 2)), "it is another process with this pid");
    }
}
