//! Appends lines to the log of a state root, and rotates it.
//!
//! A writer that would make the log longer than [`LIMIT`] renames it to `events.jsonl.1`, and begins a new one. No step leaves the path
//! without a file, because writers would take that for a log that was removed. The rotator, R:
//!
//! 1. R opens the log, as each writer does, and finds that it is full. It locks the open file without waiting. If another process holds
//!    that lock, R writes its line to the file that it has open.
//! 2. R verifies that the path still leads to the locked file. If not, another process has rotated it, and R begins again.
//! 3. R creates an empty file, `events.jsonl.new`. A file of this name remains only if a rotator was killed, and is removed first.
//! 4. R removes `events.jsonl.1`, unless that is the full log already, and links the full log to that name.
//! 5. R renames the empty file to `events.jsonl`. This releases nothing and loses nothing: the full log is `events.jsonl.1`.
//!
//! | killed | remains | the next writer |
//! |---|---|---|
//! | after 1 or 2 | the full log | rotates |
//! | after 3 | an empty `events.jsonl.new`, too | removes it, and rotates |
//! | within 4 | no older log; its lines were to be dropped next | rotates |
//! | after 4 | one file with both names | begins at 3, and leaves the older name as it is |
//! | after 5 | the new state | writes |
//!
//! | another writer | its line |
//! |---|---|
//! | has the full log open | appears in `events.jsonl.1` |
//! | is stopped between opening and writing, while the log is rotated twice | is lost; the lines that are kept are all newer |
//!
//! In a directory that all users share, and that is sticky, only root and the owners of the log and of the directory can rename it. Calls of
//! other users leave a full log as it is ([`may_replace`]): step 4 would succeed, and step 5 would not. They append to it until it has
//! [`CAP`] bytes, and then their events are dropped until a call of those users rotates it. The same happens while another program keeps the
//! log locked, or if a directory with files in it is at one of the other two names. `doctor` and `log` report that ([`remedy`](super::remedy)).
//!
//! A log with more than [`MAX_SIZE`] bytes was not written by aba-lock alone. Step 4 keeps the older log, and not this one, unless the older
//! one is as large: it is removed then.
//!
//! A log with another name (hard link) gets lines only if all users who could have made the link may write to the file anyway. Otherwise,
//! it could be a file of this user that another one has linked to this name ([`check_trusted`]).

use crate::lock::holders::LeasedFile;
use crate::lock::log_flag::{is_on, is_trusted};
use crate::os::replace::rename_file;
use crate::os::{self, Mode};
use crate::store::creation::{self, DirectoryUsers};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The number of bytes above which the log is rotated.
pub const LIMIT: u64 = 1 << 20;

/// The number of bytes above which a log that cannot be rotated gets no more lines.
pub const CAP: u64 = 4 * LIMIT;

/// The maximum number of bytes of a log that is kept, and that is read. Writers exceed [`CAP`] by a few lines at most, so another program
/// has made a longer one: all users of a directory may write to its log.
pub const MAX_SIZE: u64 = CAP + LIMIT;

/// The maximum number of times that a log is opened for a line because it was rotated in between.
const MAX_OPENS: usize = 10;

/// Returns the path of the log before the present one.
#[must_use]
pub fn older_log_path(log: &Path) -> PathBuf {
    with_suffix(log, ".1")
}

