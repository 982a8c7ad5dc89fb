//! A trial of flock(2): locks are acquired and released from several descriptors and processes, on a new file that no
//! other process can have locked. `root` calls [`try_locking`].

use crate::base::text::format_io_error;
#[cfg(linux)]
use crate::os::proc::lock_table;
use crate::os::{self, Mode, Rival};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
#[cfg(linux)]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The time within which the kernel must release the lock of a killed process.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);

/// Permission to give the file a name for a moment, on a file system that has no files without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Allowed,
    Never,
}

/// The result of the trial.
#[derive(Debug)]
pub(super) enum LockingOutcome {
    /// Locks exclude each other. The kernel shows their holders to this extent.
    Excludes(LockVisibility),
    /// Locks do not exclude each other, as the description says.
    DoesNotExclude(String),
    /// The trial failed.
    Failed(&'static str, io::Error),
    /// The file system has no files without names, and a name was not permitted.
    NotWithoutName,
}

/// The extent to which the kernel shows the holders of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockVisibility {
    /// In `/proc/locks` and in `/proc/PID/fdinfo`.
    Everywhere,
    /// Only in `/proc/PID/fdinfo`, for descriptors that this user may see.
    OnlyDescriptors,
    Nowhere,
}

/// Tries locks on a file in `directory`.
pub(super) fn try_locking(directory: &Path, naming: Naming) -> LockingOutcome {
    let files = match open_unnamed(directory) {
        Err(error) if is_not_supported(&error) && naming == Naming::Never => return LockingOutcome::NotWithoutName,
        Err(error) if is_not_supported(&error) => open_named(directory),
        made => made,
    };
    match files {
        Ok(files) => try_files(files),
        Err(error) => LockingOutcome::Failed("cannot create a file", error),
    }
}

/// Three open file descriptions of one file.
type Opens = [File; 3];

/// Opens a file that never has a name (`O_TMPFILE`), so that it disappears even if this process is killed.
#[cfg(linux)]
fn open_unnamed(directory: &Path) -> io::Result<Opens> {
    let mut options = OpenOptions::new();
    let first = options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(directory)?;
    // The umask may have removed permissions that opening the file again needs.
    first.set_permissions(Permissions::from_mode(0o600))?;
    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
    let again = || match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::Unsupported.into()),
        opened => opened,
    };
    Ok([again()?, again()?, first])
}

#[cfg(not(linux))]
fn open_unnamed(_: &Path) -> io::Result<Opens> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns true if NFS or an older file system does not support files without names, or if they cannot be opened again
/// because `/proc` is missing.
fn is_not_supported(error: &io::Error) -> bool {
    let number = error.raw_os_error().unwrap_or(libc::EOPNOTSUPP);
    [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOSYS].contains(&number)
}

/// Opens a file that has a name only until it is open. Signals are blocked while it has one, so that the file remains
/// only if this process is killed by SIGKILL at that moment.
fn open_named(directory: &Path) -> io::Result<Opens> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let path = directory.join(format!(".aba-doctor.{}.{now}", std::process::id()));
    os::undisturbed(|| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        let first = options.clone().create_new(true).mode(0o600).open(&path)?;
        let opened = first.set_permissions(Permissions::from_mode(0o600)).and_then(|()| {
            let second = options.open(&path)?;
            Ok([second, options.open(&path)?, first])
        });
        fs::remove_file(&path)?;
        opened
    })
}

fn try_files(files: Opens) -> LockingOutcome {
    // A quota or a full disk causes an error only when data is written.
    if let Err(error) = os::without_size_signal(|| files[0].write_all_at(&[b'\n'; 1024], 0)) {
        return LockingOutcome::Failed("cannot write to a file", error);
    }
    match check_exclusion(files) {
        Ok((None, shown)) => LockingOutcome::Excludes(shown),
        Ok((Some(how), _)) => LockingOutcome::DoesNotExclude(how.to_owned()),
        Err(LockingFailure::Lock(error)) => {
            LockingOutcome::DoesNotExclude(format!("flock(2) fails: {}", format_io_error(&error)))
        }
        Err(LockingFailure::Process(error)) => LockingOutcome::Failed("cannot start a second process", error),
    }
}

enum LockingFailure {
    Lock(io::Error),
    Process(io::Error),
}

/// Tries locks on the file. Returns a description of the first violation of mutual exclusion, and the visibility of the
/// holders.
fn check_exclusion([a, b, c]: Opens) -> Result<(Option<&'static str>, LockVisibility), LockingFailure> {
    let try_lock = |file: &File, mode| os::try_lock(file, mode).map_err(LockingFailure::Lock);
    let unlock = |file: &File| os::unlock(file).map_err(LockingFailure::Lock);
    let mut shown = LockVisibility::Nowhere;
    macro_rules! expect {
        ($what:expr, $otherwise:literal) => {
            if !$what {
                return Ok((Some($otherwise), shown));
            }
        };
    }

    expect!(try_lock(&a, Mode::Exclusive)?, "a new file was already locked");
    expect!(!try_lock(&b, Mode::Exclusive)?, "two descriptors held the exclusive lock at the same time");
    expect!(!try_lock(&b, Mode::Shared)?, "a descriptor got a shared lock while another one held the exclusive lock");
    shown = check_visibility(&a);
    unlock(&a)?;

    expect!(try_lock(&a, Mode::Shared)?, "a lock was not free after its release");
    expect!(try_lock(&b, Mode::Shared)?, "two descriptors could not share a lock");
    expect!(
        !try_lock(&b, Mode::Exclusive)?,
        "a descriptor got the exclusive lock while another one held a shared lock"
    );
    unlock(&a)?;
    unlock(&b)?;

    expect!(try_lock(&a, Mode::Exclusive)?, "a lock was not free after its release");
    drop(a);
    expect!(try_lock(&b, Mode::Exclusive)?, "a lock was not released when its file was closed");
    unlock(&b)?;

    let rival = Rival::with_lock(c, &[&b]).map_err(LockingFailure::Process)?;
    expect!(rival.is_some(), "a second process could not acquire a free lock");
    expect!(!try_lock(&b, Mode::Exclusive)?, "two processes held the exclusive lock at the same time");
    expect!(!try_lock(&b, Mode::Shared)?, "a process got a shared lock while another one held the exclusive lock");
    drop(rival);
    let killed = Instant::now();
    while !try_lock(&b, Mode::Exclusive)? {
        expect!(killed.elapsed() < RELEASED_WITHIN, "a lock was not released when its process was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((None, shown))
}

/// Asks the kernel whether this process holds a lock that it holds.
#[cfg(not(linux))]
fn check_visibility(file: &File) -> LockVisibility {
    let mode = os::find_mode(file).ok().flatten();
    match mode.map(|mode| (mode, os::holds(file, mode))) {
        Some((Mode::Exclusive, Some(true))) => LockVisibility::Everywhere,
        _ => LockVisibility::Nowhere,
    }
}

/// Looks for the holder of a lock that this process holds.
#[cfg(linux)]
fn check_visibility(file: &File) -> LockVisibility {
    let Some((id, _)) = lock_table::lock_of(std::process::id(), &file.as_raw_fd().to_string()) else {
        return LockVisibility::Nowhere;
    };
    if lock_table::list().iter().any(|one| one.file == id) {
        LockVisibility::Everywhere
    } else {
        LockVisibility::OnlyDescriptors
    }
}
