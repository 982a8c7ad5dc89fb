//! The checks of the state root and the task root, and of the file system below them: its type, its free space, and
//! whether locks work on it.

use super::finding::{Finding, Level, Report};
use super::locking::{self, LockVisibility, LockingOutcome, Naming};
use super::{event_log, files, mounts};
use crate::base::environment::{SYSTEM_ROOT, root_source};
use crate::base::text::{HINT_FOR_FULL_DISK, format_io_error, is_full_disk};
use crate::os::proc::process;
use crate::os::{self, AccessList, Right, word_for};
use crate::store::creation::{DirectoryUsers, explain_membership};
use crate::store::{Store, TaskRoot, hint_about_less_for_a_group, name_of};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SCOPE: &str = "scope";
const ROOT: &str = "state root";
const TASKS: &str = "task root";
const FILE_SYSTEM: &str = "file system";
const SPACE: &str = "free space";
const LOCKING: &str = "locking";

const ELSEWHERE: &str = "set ABA_LOCK_DIR to a writable directory on a local disk";
const TASKS_ELSEWHERE: &str = "set RUN_ONCE_DIR to a writable directory on a local disk";

/// With less space than this, records can fail to be written.
const NO_ROOM: u64 = 1 << 20;
const NO_FILES: u64 = 16;

/// With less space than this, the disk is soon full.
const LITTLE_ROOM: u64 = 64 << 20;
const FEW_FILES: u64 = 1000;

/// Checks the state root and its content.
pub(super) fn check_root(report: Report) {
    let store = match Store::from_env() {
        Ok(store) => store,
        Err(error) => return report(Finding::from_store_error(ROOT, &error)),
    };
    let from = root_source();
    report(describe_scope(&store, from));
    let root = match store.missing_home() {
        Some(home) => {
            let found =
                format!("the home directory {} (from {from}) does not exist: no lock can be acquired", home.display());
            report(Finding::wrong(ROOT, found).hint(ELSEWHERE));
            None
        }
        None if store.missing_parent().is_some() => {
            report(describe_missing_parent(&store, from));
            None
        }
        None => match store.missing_for_all_users() {
            Some(error) => {
                report(Finding::from_store_error(ROOT, &error));
                None
            }
            None => check_directory(ROOT, store.root(), &format!(" (from {from})"), report),
        },
    };
    let place = root.as_ref().map(|_| store.root().to_owned()).or_else(|| find_nearest(store.root()));
    if let Some(place) = place.and_then(|place| fs::canonicalize(place).ok()) {
        check_file_system(&place, report);
        check_space(&place, report);
        report(check_locking(&place, if root.is_some() { Naming::Allowed } else { Naming::Never }));
    }
    if root.is_some() {
        files::check_locks(&store, report);
        files::check_deadlocks(&store, report);
        event_log::check_root_log(&store, report);
    }
    match TaskRoot::from_env() {
        Ok(root) => {
            if fs::symlink_metadata(root.path()).is_ok() && check_directory(TASKS, root.path(), "", report).is_some() {
                files::check_tasks(&root, report);
            }
        }
        Err(error) => report(Finding::from_store_error(TASKS, &error)),
    }
}

/// Describes which processes the locks exclude, and why.
fn describe_scope(store: &Store, from: &str) -> Finding {
    let me = process::user_name(os::user_id());
    Finding::fine(
        SCOPE,
        if store.is_system() {
            format!("system (from {from}): locks exclude processes of all users on this machine")
        } else if from == "ABA_LOCK_DIR" {
            "directory (from ABA_LOCK_DIR): locks exclude processes of all users who set it to the same directory"
                .to_owned()
        } else {
            format!("user (the default): locks exclude only processes of user {me}; --system uses {SYSTEM_ROOT}")
        },
    )
}

