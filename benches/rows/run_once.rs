//! `run-once` beside a bash function of the plain kind (plain.bash).
//!
//! Both are called from a bash script, in batches; that script takes the time of each call. So what is measured is what a
//! script pays: for us a process, for the function whatever it runs.

use super::held::{LockFile, now};
use crate::call::{Call, float};
use crate::contest::{Contest, Turn, in_turns};
use crate::pipe;
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const PART: &str = "run-once";

/// Who does it, and the function by which it is called. The rest of the script is the same for both.
type Way = (&'static str, &'static str);
const OURS: Way = ("aba-lock", r#"once() { "$HELPER" run-once "$@"; };"#);
const THEIRS: Way = ("plain bash", r#"source "$PLAIN"; once() { plain_once "$@"; };"#);

const BATCH: u32 = 20;

/// How long each call takes, in microseconds. After each the task comes to its end.
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

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let tasks = Tasks::new(scene.root(PART));
    for way in [OURS, THEIRS] {
        tasks.script(way, "once -w -i \"done\" -- true", &[]).output();
    }
    let mut rows = vec![
        tasks.compare("start a command, never started before", START),
        tasks.compare("ask whether a finished task has finished", PEEK),
        tasks.compare("wait for a finished task", HIT),
        tasks.wake_up(),
        tasks.memory(),
    ];
    rows.extend(among_others(scene));
    rows
}

/// The tasks of both, and a pipe for which tasks can wait. They end with us: we alone have it open.
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

    fn script(&self, (_, way): Way, script: &str, args: &[&str]) -> Call {
        let call = self.root.bash(&format!("{way} {script}"), args);
        let call = call.env("PLAIN", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/plain.bash"));
        call.env("PLAIN_DIR", self.root.path.join("plain"))
    }

    /// A name that was not used yet.
    fn name(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("task-{}", self.count.get())
    }

    fn compare(&self, row: &str, script: &str) -> Row {
        let batch = self.root.scene.rounds.min(BATCH);
        let turn = |way: Way| -> Turn<Vec<f64>> {
            Box::new(move || {
                let text = self.script(way, script, &[&self.name(), &batch.to_string()]).output();
                text.lines().map(|line| line.parse().unwrap()).collect()
            })
        };
        let took = in_turns(self.root.scene.rounds / batch, &mut [turn(OURS), turn(THEIRS)]);
        let sides = [OURS.0, THEIRS.0].into_iter().zip(took);
        let sides = sides.map(|(name, took)| Side::new(name, took.concat())).collect();
        Row::new(PART, row, Unit::Microseconds, sides)
    }

    /// Starts a task that runs until [`Tasks::end`]. Its directory.
    fn start(&self, way: Way, id: &str) -> PathBuf {
        let script = "once -i \"$1\" -- bash -c 'read -r _ <\"$0\"' \"$2\"";
        self.script(way, script, &[id, self.pipe.to_str().unwrap()]).output();
        let directory = self.root.path.join(if way == OURS { "runner" } else { "plain" }).join(id);
        pipe::until("a task runs", || pid(&directory).is_some());
        directory
    }

    fn end(&self) {
        (&self.writer).write_all(b"\n").unwrap();
    }

    /// From the end of the task to the end of who waits for it.
    fn wake_up(&self) -> Row {
        let turn = |way: Way| -> Turn<f64> {
            Box::new(move || {
                let id = self.name();
                let directory = self.start(way, &id);
                let waiter = self.script(way, "once -w -i \"$1\" 2>/dev/null", &[&id]).start();
                let lock = LockFile::at(&directory.join("lock"));
                pipe::until("somebody waits for a task", || lock.waiters() == 1);
                let ended = now();
                self.end();
                float(waiter.ended().ended - ended) / 1e3
            })
        };
        let took = in_turns(self.root.scene.fewer(), &mut [turn(OURS), turn(THEIRS)]);
        let sides = [OURS.0, THEIRS.0].into_iter().zip(took).map(|(name, took)| Side::new(name, took)).collect();
        Row::new(PART, "the task ends until who waits has ended", Unit::Microseconds, sides)
    }

    /// Of the process that waits for the command: ours is its parent, and theirs the bash that notes its own number.
    fn memory(&self) -> Row {
        let side = |way: Way| {
            let id = self.name();
            let command = pid(&self.start(way, &id)).unwrap();
            let process = if way == OURS { field(command, "PPid:") } else { command };
            let peak = field(process, "VmHWM:");
            self.end();
            self.script(way, "once -w -i \"$1\" 2>/dev/null", &[&id]).output();
            Side::new(way.0, vec![f64::from(peak)])
        };
        Row::new(PART, "peak memory of who waits for the command", Unit::Kibibytes, vec![side(OURS), side(THEIRS)])
    }
}

/// What a call costs when there are many other tasks.
fn among_others(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in TASKS {
        let root = many(scene, count);
        let mut row = |name, args: &[&str], rounds| {
            let call = root.helper(&["run-once"]).args(args);
            let row = Contest::new(PART).side("aba-lock", || call.time()).run(name, rounds);
            rows.push(row.sized(count, "tasks"));
        };
        row("run-once -p", &["-p", "-i", "task-7"], scene.rounds);
        row("run-once --list", &["--list"], scene.fewer());
        row("run-once -F, none failed", &["-F"], scene.fewer());
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// A root with so many finished tasks.
fn many(scene: &Scene, count: u32) -> Root<'_> {
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

fn pid(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join("pid")).ok()?.trim().parse().ok()
}

/// A number that the kernel tells of a process.
fn field(pid: u32, name: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
