//! The numbers in `/proc/PID/stat` (`proc_pid_stat(5)`): parent, group, session, terminal and start time of a process;
//! and the list of all processes.

use super::read::read_small;
use crate::os::clock::ticks_per_second;
#[cfg(linux)]
use crate::os::directory::{Directory, EntryBuffer};
#[cfg(not(linux))]
use crate::os::{clock::ticks_since_boot, proc::portable};
use std::collections::BTreeSet;
#[cfg(linux)]
use std::fs;
use std::io;
use std::time::Duration;

/// The start time of a process, in clock ticks since boot (field 22). `None` if the process does not exist.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    #[cfg(linux)]
    let start = stat_field(pid, 22);
    #[cfg(not(linux))]
    let start = portable::read_process(pid).map(|facts| facts.start);
    start
}

/// The process that started `pid`, or that adopted it when its parent ended (field 4). 0 if that process is not visible
/// from this PID namespace.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    #[cfg(linux)]
    let parent = u32::try_from(stat_field(pid, 4)?).ok();
    #[cfg(not(linux))]
    let parent = portable::read_process(pid).map(|facts| facts.parent);
    parent
}

/// Maximum number of ancestors that are considered: the processes can change while the list is read.
const MAX_ANCESTORS: usize = 256;

/// The ancestors of a process, its parent first.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(parent(pid), |pid| parent(*pid)).take_while(|pid| *pid > 0).take(MAX_ANCESTORS)
}

/// The number of ancestors of a process. Each process has more of them than its parent, so signals that are sent in this order reach
/// a shell before the program for which it waits: otherwise, the shell could go on with its next command in between. The numbers of
/// processes are not in this order after they have wrapped around.
#[must_use]
pub fn count_ancestors(pid: u32) -> usize {
    ancestors(pid).count()
}

/// The state of a process, or of its first thread if it has several (field 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It runs, or is ready to run.
    Running,
    /// It waits for an event, and a signal can end the wait.
    Sleeping,
    /// It waits for an event, and no signal ends the wait. Most processes that use a disk are in this state for an instant.
    Uninterruptible,
    /// A signal has stopped it, such as SIGSTOP or the one of Ctrl-Z.
    Stopped,
    /// It is stopped by the process that traces it.
    Traced,
    /// The first thread has ended, and others still run.
    Zombie,
}

impl RunState {
    fn parse(letter: &str) -> Self {
        match letter {
            "R" => Self::Running,
            "D" => Self::Uninterruptible,
            "T" => Self::Stopped,
            "t" => Self::Traced,
            "Z" | "X" => Self::Zombie,
            _ => Self::Sleeping,
        }
    }

    /// The word for the state in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "uninterruptible",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Zombie => "zombie",
        }
    }
}

/// Returns all ancestors of a process. `None` if the parent of one of them cannot be determined, although it is there.
#[must_use]
pub fn all_ancestors(pid: u32) -> Option<BTreeSet<u32>> {
    let (mut all, mut last) = (BTreeSet::new(), pid);
    while all.len() < MAX_ANCESTORS {
        match parent(last).or_else(|| parent(last)) {
            Some(0) => break,
            Some(parent) => {
                all.insert(parent);
                last = parent;
            }
            // A process that has ended, or one of another user that is hidden from this one.
            None if is_missing(last) => break,
            None => return None,
        }
    }
    Some(all)
}

/// Returns true if there is no process with this number, and false if it may be hidden.
fn is_missing(pid: u32) -> bool {
    #[cfg(linux)]
    let is_missing = fs::symlink_metadata(format!("/proc/{pid}"));
    #[cfg(linux)]
    let is_missing = is_missing.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    #[cfg(not(linux))]
    let is_missing = !crate::os::signal::exists(pid);
    is_missing
}

/// A process that had not ended when its line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    /// The process that started it, or that adopted it (field 4).
    pub parent: u32,
    /// The number of its process group (field 5).
    pub group: u32,
    /// The number of the process that began its session (field 6).
    pub session: u32,
    /// The process group that is in the foreground of its terminal (field 8); -1 if there is none.
    pub foreground: i64,
    /// The device of its terminal (field 7); 0 if it has none.
    pub terminal: u64,
    /// Its start time in clock ticks since boot (field 22).
    pub start: u64,
    /// The number of its threads (field 20).
    pub threads: u32,
    pub state: RunState,
}

/// Reads the line of a process. `None` if the process has ended.
#[must_use]
pub fn read_stat(pid: u32) -> Option<ProcessStat> {
    #[cfg(linux)]
    let stat = parse_stat(pid, &read_small(&format!("/proc/{pid}/stat"))?);
    #[cfg(not(linux))]
    let stat = from_facts(portable::read_process(pid)?);
    stat
}

