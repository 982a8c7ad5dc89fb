//! What `/proc` tells of a process. Elsewhere than on Linux there is none, and each answer is "not known".

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::os::clock::ticks_per_second;
use crate::os::signal::exists;
use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Maximum number of processes above another that are considered: the list changes while it is read.
const MAX_ANCESTORS: usize = 256;

/// The processes above another, its parent first.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(parent(pid), |pid| parent(*pid)).take_while(|pid| *pid > 0).take(MAX_ANCESTORS)
}

/// A process among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub pid: u32,
    /// The process that started it, or that took it over (`proc_pid_stat(5)`, field 4).
    pub parent: u32,
    /// The number of its process group (field 5).
    pub group: u32,
    /// The number of the process that began its session (field 6).
    pub session: u32,
    /// The process group that is in the foreground of its terminal (field 8); -1 if there is none.
    pub foreground: i64,
    /// The device of its terminal (field 7); 0 if it has none.
    pub terminal: u64,
    /// When it started, in clock ticks since boot (field 22).
    pub start: u64,
}

/// A process that has not ended.
#[must_use]
pub fn seen(pid: u32) -> Option<Seen> {
    seen_in(pid, &read_small(&format!("/proc/{pid}/stat"))?)
}

fn seen_in(pid: u32, stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    // The first of them is the third; `Z` and `X` have ended, and only wait for their parent to notice; or their first thread has,
    // and others go on.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    let number = |at: usize| field(at).and_then(|value: u64| u32::try_from(value).ok());
    if matches!(fields.first(), None | Some(&"Z" | &"X")) && number(20).is_none_or(|threads| threads < 2) {
        return None;
    }
    Some(Seen {
        pid,
        parent: number(4)?,
        group: number(5)?,
        session: number(6)?,
        terminal: field(7)?,
        foreground: fields.get(8 - 3)?.parse().ok()?,
        start: field(22)?,
    })
}

/// All processes that can be seen from here and have not ended.
#[must_use]
pub fn all_seen() -> Vec<Seen> {
    all_pids().into_iter().filter_map(seen).collect()
}

/// The numbers of all processes that can be seen from here.
#[must_use]
pub fn all_pids() -> Vec<u32> {
    try_all_pids().unwrap_or_default()
}

/// The same, with the reason where they cannot be listed.
pub(crate) fn try_all_pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

impl Seen {
    /// How long ago it was started.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let uptime: f64 = read_small("/proc/uptime")?.split_ascii_whitespace().next()?.parse().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "2^52 ticks are more than a million years")]
        let started = self.start as f64 / f64::from(ticks_per_second());
        Some(Duration::from_secs_f64((uptime - started).max(0.0)))
    }

    /// The name of its terminal without `/dev/`, from the numbers that the kernel gives the devices (`devices.txt`).
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

/// What a process does in the kernel, in its words (`proc_pid_wchan(5)`). `None`: it runs, or that may not be seen.
#[must_use]
pub fn sleeps_in(pid: u32) -> Option<String> {
    read_small(&format!("/proc/{pid}/wchan")).filter(|place| place != "0" && !place.is_empty())
}

/// How many threads a process has (`proc_pid_stat(5)`, field 20).
#[must_use]
pub fn threads(pid: u32) -> Option<u64> {
    stat_field(pid, 20)
}

/// What the first thread of a process has started and what runs still (`proc_tid_children(5)`). Empty where that is not told.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let list = read_small(&format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// How often a process went to sleep, or was put aside: the same number again if it did not run in between (its first
/// thread, that is).
#[must_use]
pub fn times_it_slept(pid: u32) -> Option<u64> {
    let status = read_small(&format!("/proc/{pid}/status"))?;
    let numbers = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    numbers.map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// The pipes (by inode) of which a process reads one just now; FIFOs do not count. If the kernel does not tell us from which
/// descriptor it reads, all that it may read.
#[must_use]
pub fn pipes_it_reads(pid: u32) -> Vec<u64> {
    pipes_it_uses(pid, may_read)
}

/// The pipes (by inode) to one of which a process is writing now, found in the same way.
#[must_use]
pub fn pipes_it_writes(pid: u32) -> Vec<u64> {
    pipes_it_uses(pid, may_write)
}

fn pipes_it_uses(pid: u32, may_use: fn(&Path) -> bool) -> Vec<u64> {
    let descriptors: Vec<PathBuf> = if let Some(number) = call_arguments(pid).first() {
        vec![PathBuf::from(format!("/proc/{pid}/fd/{number}"))]
    } else {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| may_use(path)).collect()
    };
    let pipe = |path: &PathBuf| if is_pipe(path) { Some(fs::metadata(path).ok()?.ino()) } else { None };
    descriptors.iter().filter_map(pipe).collect()
}

