//! What `/proc` tells of a process. Elsewhere than on Linux there is none, and each answer is "not known".

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One lock of a file, in the words of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelLock {
    /// The process that called flock(2); it may have ended. 0 when it cannot be seen from this pid namespace.
    pub locker: u32,
    /// Whether it shuts everyone else out.
    pub exclusive: bool,
}

/// A file to look for: device and inode, and the path for the case that it was removed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The device.
    pub dev: u64,
    /// The inode. 0 when there is no file at the path.
    pub ino: u64,
    /// The path.
    pub path: PathBuf,
}

/// A process that has one of the wanted files open, with a lock on it.
#[derive(Debug, Clone)]
pub struct Opener {
    /// Which of the wanted files.
    pub index: usize,
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// The lock.
    pub lock: KernelLock,
    /// Whether it is a file that was removed from the path since.
    pub removed: bool,
}

/// What a look through all processes found.
#[derive(Debug, Default)]
pub struct Look {
    /// The processes that hold locks.
    pub openers: Vec<Opener>,
    /// Whether there are processes whose descriptors we may not see.
    pub hidden: bool,
}

/// When a process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22). `None`: it is not there.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// The process that started it, or that took it over when that ended (field 4). 0: it is out of sight.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(stat_field(pid, 4)?).ok()
}

/// A process among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub pid: u32,
    /// The process that started it, or that took it over (`proc_pid_stat(5)`, field 4).
    pub parent: u32,
    /// The number of the process that began its session (field 6).
    pub session: u32,
    /// When it started, in clock ticks since boot (field 22).
    pub start: u64,
}

