//! Watches a directory for changes without polling: with inotify(7) or kqueue(2), or with signals that interrupt a blocking call.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_counts;
use super::timer::Alarm;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The polling interval if the system cannot report changes: on other systems, or above the limit of watches.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Reports that a file in a directory was written, created, renamed, removed or closed.
#[derive(Debug)]
pub struct DirectoryWatch {
    #[cfg(linux)]
    events: Option<File>,
    #[cfg(any(target_os = "macos", target_os = "freebsd"))]
    queue: Option<super::kqueue::Queue>,
}

impl DirectoryWatch {
    /// Begins to watch. Each change from now on ends the next [`DirectoryWatch::wait`], even if that is called later.
    #[must_use]
    #[cfg(linux)]
    pub fn new(directory: &Path) -> Self {
        Self { events: watch(directory, CHANGES).ok() }
    }

    /// Begins to watch the names in the directory. The content of its files is not watched, so [`DirectoryWatch::wait`] also polls.
    #[must_use]
    #[cfg(any(target_os = "macos", target_os = "freebsd"))]
    pub fn new(directory: &Path) -> Self {
        Self { queue: watch(directory, CHANGES).ok() }
    }

    /// The code for other systems, on Linux: [`DirectoryWatch::wait`] polls.
    #[must_use]
    #[cfg(not(any(linux, target_os = "macos", target_os = "freebsd")))]
    pub fn new(_: &Path) -> Self {
        Self {}
    }

    /// Waits for a change, for at most `limit`, or until a signal comes. Returns true if it knows of a change.
    #[cfg(linux)]
    pub fn wait(&mut self, limit: Option<Duration>) -> bool {
        use std::os::fd::AsRawFd;
        let limit = match self.events {
            Some(_) => limit,
            None => Some(limit.map_or(LOOK_AGAIN, |limit| limit.min(LOOK_AGAIN))),
        };
        let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // poll(2) ignores a descriptor of -1.
        let fd = self.events.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one element, which lives until the call returns.
        let changed = unsafe { libc::poll(&raw mut poll, 1, limit) } > 0;
        if let (true, Some(events)) = (changed, &mut self.events) {
            // The kind of change does not matter: the caller looks.
            let _ = std::io::Read::read(events, &mut [0; 4096]);
        }
        changed
    }

    /// Waits for a change of the names, for at most the polling interval. Returns true, because there may be other changes.
    #[cfg(not(linux))]
    pub fn wait(&mut self, limit: Option<Duration>) -> bool {
        let limit = limit.map_or(LOOK_AGAIN, |limit| limit.min(LOOK_AGAIN));
        #[cfg(any(target_os = "macos", target_os = "freebsd"))]
        if let Some(queue) = &self.queue {
            if queue.take(limit) {
                queue.clear();
            }
            return true;
        }
        std::thread::sleep(limit);
        true
    }
}

/// The changes that end the wait of a [`DirectoryWatch`].
#[cfg(linux)]
const CHANGES: u32 = libc::IN_MODIFY
    | libc::IN_CLOSE_WRITE
    | libc::IN_MOVED_TO
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF;

#[cfg(not(linux))]
const CHANGES: u32 = 0;

/// The polling interval if the system does not signal changes. The release of a lock ends a wait earlier.
const LOOK_AGAIN_WITHOUT_BELL: Duration = Duration::from_millis(250);

/// Makes an [`Alarm`] ring when a file in a directory is created, renamed or removed, so that a blocking call, such as
/// flock(2), ends. There is one bell at a time.
///
/// It uses `F_NOTIFY` of fcntl(2), which sends signals. Closing an inotify descriptor would add some milliseconds to
/// each wait.
///
/// No change is missed:
///
/// 1. The waiter creates the bell. Each change from now on counts one signal.
/// 2. [`Bell::silence`] notes the count.
/// 3. The waiter looks at the directory.
/// 4. [`Alarm::after`] sets the timer, and compares the count: after a change since step 2, it rings at once.
/// 5. The waiter blocks. A signal since step 4 has made the timer ring again and again, until a blocking call ends by
///    it.
#[derive(Debug)]
#[must_use = "it is silent when it is dropped"]
pub struct Bell<'a> {
    directory: Option<File>,
    /// Without an alarm, its signal would end this process.
    _alarm: &'a Alarm,
}

impl<'a> Bell<'a> {
    /// Begins to watch.
    pub fn new(directory: &Path, alarm: &'a Alarm) -> Self {
        Self { directory: ringing(directory).ok(), _alarm: alarm }
    }

    /// Forgets the changes so far: the caller looks now. Returns the time after which the caller must look again, if
    /// the system does not report changes.
    pub fn silence(&mut self) -> Option<Duration> {
        signal_counts::note_look();
        if self.directory.is_some() { None } else { Some(LOOK_AGAIN_WITHOUT_BELL) }
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        signal_counts::forget_bell();
    }
}

/// Opens a directory whose changes send SIGALRM as long as it is open.
#[cfg(linux)]
fn ringing(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let directory = File::open(path)?;
    let fd = directory.as_raw_fd();
    // SAFETY: they set numbers of a descriptor that is open.
    let is_set = unsafe {
        libc::fcntl(fd, super::lease::F_SETSIG, libc::SIGALRM) >= 0
            && libc::fcntl(fd, libc::F_NOTIFY, RINGING_CHANGES) >= 0
    };
    if is_set { Ok(directory) } else { Err(io::Error::last_os_error()) }
}

/// `DN_CREATE`, `DN_DELETE`, `DN_RENAME` and `DN_MULTISHOT` of fcntl(2).
#[cfg(linux)]
const RINGING_CHANGES: libc::c_uint = 0x4 | 0x8 | 0x10 | 0x8000_0000;

#[cfg(not(linux))]
fn ringing(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns an error if a directory cannot be watched. Then [`DirectoryWatch::wait`] polls.
pub fn can_watch(directory: &Path) -> io::Result<()> {
    watch(directory, CHANGES).map(drop)
}

#[cfg(linux)]
fn watch(directory: &Path, changes: u32) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: it takes a number, and makes a descriptor or answers -1.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and has no other owner.
    let events = unsafe { File::from_raw_fd(fd) };
    // SAFETY: the path ends in NUL and lives until the call returns.
    let watched = unsafe { libc::inotify_add_watch(fd, path.as_ptr(), changes) };
    if watched < 0 { Err(io::Error::last_os_error()) } else { Ok(events) }
}

#[cfg(any(target_os = "macos", target_os = "freebsd"))]
fn watch(directory: &Path, _: u32) -> io::Result<super::kqueue::Queue> {
    let mut queue = super::kqueue::Queue::new()?;
    queue.add_path(directory).map(|()| queue)
}

#[cfg(not(any(linux, target_os = "macos", target_os = "freebsd")))]
fn watch(_: &Path, _: u32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
