//! The processors on which this process, and the processes that it starts, may run.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::mem;

/// Keeps this process and the ones that it starts on one processor until it is dropped: on the last one, because the first one
/// usually has the most other work.
pub(crate) struct Pinned {
    before: libc::cpu_set_t,
}

impl Pinned {
    pub(crate) fn new() -> Self {
        // SAFETY: all bytes zero are a valid set, and the sets live until each call returns.
        unsafe {
            let mut before: libc::cpu_set_t = mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut before), 0);
            let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &before));
            let mut one: libc::cpu_set_t = mem::zeroed();
            libc::CPU_SET(last.unwrap_or(0), &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
            Self { before }
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: `new` filled the set.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}
