//! More commands for locks with policies: slots, a maximum time, locks that end with a script.

use crate::environment::{self, UNWATCHED};
use crate::history::Journal;
use crate::kernel;
use crate::place::{append, is_free};
use serde_json::Value;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The time after which a process that should have been ended, or a lock that should have been released, is reported.
const OVERDUE: Duration = Duration::from_secs(25);

/// Runs the payload, and returns the exit status.
pub(crate) fn run(words: &[&str]) -> i32 {
    match *words {
        ["stay"] => stay(),
        ["stay-stubbornly"] => {
            kernel::ignore_termination();
            stay()
        }
        ["hold-until", over, place] => {
            println!("held");
            stay_until(Path::new(over), Path::new(place))
        }
        ["run", what, file, log] => {
            let note = if is_free(Path::new(file)) { " without the lock" } else { "" };
            append(Path::new(log), &format!("run {what}{note}"));
            0
        }
        ["slot", file, log] => probe_slot(Path::new(file), Path::new(log)),
        ["bound", file, log, script] => probe_bound(Path::new(file), Path::new(log), script.parse().unwrap_or(0)),
        ["daemon", file, log] => linger(Path::new(file), Path::new(log)),
        ["overstay", file, log] => overstay(Path::new(file), Path::new(log)),
        ["left", file, log] => wait_for_kill(Path::new(file), Path::new(log), "a child"),
        ["witness", log, ref status @ ..] => witness(Path::new(log), status),
        ["overstay-walk", history, actor, name, mode, file] => {
            overstay_in_walk(Path::new(history), [actor, name, mode], Path::new(file))
        }
        ["left-walk", history, actor, name, file] => {
            kernel::leave_terminal();
            note_overstay(&Journal::open(Path::new(history)), actor, name, Path::new(file))
        }
        ["kill-holder", file] => kill_holder(Path::new(file)),
        ["stay-until", over, place] => stay_until(Path::new(over), Path::new(place)),
        _ => 2,
    }
}

/// Reports on stdout that it runs, and ends with its stdin.
fn stay() -> i32 {
    println!("held");
    let _ = io::stdout().flush();
    let _ = io::stdin().read(&mut [0]);
    0
}

/// Logs the number of its slot, and whether it really holds one.
fn probe_slot(file: &Path, log: &Path) -> i32 {
    let is_held = || fs::File::open(file).is_ok_and(|file| kernel::is_range_locked(&file) && !kernel::try_flock(&file));
    let number = std::env::var("ABA_LOCK_SLOT").unwrap_or_else(|_| "none".to_owned());
    append(log, &format!("inside {number}{}", if is_held() { "" } else { " without the lock" }));
    0
}

/// Logs whether the lock is held. If not, the script must end, because SIGTERM was sent to it.
fn probe_bound(file: &Path, log: &Path, script: u32) -> i32 {
    if !is_free(file) {
        append(log, "inside");
        return 0;
    }
    let begin = Instant::now();
    // After an exec, this process is the script itself.
    while [parent_id(), std::process::id()].contains(&script) {
        if begin.elapsed() > OVERDUE {
            append(log, "the script went on without the lock");
            return 0;
        }
        thread::sleep(Duration::from_millis(1));
    }
    append(log, "ended");
    0
}

/// Stays until the lock is free, as a daemon that a script left.
fn linger(file: &Path, log: &Path) -> i32 {
    kernel::leave_terminal();
    let begin = Instant::now();
    while !is_free(file) {
        if begin.elapsed() > OVERDUE {
            append(log, "the lock outlived the script");
            return 0;
        }
        thread::sleep(Duration::from_millis(2));
    }
    0
}

/// Stays longer than its lock may be held, with a child in a session of its own. Both ignore SIGTERM.
fn overstay(file: &Path, log: &Path) -> i32 {
    kernel::ignore_termination();
    append(log, if is_free(file) { "inside without the lock" } else { "inside" });
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.args(["payload", "left"]).args([file, log]);
    let mut child = command.spawn().unwrap();
    let status = wait_for_kill(file, log, "the command");
    let _ = child.wait();
    status
}

/// Stays until it is killed, or until the process that should kill it has ended.
fn wait_for_kill(file: &Path, log: &Path, what: &str) -> i32 {
    if what == "a child" {
        kernel::leave_terminal();
    }
    let begin = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(2));
        if !is_locker_alive(file) {
            append(log, "the watcher was killed");
            return 0;
        }
        if begin.elapsed() > OVERDUE {
            append(log, &format!("{what} outlived the limit"));
            return 0;
        }
    }
}

/// Returns whether the process that called flock(2) for the file still runs. The lock table of a PID namespace lacks the locks of
/// processes that have ended, and sometimes another one while locks are released.
fn is_locker_alive(file: &Path) -> bool {
    (0..20).any(|_| {
        let found = find_locker(file).is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
        if !found {
            thread::sleep(Duration::from_millis(1));
        }
        found
    })
}

