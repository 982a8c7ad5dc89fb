//! PID namespaces (`pid_namespaces(7)`), and the numbers that a process has in them.
//!
//! `/proc` shows processes by their numbers in the namespace in which it was mounted. That is another one than ours
//! after `unshare --pid` without `--mount-proc`. "Local" numbers are those in the namespace of this process.

#[cfg(linux)]
use super::read::{read_short, read_small};
use super::stat::all_pids;
#[cfg(not(linux))]
use super::stat::read_stat;
#[cfg(not(linux))]
use crate::os::proc::portable;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns true if there is a `/proc` that shows this process.
#[must_use]
pub fn can_be_seen() -> bool {
    #[cfg(not(linux))]
    return own_number().is_some();
    #[cfg(linux)]
    fs::read_link("/proc/self").is_ok()
}

/// Returns true if `/proc` shows local numbers.
#[must_use]
pub fn has_our_numbers() -> bool {
    #[cfg(not(linux))]
    return can_be_seen();
    #[cfg(linux)]
    fs::read_link("/proc/self").is_ok_and(|link| link.to_str() == Some(&std::process::id().to_string()))
}

/// The number under which `/proc` shows this process. `None` if it does not show this process.
#[must_use]
pub fn own_number() -> Option<u32> {
    #[cfg(not(linux))]
    return read_stat(std::process::id()).map(|stat| stat.pid);
    #[cfg(linux)]
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// The number under which `/proc` shows the process with this local number. `None` if it does not show that process.
#[must_use]
pub fn number_of(pid: u32) -> Option<u32> {
    if has_our_numbers() {
        return Some(pid);
    }
    all_pids().into_iter().find(|number| local_numbers(*number).is_some_and(|local| local.pid == pid))
}

/// The local numbers of a process and of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalNumbers {
    pub pid: u32,
    pub session: u32,
}

/// The local numbers of the process that `/proc` shows under `number`. `None` if it is not in our PID namespace.
#[must_use]
#[cfg(not(linux))]
pub fn local_numbers(number: u32) -> Option<LocalNumbers> {
    read_stat(number).map(|stat| LocalNumbers { pid: stat.pid, session: stat.session })
}

/// The local numbers of the process that `/proc` shows under `number`. `None` if it is not in our PID namespace.
#[must_use]
#[cfg(linux)]
pub fn local_numbers(number: u32) -> Option<LocalNumbers> {
    if namespace_of(number)? != pid_namespace() {
        return None;
    }
    let status = read_small(&format!("/proc/{number}/status"))?;
    // The number in the innermost namespace comes last (`proc_pid_status(5)`).
    let last = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().last()?.parse().ok()
    };
    Some(LocalNumbers { pid: last("NSpid:")?, session: last("NSsid:")? })
}

/// Returns true if `/proc` hides the processes of other users (`hidepid=2`, `proc(5)`): otherwise it always shows
/// process 1.
#[must_use]
pub fn are_hidden() -> bool {
    #[cfg(not(linux))]
    return read_stat(1).is_none();
    #[cfg(linux)]
    !Path::new("/proc/1").exists()
}

/// The PID namespace of a process. `None` if it is not known or this process may not see it.
#[must_use]
pub fn namespace_of(pid: u32) -> Option<u64> {
    #[cfg(not(linux))]
    return read_stat(pid).map(|_| 0);
    #[cfg(linux)]
    parse_namespace(&fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?)
}

/// The result of [`pid_namespace`]; 0 if it was not read yet.
static OWN_NAMESPACE: AtomicU64 = AtomicU64::new(0);

/// The PID namespace of this process. 0 if it is not known.
#[must_use]
pub fn pid_namespace() -> u64 {
    if cfg!(not(linux)) {
        return 0;
    }
    let known = OWN_NAMESPACE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // Reading the text of the link, such as `pid:[4026531836]`, takes half as long as reading its inode.
    let read = fs::read_link("/proc/self/ns/pid").ok().and_then(|link| parse_namespace(&link)).unwrap_or(0);
    OWN_NAMESPACE.store(read, Ordering::Relaxed);
    read
}

/// Forgets the PID namespace, for a child after fork(2): the child is in another one if the process was started with
/// `unshare --pid`.
pub(in crate::os) fn forget_namespace() {
    OWN_NAMESPACE.store(0, Ordering::Relaxed);
}

pub(super) fn parse_namespace(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The id of the present boot of this machine. Two machines, or two boots of one, never have the same id.
#[must_use]
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        #[cfg(not(linux))]
        return portable::read_boot_id();
        #[cfg(linux)]
        {
            let mut id = read_short("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            id.truncate(id.trim_end().len());
            id
        }
    })
}
