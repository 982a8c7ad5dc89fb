//! Part `list`: `status` and `list` with few and many locks. No other program does this, so the helper is the only side, and its
//! cost should grow no faster than the number of locks.

use crate::call::Call;
use crate::cleanup;
use crate::comparison::Comparison;
use crate::pipe;
use crate::row::Row;
use crate::scene::{Root, Scene};
use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

const PART: &str = "list";

const LOCKS: [u32; 3] = [10, 1000, 10_000];

/// The number of processes next to a holder.
const PROCESSES: u32 = 2000;

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in LOCKS {
        let root = create_locks(scene, count);
        let (mut holder, hold) = start_holder(&root);
        let mut row = |name: &str, call: Call, rounds| {
            let row = Comparison::new(PART).side("aba-lock", || call.time()).run(name, rounds);
            rows.push(row.with_size(count, "locks"));
        };
        row("status of a held lock", root.helper(&["status", "held"]), scene.rounds);
        row("status of a free lock", root.helper(&["status", "lock-7"]).status(1), scene.rounds);
        row("list", root.helper(&["list"]), scene.rounds_of_slow());
        row("list --json", root.helper(&["list", "--json"]), scene.rounds_of_slow());
        drop(hold);
        assert!(holder.wait().unwrap().success());
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows.extend(measure_with_processes(scene));
    rows
}

/// Measures `status` on a machine with many processes, any of which could be a holder.
fn measure_with_processes(scene: &Scene) -> Vec<Row> {
    let root = create_locks(scene, 2);
    let (gate, end) = io::pipe().unwrap();
    let start = |_| {
        let mut command = Command::new(root.clock());
        cleanup::start_child(command.arg("-0").stdin(gate.try_clone().unwrap()).stdout(Stdio::null()))
    };
    let processes: Vec<Child> = (0..PROCESSES).map(start).collect();
    drop(gate);
    let (mut holder, hold) = start_holder(&root);
    let measure = |(name, call): (&str, Call)| {
        let row = Comparison::new(PART).side("aba-lock", || call.time()).run(name, scene.rounds);
        row.with_size(PROCESSES, "processes")
    };
    let rows = [
        ("status of a held lock, many processes", root.helper(&["status", "held"])),
        ("status -q of a held lock, many processes", root.helper(&["status", "-q", "held"])),
        ("status -q of a free lock, many processes", root.helper(&["status", "-q", "lock-1"]).status(1)),
    ];
    let rows = rows.map(measure).into();
    drop((hold, end));
    assert!(holder.wait().unwrap().success());
    for mut process in processes {
        process.wait().unwrap();
    }
    rows
}

/// Creates lock files with the records of holders that have ended.
fn create_locks(scene: &Scene, count: u32) -> Root<'_> {
    let root = scene.root(&format!("locks-{count}"));
    root.helper(&["lock", "held", "--", &root.no_op()]).time();
    let record = fs::read(root.lock_file("held")).unwrap();
    for number in 1..count {
        fs::write(root.lock_file(&format!("lock-{number}")), &record).unwrap();
    }
    root
}

/// Starts a holder of one of the locks, which ends when the pipe is closed.
fn start_holder(root: &Root) -> (Child, io::PipeWriter) {
    let (gate, hold) = io::pipe().unwrap();
    let mut command = root.helper(&["lock", "held", "--", &root.clock(), "-0"]).command();
    let child = cleanup::start_child(command.stdin(gate));
    let status = root.helper(&["status", "-q", "held"]);
    pipe::wait_until("the lock is held", || status.command().status().unwrap().success());
    (child, hold)
}
