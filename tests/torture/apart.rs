//! A world of its own: namespaces in which the kernel ends whatever the rack started, and undoes what it mounted, when the
//! rack ends, however it ends.

use crate::kernel;
use crate::place::ends_with_us;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What is allowed here, in the environment of the rack.
pub(crate) const ALLOWED: &str = "ABA_TORTURE_ALLOWED";

/// The size of the table of processes: so small that numbers are given again soon.
const PIDS: &str = "600";

/// Where the rack works.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("torture")
}

/// Starts the rack, apart where that is allowed, and waits for it. Its exit status.
pub(crate) fn enter() -> i32 {
    fs::create_dir_all(directory()).unwrap();
    let mark = format!("{}-{}", std::process::id(), kernel::monotonic());
    match unshare() {
        Ok(()) => start("apart", &mark).wait().unwrap().code().unwrap_or(1),
        Err(why) => {
            println!("torture: no namespaces here ({why}): no small disks, no read-only disk, no reused pids");
            let directory = directory().join(&mark);
            fs::create_dir_all(&directory).unwrap();
            let mut undertaker = watch(&directory, &mark);
            let status = start("rack", &mark).wait().unwrap().code().unwrap_or(1);
            drop(undertaker.stdin.take());
            undertaker.wait().unwrap();
            status
        }
    }
}

fn start(role: &str, mark: &str) -> Child {
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.arg(role).env(crate::MARK, mark);
    // A number of milliseconds of another process may be somebody's setting.
    for variable in
        ["ABA_LOCK_DIR", "ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_LOG", "RUN_ONCE_DIR", "RUST_BACKTRACE"]
    {
        command.env_remove(variable);
    }
    ends_with_us(&mut command);
    command.spawn().unwrap()
}

fn unshare() -> io::Result<()> {
    let (user, group) = kernel::ids();
    let apart = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    if user == 0 {
        kernel::unshare(apart)?;
    } else {
        kernel::unshare(apart | libc::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    kernel::mount(c"none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "")?;
    // Tried here, where there is a way back.
    kernel::mount(c"tmpfs", &directory(), 0, "size=1g")
}

/// The first process of the namespace: mounts what it needs, starts the rack, and reaps whatever ends there.
pub(crate) fn first_process() -> i32 {
    kernel::mount(c"proc", Path::new("/proc"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "").unwrap();
    let reuse = small_pid_table();
    if let Err(why) = &reuse {
        println!("torture: no small table of processes here ({why}): pids are not reused");
    }
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    #[expect(clippy::zombie_processes, reason = "it is reaped, with all others")]
    let rack = command.arg("rack").env(ALLOWED, "mounts").spawn().unwrap();
    kernel::reap_until(rack.id().cast_signed())
}

/// Only where the setting is the namespace's own: before Linux 6.14 it was that of the machine.
fn small_pid_table() -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0_u32));
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        return Err(io::Error::other("it is new in Linux 6.14"));
    }
    fs::write("/proc/sys/kernel/pid_max", PIDS)
}

/// Another process that ends what the rack started when the rack has ended, without namespaces that do that.
fn watch(directory: &Path, mark: &str) -> Child {
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.arg("undertaker").arg(directory).env(crate::MARK, mark).stdin(Stdio::piped());
    command.spawn().unwrap()
}

/// Its work: when nobody can write to its input any more, all that have the mark in their environment are ended.
pub(crate) fn bury(directory: &str) -> i32 {
    kernel::leave_terminal();
    let _ = io::stdin().read(&mut [0]);
    let mark = format!("{}={}", crate::MARK, std::env::var(crate::MARK).unwrap());
    let ours = std::process::id();
    loop {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has_mark = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let left: Vec<u32> = pids.filter(|pid| *pid != ours && has_mark(pid)).collect();
        if left.is_empty() {
            break;
        }
        for pid in left {
            kernel::kill(pid, libc::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _ = fs::remove_dir_all(directory);
    0
}
