//! Part `run-once`: `run-once` compared with a plain bash function (plain.bash).
//!
//! A bash script calls both in batches and takes the time of each call. So the result is the cost for a script: a process for the
//! helper, and all processes that the function starts.

use super::clock::now;
use super::holder::LockFile;
use crate::call::{Call, float};
use crate::comparison::{Comparison, Turn, run_in_turns};
use crate::pipe;
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const PART: &str = "run-once";

/// A side: its name, and the bash function that calls it. The rest of the script is the same for both sides.
type Implementation = (&'static str, &'static str);
const OURS: Implementation = ("aba-lock", r#"once() { "$HELPER" run-once "$@"; };"#);
const THEIRS: Implementation = ("plain bash", r#"source "$PLAIN"; once() { plain_once "$@"; };"#);

const BATCH: u32 = 20;

/// Scripts that write the time of each call in microseconds. The first one waits for the end of each task.
const START: &str = r#"for ((i = 0; i < $2; i++)); do
    begin=$EPOCHREALTIME; once -i "$1-$i" -- true; end=$EPOCHREALTIME
    once -w -i "$1-$i" 2>/dev/null; echo $((${end/./} - ${begin/./}))
done"#;
const PEEK: &str = r#"for ((i = 0; i < $2; i++)); do
    begin=$EPOCHREALTIME; once -p -i "done"; end=$EPOCHREALTIME; echo $((${end/./} - ${begin/./}))
done"#;
const HIT: &str = r#"for ((i = 0; i < $2; i++)); do
    begin=$EPOCHREALTIME; once -w -i "done"; end=$EPOCHREALTIME; echo $((${end/./} - ${begin/./}))
done"#;

const TASKS: [u32; 3] = [10, 1000, 10_000];

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let tasks = Tasks::new(scene.root(PART));
    for side in [OURS, THEIRS] {
        tasks.script(side, "once -w -i \"done\" -- true", &[]).output();
    }
    let mut rows = vec![
        tasks.compare("start a command, never started before", START),
        tasks.compare("ask whether a finished task has finished", PEEK),
        tasks.compare("wait for a finished task", HIT),
        tasks.measure_wake_up(),
        tasks.measure_memory(),
    ];
    rows.extend(measure_among_others(scene));
    rows
}

/// The tasks of both sides, and a pipe for which tasks wait. Only this process has it open for writing, so all tasks end with it.
struct Tasks<'a> {
    root: Root<'a>,
    pipe: PathBuf,
    writer: File,
    count: Cell<u32>,
}

impl<'a> Tasks<'a> {
    fn new(root: Root<'a>) -> Self {
        let pipe = root.path.join("pipe");
        root.bash("mkfifo \"$1\"", &[pipe.to_str().unwrap()]).output();
        let writer = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        Self { root, pipe, writer, count: Cell::new(0) }
    }

    fn script(&self, (_, function): Implementation, script: &str, args: &[&str]) -> Call {
        let call = self.root.bash(&format!("{function} {script}"), args);
        let call = call.env("PLAIN", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/plain.bash"));
        call.env("PLAIN_DIR", self.root.path.join("plain"))
    }

    /// Returns a new name of a task.
    fn create_name(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("task-{}", self.count.get())
    }

    fn compare(&self, row: &str, script: &str) -> Row {
        let batch = self.root.scene.rounds.min(BATCH);
        let turn = |side: Implementation| -> Turn<Vec<f64>> {
            Box::new(move || {
                let text = self.script(side, script, &[&self.create_name(), &batch.to_string()]).output();
                text.lines().map(|line| line.parse().unwrap()).collect()
            })
        };
        let took = run_in_turns(self.root.scene.rounds / batch, &mut [turn(OURS), turn(THEIRS)]);
        let sides = [OURS.0, THEIRS.0].into_iter().zip(took);
        let sides = sides.map(|(name, took)| Side::new(name, took.concat())).collect();
        Row::new(PART, row, Unit::Microseconds, sides)
    }

    /// Starts a task that runs until [`Tasks::end`], and returns its directory.
    fn start(&self, side: Implementation, id: &str) -> PathBuf {
        let script = "once -i \"$1\" -- bash -c 'read -r _ <\"$0\"' \"$2\"";
        self.script(side, script, &[id, self.pipe.to_str().unwrap()]).output();
        let directory = self.root.path.join(if side == OURS { "runner" } else { "plain" }).join(id);
        pipe::wait_until("a task runs", || read_pid(&directory).is_some());
        directory
    }

    fn end(&self) {
        (&self.writer).write_all(b"\n").unwrap();
    }

    /// Measures the time from the end of a task to the end of its waiter.
    fn measure_wake_up(&self) -> Row {
        let turn = |side: Implementation| -> Turn<f64> {
            Box::new(move || {
                let id = self.create_name();
                let directory = self.start(side, &id);
                let waiter = self.script(side, "once -w -i \"$1\" 2>/dev/null", &[&id]).start();
                let lock = LockFile::at(&directory.join("lock"));
                pipe::wait_until("somebody waits for a task", || lock.count_waiters() == 1);
                let ended = now();
                self.end();
                float(waiter.wait().ended - ended) / 1e3
            })
        };
        let took = run_in_turns(self.root.scene.rounds_of_slow(), &mut [turn(OURS), turn(THEIRS)]);
        let sides = [OURS.0, THEIRS.0].into_iter().zip(took).map(|(name, took)| Side::new(name, took)).collect();
        Row::new(PART, "end of a task until its waiter has ended", Unit::Microseconds, sides)
    }

    /// Measures the peak memory of the process that waits for the command: the parent of the command for the helper, and the bash
    /// that records its own pid for the function.
    fn measure_memory(&self) -> Row {
        let side = |side: Implementation| {
            let id = self.create_name();
            let command = read_pid(&self.start(side, &id)).unwrap();
            let process = if side == OURS { read_status_field(command, "PPid:") } else { command };
            let peak = read_status_field(process, "VmHWM:");
            self.end();
            self.script(side, "once -w -i \"$1\" 2>/dev/null", &[&id]).output();
            Side::new(side.0, vec![f64::from(peak)])
        };
        Row::new(PART, "peak memory of a waiter for the command", Unit::Kibibytes, vec![side(OURS), side(THEIRS)])
    }
}

/// Measures calls among many other tasks.
fn measure_among_others(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in TASKS {
        let root = create_tasks(scene, count);
        let mut row = |name, args: &[&str], rounds| {
            let call = root.helper(&["run-once"]).args(args);
            let row = Comparison::new(PART).side("aba-lock", || call.time()).run(name, rounds);
            rows.push(row.with_size(count, "tasks"));
        };
        row("run-once -p", &["-p", "-i", "task-7"], scene.rounds);
        row("run-once --list", &["--list"], scene.rounds_of_slow());
        row("run-once -F, none failed", &["-F"], scene.rounds_of_slow());
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// Creates a state root with finished tasks.
fn create_tasks(scene: &Scene, count: u32) -> Root<'_> {
    let root = scene.root(&format!("tasks-{count}"));
    for number in 0..count {
        let task = root.path.join(format!("runner/task-{number}"));
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

fn read_pid(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("pid")).ok()?.trim().parse().ok()
}

/// Reads a number from `/proc/PID/status`.
fn read_status_field(pid: u32, name: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
