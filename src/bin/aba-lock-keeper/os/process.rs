//! Child processes, the parent, and memory that a process shares with its children.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::io;
use std::mem;
use std::process::Child;
use std::ptr;
use std::sync::atomic::AtomicU64;

/// Allocates numbers that this process shares with the processes that it forks.
pub(crate) fn share_numbers<const N: usize>() -> io::Result<&'static [AtomicU64; N]> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let page = unsafe { libc::mmap(ptr::null_mut(), mem::size_of::<[AtomicU64; N]>(), prot, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is aligned to a page, filled with zeros (which are valid), large enough, and never unmapped.
    Ok(unsafe { &*page.cast::<[AtomicU64; N]>() })
}

/// Forks this process, which must have no other thread that holds a lock of the C library. Returns the child's pid to
/// the parent, and `None` to the child.
pub(crate) fn fork() -> io::Result<Option<libc::pid_t>> {
    // SAFETY: no other thread holds a lock, so the child may do whatever the parent may do.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns true if a child has ended, and reaps it.
pub(crate) fn has_ended(child: libc::pid_t) -> bool {
    // SAFETY: the call takes numbers; no status is asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), libc::WNOHANG) != 0 }
}

/// Kills a child that was not reaped yet, and waits for its end.
pub(crate) fn kill_child(child: libc::pid_t) {
    aba_lock::os::signal_child(child, libc::SIGKILL);
    // SAFETY: the call takes numbers; no status is asked for.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
}

/// Kills a child that was not reaped yet and the rest of its process group, and waits for the child's end.
pub(crate) fn kill_group(leader: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(leader.id()) {
        aba_lock::os::signal_group(pid, libc::SIGKILL);
    }
    let _ = leader.wait();
}

/// Ends this process at once, without running exit handlers of the process that it was forked from.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: the call does not return.
    unsafe { libc::_exit(status) }
}

/// Makes the kernel send SIGTERM to this process when its parent ends. Returns false if `parent` has ended already.
pub(crate) fn end_with_parent(parent: u32) -> bool {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    aba_lock::os::parent_id() == parent
}
