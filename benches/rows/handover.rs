//! From the release of a lock to the next holder, who waits for it.

use super::held::{Holder, On200};
use crate::call::{Call, float};
use crate::contest::{Turn, in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use crate::{ending, pipe};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const PART: &str = "handover";

/// How long it has waited when the lock is released, at least: what is done at the beginning of a wait is over.
const WAITED: Duration = Duration::from_millis(150);

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    vec![to_command(&root), to_script(&root)]
}

/// Until the command that runs under the lock has told the time.
fn to_command(root: &Root) -> Row {
    let file = root.lock_file("command");
    let (path, clock) = (file.to_str().unwrap(), root.clock());
    let held = Holder::new(root, "command");
    let turn = |call: Call| -> Turn<f64> {
        let held = &held;
        Box::new(move || {
            held.lock();
            let mut child = ending::start(call.command().stdout(Stdio::piped()));
            until_it_waits(held);
            let released = held.release();
            let mut time = [0; 8];
            let len = pipe::read(child.stdout.as_mut().unwrap(), &mut time, "the next holder");
            assert_eq!(len, time.len(), "the next holder did not run");
            child.wait().unwrap();
            float(i64::from_ne_bytes(time) - released) / 1e3
        })
    };
    let mut turns = [
        turn(root.helper(&["lock", "-qw", "command", "--", &clock])),
        turn(root.flock(&[path, &clock])),
        turn(root.floor(&["-w", path, &clock])),
    ];
    row("release until the next command runs", in_turns(root.scene.fewer(), &mut turns))
}

/// Until the program has ended that takes the lock for a script.
fn to_script(root: &Root) -> Row {
    let file = root.lock_file("script");
    let (held, next) = (Holder::new(root, "script"), On200::open(&file));
    let turn = |call: Call| -> Turn<f64> {
        let (held, next) = (&held, &next);
        Box::new(move || {
            held.lock();
            let running = call.start();
            until_it_waits(held);
            let released = held.release();
            let ended = running.ended().ended;
            next.release();
            float(ended - released) / 1e3
        })
    };
    let mut turns = [
        turn(root.helper(&["lock", "-qw", "--fd", "200", "script"])),
        turn(root.flock(&["200"])),
        turn(root.floor(&["-w", "200"])),
    ];
    row("release until the next script goes on", in_turns(root.scene.fewer(), &mut turns))
}

fn until_it_waits(held: &Holder) {
    pipe::until("it waits", || held.waiters() == 1);
    thread::sleep(WAITED);
}

fn row(name: &str, took: Vec<Vec<f64>>) -> Row {
    let sides = ["aba-lock", "flock(1)", "floor"].into_iter().zip(took);
    Row::new(PART, name, Unit::Microseconds, sides.map(|(side, took)| Side::new(side, took)).collect())
}
