//! A lease that is lost: telling and ending those who have the lock.
//!
//! These are the processes that have the very lock file of the keeper open with a lock on it: the script, and what
//! inherited its descriptor. Each is held by a descriptor of its own, and looked at after that, so that no signal goes to one
//! that was given its number. What may not be looked into, as another user's process, cannot be ended.

use crate::keep::Charge;
use crate::report;
use crate::settings;
use crate::sys as our_sys;
use aba_lock::base::environment::NAME;
use aba_lock::lock::{inherit, kill};
use aba_lock::os;
use aba_lock::os::proc::lock_table::{self, Wanted};
use aba_lock::os::proc::process;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Those who have the lock.
pub(crate) struct Holders {
    file: Wanted,
    found: Vec<Holder>,
}

struct Holder {
    pid: u32,
    start: u64,
    process: os::Process,
}

impl Holders {
    /// Those who have a lock on the file that is open as `file`.
    pub(crate) fn of(file: &File) -> Self {
        let file = wanted(file);
        let (dev, ino) = (file.dev, file.ino);
        let look = lock_table::look(std::process::id(), &AtomicBool::new(false), |descriptor| {
            let same = (descriptor.data.dev(), descriptor.data.ino()) == (dev, ino);
            (same && descriptor.lock().is_some()).then_some(descriptor.pid)
        });
        let mut pids = look.found;
        pids.dedup();
        let holder = |pid: u32| {
            let start = process::seen(pid)?.start;
            Some(Holder { pid, start, process: os::Process::open(pid, start)? })
        };
        Self { file, found: pids.into_iter().filter_map(holder).collect() }
    }

    fn send(&self, signal: i32) -> usize {
        let proved =
            |holder: &&Holder| process::is_alive(holder.pid, holder.start) && lock_table::holds(holder.pid, &self.file);
        self.found.iter().filter(proved).filter(|holder| holder.process.signal(signal).is_ok()).count()
    }

    /// Asks them to end.
    pub(crate) fn terminate(&self) {
        self.send(kill::TERM);
        // One that is stopped acts on it only when it goes on.
        self.send(libc::SIGCONT);
    }

    /// Ends them. How many there were.
    pub(crate) fn kill(&self) -> usize {
        self.send(kill::KILL)
    }
}

/// The lock file, as the kernel knows it.
fn wanted(file: &File) -> Wanted {
    let (dev, ino) = file.metadata().map_or((0, 0), |data| (data.dev(), data.ino()));
    Wanted { dev, ino, path: PathBuf::new(), lost: false }
}

/// Says on the script's stderr what is about to happen, as nobody could guess it from a signal; where that cannot be written
/// to at once, in the system's log.
pub(crate) fn tell(charge: &Charge, holders: &Holders, is_gone: bool, left: Duration) {
    let pids = holders.found.iter().map(|holder| holder.pid);
    let script = if pids.clone().any(|pid| pid == charge.holder) { Some(charge.holder) } else { pids.clone().next() };
    let Some(script) = script else { return };
    let (name, server) = (&charge.lease.name, &charge.settings.label);
    let why = if is_gone {
        format!("the lease on {name} is gone from {server}: it was not renewed in time, or somebody ended it")
    } else {
        format!("the lease on {name} could not be renewed at {server}, and ends in {} s", left.as_secs())
    };
    let what = match &charge.on_lost {
        settings::OnLost::Term => {
            let all: Vec<String> = pids.map(|pid| pid.to_string()).collect();
            format!("; ending pid {}", all.join(" "))
        }
        settings::OnLost::Warn => String::new(),
        settings::OnLost::Run(command) => format!("; running `{command}`"),
    };
    let text = format!("{why}{what}");
    // Had now, and not kept: whoever reads it is not to wait for the end of the keeper. If it is a file, what the script writes
    // later comes behind it.
    if our_sys::Theirs::of(script, 2).and_then(|stderr| report::tell(&stderr, &text)).is_ok() {
        return;
    }
    // Not every kernel lets us. A terminal must not become ours.
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = options.open(format!("/proc/{script}/fd/2"));
    if opened.and_then(|stderr| report::tell_by(&stderr, &text)).is_err() {
        report::log(script, &text);
    }
}

/// A process that was killed.
pub(crate) struct Killed {
    /// Its stderr, for a message: unknown before Linux 5.6, and of a process that may not be looked into.
    stderr: Option<our_sys::Theirs>,
}

/// Kills the process for which the lock was taken. `None`: it does not hold the lock any more. This looks at that one process
/// alone: a search of all processes would give it some milliseconds more.
pub(crate) fn kill_script(charge: &Charge, file: &File) -> Option<Killed> {
    // First the descriptor of the process, then the look at what it holds: a process that gets the number in between is
    // looked at, but gets no signal.
    let number = process::number_of(charge.holder)?;
    let script = os::Process::open(number, process::start_time(number)?)?;
    if !lock_table::holds(number, &wanted(file)) {
        return None;
    }
    let stderr = our_sys::Theirs::of(charge.holder, 2).ok();
    script.signal(kill::KILL).is_ok().then_some(Killed { stderr })
}

/// Reports why the holders of a lock were killed without a warning: on the stderr of the script, or in the system's log.
pub(crate) fn tell_of_freeze(charge: &Charge, script: Option<Killed>) {
    let (name, server) = (&charge.lease.name, &charge.settings.label);
    let text = format!(
        "the lease on {name} at {server} ended while its holder was stopped or the machine was suspended; killed the \
         holder, because another process may hold {name} now"
    );
    let stderr = script.and_then(|script| script.stderr);
    if stderr.is_none_or(|stderr| report::tell(&stderr, &text).is_err()) {
        report::log(charge.holder, &text);
    }
}

/// Runs the command that was given for this, by the shell, in a process group of its own: so it can be ended with what it has
/// started.
pub(crate) fn run(charge: &Charge, command: &str) -> io::Result<Child> {
    let mut shell = settings::shell();
    let words = inherit::by_shell(command, OsStr::new(&charge.lease.name));
    shell.args(&words[1..]).env(NAME, &charge.lease.name);
    shell.env("ABA_LOCK_PID", charge.holder.to_string()).process_group(0);
    our_sys::hearing(&mut shell).spawn()
}