/// Returns the process that called flock(2) for the file, as `/proc/locks` has it.
fn find_locker(file: &Path) -> Option<u32> {
    let inode = format!(":{}", fs::metadata(file).ok()?.ino());
    let table = fs::read_to_string("/proc/locks").ok()?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_flock = |words: &Vec<&str>| words.len() > 5 && words[1] == "FLOCK" && words[5].ends_with(&inode);
    lines.find(is_flock).and_then(|words| words[4].parse().ok())
}

/// What `status` says of the lock that this process holds.
struct Testimony {
    /// Sentences on what is wrong.
    wrong: Vec<String>,
    found: Value,
}

/// Asks `status` for the lock that this process holds, and compares the answer with what this process knows. Another process may have
/// written the record if it `shares` the lock.
fn question_status(lock: &[&str], shares: bool) -> Testimony {
    let mut command = Command::new(environment::find_helper());
    let said = command.arg0(UNWATCHED).args(["status", "--json"]).args(lock).stderr(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let Ok(found) = serde_json::from_str::<Value>(&text) else {
        return Testimony { wrong: vec![format!("the answer is {text:?}")], found: Value::Null };
    };
    let mut wrong = Vec::new();
    let us = std::process::id();
    let holder = found["holders"].as_array().and_then(|all| all.iter().find(|holder| holder["pid"] == us));
    let slot = std::env::var("ABA_LOCK_SLOT").ok().and_then(|number| number.parse::<u64>().ok());
    match holder {
        None => wrong.push(format!("the list of holders is {}", found["holders"])),
        Some(holder) if holder["slot"].as_u64() != slot => wrong.push(format!("the slot is {}", holder["slot"])),
        Some(_) => {}
    }
    if found["state"] != "held" {
        wrong.push(format!("the state is {}", found["state"]));
    }
    // After a failed write, there is no record.
    let record = &found["record"];
    if !shares && !record.is_null() && record["pid"] != us {
        wrong.push(format!("the pid in the record is {}", record["pid"]));
    }
    Testimony { wrong, found }
}

/// Logs what `status` says of the lock that this process holds.
fn witness(log: &Path, lock: &[&str]) -> i32 {
    let Testimony { wrong, found } = question_status(lock, false);
    append(log, "inside");
    for what in wrong {
        append(log, &format!("wrong: {what}"));
    }
    for name in ["key", "max_time_seconds"] {
        append(log, &format!("{name} {}", found[name]));
    }
    0
}

/// Notes what `status` says that is wrong.
pub(crate) fn note_mistakes(journal: &Journal, actor: &str, name: &str, shares: bool) {
    let lock = if name.contains('?') { vec!["--key", name] } else { vec![name] };
    for what in question_status(&lock, shares).wrong {
        journal.note(actor, &format!("mistaken {name} {}", what.replace('\n', " ")));
    }
}

/// Returns the name of a mode in the history: `slot:N` with the number of the slot.
pub(crate) fn name_mode(mode: &str) -> String {
    let number = || std::env::var("ABA_LOCK_SLOT").unwrap_or_else(|_| "none".to_owned());
    if mode.starts_with("slot:") { format!("{mode}:{}", number()) } else { mode.to_owned() }
}

/// As [`overstay`], in a walk.
fn overstay_in_walk(history: &Path, [actor, name, mode]: [&str; 3], file: &Path) -> i32 {
    kernel::ignore_termination();
    let journal = Journal::open(history);
    journal.note(actor, &format!("enter {name} {} 0", name_mode(mode)));
    let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
    command.args(["payload", "left-walk"]).arg(history).args([actor, name]).arg(file);
    let mut child = command.spawn().unwrap();
    let status = note_overstay(&journal, actor, name, file);
    let _ = child.wait();
    journal.note(actor, &format!("leave {name}"));
    status
}

/// Stays until it is killed, and notes if that does not happen.
fn note_overstay(journal: &Journal, actor: &str, name: &str, file: &Path) -> i32 {
    let begin = Instant::now();
    while begin.elapsed() < OVERDUE {
        thread::sleep(Duration::from_millis(2));
        if !is_locker_alive(file) {
            journal.note(actor, &format!("overstays {name} without a watcher"));
            return 0;
        }
    }
    journal.note(actor, &format!("overstays {name}"));
    0
}

/// Kills the process that holds the lock. The lock table does not help: in a PID namespace, it lacks the locks of processes that have
/// ended, such as the helper that acquired this one.
fn kill_holder(file: &Path) -> i32 {
    let Ok(inode) = fs::metadata(file).map(|data| format!(":{} ", data.ino())) else { return 1 };
    let holds = |pid: u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        texts.any(|text| text.lines().any(|line| line.contains("FLOCK ") && line.contains(&inode)))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let Some(holder) = pids.into_iter().find(|pid| holds(*pid)) else { return 1 };
    kernel::kill(holder, libc::SIGKILL);
    0
}

/// Stays until the file exists or the directory is removed, as a daemon.
fn stay_until(over: &Path, place: &Path) -> i32 {
    kernel::leave_terminal();
    while !over.exists() && place.exists() {
        thread::sleep(Duration::from_millis(20));
    }
    0
}
