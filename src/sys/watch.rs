//! Watching a directory for changes, without polling (inotify(7)).

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often to look where the system does not tell: elsewhere than on Linux, or when its limit of watches is reached.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Tells when something in a directory was written to, made, renamed, removed or closed.
#[derive(Debug)]
pub struct Watch {
    events: Option<File>,
}

impl Watch {
    /// Begins to watch. What changes from now on ends the next [`Watch::wait`], also if that is called later.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { events: watch(directory).ok() }
    }

    /// Waits until something changes, but at most so long, and not if a signal comes. Whether something did, as far as
    /// that is told.
    #[cfg(target_os = "linux")]
    pub fn wait(&mut self, limit: Option<Duration>) -> bool {
        use std::os::fd::AsRawFd;
        let limit = match self.events {
            Some(_) => limit,
            None => Some(limit.map_or(LOOK_AGAIN, |limit| limit.min(LOOK_AGAIN))),
        };
        let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // A descriptor of -1 is passed over.
        let fd = self.events.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one element, which lives until the call returns.
        let changed = unsafe { libc::poll(&raw mut poll, 1, limit) } > 0;
        if let (true, Some(events)) = (changed, &mut self.events) {
            // What it was does not matter: the caller looks.
            let _ = std::io::Read::read(events, &mut [0; 4096]);
        }
        changed
    }

    /// Looks again after a while.
    #[cfg(not(target_os = "linux"))]
    pub fn wait(&mut self, limit: Option<Duration>) -> bool {
        std::thread::sleep(limit.map_or(LOOK_AGAIN, |limit| limit.min(LOOK_AGAIN)));
        true
    }
}

/// Whether a directory can be watched; if not, why: [`Watch::wait`] looks again and again then.
pub fn can_watch(directory: &Path) -> io::Result<()> {
    watch(directory).map(drop)
}

#[cfg(target_os = "linux")]
fn watch(directory: &Path) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: it takes a number, and makes a descriptor or answers -1.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    let events = unsafe { File::from_raw_fd(fd) };
    let changes = libc::IN_MODIFY
        | libc::IN_CLOSE_WRITE
        | libc::IN_MOVED_TO
        | libc::IN_CREATE
        | libc::IN_DELETE
        | libc::IN_DELETE_SELF;
    // SAFETY: the path ends in NUL and lives until the call returns.
    let watched = unsafe { libc::inotify_add_watch(fd, path.as_ptr(), changes) };
    if watched < 0 { Err(io::Error::last_os_error()) } else { Ok(events) }
}

#[cfg(not(target_os = "linux"))]
fn watch(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
