//! Cleanup: kills all processes that the benchmarks started and removes their directory, whether the program ends normally, with a
//! panic or by a signal.
//!
//! The program is a subreaper: orphaned descendants become its children, so that it finds all of them at the end.

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

/// Its holder may start a process or begin the cleanup.
static STARTING: Mutex<()> = Mutex::new(());

/// The pipe through which the signal handler wakes the thread that cleans up.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

fn lock_starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, every end of the program removes this directory and kills all processes.
pub(crate) fn take_charge(directory: &Path) {
    DIRECTORY.set(directory.to_owned()).unwrap();
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    std::panic::set_hook(Box::new(|panic| {
        // The cleanup comes first: a signal may have ended the processes, and then this failure must not be reported.
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

/// Handles signals with a handler and a thread. A signal mask would be inherited by the processes that are measured.
fn end_at_signals() {
    extern "C" fn wake_thread(signal: libc::c_int) {
        let byte = u8::try_from(signal).unwrap_or(0);
        // SAFETY: write(2) is safe in a signal handler; the byte lives until it returns.
        unsafe { libc::write(SIGNAL_PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    }
    let (mut reader, writer) = io::pipe().unwrap();
    SIGNAL_PIPE.store(writer.as_raw_fd(), Ordering::Relaxed);
    thread::spawn(move || {
        // The handler has the number of the descriptor, so it must stay open.
        let _writer = writer;
        let mut signal = [0];
        reader.read_exact(&mut signal).unwrap();
        // The guard stays locked, so that no other thread starts a process.
        let _starting = kill_all();
        let signal = i32::from(signal[0]);
        // SAFETY: SIG_DFL is a valid action, and the numbers are those of a signal.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    });
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = wake_thread as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler makes one system call. The kernel restarts the calls that it interrupts.
        unsafe {
            // A signal that the parent ignores, as for a background job, stays ignored.
            if libc::signal(signal, handler) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Starts a process in a new session, as cron and service managers do. Blocks forever during the cleanup.
pub(crate) fn start_child(command: &mut Command) -> Child {
    let begin_session = || {
        // SAFETY: it takes nothing.
        if unsafe { libc::setsid() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the function makes one system call between fork and exec.
    unsafe { command.pre_exec(begin_session) };
    let starting = lock_starting();
    let child = command.spawn();
    drop(starting);
    child.unwrap_or_else(|error| panic!("could not start {}: {error}", command.get_program().display()))
}

/// Reaps orphaned descendants. It would also reap children that another function waits for, so none may be running.
pub(crate) fn reap_orphans() {
    // SAFETY: it takes numbers, and a null pointer for the status.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Kills all processes and removes the directory.
pub(crate) fn clean_up() {
    drop(kill_all());
}

fn kill_all() -> MutexGuard<'static, ()> {
    let starting = lock_starting();
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        for pid in list_children() {
            // SAFETY: it takes numbers. The pid of a child that was not reaped cannot belong to another process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        reap_orphans();
        // SAFETY: as in `reap_orphans`.
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

fn list_children() -> Vec<libc::pid_t> {
    let ours = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_ours = |pid: &libc::pid_t| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&ours)
    };
    pids.filter(is_ours).collect()
}