/// A process that has not ended.
#[must_use]
pub fn seen(pid: u32) -> Option<Seen> {
    let stat = read_small(&format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    // The first of them is the third; `Z` and `X` have ended, and only wait for their parent to notice.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    let number = |at: usize| field(at).and_then(|value: u64| u32::try_from(value).ok());
    if matches!(fields.first(), None | Some(&"Z" | &"X")) {
        return None;
    }
    Some(Seen { pid, parent: number(4)?, session: number(6)?, start: field(22)? })
}

/// All processes that can be seen from here and have not ended.
#[must_use]
pub fn all_seen() -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(Result::ok).filter_map(|entry| seen(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// A variable of the environment that a process was started with.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// It was given this.
    Value(String),
    /// It was given others, but not this.
    Nothing,
    /// It has no environment that we can see, as for an instant while it becomes another program.
    Unknown,
}

/// Whether a process was started with this variable.
#[must_use]
pub fn given(pid: u32, name: &str) -> Given {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if environment.is_empty() {
        return Given::Unknown;
    }
    let mut entries = environment.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    value.map_or(Given::Nothing, |value| Given::Value(String::from_utf8_lossy(value).into_owned()))
}

/// Whether its standard output or error is one of these files (device and inode).
#[must_use]
pub fn prints_to(pid: u32, files: &[(u64, u64)]) -> bool {
    [1, 2].iter().any(|fd| {
        let data = fs::metadata(format!("/proc/{pid}/fd/{fd}"));
        data.is_ok_and(|data| files.contains(&(data.dev(), data.ino())))
    })
}

/// Whether a process has a lock on this file.
#[must_use]
pub fn holds(pid: u32, file: &Wanted) -> bool {
    let mut look = Look::default();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    for descriptor in descriptors.filter_map(Result::ok) {
        look_at(&mut look, std::slice::from_ref(file), pid, &descriptor.path());
    }
    !look.openers.is_empty()
}

fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = read_small(&format!("/proc/{pid}/stat"))?;
    // The command's name stands in parentheses and may hold anything, `) ` too: the last one ends it. The field after it
    // is the third.
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// Whether the process that started at `start` still runs under `pid`.
#[must_use]
pub fn is_alive(pid: u32, start: u64) -> bool {
    start_time(pid) == Some(start)
}

/// The command line of a process, quoted as a shell reads it; its name in brackets for one that has none.
/// Empty when it is not there.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let text = read_small(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if text.is_empty() {
        let name = name(pid);
        return if name.is_empty() { name } else { format!("[{name}]") };
    }
    let line = shell_words::join(text.strip_suffix('\0').unwrap_or(&text).split('\0'));
    // Who runs it chose the words: none of them is to steer the reader's terminal.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The name of a process: of its program, at most 15 bytes of it. Empty when it is not there.
#[must_use]
pub fn name(pid: u32) -> String {
    read_small(&format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Which boot of which machine this is.
#[must_use]
pub fn boot_id() -> String {
    read_small("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

/// The pid namespace of this process. 0 when not known.
#[must_use]
pub fn pid_namespace() -> u64 {
    // The text of the link, `pid:[4026531836]`, costs half of what a look at its inode does.
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number = link.to_str().and_then(|link| link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    number.unwrap_or(0)
}

/// The name of a user, else the number. From the passwd file: a static binary has no name service.
#[must_use]
pub fn user_name(uid: u32) -> String {
    passwd_field(uid, 0).unwrap_or_else(|| uid.to_string())
}

/// The home directory of a user, from the passwd file.
#[must_use]
pub fn home_of(uid: u32) -> Option<PathBuf> {
    passwd_field(uid, 5).map(PathBuf::from).filter(|home| home.is_absolute())
}

fn passwd_field(uid: u32, field: usize) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').nth(field).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// The lock that this process has through its descriptor `fd`.
#[must_use]
pub fn lock_of_descriptor(fd: i32) -> Option<KernelLock> {
    lock_in_fdinfo(&format!("/proc/self/fdinfo/{fd}"))
}

/// Looks through the descriptors of all processes for locks on the wanted files.
///
/// This is the truth also where the process that took the lock has ended: a lock belongs to the open file
/// description, and `/proc/locks` would name the one that is gone.
#[must_use]
pub fn look(wanted: &[Wanted]) -> Look {
    let mut look = Look::default();
    let Ok(processes) = fs::read_dir("/proc") else { return look };
    for process in processes.filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The one who asks may have inherited the descriptor from the script, but is gone when the answer is read.
        if pid == std::process::id() {
            continue;
        }
        let directory = format!("/proc/{pid}/fd");
        match fs::read_dir(&directory) {
            Ok(descriptors) => {
                for descriptor in descriptors.filter_map(Result::ok) {
                    look_at(&mut look, wanted, pid, &descriptor.path());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => look.hidden = true,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    look.openers.sort_by_key(|opener| (opener.index, opener.pid));
    look.openers.dedup_by_key(|opener| (opener.index, opener.pid, opener.removed));
    look
}

fn look_at(look: &mut Look, wanted: &[Wanted], pid: u32, descriptor: &Path) {
    let Ok(data) = fs::metadata(descriptor) else { return };
    let found = if data.nlink() == 0 {
        let Ok(link) = fs::read_link(descriptor) else { return };
        wanted.iter().position(|file| {
            let mut deleted = file.path.clone().into_os_string();
            deleted.push(" (deleted)");
            link.as_os_str() == deleted
        })
    } else {
        wanted.iter().position(|file| (file.dev, file.ino) == (data.dev(), data.ino()))
    };
    let (Some(index), Some(number)) = (found, descriptor.file_name().and_then(|name| name.to_str())) else { return };
    if let Some(lock) = lock_in_fdinfo(&format!("/proc/{pid}/fdinfo/{number}")) {
        let uid = fs::metadata(format!("/proc/{pid}")).map_or(0, |data| data.uid());
        look.openers.push(Opener { index, pid, uid, lock, removed: data.nlink() == 0 });
    }
}

/// The kernel's own list, which everyone may read, for holders whose descriptors we may not see.
#[must_use]
#[cfg(target_os = "linux")]
pub fn listed_lock(dev: u64, ino: u64) -> Option<KernelLock> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let file = format!("{:02x}:{:02x}:{ino}", libc::major(dev), libc::minor(dev));
    locks.lines().filter(|line| line.contains(&file)).find_map(|line| {
        // `->` marks one that waits.
        if line.contains("->") || line.split_ascii_whitespace().nth(5) != Some(&file) { None } else { lock_in(line) }
    })
}

/// Elsewhere there is no such list.
#[must_use]
#[cfg(not(target_os = "linux"))]
pub fn listed_lock(_: u64, _: u64) -> Option<KernelLock> {
    None
}

/// The first 4 KiB of a file of `/proc`, with one call: these files have no size to go by, and are made anew by
/// each reader. Longer command lines are cut.
fn read_small(path: &str) -> Option<String> {
    let mut bytes = [0; 4096];
    let len = fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

fn lock_in_fdinfo(path: &str) -> Option<KernelLock> {
    let info = read_small(path)?;
    info.lines().filter_map(|line| line.strip_prefix("lock:")).find_map(lock_in)
}

/// Reads a line such as `1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`.
fn lock_in(line: &str) -> Option<KernelLock> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next() != Some("FLOCK") {
        return None;
    }
    let exclusive = words.nth(1)? == "WRITE";
    let locker = words.next()?.parse().unwrap_or(0);
    Some(KernelLock { locker, exclusive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_line_of_the_kernel_is_read() {
        let lock = |line| lock_in(line);
        assert_eq!(
            lock("1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"),
            Some(KernelLock { locker: 4321, exclusive: true })
        );
        assert_eq!(
            lock("\t2: FLOCK  ADVISORY  READ -1 fe:00:1234 0 EOF"),
            Some(KernelLock { locker: 0, exclusive: false })
        );
        assert_eq!(lock("1: POSIX  ADVISORY  WRITE 4321 fe:00:1234 0 EOF"), None);
        assert_eq!(lock(""), None);
    }

    #[test]
    fn this_process_has_a_start_time_and_a_command() {
        let pid = std::process::id();
        let start = start_time(pid).expect("/proc is there");
        assert!(is_alive(pid, start));
        assert!(!is_alive(pid, start + 1));
        assert!(!command_line(pid).is_empty());
    }
}
