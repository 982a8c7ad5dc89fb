//! Part `handover`: the time from the release of a lock until its waiter holds it.

use super::holder::{Holder, SharedDescriptor};
use crate::call::{Call, float};
use crate::comparison::{Turn, run_in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use crate::{cleanup, pipe};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const PART: &str = "handover";

/// The shortest wait before the release, so that the waiter has finished the work at the beginning of a wait.
const WAIT_TIME: Duration = Duration::from_millis(150);

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    vec![measure_to_command(&root), measure_to_script(&root)]
}

/// Measures until the command that runs under the lock has written the time.
fn measure_to_command(root: &Root) -> Row {
    let file = root.lock_file("command");
    let (path, clock) = (file.to_str().unwrap(), root.clock());
    let held = Holder::new(root, "command");
    let turn = |call: Call| -> Turn<f64> {
        let held = &held;
        Box::new(move || {
            held.lock();
            let mut child = cleanup::start_child(call.command().stdout(Stdio::piped()));
            wait_for_waiter(held);
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
    create_row("release until the next command runs", run_in_turns(root.scene.rounds_of_slow(), &mut turns))
}

/// Measures until the program that acquires the lock for a script has ended.
fn measure_to_script(root: &Root) -> Row {
    let file = root.lock_file("script");
    let (held, next) = (Holder::new(root, "script"), SharedDescriptor::open(&file));
    let turn = |call: Call| -> Turn<f64> {
        let (held, next) = (&held, &next);
        Box::new(move || {
            held.lock();
            let running = call.start();
            wait_for_waiter(held);
            let released = held.release();
            let ended = running.wait().ended;
            next.release();
            float(ended - released) / 1e3
        })
    };
    let mut turns = [
        turn(root.helper(&["lock", "-qw", "--fd", "200", "script"])),
        turn(root.flock(&["200"])),
        turn(root.floor(&["-w", "200"])),
    ];
    create_row("release until the next script continues", run_in_turns(root.scene.rounds_of_slow(), &mut turns))
}

fn wait_for_waiter(held: &Holder) {
    pipe::wait_until("it waits", || held.count_waiters() == 1);
    thread::sleep(WAIT_TIME);
}

fn create_row(name: &str, took: Vec<Vec<f64>>) -> Row {
    let sides = ["aba-lock", "flock(1)", "floor"].into_iter().zip(took);
    Row::new(PART, name, Unit::Microseconds, sides.map(|(side, took)| Side::new(side, took)).collect())
}