/// Returns the path of the empty file that becomes the log.
pub(super) fn new_log_path(log: &Path) -> PathBuf {
    with_suffix(log, ".new")
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Appends a line, with its line feed, to the log. Returns false if there is no log, or it is turned off.
pub(super) fn append_line(log: &Path, line: &[u8]) -> io::Result<bool> {
    append_below(log, line, LIMIT)
}

fn append_below(log: &Path, line: &[u8], limit: u64) -> io::Result<bool> {
    for attempt in 1.. {
        let Some((file, data)) = open_for_line(log)? else { return Ok(false) };
        let is_full = data.size() > 0 && data.size() + line.len() as u64 > limit;
        if is_full {
            let rotated = if attempt < MAX_OPENS { rotate(log, &file, &data) } else { Ok(false) };
            let is_too_large = data.size() > limit.saturating_mul(CAP / LIMIT);
            match rotated {
                Ok(true) => continue,
                Err(error) if is_too_large => return Err(error),
                Ok(false) if is_too_large => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        "it is full, and another process locks it",
                    ));
                }
                _ => {}
            }
        }
        return match os::write_once(&file, line)? {
            written if written == line.len() => Ok(true),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
        };
    }
    Ok(false)
}

/// Opens the log to append a line. `None`: there is none, or it is turned off.
pub(super) fn open_for_line(log: &Path) -> io::Result<Option<(File, Metadata)>> {
    let mut options = OpenOptions::new();
    // O_NOFOLLOW: the path is not the choice of the user. O_NONBLOCK, O_NOCTTY: as for the other log.
    options.append(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = match options.open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let is_off = fs::symlink_metadata(log).is_ok_and(|data| data.is_file() && !is_on(&data));
            return if is_off { Ok(None) } else { Err(explain_failure(error, log)) };
        }
        file => file.map_err(|error| explain_failure(error, log))?,
    };
    let data = check_trusted(check_kind(file.metadata()?)?, log)?;
    Ok(is_on(&data).then_some((file, data)))
}

/// Explains the errors of opening a link, a socket, a directory, a file of another user, or one on which another process has a lease. They
/// do not say that.
pub(super) fn explain_failure(error: io::Error, log: &Path) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENXIO | libc::EISDIR) => invalid("it is not a regular file"),
        Some(libc::EACCES) => {
            let data = fs::symlink_metadata(log).ok();
            let is_usable = data.map(|data| check_kind(data).and_then(|data| check_creator(data, log)));
            is_usable.and_then(Result::err).unwrap_or(error)
        }
        _ => LeasedFile::name_in(error, log),
    }
}

pub(super) fn check_kind(data: Metadata) -> io::Result<Metadata> {
    if data.is_file() { Ok(data) } else { Err(invalid("it is not a regular file")) }
}

/// Fails if another user could have chosen the file: a line must not get into a file that another user has linked there.
pub(super) fn check_trusted(data: Metadata, log: &Path) -> io::Result<Metadata> {
    if data.nlink() > 1 && !is_at(&older_log_path(log), &data) && !is_open_to_linkers(&data, log) {
        return Err(invalid("it has another name (hard link), so it may be a file of another user"));
    }
    check_creator(data, log)
}

/// Fails if the file was made by a user who does not decide about the directory.
pub(super) fn check_creator(data: Metadata, log: &Path) -> io::Result<Metadata> {
    if is_trusted(&data, log) { Ok(data) } else { Err(invalid("it belongs to a user who does not own the directory")) }
}

/// Returns true if all users who may make a link in the directory of the log may write to the file, whatever its other names are.
fn is_open_to_linkers(data: &Metadata, log: &Path) -> bool {
    let Ok(directory) = fs::metadata(os::replace::parent_directory(log)) else { return false };
    match DirectoryUsers::from_mode(directory.mode(), directory.gid()) {
        DirectoryUsers::Owner => [data.uid(), os::user_id()].contains(&directory.uid()),
        DirectoryUsers::Group(group) => data.gid() == group && data.mode() & 0o020 != 0,
        DirectoryUsers::Everyone => data.mode() & 0o002 != 0,
        DirectoryUsers::Unsafe | DirectoryUsers::AllButGroup => false,
    }
}

/// Returns true if this user may rename or remove the file at `path`, which has this metadata.
pub(super) fn may_replace(path: &Path, data: &Metadata) -> bool {
    let me = os::user_id();
    me == 0
        || me == data.uid()
        || fs::metadata(os::replace::parent_directory(path))
            .is_ok_and(|directory| me == directory.uid() || directory.mode() & os::mode::STICKY == 0)
}

