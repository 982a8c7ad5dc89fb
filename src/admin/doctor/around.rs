//! What scripts and helpers get from the process that starts them, and from the kernel.

use super::{Finding, Tell, mounts};
use crate::base::environment::{default_timeout, event_log, inherited_descriptors, on_conflict, settings};
use crate::base::text::format_io_error;
use crate::lock::events;
use crate::os;
use crate::os::proc::process;
use crate::store::error::StoreError;
use std::fs;
use std::io;
use std::path::Path;

const ENVIRONMENT: &str = "environment";
const EVENT_LOG: &str = "event log";
const LIMITS: &str = "limits";
const PROC: &str = "/proc";
const WITHOUT: &str = "who holds a lock cannot be told, and a nested call finds its own script in the way";
const INOTIFY: &str = "inotify";

/// The descriptor on which the shell library holds the first lock of a script, and the last that it may use.
const FIRST_FD: u64 = 200;
const LAST_FD: u64 = 254;

/// The most bytes that a holder record has, as a limit on the size of files has to allow.
const RECORD: u64 = 8192;

/// A value that cannot be used fails each call.
pub(super) fn environment(tell: Tell) {
    let settings = settings();
    let list: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name}={}", shell_words::quote(value))).collect();
    let list = if list.is_empty() { "none of our variables is set".to_owned() } else { list.join(" ") };
    tell(Finding::fine(ENVIRONMENT, list));
    if let Err(error) = default_timeout() {
        tell(Finding::wrong(ENVIRONMENT, format!("{error}: nothing can be locked")).hint("set it right, or unset it"));
    }
    if let Some(word) = on_conflict()
        && !["exit", "return", "ask", "warn"].contains(&word.as_str())
    {
        let found = format!("ABA_LOCK_ON_CONFLICT is {word:?}: aba_lock_operation ends each script with 2");
        tell(Finding::wrong(ENVIRONMENT, found).hint("set it to exit, return, ask or warn"));
    }
    if let Some(log) = event_log() {
        tell(match events::check_writable(&log) {
            Ok(()) => Finding::fine(EVENT_LOG, format!("{} can be written to", log.path.display())),
            Err(error) => {
                let found = format!(
                    "{} cannot be written to: {}: no event is kept",
                    log.path.display(),
                    format_io_error(&error)
                );
                Finding::wrong(EVENT_LOG, found).hint("set ABA_LOCK_LOG to a file that you may write to, or unset it")
            }
        });
    }
    let closed: Vec<String> = inherited_descriptors()
        .into_iter()
        .filter(|fd| os::second_descriptor(*fd).is_none())
        .map(|fd| fd.to_string())
        .collect();
    if !closed.is_empty() {
        let found = format!("ABA_LOCK_FDS names descriptors that are not open: {}", closed.join(" "));
        tell(Finding::note(ENVIRONMENT, found).hint(
            "what stands between here and the script closes them; a nested call finds its own script in the way",
        ));
    }
}

/// Limits of this process (`ulimit`), which its children have, too.
pub(super) fn limits(tell: Tell) {
    let (files, most) = os::limit_of_open_files();
    let raise = if most > files && most > FIRST_FD { "`ulimit -n 1024`" } else { "as root, or in limits.conf(5)" };
    tell(match files {
        0..=FIRST_FD => {
            let found = format!("ulimit -n is {files}: aba_lock_operation holds its lock on descriptor {FIRST_FD}");
            Finding::wrong(LIMITS, found).hint(format!("raise it: {raise}"))
        }
        _ if files <= LAST_FD => {
            let found = format!("ulimit -n is {files}: a script can hold {} locks at once", files - FIRST_FD);
            Finding::note(LIMITS, found).hint(format!("if that is too few, raise it: {raise}"))
        }
        _ => Finding::fine(LIMITS, format!("ulimit -n is {}", number(files))),
    });
    let size = os::limit_of_file_size();
    if size < RECORD {
        let found = format!("ulimit -f allows files of {size} bytes: who holds a lock cannot be written down");
        tell(Finding::note(LIMITS, found).hint("raise it: `ulimit -f unlimited`"));
    }
}

fn number(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

/// Who holds a lock is read in `/proc`; that a task has ended is told by inotify(7).
pub(super) fn proc(tell: Tell) {
    if cfg!(target_os = "linux") {
        tell(whether_proc());
    }
    tell(match os::can_watch(Path::new("/")) {
        Ok(()) => Finding::fine(INOTIFY, "tells at once of what changes in a directory"),
        Err(error) => {
            let found =
                format!("not to be had ({}): who waits for a task looks 20 times a second", format_io_error(&error));
            Finding::note(INOTIFY, found).hint("raise fs.inotify.max_user_instances or max_user_watches: sysctl(8)")
        }
    });
    if let Ok(value) = fs::read_to_string("/proc/sys/fs/protected_regular") {
        let value = value.trim();
        let does = if value == "0" {
            "off"
        } else {
            "where all may write, such as in /tmp, a file of another's cannot be opened as flock(1) and `exec 200>` do; \
             aba-lock can"
        };
        tell(Finding::fine("fs.protected_regular", format!("{value}: {does}")));
    }
}

fn whether_proc() -> Finding {
    let me = std::process::id();
    if let Some(error) = fs::read("/proc/self/stat").err().filter(|error| error.kind() != io::ErrorKind::NotFound) {
        return Finding::wrong(PROC, format!("cannot be read: {}: {WITHOUT}", format_io_error(&error)));
    }
    if process::start_time(me).is_none() {
        let hint = "mount it: `mount -t proc proc /proc`; for a container, let its runtime do that";
        return match fs::read_link("/proc/self") {
            // Ours has another number there.
            Ok(link) if link.to_str() != Some(&me.to_string()) => {
                Finding::wrong(PROC, "it is that of another pid namespace: who holds a lock cannot be told").hint(hint)
            }
            _ => Finding::wrong(PROC, format!("not mounted: {WITHOUT}")).hint(hint),
        };
    }
    if fs::read_link("/proc/self").is_ok_and(|link| link.to_str() != Some(&me.to_string())) {
        return Finding::wrong(PROC, "it is that of another pid namespace: other processes are taken for the holders")
            .hint("mount that of this one: `unshare --mount-proc`, or `mount -t proc proc /proc`");
    }
    if fs::read("/proc/locks").is_err() {
        return Finding::note(PROC, "without /proc/locks, holders whose descriptors we may not see are not noticed");
    }
    let hides = mounts::of(Path::new("/proc")).and_then(|mount| {
        let option = mount.options.iter().find_map(|option| option.strip_prefix("hidepid="))?.to_owned();
        (!["0", "off"].contains(&option.as_str())).then_some(option)
    });
    match hides {
        Some(option) if os::user_id() != 0 => {
            Finding::note(PROC, format!("mounted with hidepid={option}: holders of other users are not seen"))
                .hint("ask as root")
        }
        _ if os::user_id() == 0 => Finding::fine(PROC, "there: holders are seen"),
        _ => Finding::fine(PROC, "there: holders are seen; what other users hold, by root alone"),
    }
}

/// How a variable that leads nowhere is told.
pub(super) fn variable(check: &'static str, error: &StoreError) -> Finding {
    let finding = Finding::wrong(check, error.to_string());
    match error.hint() {
        Some(hint) => finding.hint(hint),
        None => finding.hint("set it to a directory of yours on a local disk"),
    }
}
