//! The processes that hold a lock on this machine.
//!
//! The holders are the script and the processes that inherited its descriptor: they hold the lock file open with a lock
//! on it. Each holder is first opened as a process descriptor and then verified, so that no signal goes to a process
//! that got the pid of another. A process that may not be examined, such as one of another user, cannot be ended.

use crate::binding::Binding;
use aba_lock::lock::kill;
use aba_lock::os::Process;
use aba_lock::os::proc::lock_table::WantedFile;
use aba_lock::os::proc::openers;
use aba_lock::os::proc::process;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// The processes that hold a lock, each after its ancestors: a signal reaches a shell before the program for which it waits.
pub(crate) struct Holders {
    file: WantedFile,
    found: Vec<LocalHolder>,
}

struct LocalHolder {
    pid: u32,
    start: u64,
    process: Process,
}

impl Holders {
    /// Finds the processes that hold a lock on this open file. With a binding, only those that share its description: the
    /// others have leases of their own.
    pub(crate) fn find(file: &File, binding: Option<Binding>) -> Self {
        let file = identify(file);
        let (dev, ino) = (file.dev, file.ino);
        let look = openers::scan_descriptors(std::process::id(), &AtomicBool::new(false), |descriptor| {
            let is_same = (descriptor.data.dev, descriptor.data.ino) == (dev, ino);
            let is_meant = |binding: Binding| binding.is_bound_to(descriptor);
            (is_same && descriptor.lock().is_some() && binding.is_none_or(is_meant)).then_some(descriptor.pid)
        });
        let mut pids = look.found;
        pids.dedup();
        pids.sort_by_cached_key(|pid| process::count_ancestors(*pid));
        let open = |pid: u32| {
            let start = process::read_stat(pid)?.start;
            Some(LocalHolder { pid, start, process: Process::open(pid, start)? })
        };
        Self { file, found: pids.into_iter().filter_map(open).collect() }
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + Clone {
        self.found.iter().map(|holder| holder.pid)
    }

    /// Sends SIGTERM to the holders.
    pub(crate) fn terminate(&self) {
        self.send(kill::TERM);
        // A process that is stopped acts on SIGTERM only when it continues.
        self.send(libc::SIGCONT);
    }

    /// Passes on a signal that another process has sent for the holders.
    pub(crate) fn pass_on(&self, signal: i32) {
        self.send(signal);
    }

    /// Sends SIGKILL to the holders, and returns how many got it.
    pub(crate) fn kill(&self) -> usize {
        self.send(kill::KILL)
    }

    fn send(&self, signal: i32) -> usize {
        let still_holds = |holder: &&LocalHolder| {
            process::is_alive(holder.pid, holder.start) && openers::holds(holder.pid, &self.file)
        };
        self.found.iter().filter(still_holds).filter(|holder| holder.process.signal(signal).is_ok()).count()
    }
}

/// Opens the process with this pid, if it holds a lock on this open file. This examines one process, which is some
/// milliseconds faster than a search through all of them.
pub(crate) fn open_holder(pid: u32, file: &File) -> Option<Process> {
    let number = process::number_of(pid)?;
    let process = Process::open(number, process::start_time(number)?)?;
    // If another process has got the pid since then, that process is examined, but it never gets the signal.
    openers::holds(number, &identify(file)).then_some(process)
}

/// Identifies the lock file in the kernel's table of locks.
fn identify(file: &File) -> WantedFile {
    let (dev, ino) = file.metadata().map_or((0, 0), |data| (data.dev(), data.ino()));
    WantedFile { dev, ino, path: PathBuf::new(), lost: false }
}
