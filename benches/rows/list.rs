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
use std::process::Child;

const PART: &str = "list";

const LOCKS: [u32; 3] = [10, 1000, 10_000];

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
