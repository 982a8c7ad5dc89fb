//! Watches single files with inotify(7) or kqueue(2), for a process that waits until the lock of a file is released.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::process_handle::Process;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Reports that one of several files was closed, replaced or removed.
///
/// The kernel sends the event of a close before it releases the lock of the closed descriptor, and sends none if the lock is
/// released without a close. So the caller must look again after some time, too.
#[derive(Debug)]
pub struct FileWatch {
    #[cfg(linux)]
    events: Option<File>,
    #[cfg(any(target_os = "macos", target_os = "freebsd"))]
    queue: Option<super::kqueue::Queue>,
}

#[cfg(linux)]
impl FileWatch {
    #[must_use]
    pub fn new() -> Self {
        use std::os::fd::FromRawFd;
        // SAFETY: it takes a number, and makes a descriptor or answers -1.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        // SAFETY: the descriptor is new, open, and has no other owner.
        Self { events: (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) }) }
    }

    /// Also watches the file that is at `path` now, or its directory if this user may not read the file. Does nothing if it is
    /// watched already. Returns false if neither can be watched.
    pub fn add(&mut self, path: &Path) -> bool {
        const CHANGES: u32 = libc::IN_CLOSE | libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_DELETE_SELF;
        const CHANGES_IN_DIRECTORY: u32 = libc::IN_CLOSE | libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVE;
        let directory = || path.parent().is_some_and(|directory| self.add_watch(directory, CHANGES_IN_DIRECTORY));
        self.add_watch(path, CHANGES) || directory()
    }

    /// Also reports each close of the open `file`, wherever its path leads to later. Returns false if that is not possible.
    pub fn add_open_file(&mut self, file: &File) -> bool {
        use std::os::fd::AsRawFd;
        self.add_watch(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), libc::IN_CLOSE)
    }

    /// Returns the descriptor of the system for the events.
    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;
        self.events.as_ref().map(File::as_raw_fd)
    }

    fn add_watch(&self, path: &Path, changes: u32) -> bool {
        use std::os::fd::AsRawFd;
        use std::os::unix::ffi::OsStrExt;
        let (Some(events), Ok(path)) = (&self.events, std::ffi::CString::new(path.as_os_str().as_bytes())) else {
            return false;
        };
        // SAFETY: the descriptor is open; the path ends in NUL and lives until the call returns.
        unsafe { libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), changes) >= 0 }
    }

    /// Forgets the events so far.
    pub fn clear(&mut self) {
        if let Some(events) = &mut self.events {
            while std::io::Read::read(events, &mut [0; 4096]).is_ok_and(|len| len > 0) {}
        }
    }
}

/// Returns true if one of the descriptors is ready within the limit.
#[cfg(any(linux, target_os = "macos", target_os = "freebsd"))]
fn poll(polled: &mut [libc::pollfd], limit: Duration) -> bool {
    let number = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    let limit = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the slice has this many elements and lives until the call returns.
    unsafe { libc::poll(polled.as_mut_ptr(), number, limit) > 0 }
}

/// kqueue(2) needs an open descriptor of each file. macOS reports the release of a lock, FreeBSD only each close.
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
impl FileWatch {
    #[must_use]
    pub fn new() -> Self {
        Self { queue: super::kqueue::Queue::new().ok() }
    }

    /// Also watches the file that is at `path` now. Returns false if it cannot be watched. The directory is watched, too, because a new file
    /// at the path is no event of the old one.
    pub fn add(&mut self, path: &Path) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let has_directory = path.parent().is_some_and(|directory| queue.add_path(directory).is_ok());
        queue.add_path(path).is_ok() && has_directory
    }

    /// Also reports changes of the open `file`, wherever its path leads to later. Returns false if that is not possible.
    pub fn add_open_file(&mut self, file: &File) -> bool {
        self.queue.as_mut().is_some_and(|queue| file.try_clone().and_then(|copy| queue.add_file(copy)).is_ok())
    }

    /// Returns the descriptor of the system for the events.
    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        self.queue.as_ref().map(super::kqueue::Queue::descriptor)
    }

    /// Forgets the events so far.
    pub fn clear(&mut self) {
        self.queue.iter().for_each(super::kqueue::Queue::clear);
    }
}

/// The wait is the same for both: the descriptor of either becomes readable when an event is pending.
#[cfg(any(linux, target_os = "macos", target_os = "freebsd"))]
impl FileWatch {
    /// Waits for an event or the end of one of the processes, for at most `limit`, or until a signal comes. Returns true if it
    /// knows of an event or an end.
    pub fn wait(&mut self, processes: &[Process], limit: Duration) -> bool {
        self.wait_with(processes, limit, poll)
    }

    /// Waits with `poll`, which returns true if one of the descriptors is ready. The test passes another function.
    fn wait_with(
        &mut self,
        processes: &[Process],
        limit: Duration,
        poll: impl FnOnce(&mut [libc::pollfd], Duration) -> bool,
    ) -> bool {
        // poll(2) ignores a descriptor of -1.
        let all = self.descriptor().into_iter().chain(processes.iter().map(Process::descriptor));
        let mut polled: Vec<libc::pollfd> =
            all.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        let happened = poll(&mut polled, limit);
        // Without this condition, an event that comes just after the end of the time would be lost.
        if happened {
            self.clear();
        }
        happened
    }
}

/// The code for other systems, on Linux: the caller only looks again.
#[cfg(not(any(linux, target_os = "macos", target_os = "freebsd")))]
impl FileWatch {
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    pub fn add(&mut self, _: &Path) -> bool {
        false
    }

    pub fn add_open_file(&mut self, _: &File) -> bool {
        false
    }

    #[must_use]
    pub fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        None
    }

    pub fn clear(&mut self) {}

    pub fn wait(&mut self, _: &[Process], limit: Duration) -> bool {
        std::thread::sleep(limit);
        false
    }
}

impl Default for FileWatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, linux))]
mod tests {
    use super::*;

    #[test]
    fn an_event_just_after_the_end_of_the_time_is_reported_by_the_next_wait() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = FileWatch::new();
        assert!(watch.add(file.path()));
        let is_reported = watch.wait_with(&[], Duration::ZERO, |polled, limit| {
            let is_ready = poll(polled, limit);
            drop(File::open(file.path()).unwrap());
            is_ready
        });
        assert!(!is_reported);
        assert!(watch.wait(&[], Duration::ZERO));
        assert!(!watch.wait(&[], Duration::ZERO), "the event was reported");
    }
}
