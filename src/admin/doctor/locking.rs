//! Whether locks really shut out: tried on a file that nobody else can have locked, because it has no name.

use crate::base::text::format_io_error;
use crate::os::proc::lock_table;
use crate::os::{self, Mode, Rival};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long the kernel may take to release what a process had that was killed.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);

/// Whether a file may have a name for a moment, where the file system has none without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Allowed,
    Never,
}

/// What was found.
#[derive(Debug)]
pub(super) enum LockingOutcome {
    /// They do; and whether the kernel shows who has one.
    Excludes(LockVisibility),
    /// They do not: how that was seen.
    DoesNotExclude(String),
    /// It could not be tried.
    Failed(&'static str, io::Error),
    /// It could not be tried without giving a file a name.
    NotWithoutName,
}

/// How far the kernel shows who has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockVisibility {
    /// In all that we ask.
    Everywhere,
    /// For descriptors that we may look at.
    OnlyDescriptors,
    /// Not at all.
    Nowhere,
}

/// Tries it in `directory`.
pub(super) fn try_locking(directory: &Path, naming: Naming) -> LockingOutcome {
    let files = match open_unnamed(directory) {
        Err(error) if is_not_supported(&error) && naming == Naming::Never => return LockingOutcome::NotWithoutName,
        Err(error) if is_not_supported(&error) => open_named(directory),
        made => made,
    };
    match files {
        Ok(files) => try_files(files),
        Err(error) => LockingOutcome::Failed("could not make a file in it", error),
    }
}

/// Three opens of one file.
type Opens = [File; 3];

/// Of a file that never has a name (`O_TMPFILE`), so that nothing is left whatever happens.
#[cfg(target_os = "linux")]
fn open_unnamed(directory: &Path) -> io::Result<Opens> {
    let mut options = OpenOptions::new();
    let first = options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(directory)?;
    // Whatever the umask is.
    first.set_permissions(Permissions::from_mode(0o600))?;
    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
    let again = || match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::Unsupported.into()),
        opened => opened,
    };
    Ok([again()?, again()?, first])
}

#[cfg(not(target_os = "linux"))]
fn open_unnamed(_: &Path) -> io::Result<Opens> {
    Err(io::ErrorKind::Unsupported.into())
}

/// NFS and older file systems have no such files; without `/proc` they cannot be opened again.
fn is_not_supported(error: &io::Error) -> bool {
    let number = error.raw_os_error().unwrap_or(libc::EOPNOTSUPP);
    [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOSYS].contains(&number)
}

/// Of a file that has a name only until it is open: no signal ends us meanwhile, but for SIGKILL.
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
    // A quota, or a full disk, shows only now.
    if let Err(error) = os::without_size_signal(|| files[0].write_all_at(&[b'\n'; 1024], 0)) {
        return LockingOutcome::Failed("could not write a file in it", error);
    }
    match check_exclusion(files) {
        Ok((None, shown)) => LockingOutcome::Excludes(shown),
        Ok((Some(how), _)) => LockingOutcome::DoesNotExclude(how.to_owned()),
        Err(LockingFailure::Lock(error)) => {
            LockingOutcome::DoesNotExclude(format!("flock(2) fails: {}", format_io_error(&error)))
        }
        Err(LockingFailure::Process(error)) => LockingOutcome::Failed("could not start a second process", error),
    }
}

enum LockingFailure {
    Lock(io::Error),
    Process(io::Error),
}

/// How they do not shut out, if they do not.
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

    expect!(try_lock(&a, Mode::Exclusive)?, "a new file of our own was locked by another");
    expect!(!try_lock(&b, Mode::Exclusive)?, "two opens of a file had the exclusive lock at once");
    expect!(!try_lock(&b, Mode::Shared)?, "an open had a shared lock beside the exclusive one of another");
    shown = check_visibility(&a);
    unlock(&a)?;

    expect!(try_lock(&a, Mode::Shared)?, "a lock was not to be had after it was released");
    expect!(try_lock(&b, Mode::Shared)?, "two opens could not share a lock");
    expect!(!try_lock(&b, Mode::Exclusive)?, "an open had the exclusive lock beside a shared one of another");
    unlock(&a)?;
    unlock(&b)?;

    expect!(try_lock(&a, Mode::Exclusive)?, "a lock was not to be had after it was released");
    drop(a);
    expect!(try_lock(&b, Mode::Exclusive)?, "a lock was not released when its file was closed");
    unlock(&b)?;

    let rival = Rival::with_lock(c, &[&b]).map_err(LockingFailure::Process)?;
    expect!(rival.is_some(), "a second process could not have the lock that nobody had");
    expect!(!try_lock(&b, Mode::Exclusive)?, "two processes had the exclusive lock at once");
    expect!(!try_lock(&b, Mode::Shared)?, "a process had a shared lock beside the exclusive one of another");
    drop(rival);
    let killed = Instant::now();
    while !try_lock(&b, Mode::Exclusive)? {
        expect!(killed.elapsed() < RELEASED_WITHIN, "a lock was not released when its process was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((None, shown))
}

/// How the kernel shows the lock that we have.
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
