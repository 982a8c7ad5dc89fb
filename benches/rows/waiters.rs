//! Part `waiters`: many waiters for one lock: the time until all of them have held it, and their cost during the wait.

use super::clock::{now, read_processor_time};
use super::holder::Holder;
use crate::call::{Call, float};
use crate::comparison::{Turn, run_in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::Scene;
use crate::{cleanup, pipe};
use std::fs;
use std::io;
use std::process::Child;
use std::thread;
use std::time::Duration;

const PART: &str = "waiters";

const WAITERS: [u32; 4] = [1, 10, 100, 1000];

/// The time over which the processor time of the waiters is measured.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let (path, no_op) = (file.to_str().unwrap(), root.no_op());
    let calls = [
        ("aba-lock", root.helper(&["lock", "-qw", "bench", "--", &no_op])),
        ("flock(1)", root.flock(&[path, &no_op])),
        ("floor", root.floor(&["-w", path, &no_op])),
    ];
    let held = Holder::new(&root, "bench");
    let mut rows = Vec::new();
    for waiters in scene.allowed(&WAITERS) {
        let mut turns: Vec<Turn<WaiterCost>> = Vec::new();
        for (_, call) in &calls {
            let held = &held;
            turns.push(Box::new(move || measure_cost(call, held, waiters)));
        }
        let costs = run_in_turns(scene.rounds_of_slowest(), &mut turns);
        let row = |name, unit, value: fn(&WaiterCost) -> f64| {
            let sides = calls.iter().zip(&costs);
            let side = sides.map(|((side, _), costs)| Side::new(side, costs.iter().map(value).collect()));
            Row::new(PART, name, unit, side.collect()).with_size(waiters, "waiters")
        };
        rows.push(row("release until all waiters have held it", Unit::Microseconds, |cost| cost.drain));
        rows.push(row("processor time of each, to begin to wait", Unit::Microseconds, |cost| cost.begin));
        rows.push(row("processor time of each, a second of waiting", Unit::Microseconds, |cost| cost.cpu));
        rows.push(row("memory of each", Unit::Kibibytes, |cost| cost.memory));
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// The cost of a group of waiters, in microseconds and KiB.
struct WaiterCost {
    drain: f64,
    begin: f64,
    cpu: f64,
    memory: f64,
}

fn measure_cost(call: &Call, held: &Holder, waiters: u32) -> WaiterCost {
    held.lock();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<Child> =
        (0..waiters).map(|_| cleanup::start_child(call.command().stdout(writer.try_clone().unwrap()))).collect();
    drop(writer);
    pipe::wait_until("all of them wait", || held.count_waiters() == waiters as usize);
    let used = |children: &[Child]| children.iter().map(|child| read_processor_time(child.id())).sum::<f64>();
    let each = |sum: f64| sum / f64::from(waiters);
    let (begin, since) = (used(&children), now());
    thread::sleep(WINDOW);
    let cpu = (used(&children) - begin) / (float(now() - since) / 1e9);
    let memory = children.iter().map(|child| read_memory(child.id())).sum();
    let released = held.release();
    pipe::wait_until_closed(&mut over, "those who wait");
    let drain = float(now() - released) / 1e3;
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "one that waited failed");
    }
    WaiterCost { drain, begin: each(begin), cpu: each(cpu), memory: each(memory) }
}

/// Returns the proportional share of a process in the memory, in KiB.
fn read_memory(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
