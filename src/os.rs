//! The only system calls: flock and locks of ranges, file identity, the timer, descriptors, starting commands, watching
//! a directory, what a directory is known by, and binding to a port on trial.
//!
//! Each `unsafe` block is a call into libc with arguments that live long enough; the reason beside it says
//! what makes it so. Locks are waited for by the first thread alone: another could win the shared description after
//! failure was reported. The second one that there is meanwhile (`lock/wait.rs`) only waits for its end when a command is
//! started.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

mod append;
mod command;
mod copier;
mod detach;
mod examine;
mod forward;
mod identity;
mod interrupt;
mod lease;
mod listening;
mod owner;
mod poll;
mod probe;
pub mod proc;
mod range;
pub mod replace;
mod screen;
mod signal;
mod thread;
mod timer;
mod unlock;
mod watch;

pub use append::write_once;
pub use command::{Child, Command, by_execvp};
pub use copier::Copier;
pub use detach::{
    adopt_orphans, close_inherited_except, detached, quiet_stdio, redirect_output, write_some, write_until_signal,
};
pub use examine::{
    Right, Rival, Room, limit_of_file_size, limit_of_open_files, may, raise_limit_of_open_files, room, undisturbed,
};
pub use forward::Forward;
pub use identity::{Identity, identity};
pub use interrupt::{Interrupts, die_of, heed_keyboard, ignores_keyboard};
pub use lease::be_alone;
pub use listening::listens;
pub use owner::as_owner;
pub use poll::{can_be_written, wait_for_any};
pub use probe::{Transport, Trial, try_bind};
pub use range::{Range, range_in_the_way, try_lock_range, unlock_range, wait_lock_range};
pub use screen::{Event, Screen};
pub use signal::{Process, exists, signal_child, signal_group};
pub use thread::{map_in_threads, with_companion};
pub use timer::Alarm;
pub use unlock::UnlocksAtEnd;
pub use watch::{Bell, Watch, can_watch};

use crate::lock::acquire::Mode;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

// ---- locks ---------------------------------------------------------------------------------------------

/// Takes the lock if it can be had at once. `false`: another has it.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let done = match mode {
        Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
        Mode::Shared => fs2::FileExt::try_lock_shared(file),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Blocks until the lock is had, or until a signal comes ([`io::ErrorKind::Interrupted`]).
pub fn wait_lock(file: &File, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Exclusive => fs2::FileExt::lock_exclusive(file),
        Mode::Shared => fs2::FileExt::lock_shared(file),
    }
}

/// Releases the lock for every duplicate of the descriptor at once.
pub fn unlock(file: &File) -> io::Result<()> {
    fs2::FileExt::unlock(file)
}

/// Whether two open files are one.
pub fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Has what was written to a new file on its way to the disk before anything that is done to it afterwards, such as a
/// rename: a loss of power leaves none of that, or all. It is not there yet when this returns.
///
/// With a journal that takes no more than to wait for the data (`sync_file_range(2)`): what the file system writes down
/// about the file afterwards it writes in order, and has the disk write the data first. Where there is no such call the
/// file is on disk when this returns.
#[cfg(target_os = "linux")]
pub fn order(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: it takes numbers, and the descriptor is open.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if [libc::EIO, libc::ENOSPC, libc::EDQUOT].contains(&error.raw_os_error().unwrap_or(0)) => Err(error),
        _ => file.sync_all(),
    }
}

/// Has the file on disk when this returns.
#[cfg(not(target_os = "linux"))]
pub fn order(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// The name of the file system on which `path` is, or its number.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let Ok(path) = CString::new(path.as_os_str().to_owned().into_vec()) else { return String::new() };
    // SAFETY: all bytes zero are a valid `statfs`, and it is ours to be written to.
    let mut data: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `path` ends in NUL and `data` lives until the call returns.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut data) } != 0 {
        return "this file system".to_owned();
    }
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the type differs between systems")]
    let number = data.f_type as u64 & 0xffff_ffff;
    // statfs(2) lists these; the ones on which locks are known to fail, or to be switched off.
    match number {
        0x6969 => "NFS".to_owned(),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB".to_owned(),
        0x6573_5546 => "FUSE".to_owned(),
        0x0102_1997 => "9P".to_owned(),
        0x00c3_6400 => "Ceph".to_owned(),
        0x5346_414f => "AFS".to_owned(),
        0x0bd0_0bd0 => "Lustre".to_owned(),
        number => format!("the file system of type {number:#x}"),
    }
}