/// Checks that `path` is a directory for locks, or can be created. Returns `None` if it does not exist or is not a
/// directory.
fn check_directory(check: &'static str, path: &Path, from: &str, report: Report) -> Option<Metadata> {
    let elsewhere = if check == TASKS { TASKS_ELSEWHERE } else { ELSEWHERE };
    let name = path.display();
    let data = match fs::metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report(if fs::symlink_metadata(path).is_ok() {
                Finding::wrong(check, format!("{name}{from} is a link to a missing file")).hint(elsewhere)
            } else {
                describe_missing(check, path, from)
            });
            return None;
        }
        Err(error) => {
            report(
                Finding::wrong(check, format!("cannot use {name}{from}: {}", format_io_error(&error))).hint(elsewhere),
            );
            return None;
        }
    };
    if !data.is_dir() {
        let kind = if data.is_file() { "file" } else { word_for(data.file_type()) };
        report(Finding::wrong(check, format!("{name}{from} is a {kind}, not a directory")).hint(elsewhere));
        return None;
    }
    let found = format!("{name}{from}, owner {}, mode {:04o}", process::user_name(data.uid()), data.mode() & 0o7777);
    if let Err(error) = os::may(Right::MakeIn, path) {
        let found = format!("{found}: cannot create files in it: {}", format_io_error(&error));
        report(if check == ROOT && has_locks(path) {
            Finding::note(check, format!("{found}: only the locks that exist can be acquired")).hint(format!(
                "to add one, run as user {}: `aba-lock path --create NAME`",
                process::user_name(data.uid())
            ))
        } else {
            Finding::wrong(check, found).hint(elsewhere)
        });
    } else {
        report(check_owner(check, &data, found, path));
    }
    Some(data)
}

fn describe_missing_parent(store: &Store, from: &str) -> Finding {
    let parent = store.missing_parent().unwrap_or(store.root()).display();
    Finding::wrong(ROOT, format!("the directory {parent} (from {from}) does not exist: no lock can be acquired"))
        .hint(ELSEWHERE)
}

fn describe_missing(check: &'static str, path: &Path, from: &str) -> Finding {
    let found = format!("{}{from} does not exist yet: the first lock creates it", path.display());
    let Some(above) = find_nearest(path) else { return Finding::note(check, found) };
    match os::may(Right::MakeIn, &above) {
        Ok(()) if path.as_os_str() == SYSTEM_ROOT && above.is_dir() => Finding::note(check, found),
        Ok(()) if above.is_dir() => Finding::note(check, found)
            .hint("if you expect locks here, compare ABA_LOCK_DIR and HOME with those of the script"),
        Ok(()) => Finding::wrong(
            check,
            format!("cannot create {}{from}: {} is not a directory", path.display(), above.display()),
        )
        .hint(ELSEWHERE),
        Err(error) => {
            let why = format_io_error(&error);
            Finding::wrong(
                check,
                format!("{}{from} does not exist, and cannot be created in {}: {why}", path.display(), above.display()),
            )
            .hint(ELSEWHERE)
        }
    }
}

/// Returns true if the directory contains a lock file.
fn has_locks(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| name_of(&entry.path()).is_some()))
}

/// Returns the closest existing ancestor of `path`.
fn find_nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|above| fs::metadata(above).is_ok()).map(Path::to_owned)
}

/// Checks the owner of a directory, and which other users share it.
fn check_owner(check: &'static str, data: &Metadata, found: String, directory: &Path) -> Finding {
    let path = shell_words::quote(&directory.to_string_lossy()).into_owned();
    let list = AccessList::of_directory(directory);
    match DirectoryUsers::from_mode(data.mode(), data.gid()) {
        DirectoryUsers::Unsafe => Finding::wrong(check, format!("{found}: every user can replace a locked file"))
            .hint(format!("run `chmod go-w {path}`, or, if all users share it, `chmod +t {path}`")),
        users @ DirectoryUsers::AllButGroup => {
            let problem = users.problem().unwrap_or_default();
            Finding { hint: users.hint(directory), ..Finding::wrong(check, format!("{found}: {problem}")) }
        }
        DirectoryUsers::Everyone if list.as_ref().is_some_and(AccessList::is_less_for_a_group) => Finding::wrong(
            check,
            format!(
                "{found}: cannot create files in it: a group in its access control list may do less than other users"
            ),
        )
        .hint(hint_about_less_for_a_group(directory)),
        DirectoryUsers::Everyone => Finding::note(
            check,
            format!("{found}: all users share it, and each of them can block the locks of the others"),
        ),
        // A new lock file gets an entry for the group.
        DirectoryUsers::Group(group)
            if !os::is_member(group) && data.mode() & 0o2000 == 0 && (list.is_none() || check == TASKS) =>
        {
            let cause = explain_membership(group);
            Finding::wrong(check, format!("{found}: cannot create files in it: {cause}"))
                .hint(format!("new files get the group of the directory after `chmod g+s {path}`"))
        }
        DirectoryUsers::Group(group) => {
            let group = process::group_name(group);
            let replace = if data.mode() & os::mode::STICKY == 0 { ", and can replace a locked file" } else { "" };
            let users = match list {
                Some(_) => "the users and groups of its access control list".to_owned(),
                None => format!("members of group {group}"),
            };
            Finding::note(check, format!("{found}: {users} share its locks{replace}"))
                .hint(format!("if that is not intended, run `chmod g-w {path}`"))
        }
        DirectoryUsers::Owner if data.uid() != os::user_id() => {
            let owner = process::user_name(data.uid());
            let me = process::user_name(os::user_id());
            Finding::note(check, format!("{found}: {owner} may be unable to open files that {me} creates in it"))
                .hint(format!("run as {owner}, or {}", if check == TASKS { TASKS_ELSEWHERE } else { ELSEWHERE }))
        }
        DirectoryUsers::Owner => Finding::fine(check, found),
    }
}

