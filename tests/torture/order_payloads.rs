//! The commands under locks with `--replace`, `--coalesce` and `--priority`. A holder looks at the waiters, and notes what it sees.

use crate::history::Journal;
use crate::kernel;
use crate::place::{find_inherited_inode, pause};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first byte after those of slots. `src/os/bytes.rs` has the list of bytes.
const FIRST: i64 = (1 << 62) + (1 << 32);

/// The wants of the levels.
const WANTS: [(&str, i64); 2] = [("high", FIRST + 39), ("normal", FIRST + 40)];

/// The first ticket of callers that replace the holder. The others follow.
const FIRST_TICKET: i64 = FIRST + (1 << 16);

/// A command that notes what it does under a lock.
struct Holder<'a> {
    journal: Journal,
    actor: &'a str,
    name: &'a str,
    file: &'a Path,
    micros: u64,
}

/// Runs the command, and returns the exit status.
pub(crate) fn run(words: &[&str]) -> i32 {
    match *words {
        [what, history, actor, name, file, micros] => {
            let journal = Journal::open(Path::new(history));
            let holder = Holder { journal, actor, name, file: Path::new(file), micros: micros.parse().unwrap_or(0) };
            holder.run(what)
        }
        // It keeps the lock file open, without a lock.
        ["stand-by", file, micros] => {
            let file = File::open(file);
            pause(micros);
            drop(file);
            0
        }
        ["stay", micros] => {
            kernel::leave_terminal();
            pause(micros);
            0
        }
        _ => 2,
    }
}

impl Holder<'_> {
    fn note(&self, what: &str) {
        self.journal.note(self.actor, what);
    }

    fn run(&self, what: &str) -> i32 {
        if what == "stubborn" {
            kernel::ignore_termination();
        }
        self.note(&format!("enter {} exclusive {}", self.name, find_inherited_inode(self.file)));
        match what {
            "stubborn" => self.stay_stubbornly(),
            "look" => self.look_around(),
            _ => pause(&self.micros.to_string()),
        }
        let fails = what == "fail";
        if fails {
            self.note(&format!("fails {}", self.name));
        }
        self.note(&format!("leave {}", self.name));
        if fails { 3 } else { 0 }
    }

    /// Opens the lock file, if its path still leads to the one that this process inherited.
    fn open_file(&self) -> Option<File> {
        let inherited = find_inherited_inode(self.file);
        let file = File::open(self.file).ok()?;
        let is_same = file.metadata().is_ok_and(|data| data.ino() == inherited);
        is_same.then_some(file)
    }

    /// Ignores SIGTERM, with a child that left the session, and looks for tickets.
    fn stay_stubbornly(&self) {
        let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
        command.args(["payload", "order", "stay", &self.micros.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let (begin, file) = (Instant::now(), self.open_file());
        while begin.elapsed() < Duration::from_micros(self.micros) {
            self.note(&format!("peeks {}", self.name));
            for (ticket, actor) in file.as_ref().map(list_tickets).unwrap_or_default() {
                self.note(&format!("sees {} ticket:{ticket} {actor}", self.name));
            }
            pause("1000");
        }
        if let Ok(mut child) = child {
            let _ = child.wait();
        }
    }

    /// Looks at the wants and at the callers that block on the lock, in the middle of its time.
    fn look_around(&self) {
        let half = (self.micros / 2).to_string();
        pause(&half);
        if let Some(file) = self.open_file() {
            self.note(&format!("peeks {}", self.name));
            let held = WANTS
                .into_iter()
                .filter(|(_, want)| kernel::find_byte_lock(&file, *want, 1).is_some_and(|lock| lock.is_shared));
            let held: Vec<_> = held.map(|(level, _)| level).collect();
            let blocked = count_blocked(&file);
            for level in held {
                self.note(&format!("sees {} {level}", self.name));
            }
            self.note(&format!("sees {} queue:{blocked}", self.name));
        }
        pause(&half);
    }
}

/// Returns the number of processes that block in flock(2) on the file. The kernel can list one twice, if the list changes between two
/// reads.
fn count_blocked(file: &File) -> usize {
    let Ok(data) = file.metadata() else { return 0 };
    let inode = format!(":{} ", data.ino());
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let blocked = table.lines().filter(|line| line.contains("-> FLOCK ") && line.contains(&inode));
    let pids: HashSet<&str> = blocked.filter_map(|line| line.split_whitespace().nth(5)).collect();
    pids.len()
}

/// Returns the numbers of the tickets that are locked, with their actors.
fn list_tickets(file: &File) -> Vec<(i64, String)> {
    let Ok(data) = file.metadata() else { return Vec::new() };
    let inode = format!(":{}", data.ino());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((find_ticket(pid, &inode)?, read_actor(pid)?))).collect()
}

/// Returns the ticket that the process has locked. It may have locked all bytes before it, too.
fn find_ticket(pid: u32, inode: &str) -> Option<i64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let find = |text: String| {
        let lines = text.lines().filter(|line| line.starts_with("lock:")).map(str::split_whitespace);
        let mut lines = lines.map(Iterator::collect::<Vec<_>>);
        lines.find_map(|words| match words[..] {
            [_, _, "OFDLCK", _, _, _, file, _, end] if file.ends_with(inode) => end.parse::<i64>().ok(),
            _ => None,
        })
    };
    texts.filter_map(find).find(|end| *end >= FIRST_TICKET).map(|end| end - FIRST_TICKET)
}

/// Returns the actor that has started the process.
fn read_actor(pid: u32) -> Option<String> {
    let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = variables.split(|byte| *byte == 0).filter_map(|variable| str::from_utf8(variable).ok());
    variables.find_map(|variable| variable.strip_prefix("ACTOR=").map(str::to_owned))
}