// ---- descriptors ---------------------------------------------------------------------------------------

/// Opens `/dev/null` on each of the descriptors 0 to 2 that is closed: else the next file that we open would
/// get that number, and a message would be written into a lock file. A command finds them closed, as they were.
pub fn fill_standard_descriptors() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD only asks.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: a constant path that ends in NUL. The lowest free number is `fd`.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// A second descriptor of the open file description behind `fd`. `None`: `fd` is not open.
///
/// Closing the second one releases nothing as long as the first is open.
#[must_use]
pub fn second_descriptor(fd: RawFd) -> Option<File> {
    if fd < 0 {
        return None;
    }
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// Gives `file` to the commands that we start, on descriptor `lowest` or the next that is free above it, or on
/// the number that it has where the limit of descriptors does not allow that. Returns the number.
///
/// Scripts use the low numbers as they please (`exec 3>log`), and would drop the lock.
pub fn hand_down(file: &File, lowest: RawFd) -> io::Result<RawFd> {
    let fd = file.as_raw_fd();
    // SAFETY: F_DUPFD makes a new descriptor without FD_CLOEXEC, or answers -1.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD, lowest) };
    if high >= 0 {
        return Ok(high);
    }
    share(file).map(|()| fd)
}

/// Makes room for descriptors up to `highest`. In a process with threads the kernel takes milliseconds for that (it waits
/// for a grace period of RCU), in one without nearly no time.
pub fn make_room(file: &File, highest: RawFd) {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, or answers -1.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if fd >= 0 {
        // SAFETY: the descriptor is new, open, and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The descriptors above 2 that this process inherited: our own are closed when we become another program.
#[must_use]
pub fn inherited_descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let fds = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // SAFETY: F_GETFD only asks.
    fds.filter(|fd| *fd > 2 && unsafe { libc::fcntl(*fd, libc::F_GETFD) } == 0).collect()
}

/// Makes process `pid` the owner of the open file description (`F_SETOWN`), for all copies of the descriptor. 0: none.
pub fn set_owner(file: &File, pid: u32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: it takes numbers. No signal is sent to the owner unless a process asks for that (`O_ASYNC`).
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, pid) };
    }
}

/// The owner of the open file description. `None`: it has none, that has ended, or it is of another pid namespace.
#[must_use]
pub fn owner(file: &File) -> Option<u32> {
    // SAFETY: it only asks.
    let owner = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETOWN) };
    u32::try_from(owner).ok().filter(|pid| *pid != 0)
}