/// The arguments of the system call in which a process sleeps (`proc_pid_syscall(5)`). Empty where they are not told: under
/// Yama they are for those above it alone.
pub(crate) fn call_arguments(pid: u32) -> Vec<u64> {
    // In front of them stands the number of the call, without `0x`.
    arguments_in(&read_small(&format!("/proc/{pid}/syscall")).unwrap_or_default())
}

fn arguments_in(call: &str) -> Vec<u64> {
    call.split(' ').skip(1).map_while(|word| u64::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok()).collect()
}

/// Whether a descriptor, given as a link in `/proc/PID/fd`, is of a pipe without a name.
#[must_use]
pub fn is_pipe(descriptor: &Path) -> bool {
    fs::read_link(descriptor).is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"pipe:["))
}

/// Whether a descriptor, given as a link in `/proc/PID/fd`, may be written to. Also if that is not known.
#[must_use]
pub fn may_write(descriptor: &Path) -> bool {
    access(descriptor) != Some(libc::O_RDONLY)
}

/// Returns whether a descriptor, given as a link in `/proc/PID/fd`, may be read from. Also if that is not known.
#[must_use]
pub fn may_read(descriptor: &Path) -> bool {
    access(descriptor) != Some(libc::O_WRONLY)
}

/// Returns true if this process can write to the pipe with this inode.
#[must_use]
pub fn writes_to_pipe(inode: u64) -> bool {
    descriptors(std::process::id())
        .any(|(descriptor, data)| data.ino() == inode && is_pipe(&descriptor) && may_write(&descriptor))
}

/// The file in `/proc/PID/fdinfo` that belongs to a descriptor, given as a link in `/proc/PID/fd`.
pub(crate) fn info_of(descriptor: &Path) -> Option<PathBuf> {
    Some(descriptor.parent()?.parent()?.join("fdinfo").join(descriptor.file_name()?))
}

/// The directory in `/proc` of a thread that is not the first one, of a process that has several. Where the first thread has
/// ended, descriptors and words can be seen there alone.
pub(crate) fn other_thread(pid: u32) -> Option<PathBuf> {
    let threads = format!("/proc/{pid}/task");
    // Most processes have one thread; to see that takes one call.
    if fs::metadata(&threads).ok()?.nlink() < 4 {
        return None;
    }
    let first = pid.to_string();
    let mut others = fs::read_dir(threads).ok()?.flatten().filter(|thread| thread.file_name().to_str() != Some(&first));
    others.next().map(|thread| thread.path())
}

fn access(descriptor: &Path) -> Option<i32> {
    let info = read_small(info_of(descriptor)?.to_str()?)?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(i32::from_str_radix(flags.trim(), 8).ok()? & libc::O_ACCMODE)
}

/// The signals that a process ignores, signal 1 as the lowest bit. `None`: not known.
#[must_use]
pub fn ignored_signals(pid: u32) -> Option<u64> {
    signals_in_status(pid, "SigIgn:")
}

/// The signals that a process handles, signal 1 as the lowest bit. `None`: not known.
#[must_use]
pub fn caught_signals(pid: u32) -> Option<u64> {
    signals_in_status(pid, "SigCgt:")
}

