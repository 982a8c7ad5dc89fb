//! `run-once` side by side with a bash function of the plain kind (plain.bash), in one run.
//!
//! Both are called from a bash script, in turn, in batches; that script takes the time of each call. So what is
//! measured is what a script pays: for us a process, for the function whatever it runs.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of its own, outside the walls"
)]

mod common;

use common::time;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BATCHES: usize = 20;

/// Defines `once` and sets what it needs. The rest of the script is the same for both.
const OURS: &str = r#"once() { "$HELPER" run-once "$@"; };"#;
const THEIRS: &str = r#"source "$PLAIN"; once() { plain_once "$@"; };"#;

/// Twenty calls: how long each takes, in microseconds. Between them the task comes to its end.
const START: &str = r#"for i in {1..20}; do
    begin=$EPOCHREALTIME; once -i "$1-$i" -- true; end=$EPOCHREALTIME
    once -w -i "$1-$i" 2>/dev/null; echo $((${end/./} - ${begin/./}))
done"#;
const PEEK: &str = r"for i in {1..20}; do
    begin=$EPOCHREALTIME; once -p -i done; end=$EPOCHREALTIME; echo $((${end/./} - ${begin/./}))
done";
const WAIT: &str = r"for i in {1..20}; do
    begin=$EPOCHREALTIME; once -w -i done; end=$EPOCHREALTIME; echo $((${end/./} - ${begin/./}))
done";

fn main() {
    let scene = Scene::new();
    for side in [OURS, THEIRS] {
        scene.bash(side, "once -w -i done -- true", "");
    }
    scene.compare("start `true`, never started", START);
    scene.compare("ask for a finished task", PEEK);
    scene.compare("wait for a finished task", WAIT);
    scene.wake_up();
    scene.memory();
    scene.growth();
}

/// A directory with the tasks of both, and a pipe for which tasks can wait. They end with us: we alone have it open.
struct Scene {
    directory: PathBuf,
    pipe: PathBuf,
    writer: File,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.helper(&self.directory.join("ours"), &["-G"]).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Scene {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let pipe = directory.join("pipe");
        let name = CString::new(pipe.to_str().unwrap()).unwrap();
        #[expect(unsafe_code, reason = "mkfifo(3)")]
        // SAFETY: a path that ends in NUL.
        unsafe {
            assert_eq!(libc::mkfifo(name.as_ptr(), 0o600), 0);
        }
        let writer = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        Self { directory, pipe, writer }
    }

    fn helper(&self, root: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(common::helper());
        command.arg("run-once").args(args).env("RUN_ONCE_DIR", root).env("ABA_LOCK_DIR", &self.directory);
        command
    }

    fn script(&self, side: &str, script: &str, argument: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{side} {script}"), "bash", argument]).env("LC_ALL", "C");
        command.env("HELPER", common::helper()).env("RUN_ONCE_DIR", self.directory.join("ours"));
        command.env("PLAIN", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/plain.bash"));
        command.env("PLAIN_DIR", self.directory.join("theirs"));
        command
    }

    fn bash(&self, side: &str, script: &str, argument: &str) -> Vec<Duration> {
        let output = self.script(side, script, argument).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| Duration::from_micros(line.parse().unwrap())).collect()
    }

    fn compare(&self, what: &str, script: &str) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for batch in 0..BATCHES {
            a.extend(self.bash(OURS, script, &batch.to_string()));
            b.extend(self.bash(THEIRS, script, &batch.to_string()));
        }
        common::print(what, "plain bash", &mut a, &mut b);
    }

    /// Starts a task that runs until [`Scene::end`]. Its directory.
    fn start(&self, side: &str, id: &str) -> PathBuf {
        let task = format!("once -i {id} -- sh -c 'read _ <\"$0\"' \"$1\"");
        self.bash(side, &task, self.pipe.to_str().unwrap());
        let directory = self.directory.join(if side == OURS { "ours" } else { "theirs" }).join(id);
        while pid(&directory).is_none() {}
        directory
    }

    fn end(&self) {
        (&self.writer).write_all(b"\n").unwrap();
    }

    /// From the end of the task to the end of who waits for it.
    fn wake_up(&self) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for round in 0..50 {
            for (times, side) in [(&mut a, OURS), (&mut b, THEIRS)] {
                let directory = self.start(side, &format!("wake-{round}"));
                let mut waiter = self.script(side, "once -w -i \"$1\"", &format!("wake-{round}"));
                let mut waiter = waiter.stderr(Stdio::null()).spawn().unwrap();
                let blocked = format!(":{} 0 EOF", fs::metadata(directory.join("lock")).unwrap().ino());
                let is_blocked = |line: &str| line.contains("-> FLOCK") && line.ends_with(&blocked);
                while !fs::read_to_string("/proc/locks").unwrap().lines().any(is_blocked) {}
                let start = Instant::now();
                self.end();
                waiter.wait().unwrap();
                times.push(start.elapsed());
            }
        }
        common::print("wake up, when it has ended", "plain bash", &mut a, &mut b);
    }

    /// Of the process that waits for the command: ours is its parent, and theirs the bash that notes its own number.
    fn memory(&self) {
        for (what, side) in [("memory while it runs", OURS), ("  the same of plain bash", THEIRS)] {
            let directory = self.start(side, "memory");
            let mut process = pid(&directory).unwrap();
            if side == OURS {
                process = field(process, "PPid:");
            }
            let (now, peak) = (field(process, "VmRSS:"), field(process, "VmHWM:"));
            println!("{what:<28} {now} KiB, at most {peak} KiB");
            self.end();
            self.script(side, "once -w -i memory", "").status().unwrap();
        }
    }

    /// What a call costs when there are many other tasks.
    fn growth(&self) {
        let few = self.many(10);
        let some = self.many(1000);
        let many = self.many(10_000);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            a.push(time(self.helper(&many, &["-p", "-i", "task-7"])));
            b.push(time(self.helper(&few, &["-p", "-i", "task-7"])));
        }
        common::print("ask, among 10,000 others", "that among 10", &mut a, &mut b);
        for (what, option) in [("--list of 10,000", "--list"), ("-F of 10,000, none failed", "-F")] {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                a.push(time(self.helper(&many, &[option])));
                b.push(time(self.helper(&some, &[option])));
            }
            common::print(what, "that of 1,000", &mut a, &mut b);
        }
        for root in [&many, &some] {
            for task in fs::read_dir(root).unwrap() {
                fs::write(task.unwrap().path().join("exit"), "1\n").unwrap();
            }
        }
        let failed = |root| [time(self.helper(root, &["-F"]))];
        common::print("-F of 10,000, all failed", "that of 1,000", &mut failed(&many), &mut failed(&some));
    }

    /// A root with so many finished tasks.
    fn many(&self, count: usize) -> PathBuf {
        let root = self.directory.join(count.to_string());
        for number in 0..count {
            let task = root.join(format!("task-{number}"));
            fs::create_dir_all(&task).unwrap();
            let files = [
                ("lock", ""),
                ("log.out", ""),
                ("log.err", ""),
                ("cwd", "/\n"),
                ("cmd", "true\n"),
                ("cmd.sh", "declare -a command=([0]='true')\ndeclare -- directory='/'\n"),
                ("exit", "0\n"),
            ];
            for (name, text) in files {
                fs::write(task.join(name), text).unwrap();
            }
        }
        root
    }
}

fn pid(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("pid")).ok()?.trim().parse().ok()
}

/// A number that the kernel tells of a process.
fn field(pid: u32, name: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