fn check_file_system(place: &Path, report: Report) {
    let (level, found, hint) = mounts::assess_file_system(place);
    report(Finding { hint: hint.map(str::to_owned), ..Finding::new(FILE_SYSTEM, level, found) });
}

fn check_space(place: &Path, report: Report) {
    let room = match os::room(place) {
        Ok(room) => room,
        Err(error) => return report(Finding::note(SPACE, format!("unknown: {}", format_io_error(&error)))),
    };
    let files = room.files.map_or_else(|| "no limit on files".to_owned(), |files| format!("{files} files"));
    let found = format!("{} and {files}", format_bytes(room.bytes));
    let number = room.files.unwrap_or(u64::MAX);
    report(if room.bytes < NO_ROOM || number < NO_FILES {
        Finding::wrong(SPACE, format!("{found}: too little for new lock files and holder records"))
            .hint(HINT_FOR_FULL_DISK)
    } else if room.bytes < LITTLE_ROOM || number < FEW_FILES {
        Finding::note(SPACE, format!("{found}: low")).hint(HINT_FOR_FULL_DISK)
    } else {
        Finding::fine(SPACE, found)
    });
}

fn format_bytes(bytes: u64) -> String {
    let (unit, size) = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, size)| bytes >= *size)
        .unwrap_or(("B", 1));
    format!("{} {unit}", bytes / size)
}

/// Checks that locks exclude each other, if that can be tried.
fn check_locking(place: &Path, naming: Naming) -> Finding {
    let name = place.display();
    match locking::try_locking(place, naming) {
        LockingOutcome::Excludes(shown) => {
            let found = format!("tested in {name}: exclusive and shared locks, with two descriptors and two processes");
            match shown {
                LockVisibility::Everywhere => Finding::fine(LOCKING, found),
                LockVisibility::OnlyDescriptors => Finding::note(
                    LOCKING,
                    format!("{found}; /proc/locks names another device, so holders of other users are not shown"),
                )
                .hint("to see them, run `aba-lock status` as root"),
                LockVisibility::Nowhere => Finding::note(
                    LOCKING,
                    format!("{found}; the kernel does not show their holders, so a nested call cannot share the lock of its script"),
                )
                .hint(if cfg!(linux) { "see the finding about /proc" } else { "use a directory on a local disk" }),
            }
        }
        LockingOutcome::DoesNotExclude(how) => {
            Finding::wrong(LOCKING, format!("locks do not work in {name}: {how}")).hint(ELSEWHERE)
        }
        LockingOutcome::NotWithoutName => Finding::note(
            LOCKING,
            "not tested: the test needs an unnamed file (O_TMPFILE), which this file system does not support",
        )
        .hint("run doctor again when the state root exists"),
        // The finding about the state root has the hint.
        LockingOutcome::Failed(what, error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::note(LOCKING, format!("not tested in {name}: {what}: {}", format_io_error(&error)))
        }
        LockingOutcome::Failed(what, error) => {
            let hint = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files: `ulimit -n`",
                Some(libc::EAGAIN | libc::ENOMEM) => "raise the limit of processes (`ulimit -u`), or end some",
                _ if is_full_disk(&error) => HINT_FOR_FULL_DISK,
                _ => ELSEWHERE,
            };
            Finding::new(
                LOCKING,
                Level::Wrong,
                format!("cannot test locks in {name}: {what}: {}", format_io_error(&error)),
            )
            .hint(hint)
        }
    }
}
