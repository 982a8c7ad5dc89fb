//! What is left when we end: nothing, whether we come to our end, fail, or are ended by a signal.
//!
//! Orphans come to us, so everything that was started, by whomever, is found among our children in the end.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Who has it may start something, or end everything.
static STARTING: Mutex<()> = Mutex::new(());

/// The pipe by which a signal tells the thread that deals with it.
static BELL: AtomicI32 = AtomicI32::new(-1);

fn starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, nothing is left of this directory and of what we start.
pub(crate) fn answer_for(directory: &Path) {
    DIRECTORY.set(directory.to_owned()).unwrap();
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    std::panic::set_hook(Box::new(|panic| {
        // First: if a signal ended what we waited for, that is no failure to be told of.
        clean_up();
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or("failed");
        eprintln!("aba-lock-bench: {text}");
        if let Some(place) = panic.location() {
            eprintln!("hint: see {place}");
        }
        std::process::exit(1);
    }));
    end_at_signals();
}

/// Signals are noticed by a handler, not by a mask: a mask would be inherited by what we start.
fn end_at_signals() {
    extern "C" fn ring(signal: libc::c_int) {
        let byte = u8::try_from(signal).unwrap_or(0);
        // SAFETY: write(2) may be called in a handler; the byte lives until it returns.
        unsafe { libc::write(BELL.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    }
    let (mut reader, writer) = io::pipe().unwrap();
    BELL.store(writer.as_raw_fd(), Ordering::Relaxed);
    thread::spawn(move || {
        // Kept: the handler has its number.
        let _writer = writer;
        let mut signal = [0];
        reader.read_exact(&mut signal).unwrap();
        // Whoever would start something waits for ever.
        let _nobody = end_everything();
        let signal = i32::from(signal[0]);
        // SAFETY: SIG_DFL is a valid action, and the numbers are those of a signal.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    });
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = ring as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler makes one system call. Calls that it interrupts are started again.
        unsafe {
            // What our parent ignores, as for a background job, stays ignored.
            if libc::signal(signal, handler) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Starts a process in a session of its own, as cron and service managers do, unless we are ending.
pub(crate) fn start(command: &mut Command) -> Child {
    let begin_session = || {
        // SAFETY: it takes nothing.
        if unsafe { libc::setsid() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(begin_session) };
    let starting = starting();
    let child = command.spawn();
    drop(starting);
    child.unwrap_or_else(|error| panic!("could not start {}: {error}", command.get_program().display()))
}

/// Reaps the orphans that have come to us. Nothing that we wait for ourselves may run.
pub(crate) fn reap() {
    // SAFETY: it takes numbers, and a null pointer for what is of no interest.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Ends what runs, and removes the directory.
pub(crate) fn clean_up() {
    drop(end_everything());
}

fn end_everything() -> MutexGuard<'static, ()> {
    let starting = starting();
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        for pid in children() {
            // SAFETY: it takes numbers; a child that nobody has reaped is no other process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        reap();
        // SAFETY: as in `reap`.
        let none = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } < 0;
        if none || Instant::now() > give_up {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    if let Some(directory) = DIRECTORY.get() {
        let _ = fs::remove_dir_all(directory);
    }
    let _ = io::stdout().flush();
    starting
}

fn children() -> Vec<libc::pid_t> {
    let ours = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_ours = |pid: &libc::pid_t| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&ours)
    };
    pids.filter(is_ours).collect()
}
