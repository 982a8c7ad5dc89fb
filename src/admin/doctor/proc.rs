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
const WITHOUT: &str = "holders of locks are not shown, and a nested call cannot share the lock of its script";
const INOTIFY: &str = "inotify";

pub(super) fn check_proc(report: Report) {
    if cfg!(not(linux)) {
        return;
    }
    report(examine_proc());
    report(match os::can_watch(Path::new("/")) {
        Ok(()) => Finding::fine(INOTIFY, "works: changes in a directory are reported immediately"),
        Err(error) => {
            let found =
                format!("not available ({}): a wait for a task polls 20 times a second", format_io_error(&error));
            Finding::note(INOTIFY, found).hint("raise fs.inotify.max_user_instances or max_user_watches: sysctl(8)")
        }
    });
    if let Ok(value) = fs::read_to_string("/proc/sys/fs/protected_regular") {
        let value = value.trim();
        let does = if value == "0" {
            "off"
        } else {
            "in /tmp and other sticky directories, flock(1) and `exec 200>` cannot open a file of another user. aba-lock can open it"
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
        let hint = "mount it with `mount -t proc proc /proc`, or through the container runtime";
        return match fs::read_link("/proc/self") {
            // This /proc belongs to another pid namespace, in which this process has another number.
            Ok(link) if link.to_str() != Some(&me.to_string()) => {
                Finding::wrong(PROC, "belongs to another pid namespace: holders of locks are not shown").hint(hint)
            }
            _ => Finding::wrong(PROC, format!("not mounted: {WITHOUT}")).hint(hint),
        };
    }
    if fs::read_link("/proc/self").is_ok_and(|link| link.to_str() != Some(&me.to_string())) {
        return Finding::wrong(PROC, "belongs to another pid namespace: other processes are shown as the holders")
            .hint("mount the one of this namespace: `unshare --mount-proc`, or `mount -t proc proc /proc`");
    }
    if fs::read("/proc/locks").is_err() {
        return Finding::note(PROC, "/proc/locks cannot be read: holders of other users are not shown")
            .hint("to see them, run `aba-lock status` as root");
    }
    let hides = mounts::find_mount(Path::new("/proc")).and_then(|mount| {
        let option = mount.options.iter().find_map(|option| option.strip_prefix("hidepid="))?.to_owned();
        (!["0", "off"].contains(&option.as_str())).then_some(option)
    });
    match hides {
        Some(option) if os::user_id() != 0 => {
            Finding::note(PROC, format!("mounted with hidepid={option}: holders of other users are not shown"))
                .hint("to see them, run `aba-lock status` as root")
        }
        _ if os::user_id() == 0 => Finding::fine(PROC, "mounted: holders of locks are shown"),
        _ => Finding::fine(PROC, "mounted: holders of locks are shown; those of other users, only to root"),
    }
}
