//! The processes of a model, the locks that they use, and the memory that they share.

use crate::kernel::{Kernel, Lock, Mode, Pid};

/// One state of a model. `S` is the next step of a process, and `M` holds files, local variables, and notes for promises.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World<S, M> {
    pub(crate) kernel: Kernel,
    pub(crate) steps: Vec<S>,
    pub(crate) locks: Vec<Lock>,
    /// One bit for each process that was killed.
    dead: u8,
    /// The number of processes that may still be killed.
    crashes: u8,
    pub(crate) memory: M,
}

impl<S, M> World<S, M> {
    pub(crate) fn new(kernel: Kernel, crashes: u8, steps: Vec<S>, locks: usize, memory: M) -> Self {
        Self { kernel, steps, locks: vec![Lock::default(); locks], dead: 0, crashes, memory }
    }

    pub(crate) fn pids(&self) -> std::ops::Range<Pid> {
        0..self.steps.len()
    }

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.dead >> pid & 1 == 0
    }

    /// Returns true if a process was killed.
    pub(crate) fn has_crash(&self) -> bool {
        self.dead != 0
    }

    pub(crate) fn may_crash(&self) -> bool {
        self.crashes > 0
    }

    /// Counts the living processes at such a step.
    pub(crate) fn count(&self, is_counted: impl Fn(Pid, &S) -> bool) -> usize {
        self.pids().filter(|&pid| self.is_alive(pid) && is_counted(pid, &self.steps[pid])).count()
    }

    /// Asks for a lock, or tries again after a wake-up; returns true if the process holds it.
    pub(crate) fn request(&mut self, pid: Pid, lock: usize, mode: Mode) -> bool {
        self.locks[lock].request(self.kernel, pid, mode)
    }

    /// Asks for a lock exclusively, and returns the step that follows the grant. Until then, the process stays at `here`.
    pub(crate) fn block(&mut self, pid: Pid, lock: usize, here: S, granted: S) -> S {
        if self.request(pid, lock, Mode::Exclusive) { granted } else { here }
    }

    pub(crate) fn attempt(&mut self, pid: Pid, lock: usize, mode: Mode) -> bool {
        self.locks[lock].attempt(pid, mode)
    }

    pub(crate) fn release(&mut self, pid: Pid, lock: usize) {
        self.locks[lock].release(self.kernel, pid);
    }

    /// Returns true if the kernel keeps the process in a wait for a lock.
    pub(crate) fn is_blocked(&self, pid: Pid) -> bool {
        self.locks.iter().any(|lock| lock.is_blocking(self.kernel, pid))
    }

    /// Ends the process. Its waits end at once, and the kernel releases its locks later, one after the other.
    pub(crate) fn kill(&mut self, pid: Pid) {
        self.dead |= 1 << pid;
        self.locks.iter_mut().for_each(|lock| lock.cancel(pid));
    }

    /// Ends the process at a step at which it may be killed.
    pub(crate) fn crash(&mut self, pid: Pid) {
        self.crashes -= 1;
        self.kill(pid);
    }
}
