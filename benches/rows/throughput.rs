//! Part `throughput`: the number of commands a second under one lock, with several processes that ask for it again and again.

use crate::call::Call;
use crate::comparison::{Turn, run_in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::Scene;
use crate::{cleanup, pipe};
use std::io;
use std::time::Instant;

const PART: &str = "throughput";

const CONTENDERS: [u32; 4] = [2, 8, 64, 512];

/// The number of commands in a round, over all contenders; a smaller share of it with fewer than a hundred rounds.
const COMMANDS: u32 = 1024;

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let (path, no_op) = (file.to_str().unwrap(), root.no_op());
    let calls = [
        ("aba-lock", root.helper(&["lock", "-qw", "bench", "--", &no_op])),
        ("flock(1)", root.flock(&[path, &no_op])),
        ("flock(1) -F", root.flock(&["-F", path, &no_op])),
        ("floor", root.floor(&["-w", path, &no_op])),
    ];
    let row = |contenders: u32| {
        let mut turns: Vec<Turn<f64>> = Vec::new();
        for (_, call) in &calls {
            let each = (COMMANDS * scene.rounds.min(100) / 100 / contenders).max(1);
            turns.push(Box::new(move || measure_rate(call, contenders, each)));
        }
        let took = run_in_turns(scene.rounds_of_slowest(), &mut turns);
        let sides = calls.iter().zip(took).map(|((name, _), took)| Side::new(name, took));
        let row = Row::new(PART, "commands under one lock", Unit::PerSecond, sides.collect());
        row.with_size(contenders, "contenders")
    };
    scene.allowed(&CONTENDERS).into_iter().map(row).collect()
}

/// Measures the rate of processes that each run the call again and again. All begin when one pipe is closed, and their end closes
/// another one.
fn measure_rate(call: &Call, contenders: u32, each: u32) -> f64 {
    let (gate, hold) = io::pipe().unwrap();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<_> = (0..contenders)
        .map(|_| {
            let mut command = call.repeated(each);
            command.stdin(gate.try_clone().unwrap()).stdout(writer.try_clone().unwrap());
            cleanup::start_child(&mut command)
        })
        .collect();
    drop(writer);
    let start = Instant::now();
    drop(hold);
    pipe::wait_until_closed(&mut over, "the contenders");
    let took = start.elapsed();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a contender failed");
    }
    f64::from(contenders * each) / took.as_secs_f64()
}