/// The descriptor `fd` that our caller has open, without a copy of it. `None`: it is not open.
#[must_use]
pub fn callers_descriptor(fd: RawFd) -> Option<ManuallyDrop<File>> {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // What `fill_standard_descriptors` put there is ours. (What is handed down by exec cannot have this flag.)
    if flags < 0 || (fd <= 2 && flags & libc::FD_CLOEXEC != 0) {
        return None;
    }
    // SAFETY: it is open, and this is not dropped, so it is not closed.
    Some(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

/// Gives `file` to the commands that we start, on the number that it has.
pub fn share(file: &File) -> io::Result<()> {
    // SAFETY: F_SETFD sets one flag of a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has reading and writing of a file wait that was opened with `O_NONBLOCK`, and with none of the flags that can be changed
/// beside it.
pub fn let_wait(file: &File) {
    // SAFETY: F_SETFL sets flags of a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
}

/// Keeps descriptor `fd` from the commands that we start.
pub fn keep_back(fd: RawFd) {
    // SAFETY: F_SETFD sets one flag, or answers -1 for one that is not open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Whether `fd` is a terminal.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: 0 to 2 are open since `fill_standard_descriptors`, and the borrow ends with the call.
    std::io::IsTerminal::is_terminal(&unsafe { BorrowedFd::borrow_raw(fd) })
}

/// How many columns the terminal on `fd` has.
#[must_use]
pub fn terminal_width(fd: RawFd) -> usize {
    terminal_size(fd).0
}

/// How many columns and rows the terminal on `fd` has.
#[must_use]
pub fn terminal_size(fd: RawFd) -> (usize, usize) {
    // SAFETY: all bytes zero are a valid `winsize`, and it is ours to be written to.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: `size` lives until the call returns.
    let done = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    let or = |number: u16, usual| if done == 0 && number > 0 { usize::from(number) } else { usual };
    (or(size.ws_col, 80), or(size.ws_row, 24))
}

/// Runs `write` so that a limit on the size of files (`ulimit -f`) is an error of it, and not the end of the process.
pub fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    without_signal(libc::SIGXFSZ, write)
}

/// Runs `write` while this signal is ignored.
fn without_signal<T>(signal: libc::c_int, write: impl FnOnce() -> T) -> T {
    // SAFETY: all bytes zero are valid for these types, and they live until each call returns.
    unsafe {
        let (mut ignore, mut old): (libc::sigaction, libc::sigaction) = mem::zeroed();
        ignore.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(signal, &raw const ignore, &raw mut old);
        let done = write();
        libc::sigaction(signal, &raw const old, ptr::null_mut());
        done
    }
}

// ---- who we are ----------------------------------------------------------------------------------------

/// Whether the last part of the name by which we were called is `name`.
///
/// # Safety
///
/// `words` is what the C library gives to `main`.
#[must_use]
pub unsafe fn is_called(words: *const *const libc::c_char, name: &CStr) -> bool {
    // SAFETY: the list ends in a null pointer, and each text in NUL.
    let called = unsafe {
        if (*words).is_null() {
            return false;
        }
        CStr::from_ptr(*words).to_bytes()
    };
    called.rsplit(|byte| *byte == b'/').next() == Some(name.to_bytes())
}

/// Which modes new files of this process do not get.
#[must_use]
pub fn umask() -> u32 {
    // SAFETY: it cannot fail, and there is no other thread that could make a file in between.
    unsafe {
        let mask = libc::umask(0o077);
        libc::umask(mask);
        mask
    }
}

/// Runs `action` without a umask, so that a directory gets exactly the mode that it is made with. To change the mode afterwards by
/// the path would not be safe: another user could put a link there between the two steps.
pub fn without_umask<T>(action: impl FnOnce() -> T) -> T {
    // SAFETY: it cannot fail, and there is no other thread that could make a file in between.
    unsafe {
        let mask = libc::umask(0);
        let done = action();
        libc::umask(mask);
        done
    }
}

/// The effective user of this process.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}

/// The process that started this one. 0 when it is in another pid namespace.
#[must_use]
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// How many clock ticks a second has, where the kernel counts in these (`sysconf(3)`).
#[must_use]
pub fn ticks_per_second() -> u32 {
    // SAFETY: it takes a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u32::try_from(ticks).unwrap_or(100).max(1)
}

/// How many clock ticks this machine has been on, also asleep: the clock by which `/proc` tells when a process started.
#[must_use]
pub fn ticks_since_boot() -> u64 {
    // SAFETY: all bytes zero are a valid time, which lives until the call returns.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
        time
    };
    let ticks = u64::from(ticks_per_second());
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * ticks + nanoseconds / (1_000_000_000 / ticks)
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    // SAFETY: all bytes zero are a valid `utsname`, and it is ours to be written to.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `names` lives until the call returns.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return String::new();
    }
    // SAFETY: uname(2) ends the name with NUL.
    unsafe { CStr::from_ptr(names.nodename.as_ptr()) }.to_string_lossy().into_owned()
}