fn signals_in_status(pid: u32, key: &str) -> Option<u64> {
    let status = read_small(&format!("/proc/{pid}/status"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Returns whether a process has timers of `timer_create(2)`. Not if the kernel does not show them.
#[must_use]
pub fn has_timers(pid: u32) -> bool {
    read_small(&format!("/proc/{pid}/timers")).is_some_and(|timers| !timers.is_empty())
}

/// The words of its command line. Empty where they cannot be seen.
#[must_use]
pub fn words(pid: u32) -> Vec<String> {
    let text = command_text(pid, read_small);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The same of a process of whose number we know from elsewhere than from `/proc`, which may be of another pid namespace: empty
/// then.
#[must_use]
pub fn words_of_ours(pid: u32) -> Vec<String> {
    if has_our_numbers() { words(pid) } else { Vec::new() }
}

/// The pid namespace of a process. `None`: not known, or not ours to see.
#[must_use]
pub fn namespace_of(pid: u32) -> Option<u64> {
    namespace_in(&fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?)
}

/// Major and minor number of what is mounted where `path` is: the device by which the kernel's list of locks goes.
pub(crate) fn device_of_mount(path: &Path) -> Option<(u32, u32)> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).ok()?;
    let info = read_small(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
    let mounts = read_whole("/proc/self/mountinfo")?;
    let device = mounts
        .lines()
        .map(|line| line.split(' '))
        .find_map(|mut words| if words.next() == Some(id.as_str()) { words.nth(1) } else { None })?;
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
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
    given_in(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(), name)
}

fn given_in(environment: &[u8], name: &str) -> Given {
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

fn stat_field(pid: u32, number: usize) -> Option<u64> {
    stat_field_in(&read_small(&format!("/proc/{pid}/stat"))?, number)
}

fn stat_field_in(stat: &str, number: usize) -> Option<u64> {
    // The command's name stands in parentheses and may hold anything, `) ` too: the last one ends it. The field after it
    // is the third.
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// Whether the process that ran under `pid` at `tick` still does: who got its number from one that ended later, started later.
#[must_use]
pub fn is_alive(pid: u32, tick: u64) -> bool {
    start_time(pid).is_some_and(|start| is_not_later(pid, start, tick))
}

/// Returns whether a process that started at `start`, by our clock, was there at `tick`, by the clock of those who wrote that down. Both
/// clocks are the same, unless the process runs in another time namespace (`time_namespaces(7)`).
fn is_not_later(pid: u32, start: u64, tick: u64) -> bool {
    if start <= tick {
        return true;
    }
    let (ours, theirs) = (clock_offset("self"), clock_offset(&pid.to_string()));
    let shift = |ours: i64, theirs: i64| start.saturating_add_signed(theirs.saturating_sub(ours)) <= tick;
    matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs && shift(ours, theirs))
}

/// By how many clock ticks the clock of a process that counts since boot is ahead of the system's.
fn clock_offset(process: &str) -> Option<i64> {
    let text = read_small(&format!("/proc/{process}/timens_offsets"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let ticks = i64::from(ticks_per_second());
    Some(seconds.checked_mul(ticks)? + nanoseconds / (1_000_000_000 / ticks))
}

/// Whether the process that ran under `pid` at `tick` does no more. Not if that cannot be read: it may be hidden.
#[must_use]
pub fn has_ended(pid: u32, tick: u64) -> bool {
    start_time(pid).map_or_else(|| !exists(pid), |start| !is_not_later(pid, start, tick))
}

/// Whether there is a `/proc` that shows this process.
#[must_use]
pub fn can_be_seen() -> bool {
    fs::read_link("/proc/self").is_ok()
}

/// Whether `/proc` shows the processes by the numbers that they have here: not if it is that of another pid namespace.
#[must_use]
pub fn has_our_numbers() -> bool {
    fs::read_link("/proc/self").is_ok_and(|link| link.to_str() == Some(&std::process::id().to_string()))
}

/// The number under which `/proc` shows this process. `None`: it does not show it.
#[must_use]
pub fn own_number() -> Option<u32> {
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// The number under which `/proc` shows the process that has this number in our PID namespace. `None`: it does not show
/// it.
#[must_use]
pub fn number_of(pid: u32) -> Option<u32> {
    if has_our_numbers() {
        return Some(pid);
    }
    all_pids().into_iter().find(|number| numbers_here(*number).is_some_and(|here| here.pid == pid))
}

/// The numbers that a process has in our PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Here {
    /// Its own.
    pub pid: u32,
    /// Its session's.
    pub session: u32,
}

/// The numbers in our PID namespace of the process that a `/proc` of another namespace shows under this number. `None`: it
/// is not in our namespace.
#[must_use]
pub fn numbers_here(number: u32) -> Option<Here> {
    if namespace_of(number)? != pid_namespace() {
        return None;
    }
    here_in(&read_small(&format!("/proc/{number}/status"))?)
}

fn here_in(status: &str) -> Option<Here> {
    // The innermost namespace comes last (`proc_pid_status(5)`).
    let last = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().last()?.parse().ok()
    };
    Some(Here { pid: last("NSpid:")?, session: last("NSsid:")? })
}

/// Whether `/proc` hides those of others (`hidepid=2`, `proc(5)`): there is always a first process.
#[must_use]
pub fn are_hidden() -> bool {
    !Path::new("/proc/1").exists()
}

/// Whether its descriptors may be looked into.
#[must_use]
pub fn may_be_looked_into(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok()
}

/// Whether its descriptors may be listed, and none of them looked at, as of the first process of some machines. It may have
/// hundreds.
#[must_use]
pub fn is_guarded(pid: u32) -> bool {
    // The same right is asked for it (`PTRACE_MODE_READ_FSCREDS`, proc(5)), and nothing else.
    fs::read_link(format!("/proc/{pid}/cwd")).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The descriptors of a process, as links to what they are open on, with what that is. Those that cannot be looked at are
/// left out.
pub fn descriptors(pid: u32) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let looked_at = entries.map(|entry| entry.path()).map_while(move |path| match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_guarded(pid) => None,
        data => Some(data.ok().map(|data| (path, data))),
    });
    looked_at.flatten()
}

/// The command line of a process, quoted as a shell reads it; its name in brackets for one that has none.
/// Empty when it is not there.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let text = command_text(pid, read_short);
    if text.is_empty() {
        let name = name(pid);
        return if name.is_empty() { name } else { format!("[{name}]") };
    }
    let line = shell_words::join(text.strip_suffix('\0').unwrap_or(&text).split('\0'));
    // Who runs it chose the words: none of them is to steer the reader's terminal.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The command line of a process as the kernel gives it: empty for a kernel thread, and for a process that has ended.
fn command_text(pid: u32, read: fn(&str) -> Option<String>) -> String {
    let text = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !text.is_empty() {
        return text;
    }
    other_thread(pid).and_then(|thread| read(thread.join("cmdline").to_str()?)).unwrap_or_default()
}

/// The same of a process of whose number we know from elsewhere than from `/proc`, which may be of another pid namespace: empty
/// then.
#[must_use]
pub fn command_line_of_ours(pid: u32) -> String {
    if has_our_numbers() { command_line(pid) } else { String::new() }
}

/// The name of a process: of its program, at most 15 bytes of it. Empty when it is not there.
#[must_use]
pub fn name(pid: u32) -> String {
    read_small(&format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Which boot of which machine this is.
#[must_use]
pub fn boot_id() -> String {
    read_short("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

/// The pid namespace of this process. 0 when not known.
#[must_use]
pub fn pid_namespace() -> u64 {
    // The text of the link, `pid:[4026531836]`, costs half of what a look at its inode does.
    fs::read_link("/proc/self/ns/pid").ok().and_then(|link| namespace_in(&link)).unwrap_or(0)
}

fn namespace_in(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The user of a process.
#[must_use]
pub fn user_of(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|data| data.uid())
}

/// The number of a user of whom nothing is known.
pub const UNKNOWN_USER: u32 = u32::MAX;

/// The number that the kernel gives for each user who has none in our user namespace (`user_namespaces(7)`).
const UNMAPPED_USER: u32 = 65534;

/// The name of a user, else the number. From the passwd file: a static binary has no name service. Number 0 is root.
#[must_use]
pub fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    if !is_known_user(uid) {
        return "an unknown user".to_owned();
    }
    passwd_field(uid, 0).unwrap_or_else(|| uid.to_string())
}

/// Returns whether a number says which user it is: not if the user has no number in our user namespace.
#[must_use]
pub fn is_known_user(uid: u32) -> bool {
    uid != UNKNOWN_USER && (uid != UNMAPPED_USER || is_mapped(UNMAPPED_USER))
}

/// Returns whether a user's number exists in our user namespace: a line of the map is the first number here, the one outside, and how
/// many there are.
fn is_mapped(uid: u32) -> bool {
    let Some(map) = read_small("/proc/self/uid_map") else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (first, count) = (numbers.next(), numbers.nth(1));
        matches!((first, count), (Some(Ok(first)), Some(Ok(count))) if uid.checked_sub(first).is_some_and(|at| at < count))
    })
}

/// The home directory of a user, from the passwd file.
#[must_use]
pub fn home_of(uid: u32) -> Option<PathBuf> {
    passwd_field(uid, 5).map(PathBuf::from).filter(|home| home.is_absolute())
}

fn passwd_field(uid: u32, field: usize) -> Option<String> {
    // Most often one call reads it all.
    let passwd = match read_small("/etc/passwd")? {
        whole if whole.len() < SMALL => whole,
        _ => fs::read_to_string("/etc/passwd").ok()?,
    };
    passwd_field_in(&passwd, uid, field)
}

fn passwd_field_in(passwd: &str, uid: u32, field: usize) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').nth(field).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// How much of a file [`read_small`] reads.
const SMALL: usize = 4096;

/// The first 4 KiB of a file of `/proc`, with one call: these files have no size to go by, and are made anew by
/// each reader. Longer command lines are cut.
pub(crate) fn read_small(path: &str) -> Option<String> {
    try_read_small(path).ok()
}

/// The same, with the reason where it cannot be read.
pub(crate) fn try_read_small(path: &str) -> io::Result<String> {
    let mut bytes = [0; SMALL];
    let len = fs::File::open(path)?.read(&mut bytes)?;
    Ok(text(&bytes[..len]).into_owned())
}

/// How much of a file [`read_short`] reads at first.
const SHORT: usize = 512;

/// The same of one that is shorter most often: each call takes such looks, and so pays for the room that they need.
fn read_short(path: &str) -> Option<String> {
    let mut bytes = [0; SHORT];
    let len = fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    if len == SHORT { read_small(path) } else { Some(text(&bytes[..len]).into_owned()) }
}

/// The text that these bytes are; what is none is shown as U+FFFD. Faster than to look for that first.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A file of `/proc` as a whole, with few calls: some of these tell each reader what is there just then.
pub(crate) fn read_whole(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    fs::File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn this_process_has_a_start_time_and_a_command() {
        let pid = std::process::id();
        let start = start_time(pid).expect("/proc is there");
        assert!(is_alive(pid, start) && is_alive(pid, crate::os::clock::ticks_since_boot()));
        assert!(!is_alive(pid, start - 1));
        assert!(!command_line(pid).is_empty());
    }

    #[test]
    fn a_long_command_line_is_told_up_to_four_kibibytes() {
        for len in [SHORT - 40, SHORT, 3000, 2 * SMALL] {
            let word = "x".repeat(len);
            let mut command = Command::new("cat");
            let mut child = command.args(["-", &word]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            // For an instant it is the new program and has no arguments yet.
            let told = (0..1000).map(|_| thread::sleep(Duration::from_millis(1))).map(|()| command_line(child.id()));
            let told = told.into_iter().find(|told| told != "[cat]").unwrap_or_default();
            drop(child.stdin.take());
            child.wait().unwrap();
            let whole = format!("cat - {word}");
            assert_eq!(told, &whole[..whole.len().min(SMALL)], "of {len} bytes");
        }
    }
}
