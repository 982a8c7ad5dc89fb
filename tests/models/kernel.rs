//! The locks of the kernel: shared and exclusive locks on files, with their waiters.
//!
//! flock(2) and the byte ranges of fcntl(2) queue their waiters in the same way, so a [`Lock`] stands for both. A process
//! asks for a lock, and asks again each time the kernel wakes it, until the lock is granted.
//!
//! The waiters of Linux form a tree (`fs/locks.c`): a request that conflicts with a waiting request waits for that one, and
//! not for the holder. A release wakes the requests that wait for the holder. A woken process tries again. If another
//! process was faster, it waits again, and the requests that waited for it are woken, too.

use std::fmt::Debug;

/// The number of a process in a model.
pub(crate) type Pid = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// The rule by which a kernel serves waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// A release wakes waiters, which try again. A newcomer may be faster.
    Linux,
    /// A release hands the lock to the first waiters.
    Fifo,
    /// Any waiter may get a lock that is free for it, as with a server that forgets the order.
    Any,
}

impl Kernel {
    pub(crate) const ALL: [Self; 3] = [Self::Linux, Self::Fifo, Self::Any];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    pid: u8,
    mode: Mode,
    /// The process whose lock or request this request waits for. `None` if the process was woken.
    blocker: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Lock {
    exclusive: Option<u8>,
    /// One bit for each process.
    shared: u8,
    requests: Vec<Request>,
}

fn to_u8(pid: Pid) -> u8 {
    u8::try_from(pid).expect("few processes")
}

fn conflict(one: Mode, other: Mode) -> bool {
    one == Mode::Exclusive || other == Mode::Exclusive
}

impl Lock {
    pub(crate) fn is_held_by(&self, pid: Pid) -> bool {
        self.exclusive == Some(to_u8(pid)) || self.shared >> pid & 1 == 1
    }

    pub(crate) fn is_held(&self) -> bool {
        self.exclusive.is_some() || self.is_shared()
    }

    /// Returns the process that holds the lock exclusively.
    pub(crate) fn owner(&self) -> Option<Pid> {
        self.exclusive.map(Pid::from)
    }

    /// Returns true if processes hold the lock shared.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared != 0
    }

    /// Returns true if the kernel would grant the lock now.
    pub(crate) fn is_free_for(&self, mode: Mode) -> bool {
        self.exclusive.is_none() && (mode == Mode::Shared || self.shared == 0)
    }

    fn grant(&mut self, pid: u8, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive = Some(pid),
            Mode::Shared => self.shared |= 1 << pid,
        }
    }

    /// Asks for the lock without waiting (`LOCK_NB`, `F_OFD_SETLK`).
    pub(crate) fn attempt(&mut self, pid: Pid, mode: Mode) -> bool {
        let is_free = self.is_free_for(mode);
        if is_free {
            self.grant(to_u8(pid), mode);
        }
        is_free
    }

    fn position(&self, pid: Pid) -> Option<usize> {
        self.requests.iter().position(|request| usize::from(request.pid) == pid)
    }

    /// Returns true if the process waits and the kernel has not woken it.
    pub(crate) fn is_blocking(&self, kernel: Kernel, pid: Pid) -> bool {
        self.position(pid).is_some_and(|index| match kernel {
            Kernel::Linux => self.requests[index].blocker.is_some(),
            Kernel::Fifo => true,
            Kernel::Any => !self.is_free_for(self.requests[index].mode),
        })
    }

    /// Asks for the lock, or tries again after a wake-up. Returns true if the process holds the lock. Otherwise, it waits.
    pub(crate) fn request(&mut self, kernel: Kernel, pid: Pid, mode: Mode) -> bool {
        if self.is_held_by(pid) {
            return true;
        }
        if self.is_free_for(mode) {
            // Requests that wait for this one wait for the lock from now on.
            self.requests.retain(|request| usize::from(request.pid) != pid);
            self.grant(to_u8(pid), mode);
            return true;
        }
        self.requests.retain(|request| usize::from(request.pid) != pid);
        let mut blocker = self.exclusive.unwrap_or_else(|| to_u8(self.shared.trailing_zeros() as usize));
        let is_next = |request: &&Request, blocker| request.blocker == Some(blocker) && conflict(request.mode, mode);
        while let Some(next) = self.requests.iter().find(|request| is_next(request, blocker)) {
            blocker = next.pid;
        }
        self.wake(pid);
        self.requests.push(Request { pid: to_u8(pid), mode, blocker: Some(blocker) });
        if kernel == Kernel::Any {
            self.requests.sort_by_key(|request| request.pid);
            self.requests.iter_mut().for_each(|request| request.blocker = None);
        }
        false
    }

    /// Wakes the requests that wait for this process.
    fn wake(&mut self, pid: Pid) {
        for request in &mut self.requests {
            if request.blocker == Some(to_u8(pid)) {
                request.blocker = None;
            }
        }
    }

    /// Releases the lock of the process, if it holds it.
    pub(crate) fn release(&mut self, kernel: Kernel, pid: Pid) {
        if !self.is_held_by(pid) {
            return;
        }
        if self.exclusive == Some(to_u8(pid)) {
            self.exclusive = None;
        }
        self.shared &= !(1 << pid);
        self.wake(pid);
        while kernel == Kernel::Fifo
            && let Some(first) = self.requests.first().cloned()
            && self.is_free_for(first.mode)
        {
            self.requests.remove(0);
            self.grant(first.pid, first.mode);
        }
    }

    /// Ends the wait of a process, if it waits.
    pub(crate) fn cancel(&mut self, pid: Pid) {
        if let Some(index) = self.position(pid) {
            self.requests.remove(index);
            self.wake(pid);
        }
    }
}

#[test]
fn a_newcomer_may_be_faster_than_a_woken_waiter_on_linux() {
    let mut lock = Lock::default();
    assert!(lock.attempt(0, Mode::Exclusive));
    assert!(!lock.request(Kernel::Linux, 1, Mode::Exclusive));
    assert!(!lock.request(Kernel::Linux, 2, Mode::Exclusive));
    lock.release(Kernel::Linux, 0);
    assert!(!lock.is_blocking(Kernel::Linux, 1) && lock.is_blocking(Kernel::Linux, 2));
    assert!(lock.attempt(3, Mode::Exclusive));
    assert!(!lock.request(Kernel::Linux, 1, Mode::Exclusive));
    lock.release(Kernel::Linux, 3);
    assert!(!lock.is_blocking(Kernel::Linux, 1));
}

#[test]
fn a_waiter_that_is_killed_wakes_the_requests_that_wait_for_it() {
    let mut lock = Lock::default();
    assert!(lock.attempt(0, Mode::Shared));
    assert!(!lock.request(Kernel::Linux, 1, Mode::Exclusive));
    assert!(!lock.request(Kernel::Linux, 2, Mode::Exclusive));
    lock.cancel(1);
    assert!(!lock.is_blocking(Kernel::Linux, 2));
    assert!(!lock.request(Kernel::Linux, 2, Mode::Exclusive) && lock.is_blocking(Kernel::Linux, 2));
}