/// Returns the numbers of a process on another system. `None` if it has ended.
#[cfg(not(linux))]
fn from_facts(facts: portable::ProcessFacts) -> Option<ProcessStat> {
    (!matches!(facts.state, "Z" | "X")).then(|| ProcessStat {
        pid: facts.pid,
        parent: facts.parent,
        group: facts.group,
        session: facts.session,
        foreground: facts.foreground,
        terminal: 0,
        threads: 1,
        start: facts.start,
        state: RunState::parse(facts.state),
    })
}

pub(super) fn parse_stat(pid: u32, stat: &str) -> Option<ProcessStat> {
    // The first of these is field 3, the state.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    let number = |at: usize| field(at).and_then(|value: u64| u32::try_from(value).ok());
    // `Z` and `X`: the process has ended and waits for its parent to collect the status, or only its first thread has
    // ended and others still run.
    if matches!(fields.first(), None | Some(&"Z" | &"X")) && number(20).is_none_or(|threads| threads < 2) {
        return None;
    }
    Some(ProcessStat {
        pid,
        parent: number(4)?,
        group: number(5)?,
        session: number(6)?,
        terminal: field(7)?,
        foreground: fields.get(8 - 3)?.parse().ok()?,
        start: field(22)?,
        threads: number(20)?,
        state: RunState::parse(fields.first()?),
    })
}

/// Reads the lines of all visible processes that have not ended.
#[must_use]
pub fn read_all_stats() -> Vec<ProcessStat> {
    #[cfg(linux)]
    let all = all_pids().into_iter().filter_map(read_stat).collect();
    #[cfg(not(linux))]
    let all = portable::list_processes().unwrap_or_default().into_iter().filter_map(from_facts).collect();
    all
}

/// The numbers of all visible processes. Empty if `/proc` cannot be listed.
#[must_use]
pub fn all_pids() -> Vec<u32> {
    try_all_pids().unwrap_or_default()
}

/// The numbers of all visible processes, or the reason why they cannot be listed.
#[cfg(not(linux))]
pub(crate) fn try_all_pids() -> io::Result<Vec<u32>> {
    portable::list_pids()
}

/// The numbers of all visible processes, or the reason why `/proc` cannot be listed.
#[cfg(linux)]
pub(crate) fn try_all_pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::with_capacity(1024);
    Directory::open(c"/proc")?.for_each(&mut EntryBuffer::new(), |name, _| {
        if name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
            pids.extend(name.to_str().ok().and_then(|name| name.parse::<u32>().ok()));
        }
    })?;
    Ok(pids)
}

impl ProcessStat {
    /// The time since the process was started.
    #[must_use]
    #[cfg(not(linux))]
    pub fn age(&self) -> Option<Duration> {
        let hundredths = ticks_since_boot().saturating_sub(self.start) * 100 / u64::from(ticks_per_second());
        Some(Duration::from_millis(hundredths * 10))
    }

    /// The time since the process was started.
    #[must_use]
    #[cfg(linux)]
    pub fn age(&self) -> Option<Duration> {
        let uptime: f64 = read_small("/proc/uptime")?.split_ascii_whitespace().next()?.parse().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "2^52 ticks are more than a million years")]
        let started = self.start as f64 / f64::from(ticks_per_second());
        Some(Duration::from_secs_f64((uptime - started).max(0.0)))
    }

    /// The name of its terminal without `/dev/`, from the device numbers of the kernel (`devices.txt`).
    #[must_use]
    pub fn terminal_name(&self) -> Option<String> {
        let (major, minor) = (self.terminal >> 8 & 0xfff, (self.terminal & 0xff) | (self.terminal >> 12 & 0xfff00));
        match major {
            136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
            4 if minor < 64 => Some(format!("tty{minor}")),
            4 => Some(format!("ttyS{}", minor - 64)),
            5 if minor == 1 => Some("console".to_owned()),
            _ => None,
        }
    }
}

/// Reads one field of the line of a process. Fields are counted from 1, as in `proc_pid_stat(5)`.
pub(super) fn stat_field(pid: u32, number: usize) -> Option<u64> {
    parse_stat_field(&read_small(&format!("/proc/{pid}/stat"))?, number)
}

pub(super) fn parse_stat_field(stat: &str, number: usize) -> Option<u64> {
    // The name of the program stands in parentheses and may hold any text, also `) `: its end is the last parenthesis.
    // The next field is the third.
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(number - 3)?.parse().ok()
}
