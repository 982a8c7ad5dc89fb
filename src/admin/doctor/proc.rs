//! The check of `/proc`, from which the holders of locks are read, and of inotify(7), which reports the end of a task.

use super::finding::{Finding, Report};
use super::mounts;
use crate::base::text::format_io_error;
use crate::os;
use crate::os::proc::process;
use std::fs;
use std::io;
use std::path::Path;

const PROC: &str = "/proc";
const WITHOUT: &str = "who holds a lock cannot be told, and a nested call finds its own script in the way";
const INOTIFY: &str = "inotify";

pub(super) fn check_proc(report: Report) {
    if cfg!(target_os = "linux") {
        report(examine_proc());
    }
    report(match os::can_watch(Path::new("/")) {
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
        report(Finding::fine("fs.protected_regular", format!("{value}: {does}")));
    }
}

fn examine_proc() -> Finding {
    let me = std::process::id();
    if let Some(error) = fs::read("/proc/self/stat").err().filter(|error| error.kind() != io::ErrorKind::NotFound) {
        return Finding::wrong(PROC, format!("cannot be read: {}: {WITHOUT}", format_io_error(&error)));
    }
    if process::start_time(me).is_none() {
        let hint = "mount it: `mount -t proc proc /proc`; for a container, let its runtime do that";
        return match fs::read_link("/proc/self") {
            // This /proc belongs to another pid namespace, in which this process has another number.
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
    let hides = mounts::find_mount(Path::new("/proc")).and_then(|mount| {
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
