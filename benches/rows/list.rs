//! Looking at few locks, and at many. Nobody else does that, so it is beside itself: it is to grow no faster than they do.

use crate::call::Call;
use crate::contest::Contest;
use crate::ending;
use crate::pipe;
use crate::row::Row;
use crate::scene::{Root, Scene};
use std::fs;
use std::io;
use std::process::Child;

const PART: &str = "list";

const LOCKS: [u32; 3] = [10, 1000, 10_000];

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in LOCKS {
        let root = many(scene, count);
        let (mut holder, hold) = holder(&root);
        let mut row = |name: &str, call: Call, rounds| {
            let row = Contest::new(PART).side("aba-lock", || call.time()).run(name, rounds);
            rows.push(row.sized(count, "locks"));
        };
        row("status of a held lock", root.helper(&["status", "held"]), scene.rounds);
        row("status of a free lock", root.helper(&["status", "lock-7"]).status(1), scene.rounds);
        row("list", root.helper(&["list"]), scene.fewer());
        row("list --json", root.helper(&["list", "--json"]), scene.fewer());
        drop(hold);
        assert!(holder.wait().unwrap().success());
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// So many lock files, all with a record, as holders leave it that have ended.
fn many(scene: &Scene, count: u32) -> Root<'_> {
    let root = scene.root(&format!("locks-{count}"));
    root.helper(&["lock", "held", "--", &root.nothing()]).time();
    let record = fs::read(root.lock_file("held")).unwrap();
    for number in 1..count {
        fs::write(root.lock_file(&format!("lock-{number}")), &record).unwrap();
    }
    root
}

/// Who holds one of them until the pipe is closed.
fn holder(root: &Root) -> (Child, io::PipeWriter) {
    let (gate, hold) = io::pipe().unwrap();
    let mut command = root.helper(&["lock", "held", "--", &root.clock(), "-0"]).command();
    let child = ending::start(command.stdin(gate));
    let status = root.helper(&["status", "-q", "held"]);
    pipe::until("the lock is held", || status.command().status().unwrap().success());
    (child, hold)
}