pub(super) fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn is_at(path: &Path, data: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (data.dev(), data.ino()))
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    let access = creation::access_in(os::replace::parent_directory(path))?;
    creation::create_file(path, access, OpenOptions::new().append(true), libc::O_NOFOLLOW)
}

/// Replaces the full log, which is open as `file`, with an empty one. Returns true if the caller must open the log again, and false if
/// another process rotates it now. `data` is its metadata.
pub(super) fn rotate(log: &Path, file: &File, data: &Metadata) -> io::Result<bool> {
    if !may_replace(log, data) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is full, and this user cannot rotate it"));
    }
    if !os::try_lock(file, Mode::Exclusive)? {
        return Ok(false);
    }
    let data = file.metadata()?;
    if !is_at(log, &data) {
        return Ok(true);
    }
    let (new, older) = (new_log_path(log), older_log_path(log));
    remove_if_exists(&new)?;
    let empty = create(&new)?;
    let done = keep_as_older(log, &older, &data).and_then(|()| {
        empty.set_permissions(Permissions::from_mode(data.mode() & 0o777))?;
        rename_file(&new, log)
    });
    if done.is_err() {
        let _ = remove_if_exists(&new);
    }
    done.map(|()| true)
}

/// Removes a file that is larger than the logs of aba-lock.
pub(super) fn remove_if_too_large(path: &Path) -> io::Result<()> {
    let is_too_large = fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.size() > MAX_SIZE);
    if is_too_large { remove_if_exists(path) } else { Ok(()) }
}

/// Gives the log its second name, unless it is too large.
fn keep_as_older(log: &Path, older: &Path, data: &Metadata) -> io::Result<()> {
    if data.size() > MAX_SIZE {
        return remove_if_too_large(older);
    }
    if is_at(older, data) {
        return Ok(());
    }
    remove_if_exists(older)?;
    fs::hard_link(log, older)
}

