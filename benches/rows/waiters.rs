//! Many who wait for one lock: until all have had it, and what they cost meanwhile.

use super::held::{Holder, now, processor_time};
use crate::call::{Call, float};
use crate::contest::{Turn, in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::Scene;
use crate::{ending, pipe};
use std::fs;
use std::io;
use std::process::Child;
use std::thread;
use std::time::Duration;

const PART: &str = "waiters";

const WAITERS: [u32; 4] = [1, 10, 100, 1000];

/// How long their processor time is taken, when all of them wait.
const WHILE: Duration = Duration::from_secs(1);

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let (path, nothing) = (file.to_str().unwrap(), root.nothing());
    let calls = [
        ("aba-lock", root.helper(&["lock", "-qw", "bench", "--", &nothing])),
        ("flock(1)", root.flock(&[path, &nothing])),
        ("floor", root.floor(&["-w", path, &nothing])),
    ];
    let held = Holder::new(&root, "bench");
    let mut rows = Vec::new();
    for waiters in scene.allowed(&WAITERS) {
        let mut turns: Vec<Turn<Cost>> = Vec::new();
        for (_, call) in &calls {
            let held = &held;
            turns.push(Box::new(move || cost(call, held, waiters)));
        }
        let costs = in_turns(scene.few(), &mut turns);
        let row = |name, unit, value: fn(&Cost) -> f64| {
            let sides = calls.iter().zip(&costs);
            let side = sides.map(|((side, _), costs)| Side::new(side, costs.iter().map(value).collect()));
            Row::new(PART, name, unit, side.collect()).sized(waiters, "waiters")
        };
        rows.push(row("release until all have had it", Unit::Microseconds, |cost| cost.drain));
        rows.push(row("processor time of each, to begin to wait", Unit::Microseconds, |cost| cost.begin));
        rows.push(row("processor time of each, a second of waiting", Unit::Microseconds, |cost| cost.cpu));
        rows.push(row("memory of each", Unit::Kibibytes, |cost| cost.memory));
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// In microseconds and KiB.
struct Cost {
    drain: f64,
    begin: f64,
    cpu: f64,
    memory: f64,
}

fn cost(call: &Call, held: &Holder, waiters: u32) -> Cost {
    held.lock();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<Child> =
        (0..waiters).map(|_| ending::start(call.command().stdout(writer.try_clone().unwrap()))).collect();
    drop(writer);
    pipe::until("all of them wait", || held.waiters() == waiters as usize);
    let used = |children: &[Child]| children.iter().map(|child| processor_time(child.id())).sum::<f64>();
    let each = |sum: f64| sum / f64::from(waiters);
    let (begin, since) = (used(&children), now());
    thread::sleep(WHILE);
    let cpu = (used(&children) - begin) / (float(now() - since) / 1e9);
    let memory = children.iter().map(|child| memory(child.id())).sum();
    let released = held.release();
    pipe::until_closed(&mut over, "those who wait");
    let drain = float(now() - released) / 1e3;
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "one that waited failed");
    }
    Cost { drain, begin: each(begin), cpu: each(cpu), memory: each(memory) }
}

/// What a process has of memory, in KiB: of what it shares with others, its part.
fn memory(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
