//! Isolation of a run: new namespaces, in which the kernel kills all processes of the run and removes its mounts as soon as the run
//! ends, however it ends. Where namespaces are not allowed, a separate process, the cleaner, kills them.

use crate::environment;
use crate::kernel;
use crate::place::tie_to_parent;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The largest pid: so small that the kernel reuses pids soon.
const LARGEST_PID: &str = "600";

/// Returns the directory in which the run works.
pub(crate) fn work_root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("torture")
}

/// Runs the suite, in new namespaces if they are allowed, and returns its exit status.
pub(crate) fn run_isolated() -> i32 {
    fs::create_dir_all(work_root()).unwrap();
    let mark = format!("{}-{}", std::process::id(), kernel::monotonic());
    match enter_namespaces() {
        Ok(()) => start("init", &mark).wait().unwrap().code().unwrap_or(1),
        Err(why) => {
            println!("torture: no namespaces here ({why}): no small disks, no read-only disk, no reused pids");
            let directory = work_root().join(&mark);
            fs::create_dir_all(&directory).unwrap();
            let mut cleaner = start_cleaner(&directory, &mark);
            let status = start("suite", &mark).wait().unwrap().code().unwrap_or(1);
            drop(cleaner.stdin.take());
            cleaner.wait().unwrap();
            status
        }
    }
}

fn start(role: &str, mark: &str) -> Child {
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.arg(role).env(environment::MARK, mark);
    // The settings of the user must not change the results.
    for variable in
        ["ABA_LOCK_DIR", "ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_LOG", "RUN_ONCE_DIR", "RUST_BACKTRACE"]
    {
        command.env_remove(variable);
    }
    tie_to_parent(&mut command);
    command.spawn().unwrap()
}

fn enter_namespaces() -> io::Result<()> {
    let (user, group) = kernel::user_and_group();
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    if user == 0 {
        kernel::unshare(namespaces)?;
    } else {
        kernel::unshare(namespaces | libc::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    kernel::mount(c"none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "")?;
    // If this fails, the caller can still run the suite without namespaces.
    kernel::mount(c"tmpfs", &work_root(), 0, "size=1g")
}

/// The first process of the pid namespace: mounts `/proc`, starts the suite, and reaps all processes of the namespace.
pub(crate) fn run_init() -> i32 {
    kernel::mount(c"proc", Path::new("/proc"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "").unwrap();
    let reuse = shrink_pid_table();
    if let Err(why) = &reuse {
        println!("torture: no small table of processes here ({why}): pids are not reused");
    }
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    #[expect(clippy::zombie_processes, reason = "`reap_until` reaps it")]
    let suite = command.arg("suite").env(environment::MOUNTS_ALLOWED, "mounts").spawn().unwrap();
    kernel::reap_until(suite.id().cast_signed())
}

/// Limits the pids of the namespace. Before Linux 6.14, the limit was that of the whole machine, which must not change.
fn shrink_pid_table() -> io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0_u32));
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        return Err(io::Error::other("it is new in Linux 6.14"));
    }
    fs::write("/proc/sys/kernel/pid_max", LARGEST_PID)
}

/// Starts the cleaner, with a pipe that the kernel closes when this process ends.
fn start_cleaner(directory: &Path, mark: &str) -> Child {
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.arg("cleaner").arg(directory).env(environment::MARK, mark).stdin(Stdio::piped());
    command.spawn().unwrap()
}

/// The work of the cleaner: waits until the pipe is closed, and then kills all processes that have the mark of the run in their
/// environment.
pub(crate) fn kill_marked_processes(directory: &str) -> i32 {
    kernel::leave_terminal();
    let _ = io::stdin().read(&mut [0]);
    let mark = format!("{}={}", environment::MARK, std::env::var(environment::MARK).unwrap());
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