/// Removes a file or an empty directory, which another user may have made in a directory that they share.
fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => fs::remove_dir(path),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::log_flag::LOG_NAME;
    use std::collections::BTreeSet;
    use tempfile::TempDir;

    const LINE: &str = "{\"n\":0000}\n";

    fn log_in(directory: &TempDir) -> PathBuf {
        let log = directory.path().join(LOG_NAME);
        drop(create(&log).unwrap());
        log
    }

    fn line(number: usize) -> String {
        format!("{{\"n\":{number:04}}}\n")
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Appends lines until the log holds `count` of them.
    fn fill(log: &Path, count: usize) {
        for number in 0..count {
            assert!(append_below(log, line(number).as_bytes(), u64::MAX).unwrap());
        }
    }

    #[test]
    fn a_log_that_is_full_is_rotated_and_one_older_log_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(&directory);
        let limit = 3 * LINE.len() as u64;
        for number in 0..8 {
            assert!(append_below(&log, line(number).as_bytes(), limit).unwrap());
        }
        assert_eq!(read(&older_log_path(&log)), line(3) + &line(4) + &line(5));
        assert_eq!(read(&log), line(6) + &line(7));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert_eq!(fs::metadata(&log).unwrap().nlink(), 1);
    }

    #[test]
    fn each_state_that_a_killed_rotator_leaves_is_completed_without_a_lost_line() {
        for step in ["new", "removed", "linked", "renamed"] {
            let directory = tempfile::tempdir().unwrap();
            let log = log_in(&directory);
            let (new, older) = (with_suffix(&log, ".new"), older_log_path(&log));
            drop(create(&older).unwrap());
            fill(&log, 3);
            drop(create(&new).unwrap());
            if step != "new" {
                fs::remove_file(&older).unwrap();
            }
            if step == "linked" || step == "renamed" {
                fs::hard_link(&log, &older).unwrap();
            }
            if step == "renamed" {
                rename_file(&new, &log).unwrap();
            }
            let limit = 3 * LINE.len() as u64;
            assert!(append_below(&log, line(3).as_bytes(), limit).unwrap(), "{step}");
            assert_eq!(read(&older), line(0) + &line(1) + &line(2), "{step}");
            assert_eq!(read(&log), line(3), "{step}");
            assert!(!new.exists(), "{step}");
        }
    }

    #[test]
    fn a_writer_that_finds_a_rotator_at_work_does_not_wait() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(&directory);
        fill(&log, 3);
        let rotator = File::open(&log).unwrap();
        assert!(os::try_lock(&rotator, Mode::Exclusive).unwrap());
        assert!(append_below(&log, line(3).as_bytes(), 3 * LINE.len() as u64).unwrap());
        assert_eq!(read(&log).lines().count(), 4);
        // The rotator has replaced the log since this writer has opened it.
        let late = OpenOptions::new().append(true).open(&log).unwrap();
        // A child that another test starts has a copy of the descriptor until it runs its program.
        os::unlock(&rotator).unwrap();
        assert!(append_below(&log, line(4).as_bytes(), 3 * LINE.len() as u64).unwrap());
        os::write_once(&late, line(5).as_bytes()).unwrap();
        assert!(rotate(&log, &late, &late.metadata().unwrap()).unwrap(), "the path leads to another file");
        assert!(read(&older_log_path(&log)).ends_with(&line(5)));
        assert_eq!(read(&log), line(4));
    }

    #[test]
    fn a_log_that_another_program_keeps_locked_does_not_grow_forever() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(&directory);
        let other = File::open(&log).unwrap();
        assert!(os::try_lock(&other, Mode::Exclusive).unwrap());
        let limit = 3 * LINE.len() as u64;
        let error = (0..100).find_map(|number| append_below(&log, line(number).as_bytes(), limit).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let size = fs::metadata(&log).unwrap().len();
        assert!(size > limit && size <= limit * CAP / LIMIT + LINE.len() as u64, "{size}");
    }

    #[test]
    fn writers_at_the_same_time_lose_and_mix_no_line() {
        const WRITERS: usize = 10;
        const EACH: usize = 500;
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(&directory);
        // All lines fit into two logs, with room for those that are written during a rotation.
        let limit = (WRITERS * EACH * LINE.len()) as u64 * 6 / 10;
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let log = &log;
                std::thread::Builder::new()
                    .spawn_scoped(scope, move || {
                        for number in 0..EACH {
                            let line = line(writer * EACH + number);
                            assert!(append_below(log, line.as_bytes(), limit).unwrap());
                        }
                    })
                    .unwrap();
            }
        });
        let text = read(&older_log_path(&log)) + &read(&log);
        assert!(!read(&older_log_path(&log)).is_empty());
        let lines: BTreeSet<&str> = text.split_inclusive('\n').collect();
        let all: Vec<String> = (0..WRITERS * EACH).map(line).collect();
        assert_eq!(lines, all.iter().map(String::as_str).collect());
    }

    #[test]
    fn a_line_never_gets_into_a_linked_file_or_one_of_another_type() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
        let victim = directory.path().join("victim");
        drop(create(&victim).unwrap());
        let log = directory.path().join(LOG_NAME);
        for is_hard in [true, false] {
            if is_hard {
                fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
                fs::hard_link(&victim, &log).unwrap();
            } else {
                std::os::unix::fs::symlink(&victim, &log).unwrap();
            }
            append_line(&log, LINE.as_bytes()).unwrap_err();
            assert_eq!(read(&victim), "");
            fs::remove_file(&log).unwrap();
        }
        fs::create_dir(&log).unwrap();
        append_line(&log, LINE.as_bytes()).unwrap_err();
    }
}
