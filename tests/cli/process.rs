//! Processes, their locks and their signals, as `/proc` and other programs show them: what the tests compare the helper with.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The longest time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Copies a program that the test runs afterwards.
///
/// A child process writes the copy. If this process wrote it, a child that another test forks at the same time would inherit
/// the descriptor that is open for writing, and nothing could run the copy until that child has called execve(2) (`ETXTBSY`).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: &Path) {
    assert!(Command::new("cp").arg("-T").arg(from.as_ref()).arg(to).status().unwrap().success());
}

/// Writes a script that the test runs afterwards, by a child process for the same reason.
pub(crate) fn write_program(path: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Writes a file that a test locks or cleans afterwards, by a child process: `clean` leaves a file that another process has open.
pub(crate) fn write_file(path: &Path, text: &str) {
    let mut child = Command::new("tee").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Makes a FIFO.
pub(crate) fn make_fifo(path: impl AsRef<Path>) {
    assert!(Command::new("mkfifo").arg(path.as_ref()).status().unwrap().success());
}

/// The names of the files in a directory, sorted. Empty if there is no such directory.
pub(crate) fn list_files(directory: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The permission bits of a file.
pub(crate) fn file_mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Sets the permission bits of a file.
pub(crate) fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the modification time of a file to this number of seconds from now, which is negative for the past, by a child process as
/// [`write_file`] does.
pub(crate) fn set_modified(path: impl AsRef<Path>, seconds: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let time = format!("@{}", now.saturating_add_signed(seconds));
    assert!(Command::new("touch").args(["-c", "-m", "-d", &time]).arg(path.as_ref()).status().unwrap().success());
}

/// Waits until `is_done` returns true.
pub(crate) fn wait_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a child ends. Returns its exit status, or 128 + n for signal n.
pub(crate) fn wait_for_exit(child: &mut Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("gave up waiting for a process to end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn kill(pid: u32, signal: i32) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

/// Sends SIGINT to a whole process group, as a terminal does on Ctrl-C.
pub(crate) fn interrupt_group(leader: u32) {
    let group = format!("-{leader}");
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
}

/// Returns true if a process runs. A zombie does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until a process runs this program. Before it calls execve(2), a new process has the command line of its parent.
pub(crate) fn wait_for_program(pid: u32, name: &str) {
    let start = format!("{name}\0");
    wait_until(name, || fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&start)));
}

/// Returns true if a process exists, even one that has ended and was not reaped.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The parent of a process.
pub(crate) fn parent_pid(pid: u32) -> u32 {
    find_parent_pid(pid).expect("the process has not ended")
}

/// The parent of a process, or `None` if the process has ended.
pub(crate) fn find_parent_pid(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// The children of a process.
pub(crate) fn child_pids(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The number of threads of a process.
pub(crate) fn count_threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Returns the number of times that a thread gave up the processor by itself. `status` is its status file in `/proc`.
pub(crate) fn count_voluntary_switches(status: impl AsRef<Path>) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    number.map_or(0, |number| number.trim().parse().unwrap())
}

/// Returns the number of times that the threads of a process other than the first gave up the processor by themselves.
pub(crate) fn count_background_switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let others = threads.filter(|thread| thread.file_name().to_str() != Some(&pid.to_string()));
    others.map(|thread| count_voluntary_switches(thread.path().join("status"))).sum()
}

/// Returns true if a process watches a directory for changes.
pub(crate) fn is_watching(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let leads_to = |path: &Path| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains("inotify"));
    descriptors.flatten().any(|descriptor| leads_to(&descriptor.path()))
}

/// Returns true if the tests run as root. No permission restricts root.
pub(crate) fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

/// Returns true if any process holds a lock on `path`, as flock(1) finds out.
pub(crate) fn is_locked(path: &Path) -> bool {
    let status = Command::new("flock").arg("-n").arg(path).arg("true").status().unwrap();
    !status.success()
}

/// The number of processes that are blocked in the kernel for a lock file.
pub(crate) fn count_waiters(file: &Path) -> usize {
    waiter_pids(file).len()
}

/// The processes that are blocked in the kernel for a lock file, in the order in which they will get the lock.
pub(crate) fn waiter_pids(file: &Path) -> Vec<u32> {
    let end = format!(":{}", fs::metadata(file).unwrap().ino());
    let look = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let waiting = words.filter(|words| words[1] == "->" && words[6].ends_with(&end));
        let mut queue: Vec<u32> = Vec::new();
        for pid in waiting.map(|words| words[5].parse().unwrap()) {
            if !queue.contains(&pid) {
                queue.push(pid);
            }
        }
        queue
    };
    // A long list is read in pieces. While other waiters come and go, one at the border of two pieces may be missing or be
    // there twice.
    (0..3).map(|_| look()).max_by_key(Vec::len).unwrap()
}

/// Sets a flag when it is dropped, so that the other threads of a test end even if an assertion fails.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
